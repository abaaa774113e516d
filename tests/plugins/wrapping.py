"""
Hostile variants of a signed message: what can be moved, copied, renamed, redeclared or disguised in its XML.

Each is made from the bytes of an honest signed message and of a message that an attacker wrote and nobody signed.
Whoever reads a variant may refuse it or get exactly what was honestly signed; anything else is a forgery.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

from lxml import etree

NS = "urn:document-gateway:message:1"
DS = "http://www.w3.org/2000/09/xmldsig#"

TOKEN = re.compile(rb"<[^>]+>|[^<]+")
_TAG_START = re.compile(rb"<([A-Za-z][A-Za-z0-9:]*)(?=[\s/>])")
_ATTRIBUTE = re.compile(rb'\s([A-Za-z][A-Za-z0-9:]*)="([^"]*)"')

Named = Iterator[tuple[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One variant: how it was made, in one word and in full, and its bytes."""

    family: str
    name: str
    body: bytes


def variants(honest: bytes, evil: bytes) -> Iterator[Variant]:
    """Every variant once; the signature in `honest` has the prefix `ds`, `evil` the same elements and no signature."""
    seen = {honest}
    for family, make in _FAMILIES.items():
        for name, body in make(honest, evil):
            if body not in seen:
                seen.add(body)
                yield Variant(family=family, name=name, body=body)


# ── The signed root, its signature and the attacker's root, in every place and under every Id ──

_IDS = ("same Id", "new Id", "no Id")
_SEALS = ("stays", "first", "last", "in a text", "in another signature", "copied")
_OUTSIDE = ("first", "last", "in a text", "in Documents", "gone", "beside, before", "beside, after")
_IN_SIGNATURE = ("Object", "KeyInfo", "SignedInfo", "SignedInfo/Reference/Transforms/Transform", "SignatureValue")


def _wrapped(honest: bytes, evil: bytes) -> Named:
    for place, seal, evil_id, honest_id in itertools.product((*_OUTSIDE, *_IN_SIGNATURE), _SEALS, _IDS, _IDS):
        if seal == "stays" and place in _IN_SIGNATURE:
            continue  # the signed root would hold itself
        if place == "gone" and honest_id != _IDS[0]:
            continue
        root = _wrap(etree.fromstring(honest), etree.fromstring(evil), (place, seal, evil_id, honest_id))
        yield f"signed root {place}, {honest_id}; signature {seal}; attacker's root, {evil_id}", etree.tostring(root)


def _wrap(signed: etree._Element, attacker: etree._Element, how: tuple[str, str, str, str]) -> etree._Element:
    place, seal, evil_id, honest_id = how
    signature = signed[-1]
    _rename(attacker, evil_id)
    _rename(signed, honest_id)
    match seal:
        case "first":
            attacker.insert(0, signature)
        case "last":
            attacker.append(signature)
        case "in a text":
            _at(attacker, "Purpose").append(signature)
        case "in another signature":
            other = etree.SubElement(attacker, f"{{{DS}}}Signature")
            etree.SubElement(other, f"{{{DS}}}Object").append(signature)
        case "copied":
            signature = deepcopy(signature)
            attacker.append(signature)
        case _:  # it stays
            pass
    match place:
        case "first":
            attacker.insert(0, signed)
        case "last":
            attacker.append(signed)
        case "in a text":
            _at(attacker, "Purpose").append(signed)
        case "in Documents":
            _at(attacker, "Documents").append(signed)
        case "gone":
            pass
        case "beside, before" | "beside, after":
            envelope = etree.Element("Envelope")
            envelope.extend((signed, attacker) if place == "beside, before" else (attacker, signed))
            return envelope
        case _:
            _hide(signature, place, signed)
    return attacker


def _rename(root: etree._Element, how: str) -> None:
    if how == "no Id":
        del root.attrib["Id"]
    elif how == "new Id":
        root.set("Id", "other")


def _at(root: etree._Element, name: str) -> etree._Element:
    found = root.find(f"{{{NS}}}{name}")
    assert found is not None
    return found


def _hide(signature: etree._Element, path: str, hidden: etree._Element) -> None:
    place = signature.find("/".join(f"{{{DS}}}{step}" for step in path.split("/")))
    if place is None:
        place = etree.SubElement(signature, f"{{{DS}}}{path}")
    place.append(hidden)


def _nested(honest: bytes, evil: bytes) -> Named:
    for place, evil_id in itertools.product(("first", "last", "Purpose", "Recipient", "Documents"), _IDS):
        signed, attacker = etree.fromstring(honest), etree.fromstring(evil)
        _rename(attacker, evil_id)
        match place:
            case "first":
                signed.insert(0, attacker)
            case "last":
                signed.append(attacker)
            case _:
                _at(signed, place).append(attacker)
        yield f"attacker's root {place}, {evil_id}", etree.tostring(signed)
    for path, evil_id in itertools.product((*_IN_SIGNATURE, "SignedInfo/Reference"), _IDS):
        signed, attacker = etree.fromstring(honest), etree.fromstring(evil)
        _rename(attacker, evil_id)
        _hide(signed[-1], path, attacker)
        yield f"attacker's root in {path}, {evil_id}", etree.tostring(signed)


def _fields(honest: bytes, evil: bytes) -> Named:
    """One element of the attacker's in place of the signed one, before it, after it, in it; or none at all."""
    for place in range(len(etree.fromstring(honest)) - 1):
        for how in ("replaced", "before", "after", "inside", "removed", "twice"):
            signed, attacker = etree.fromstring(honest), etree.fromstring(evil)
            mine, theirs = signed[place], attacker[place]
            match how:
                case "replaced":
                    signed[place] = theirs
                case "before":
                    mine.addprevious(theirs)
                case "after":
                    mine.addnext(theirs)
                case "inside":
                    mine.append(theirs)
                case "removed":
                    signed.remove(mine)
                case _:
                    mine.addnext(deepcopy(mine))
            yield f"{etree.QName(mine).localname} {how}", etree.tostring(signed)


# ── Texts and attributes ──

_DISGUISES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "comment before": lambda text, _: b"<!-- x -->" + text,
    "comment after": lambda text, _: text + b"<!-- x -->",
    "comment within": lambda text, _: text[:1] + b"<!---->" + text[1:],
    "comments everywhere": lambda text, _: b"<!--x-->".join(_characters(text)),
    "comment of the attacker's": lambda text, evil: text[:1] + b"<!--" + evil + b"-->" + text[1:],
    "attacker's text before a comment": lambda text, evil: evil + b"<!---->" + text,
    "attacker's text behind a comment": lambda text, evil: text + b"<!---->" + evil,
    "instruction before": lambda text, _: b"<?x y?>" + text,
    "instruction within": lambda text, _: text[:1] + b"<?x?>" + text[1:],
    "instruction after": lambda text, _: text + b"<?x y?>",
    "CDATA": lambda text, _: b"<![CDATA[" + text.replace(b"&amp;", b"&") + b"]]>",
    "half CDATA": lambda text, _: text[:1] + b"<![CDATA[" + text[1:].replace(b"&amp;", b"&") + b"]]>",
    "empty CDATA": lambda text, _: text + b"<![CDATA[]]>",
    "CDATA of the attacker's": lambda text, evil: text + b"<![CDATA[" + evil + b"]]>",
    "decimal references": lambda text, _: _references(text, "&#{};"),
    "hexadecimal references": lambda text, _: _references(text, "&#x{:X};"),
    "padded references": lambda text, _: _references(text, "&#{:020};"),
    "reference to nothing": lambda text, _: text + b"&#0;",
    "entity": lambda text, _: text + b"&x;",
    "predefined entity": lambda text, _: text + b"&lt;",
    "space before": lambda text, _: b" " + text,
    "space after": lambda text, _: text + b" ",
    "line end": lambda text, _: text + b"\r\n",
    "carriage return": lambda text, _: text + b"&#13;",
    "tab": lambda text, _: b"\t" + text,
    "no-break space": lambda text, _: text + "\xa0".encode(),
    "zero-width space": lambda text, _: text[:1] + "\u200b".encode() + text[1:],
    "byte order mark": lambda text, _: "\ufeff".encode() + text,
    "right to left": lambda text, _: "\u202e".encode() + text,
    "combining accent": lambda text, _: text + "\u0301".encode(),
    "wide digits": lambda text, _: re.sub(rb"[0-9]", lambda digit: chr(0xFF10 + int(digit[0])).encode(), text),
    "empty element": lambda text, _: text + b"<x/>",
    "element of the attacker's": lambda text, evil: b"<x>" + evil + b"</x>" + text,
    "text of the attacker's": lambda _, evil: evil,
    "nothing": lambda _, __: b"",
    "twice": lambda text, _: text + text,
}

_VALUE_DISGUISES: dict[str, Callable[[bytes], bytes]] = {
    "other quotes": lambda value: b"'" + value + b"'",
    "references": lambda value: b'"' + _references(value, "&#x{:x};") + b'"',
    "space before": lambda value: b'" ' + value + b'"',
    "line end": lambda value: b'"' + value + b'\n"',
    "reference to a line end": lambda value: b'"' + value + b'&#10;"',
    "entity": lambda value: b'"' + value + b'&x;"',
    "nothing": lambda _: b'""',
    "in capitals": lambda value: b'"' + value.upper() + b'"',
    "longer": lambda value: b'"' + value + b'0"',
}


def _references(text: bytes, form: str) -> bytes:
    return "".join(form.format(ord(character)) for character in text.replace(b"&amp;", b"&").decode()).encode()


def _characters(text: bytes) -> list[bytes]:
    return [found.encode() for found in re.findall(r"&[a-z]+;|.", text.decode(), re.DOTALL)]


def _texts(honest: bytes, evil: bytes) -> Named:
    names = {token.group(): place for place, token in enumerate(TOKEN.finditer(evil))}
    theirs = TOKEN.findall(evil)
    tokens = TOKEN.findall(honest)
    for place, text in enumerate(tokens):
        if text.startswith(b"<") or not text.strip():
            continue
        tag = tokens[place - 1]
        other = theirs[names[tag] + 1] if tag in names else b"AAAA"
        for name, disguise in _DISGUISES.items():
            disguised = (*tokens[:place], disguise(text, other), *tokens[place + 1 :])
            yield f"{tag.decode()}, {place}: {name}", b"".join(disguised)


def _attributes(honest: bytes, _: bytes) -> Named:
    root = honest.index(b"<Message")
    for found in _ATTRIBUTE.finditer(honest, root):
        name, value = found.groups()
        head, tail = honest[: found.start()], honest[found.end() :]
        for disguise, make in _VALUE_DISGUISES.items():
            yield f"{name.decode()}, {found.start()}: {disguise}", head + b" " + name + b"=" + make(value) + tail
        yield f"{name.decode()}, {found.start()}: removed", head + tail
        yield f"{name.decode()}, {found.start()}: twice", head + found[0] * 2 + tail
        yield f"{name.decode()}, {found.start()}: beside another", head + b' x="1"' + found[0] + tail
        yield f"{name.decode()}, {found.start()}: on a line of its own", head + b"\n\t" + found[0] + b" " + tail


def _attribute_order(honest: bytes, _: bytes) -> Named:
    for tag in re.finditer(rb"<[A-Za-z][^>]*>", honest):
        attributes = [found[0] for found in _ATTRIBUTE.finditer(tag[0])]
        start = tag[0].find(attributes[0]) if attributes else 0
        end = start + len(b"".join(attributes))
        for turn in range(1, len(attributes)):
            turned = b"".join(attributes[turn:] + attributes[:turn])
            changed = tag[0][:start] + turned + tag[0][end:]
            yield f"{tag.start()}, turned by {turn}", honest[: tag.start()] + changed + honest[tag.end() :]


def _ids(honest: bytes, _: bytes) -> Named:
    """One more Id, under each name that some verifier takes for an Id, on each element."""
    for tag in _TAG_START.finditer(honest):
        for name, value in itertools.product((b"Id", b"ID", b"id", b"xml:id", b"AssertionID"), (b"message", b"other")):
            changed = honest[: tag.end()] + b" " + name + b'="' + value + b'"' + honest[tag.end() :]
            yield f"{tag[0].decode()}, {tag.start()}: {name.decode()}={value.decode()}", changed


# ── Spaces, namespaces, declarations ──


def _spaces(honest: bytes, _: bytes) -> Named:
    for place in [found.end() for found in re.finditer(rb">", honest)]:
        for name, space in {
            "line end": b"\n",
            "Windows line end": b"\r\n",
            "comment": b"<!-- -->",
            "text": b"x",
        }.items():
            yield f"{name} at {place}", honest[:place] + space + honest[place:]
    for tag in re.finditer(rb"\s?/?>", honest):
        yield f"space in the tag at {tag.start()}", honest[: tag.start()] + b" \n" + honest[tag.start() :]


_NAMESPACES: dict[str, tuple[bytes, bytes]] = {
    "declared again": (b"<Recipient>", b'<Recipient xmlns="urn:document-gateway:message:1">'),
    "taken away": (b"<Recipient>", b'<Recipient xmlns="">'),
    "another": (b"<Recipient>", b'<Recipient xmlns="urn:document-gateway:message:2">'),
    "another, nested back": (
        b"<Ssin>",
        b'<x xmlns="urn:x"/><Ssin xmlns="urn:document-gateway:message:1">',
    ),
    "nearly the same": (b"urn:document-gateway:message:1", b"urn:document-gateway:message:1 "),
    "in capitals": (b"urn:document-gateway:message:1", b"URN:document-gateway:message:1"),
    "escaped": (b"urn:document-gateway:message:1", b"urn:document-gateway:message:%31"),
    "by references": (b"urn:document-gateway:message:1", b"urn:document-gateway:message:&#49;"),
    "unused": (b"<Message ", b'<Message xmlns:x="urn:x" '),
    "unused, of the signature": (b"<Message ", b'<Message xmlns:ds="http://www.w3.org/2000/09/xmldsig#" '),
    "prefix of the signature for another": (b"<Message ", b'<Message xmlns:ds="urn:x" '),
    "prefix beside the default": (b"<Message ", b'<Message xmlns:m="urn:document-gateway:message:1" '),
    "xml, as it is": (b"<Recipient>", b'<Recipient xmlns:xml="http://www.w3.org/XML/1998/namespace">'),
    "xml, for another": (b"<Recipient>", b'<Recipient xmlns:xml="urn:x">'),
    "xmlns": (b"<Recipient>", b'<Recipient xmlns:xmlns="urn:x">'),
    "relative": (b"<Recipient>", b'<Recipient xmlns:x="relative">'),
    "prefix taken away": (b"<Recipient>", b'<Recipient xmlns:x="">'),
    "twice": (b"<Recipient>", b'<Recipient xmlns:x="urn:x" xmlns:x="urn:y">'),
    "attribute of a prefix": (b'lang="nl"', b'xmlns:m="urn:document-gateway:message:1" m:lang="fr" lang="nl"'),
    "xml:lang": (b'lang="nl"', b'lang="nl" xml:lang="fr"'),
    "xml:space": (b"<Purpose>", b'<Purpose xml:space="preserve">'),
    "xml:base": (b"<Message ", b'<Message xml:base="http://127.0.0.1:9/" '),
    "xsi:type": (
        b"<Recipient>",
        b'<Recipient xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="RecipientType">',
    ),
    "xsi:nil": (
        b"<Recipient>",
        b'<Recipient xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true">',
    ),
    "signature in another": (b"http://www.w3.org/2000/09/xmldsig#", b"http://www.w3.org/2009/xmldsig11#"),
    "signature in none": (b' xmlns:ds="http://www.w3.org/2000/09/xmldsig#"', b""),
    "signature without its #": (b'xmldsig#"', b'xmldsig"'),
    "in SignedInfo": (b"<ds:SignedInfo>", b'<ds:SignedInfo xmlns:x="urn:x">'),
    "in SignedInfo, the default": (b"<ds:SignedInfo>", b'<ds:SignedInfo xmlns="urn:x">'),
    "in SignedInfo, declared again": (
        b"<ds:SignedInfo>",
        b'<ds:SignedInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#">',
    ),
    "in SignedInfo, another for the prefix": (
        b"<ds:Reference ",
        b'<ds:Reference xmlns:ds="http://www.w3.org/2009/xmldsig11#" ',
    ),
}


def _namespaces(honest: bytes, _: bytes) -> Named:
    for name, (old, new) in _NAMESPACES.items():
        assert old in honest, name
        yield name, honest.replace(old, new, 1)
        if honest.count(old) > 1:
            yield f"{name}, everywhere", honest.replace(old, new)
    prefixed = re.sub(rb"<(/?)([A-Z])", rb"<\1m:\2", honest).replace(b" xmlns=", b" xmlns:m=", 1)
    yield "prefix for the default", prefixed
    yield "prefix for the default, kept", prefixed.replace(b" xmlns:m=", b' xmlns="urn:x" xmlns:m=', 1)
    signature = honest.index(b"<ds:Signature")
    bare = honest[:signature] + honest[signature:].replace(b"ds:", b"").replace(b"xmlns:ds=", b"xmlns=")
    yield "default for the prefix of the signature", bare
    yield "another prefix of the signature", honest.replace(b"ds:", b"dsig:").replace(b":ds=", b":dsig=")
    yield "look-alike of an element", honest.replace(b"Recipient>", "R\u0435cipient>".encode())
    yield "element in lower case", honest.replace(b"Recipient>", b"recipient>")


_BEFORE: dict[str, bytes] = {
    "byte order mark": b"\xef\xbb\xbf",
    "two byte order marks": b"\xef\xbb\xbf" * 2,
    "declaration": b'<?xml version="1.0" encoding="utf-8"?>',
    "declaration without encoding": b"<?xml version='1.0'?>",
    "standalone": b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>',
    "standalone, none": b'<?xml version="1.0" standalone="no"?>',
    "version 1.1": b'<?xml version="1.1" encoding="UTF-8"?>',
    "version 1.2": b'<?xml version="1.2" encoding="UTF-8"?>',
    "Latin-1": b'<?xml version="1.0" encoding="ISO-8859-1"?>',
    "UTF-7": b'<?xml version="1.0" encoding="UTF-7"?>',
    "UTF-16": b'<?xml version="1.0" encoding="UTF-16"?>',
    "two declarations": b'<?xml version="1.0"?><?xml version="1.0"?>',
    "declaration behind a space": b' <?xml version="1.0"?>',
    "comment": b"<!-- x -->",
    "comment with a DTD": b"<!-- <!DOCTYPE Message> -->",
    "instruction": b'<?xml-stylesheet type="text/xsl" href="file:///etc/passwd"?>',
    "document type": b"<!DOCTYPE Message>",
    "document type in lower case": b"<!doctype Message>",
    "Id by document type": b"<!DOCTYPE Message [<!ATTLIST Document part ID #IMPLIED>]>",
    "default by document type": b'<!DOCTYPE Message [<!ATTLIST Message Id CDATA "message">]>',
    "entity": b'<!DOCTYPE Message [<!ENTITY x "x">]>',
    "external entity": b'<!DOCTYPE Message [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    "parameter entity": b'<!DOCTYPE Message [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;]>',
    "text": b"x",
    "element": b"<x/>",
}


def _declarations(honest: bytes, evil: bytes) -> Named:
    root = honest[honest.index(b"<Message") :]
    attacker = evil[evil.index(b"<Message") :]
    for name, before in _BEFORE.items():
        yield f"{name} before", before + root
        yield f"{name} after", root + before
        yield f"{name} between two roots", attacker + before + root
    yield "two roots", root + attacker
    yield "cut off", root[:-1]
    yield "NUL at the end", root + b"\0"


_FAMILIES: dict[str, Callable[[bytes, bytes], Named]] = {
    "wrapped": _wrapped,
    "nested": _nested,
    "fields": _fields,
    "texts": _texts,
    "attributes": _attributes,
    "attribute order": _attribute_order,
    "ids": _ids,
    "spaces": _spaces,
    "namespaces": _namespaces,
    "declarations": _declarations,
}
