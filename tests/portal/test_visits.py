"""Visits: how long one lasts, what it opens, and when a letter can be had."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.vault import BlindIndex
from gateway.domain.ids import DeliveryId, MessageId
from gateway.domain.retention import CopyState, Keep
from gateway.domain.status import DeliveryStatus, MessageStatus
from gateway.portal.letters import Availability, availability
from gateway.portal.sessions import LASTS, Visit, read_visit, write_visit

pytest_plugins = ["paper"]

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
INDEX = BlindIndex("portal", {1: b"\x01" * 32})
ROTATED = BlindIndex("portal", {1: b"\x01" * 32, 2: b"\x02" * 32})
VISIT = Visit(delivery_id=DeliveryId(UUID(int=1)), message_id=MessageId(UUID(int=2)), ends_at=NOW + LASTS)
COOKIE = "__Host-letter"


# ── The cookie ──


def test_a_visit_reads_back_as_it_was_written() -> None:
    assert read_visit(write_visit(VISIT, INDEX), INDEX, NOW) == VISIT


def test_a_visit_survives_a_rotation_and_ends_with_a_dropped_key() -> None:
    cookie = write_visit(VISIT, INDEX)
    assert read_visit(cookie, ROTATED, NOW) == VISIT
    assert read_visit(cookie, BlindIndex("portal", {2: b"\x02" * 32}), NOW) is None


def test_a_visit_ends_on_time() -> None:
    cookie = write_visit(VISIT, INDEX)
    assert read_visit(cookie, INDEX, VISIT.ends_at - timedelta(microseconds=1)) == VISIT
    assert read_visit(cookie, INDEX, VISIT.ends_at) is None


@given(st.integers(0, 72 * 8 - 1))
def test_a_changed_visit_is_none(bit: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(write_visit(VISIT, INDEX) + "==="))
    raw[bit // 8] ^= 1 << bit % 8
    assert read_visit(base64.urlsafe_b64encode(raw).decode(), INDEX, NOW) is None


@given(st.text(max_size=200))
def test_whatever_else_a_cookie_says_is_no_visit(cookie: str) -> None:
    assert read_visit(cookie, INDEX, NOW) is None


async def test_a_visit_is_a_cookie_that_only_this_site_gets(paper: Any, visitor: Any) -> None:
    opened = await visitor.open_by_number(await paper.posted())
    header = opened.headers["Set-Cookie"]
    assert header.startswith(f"{COOKIE}=")
    assert {part.strip() for part in header.split(";")[1:]} == {
        "HttpOnly", "Max-Age=900", "Path=/", "SameSite=Strict", "Secure",
    }  # fmt: skip


async def test_without_tls_in_development_the_cookie_still_works(paper: Any, make_portal: Any) -> None:
    portal = await make_portal(public_url="http://localhost:8444")
    visitor = await portal.visitor()
    opened = await visitor.open_by_number(await paper.posted())
    assert opened.headers["Set-Cookie"].startswith("letter=")
    assert "Secure" not in opened.headers["Set-Cookie"]
    assert "Strict-Transport-Security" not in opened.headers
    assert (await visitor.get("/letter")).status == 200


# ── A visit ──


async def test_a_visit_lasts_a_quarter_of_an_hour(paper: Any, visitor: Any) -> None:
    opened = await visitor.open_by_number(await paper.posted())
    cookie = opened.headers["Set-Cookie"].partition(";")[0]
    paper.clock.forward(minutes=14, seconds=59)
    assert (await visitor.get("/letter")).status == 200
    assert (await visitor.get("/letter/1")).status == 200
    paper.clock.forward(seconds=1)
    for path in ("/letter", "/letter/1", "/letter/receipt.xml"):
        answer = await visitor.get(path, Cookie=cookie)
        assert answer.status == 403
        assert "niet meer open" in answer.text


async def test_a_visit_opens_its_own_letter_only(paper: Any, portal: Any) -> None:
    first, second = await portal.visitor(), await portal.visitor()
    await first.open_by_number(await paper.posted({"een.pdf": b"%PDF one"}))
    await second.open_by_number(await paper.posted({"twee.pdf": b"%PDF two"}))
    assert (await first.get("/letter/1")).body == b"%PDF one"
    assert (await second.get("/letter/1")).body == b"%PDF two"


async def test_a_visit_goes_on_at_another_replica(paper: Any, make_portal: Any) -> None:
    one, other = await make_portal(), await make_portal()
    visitor = await one.visitor()
    opened = await visitor.open_by_number(await paper.posted())
    cookie = opened.headers["Set-Cookie"].partition(";")[0]
    assert (await (await other.visitor()).get("/letter/1", Cookie=cookie)).status == 200


async def test_who_leaves_has_no_cookie_any_more(paper: Any, visitor: Any) -> None:
    await visitor.open_by_number(await paper.posted())
    left = await visitor.post("/leave")
    assert left.status == 200
    assert "gesloten" in left.text
    assert (await visitor.get("/letter")).status == 403


# ── When a letter can be had ──


async def test_before_it_is_posted_a_letter_cannot_be_had(paper: Any, portal: Any, visitor: Any) -> None:
    letter = await paper.covered()
    wrong = await visitor.open_by_number(letter, "0000-0000")
    paper.clock.forward(seconds=1)
    answer = await visitor.open_by_number(letter)
    assert (wrong.status, answer.status) == (403, 404)
    assert "nog niet" in answer.text
    assert "09 000 00 00" in answer.text
    assert "brief.pdf" not in answer.text
    assert "Set-Cookie" not in answer.headers
    assert portal.outcomes == {"wrong-code": 1, "not-available": 1}


async def test_after_its_term_a_letter_cannot_be_had(paper: Any, visitor: Any) -> None:
    letter = await paper.posted()
    paper.clock.forward(days=90)
    wrong = await visitor.open_by_token(letter, "0000-0000")
    paper.clock.forward(seconds=1)
    answer = await visitor.open_by_token(letter)
    assert (wrong.status, answer.status) == (403, 410)
    assert "niet meer" in answer.text
    assert "Burgerzaken Voorbeeld" in answer.text
    assert "Burgerzaken" not in wrong.text


async def test_a_term_that_ends_during_a_visit_ends_the_visit(paper: Any, visitor: Any) -> None:
    letter = await paper.posted()
    paper.clock.forward(days=89, hours=23, minutes=50)
    await visitor.open_by_number(letter)
    assert (await visitor.get("/letter")).status == 200
    paper.clock.forward(minutes=10)
    assert (await visitor.get("/letter")).status == 410
    assert (await visitor.get("/letter/1")).status == 410


async def test_an_erased_letter_cannot_be_had_and_its_code_is_forgotten(paper: Any, visitor: Any) -> None:
    letter = await paper.posted()
    await visitor.open_by_number(letter)
    record = await paper.ledger.message(letter.record.message_id)
    assert await paper.ledger.destroy_keys(record, paper.clock(), [])
    assert (await visitor.get("/letter")).status == 410
    assert (await visitor.get("/letter/1")).status == 410
    answer = await visitor.open_by_number(letter)
    assert answer.status == 403
    assert "tot wanneer u de brief kunt ophalen" in answer.text


async def test_a_letter_that_was_never_delivered_cannot_be_had(paper: Any, visitor: Any) -> None:
    letter = await paper.covered()
    keep = Keep(state=CopyState.AWAITING_ERASURE, until=paper.clock() + timedelta(days=30))
    await paper.settle(letter, DeliveryStatus.FAILED, MessageStatus.UNDELIVERABLE, keep)
    assert (await visitor.open_by_number(letter)).status == 410


async def test_a_letter_that_came_back_can_still_be_had(paper: Any, visitor: Any) -> None:
    letter = await paper.covered()
    keep = Keep(state=CopyState.KEPT, until=None)
    await paper.settle(letter, DeliveryStatus.RETURNED, MessageStatus.RETURNED, keep)
    await visitor.open_by_number(letter)
    page = await visitor.get("/letter")
    assert page.status == 200
    assert "Beschikbaar tot" not in page.text


def test_no_message_is_no_letter() -> None:
    assert availability(None, NOW) is Availability.GONE


@pytest.mark.parametrize("state", list(CopyState))
async def test_only_a_kept_copy_is_ready(paper: Any, state: CopyState) -> None:
    record = (await paper.posted()).record
    ready = availability(replace(record, copy_state=state, copy_until=NOW + timedelta(days=1)), NOW)
    assert (ready is Availability.READY) == (state is CopyState.KEPT)
