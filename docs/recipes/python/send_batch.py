#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["cryptography"]
# ///
"""
Sends many letters through the document-delivery gateway under one signature: a batch, as JSON Web Signature.

    send_batch.py BATCH FOLDER [FOLDER ...]

BATCH       your own reference for the batch; after any doubt give the same command, and nothing is delivered twice
FOLDER      one letter, of at most 500: a folder that is named as the letter's reference and holds recipient.txt, as
            ../recipient.txt, and the documents, *.pdf; the first by name is the letter, the others are its annexes

What became of each letter is printed, a line each. The rest comes from the variables of ../sender.env. Exit codes:
0 all accepted, 1 some refused or all, 2 wrong use, 3 no answer.
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
REFERENCE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
MOST_LETTERS = 500
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
class Letter:
    """One letter of the batch: its reference, the octets of its message, and the files behind it."""

    reference: str
    message: bytes
    documents: list[Document]


@dataclass(frozen=True)
class Answer:
    """What the gateway said."""

    status: int
    retry_after: str
    body: bytes


def main(arguments: list[str]) -> None:
    """Sign the batch, send it until it is answered, and keep the receipts."""
    reference, folders = "".join(arguments[:1]), arguments[1:]
    if not 1 <= len(folders) <= MOST_LETTERS:
        end(2, f"usage: send_batch.py BATCH FOLDER [FOLDER ...], at most {MOST_LETTERS} folders")
    os.umask(0o077)  # what is written here names persons
    if not REFERENCE.fullmatch(reference):
        end(2, "BATCH is 1 to 64 of A-Z a-z 0-9 . _ -")
    kept = Path(os.environ.get("SENT_FOLDER", "sent"), reference)
    kept.mkdir(parents=True, exist_ok=True)
    letters = [read_letter(number, Path(folder), kept) for number, folder in enumerate(folders, start=1)]
    if len({letter.reference for letter in letters}) < len(letters):
        end(2, "each letter has a reference of its own: two folders have the same name")
    signed = sign(build_batch(reference, letters), "batch+json")
    # Kept under its digest, before it leaves: together with m1.json, m2.json ... it proves what the receipts are about.
    batch = kept / f"{hashlib.sha256(signed).hexdigest()}.jws"
    batch.write_bytes(signed)
    if not os.environ.get("GATEWAY_URL"):
        end(0, f"signed, not sent: {batch}")

    answer = send_until_answered(signed, letters)
    end(tell(json.loads(answer.body)["items"], letters, kept), f"keep {kept}")


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


# ── The letters ──


def read_letter(number: int, folder: Path, kept: Path) -> Letter:
    """Return a letter. Its message is made once: sent again under the same batch, it must have the same digest."""
    reference, file = folder.resolve().name, kept / f"m{number}.json"
    if not REFERENCE.fullmatch(reference):
        end(2, f"{folder}: the name of the folder is the letter's reference, 1 to 64 of A-Z a-z 0-9 . _ -")
    found = sorted(folder.glob("*.pdf"))
    if not found or not (folder / "recipient.txt").is_file():
        end(2, f"{folder} holds no recipient.txt, or no document")
    documents = [read_document(place, each) for place, each in enumerate(found, start=1)]
    if not file.exists():
        recipient = (folder / "recipient.txt").read_text("utf-8").strip().splitlines()
        message = build(reference, recipient, documents)
        file.write_bytes(json.dumps(message, ensure_ascii=False, indent=1).encode())
    octets = file.read_bytes()
    if json.loads(octets)["reference"] != reference:
        end(2, f"{kept} is of a batch in which letter {number} was another; name the batch anew")
    return Letter(reference, octets, documents)


def build_batch(reference: str, letters: list[Letter]) -> dict[str, Any]:
    """Return the batch, unsigned: batch.schema.json says what it holds. It may be signed anew at any time."""
    return {
        "gateway": setting("GATEWAY_NAME"),
        "reference": reference,
        "createdAt": now(),
        "sender": sender(),
        "items": [
            {"number": number, "reference": each.reference, "sha256": hashlib.sha256(each.message).hexdigest()}
            for number, each in enumerate(letters, start=1)
        ],
    }


def now() -> str:
    """Return the time as it stands in messages."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def sender() -> dict[str, str]:
    """Return who sends: the same in the batch and in each message."""
    found = {"enterpriseNumber": setting("SENDER_NUMBER")}
    if profile := os.environ.get("SENDER_PROFILE"):
        found["profile"] = profile
    return found


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
    """Return a message, which stays unsigned: message.schema.json says what it holds."""
    return {
        "gateway": setting("GATEWAY_NAME"),
        "reference": reference,
        "createdAt": now(),
        "sender": sender(),
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
        end(2, "the first line of recipient.txt must be a number: eleven digits (national) or ten (enterprise)")
    recipient: dict[str, Any] = {"ssin" if len(number) == len("YYMMDDNNNCC") else "enterpriseNumber": number}
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
    if "name" in fields:
        fields.setdefault("country", "BE")
        recipient["postalAddress"] = {name: composed(fields[key]) for key, name in ADDRESS.items() if key in fields}
    return recipient


def composed(text: str) -> str:
    """Return text in Unicode form NFC, which is what the gateway asks for."""
    return unicodedata.normalize("NFC", text)


def sign(batch: dict[str, Any], content: str) -> bytes:
    """Return the batch as compact JWS; not a byte may be added afterwards, a line end neither."""
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
    header = {"alg": algorithm, "cty": content, "x5c": x5c}
    data = b".".join(to_base64url(json.dumps(each, ensure_ascii=False).encode()) for each in (header, batch))
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


def send_until_answered(batch: bytes, letters: list[Letter]) -> Answer:
    """
    Return the answer that tells of each letter. The references make it safe to send the same as often as it takes.

    When the connection broke, the letters before that stay accepted; here all are sent again. (The batch alone, without
    any letter, is a valid request too: the answer tells which are missing.)
    """
    tls = ssl.create_default_context(cafile=setting("GATEWAY_CA"))
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.load_cert_chain(setting("SENDER_CERTIFICATE"), setting("SENDER_KEY"))
    for usual_pause_s in (*PAUSES_S, None):
        pause_s = usual_pause_s
        try:
            answer = post(tls, batch, letters)
        except (OSError, http.client.HTTPException) as error:  # no answer, or a broken one
            say(f"no answer: {error}")
        else:
            problem = answer.body.decode("utf-8", "replace")
            if answer.status == http.HTTPStatus.OK:
                return answer
            if answer.status not in TRY_AGAIN:
                end(1, f"{answer.status} {problem}")  # the same again would be refused again: mend it first
            say(f"{answer.status} {problem}")
            if pause_s is not None and re.fullmatch("[0-9]{1,9}", answer.retry_after):
                pause_s = int(answer.retry_after)
        if pause_s is None or pause_s > LONGEST_PAUSE_S:
            break
        time.sleep(pause_s)
    end(3, "no answer yet; what arrived is unknown: give the same command again later")


def post(tls: ssl.SSLContext, batch: bytes, letters: list[Letter]) -> Answer:
    """Send the request once; the documents are read while they are sent."""
    boundary = f"batch-{secrets.token_hex(16)}"
    url = urlsplit(setting("GATEWAY_URL"))
    connection = http.client.HTTPSConnection(url.hostname or "", url.port, timeout=120, context=tls)
    try:
        connection.putrequest("POST", f"{url.path.rstrip('/')}/api/v1/batches", skip_accept_encoding=True)
        connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
        connection.putheader("Content-Length", str(sum(length for length, _ in pieces(boundary, batch, letters))))
        connection.putheader("Accept", "application/json")  # the receipts stand in it
        connection.endheaders()
        try:
            for _, piece in pieces(boundary, batch, letters):
                connection.send(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a gateway that refuses the batch answers before it has read everything
        response = connection.getresponse()
        return Answer(response.status, response.headers.get("Retry-After", ""), response.read())
    finally:
        connection.close()


def pieces(boundary: str, batch: bytes, letters: list[Letter]) -> Iterator[tuple[int, bytes | Iterator[bytes]]]:
    """Yield the body (RFC 7578) with the length of each piece: the batch, then each message with its documents."""
    yield known(f"--{boundary}\r\n{head('batch', 'application/jose')}".encode())
    yield known(batch)
    for number, letter in enumerate(letters, start=1):
        yield known(f"\r\n--{boundary}\r\n{head(f'm{number}', 'application/json')}".encode())
        yield known(letter.message)
        for document in letter.documents:
            filename = composed(document.file.name)
            name = f'm{number}-{document.part}"; filename="{filename}'
            yield known(f"\r\n--{boundary}\r\n{head(name, 'application/pdf')}".encode())
            yield document.size_bytes, content(document.file)
    yield known(f"\r\n--{boundary}--\r\n".encode())


def head(name: str, media_type: str) -> str:
    """Return the two headers of a part, and no others."""
    return f'Content-Disposition: form-data; name="{name}"\r\nContent-Type: {media_type}\r\n\r\n'


def known(piece: bytes) -> tuple[int, bytes]:
    """Return bytes with their length."""
    return len(piece), piece


def content(file: Path) -> Iterator[bytes]:
    """Yield a file in pieces."""
    with file.open("rb") as stream:
        while chunk := stream.read(65_536):
            yield chunk


# ── What became of the letters ──


def tell(items: list[dict[str, Any]], letters: list[Letter], kept: Path) -> int:
    """Print what became of each letter, keep the receipts, and return the exit code."""
    certificate, code = read_certificate(setting("RECEIPT_CERTIFICATE")), 0
    for letter, item in zip(letters, items, strict=True):
        outcome = item["outcome"]
        if outcome in ("accepted", "repeated"):  # repeated: the gateway had it before, alone or in another batch
            print(letter.reference, outcome, verify(item["receipt"], letter, outcome, certificate, kept))  # noqa: T201 - the output of this program
            continue
        code = 1
        print(letter.reference, outcome, item.get("code", ""))  # noqa: T201 - the output of this program
        if "problem" in item:  # why: mend it, and send the letter again, alone or in another batch
            say(f"{letter.reference}: {json.dumps(item['problem'], ensure_ascii=False)}")
    return code


def verify(receipt: str, letter: Letter, outcome: str, certificate: x509.Certificate, kept: Path) -> str:
    """Return the messageId of a receipt that the gateway signed, about this letter; keep the receipt."""
    try:
        facts = read_receipt(receipt, certificate)
    except (ValueError, KeyError, TypeError, InvalidSignature) as error:
        end(1, f"the receipt's signature is not valid: {type(error).__name__} {error}")
    ours = (setting("GATEWAY_NAME"), setting("SENDER_NUMBER"), letter.reference)
    if (facts.get("iss"), facts.get("sender"), facts.get("reference")) != ours:
        end(1, "a receipt is for another letter")
    if outcome == "accepted" and facts.get("messageSha256") != hashlib.sha256(letter.message).hexdigest():
        end(1, "a receipt is for another message than was sent")
    (kept / f"{letter.reference}.receipt.jws").write_text(receipt, "ascii")
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
