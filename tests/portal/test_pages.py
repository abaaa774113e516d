"""Every page: its language, its structure for those who cannot see it, its headers; and what is refused at the door."""

import gzip
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from lxml import html

from gateway.portal.pages import STYLE
from gateway.portal.words import LANGUAGES, WORDS, choose, show_date, show_size, show_time, show_wait

pytest_plugins = ["paper"]

CSP = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


def parsed(page: bytes) -> Any:
    return html.document_fromstring(page)


# ── Languages ──


def flat(texts: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text with its path."""
    match texts:
        case str():
            yield path, texts
        case list():
            for number, item in enumerate(texts):
                yield from flat(item, f"{path}[{number}]")
        case _:
            for name, item in texts.items():
                yield from flat(item, f"{path}.{name}")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_everything(language: str) -> None:
    texts, dutch = dict(flat(WORDS[language])), dict(flat(WORDS["nl"]))
    assert texts.keys() == dutch.keys()
    for path, text in texts.items():
        assert text.strip() == text != "", path
        assert text.count("{") == dutch[path].count("{"), path


@pytest.mark.parametrize(
    ("asked", "header", "language", "chosen"),
    [
        (None, "", "nl", False),
        (None, "fr-BE,fr;q=0.9,en;q=0.8", "fr", False),
        (None, "en;q=0.5, DE-at ; q=0.9", "de", False),
        (None, "es,pt", "nl", False),
        (None, "es,en;q=0.1", "en", False),
        (None, "fr;q=0, nl;q=0", "nl", False),
        (None, "fr;q=x", "nl", False),
        ("de", "fr", "de", True),
        ("xx", "fr", "fr", False),
        ("", "en", "en", False),
    ],
)
def test_a_language_is_chosen_asked_for_or_dutch(asked: str | None, header: str, language: str, chosen: bool) -> None:  # noqa: FBT001 a parameter
    found = choose(asked, header)
    assert (found.language, found.chosen) == (language, chosen)


@pytest.mark.parametrize(
    ("language", "date"),
    [("nl", "1 maart 2027"), ("fr", "1er mars 2027"), ("de", "1. März 2027"), ("en", "1 March 2027")],
)
def test_dates_are_those_of_belgium(language: str, date: str) -> None:
    at = datetime(2027, 2, 28, 23, 30, tzinfo=UTC)
    assert show_date(at, WORDS[language]) == date
    assert show_time(at) == "00:30"


@pytest.mark.parametrize(
    ("size", "nl", "fr"),
    [
        (1, "1 bytes", "1 octets"),
        (999_499, "999 kB", "999 ko"),
        (1_250_000, "1,2 MB", "1,2 Mo"),
        (3e7, "30,0 MB", "30,0 Mo"),
    ],
)
def test_sizes_are_decimal_and_spelt_as_people_do(size: int, nl: str, fr: str) -> None:
    assert (show_size(size, WORDS["nl"]), show_size(size, WORDS["fr"])) == (nl, fr)


def test_one_second_is_one() -> None:
    assert [show_wait(wait_s, WORDS["en"]) for wait_s in (1, 2)] == ["1 second", "2 seconds"]


async def test_a_chosen_language_stays_all_the_way(paper: Any, visitor: Any) -> None:
    letter = await paper.posted(language="nl")
    start = await visitor.get("/?lang=fr")
    (form,) = parsed(start.body).forms
    assert form.action == "/?lang=fr"
    code = await visitor.post("/?lang=fr", {"number": letter.number})
    assert parsed(code.body).forms[-1].action == "/?lang=fr"
    opened = await visitor.open_by_number(letter, query="?lang=fr")
    assert opened.headers["Location"] == "/letter?lang=fr"
    page = await visitor.get("/letter?lang=fr")
    assert "Lettre de Burgerzaken Voorbeeld" in page.text
    assert '/letter/1?lang=fr"' in page.text
    assert 'lang="nl">Uw aanslagbiljet' in page.text


async def test_without_a_choice_the_letter_shows_in_its_own_language(paper: Any, visitor: Any) -> None:
    letter = await paper.posted(language="de")
    code = await visitor.post("/", {"number": letter.number}, **{"Accept-Language": "fr"})
    assert "Indiquez votre code" in code.text
    await visitor.open_by_number(letter)
    page = await visitor.get("/letter", **{"Accept-Language": "fr"})
    assert parsed(page.body).get("lang") == "de"
    assert page.headers["Content-Language"] == "de"


async def test_a_page_made_from_a_form_can_be_had_in_another_language(paper: Any, visitor: Any) -> None:
    letter = await paper.posted()
    page = parsed((await visitor.post("/", {"number": letter.number})).body)
    switch = page.forms[0]
    assert [button.get("formaction") for button in switch.iter("button")] == [f"/?lang={code}" for code in LANGUAGES]
    again = await visitor.post("/?lang=en", dict(switch.fields))
    assert "Enter your code" in again.text
    assert letter.number in again.text


# ── Every page ──


async def every_page(paper: Any, visitor: Any) -> list[tuple[str, Any]]:
    """Return every page that a visitor can meet, with what it was asked for."""
    letter, unsent = await paper.posted({"een.pdf": b"%PDF 1", "twee.pdf": b"%PDF 2"}), await paper.covered()
    found = [
        ("start", await visitor.get("/")),
        ("start, wrong", await visitor.post("/", {"number": "x"})),
        ("code", await visitor.post("/", {"number": letter.number})),
        ("code by address", await visitor.get(f"/d/{letter.token}")),
        ("code, malformed", await visitor.open_by_number(letter, "x")),
        ("code, wrong", await visitor.open_by_number(letter, "0000-0000")),
        ("delay", await visitor.open_by_number(letter)),
        ("ended", await visitor.get("/letter")),
        ("not yet", await visitor.open_by_token(unsent)),
        ("no such page", await visitor.get("/nowhere")),
        ("no such address", await visitor.get("/d/x")),
        ("another site", await visitor.post("/", {}, **{"Sec-Fetch-Site": "cross-site"})),
        ("method", await visitor.call("PUT", "/", headers={})),
        ("help", await visitor.get("/help")),
        ("privacy", await visitor.get("/privacy")),
        ("accessibility", await visitor.get("/accessibility")),
    ]
    paper.clock.forward(seconds=1)
    found.append(("opened", await visitor.open_by_number(letter)))
    found.append(("letter", await visitor.get("/letter")))
    found.append(("download", await visitor.get("/letter/1")))
    found.append(("receipt", await visitor.get("/letter/receipt.xml")))
    found.append(("style", await visitor.get("/style.css")))
    found.append(("left", await visitor.post("/leave")))
    return found


async def test_every_answer_carries_the_protective_headers(paper: Any, visitor: Any) -> None:
    for name, answer in await every_page(paper, visitor):
        headers = answer.headers
        assert headers["Content-Security-Policy"] == CSP, name
        assert headers["X-Content-Type-Options"] == "nosniff", name
        assert headers["Referrer-Policy"] == "no-referrer", name
        assert headers["Cache-Control"] == "no-store", name
        assert headers["Strict-Transport-Security"].startswith("max-age="), name
        assert headers["X-Frame-Options"] == "DENY", name
        assert "Server" not in headers, name


async def test_every_page_can_be_read_without_seeing_it(paper: Any, visitor: Any) -> None:
    pages = [
        (name, answer)
        for name, answer in await every_page(paper, visitor)
        if "html" in answer.headers.get("Content-Type", "")
    ]
    assert len(pages) >= 17
    for name, answer in pages:
        page = parsed(answer.body)
        ids = page.xpath("//@id")
        assert page.get("lang") == answer.headers["Content-Language"] == "nl", name
        assert page.findtext(".//title"), name
        assert len(page.xpath("//h1")) == len(page.xpath("//main")) == 1, name
        assert len(ids) == len(set(ids)), name
        assert page.xpath("//a[@class='skip']/@href") == ["#main"], name
        for control in page.xpath("//input[not(@type='hidden')]"):
            assert page.xpath(f"//label[@for='{control.get('id')}']"), name
            assert set(control.get("aria-describedby").split()) <= set(ids), name
        for target in page.xpath("//a[starts-with(@href, '#')]/@href"):
            assert target[1:] in ids, name
        for labels in page.xpath("//*/@aria-labelledby"):
            assert set(labels.split()) <= set(ids), name
        levels = [int(heading.tag[1]) for heading in page.xpath("//main//h1|//main//h2|//main//h3")]
        assert all(later <= earlier + 1 for earlier, later in pairwise(levels)), name
        assert {code.get("lang") for code in page.xpath("//header//*[@lang]")} == set(LANGUAGES), name


async def test_an_error_is_named_in_the_title_linked_and_tied_to_its_field(paper: Any, visitor: Any) -> None:
    pages = dict(await every_page(paper, visitor))
    for name, field in (("start, wrong", "number"), ("code, malformed", "code"), ("code, wrong", "code")):
        page = parsed(pages[name].body)
        assert page.findtext(".//title").startswith("Fout:")
        assert page.xpath("//*[@role='alert']//a/@href") == [f"#{field}"]
        (control,) = page.xpath(f"//input[@id='{field}']")
        assert control.get("aria-invalid") == "true"
        assert f"{field}-error" in control.get("aria-describedby").split()


async def test_no_page_runs_or_fetches_anything_but_our_style(paper: Any, visitor: Any) -> None:
    for name, answer in await every_page(paper, visitor):
        if "html" not in answer.headers.get("Content-Type", ""):
            continue
        page = parsed(answer.body)
        assert not page.xpath("//script|//style|//img|//iframe|//object|//*[@style]"), name
        assert page.xpath("//link/@href") == ["/style.css"], name
        assert not page.xpath("//@*[starts-with(name(), 'on')]"), name
        assert not page.xpath("//@href[contains(., '://')]|//@action[contains(., '://')]"), name


async def test_the_style_fetches_nothing(visitor: Any) -> None:
    answer = await visitor.get("/style.css")
    assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
    assert answer.body == STYLE
    assert b"url(" not in STYLE
    assert b"@import" not in STYLE


async def test_a_portal_can_live_below_a_path(paper: Any, make_portal: Any) -> None:
    portal = await make_portal(public_url="https://overheid.example.be/brieven/")
    visitor, letter = await portal.visitor(), await paper.posted()
    page = await visitor.get("/brieven/")
    assert 'href="/brieven/style.css"' in page.text
    assert 'action="/brieven/"' in page.text
    opened = await visitor.post("/brieven/", {"number": letter.number, "code": letter.code})
    assert opened.headers["Location"] == "/brieven/letter"
    assert (await visitor.get("/brieven/letter")).status == 200
    assert (await visitor.get("/")).status == 404


# ── At the door ──


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://brieven.example.be"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://brieven.example.be"}, 200),
        ({"Origin": "null"}, 200),
        ({}, 200),
        ({"Origin": "https://brieven.example.be.evil.example"}, 403),
        ({"Origin": "http://brieven.example.be"}, 403),
        ({"Origin": "https://evil.example"}, 403),
    ],
)
async def test_a_form_is_taken_from_our_own_pages_only(visitor: Any, headers: dict[str, str], status: int) -> None:
    answer = await visitor.call("POST", "/", data={"number": "4071882650193347"}, headers=headers)
    assert answer.status == status


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"number=" + b"1" * 5_000, {"Content-Type": "application/x-www-form-urlencoded"}, 413),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"--x--", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
        (
            gzip.compress(b"number=1", mtime=0),
            {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"},
            415,
        ),
        (b"\xff=1", {"Content-Type": "application/x-www-form-urlencoded"}, 400),
        (b"&".join(b"a%d=1" % n for n in range(50)), {"Content-Type": "application/x-www-form-urlencoded"}, 400),
    ],
)
async def test_what_is_no_small_form_is_refused_with_a_page(
    visitor: Any, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = await visitor.call("POST", "/", data=body, headers=headers)
    assert answer.status == status
    assert "Dat kunnen we niet lezen" in answer.text


async def test_a_wrong_method_names_the_right_ones(visitor: Any) -> None:
    answer = await visitor.call("PUT", "/leave", headers={})
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_nothing_typed_comes_back_unescaped(visitor: Any) -> None:
    answer = await visitor.post('/?lang="><b>', {"number": '"><script>alert(1)</script>'})
    assert "<script" not in answer.text
    assert "<b>" not in answer.text


# ── The technical log ──


async def test_nothing_secret_or_personal_is_ever_logged(
    paper: Any, make_portal: Any, failing_ledger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    letter = await paper.posted({"aanslag-peeters.pdf": b"%PDF 1"})
    portal = await make_portal()
    visitor = await portal.visitor()
    await visitor.get(f"/d/{letter.token}")
    await visitor.get(f"/d/{letter.token}/x")
    await visitor.open_by_token(letter, "0000-0000")
    paper.clock.forward(seconds=1)
    opened = await visitor.open_by_token(letter)
    await visitor.get("/letter")
    await visitor.get("/letter/1")
    paper.blob_file(letter.record.documents[0].document_id).unlink()
    assert (await visitor.get("/letter/1")).status == 500
    broken = await make_portal(ledger=failing_ledger(paper.ledger, RuntimeError(letter.token), "retrieval"))
    assert (await (await broken.visitor()).open_by_token(letter)).status == 500
    server = [record for record in caplog.records if not record.name.startswith("asyncio")]
    assert {record.getMessage() for record in server} == {"portal-failed"}
    said = " ".join(str(vars(record)) for record in caplog.records)
    secrets = (
        letter.token, letter.token.replace("-", ""), letter.number, letter.number.replace(" ", ""), letter.code,
        letter.code.replace("-", ""),
        opened.headers["Set-Cookie"].split("=")[1].split(";")[0], "peeters", "90610100155",
    )  # fmt: skip
    assert not [secret for secret in secrets if secret in said]
