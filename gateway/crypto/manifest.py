"""
A message in XML and in JSON: the only reader and the only writer of our XML.

The JSON form is what `content_sha256` is taken over and what the JWS dialect carries; it lives as long as the evidence,
ten years. Members stand in this order, which is that of the XML; a field that the sender left out is left out:

    gateway, reference, createdAt, sender {enterpriseNumber, ovoCode?, profile?}, category, purpose,
    recipient {ssin? | enterpriseNumber?, postalAddress? {name, street, houseNumber, box?, postcode, municipality,
    country}}, forTheAttentionOf?, subject {lang, text}, channels? [...], print? {product, duplex, colour, priority,
    cover}, retention?, deliverNotBefore?, deliverBefore?, lane?, billingReference?,
    documents [{part, filename, mediaType, size, sha256, main, signed}]

`size` is a number, `duplex`, `colour`, `main` and `signed` are booleans, all else is text, written as in the XML. Times
are `2026-11-22T10:00:00Z`, with six digits of fraction only when it is not zero. What has a default (the members of
`print`, and `signed`) always stands there with its value, so that stating the default and leaving it out are the same.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from lxml import etree

from gateway.crypto.canonical import canonical_json
from gateway.crypto.fields import Path, message_from_json
from gateway.crypto.schema import new_root
from gateway.crypto.values import format_instant
from gateway.domain.message import DocumentEntry, Message, PostalAddress, PrintOptions

__all__ = [
    "MESSAGE_NAMESPACE",
    "MESSAGE_ROOT",
    "content_sha256",
    "differing_fields",
    "message_json",
    "read_message",
    "write_message",
    "xml_pointer",
]

MESSAGE_NAMESPACE: Final = "urn:document-gateway:message:1"
MESSAGE_ROOT: Final = f"{{{MESSAGE_NAMESPACE}}}Message"

_DIGITS: Final = re.compile(r"[0-9]{1,12}\Z")
_TRUTHS: Final = {"true": True, "false": False}
_TRUTH_ATTRIBUTES: Final = frozenset({"duplex", "colour", "main", "signed"})
_ITEM_NAMES: Final = {"channels": "Channel", "documents": "Document"}


def read_message(root: etree._Element, *, allow_test_ssin: bool) -> Message:
    """
    Return the message that a verified root states, once every rule of every field holds.

    `root` comes from `xmlsig.verify_enveloped`: closed by the schema and without comments. `allow_test_ssin` admits the
    numbers that belong to nobody.

    Raises:
        Refusal: INVALID_MESSAGE with every fault at once, each with a pointer such as `/Message/Recipient/Ssin`.
    """
    return message_from_json(_json_of(root), allow_test_ssin=allow_test_ssin, pointer=xml_pointer)


def write_message(message: Message) -> etree._Element:
    """Return the XML of a message, unsigned and not indented; `read_message` gives the same message back."""
    root = new_root(MESSAGE_ROOT)
    _write_members(root, message_json(message))
    return root


def message_json(message: Message) -> dict[str, Any]:
    """Return all signed fields of a message in their JSON form, in the order of the formats."""
    recipient = message.recipient
    fields: dict[str, Any] = {
        "gateway": message.gateway,
        "reference": message.reference,
        "createdAt": format_instant(message.created_at),
        "sender": {
            "enterpriseNumber": message.sender,
            "ovoCode": message.ovo_code,
            "profile": message.profile,
        },
        "category": message.category,
        "purpose": message.purpose,
        "recipient": {
            "ssin": recipient.ssin,
            "enterpriseNumber": recipient.enterprise_number,
            "postalAddress": recipient.address and _address_json(recipient.address),
        },
        "forTheAttentionOf": message.attention_of,
        "subject": {"lang": message.language, "text": message.subject},
        "channels": [str(channel) for channel in message.channels] or None,
        "print": message.print_options and _print_json(message.print_options),
        "retention": message.retention and f"P{message.retention.days}D",
        "deliverNotBefore": message.deliver_not_before and format_instant(message.deliver_not_before),
        "deliverBefore": message.deliver_before and format_instant(message.deliver_before),
        "lane": message.lane and str(message.lane),
        "billingReference": message.billing_reference,
        "documents": [_document_json(document) for document in message.documents],
    }
    return _without_absent(fields)


def content_sha256(message: Message) -> bytes:
    """
    Return what makes two messages the same: the SHA-256 of the canonical JSON (RFC 8785) of all fields but `createdAt`.

    Equal for the same content in every dialect, and when a sender signs it again later.
    """
    fields = message_json(message)
    del fields["createdAt"]
    return hashlib.sha256(canonical_json(fields)).digest()


def differing_fields(earlier: Message, later: Message) -> list[str]:
    """
    Return JSON pointers (RFC 6901) to the fields in which two messages differ, `createdAt` aside, sorted.

    Pointers only, never values: they go into a `reference-conflict` answer.
    """
    one, other = message_json(earlier), message_json(later)
    del one["createdAt"], other["createdAt"]
    return sorted(_differences(one, other, ""))


def _differences(one: object, other: object, path: str) -> list[str]:
    if one == other:
        return []
    if not isinstance(one, dict) or not isinstance(other, dict):
        return [path]
    names = one.keys() | other.keys()
    return [found for name in names for found in _differences(one.get(name), other.get(name), f"{path}/{name}")]


def _address_json(address: PostalAddress) -> dict[str, Any]:
    return {
        "name": address.name,
        "street": address.street,
        "houseNumber": address.house_number,
        "box": address.box,
        "postcode": address.postcode,
        "municipality": address.municipality,
        "country": address.country,
    }


def _print_json(options: PrintOptions) -> dict[str, Any]:
    return {
        "product": str(options.product),
        "duplex": options.duplex,
        "colour": options.colour,
        "priority": str(options.priority),
        "cover": str(options.cover),
    }


def _document_json(document: DocumentEntry) -> dict[str, Any]:
    return {
        "part": document.part,
        "filename": document.filename,
        "mediaType": document.media_type,
        "size": document.size_bytes,
        "sha256": document.sha256,
        "main": document.main,
        "signed": document.signed,
    }


def _without_absent(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_absent(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if value is not None
    }


def _json_of(element: etree._Element) -> dict[str, object]:
    fields: dict[str, object] = {}
    for child in element:
        name = _member(child.tag)
        match name:
            case "subject":
                fields[name] = {"lang": child.get("lang"), "text": child.text or ""}
            case "channels":
                fields[name] = [channel.text or "" for channel in child]
            case "print":
                fields[name] = _json_of_attributes(child)
            case "documents":
                fields[name] = [_json_of_attributes(document) for document in child]
            case _:
                fields[name] = _json_of(child) if len(child) else child.text or ""
    return fields


@lru_cache(maxsize=128)
def _member(tag: str) -> str:
    name = tag.rpartition("}")[2]
    return name[0].lower() + name[1:]


def _json_of_attributes(element: etree._Element) -> dict[str, object]:
    return {str(name): _typed(str(name), str(value)) for name, value in element.items()}


def _typed(name: str, text: str) -> object:
    """Return an attribute as its JSON type; text that is no such value stays text, and the rules refuse it."""
    if name in _TRUTH_ATTRIBUTES:
        return _TRUTHS.get(text, text)
    if name == "size" and _DIGITS.match(text):
        return int(text)
    return text


def _write_members(parent: etree._Element, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        element = etree.SubElement(parent, _tag(name))
        match name:
            case "subject":
                element.set("lang", value["lang"])
                element.text = value["text"]
            case "channels":
                for channel in value:
                    etree.SubElement(element, _tag(_ITEM_NAMES[name])).text = channel
            case "print":
                _write_attributes(element, value)
            case "documents":
                for document in value:
                    _write_attributes(etree.SubElement(element, _tag(_ITEM_NAMES[name])), document)
            case _ if isinstance(value, Mapping):
                _write_members(element, value)
            case _:
                element.text = value


def _write_attributes(element: etree._Element, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        element.set(name, str(value).lower() if isinstance(value, bool) else str(value))


def _tag(name: str) -> str:
    return f"{{{MESSAGE_NAMESPACE}}}{name[0].upper()}{name[1:]}"


def xml_pointer(path: Path) -> str:
    """Return the way to a field as an XPath of the XML: `/Message/Documents/Document[1]/@filename`."""
    steps = ["Message"]
    for place, step in enumerate(path):
        above = path[place - 1] if place else ""
        match above, step:
            case ("subject", "text"):
                continue
            case ("subject", "lang") | ("print", str()) | (int(), str()):
                steps.append(f"@{step}")
            case ("channels", str()):
                steps.append(str(step))
            case (str(), int()):
                steps.append(f"{_ITEM_NAMES[str(above)]}[{int(step) + 1}]")
            case _:
                steps.append(f"{str(step)[0].upper()}{str(step)[1:]}")
    return "/" + "/".join(steps)
