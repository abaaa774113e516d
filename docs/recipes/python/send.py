#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["cryptography", "lxml", "signxml"]
# ///
"""
Sends one letter through the document-delivery gateway.

    send.py REFERENCE RECIPIENT DOCUMENT.pdf [ANNEX.pdf ...]

REFERENCE   your own for this letter; the same one is never delivered twice, so after any doubt give the same command
RECIPIENT   a file as ../recipient.txt, or - to be asked: a personal number never stands on a command line

The rest comes from the variables of ../sender.env. Exit codes: 0 accepted, 1 refused, 2 wrong use, 3 no answer.
"""

import hashlib
import http.client
import os
import re
import secrets
import ssl
import sys
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureConstructionMethod, SignatureMethod
from signxml.exceptions import InvalidInput, SignXMLException
from signxml.signer import XMLSigner
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

MESSAGE = "{urn:document-gateway:message:1}"
RECEIPT = "{urn:document-gateway:receipt:1}"
PAUSES_S = (1, 2, 4, 8, 16, 32, 60)
LONGEST_PAUSE_S = 300  # when the gateway asks for more, such as a new day, a later run takes over
TRY_AGAIN = {408, 429, 500, 502, 503, 504}
ADDRESS = ("name", "street", "house number", "box", "postcode", "municipality", "country")


@dataclass(frozen=True)
class Document:
    """One file of the letter, and how it stands in the message."""

    file: Path
    part: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Answer:
    """What the gateway said."""

    status: int
    retry_after: str
    body: bytes


def main(arguments: list[str]) -> None:
    """Sign the letter, send it until it is accepted or refused, and keep the receipt."""
    if len(arguments) < 3:  # noqa: PLR2004 - the usage says which three
        end(2, "usage: send.py REFERENCE RECIPIENT DOCUMENT.pdf [ANNEX.pdf ...]")
    os.umask(0o077)  # what is written here names a person
    reference, recipient, *files = arguments
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", reference):
        end(2, "REFERENCE is 1 to 64 of A-Z a-z 0-9 . _ -")
    documents = [read_document(number, Path(file)) for number, file in enumerate(files, start=1)]
    signed = sign(build(reference, read_recipient(recipient), documents))

    # Kept under its digest, before it leaves: the receipt names the digest of the message that the gateway accepted,
    # which after a lost answer may be one that was signed in an earlier run.
    kept = Path(os.environ.get("SENT_FOLDER", "sent"), reference)
    kept.mkdir(parents=True, exist_ok=True)
    message = kept / f"{hashlib.sha256(signed).hexdigest()}.xml"
    message.write_bytes(signed)
    if not os.environ.get("GATEWAY_URL"):
        end(0, f"signed, not sent: {message}")

    answer = send_until_answered(signed, documents)
    message_id = verify(answer.body, reference, kept)
    (kept / "receipt.xml").write_bytes(answer.body)
    print(answer.status, message_id)  # noqa: T201 - the output of this program
    end(0, f"accepted; keep {kept}")


def setting(name: str, default: str | None = None) -> str:
    """Return a variable of sender.env."""
    value = os.environ.get(name) or default
    if value is None:
        end(2, f"{name} is not set; see sender.env")
    return value


def say(text: str) -> None:
    """Tell the person at the terminal, or the log."""
    print(text, file=sys.stderr)  # noqa: T201 - the output of this program


def end(code: int, text: str) -> NoReturn:
    """Say the last word."""
    say(text)
    sys.exit(code)


# ── The letter ──


def read_recipient(source: str) -> list[str]:
    """Return the lines that name the recipient; the first is the number."""
    if source == "-":
        if sys.stdin.isatty():
            say("National or enterprise number, then name:, street: and so on; end with Ctrl-D")
        return sys.stdin.read().strip().splitlines()
    if not Path(source).is_file():
        end(2, "RECIPIENT is no file")
    return Path(source).read_text("utf-8").strip().splitlines()


def read_document(number: int, file: Path) -> Document:
    """Return a file with its size and digest, read piece by piece."""
    if not re.fullmatch(r"[^\x00-\x1f\"\\;/]+", file.name):
        end(2, f'give this file a name without ", \\, ; and control characters: {file.name}')
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return Document(file=file, part=f"upfile{number}", size_bytes=stream.tell(), sha256=digest)
    except OSError as error:
        end(2, f"{file} cannot be read: {error.strerror}")


def build(reference: str, recipient: list[str], documents: list[Document]) -> etree._Element:
    """Return the message, unsigned; the order of the elements is that of message.xsd."""
    namespaces = {None: MESSAGE.strip("{}")}
    message = etree.Element(f"{MESSAGE}Message", {"Id": "message"}, nsmap=namespaces)  # type: ignore[arg-type]  # the stubs forget the default namespace
    add(message, "Gateway", setting("GATEWAY_NAME"))
    add(message, "Reference", reference)
    add(message, "CreatedAt", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    sender = add(message, "Sender")
    add(sender, "EnterpriseNumber", setting("SENDER_NUMBER"))
    if profile := os.environ.get("SENDER_PROFILE"):
        add(sender, "Profile", profile)
    add(message, "Category", setting("LETTER_CATEGORY"))
    add(message, "Purpose", setting("LETTER_PURPOSE"))
    add_recipient(add(message, "Recipient"), recipient)
    add(message, "Subject", setting("LETTER_SUBJECT"), lang=setting("LETTER_LANGUAGE", "nl"))
    manifest = add(message, "Documents")
    for number, document in enumerate(documents, start=1):
        add(
            manifest,
            "Document",
            part=document.part,
            filename=unicodedata.normalize("NFC", document.file.name),
            mediaType="application/pdf",
            size=str(document.size_bytes),
            sha256=document.sha256,
            main="true" if number == 1 else "false",
        )
    return message


def add_recipient(element: etree._Element, lines: list[str]) -> None:
    """Add the number, and the address where there is one."""
    number = re.sub(r"[ ./-]", "", lines[0]) if lines else ""
    if not re.fullmatch(r"[0-9]{10,11}", number):
        end(2, "the first line of RECIPIENT must be a number: eleven digits (national) or ten (enterprise)")
    add(element, "Ssin" if len(number) == len("YYMMDDNNNCC") else "EnterpriseNumber", number)
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
    if "name" in fields:
        address = add(element, "PostalAddress")
        fields.setdefault("country", "BE")
        for key in ADDRESS:
            if key in fields:
                add(address, key.title().replace(" ", ""), fields[key])


def add(parent: etree._Element, name: str, text: str | None = None, **attributes: str) -> etree._Element:
    """Add an element; texts are NFC, which is what the gateway asks for."""
    child = etree.SubElement(parent, MESSAGE + name, attributes)
    child.text = text and unicodedata.normalize("NFC", text)
    return child


def sign(message: etree._Element) -> bytes:
    """Return the message with its signature; not to be indented or otherwise changed afterwards."""
    certificate = read_certificate(setting("SENDER_CERTIFICATE"))
    is_ec = isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    signer = XMLSigner(
        method=SignatureConstructionMethod.enveloped,
        signature_algorithm=SignatureMethod.ECDSA_SHA256 if is_ec else SignatureMethod.RSA_SHA256,
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    )
    # KeyInfo holds the signing certificate alone, without those that issued it.
    signed = signer.sign(message, key=Path(setting("SENDER_KEY")).read_bytes(), cert=[certificate])
    return etree.tostring(signed, encoding="UTF-8", xml_declaration=True)


def read_certificate(file: str) -> x509.Certificate:
    """Return the first certificate of a PEM file."""
    return x509.load_pem_x509_certificates(Path(file).read_bytes())[0]


# ── The request ──


def send_until_answered(message: bytes, documents: list[Document]) -> Answer:
    """Return the acceptance. The reference makes it safe to send the same message as often as it takes."""
    tls = ssl.create_default_context(cafile=setting("GATEWAY_CA"))
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.load_cert_chain(setting("SENDER_CERTIFICATE"), setting("SENDER_KEY"))
    for usual_pause_s in (*PAUSES_S, None):
        pause_s = usual_pause_s
        try:
            answer = post(tls, message, documents)
        except (OSError, http.client.HTTPException) as error:  # no answer, or a broken one
            say(f"no answer: {error}")
        else:
            problem = answer.body.decode("utf-8", "replace")
            if answer.status in (200, 201):
                return answer
            if answer.status not in TRY_AGAIN and "still-receiving" not in problem:
                end(1, f"{answer.status} {problem}")  # the same again would be refused again: mend it first
            say(f"{answer.status} {problem}")
            if pause_s is not None and re.fullmatch("[0-9]{1,9}", answer.retry_after):
                pause_s = int(answer.retry_after)
        if pause_s is None or pause_s > LONGEST_PAUSE_S:
            break
        time.sleep(pause_s)
    end(3, "no acceptance yet; whether it arrived is unknown: give the same command again later")


def post(tls: ssl.SSLContext, message: bytes, documents: list[Document]) -> Answer:
    """Send the request once; the documents are read while they are sent."""
    boundary = f"letter-{secrets.token_hex(16)}"
    url = urlsplit(setting("GATEWAY_URL"))
    connection = http.client.HTTPSConnection(url.hostname or "", url.port, timeout=120, context=tls)
    try:
        connection.putrequest("POST", f"{url.path.rstrip('/')}/api/v1/messages", skip_accept_encoding=True)
        connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
        connection.putheader("Content-Length", str(sum(length for length, _ in pieces(boundary, message, documents))))
        connection.putheader("Accept", "application/xml")  # the receipt as signed XML; JSON without it
        connection.endheaders()
        try:
            for _, piece in pieces(boundary, message, documents):
                connection.send(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a gateway that refuses early answers before it has read everything
        response = connection.getresponse()
        return Answer(response.status, response.headers.get("Retry-After", ""), response.read())
    finally:
        connection.close()


def pieces(boundary: str, message: bytes, documents: list[Document]) -> Iterator[tuple[int, bytes | Iterator[bytes]]]:
    """Yield the body (RFC 7578) with the length of each piece: the message first, the documents in their order."""
    yield known(
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="message"\r\n'
        "Content-Type: application/xml\r\n\r\n".encode()
    )
    yield known(message)
    for document in documents:
        filename = unicodedata.normalize("NFC", document.file.name)
        yield known(
            f"\r\n--{boundary}\r\n"
            f'Content-Disposition: form-data; name="{document.part}"; filename="{filename}"\r\n'
            "Content-Type: application/pdf\r\n\r\n".encode()
        )
        yield document.size_bytes, content(document.file)
    yield known(f"\r\n--{boundary}--\r\n".encode())


def known(piece: bytes) -> tuple[int, bytes]:
    """Return bytes with their length."""
    return len(piece), piece


def content(file: Path) -> Iterator[bytes]:
    """Yield a file in pieces."""
    with file.open("rb") as stream:
        while chunk := stream.read(65_536):
            yield chunk


# ── The receipt ──


def verify(receipt: bytes, reference: str, kept: Path) -> str:
    """Return the messageId of a receipt that the gateway signed, about a message that was kept."""
    certificate = read_certificate(setting("RECEIPT_CERTIFICATE"))
    try:
        # Only the receipt certificate that you were given may verify it; the one inside the receipt proves nothing.
        result = XMLVerifier().verify(
            receipt,
            x509_cert=certificate,
            expect_config=SignatureConfiguration(location="./", expect_references=1),
        )
    except (SignXMLException, InvalidInput, etree.XMLSyntaxError) as error:
        end(1, f"the receipt's signature is not valid: {error}")
    # Believe only what the verifier returns, never the document that came in.
    root = result.signed_xml if isinstance(result, VerifyResult) else None
    if root is None or root.tag != f"{RECEIPT}Receipt":
        end(1, "what the gateway signed is no receipt")
    facts = {name: root.findtext(RECEIPT + name, "") for name in ("Gateway", "Sender", "Reference", "MessageSha256")}
    ours = (setting("GATEWAY_NAME"), setting("SENDER_NUMBER"), reference)
    if (facts["Gateway"], facts["Sender"], facts["Reference"]) != ours:
        end(1, "the receipt is for another letter")
    accepted = facts["MessageSha256"]
    if not re.fullmatch("[0-9a-f]{64}", accepted) or not (kept / f"{accepted}.xml").is_file():
        end(1, f"the receipt is for a signed message that is not in {kept}")
    return root.findtext(f"{RECEIPT}MessageId", "")


if __name__ == "__main__":
    main(sys.argv[1:])
