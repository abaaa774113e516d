"""From the number or the address on the cover page to the letter, and not one word of it before the code."""

import asyncio
from typing import Any

import pytest

from gateway.errors import StoreUnavailable

pytest_plugins = ["paper"]

# What only the letter itself may tell.
TOLD = ("aanslagbiljet", "Burgerzaken", "Gemeente Voorbeeld", "09 000 00 00", "brief.pdf", "Peeters", "90610100155")
UNKNOWN_NUMBER = "0000 0000 0000 0000"
UNKNOWN_TOKEN = "0" * 26


async def test_nothing_of_the_letter_shows_before_the_right_code(paper: Any, visitor: Any) -> None:
    letter = await paper.posted()
    before = [
        await visitor.get("/"),
        await visitor.post("/", {"number": letter.number}),
        await visitor.get(f"/d/{letter.token}"),
        await visitor.open_by_number(letter, "0000-0000"),
        await visitor.open_by_number(letter),  # during the delay
        await visitor.get("/letter"),
        await visitor.get("/letter/1"),
        await visitor.get("/letter/receipt.xml"),
    ]
    assert [answer.status for answer in before] == [200, 200, 200, 403, 429, 403, 403, 403]
    for answer in before:
        assert not any(word.lower() in answer.text.lower() for word in TOLD)


async def test_number_and_code_open_the_letter(paper: Any, portal: Any, visitor: Any) -> None:
    letter = await paper.posted()
    opened = await visitor.open_by_number(letter)
    assert (opened.status, opened.headers["Location"]) == (303, "/letter")
    page = await visitor.get("/letter")
    assert page.status == 200
    for told in ("Burgerzaken Voorbeeld", "Gemeente Voorbeeld", "09 000 00 00", "brief.pdf", "22 november 2026"):
        assert told in page.text
    assert "Uw aanslagbiljet &lt;2026&gt;" in page.text
    assert letter.record.documents[0].sha256.hex() in page.text
    assert "20 februari 2027, 11:00" in page.text
    assert portal.outcomes == {"opened": 1}


async def test_the_printed_address_and_the_code_open_the_letter(paper: Any, visitor: Any) -> None:
    letter = await paper.posted()
    assert (await visitor.open_by_token(letter)).status == 303
    assert "brief.pdf" in (await visitor.get("/letter")).text


async def test_the_form_of_each_page_leads_on_as_a_browser_follows_it(paper: Any, visitor: Any) -> None:
    letter = await paper.posted()
    page = await visitor.post("/", {"number": letter.number})
    number = letter.number.replace(" ", "")
    assert f'<input type="hidden" name="number" value="{number}">' in page.text
    assert letter.number in page.text
    assert (await visitor.post("/", {"number": number, "code": letter.code})).status == 303


async def test_sloppy_typing_opens_the_letter_too(paper: Any, visitor: Any) -> None:
    letter = await paper.posted()
    typed = letter.code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    number = letter.number.replace(" ", "-")
    assert (await visitor.post("/", {"number": number, "code": f" {typed} "})).status == 303


async def test_the_printed_address_works_in_capitals_and_without_hyphens(paper: Any, visitor: Any) -> None:
    letter = await paper.posted()
    assert (await visitor.post(f"/d/{letter.token.upper().replace('-', '')}", {"code": letter.code})).status == 303


async def test_another_letters_code_does_not_open_this_one(paper: Any, visitor: Any) -> None:
    letter, other = await paper.posted(), await paper.posted()
    assert (await visitor.open_by_number(letter, other.code)).status == 403


@pytest.mark.parametrize("typed", ["", "1234", "abcd", "1" * 17, "\u0661" * 3])
async def test_what_can_be_no_number_is_told_at_once(portal: Any, visitor: Any, typed: str) -> None:
    answer = await visitor.post("/", {"number": typed})
    assert answer.status == 422
    assert 'href="#number"' in answer.text
    assert portal.outcomes == {"malformed": 1}


@pytest.mark.parametrize("typed", ["", "1234", "7K3M-9XU2", "7K3M-9XQ2-7"])
async def test_what_can_be_no_code_is_told_at_once_and_costs_nothing(paper: Any, visitor: Any, typed: str) -> None:
    letter = await paper.posted()
    for answer in (await visitor.open_by_number(letter, typed), await visitor.open_by_token(letter, typed)):
        assert answer.status == 422
        assert 'href="#code"' in answer.text
    assert (await visitor.open_by_number(letter)).status == 303


async def test_an_incomplete_printed_address_says_so(visitor: Any) -> None:
    for answer in (await visitor.get("/d/7k3m-9xq2"), await visitor.post("/d/7k3m-9xq2", {"code": "0000-0000"})):
        assert answer.status == 404
        assert "niet volledig" in answer.text


# ── Letters that do not exist ──


async def guesses(paper: Any, visitor: Any, path: str, fields: dict[str, str]) -> list[tuple[int, str, dict[str, str]]]:
    """Guess, again at once, and again after each delay; return all that can be seen of the answers."""
    seen = []
    for wait_s in (0, 0, 1, 0, 2, 0, 4, 0, 8, 0):
        paper.clock.forward(seconds=wait_s)
        answer = await visitor.post(path, fields)
        text = answer.text.replace(fields.get("number", "-"), "N").replace(path, "P")
        headers = {name: value for name, value in answer.headers.items() if name not in ("Date", "Content-Length")}
        seen.append((answer.status, text, headers))
    return seen


async def test_an_unknown_number_answers_like_a_wrong_code(paper: Any, portal: Any) -> None:
    letter = await paper.posted()
    wrong = await guesses(
        paper, await portal.visitor(), "/", {"number": letter.number.replace(" ", ""), "code": "00000000"}
    )
    unknown = await guesses(
        paper, await portal.visitor(), "/", {"number": UNKNOWN_NUMBER.replace(" ", ""), "code": "00000000"}
    )
    shown = letter.number, UNKNOWN_NUMBER
    assert [(status, text.replace(shown[0], "N"), headers) for status, text, headers in wrong] == [
        (status, text.replace(shown[1], "N"), headers) for status, text, headers in unknown
    ]
    assert [status for status, _, _ in wrong] == [403, 429] * 5
    assert [headers["Retry-After"] for status, _, headers in wrong if status == 429] == ["1", "2", "4", "8", "16"]


async def test_an_unknown_address_answers_like_a_wrong_code(paper: Any, portal: Any) -> None:
    letter = await paper.posted()
    token = letter.token.replace("-", "")
    wrong = await guesses(paper, await portal.visitor(), f"/d/{token}", {"code": "00000000"})
    unknown = await guesses(paper, await portal.visitor(), f"/d/{UNKNOWN_TOKEN}", {"code": "00000000"})
    assert wrong == unknown


async def test_an_unknown_number_costs_the_look_ups_and_commits_of_a_wrong_code(
    paper: Any, make_portal: Any, counting_ledger: Any
) -> None:
    letter = await paper.posted()
    portal = await make_portal(ledger=counting_ledger)
    await (await portal.visitor()).open_by_number(letter, "0000-0000")
    wrong = list(counting_ledger.calls)
    counting_ledger.calls.clear()
    await (await portal.visitor()).post("/", {"number": UNKNOWN_NUMBER, "code": "0000-0000"})
    assert wrong == ["retrieval", "retrieval_failed"]
    assert counting_ledger.calls == ["retrieval", "heartbeat"]


# ── Delays ──


async def test_a_delay_grows_to_a_minute_and_no_further(paper: Any, portal: Any) -> None:
    letter = await paper.posted()
    waits = []
    for _ in range(9):
        visitor = await portal.visitor()
        assert (await visitor.open_by_number(letter, "0000-0000")).status == 403
        waits.append(int((await visitor.open_by_number(letter)).headers["Retry-After"]))
        paper.clock.forward(seconds=waits[-1])
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_after_the_delay_the_right_code_opens_and_the_count_starts_anew(paper: Any, portal: Any) -> None:
    letter, visitor = await paper.posted(), await portal.visitor()
    for wait_s in (0, 1, 2, 4):
        paper.clock.forward(seconds=wait_s)
        assert (await visitor.open_by_token(letter, "0000-0000")).status == 403
    paper.clock.forward(seconds=8)
    assert (await visitor.open_by_token(letter)).status == 303
    assert (await visitor.open_by_token(letter, "0000-0000")).status == 403
    assert (await visitor.open_by_token(letter)).headers["Retry-After"] == "1"


async def test_the_right_code_is_not_looked_at_during_a_delay(
    paper: Any, make_portal: Any, counting_ledger: Any
) -> None:
    letter = await paper.posted()
    portal = await make_portal(ledger=counting_ledger)
    visitor = await portal.visitor()
    await visitor.open_by_number(letter, "0000-0000")
    answer = await visitor.open_by_number(letter)
    assert answer.status == 429
    assert "1 seconde" in answer.text
    assert "retrieved" not in counting_ledger.calls
    assert portal.outcomes == {"wrong-code": 1, "delayed": 1}


async def test_number_and_address_of_one_letter_share_their_delay(paper: Any, visitor: Any) -> None:
    letter = await paper.posted()
    await visitor.open_by_number(letter, "0000-0000")
    assert (await visitor.open_by_token(letter)).status == 429


async def test_a_delay_holds_on_every_replica_and_after_a_restart(paper: Any, make_portal: Any) -> None:
    letter = await paper.posted()
    await (await (await make_portal()).visitor()).open_by_number(letter, "0000-0000")
    assert (await (await (await make_portal()).visitor()).open_by_number(letter)).status == 429


@pytest.mark.parametrize("known", [True, False])
async def test_of_many_triesat_once_one_is_looked_at(paper: Any, portal: Any, known: bool) -> None:  # noqa: FBT001 a parameter
    letter = await paper.posted()
    number = letter.number if known else UNKNOWN_NUMBER
    visitors = [await portal.visitor() for _ in range(8)]
    answers = await asyncio.gather(
        *(visitor.post("/", {"number": number, "code": f"0000-000{digit}"}) for digit, visitor in enumerate(visitors))
    )
    assert sorted(answer.status for answer in answers) == [403] + [429] * 7


async def test_one_address_that_triesmany_letters_is_slowed_down_everywhere(paper: Any, portal: Any) -> None:
    letter, guesser, other = await paper.posted(), await portal.visitor(), await portal.visitor()
    tries = [await guesser.post("/", {"number": f"{number:016}", "code": "0000-0000"}) for number in range(11)]
    assert {answer.status for answer in tries} == {403}
    assert (await guesser.open_by_number(letter)).headers["Retry-After"] == "1"
    assert (await other.open_by_number(letter)).status == 303
    paper.clock.forward(seconds=1)
    assert (await guesser.open_by_number(letter)).status == 303


async def test_right_codes_never_slow_an_address_down(paper: Any, visitor: Any) -> None:
    letter = await paper.posted()
    for _ in range(25):
        assert (await visitor.open_by_number(letter)).status == 303


async def test_a_ledger_that_is_away_is_no_wrong_code(paper: Any, make_portal: Any, failing_ledger: Any) -> None:
    letter = await paper.posted()
    broken = failing_ledger(paper.ledger, StoreUnavailable("away"), "retrieval")
    portal = await make_portal(ledger=broken)
    visitor = await portal.visitor()
    for _ in range(15):
        answer = await visitor.open_by_number(letter)
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
    assert portal.outcomes == {"failed": 15}
