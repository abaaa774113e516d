#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["cryptography"]
# ///
"""
Sends one letter through the document-delivery gateway, signed as JSON Web Signature.

    send_jws.py REFERENCE RECIPIENT DOCUMENT.pdf [ANNEX.pdf ...]

REFERENCE   your own for this letter; the same one is never delivered twice, so after any doubt give the same command
RECIPIENT   a file as ../recipient.txt, or - to be asked: a personal number never stands on a command line

The rest comes from the variables of ../sender.env. Exit codes: 0 accepted, 1 refused, 2 wrong use, 3 no answer.
"""

import hashlib
import http.client
import json
import os
import re
import secrets
import ssl
import sys
import time
import unicodedata
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

PAUSES_S = (1, 2, 4, 8, 16, 32, 60)
LONGEST_PAUSE_S = 300  # when the gateway asks for more, such as a new day, a later run takes over
TRY_AGAIN = {408, 429, 500, 502, 503, 504}
ADDRESS = {
    "name": "name",
    "street": "street",
    "house number": "houseNumber",
    "box": "box",
    "postcode": "postcode",
    "municipality": "municipality",
    "country": "country",
}
# The algorithm of a curve, its hash, and how many octets each of the two numbers of its signature has (RFC 7518, 3.4).
ALGORITHM_OF_CURVE: dict[str, tuple[str, hashes.HashAlgorithm, int]] = {
    "secp256r1": ("ES256", hashes.SHA256(), 32),
    "secp384r1": ("ES384", hashes.SHA384(), 48),
}


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
        end(2, "usage: send_jws.py REFERENCE RECIPIENT DOCUMENT.pdf [ANNEX.pdf ...]")
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
    message = kept / f"{hashlib.sha256(signed).hexdigest()}.jws"
    message.write_bytes(signed)
    if not os.environ.get("GATEWAY_URL"):
        end(0, f"signed, not sent: {message}")

    answer = send_until_answered(signed, documents)
    message_id = verify(answer.body, reference, kept)
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


def build(reference: str, recipient: list[str], documents: list[Document]) -> dict[str, Any]:
    """Return the message, unsigned: message.schema.json says what it holds. What has no value is left out."""
    sender = {"enterpriseNumber": setting("SENDER_NUMBER")}
    if profile := os.environ.get("SENDER_PROFILE"):
        sender["profile"] = profile
    return {
        "gateway": setting("GATEWAY_NAME"),
        "reference": reference,
        "createdAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "sender": sender,
        "category": setting("LETTER_CATEGORY"),
        "purpose": composed(setting("LETTER_PURPOSE")),
        "recipient": read_fields(recipient),
        "subject": {"lang": setting("LETTER_LANGUAGE", "nl"), "text": composed(setting("LETTER_SUBJECT"))},
        "documents": [
            {
                "part": document.part,
                "filename": composed(document.file.name),
                "mediaType": "application/pdf",
                "size": document.size_bytes,
                "sha256": document.sha256,
                "main": number == 1,
            }
            for number, document in enumerate(documents, start=1)
        ],
    }


def read_fields(lines: list[str]) -> dict[str, Any]:
    """Return the number, and the address where there is one."""
    number = re.sub(r"[ ./-]", "", lines[0]) if lines else ""
    if not re.fullmatch(r"[0-9]{10,11}", number):
        end(2, "the first line of RECIPIENT must be a number: eleven digits (national) or ten (enterprise)")
    recipient: dict[str, Any] = {"ssin" if len(number) == len("YYMMDDNNNCC") else "enterpriseNumber": number}
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
    if "name" in fields:
        fields.setdefault("country", "BE")
        recipient["postalAddress"] = {name: composed(fields[key]) for key, name in ADDRESS.items() if key in fields}
    return recipient


def composed(text: str) -> str:
    """Return text in Unicode form NFC, which is what the gateway asks for."""
    return unicodedata.normalize("NFC", text)


def sign(message: dict[str, Any]) -> bytes:
    """Return the message as compact JWS; not a byte may be added afterwards, a line end neither."""
    certificate = read_certificate(setting("SENDER_CERTIFICATE"))
    key = load_pem_private_key(Path(setting("SENDER_KEY")).read_bytes(), None)
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = "PS256"
    elif isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in ALGORITHM_OF_CURVE:
        algorithm, curve_hash, width = ALGORITHM_OF_CURVE[key.curve.name]
    else:
        end(2, "SENDER_KEY must be RSA, P-256 or P-384")
    # The header holds these three and nothing else; x5c the signing certificate alone, in base64 and not base64url.
    x5c = [b64encode(certificate.public_bytes(Encoding.DER)).decode()]
    header = {"alg": algorithm, "cty": "message+json", "x5c": x5c}
    data = b".".join(to_base64url(json.dumps(each, ensure_ascii=False).encode()) for each in (header, message))
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(
            data, padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size), hashes.SHA256()
        )
    else:  # both numbers side by side, not as the DER that libraries give
        numbers = decode_dss_signature(key.sign(data, ec.ECDSA(curve_hash)))
        signature = b"".join(number.to_bytes(width, "big") for number in numbers)
    return data + b"." + to_base64url(signature)


def to_base64url(octets: bytes) -> bytes:
    """Return octets in base64url without padding."""
    return urlsafe_b64encode(octets).rstrip(b"=")


def from_base64url(text: str) -> bytes:
    """Return the octets of base64url without padding."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


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
        connection.putheader("Accept", "application/json")  # the receipt stands in it, a JWS too
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
        "Content-Type: application/jose\r\n\r\n".encode()
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


def verify(answer: bytes, reference: str, kept: Path) -> str:
    """Return the messageId of a receipt that the gateway signed, about a message that was kept; keep the receipt."""
    certificate = read_certificate(setting("RECEIPT_CERTIFICATE"))
    try:
        receipt = str(json.loads(answer)["receipt"])
        facts = read_receipt(receipt, certificate)
    except (ValueError, KeyError, TypeError, InvalidSignature) as error:
        end(1, f"the receipt's signature is not valid: {type(error).__name__} {error}")
    ours = (setting("GATEWAY_NAME"), setting("SENDER_NUMBER"), reference)
    if (facts.get("iss"), facts.get("sender"), facts.get("reference")) != ours:
        end(1, "the receipt is for another letter")
    accepted = str(facts.get("messageSha256"))
    if not re.fullmatch("[0-9a-f]{64}", accepted) or not (kept / f"{accepted}.jws").is_file():
        end(1, f"the receipt is for a signed message that is not in {kept}")
    (kept / "receipt.jws").write_text(receipt, "ascii")
    return str(facts["sub"])


def read_receipt(receipt: str, certificate: x509.Certificate) -> dict[str, Any]:
    """Return what a receipt states, once the certificate that you were given verifies it, not the one inside."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        end(2, "RECEIPT_CERTIFICATE is no receipt certificate: its key is not on P-256")
    header, payload, signature = (from_base64url(part) for part in receipt.split("."))
    stated = json.loads(header)
    if (stated["alg"], stated["typ"]) != ("ES256", "dgw-receipt+jws"):  # never what the token would like
        raise ValueError("it is no receipt")
    if len(signature) != len(b"rs") * 32:
        raise ValueError("its signature is too short or too long")
    numbers = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    key.verify(encode_dss_signature(*numbers), receipt.rpartition(".")[0].encode(), ec.ECDSA(hashes.SHA256()))
    facts: dict[str, Any] = json.loads(payload)
    return facts


if __name__ == "__main__":
    main(sys.argv[1:])
