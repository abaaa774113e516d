"""The cover page as a print house and a reader see it."""

from dataclasses import dataclass, replace
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from pypdf import PdfReader
from reportlab.lib.units import mm

from gateway.config.providers import AddressBox
from gateway.covers.lettering import Unprintable, printable, width_pt
from gateway.covers.page import CoverPage, render_cover, require_room
from gateway.covers.words import WORDS
from gateway.domain.message import PostalAddress
from gateway.records.retrieval import RetrievalSecrets

LANGUAGES = ("nl", "fr", "de", "en")
SECRETS = RetrievalSecrets(token="7k3m9xq2abcdefghjkmnpqrstv", number="4071882650193347", code="7K3M9XQ2")
ADDRESS = PostalAddress(
    name="Zoë Ďuriš-Łęcka",
    street="Kerkstraat",
    house_number="12",
    box="3",
    postcode="9000",
    municipality="Gent",
    country="BE",
)
PAGE = CoverPage(
    language="nl",
    sender_name="Burgerzaken Voorbeeld",
    return_address=("Gemeente Voorbeeld", "Markt 1", "9000 Gent"),
    public_contact="09 000 00 00",
    recipient=ADDRESS,
    attention_of=None,
    box=AddressBox(),
    portal_url="https://brieven.example.be/",
    secrets=SECRETS,
    term_days=90,
    registered=False,
)
LONGEST = replace(
    PAGE,
    sender_name="Vereniging voor gemeentelijke dienstverlening en burgerzaken van de stad en haar deelgemeenten W 100",
    return_address=("Intercommunale voor Waterbeheer en Milieuzorg van het Landen",) * 6,
    public_contact=("contactpunt@voorbeeld.be 09 000 00 00 " * 6)[:200],
    portal_url="https://authentieke-brieven.digitaal.vlaanderen.example.be/portaal",
    term_days=3650,
)


@dataclass(frozen=True)
class Run:
    """A piece of text and the corner where it starts, from the left and the top of the page."""

    text: str
    x_mm: float
    y_mm: float
    end_mm: float


def runs(pdf: bytes) -> list[Run]:
    found: list[Run] = []

    def visit(text: str, _cm: Any, tm: Any, font: Any, size_pt: float) -> None:
        if text.strip():
            bold = font is not None and "Bold" in str(font["/BaseFont"])
            end_pt = tm[4] + width_pt(text.rstrip(), size_pt, bold=bold)
            found.append(Run(text.strip(), tm[4] / mm, 297 - tm[5] / mm, end_pt / mm))

    PdfReader(BytesIO(pdf)).pages[0].extract_text(visitor_text=visit)
    return found


def text_of(pdf: bytes) -> str:
    return PdfReader(BytesIO(pdf)).pages[0].extract_text().replace("\u00a0", " ")


def in_box(run: Run, box: AddressBox) -> bool:
    return box.x <= run.x_mm <= box.x + box.w and box.y <= run.y_mm <= box.y + box.h


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_cover_is_one_upright_page_of_a4(language: str) -> None:
    reader: Any = PdfReader(BytesIO(render_cover(replace(PAGE, language=language))))
    (page,) = reader.pages
    assert float(page.mediabox.width) == pytest.approx(210 * mm)
    assert float(page.mediabox.height) == pytest.approx(297 * mm)
    assert page.rotation == 0
    assert reader.trailer["/Root"]["/Lang"] == language


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_cover_tells_how_to_fetch_the_letter(language: str) -> None:
    text = text_of(render_cover(replace(PAGE, language=language)))
    words = WORDS[language]
    for wanted in (
        words.heading, *words.steps, words.alike, words.direct, words.term_title, words.personal_title, words.follows,
        "https://brieven.example.be\n", "4071 8826 5019 3347", "7K3M-9XQ2",
        "https://brieven.example.be/d/7k3m-9xq2-abcd-efgh-jkmn-pqrs-tv", "90", "09 000 00 00",
        "Burgerzaken Voorbeeld", "Gemeente Voorbeeld", "Markt 1",
    ):  # fmt: skip
        assert wanted.replace("\u00a0", " ") in text, wanted


def test_the_names_of_people_come_out_letter_by_letter() -> None:
    assert "Zoë Ďuriš-Łęcka" in text_of(render_cover(PAGE))


def test_every_font_is_embedded_and_nothing_else_is_named() -> None:
    page: Any = PdfReader(BytesIO(render_cover(PAGE))).pages[0]
    fonts = page["/Resources"]["/Font"]
    names = [str(font.get_object()["/BaseFont"]) for font in fonts.values()]
    assert sorted(name.partition("+")[2] for name in names) == ["DejaVuSans", "DejaVuSans-Bold"]
    assert all("/FontFile2" in font.get_object()["/FontDescriptor"].get_object() for font in fonts.values())


def test_a_cover_holds_text_only() -> None:
    reader: Any = PdfReader(BytesIO(render_cover(PAGE)))
    root = reader.trailer["/Root"]
    assert reader.pages[0].get("/Annots") is None
    assert reader.pages[0]["/Resources"].get("/XObject") is None
    assert not {"/OpenAction", "/AcroForm", "/Names", "/AA"} & set(root)
    assert not reader.is_encrypted


def test_the_same_input_gives_the_same_bytes() -> None:
    assert render_cover(PAGE) == render_cover(PAGE)
    assert render_cover(PAGE) != render_cover(replace(PAGE, term_days=91))


def test_number_and_code_are_the_largest_things_to_copy() -> None:
    sizes: dict[str, float] = {}

    def visit(text: str, _cm: Any, _tm: Any, _font: Any, size_pt: float) -> None:
        sizes[text.strip()] = size_pt

    PdfReader(BytesIO(render_cover(PAGE))).pages[0].extract_text(visitor_text=visit)
    assert sizes["4071 8826 5019 3347"] >= 18
    assert sizes["7K3M-9XQ2"] >= 18
    assert all(size >= 8 for text, size in sizes.items() if text)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", [PAGE, LONGEST], ids=["usual", "longest"])
def test_the_window_shows_the_address_and_nothing_else(page: CoverPage, language: str) -> None:
    written = runs(render_cover(replace(page, language=language)))
    shown = [run.text for run in written if in_box(run, page.box)]
    assert shown[0] == ADDRESS.name
    assert shown[-1] == "9000 Gent"
    assert len(shown) == 3
    assert all(run.end_mm <= page.box.x + page.box.w for run in written if in_box(run, page.box))
    assert all(
        run.end_mm < page.box.x for run in written if run.y_mm < page.box.y + page.box.h and not in_box(run, page.box)
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("box", [AddressBox(), AddressBox(x=20, y=45, w=90, h=40), AddressBox(x=22, y=60, w=85, h=30)])
def test_postage_zone_and_margins_stay_free_whatever_is_printed(box: AddressBox, language: str) -> None:
    for page in (PAGE, LONGEST):
        for run in runs(render_cover(replace(page, language=language, box=box))):
            assert run.x_mm >= 15, run.text
            assert run.end_mm <= 195, run.text
            assert 5 < run.y_mm < 292, run.text
            assert run.y_mm > 40 or run.end_mm < 210 - 74, run.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_lines_of_text_never_overlap(language: str) -> None:
    for page in (PAGE, LONGEST):
        left = sorted(
            run.y_mm for run in runs(render_cover(replace(page, language=language))) if run.x_mm == pytest.approx(20)
        )
        assert all(later - earlier > 2 for earlier, later in pairwise(left))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_cover_fits_around_the_lowest_window_that_is_allowed(language: str) -> None:
    box = AddressBox(x=110, y=60, w=85, h=40)
    require_room(box)
    assert render_cover(replace(LONGEST, language=language, box=box))


@pytest.mark.parametrize(("y", "h"), [(39.0, 40.0), (61.0, 40.0)])
def test_a_window_without_room_around_it_is_refused(y: float, h: float) -> None:
    with pytest.raises(ValueError, match="address_box_mm"):
        require_room(AddressBox(y=y, h=h))


@pytest.mark.parametrize(
    ("language", "registered", "days", "wanted"),
    [
        ("nl", False, 90, "tot 90 dagen na de verzending"),
        ("nl", True, 90, "tot 90 dagen na de aflevering"),
        ("nl", False, 1, "tot 1 dag na de verzending"),
        ("fr", False, 1, "pendant 1 jour à partir de l\u2019envoi"),
        ("de", True, 30, "bis 30 Tage nach der Zustellung"),
        ("en", False, 365, "until 365 days after this letter was posted"),
    ],
)
def test_the_term_counts_from_posting_or_delivery(language: str, registered: bool, days: int, wanted: str) -> None:  # noqa: FBT001 a parameter
    page = replace(PAGE, language=language, registered=registered, term_days=days)
    assert wanted in " ".join(text_of(render_cover(page)).split())


@pytest.mark.parametrize(
    "changed",
    [
        {"sender_name": "\u738b"},
        {"public_contact": "\u0627\u0644"},
        {"return_address": ("\u05e9\u05dc",)},
        {"recipient": replace(ADDRESS, name="\u0e01")},
    ],
)
def test_a_sign_without_a_glyph_stops_the_page_and_is_not_named(changed: dict[str, Any]) -> None:
    with pytest.raises(Unprintable) as stopped:
        render_cover(replace(PAGE, **changed))
    assert stopped.value.code == "letters"
    assert str(stopped.value).isascii()


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("Łukasz Ňěő Șț", "Łukasz Ňěő Șț"),
        ("Ελλάς Жук", "Ελλάς Жук"),
        ("e\u0301", "é"),
        ("A\u00adB\u200bC", "ABC"),
        ("a\u00a0b\u2009c", "a b c"),
        ("\u3392", "MHz"),
    ],
)
def test_texts_are_printed_as_they_are_or_as_what_they_are_made_of(text: str, printed: str) -> None:
    assert printable(text) == printed


def test_a_portal_address_that_fits_on_no_line_stops_the_page() -> None:
    with pytest.raises(Unprintable, match="portal-address-too-long"):
        render_cover(replace(PAGE, portal_url=f"https://{'x' * 120}.example.be"))


def test_a_page_never_shows_what_is_on_it() -> None:
    shown = repr(PAGE) + repr(PAGE.secrets)
    assert not any(text in shown for text in ("Zoë", "7K3M", "4071", "Burgerzaken"))
