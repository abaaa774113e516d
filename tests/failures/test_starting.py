"""Nobody is sent to a gateway that does not listen yet."""

from typing import Any

import pytest

from gateway import app
from gateway.admin.readiness import Outcome, Readiness, Report


async def test_a_gateway_is_not_ready_before_it_takes_messages(
    make_house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Readiness] = []
    reports: list[Report] = []
    start_ops, start_intake = app._start_ops, app._start_intake

    async def ops_first(*arguments: Any) -> Any:
        port, readiness = await start_ops(*arguments)
        made.append(readiness)
        return port, readiness

    async def look_and_go_on(*arguments: Any, **named: Any) -> int:
        reports.append(await made[0].report())
        return await start_intake(*arguments, **named)

    monkeypatch.setattr(app, "_start_ops", ops_first)
    monkeypatch.setattr(app, "_start_intake", look_and_go_on)
    await make_house()
    failed = {name for name, outcome in reports[0].checks.items() if outcome is not Outcome.OK}
    assert (reports[0].ready, failed) == (False, {"started"})
