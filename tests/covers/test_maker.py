"""The cover page as a sealed document of one delivery."""

import hashlib
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from gateway.config.providers import AddressBox
from gateway.covers.maker import CoverSettings
from gateway.domain.message import Cover, PrintOptions, Recipient
from gateway.errors import LeaseLost, Refused, StoreUnavailable
from gateway.records.retrieval import (
    code_opens,
    number_candidates,
    parse_code,
    parse_number,
    parse_token,
    token_candidates,
)

pytest_plugins = ["paper"]


class FailingLedger:
    """A ledger whose `attach_cover` raises, before or after it did its work."""

    def __init__(self, ledger: Any, error: Exception, *, kept: bool) -> None:
        self._ledger = ledger
        self._error = error
        self._kept = kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def attach_cover(self, *arguments: Any) -> None:
        if self._kept:
            await self._ledger.attach_cover(*arguments)
        raise self._error


async def blob_ids(paper: Any) -> set[Any]:
    return {info.blob_id async for info in paper.blobs.list()}


def covers(record: Any) -> list[Any]:
    return [document for document in record.documents if document.kind == "cover"]


async def test_a_cover_becomes_a_sealed_document_of_its_delivery(paper: Any) -> None:
    made = await paper.covered()
    (cover,) = covers(made.record)
    assert cover.delivery_id == made.letter.delivery.delivery_id
    assert (cover.number, cover.part, cover.pages, cover.media_type) == (0, "cover", 1, "application/pdf")
    assert (cover.size_bytes, cover.sha256) == (len(made.pdf), hashlib.sha256(made.pdf).digest())
    assert len(PdfReader(BytesIO(made.pdf)).pages) == 1
    assert made.number.replace(" ", "").encode() not in paper.blob_file(cover.document_id).read_bytes()


async def test_what_the_ledger_keeps_is_what_it_hands_out(paper: Any) -> None:
    made = await paper.covered()
    stored = await paper.ledger.message(made.record.message_id)
    assert stored is not None
    assert covers(stored) == covers(made.record)
    assert stored.revision == made.letter.record.revision


async def test_number_and_token_find_the_letter_and_the_code_opens_it(paper: Any) -> None:
    made, other = await paper.covered(), await paper.covered()
    index = await paper.vault.blind_index("portal")
    number, token, code = parse_number(made.number), parse_token(made.token), parse_code(made.code)
    assert number is not None
    assert token is not None
    assert code is not None
    found = await paper.ledger.retrieval(number_candidates(index, number))
    assert found is not None
    assert found == await paper.ledger.retrieval(token_candidates(index, token))
    assert found.delivery_id == made.letter.delivery.delivery_id
    assert code_opens(found, index, code)
    elsewhere = await paper.ledger.retrieval(number_candidates(index, parse_number(other.number) or ""))
    assert elsewhere is not None
    assert not code_opens(elsewhere, index, code)


async def test_the_same_delivery_keeps_its_first_cover(paper: Any) -> None:
    letter = await paper.accepted()
    first = await paper.maker().ensure(letter)
    again = await paper.maker().ensure(replace(letter, record=first))
    assert again is first
    assert len(covers(await paper.ledger.message(letter.record.message_id))) == 1


async def test_a_sender_who_wants_no_cover_gets_none(paper: Any) -> None:
    letter = await paper.accepted(print_options=PrintOptions(cover=Cover.NEVER))
    blobs = await blob_ids(paper)
    assert await paper.maker().ensure(letter) is letter.record
    assert await blob_ids(paper) == blobs


@pytest.mark.parametrize("kept", [False, True])
async def test_the_blob_is_there_before_the_commit_and_stays_when_nobody_knows(paper: Any, kept: bool) -> None:  # noqa: FBT001 pytest names it
    letter = await paper.accepted()
    before = await blob_ids(paper)
    failing = FailingLedger(paper.ledger, StoreUnavailable("power cut"), kept=kept)
    with pytest.raises(StoreUnavailable):
        await paper.maker(ledger=failing).ensure(letter)
    (orphan,) = await blob_ids(paper) - before
    stored = covers(await paper.ledger.message(letter.record.message_id))
    assert [cover.document_id for cover in stored] == ([orphan] if kept else [])


async def test_after_a_lost_commit_the_next_attempt_makes_a_page_of_its_own(paper: Any) -> None:
    letter = await paper.accepted()
    failing = FailingLedger(paper.ledger, StoreUnavailable("power cut"), kept=False)
    with pytest.raises(StoreUnavailable):
        await paper.maker(ledger=failing).ensure(letter)
    record = await paper.maker().ensure(letter)
    (cover,) = covers(record)
    assert (await paper.content(record, cover)).startswith(b"%PDF-")


async def test_a_worker_that_lost_its_lease_attaches_nothing(paper: Any) -> None:
    letter = await paper.accepted()
    late = replace(letter, claim=replace(letter.claim, lease_token=letter.claim.lease_token + 1))
    with pytest.raises(LeaseLost):
        await paper.maker().ensure(late)
    assert covers(await paper.ledger.message(letter.record.message_id)) == []


async def test_an_address_that_no_font_can_print_is_refused_with_a_code(paper: Any) -> None:
    letter = await paper.accepted()
    address = replace(letter.recipient.address, name="\u738b\u5c0f\u660e")
    with pytest.raises(Refused) as refused:
        await paper.maker().ensure(replace(letter, recipient=Recipient(address=address)))
    assert refused.value.code == "cover-letters"
    assert "\u738b" not in str(refused.value)


async def test_nothing_secret_is_logged_or_shown(paper: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    made = await paper.covered()
    index = await paper.vault.blind_index("portal")
    found = await paper.ledger.retrieval(number_candidates(index, parse_number(made.number) or ""))
    shown = caplog.text + repr(found) + repr(made.letter) + repr(paper.maker())
    for secret in (made.number, made.number.replace(" ", ""), made.code, made.code.replace("-", ""), made.token):
        assert secret not in shown


def test_a_window_that_leaves_no_room_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"providers\.house-b: address_box_mm must end"):
        CoverSettings(public_url="https://p.example", address_boxes={"house-b": AddressBox(y=90, h=60)})
