"""
The same message in every way that XML can be written, signed by one implementation and verified by two others.

The text is written with odd white space, comments, CDATA, references, prefixes and attributes; xmlsec signs what it
reads in it; ours and signxml must both take it for the same message. Then it is spoilt, and both must still agree.
"""

import random
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import event, given, settings
from hypothesis import strategies as st
from lxml import etree

from gateway.crypto.manifest import read_message
from gateway.domain.message import Message
from gateway.errors import Kind, Refusal

if TYPE_CHECKING:
    from tests.plugins.second_opinion import agreed, signed_octets
else:
    from second_opinion import agreed, signed_octets

NS = "urn:document-gateway:message:1"
DS = "http://www.w3.org/2000/09/xmldsig#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"

CONTENT = f"""
<Message xmlns="{NS}" Id="message"><Gateway>gateway.example.be</Gateway><Reference>2026-000123</Reference>
<CreatedAt>2026-11-22T10:00:00Z</CreatedAt>
<Sender><EnterpriseNumber>0406798006</EnterpriseNumber><Profile>burgerzaken</Profile></Sender>
<Category>tax-assessment</Category><Purpose>Aanslagbiljet &amp; bijlage &lt;2026&gt; "één"</Purpose>
<Recipient><Ssin>90610100155</Ssin></Recipient><Subject lang="nl">Uw aanslagbiljet 📄</Subject>
<Print duplex="true" colour="false"/>
<Documents><Document part="upfile1" filename="brief's &quot;één&quot;.pdf" mediaType="application/pdf" size="102400"
sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" main="true"/></Documents></Message>
""".strip()
SIGNATURE = """
<{p}Signature{xmlns}>{s}<{p}SignedInfo>{s}<{p}CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"
/>{s}<{p}SignatureMethod Algorithm="{method}" />{s}<{p}Reference URI="{uri}">{s}<{p}Transforms>{s}<{p}Transform
Algorithm='http://www.w3.org/2000/09/xmldsig#enveloped-signature'/>{s}<{p}Transform
 Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></{p}Transform>{s}</{p}Transforms>{s}<{p}DigestMethod
Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/>{s}<{p}DigestValue>DIGEST</{p}DigestValue>{s}</{p}Reference>{s}
</{p}SignedInfo>{s}<{p}SignatureValue>VALUE</{p}SignatureValue>{s}<{p}KeyInfo>{s}<{p}X509Data><{p}X509Certificate
>{certificate}</{p}X509Certificate></{p}X509Data></{p}KeyInfo></{p}Signature>
""".strip()


@dataclass(frozen=True, kw_only=True)
class Party:
    key_file: Path
    certificate: x509.Certificate
    method: str


@pytest.fixture(scope="session")
def parties(certs: Path) -> list[Party]:
    """One with an EC key on P-256 and one with an RSA key."""
    methods = {"gemeente": f"{MORE}ecdsa-sha256", "belasting": f"{MORE}rsa-sha256"}
    return [
        Party(
            key_file=certs / f"{name}.key",
            certificate=x509.load_pem_x509_certificates((certs / f"{name}.pem").read_bytes())[0],
            method=method,
        )
        for name, method in methods.items()
    ]


# ── Writing it oddly ──

SPACES = ("", "", " ", "\n", "\r\n", "\r", "\t", "&#13;", "&#13;\n", "&#xD;&#xA;", "&#9;", "&#x20;")
COMMENTS = ("", "", "", "<!-- -->", "<!---->", "<!-- <Ssin>1</Ssin> & ]]> -->", "<!--é-->")
DECLARATIONS = ("", "", "", ' xmlns:x="urn:x"', f' xmlns:m2="{NS}"', f" xmlns:d='{DS}'", ' xmlns:e="urn:%C3%A9"')
BETWEEN_ATTRIBUTES = (" ", "  ", "\n", "\r\n", "\t")
PREFIXES = ("", "", "m:", "n2.-_:", "é:")
SEAL_PREFIXES = ("", "ds:", "x.y:", "ñ:")


class Writer:
    """Writes XML in one of the ways that mean the same, by the throw of dice."""

    def __init__(self, seed: int) -> None:
        self.one_of = random.Random(seed).choice
        self.prefix = self.one_of(PREFIXES)

    def between(self) -> str:
        return self.one_of(SPACES) + self.one_of(COMMENTS) + self.one_of(SPACES)

    def element(self, element: etree._Element, declared: str = "") -> str:
        name = self.prefix + etree.QName(element).localname
        attributes = [self._attribute(str(name), str(value)) for name, value in element.items()]
        ordered = attributes[:: self.one_of((1, -1))]
        start = f"<{name}{declared}{self.one_of(DECLARATIONS)}{''.join(ordered)}{self.one_of(('', ' '))}"
        if len(element):
            inside = self.between() + "".join(self.element(child) + self.between() for child in element)
        elif element.text:
            inside = "".join(map(self._character, element.text))
        else:
            return self.one_of((f"{start}/>", f"{start}></{name}>", f"{start}></{name}\n>"))
        return f"{start}>{inside}</{name}{self.one_of(('', ' '))}>"

    def _attribute(self, name: str, value: str) -> str:
        quote = self.one_of("'\"")
        escaped = "".join(f"&#{ord(each)};" if each in "'\"&<" else each for each in value)
        return f"{self.one_of(BETWEEN_ATTRIBUTES)}{name}{self.one_of(('=', ' = '))}{quote}{escaped}{quote}"

    def _character(self, character: str) -> str:
        if character in "&<>":
            return self.one_of((f"&#{ord(character)};", f"<![CDATA[{character}]]>"))
        odd = (f"&#{ord(character)};", f"&#x{ord(character):x};", f"<![CDATA[{character}]]>", f"<!---->{character}")
        return self.one_of((*[character] * 30, *odd))


def written(seed: int, party: Party) -> str:
    """The message with a signature that is to be filled in."""
    writer = Writer(seed)
    one_of, between = writer.one_of, writer.between
    prefix = one_of(SEAL_PREFIXES)
    own, xmlns = declaration(writer.prefix, NS), declaration(prefix, DS)
    at_root = prefix != "" and one_of((True, False))
    root = writer.element(etree.fromstring(CONTENT), own + (xmlns if at_root else ""))
    certificate = b64encode(party.certificate.public_bytes(Encoding.DER)).decode()
    seal = SIGNATURE.format(
        p=prefix,
        s=one_of(SPACES),
        xmlns="" if at_root else xmlns,
        method=party.method,
        uri=one_of(("", "#message")),
        certificate=f"{one_of(SPACES)}{certificate[:64]}{one_of(SPACES)}{certificate[64:]}{one_of(SPACES)}",
    )
    end = root.rindex("</")
    start = one_of(("", "<?xml version='1.0'?>\r\n", "\ufeff"))
    return f"{start}{one_of(COMMENTS)}{root[:end]}{seal}{between()}{root[end:]}{one_of(COMMENTS)}\n"


def declaration(prefix: str, namespace: str) -> str:
    return f' xmlns:{prefix[:-1]}="{namespace}"' if prefix else f' xmlns="{namespace}"'


def signed_by_xmlsec(text: str, party: Party) -> bytes:
    """Fill in the two values, and leave every other octet as it is."""
    root = etree.fromstring(text.encode())
    xmlsec.tree.add_ids(root, ["Id"])
    signature = root.find(f"{{{DS}}}Signature")
    assert signature is not None
    for element in (signature[1], signature[0][2][2]):
        element.text = ""
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_file(str(party.key_file), xmlsec.constants.KeyDataFormatPem)
    context.sign(signature)
    return text.replace("DIGEST", signature[0][2][2].text or "").replace("VALUE", signature[1].text or "").encode()


@pytest.fixture(scope="session")
def message() -> Message:
    return read_message(etree.fromstring(CONTENT), allow_test_ssin=True)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**64), place=st.sampled_from([0, 1]))
def test_both_take_it_for_the_same_message_however_it_is_written(
    seed: int, place: int, parties: list[Party], message: Message
) -> None:
    party = parties[place]
    body = signed_by_xmlsec(written(seed, party), party)
    assert read_message(agreed(body, party.certificate).root, allow_test_ssin=True) == message


SPOILING = (
    b"<!-- -->", b"&#13;", b"\r", b"\n", b" ", b"&#x1F600;", b"<![CDATA[]]>", b"<![CDATA[ ]]>", b"</ds:Signature>",
    b' Id="message"', b' xmlns=""', b' xmlns="urn:x"', b' xmlns:ds="urn:x"', b' xmlns:void="relative"', b"<x/>", b"=",
    b"&amp;", b"\xc2\xa0", b"A", b"0",
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    seed=st.integers(0, 2**64),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(SPOILING) | st.binary(max_size=2), st.booleans()),
        min_size=1,
        max_size=2,
    ),
)
def test_both_agree_about_it_when_it_is_spoilt(
    seed: int, changes: list[tuple[float, bytes, bool]], parties: list[Party], message: Message
) -> None:
    party = parties[seed % 2]
    body = signed_by_xmlsec(written(seed, party), party)
    for place, new, instead in changes:
        start = int(place * len(body))
        body = body[:start] + new + body[start + (len(new) if instead else 0) :]
    try:
        signed = agreed(body, party.certificate)
    except Refusal as refusal:
        event(f"{refusal.kind}")
        return
    event("accepted")
    assert read_message(signed.root, allow_test_ssin=True) == message


# ── Single cases ──


def plain(party: Party, *, before: str = "", after: str = "", uri: str = "", at_root: str = "") -> str:
    certificate = b64encode(party.certificate.public_bytes(Encoding.DER)).decode()
    seal = SIGNATURE.format(
        p="ds:",
        s="",
        xmlns="" if at_root else f' xmlns:ds="{DS}"',
        method=party.method,
        uri=uri,
        certificate=certificate,
    )
    content = CONTENT.replace("<Message", f"<Message{at_root}", 1)
    end = content.rindex("</")
    return f"{content[:end]}{before}{seal}{after}{content[end:]}"


SPLITS = [("", " \n "), (" ", "\n "), (" \n", " "), (" \n ", "")]


@pytest.mark.parametrize("split", SPLITS)
def test_the_text_behind_the_signature_is_signed_as_the_text_before_it_is(
    split: tuple[str, str], parties: list[Party]
) -> None:
    party = parties[0]
    body = signed_by_xmlsec(plain(party, before=split[0], after=split[1]), party).decode()
    found = {etree.tostring(agreed(body.encode(), party.certificate).root)}
    start, end = body.index("<ds:Signature"), body.index("</ds:Signature>") + len("</ds:Signature>")
    seal, before, after = body[start:end], body[: start - len(split[0])], body[end + len(split[1]) :]
    # The signature may stand anywhere in the white space that is signed around it, and none of that may go.
    for first, second in SPLITS:
        moved = f"{before}{first}{seal}{second}{after}".encode()
        found.add(etree.tostring(agreed(moved, party.certificate).root))
    assert len(found) == 1
    for first, second in (("", ""), (" ", ""), ("", " "), (" \n", ""), ("", "\n "), (" \n", "\n")):
        with pytest.raises(Refusal, match="digest value does not match"):
            agreed(f"{before}{first}{seal}{second}{after}".encode(), party.certificate)


@pytest.mark.parametrize("party", [0, 1], ids=["EC", "RSA"])
def test_signed_info_uses_the_namespaces_of_its_place(party: int, parties: list[Party]) -> None:
    signer = parties[party]
    text = plain(signer, at_root=f' xmlns:ds="{DS}" xmlns:unused="urn:unused"', uri="#message")
    body = signed_by_xmlsec(text, signer)
    agreed(body, signer.certificate)
    renamed = body.replace(b"ds:", b"dsig:").replace(b"xmlns:ds=", b"xmlns:dsig=")
    with pytest.raises(Refusal, match="signature value does not match"):
        agreed(renamed, signer.certificate)


STUMBLED_OVER = {
    "a carriage return behind the signature": {"after": "&#13;\n"},
    "a prefix that is not ASCII": {"at_root": f' xmlns:ds="{DS}" xmlns:é="urn:x"'},
}


@pytest.mark.parametrize("odd", STUMBLED_OVER.values(), ids=STUMBLED_OVER)
def test_what_signxml_stumbles_over_is_taken_as_xmlsec_takes_it(odd: dict[str, str], parties: list[Party]) -> None:
    party = parties[0]
    body = signed_by_xmlsec(plain(party, **odd), party)
    assert signed_octets(body, party.certificate) is None
    assert_xmlsec_verifies(body, party)
    agreed(body, party.certificate)
    with pytest.raises(Refusal, match="digest value does not match"):
        agreed(body.replace(b"90610100155", b"90610100254"), party.certificate)


def assert_xmlsec_verifies(body: bytes, party: Party) -> None:
    root = etree.fromstring(body)
    xmlsec.tree.add_ids(root, ["Id"])
    context = xmlsec.SignatureContext()
    pem = party.certificate.public_bytes(Encoding.PEM)
    context.key = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatCertPem)
    signature = root.find(f"{{{DS}}}Signature")
    assert signature is not None
    context.verify(signature)


def test_the_second_opinion_is_one(parties: list[Party]) -> None:
    party, other = parties
    body = signed_by_xmlsec(plain(party), party)
    assert b"90610100155" in (signed_octets(body, party.certificate) or b"")
    assert signed_octets(body, other.certificate) is None
    assert signed_octets(body.replace(b"90610100155", b"90610100254"), party.certificate) is None
    with pytest.raises(Refusal) as caught:
        agreed(body, other.certificate)
    assert caught.value.kind is Kind.SIGNER_MISMATCH
