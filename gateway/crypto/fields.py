"""
The rules of a message's fields, whichever dialect carried them: every fault is found and told at once.

What is read here is the JSON form that `manifest.message_json` writes; the XML dialect is turned into it first. A field
that is absent is left out: null is no value of any field.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from gateway.crypto import values
from gateway.crypto.values import WrongValue
from gateway.domain.batch import MAX_ITEMS, Batch, BatchItem
from gateway.domain.ids import (
    EnterpriseNumber,
    InvalidIdentifier,
    parse_enterprise_number,
    parse_ovo_code,
    parse_reference,
    parse_slug,
    parse_ssin,
)
from gateway.domain.message import (
    Channel,
    Cover,
    DocumentEntry,
    Lane,
    Message,
    PostalAddress,
    PrintOptions,
    PrintProduct,
    Priority,
    Recipient,
)
from gateway.errors import FieldError, Kind, Refusal

__all__ = ["Path", "batch_from_json", "json_pointer", "message_from_json"]

T = TypeVar("T")
Path = tuple[str | int, ...]
"""The way to a field: member names and places in arrays, from 0."""

_SHARED_BY_OVO_CODES: Final = "0316380841"
_DOCUMENTS_LIMIT: Final = 20
_BELGIAN_POSTCODE: Final = re.compile(r"[1-9][0-9]{3}\Z")
_FAULTS_SHOWN: Final = 100
_NAME_SHOWN: Final = 64
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class _Object:
    """One JSON object of a message: hands out its members and notes everything wrong with them."""

    def __init__(self, value: object, path: Path, faults: list[tuple[Path, str]]) -> None:
        self._members: dict[str, object] = value if isinstance(value, dict) else {}
        self._path = path
        self._faults = faults
        self._asked: set[str] = set()
        if not isinstance(value, dict):
            self.fault("must be an object")

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def fault(self, detail: str, *below: str | int) -> None:
        """Note that this object, or what `below` names in it, breaks a rule."""
        self._faults.append(((*self._path, *below), detail))

    def need(self, name: str, parse: values.Parser[T], placeholder: T) -> T:
        """Return a member that must be there; the placeholder, and a fault, when it is absent or wrong."""
        if name not in self._members:
            self._asked.add(name)
            self.fault("is required", name)
            return placeholder
        found = self.may(name, parse)
        return placeholder if found is None else found

    def may(self, name: str, parse: values.Parser[T]) -> T | None:
        """Return a member; None when it is absent, and with a fault when it is wrong."""
        self._asked.add(name)
        if name not in self._members:
            return None
        try:
            return parse(self._members[name])
        except (WrongValue, InvalidIdentifier) as exc:
            self.fault(str(exc), name)
            return None

    def inner(self, name: str) -> "_Object | None":
        """Return a member that is an object; None when it is absent."""
        self._asked.add(name)
        if name not in self._members:
            return None
        return _Object(self._members[name], (*self._path, name), self._faults)

    def need_inner(self, name: str) -> "_Object":
        """Return a member that is an object and must be there; an empty one, and a fault, when it is absent."""
        found = self.inner(name)
        if found is None:
            self.fault("is required", name)
            return _Object({}, (*self._path, name), [])  # its own missing members would say the same again
        return found

    def array(self, name: str) -> Sequence[object]:
        """Return a member that is an array; empty when it is absent, and with a fault when it is something else."""
        return self.may(name, values.array) or ()

    def item(self, name: str, place: int, value: object) -> "_Object":
        """Return an item of an array member, which must be an object."""
        return _Object(value, (*self._path, name, place), self._faults)

    def close(self) -> None:
        """Note every member that nobody asked for."""
        for name in sorted(self._members.keys() - self._asked):
            self.fault("is not a field of a message", name[:_NAME_SHOWN])


def json_pointer(path: Path) -> str:
    """Return a path as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def message_from_json(
    fields: dict[str, object], *, allow_test_ssin: bool, pointer: Callable[[Path], str] = json_pointer
) -> Message:
    """
    Return the message that the JSON form states, once every rule of every field holds.

    `allow_test_ssin` admits the numbers that belong to nobody. `pointer` writes a path as the sender's dialect does.

    Raises:
        Refusal: INVALID_MESSAGE with every fault at once, at most 100; no value of the message is in it.
    """
    faults: list[tuple[Path, str]] = []
    message = _message(_Object(fields, (), faults), allow_test_ssin=allow_test_ssin)
    if faults:
        errors = [FieldError(pointer=pointer(path), detail=detail) for path, detail in faults[:_FAULTS_SHOWN]]
        raise Refusal(Kind.INVALID_MESSAGE, "the message breaks rules; see errors", errors=errors)
    return message


def batch_from_json(fields: dict[str, object], *, pointer: Callable[[Path], str] = json_pointer) -> Batch:
    """
    Return the batch that the JSON form states, once every rule of every field holds.

    Raises:
        Refusal: as `message_from_json`.
    """
    faults: list[tuple[Path, str]] = []
    top = _Object(fields, (), faults)
    number, ovo_code, profile = _sender(top)
    batch = Batch(
        gateway=top.need("gateway", values.gateway_name, ""),
        reference=top.need("reference", values.parsed(parse_reference), ""),
        created_at=top.need("createdAt", values.instant, _NEVER),
        sender=number,
        ovo_code=ovo_code,
        profile=profile,
        items=_items(top),
    )
    top.close()
    if faults:
        errors = [FieldError(pointer=pointer(path), detail=detail) for path, detail in faults[:_FAULTS_SHOWN]]
        raise Refusal(Kind.INVALID_MESSAGE, "the batch breaks rules; see errors", errors=errors)
    return batch


def _items(top: _Object) -> tuple[BatchItem, ...]:
    listed = top.array("items")
    if not 1 <= len(listed) <= MAX_ITEMS:
        top.fault(f"a batch has 1 to {MAX_ITEMS} items", "items")
    items: list[BatchItem] = []
    references: set[str] = set()
    for place, value in enumerate(listed[:MAX_ITEMS]):
        item = top.item("items", place, value)
        items.append(_item(item, place + 1))
        item.close()
        if items[-1].reference in references:
            item.fault("stands in this batch twice; each message has a reference of its own", "reference")
        references.add(items[-1].reference or f" {place}")  # one that is wrong is told once
    return tuple(items)


def _item(item: _Object, number: int) -> BatchItem:
    def in_order(value: object) -> int:
        if isinstance(value, bool) or value != number:
            raise WrongValue(f"items are numbered 1, 2 and so on, in this order: here {number}")
        return number

    return BatchItem(
        number=item.need("number", in_order, number),
        reference=item.need("reference", values.parsed(parse_reference), ""),
        sha256=item.need("sha256", values.sha256_hex, ""),
    )


def _message(top: _Object, *, allow_test_ssin: bool) -> Message:
    number, ovo_code, profile = _sender(top)
    recipient, to_company = _recipient(top, allow_test_ssin=allow_test_ssin)
    subject = top.need_inner("subject")
    message = Message(
        gateway=top.need("gateway", values.gateway_name, ""),
        reference=top.need("reference", values.parsed(parse_reference), ""),
        created_at=top.need("createdAt", values.instant, _NEVER),
        sender=number,
        ovo_code=ovo_code,
        profile=profile,
        category=top.need("category", values.parsed(parse_slug), ""),
        purpose=top.need("purpose", values.text(200), ""),
        recipient=recipient,
        attention_of=top.may("forTheAttentionOf", values.text(100)),
        subject=subject.need("text", values.text(400), ""),
        language=subject.need("lang", values.language, ""),
        channels=_channels(top),
        print_options=_print_options(top),
        retention=top.may("retention", values.days),
        deliver_not_before=top.may("deliverNotBefore", values.instant),
        deliver_before=top.may("deliverBefore", values.instant),
        lane=top.may("lane", values.one_of(Lane)),
        billing_reference=top.may("billingReference", values.billing_reference),
        documents=_documents(top),
    )
    if "forTheAttentionOf" in top and not to_company:
        top.fault("is for companies only: it needs recipient and enterprise number", "forTheAttentionOf")
    not_before, before = message.deliver_not_before, message.deliver_before
    if not_before and before and before <= not_before:
        top.fault("must be later than the time before which nothing is delivered", "deliverBefore")
    subject.close()
    top.close()
    return message


def _sender(top: _Object) -> tuple[EnterpriseNumber, str | None, str | None]:
    nobody = EnterpriseNumber("")
    sender = top.need_inner("sender")
    number = sender.need("enterpriseNumber", values.parsed(parse_enterprise_number), nobody)
    ovo_code = sender.may("ovoCode", values.parsed(parse_ovo_code))
    profile = sender.may("profile", values.parsed(parse_slug))
    if "ovoCode" in sender and number not in ("", _SHARED_BY_OVO_CODES):
        sender.fault(f"only bodies that share enterprise number {_SHARED_BY_OVO_CODES} have one", "ovoCode")
    sender.close()
    return number, ovo_code, profile


def _recipient(top: _Object, *, allow_test_ssin: bool) -> tuple[Recipient, bool]:
    """Return the recipient, and whether it names a company, rightly or wrongly."""
    recipient = top.need_inner("recipient")
    ssin = recipient.may("ssin", values.parsed(lambda text: parse_ssin(text, allow_test=allow_test_ssin)))
    number = recipient.may("enterpriseNumber", values.parsed(parse_enterprise_number))
    place = recipient.inner("postalAddress")
    address = None if place is None else _address(place)
    if "ssin" in recipient and "enterpriseNumber" in recipient:
        recipient.fault("names a citizen or a company, not both")
    if not ("ssin" in recipient or "enterpriseNumber" in recipient or "postalAddress" in recipient):
        recipient.fault("names nobody: it needs an SSIN, an enterprise number or a postal address")
    recipient.close()
    return Recipient(ssin=ssin, enterprise_number=number, address=address), "enterpriseNumber" in recipient


def _address(place: _Object) -> PostalAddress:
    country = place.need("country", values.country, "")
    postcode = place.need("postcode", values.text(15), "")
    if country == "BE" and postcode and not _BELGIAN_POSTCODE.match(postcode):
        place.fault("a Belgian postcode is four digits, 1000 to 9999, without a country prefix", "postcode")
    address = PostalAddress(
        name=place.need("name", values.text(70), ""),
        street=place.need("street", values.text(70), ""),
        house_number=place.need("houseNumber", values.text(15), ""),
        box=place.may("box", values.text(15)),
        postcode=postcode,
        municipality=place.need("municipality", values.text(70), ""),
        country=country,
    )
    place.close()
    return address


def _channels(top: _Object) -> tuple[Channel, ...]:
    channels: list[Channel] = []
    named = top.array("channels")
    if "channels" in top and not named:
        top.fault("names at least one channel, or is left out", "channels")
    for place, value in enumerate(named[: len(Channel) + 1]):  # one more than there are, and one of them is wrong
        try:
            channel = values.one_of(Channel)(value)
        except WrongValue as exc:
            top.fault(str(exc), "channels", place)
            continue
        if channel in channels:
            top.fault("names a channel twice", "channels", place)
        channels.append(channel)
    return tuple(channels)


def _print_options(top: _Object) -> PrintOptions | None:
    options = top.inner("print")
    if options is None:
        return None
    default = PrintOptions()
    found = PrintOptions(
        product=options.may("product", values.one_of(PrintProduct)) or default.product,
        duplex=_or(options.may("duplex", values.truth), default.duplex),
        colour=_or(options.may("colour", values.truth), default.colour),
        priority=options.may("priority", values.one_of(Priority)) or default.priority,
        cover=options.may("cover", values.one_of(Cover)) or default.cover,
    )
    options.close()
    return found


def _documents(top: _Object) -> tuple[DocumentEntry, ...]:
    listed = top.array("documents")
    if not 1 <= len(listed) <= _DOCUMENTS_LIMIT:
        top.fault(f"a message has 1 to {_DOCUMENTS_LIMIT} documents", "documents")
    documents = []
    for place, value in enumerate(listed[:_DOCUMENTS_LIMIT]):
        item = top.item("documents", place, value)
        documents.append(_document(item, f"upfile{place + 1}"))
        item.close()
    if documents and sum(document.main for document in documents) != 1:
        top.fault("exactly one document is the main one", "documents")
    return tuple(documents)


def _document(item: _Object, part: str) -> DocumentEntry:
    def in_order(value: object) -> str:
        if value != part:
            raise WrongValue(f"parts are upfile1, upfile2 and so on, in this order: here {part}")
        return part

    return DocumentEntry(
        part=item.need("part", in_order, ""),
        filename=item.need("filename", values.filename, ""),
        media_type=item.need("mediaType", values.media_type, ""),
        size_bytes=item.need("size", values.size, 0),
        sha256=item.need("sha256", values.sha256_hex, ""),
        main=item.need("main", values.truth, False),
        signed=_or(item.may("signed", values.truth), False),
    )


def _or(value: bool | None, default: bool) -> bool:  # noqa: FBT001 - both are values, not switches
    return default if value is None else value
