"""A letter that is coming in while the registration changes."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import pytest

from gateway.accept.authenticate import authenticate
from gateway.accept.stages import AcceptDeps, Verified
from gateway.crypto.dialects import Dialect
from gateway.crypto.identity import Peer
from gateway.domain.registration import Registration
from gateway.errors import Kind, Refusal

if TYPE_CHECKING:
    from tests.plugins.house import multipart
else:
    from house import multipart

GEMEENTE = "0406798006"


def withdraw(values: Any) -> None:
    """Take every right away."""
    (profile,) = values["profiles"]
    profile["authorisations"] = []


async def test_a_letter_that_was_authorised_is_accepted_under_the_registration_of_that_moment(premises: Any) -> None:
    sender = await premises.house.sender()
    content = premises.house.pdf + b"\n%" + b"x" * 300_000  # large enough to reach the disk before its end arrives
    body = multipart(sender.parts(sender.message([content]), [content]))
    head = (
        "POST /api/v1/messages HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: multipart/form-data; boundary=simple-boundary\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    wire = await premises.wire()
    wire.writer.write(head + body[:-1_000])
    await wire.writer.drain()

    async def is_spooling() -> bool:
        blobs = Path(urlsplit(premises.house.config.stores.blobs).path)
        return bool(await asyncio.to_thread(lambda: any(path.is_file() for path in blobs.rglob("*"))))

    await premises.until(is_spooling)
    await premises.edit(premises.files.sender(GEMEENTE), withdraw)
    await premises.done("/senders/apply")
    wire.writer.write(body[-1_000:])
    status, _ = await wire.answer()
    assert status == 201
    assert await premises.query("SELECT registration_version FROM message") == [(1,)]
    assert (await sender.send()).code == "category-not-authorised"


async def test_a_sender_that_vanishes_after_its_signature_was_verified_is_refused(premises: Any) -> None:
    sender = await premises.house.sender()
    message = sender.message()
    empty = Registration(version=2, senders={}, categories={})
    deps = SimpleNamespace(settings=SimpleNamespace(gateway_name=message.gateway), registration=lambda: empty)
    with pytest.raises(Refusal) as refused:
        await authenticate(
            Verified(signer_profiles=None, sender=sender.number, dialect=Dialect.XML, content=message),
            b"",
            cast("Peer", None),
            cast("AcceptDeps", deps),
        )
    assert refused.value.kind is Kind.SENDER_UNKNOWN
