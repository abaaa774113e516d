"""
How a PostgreSQL ledger is opened: a pool whose every connection was looked at before it is used.

The promises of the ledger rest on settings of the server and on what the role may not do. Each new connection asserts
them anew, because after a failover it may be another server.
"""

import asyncio
from typing import Any, Final

import asyncpg

from gateway.errors import StoreInUse, StoreUnavailable
from gateway.stores.postgres.addressing import ServerAddress, read_password, tls_context
from gateway.stores.postgres.migrating import newest_known
from gateway.stores.postgres.sessions import FAILURES, Connection, Pool

# One statement, one transaction, the wait for one lock, in milliseconds: what takes longer is stuck, and a transaction
# that stays open keeps lists and feeds from going on.
_SETTINGS: Final = {
    "application_name": "gateway",
    "timezone": "UTC",
    "search_path": "public, pg_temp",  # last, or a temporary table could stand before one of ours
    "statement_timeout": "30000",
    "transaction_timeout": "60000",
    "lock_timeout": "10000",
    "idle_in_transaction_session_timeout": "20000",
    "jit": "off",  # statements are short
}
_CONNECT_S: Final = 10.0
_COMMAND_S: Final = 45.0  # longer than statement_timeout: only a server that no longer answers gets here
_OLDEST_SERVER: Final = 170_000  # server_version_num; 17 brought MAINTAIN and transaction_timeout

# The lock of whoever has the ledger open (pg_advisory_lock): shared, by every connection, or exclusively, by one alone.
_OPEN: Final = 0x6467_772D_6F70_656E
_OPEN_SHARED: Final = f"SELECT pg_try_advisory_lock_shared({_OPEN})"
_OPEN_ALONE: Final = f"SELECT pg_try_advisory_lock({_OPEN})"

_FACTS: Final = """
SELECT
  current_setting('server_version_num')::integer AS server_version,
  current_setting('fsync') AS fsync,
  current_setting('full_page_writes') AS full_page_writes,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('data_checksums') AS data_checksums,
  current_setting('synchronous_standby_names') AS standby_names,
  pg_is_in_recovery() AS is_standby,
  (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_superuser,
  to_regclass('schema_migration') IS NOT NULL AS is_ledger
"""
_RIGHTS: Final = """
SELECT
  pg_has_role(current_user, relowner, 'MEMBER') AS is_owner,
  has_table_privilege(oid, 'UPDATE, DELETE, TRUNCATE') AS may_change_log,
  has_table_privilege(oid, 'INSERT') AS may_log,
  (SELECT max(version) FROM schema_migration) AS version
FROM pg_class WHERE oid = to_regclass('log_entry')
"""


async def open_pool(address: ServerAddress, *, shared: bool) -> Pool:
    """
    Return a pool of connections as whom the address names, after a look at the server, the role and the schema.

    `shared`: others may have the ledger open too, and nobody has it alone; without, the caller has it, by `shut_out`.

    Raises:
        StoreInUse: somebody has it open alone.
        StoreUnavailable: the database cannot be reached, or something of it is not as it must be; the text tells the
            fix.
    """

    async def look_at(connection: Connection) -> None:
        await _look_at(connection, address)
        if shared and not await connection.fetchval(_OPEN_SHARED):
            raise StoreInUse(f"the ledger {address.database} is being verified; start again when that is done")

    await asyncio.to_thread(newest_known)  # reads files, the first time
    try:
        pool: Pool = await asyncpg.create_pool(
            **await connecting(address),
            min_size=address.pool_min,
            max_size=address.pool_max,
            command_timeout=_COMMAND_S,
            init=look_at,
            reset=_leave,
        )
    except FAILURES as error:
        raise unreachable(address, error) from error
    return pool


async def shut_out(address: ServerAddress) -> Connection:
    """
    Return a connection that keeps everybody else from opening the ledger for as long as it is open.

    Raises:
        StoreInUse: gateways have it open.
        StoreUnavailable: the database cannot be reached.
    """
    try:
        connection: Connection = await asyncpg.connect(**await connecting(address))
    except FAILURES as error:
        raise unreachable(address, error) from error
    if not await connection.fetchval(_OPEN_ALONE):
        await connection.close()
        raise StoreInUse(f"gateways have the ledger {address.database} open; stop all of them first")
    return connection


async def connecting(address: ServerAddress) -> dict[str, Any]:
    """
    Return the arguments of a connection of asyncpg to `address`; the password is read anew for each.

    Raises:
        StoreUnavailable: a file cannot be read.
    """

    async def password() -> str:
        return await asyncio.to_thread(read_password, address) or ""

    await password()  # rather now, with its own text, than at the first connection
    return {
        "host": [host for host, _ in address.hosts],
        "port": [port for _, port in address.hosts],
        "user": address.role,
        "database": address.database,
        "password": password,
        "ssl": await asyncio.to_thread(tls_context, address) or False,
        "target_session_attrs": "primary" if len(address.hosts) > 1 else "any",
        "timeout": _CONNECT_S,
        "server_settings": _SETTINGS,
    }


def unreachable(address: ServerAddress, error: Exception) -> StoreUnavailable:
    """Return the error for a database that does not let us in. Neither text holds a password."""
    where = ", ".join(f"{host}:{port}" for host, port in address.hosts)
    return StoreUnavailable(
        f"role {address.role} cannot open the ledger {address.database} at {where}: {type(error).__name__}: {error}"
    )


async def _leave(_: Connection) -> None:
    """Leave a connection as it is: nothing that we run changes its session, so a round trip is saved."""


async def _look_at(connection: Connection, address: ServerAddress) -> None:
    wrong = await faults(connection, needs_standby=address.needs_standby)
    if wrong:
        raise StoreUnavailable(f"the ledger {address.database} is refused: " + "; ".join(wrong))


async def faults(connection: Connection, *, needs_standby: bool) -> list[str]:
    """Return what is not as it must be about the server, the role and the schema, each with its fix."""
    facts = await _one(connection, _FACTS)
    if facts["server_version"] < _OLDEST_SERVER:
        return [f"the server is PostgreSQL {facts['server_version'] // 10_000}: use 17 or newer"]
    wrong = [
        f"{name} is off: acknowledged messages could be lost; turn it on in postgresql.conf"
        for name in ("fsync", "full_page_writes")
        if facts[name] != "on"
    ]
    if facts["synchronous_commit"] not in ("on", "remote_apply"):
        wrong.append(
            f"synchronous_commit is {facts['synchronous_commit']}: set it to on, for the role and database too "
            "(ALTER ROLE … RESET synchronous_commit)"
        )
    if facts["data_checksums"] != "on":
        wrong.append("data checksums are off: stop the server and run pg_checksums --enable")
    if facts["is_standby"]:
        wrong.append("the server is a standby: name the primary, or all hosts of the cluster")
    if needs_standby and not facts["standby_names"]:
        wrong.append("standby=required, but synchronous_standby_names is empty: name the standbys in postgresql.conf")
    if facts["is_superuser"]:
        wrong.append("the role is a superuser: make one with CREATE ROLE … LOGIN and GRANT gateway_app TO it")
    if not facts["is_ledger"]:
        return [*wrong, "the database holds no ledger: run gateway migrate"]
    return [*wrong, *await _faults_of_schema(connection, is_superuser=facts["is_superuser"])]


async def _faults_of_schema(connection: Connection, *, is_superuser: bool) -> list[str]:
    rights = await _one(connection, _RIGHTS)
    wrong = []
    if rights["version"] < newest_known():
        wrong.append(f"its schema has version {rights['version']}, older than this program's: run gateway migrate")
    if rights["version"] > newest_known():
        wrong.append(
            f"its schema has version {rights['version']} and this program knows {newest_known()}: run the newer program"
        )
    if is_superuser:  # who may do anything, and was refused for that
        return wrong
    if rights["is_owner"]:
        wrong.append("the role owns the tables: serve as another, which is a member of gateway_app only")
    elif rights["may_change_log"]:
        wrong.append("the role may change or remove log entries: REVOKE UPDATE, DELETE, TRUNCATE ON log_entry FROM it")
    elif not rights["may_log"]:
        wrong.append("the role lacks the rights of a gateway: GRANT gateway_app TO it")
    return wrong


async def _one(connection: Connection, statement: str) -> Any:
    (row,) = await connection.fetch(statement)
    return row
