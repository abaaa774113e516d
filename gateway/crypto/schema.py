"""
The closed XML schemas of our formats, the faults they find put as field errors, and names and places of elements.

The texts of libxml2 quote the wrong value, which may be a personal number; what leaves here names elements and rules.
"""

import re
import threading
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from lxml import etree

from gateway.errors import FieldError

__all__ = ["NOT_EXPECTED", "local_name", "new_root", "pointer_to", "read_schema", "schema_faults"]

NOT_EXPECTED: Final = "is not expected here"
"""How the detail of a fault begins when the element it points to stands where another should."""

_FOLDER = Path(__file__).parent
_FAULTS_SHOWN = 100
_ENTRIES_READ = (
    1000  # of libxml2's, which writes up to three for one fault, and tens of thousands for a hostile document
)
_NAME_SHOWN = 64
# libxml2 cuts its texts off at 32,000 or 64,000 bytes, by version: the end of a longer one may be the sender's value.
_WHOLE_TEXT_BYTES = 31_000

_ATTRIBUTE = re.compile(r"Element '[^']*'(?:, attribute '([^']*)': |: The attribute '([^']*)' is required )")
_FACET = re.compile(r"\[facet '([A-Za-z]+)'\]")
_EXPECTED = re.compile(r" Expected is (?:one of )?\( (.*) \)\.\Z")
_STEP = re.compile(r"/(?:([^/:\[]+):)?([^/\[]+)(?:\[([0-9]+)\])?")
_LENGTHS = {"minLength": "is too short", "maxLength": "is too long"}


class _Compiled(threading.local):
    """
    The schemas that one thread has compiled.

    A schema keeps the faults of its last run in itself and drops the GIL while it runs, so that two threads would read
    each other's; and no thread, least of all that of the event loop, waits for the long run of another.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, etree.XMLSchema] = {}


_COMPILED = _Compiled()


def read_schema(name: Literal["message.xsd", "batch.xsd", "receipt.xsd"]) -> etree.XMLSchema:
    """
    Return a schema of this package, compiled once per thread from its own files, without network.

    For the calling thread only.
    """
    schema = _COMPILED.by_name.get(name)
    if schema is None:
        schema = _COMPILED.by_name[name] = etree.XMLSchema(file=str(_FOLDER / name))
    return schema


def schema_faults(schema: etree.XMLSchema, root: etree._Element) -> list[FieldError]:
    """
    Return what keeps `root` from the schema, in document order: one fault per field, at most 100; empty: valid.

    `schema` is one that this thread read.
    """
    if schema(root):
        return []
    log: Iterable[etree._LogEntry] = schema.error_log  # type: ignore[assignment]  # the stubs forget that it iterates
    faults: dict[str, FieldError] = {}
    for entry in islice(log, _ENTRIES_READ):
        fault = _fault(root, entry.path, entry.type_name, entry.message)
        faults.setdefault(fault.pointer, fault)
        if len(faults) == _FAULTS_SHOWN:
            break
    return list(faults.values())


def new_root(name: str) -> etree._Element:
    """Return the empty root of a document, `{namespace}Name`, its Id the name in lower case."""
    qualified = etree.QName(name)
    namespaces = {None: qualified.namespace}
    return etree.Element(name, {"Id": qualified.localname.lower()}, nsmap=namespaces)  # type: ignore[arg-type]  # the stubs forget the default namespace


def local_name(element: etree._Element) -> str:
    """Return the name of an element without its namespace, cut to 64 characters; `#` for a comment."""
    tag = element.tag
    return tag.rpartition("}")[2][:_NAME_SHOWN] if isinstance(tag, str) else "#"


def pointer_to(element: etree._Element, attribute: str = "") -> str:
    """Return an XPath of an element or its attribute without namespaces: `/Message/Documents/Document[2]/@size`."""
    steps = [f"@{attribute[:_NAME_SHOWN]}"] if attribute else []
    node: etree._Element | None = element
    while node is not None:
        before = sum(1 for _ in node.itersiblings(node.tag, preceding=True))
        alone = before == 0 and next(node.itersiblings(node.tag), None) is None
        parent = node.getparent()
        steps.append(local_name(node) + ("" if alone or parent is None else f"[{before + 1}]"))
        node = parent
    return "/" + "/".join(reversed(steps))


def _fault(root: etree._Element, path: str, kind: str, message: str) -> FieldError:
    attribute = _ATTRIBUTE.match(message)
    return FieldError(
        pointer=pointer_to(_element_at(root, path), (attribute[1] or attribute[2]) if attribute else ""),
        detail=_rule(kind, message),
    )


def _element_at(root: etree._Element, path: str) -> etree._Element:
    """
    Follow a path as libxml2 writes it, `/*/*[7]/ds:Name[2]`, and stop at the deepest element found.

    It is no XPath: its prefixes are those of the document, so that XPath could not resolve them.
    """
    node = root
    for prefix, name, place in _STEP.findall(path)[1:]:
        wanted = (
            child
            for child in node.iterchildren(tag=etree.Element)
            if name == "*" or (local_name(child) == name and (child.prefix or "") == prefix)
        )
        child = next(islice(wanted, int(place or 1) - 1, None), None)
        if child is None:
            return node
        node = child
    return node


def _rule(kind: str, message: str) -> str:
    # Only what follows the last occurrence of libxml2's own words is taken over, which is text of our schema; the
    # value, which is the sender's, stands before them.
    if facet := _FACET.search(message):
        return _facet_rule(facet[1], message) if len(message.encode()) <= _WHOLE_TEXT_BYTES else "is too long"
    match kind:
        case "SCHEMAV_ELEMENT_CONTENT":
            expected = _EXPECTED.search(message)
            names = ", ".join(re.sub(r"\{[^}]*\}", "", expected[1]).split(", ")) if expected else "nothing more"
            missing = "Missing child element" in message
            return f"{'is incomplete' if missing else NOT_EXPECTED}; expected: {names}"
        case "SCHEMAV_CVC_COMPLEX_TYPE_3_2_1" | "SCHEMAV_CVC_COMPLEX_TYPE_3_2_2":
            return "is not an attribute of this element"
        case "SCHEMAV_CVC_COMPLEX_TYPE_4":
            return "a required attribute is missing"
        case "SCHEMAV_CVC_COMPLEX_TYPE_2_1":
            return "holds attributes only, no text and no elements"
        case "SCHEMAV_CVC_COMPLEX_TYPE_2_3":
            return "holds elements only, no text"
        case "SCHEMAV_CVC_TYPE_3_1_2" | "SCHEMAV_CVC_COMPLEX_TYPE_2_2":
            return "holds text only, no elements"
        case "SCHEMAV_CVC_ELT_1":
            return "is not the expected root element"
        case _:
            return "does not keep the schema"


def _facet_rule(facet: str, message: str) -> str:
    match facet:
        case "pattern":
            return "does not match " + message.rpartition(" is not accepted by the pattern '")[2].removesuffix("'.")
        case "enumeration":
            allowed = message.rpartition(" is not an element of the set {")[2].removesuffix("}.")
            return "is not one of " + allowed.replace("'", "")
        case _:
            return _LENGTHS.get(facet, f"does not keep the rule {facet}")
