"""
JSON Schema (2020-12) in few words: makers of the shapes that the contract is written in.

Objects are closed: what the contract does not name is not answered.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

COMPONENTS: Final = "#/components/schemas/"


def ref(name: str) -> Schema:
    """Return a reference to a named schema of the document."""
    return {"$ref": COMPONENTS + name}


def text(description: str | None = None, **keywords: Any) -> Schema:
    """Return a string; keywords are those of JSON Schema, such as `pattern`."""
    return {"type": "string", **keywords, **_said(description)}


def number(description: str | None = None, *, minimum: int | None = 0) -> Schema:
    """Return an integer."""
    least = {} if minimum is None else {"minimum": minimum}
    return {"type": "integer", **least, **_said(description)}


def truth(description: str) -> Schema:
    """Return a boolean."""
    return {"type": "boolean", "description": description}


def constant(value: str, description: str) -> Schema:
    """Return a string that is always the same."""
    return {"const": value, "description": description}


def described(schema: Schema, description: str) -> Schema:
    """Return a schema with a description of its own, also beside a `$ref`."""
    return {**schema, "description": description}


def nullable(schema: Schema, description: str) -> Schema:
    """Return a schema that also takes null, which the description explains."""
    kind = schema.get("type")
    if isinstance(kind, str):
        return {**schema, "type": [kind, "null"], "description": description}
    return {"anyOf": [schema, {"type": "null"}], "description": description}


def array(items: Schema, description: str, **keywords: int) -> Schema:
    """Return an array; keywords such as `minItems`."""
    return {"type": "array", "items": items, **keywords, "description": description}


def members(
    description: str,
    required: Mapping[str, Schema],
    optional: Mapping[str, Schema] | None = None,
    *,
    closed: bool = True,
) -> Schema:
    """Return an object; `closed`: with these members and no others."""
    shape: dict[str, Any] = {
        "type": "object",
        "description": description,
        "properties": {**required, **(optional or {})},
    }
    if required:
        shape["required"] = list(required)
    if closed:
        shape["additionalProperties"] = False
    return shape


def choice(meanings: Mapping[str, str], description: str) -> Schema:
    """Return one of some words; what each means goes into `x-enumDescriptions`."""
    return {
        "type": "string",
        "enum": [str(word) for word in meanings],
        "description": description,
        "x-enumDescriptions": {str(word): meaning for word, meaning in meanings.items()},
    }


def one_of(allowed: Iterable[str], description: str | None = None) -> Schema:
    """Return one of some words that need no explanation."""
    return {"type": "string", "enum": [str(word) for word in allowed], **_said(description)}


def _said(description: str | None) -> Schema:
    return {} if description is None else {"description": description}
