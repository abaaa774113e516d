"""A JSON Schema as people read it: the name of its type, its limits, its members as rows of a table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup, escape

from gateway.intake.contract.shapes import COMPONENTS, Schema

_LEAST: Final = ("minimum", "minItems")
_MOST: Final = ("maximum", "maxItems")
_WORDS_SHOWN: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One member of an object, however deep; `name` is the way to it, such as `dossiers[].recipient`."""

    name: str
    schema: Schema
    required: bool
    description: str


def reference_of(name: str) -> Markup:
    """Return a link to a named schema."""
    return Markup('<a href="#schema-{0}">{0}</a>').format(name)


def type_of(schema: Schema) -> Markup:
    """Return what a value is, in few words."""
    match schema:
        case {"$ref": str(target)}:
            return reference_of(target.removeprefix(COMPONENTS))
        case {"const": value}:
            return Markup("<code>{}</code>").format(value)
        case {"anyOf": [*choices]} | {"oneOf": [*choices]}:
            return Markup(" or ").join(type_of(each) for each in choices)
        case {"enum": [*values]} if "x-enumDescriptions" not in schema and len(values) <= _WORDS_SHOWN:
            return Markup(", ").join(Markup("<code>{}</code>").format(value) for value in values)
        case {"type": "array", "items": items}:
            return Markup("list of {}").format(type_of(items))
        case {"contentMediaType": media_type}:
            return Markup("<code>{}</code>").format(media_type)
        case {"type": [*kinds]}:
            return escape(" or ".join(kinds))
        case {"type": kind, "format": form}:
            return escape(f"{kind} ({form})")
        case {"type": kind}:
            return escape(kind)
        case _:
            return Markup("file")


def limits_of(schema: Schema) -> str:
    """Return the bounds and the default of a value; empty when there are none worth telling."""
    least = next((schema[name] for name in _LEAST if name in schema), None)
    most = next((schema[name] for name in _MOST if name in schema), None)
    told = []
    if most is not None:
        told.append(f"{least or 0:,} to {most:,}" if least != most else f"exactly {most:,}")
    if "default" in schema:
        told.append(f"default {schema['default']}")
    return "; ".join(told)


def rows_of(schema: Schema, schemas: Mapping[str, Schema], path: str = "") -> Iterator[Row]:
    """Yield the members of an object, and below each what it has inside, unless that has a name of its own."""
    required = schema.get("required", ())
    for name, member in schema.get("properties", {}).items():
        yield Row(name=path + name, schema=member, required=name in required, description=_description(member, schemas))
        yield from rows_of(member, schemas, f"{path}{name}.")
        items: Mapping[str, Any] = member.get("items", {})
        yield from rows_of(items, schemas, f"{path}{name}[].")


def _description(schema: Schema, schemas: Mapping[str, Schema]) -> str:
    own: str | None = schema.get("description")
    if own is None and "$ref" in schema:
        return _description(schemas[schema["$ref"].removeprefix(COMPONENTS)], schemas)
    return own or ""
