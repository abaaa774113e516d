"""
The verification kit of a message: a ZIP with all that the gateway signed about it, and how to verify that without us.

It holds no letter and no name: documents appear as digests, the recipient not at all.
"""

import json
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC
from io import BytesIO
from typing import Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.crypto.batches import signer_of_stored
from gateway.crypto.certs import parse_certificate
from gateway.crypto.dialects import is_token
from gateway.stores.model import MessageRecord

RECEIPT_JWS: Final = "receipt.jws"
RECEIPT_XML: Final = "receipt.xml"
BATCH_XML: Final = "batch.xml"
BATCH_JWS: Final = "batch.jws"
SENDER: Final = "sender.pem"

_README: Final = """\
Verification kit of message {message_id}
given by {gateway}

In it:
- {receipt_jws} and {receipt_xml}: the receipt, which is the gateway's statement that it accepted the message, in two
  forms with the same facts.
- evidence/NNN.jws: one statement for each thing that happened to the message, in order; the first is the acceptance.
  Each is a JSON Web Signature (RFC 7515): three parts between dots, the middle one the facts in Base64url. They are
  statements of a non-qualified service (Regulation (EU) 910/2014), and say so.
- certificates/N.pem: the certificates that signed them.
{batch}
The letter is not in here. Its documents are named by their SHA-256 (`sha256sum letter.pdf`), and the message that the
sender signed by messageSha256.

A kit cannot vouch for itself: compare the certificates with what the gateway's operator published, or with
GET /api/v1/trust. A certificate had to be valid when the statement was made ("iat", seconds since 1970).

To verify all of it with openssl and xmlsec1, unpack it and paste this into a shell there. Each statement must answer
"Verified OK", each XML "OK".

{commands}
"""

_BATCH: Final = """\
- {name}: the batch in which the message came, as its sender signed it. The message itself carries no signature: it is
  proved by its messageSha256, {message_sha256},
  which stands in the batch under its reference. Of the other messages of the batch nothing stands there but references
  and digests.
- {sender}: the certificate with which the sender signed the batch, out of its signature.
"""

# ES256 signatures are two numbers of 32 octets (RFC 7518, section 3.4); openssl wants them as a DER sequence.
_VERIFY: Final = r"""
verify() {
  cut -d. -f1,2 "$2" | tr -d '\n' > signed.tmp
  { cut -d. -f3 "$2" | tr -d '\n' | tr -- '-_' '+/'; printf '=='; } | openssl base64 -d -A > value.tmp
  R=$(head -c 32 value.tmp | od -An -v -tx1 | tr -d ' \n')
  S=$(tail -c 32 value.tmp | od -An -v -tx1 | tr -d ' \n')
  printf 'asn1=SEQUENCE:v\n[v]\nr=INTEGER:0x%s\ns=INTEGER:0x%s\n' "$R" "$S" > value.cnf.tmp
  openssl asn1parse -genconf value.cnf.tmp -noout -out value.der.tmp
  openssl x509 -in "$1" -noout -pubkey > key.tmp
  printf '%s: ' "$2"
  openssl dgst -sha256 -verify key.tmp -signature value.der.tmp signed.tmp
}
"""


def build_kit(
    record: MessageRecord,
    statements: Sequence[str],
    certificates: Sequence[x509.Certificate],
    *,
    gateway: str,
    batch: bytes | None = None,
) -> bytes:
    """
    Return the ZIP of a message's receipt and `statements`, with the certificates that signed them. Blocks.

    `batch` holds the octets of the batch that proves the message, when it came in one.

    `certificates` are those that the gateway stands by; one that signed and is not among them comes last.
    """
    signed: dict[str, str] = {RECEIPT_JWS: record.receipt_jws}
    signed |= {f"evidence/{number:03}.jws": token for number, token in enumerate(statements, start=1)}
    files = _certificate_files([*certificates, *(signer_of(token) for token in signed.values())])
    names = {content: name for name, content in files.items()}
    signers = {name: names[_pem(signer_of(token))] for name, token in signed.items()}
    readme = _README.format(
        message_id=record.message_id,
        gateway=gateway,
        receipt_jws=RECEIPT_JWS,
        receipt_xml=RECEIPT_XML,
        batch="" if batch is None else _batch_text(record, batch),
        commands=_commands(signers, batch),
    )
    contents: dict[str, bytes] = {
        "README.txt": readme.encode(),
        RECEIPT_XML: record.receipt_xml,
        **{name: token.encode() for name, token in signed.items()},
        **files,
    }
    if batch is not None:
        contents |= {_batch_name(batch): batch, SENDER: _pem(signer_of_stored(batch))}
    return _zip(contents, record)


def signer_of(token: str) -> x509.Certificate:
    """Return the certificate in the header of a statement of ours; it says who signed, not that it may be trusted."""
    head = token.partition(".")[0]
    header = json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    return parse_certificate(b64decode(header["x5c"][0]))


def _certificate_files(certificates: Sequence[x509.Certificate]) -> dict[str, bytes]:
    once = dict.fromkeys(_pem(certificate) for certificate in certificates)
    return {f"certificates/{number}.pem": content for number, content in enumerate(once, start=1)}


def _batch_name(batch: bytes) -> str:
    return BATCH_JWS if is_token(batch) else BATCH_XML


def _batch_text(record: MessageRecord, batch: bytes) -> str:
    return _BATCH.format(name=_batch_name(batch), message_sha256=record.message_sha256.hex(), sender=SENDER)


def _commands(signers: Mapping[str, str], batch: bytes | None) -> str:
    lines = [*_VERIFY.strip().splitlines()]
    lines += [f"verify {certificate} {name}" for name, certificate in signers.items()]
    lines.append(
        f"xmlsec1 --verify --id-attr:Id urn:document-gateway:receipt:1:Receipt"
        f" --pubkey-cert-pem {signers[RECEIPT_JWS]} {RECEIPT_XML}"
    )
    if batch is not None and not is_token(batch):
        lines.append(
            f"xmlsec1 --verify --id-attr:Id urn:document-gateway:batch:1:Batch --pubkey-cert-pem {SENDER} {BATCH_XML}"
        )
    return "\n".join(f"    {line}" for line in lines)


def _zip(contents: Mapping[str, bytes], record: MessageRecord) -> bytes:
    made = BytesIO()
    at = record.accepted_at.astimezone(UTC).timetuple()[:6]
    with ZipFile(made, "w", ZIP_STORED) as archive:
        for name, content in sorted(contents.items()):
            archive.writestr(ZipInfo(name, at), content)
    return made.getvalue()


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
