"""
Parts that are small enough for the event loop, at their worst: what would be dear is refused before it is begun.

The dear steps are the schema, which writes a long fault about each thing that it does not know, the canonical form,
whose time grows with the square of the namespaces, and the mathematics of a signature.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gateway.crypto import xmlsig
from gateway.crypto.manifest import MESSAGE_ROOT
from gateway.crypto.schema import read_schema
from gateway.errors import Kind, Refusal

if TYPE_CHECKING:
    from tests.plugins.forging import Signer, forge
else:
    from forging import Signer, forge

ON_THE_LOOP_BYTES = 32 * 1024

Make = Callable[[bytes, int], bytes]


def filled(place: bytes, filling: Callable[[int], bytes]) -> Make:
    """So much of a filling behind `place` as there is room for."""

    def make(body: bytes, room: int) -> bytes:
        inside = b"".join(filling(number) for number in range(room // len(filling(9_999))))
        return body.replace(place, place + inside, 1)

    return make


def attributes_everywhere(body: bytes, room: int) -> bytes:
    each = b"".join(b' a%d=""' % number for number in range(33))
    return re.sub(rb"<[A-Z][A-Za-z]*", lambda found: found[0] + each, body, count=room // len(each))


def deeper_and_deeper(body: bytes, room: int) -> bytes:
    nested = b"<a>" * 33 + b"</a>" * 33
    return body.replace(b"<Recipient>", b"<Recipient>" + nested * (room // len(nested)), 1)


SCHEMA, MATHEMATICS = ("schema_faults",), ("_canonical_form", "verify_value")
BEFORE_THE_PARSER = ("_parse",)

# The part, the detail of its refusal, and what must not have begun by then.
EARLY: dict[str, tuple[Make, str, tuple[str, ...]]] = {
    "deep": (deeper_and_deeper, "elements nested deeper than 32", SCHEMA),
    "deeper than the parser goes": (
        lambda body, room: body.replace(b"<Recipient>", b"<Recipient>" + b"<a>" * (room // 3), 1),
        "not well-formed XML",
        SCHEMA,
    ),
    "attributes of the root": (filled(b"<Message", lambda n: b' a%d=""' % n), "more than 32 attributes", SCHEMA),
    "attributes of a leaf": (filled(b"<Purpose", lambda n: b' a%d=""' % n), "more than 32 attributes", SCHEMA),
    "attributes of the signature": (filled(b"<ds:X509Data", lambda n: b' a%d=""' % n), "more than 32", SCHEMA),
    "attributes of every element": (attributes_everywhere, "more than 32 attributes", SCHEMA),
    "comments": (filled(b"<Purpose>", lambda _: b"<!---->"), "more than 200 comments", BEFORE_THE_PARSER),
    "text in pieces": (filled(b"<Recipient>", lambda _: b"x<!---->"), "more than 200 comments", BEFORE_THE_PARSER),
    "namespaces of the root": (
        filled(b"<Message", lambda n: b' xmlns:a%d="urn:a"' % n),
        "more than 32 namespaces",
        MATHEMATICS,
    ),
    "namespaces of a leaf": (
        filled(b"<Purpose", lambda n: b' xmlns:a%d="urn:a"' % n),
        "more than 32 namespaces",
        MATHEMATICS,
    ),
    "objects": (filled(b"</ds:SignatureValue>", lambda _: b"<ds:Object/>"), "object", MATHEMATICS),
    "references": (filled(b"</ds:SignatureMethod>", lambda _: b'<ds:Reference URI=""/>'), "reference-c", MATHEMATICS),
    "transforms": (filled(b"<ds:Transforms>", lambda _: b'<ds:Transform Algorithm=""/>'), "transforms", MATHEMATICS),
    "certificates": (filled(b"<ds:X509Data>", lambda _: b"<ds:X509Certificate/>"), "key-info", MATHEMATICS),
    "signatures": (filled(b"</Documents>", lambda _: b"<s:Signature xmlns:s='http://www.w3.org/2000/09/xmldsig#'/>"),
                   "signature-count", (*SCHEMA, *MATHEMATICS)),
    "attributes that no schema closes": (
        filled(b"<Recipient>", lambda _: b"<a xml:a=''/>"),
        "the message does not keep its schema",
        (*SCHEMA, *MATHEMATICS),
    ),
    "elements": (filled(b"<Recipient>", lambda _: b"<a/>"), "the message does not keep its schema", MATHEMATICS),
    "documents": (filled(b"<Documents>", lambda _: b"<Document/>"), "the message does not keep", MATHEMATICS),
}  # fmt: skip


@pytest.mark.parametrize("case", EARLY.values(), ids=EARLY)
def test_what_would_be_dear_is_refused_before_it_is_begun(
    case: tuple[Make, str, tuple[str, ...]], honest_xml: bytes, gemeente: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, detail, dear = case
    signed = forge(honest_xml, gemeente).replace(b'ecdsa-sha256"/>', b'ecdsa-sha256"></ds:SignatureMethod>')
    body = make(signed, ON_THE_LOOP_BYTES - len(signed))
    assert len(signed) + 1_000 < len(body) <= ON_THE_LOOP_BYTES

    def begun(*_: object) -> None:
        raise AssertionError("it was begun")

    for name in dear:
        monkeypatch.setattr(xmlsig, name, begun)
    with pytest.raises(Refusal) as caught:
        xmlsig.verify_enveloped(body, schema=read_schema("message.xsd"), root_name=MESSAGE_ROOT, signer=begun)
    assert caught.value.kind in (Kind.MALFORMED_MESSAGE, Kind.INVALID_MESSAGE, Kind.SIGNATURE_INVALID)
    assert caught.value.detail.startswith(detail)


def test_a_part_with_few_declarations_is_not_searched_for_namespaces(honest_xml: bytes, gemeente: Signer) -> None:
    """The word in a text counts like a declaration, and then every element is looked at; neither refuses it."""
    words = honest_xml.replace(b"Aanslagbiljet", b"xmlns " * 20, 1).replace(b"Uw aans", b"xmlns xmlns " * 10 + b"aans")
    assert words.count(b"xmlns") > 32
    signed = forge(words, gemeente)
    xmlsig.verify_enveloped(signed, schema=read_schema("message.xsd"), root_name=MESSAGE_ROOT, signer=lambda *_: None)
