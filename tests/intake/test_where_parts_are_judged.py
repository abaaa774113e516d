"""Small signed parts are judged on the event loop, larger ones in a thread; the answer is the same."""

import threading
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.plugins.house import House
else:
    from house import House

ON_THE_LOOP_BYTES = 32 * 1024
AUTHENTICATE = import_module("gateway.accept.authenticate")  # the package has a function of this name


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each part that was judged, whether that was on the event loop, which is the thread of the test."""
    loop = threading.get_ident()
    found: list[bool] = []

    def watched(judge: Callable[..., Any]) -> Callable[..., Any]:
        def judged(part: bytes, **options: Any) -> Any:
            found.append(threading.get_ident() == loop)
            return judge(part, **options)

        return judged

    for name in ("verify_message", "verify_batch_part"):
        monkeypatch.setattr(AUTHENTICATE, name, watched(getattr(AUTHENTICATE, name)))
    return found


async def test_a_message_is_judged_where_its_size_says(intake: House, places: list[bool]) -> None:
    sender = await intake.sender()
    for size_bytes in (0, ON_THE_LOOP_BYTES, ON_THE_LOOP_BYTES + 1):
        message = sender.message()
        signed = sender.sign(message).ljust(size_bytes)
        assert (await sender.post(sender.parts(message, manifest=signed))).status == 201
        changed = signed.replace(b"Aanslagbiljet", b"Dwangbevelen!")
        assert changed != signed
        assert (await sender.post(sender.parts(message, manifest=changed))).code == "signature-invalid"
    assert places == [True, True, True, True, False, False]


async def test_a_batch_is_judged_where_its_size_says(intake: House, places: list[bool], batches: Any) -> None:
    sender = await intake.sender()
    for size_bytes in (0, ON_THE_LOOP_BYTES, ON_THE_LOOP_BYTES + 1):
        batch = batches.batch_of(sender, 1)
        first, *others = batch.parts()
        padded = replace(first, content=first.content.ljust(size_bytes))
        assert batches.outcomes(await batch.taken([padded, *others])) == ["accepted"]
    assert places == [True, True, False]
