"""
A batch in XML and in JSON: its reader, its writer, its signature, and the unsigned messages that it lists.

The JSON form is what a batch's digest is taken over and what its JWS carries; it lives as long as the evidence, ten
years. Members stand in this order, which is that of the XML; a field that the sender left out is left out:

    gateway, reference, createdAt, sender {enterpriseNumber, ovoCode?, profile?}, items [{number, reference, sha256}]

`number` is a number, all else is text, written as in a message.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import zip_longest
from typing import Any, Final

from cryptography import x509
from lxml import etree

from gateway.crypto.canonical import canonical_json
from gateway.crypto.dialects import Dialect, is_json, is_token
from gateway.crypto.fields import Path, batch_from_json, message_from_json
from gateway.crypto.jws import strict_json
from gateway.crypto.jwssig import payload_of_stored, signer_of_token, verify_compact
from gateway.crypto.manifest import MESSAGE_ROOT, message_json, read_message, write_message
from gateway.crypto.schema import new_root, read_schema
from gateway.crypto.signing import SigningKey, sign_compact, sign_enveloped
from gateway.crypto.values import format_instant
from gateway.crypto.xmlsig import (
    MESSAGE_LIMIT_BYTES,
    SignerCheck,
    parse_stored,
    read_unsigned,
    signer_of_xml,
    verify_enveloped,
)
from gateway.domain.batch import Batch
from gateway.domain.message import Message
from gateway.errors import Kind, Refusal

__all__ = [
    "BATCH_CONTENT",
    "BATCH_LIMIT_BYTES",
    "ITEM_MEDIA_TYPES",
    "batch_json",
    "batch_sha256",
    "differing_batch_fields",
    "read_item",
    "read_stored_batch",
    "sign_batch",
    "signer_of_stored",
    "verify_batch",
    "write_batch",
    "write_item",
]

BATCH_LIMIT_BYTES: Final = 2 * 1024 * 1024
BATCH_CONTENT: Final = "batch+json"
"""The `cty` of a batch."""
ITEM_MEDIA_TYPES: Final = {Dialect.XML: "application/xml", Dialect.JWS: "application/json"}
"""The type of the part of an unsigned message, by how it is written."""

_NAMESPACE: Final = "urn:document-gateway:batch:1"
_ROOT: Final = f"{{{_NAMESPACE}}}Batch"
_POINTERS_SHOWN: Final = 100
_DIGITS: Final = re.compile(r"[0-9]{1,3}\Z")


def verify_batch(part: bytes, dialect: Dialect, *, signer: SignerCheck, limit_bytes: int) -> Batch | Refusal:
    """
    Return the batch that a valid signature covers, or the refusal that says why what it covers is none.

    Raises:
        Refusal: as `dialects.verify_message`.
    """
    if dialect is Dialect.JWS:
        fields = verify_compact(part, content=BATCH_CONTENT, signer=signer, limit_bytes=limit_bytes).fields
        try:
            return batch_from_json(fields)
        except Refusal as refusal:
            return refusal
    schema = read_schema("batch.xsd")
    signed = verify_enveloped(part, schema=schema, root_name=_ROOT, signer=signer, limit_bytes=limit_bytes)
    try:
        return _batch_of(signed.root)
    except Refusal as refusal:
        return refusal


@lru_cache(maxsize=2)
def read_stored_batch(part: bytes) -> Batch:
    """
    Return the batch of a part that was verified before it was stored; verifies nothing.

    The last ones are remembered: whoever looks at the items of a batch asks once for each.

    Raises:
        Refusal: it is none.
    """
    if is_token(part):
        return batch_from_json(payload_of_stored(part))
    return _batch_of(parse_stored(part))


def signer_of_stored(part: bytes) -> x509.Certificate:
    """
    Return the certificate in a batch that was verified before it was stored: who signed.

    Raises:
        Refusal: it is none.
    """
    return signer_of_token(part) if is_token(part) else signer_of_xml(part)


def read_item(part: bytes, dialect: Dialect, *, allow_test_ssin: bool) -> Message:
    """
    Return the message in a part whose digest a verified batch lists.

    Raises:
        Refusal: malformed-message, invalid-message; also when it carries a signature of its own.
    """
    if dialect is Dialect.XML:
        root = read_unsigned(part, schema=read_schema("message.xsd"), root_name=MESSAGE_ROOT)
        return read_message(root, allow_test_ssin=allow_test_ssin)
    if len(part) > MESSAGE_LIMIT_BYTES:
        raise Refusal(Kind.MALFORMED_MESSAGE, f"larger than {MESSAGE_LIMIT_BYTES} bytes")
    try:
        fields: object = strict_json(part) if is_json(part) else None
    except ValueError as exc:
        raise Refusal(Kind.MALFORMED_MESSAGE, f"not acceptable JSON: {exc}") from None
    if not isinstance(fields, dict):
        raise Refusal(Kind.MALFORMED_MESSAGE, "not a JSON object")
    return message_from_json(fields, allow_test_ssin=allow_test_ssin)


def sign_batch(dialect: Dialect, batch: Batch, key: SigningKey, certificate: x509.Certificate) -> bytes:
    """
    Return the `batch` part: a batch signed by its sender.

    Raises:
        ValueError: the key is not that of the certificate, or of a kind that the dialect does not take.
    """
    if dialect is Dialect.JWS:
        return sign_compact(batch_json(batch), key, certificate, content=BATCH_CONTENT)
    return sign_enveloped(write_batch(batch), key, certificate)


def write_item(dialect: Dialect, message: Message) -> bytes:
    """Return the part of an unsigned message: what the batch lists the SHA-256 of."""
    if dialect is Dialect.JWS:
        return canonical_json(message_json(message))
    return etree.tostring(write_message(message), encoding="UTF-8", xml_declaration=True)


def write_batch(batch: Batch) -> etree._Element:
    """Return the XML of a batch, unsigned and not indented."""
    root = new_root(_ROOT)
    fields = batch_json(batch)
    items = fields.pop("items")
    for name, value in fields.items():
        element = etree.SubElement(root, _tag(name))
        if isinstance(value, Mapping):
            for inner, text in value.items():
                etree.SubElement(element, _tag(inner)).text = text
        else:
            element.text = value
    listed = etree.SubElement(root, _tag("items"))
    for item in items:
        etree.SubElement(listed, _tag("item"), {name: str(value) for name, value in item.items()})
    return root


def batch_json(batch: Batch) -> dict[str, Any]:
    """Return all signed fields of a batch in their JSON form, in the order of the formats."""
    sender = {"enterpriseNumber": batch.sender, "ovoCode": batch.ovo_code, "profile": batch.profile}
    return {
        "gateway": batch.gateway,
        "reference": batch.reference,
        "createdAt": format_instant(batch.created_at),
        "sender": {name: value for name, value in sender.items() if value is not None},
        "items": [{"number": each.number, "reference": each.reference, "sha256": each.sha256} for each in batch.items],
    }


def batch_sha256(batch: Batch) -> bytes:
    """Return what makes two batches the same: the SHA-256 of the canonical JSON of all fields but `createdAt`."""
    fields = batch_json(batch)
    del fields["createdAt"]
    return hashlib.sha256(canonical_json(fields)).digest()


def differing_batch_fields(earlier: Batch, later: Batch) -> list[str]:
    """Return JSON pointers (RFC 6901) to the fields in which two batches differ, `createdAt` aside; at most 100."""
    one, other = batch_json(earlier), batch_json(later)
    ours, theirs = one.pop("items"), other.pop("items")
    names = sorted(name for name in one.keys() | other.keys() if name != "createdAt" and one[name] != other[name])
    items = [f"/items/{place}" for place, (our, their) in enumerate(zip_longest(ours, theirs)) if our != their]
    return [*(f"/{name}" for name in names), *items][:_POINTERS_SHOWN]


def _batch_of(root: etree._Element) -> Batch:
    fields: dict[str, object] = {}
    for child in root:
        name = _member(child)
        match name:
            case "items":
                fields[name] = [_item(item) for item in child]
            case "sender":
                fields[name] = {_member(each): each.text or "" for each in child}
            case _:
                fields[name] = child.text or ""
    return batch_from_json(fields, pointer=_xml_pointer)


def _item(element: etree._Element) -> dict[str, object]:
    found: dict[str, object] = {str(name): str(value) for name, value in element.items()}
    number = found.get("number")
    if isinstance(number, str) and _DIGITS.match(number):
        found["number"] = int(number)
    return found


def _member(element: etree._Element) -> str:
    name = etree.QName(element).localname
    return name[0].lower() + name[1:]


def _tag(name: str) -> str:
    return f"{{{_NAMESPACE}}}{name[0].upper()}{name[1:]}"


def _xml_pointer(path: Path) -> str:
    """Return the way to a field as an XPath of the XML: `/Batch/Items/Item[3]/@sha256`."""
    steps = ["Batch"]
    for step in path:
        if isinstance(step, int):
            steps.append(f"Item[{step + 1}]")
        elif steps[-1].startswith("Item["):
            steps.append(f"@{step}")
        else:
            steps.append(f"{step[0].upper()}{step[1:]}")
    return "/" + "/".join(steps)
