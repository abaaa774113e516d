"""Heads of parts: what they may say, and how it is written."""

import warnings
from urllib.parse import quote

import pytest
from aiohttp.multipart import parse_content_disposition
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import Kind, Refusal
from gateway.intake.part_heads import parse_boundary, parse_disposition, parse_head

TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40)


def disposition(text: str) -> tuple[str, str] | None:
    try:
        return parse_disposition(text)
    except Refusal as refusal:
        if refusal.kind is not Kind.MULTIPART_INVALID:
            raise
        return None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('form-data; name="message"', ("message", "")),
        ("form-data; name=message", ("message", "")),
        ("Form-Data;NAME=message", ("message", "")),
        ('form-data \t;\t name="m" ; filename=a.pdf', ("m", "a.pdf")),
        ('form-data; filename="a.pdf"; name="m"', ("m", "a.pdf")),
        ('form-data; name="m"; filename="a; b; c=\\"d\\".pdf"', ("m", 'a; b; c="d".pdf')),
        ('form-data; name="m"; filename="a\\\\b"', ("m", "a\\b")),
        ('form-data; name="m"; filename="é ± ž.pdf"', ("m", "é ± ž.pdf")),
        ('form-data; name="m"; filename="%22.pdf"', ("m", "%22.pdf")),
        ("form-data; name=\"m\"; filename*=UTF-8''%e2%82%ac%20.pdf", ("m", "€ .pdf")),
        ('form-data; name="m"; filename="euro.pdf"; filename*=utf-8\'nl\'%E2%82%AC.pdf', ("m", "€.pdf")),
        ("form-data; name=\"m\"; filename*=UTF-8''; filename=a.pdf", ("m", "")),
        ('form-data; name=""', ("", "")),
        ('form-data; name="m"; size=12', ("m", "")),
    ],
)
def test_a_disposition_is_read(text: str, expected: tuple[str, str]) -> None:
    assert parse_disposition(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "form-data",
        "form-data;",
        'form-data; name="m";',
        'form-data; ; name="m"',
        'form-data; name="m" filename="a"',
        'form-data; name="m", filename="a"',
        "form-data; name",
        "form-data; name=",
        "form-data; name =m",
        "form-data; name= m",
        "form-data; name=m n",
        'form-data; name="m',
        'form-data; name=m"',
        'form-data; name="m"n',
        'form-data; name="m\\"',
        'form-data; name="\\m"',
        'form-data; name="m"; name="m"',
        'form-data; name="m"; NAME="n"',
        'form-data; name="m"; filename="a"; Filename="b"',
        'form-data; name="m"; filename="a"b"',
        "form-data; name=\"m\"; filename*=UTF-8''a; FILENAME*=UTF-8''b",
        'form-data; name="m"; filename*=a.pdf',
        'form-data; name="m"; filename*="UTF-8\'\'a.pdf"',
        "form-data; name=\"m\"; filename*=UTF-8''%ff",
        "form-data; name=\"m\"; filename*=UTF-8''%e2%82",
        "form-data; name=\"m\"; filename*=UTF-8''%4",
        "form-data; name=\"m\"; filename*=UTF-8''a b",
        "form-data; name=\"m\"; filename*=utf-16''a",
        "form-data; name=\"m\"; filename*=iso-8859-1''a",
        "form-data; name=\"m\"; filename*=''a",
        'form-data; name="m"; x*=nonsense',
        "form-data; name*=UTF-8''m",
        "form-data; filename=a.pdf",
        'attachment; name="m"',
        'form-datum; name="m"',
        'form-data/x; name="m"',
        '"form-data"; name="m"',
        "; name=m",
        "name=m",
    ],
)
def test_a_disposition_that_is_not_plain_is_refused(text: str) -> None:
    assert disposition(text) is None


@given(name=TEXTS, filename=TEXTS, is_extended=st.booleans())
def test_what_was_written_is_read(name: str, filename: str, *, is_extended: bool) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    written = f"filename*=UTF-8''{quote(filename, safe='')}" if is_extended else f"filename={quoted(filename)}"
    assert parse_disposition(f"form-data; name={quoted(name)}; {written}") == (name, filename)


def as_aiohttp_reads(text: str) -> tuple[str, str] | None:
    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always")
        kind, parameters = parse_content_disposition(text)
    if doubts or kind != "form-data" or "name" not in parameters:
        return None
    return parameters["name"], parameters.get("filename*", parameters.get("filename", ""))


FRAGMENTS = [
    "form-data", "; name=", "; filename=", "; filename*=", "; x=", ";", "=", '"', "\\", '\\"', "\\\\", "'", "UTF-8''",
    "%41", "%e2%82%ac", "%", "a", "b.pdf", " ", "\t", "é", "*", ",",
]  # fmt: skip


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join).map("form-data; name=".__add__))
@example('form-data; name="a"; filename="b;c"')
@example("form-data; name=a; filename*=UTF-8''%e2%82%ac")
def test_whatever_another_reader_takes_too_it_takes_for_the_same(text: str) -> None:
    ours, theirs = disposition(text), as_aiohttp_reads(text)
    if ours is not None and theirs is not None:
        # It leaves out slashes and backslashes at the beginning of a quoted text.
        assert tuple(each.lstrip("\\/") for each in ours) == tuple(each.lstrip("\\/") for each in theirs)


# ── Whole heads ──

PLAIN = b'Content-Disposition: form-data; name="m"; filename="a.pdf"'


@pytest.mark.parametrize(
    "octets",
    [
        PLAIN + b"\r\nContent-Type: application/pdf",
        b"content-type:application/pdf \t\r\nCONTENT-LENGTH: nonsense\r\n" + PLAIN.lower() + b" ",
    ],
)
def test_a_head_is_read(octets: bytes) -> None:
    head = parse_head(octets)
    assert (head.name, head.filename, head.media_type) == ("m", "a.pdf", "application/pdf")


def test_a_type_may_be_missing_and_is_kept_as_it_is() -> None:
    assert parse_head(PLAIN).media_type == ""
    assert parse_head(PLAIN + b"\r\nContent-Type: A/B; c=D").media_type == "A/B; c=D"


@pytest.mark.parametrize(
    ("octets", "detail"),
    [
        (b"", "each part needs Content-Disposition"),
        (b"Content-Type: application/pdf", "each part needs Content-Disposition"),
        (PLAIN + b"\r\n" + PLAIN, "a header twice"),
        (PLAIN + b"\r\ncontent-disposition: x", "a header twice"),
        (PLAIN + b"\r\nX-B: 1\r\nX-A: 1", "the header x-a"),
        (PLAIN + b"\r\nContent-Transfer-Encoding: base64", "the header content-transfer-encoding"),
        (PLAIN + b"\r\nContent-Type: multipart/mixed", "nested"),
        (PLAIN + b"\r\nContent-Type: Multipart/Form-Data; boundary=b", "nested"),
        (PLAIN + b"\r\nContent-Type: multipart", "nested"),
        (PLAIN.replace(b'"m"', b'"_charset_"'), "_charset_"),
        (PLAIN.replace(b'"m"', b"_charset_"), "_charset_"),
        (PLAIN.replace(b'"m"', b'"m'), "not well formed"),
        (b"hello", "cannot be told apart"),
        (PLAIN + b"\r\n", "cannot be told apart"),
        (PLAIN + b"\r\n folded", "cannot be told apart"),
        (PLAIN + b"\r\nContent-Type : a/b", "cannot be told apart"),
        (PLAIN + b"\r\n: a/b", "cannot be told apart"),
        (PLAIN + b"\nContent-Type: a/b", "cannot be told apart"),
        (PLAIN + b"\rContent-Type: a/b", "cannot be told apart"),
        (PLAIN.replace(b'"m"', b'"m\0"'), "cannot be told apart"),
        (PLAIN.replace(b'"m"', b'"m\x7f"'), "cannot be told apart"),
        (PLAIN.replace(b'"m"', b'"\xff"'), "cannot be told apart"),
    ],
)
def test_a_head_that_says_anything_else_is_refused(octets: bytes, detail: str) -> None:
    with pytest.raises(Refusal, match=detail) as refused:
        parse_head(octets)
    assert refused.value.kind is Kind.MULTIPART_INVALID


# ── The boundary ──


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=simple", "simple"),
        ("Multipart/Form-Data;charset=utf-8 ; BOUNDARY=----WebKitForm7MA4YWxk", "----WebKitForm7MA4YWxk"),
        ('multipart/form-data; boundary="b c"; x="; boundary=y"', "b c"),
        ("multipart/form-data; boundary=----=_Part_0_12/34:5.6", "----=_Part_0_12/34:5.6"),
        ("multipart/form-data; boundary=" + "a" * 70, "a" * 70),
    ],
)  # fmt: skip
def test_a_boundary_is_read(content_type: str, boundary: str) -> None:
    assert parse_boundary(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "multipart/form-data",
        "multipart/form-data;",
        "multipart/form-data; charset=utf-8",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="b "',
        'multipart/form-data; boundary="b',
        'multipart/form-data; boundary="b\\"c"',
        "multipart/form-data; boundary=b c",
        "multipart/form-data; boundary=b; boundary=c",
        "multipart/form-data; boundary=b; Boundary=b",
        "multipart/form-data; boundary=é",
        "multipart/form-data; boundary=b\r\n",
        "multipart/form-data; boundary=" + "a" * 71,
        "multipart/form-data, boundary=b",
        ", multipart/form-data; boundary=b",
        'multipart/form-data; x="; boundary=y"',
    ],
)
def test_a_type_without_one_usable_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(Refusal, match="no usable boundary"):
        parse_boundary(content_type)
