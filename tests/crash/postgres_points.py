"""Points around COMMIT in PostgreSQL: the gateway dies there, or its connection does, before or after."""

from typing import Any, Final

import asyncpg
from asyncpg.transaction import Transaction

from tests.crash.forgetting import ForgetfulDisk
from tests.crash.ledger_points import READS, VERB
from tests.crash.points import Way, Wire, stand_in

_COMMIT: Final = "_Transaction__commit"
_WAYS: Final = (Way.KILL_BEFORE, Way.KILL_AFTER, Way.FAIL, Way.LOST)


class PostgresPoints:
    """Watches the end of each transaction that changes something."""

    def __init__(self, wire: Wire, _disk: ForgetfulDisk) -> None:
        self._wire = wire

    def put_up(self) -> None:
        """Stand in for the commit from now on."""
        real, wire = getattr(Transaction, _COMMIT), self._wire

        async def commit(transaction: Any) -> None:
            label = VERB.get()
            if label.partition("/")[0] in READS or transaction._nested:
                await real(transaction)
                return
            passage = wire.arrive("postgres.commit", _WAYS, label=label)
            passage.before()
            if passage.way is Way.FAIL:
                transaction._connection.terminate()
            await real(transaction)
            passage.after()
            if passage.way is Way.LOST:
                transaction._connection.terminate()
                raise asyncpg.ConnectionDoesNotExistError("planned: the connection went after COMMIT")

        stand_in(Transaction, _COMMIT, commit)
