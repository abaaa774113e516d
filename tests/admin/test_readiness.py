import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.admin.readiness import PROBE_TYP, Outcome, Readiness, ReadinessDeps, make_checks
from gateway.crypto.certs import load_certificates
from gateway.crypto.receipts import ReceiptSigner, verify_receipt_jws
from gateway.errors import KeyringRefused, Kind, Refusal, StoreUnavailable

ALL = {"sign", "keyring", "seal", "commit"}


class Faulty:
    """A store whose named calls raise `error`, or answer `instead`, for as long as `broken` is true."""

    def __init__(self, store: Any, *calls: str, error: Exception | None = None, instead: Any = None) -> None:
        self._store = store
        self._calls = calls
        self._error = error
        self._instead = instead
        self.broken = True

    def __getattr__(self, name: str) -> Any:
        return self._fail if self.broken and name in self._calls else getattr(self._store, name)

    async def _fail(self, *_arguments: object) -> Any:
        if self._error is not None:
            raise self._error
        return self._instead


class Steps:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def ready_deps(office: Any, certs: Path) -> ReadinessDeps:
    office.clock.now = datetime.now(UTC)  # the certificates are made now
    certificate = load_certificates(certs / "receipts.pem")[0]
    key = load_pem_private_key((certs / "receipts.key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signer = ReceiptSigner(certificate, key)
    return ReadinessDeps(
        receipts=lambda: (signer, certificate),
        keyring=office.keyring,
        vault=office.vault,
        blobs=office.blobs,
        ledger=office.ledger,
        clock=office.clock,
        ids=office.deps.ids,
    )


def outcomes(**failed: Outcome) -> Mapping[str, Outcome]:
    return dict.fromkeys(ALL, Outcome.OK) | failed


async def test_a_gateway_that_can_do_its_work_is_ready(ready_deps: ReadinessDeps) -> None:
    report = await Readiness(make_checks(ready_deps)).report()
    assert (report.ready, report.checks) == (True, outcomes())


async def test_nothing_of_a_probe_stays(office: Any, ready_deps: ReadinessDeps) -> None:
    await Readiness(make_checks(ready_deps)).report()
    assert [blob async for blob in office.blobs.list()] == []


@pytest.mark.parametrize(
    ("part", "calls", "error", "failing"),
    [
        ("keyring", ("wrap",), KeyringRefused("disabled"), {"keyring"}),
        ("keyring", ("unwrap",), StoreUnavailable("away"), {"keyring"}),
        ("blobs", ("put", "erase"), StoreUnavailable("full"), {"seal"}),
        ("blobs", ("erase",), StoreUnavailable("read only"), {"seal"}),
        ("ledger", ("heartbeat",), StoreUnavailable("full"), {"commit"}),
        ("vault", ("new_dek",), KeyringRefused("away"), {"seal"}),
        ("ledger", ("heartbeat",), ValueError("a mistake of ours"), {"commit"}),
    ],
)
async def test_what_fails_is_named_and_recovers(
    ready_deps: ReadinessDeps, part: str, calls: tuple[str, ...], error: Exception, failing: set[str]
) -> None:
    faulty = Faulty(getattr(ready_deps, part), *calls, error=error)
    steps = Steps()
    changed: dict[str, Any] = {part: faulty}
    readiness = Readiness(make_checks(replace(ready_deps, **changed)), monotonic=steps)
    report = await readiness.report()
    assert (report.ready, report.checks) == (False, outcomes(**dict.fromkeys(failing, Outcome.FAILED)))
    faulty.broken = False
    steps.seconds += 1.0
    report = await readiness.report()
    assert (report.ready, report.checks) == (True, outcomes())


async def test_a_ledger_that_was_closed_is_not_ready(office: Any, ready_deps: ReadinessDeps) -> None:
    await office.ledger.close()
    report = await Readiness(make_checks(ready_deps)).report()
    assert (report.ready, report.checks["commit"]) == (False, Outcome.FAILED)


async def test_a_keyring_that_gives_back_another_key_is_not_ready(ready_deps: ReadinessDeps) -> None:
    wrong = Faulty(ready_deps.keyring, "unwrap", instead=bytes(32))
    report = await Readiness(make_checks(replace(ready_deps, keyring=wrong))).report()
    assert report.checks == outcomes(keyring=Outcome.FAILED)


async def test_documents_that_come_back_changed_are_not_ready(office: Any, ready_deps: ReadinessDeps) -> None:
    class Forgetful(Faulty):
        async def open(self, _blob_id: object) -> Any:
            yield b"DGE1"

    blobs: Any = Forgetful(office.blobs)
    report = await Readiness(make_checks(replace(ready_deps, blobs=blobs))).report()
    assert report.checks == outcomes(seal=Outcome.FAILED)


async def test_an_expired_receipt_certificate_is_not_ready(office: Any, ready_deps: ReadinessDeps) -> None:
    _, certificate = ready_deps.receipts()
    office.clock.now = certificate.not_valid_after_utc + timedelta(seconds=1)
    report = await Readiness(make_checks(ready_deps)).report()
    assert report.checks["sign"] is Outcome.FAILED


async def test_a_key_that_is_not_the_certificates_is_not_ready(ready_deps: ReadinessDeps, certs: Path) -> None:
    other = (await asyncio.to_thread(load_certificates, certs / "gemeente.pem"))[0]
    signer, _ = ready_deps.receipts()
    report = await Readiness(make_checks(replace(ready_deps, receipts=lambda: (signer, other)))).report()
    assert report.checks == outcomes(sign=Outcome.FAILED)


async def test_a_probe_is_never_a_receipt(ready_deps: ReadinessDeps) -> None:
    signer, certificate = ready_deps.receipts()
    token = signer.sign_jws({"at": "2026-11-22T10:00:00Z"}, PROBE_TYP)
    with pytest.raises(Refusal) as refused:
        verify_receipt_jws(token, certificate)
    assert refused.value.kind is Kind.SIGNATURE_INVALID


# ── how checks are run ──


def counted(calls: list[str], name: str = "check") -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        calls.append(name)
        await asyncio.sleep(0)

    return check


async def test_many_who_ask_at_once_share_one_run() -> None:
    calls: list[str] = []
    readiness = Readiness({"check": counted(calls)}, monotonic=Steps())
    reports = await asyncio.gather(*(readiness.report() for _ in range(10)))
    assert {report.ready for report in reports} == {True}
    assert calls == ["check"]


async def test_the_checks_run_at_most_once_a_second() -> None:
    calls: list[str] = []
    steps = Steps()
    readiness = Readiness({"check": counted(calls)}, monotonic=steps)
    for elapsed_s, runs in ((0.0, 1), (0.9, 1), (0.1, 2), (0.5, 2), (5.0, 3)):
        steps.seconds += elapsed_s
        await readiness.report()
        assert len(calls) == runs


async def test_a_check_that_hangs_times_out_and_spares_the_others() -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    readiness = Readiness({"hangs": hangs, "works": counted([])}, limit_s=0.01)
    report = await readiness.report()
    assert (report.ready, report.checks) == (False, {"hangs": Outcome.TIMED_OUT, "works": Outcome.OK})


async def test_a_check_that_cannot_be_stopped_is_not_begun_again_until_it_has_ended() -> None:
    begun: list[str] = []
    cancelled: list[str] = []
    disk_is_back = asyncio.Event()

    async def on_a_dead_disk() -> None:
        begun.append("check")
        while not disk_is_back.is_set():
            try:
                await disk_is_back.wait()
            except asyncio.CancelledError:
                cancelled.append("check")  # as a thread in the middle of a system call

    steps = Steps()
    readiness = Readiness({"disk": on_a_dead_disk}, limit_s=0.01, monotonic=steps)
    try:
        for _ in range(3):
            assert (await readiness.report()).checks == {"disk": Outcome.TIMED_OUT}
            steps.seconds += 1.0
        assert (begun, cancelled) == (["check"], ["check"])
    finally:
        disk_is_back.set()  # or a failed test could not end either
    await readiness.close()
    assert (await readiness.report()).checks == {"disk": Outcome.OK}
    assert begun == ["check", "check"]


async def test_who_stops_waiting_does_not_stop_it_for_others() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    calls: list[str] = []

    async def slow() -> None:
        calls.append("check")
        started.set()
        await go_on.wait()

    readiness = Readiness({"slow": slow}, monotonic=Steps())
    impatient, patient = asyncio.create_task(readiness.report()), asyncio.create_task(readiness.report())
    await started.wait()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    go_on.set()
    assert (await patient).ready
    assert calls == ["check"]


async def test_who_asks_after_a_change_hears_of_it_at_once() -> None:
    calls: list[str] = []
    readiness = Readiness({"check": counted(calls)}, monotonic=Steps())
    for count in (1, 2):
        await readiness.report()
        await readiness.report()
        assert len(calls) == count
        readiness.look_anew()


async def test_a_change_while_the_checks_run_is_heard_of_by_who_asks_next() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    listens = False

    async def check() -> None:
        heard = listens
        started.set()
        await go_on.wait()
        if not heard:
            raise OSError("not yet")

    readiness = Readiness({"check": check}, monotonic=Steps())
    early = asyncio.create_task(readiness.report())
    await started.wait()
    listens = True
    readiness.look_anew()
    go_on.set()
    assert not (await early).ready
    assert (await readiness.report()).ready


async def test_a_gateway_that_stops_is_ready_no_more() -> None:
    readiness = Readiness({"check": counted([])}, monotonic=Steps())
    assert (await readiness.report()).ready
    readiness.drain()
    report = await readiness.report()
    assert (report.ready, report.draining, report.checks) == (False, True, {"check": Outcome.OK})


async def test_only_changes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    steps, broken = Steps(), True

    async def check() -> None:
        if broken:
            raise StoreUnavailable("away")

    caplog.set_level("INFO")
    readiness = Readiness({"check": check}, monotonic=steps)
    for state in (True, True, False, False, True):
        broken = state
        await readiness.report()
        steps.seconds += 1.0
    told = [(record.levelname, getattr(record, "outcome", None)) for record in caplog.records]
    assert told == [("WARNING", "failed"), ("INFO", "ok"), ("WARNING", "failed")]


def test_readiness_that_checks_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="prove nothing"):
        Readiness({})
