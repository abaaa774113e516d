"""
The contract as one page to read: HTML with its style inside, without scripts and without anything from elsewhere.

It is rendered from the OpenAPI document, so that it cannot say anything else.
"""

import hashlib
import json
import re
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from gateway.errors import Kind
from gateway.intake.contract.openapi import TO_ANYBODY, TO_CALLERS, UNROUTED
from gateway.intake.contract.problem_schemas import NOTES, PROBLEM_TYPE
from gateway.intake.contract.schema_text import limits_of, rows_of, type_of
from gateway.intake.contract.shapes import Schema
from gateway.intake.problems import PROBLEMS
from gateway.intake.server import CORRELATION

_TEMPLATES: Final = files("gateway.intake.contract").joinpath("templates")
_CODE: Final = re.compile(r"`([^`]+)`")
_SUCCESS: Final = 400  # statuses below it are no problems


def content_security_policy(style: str) -> str:
    """Return the policy that lets the page use its own style and nothing else (CSP level 3, section 2.3.1)."""
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    nothing_else = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"default-src 'none'; style-src 'sha256-{digest}'; {nothing_else}"


def read_style() -> str:
    """Return the style of the page. Blocks."""
    return _TEMPLATES.joinpath("docs.css").read_text("utf-8")


def render_page(document: Mapping[str, Any], examples: Mapping[str, str], style: str) -> str:
    """
    Return the page that shows an OpenAPI document, and what is signed and sent: `examples`, by their published names.

    Reads its template: blocks.
    """
    schemas: Mapping[str, Schema] = document["components"]["schemas"]
    environment = Environment(
        loader=FunctionLoader(lambda name: _TEMPLATES.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = _inline
    environment.filters["paragraphs"] = _paragraphs
    environment.filters["type"] = type_of
    environment.filters["limits"] = limits_of
    environment.filters["rows"] = lambda schema: rows_of(schema, schemas)
    environment.filters["token_part"] = _token_part
    environment.filters["as_json"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    return environment.get_template("docs.html").render(
        style=Markup(style),  # noqa: S704 - a file of this package, in which nothing is put in
        info=document["info"],
        server=document["servers"][0]["url"],
        headers=document["components"]["parameters"].values(),
        to_anybody=_in_order(TO_ANYBODY),
        to_callers=_in_order(TO_CALLERS),
        groups=[_group(tag, document) for tag in document["tags"]],
        schemas=schemas,
        problems=sorted((_problem(code) for code in NOTES), key=lambda problem: problem["status"]),
        examples=examples,
    )


def _group(tag: Mapping[str, str], document: Mapping[str, Any]) -> dict[str, Any]:
    found = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation["tags"] == [tag["name"]]
    ]
    return {
        "name": tag["name"],
        "description": tag["description"],
        "anchor": tag["name"].lower().replace(" ", "-"),
        "operations": found,
    }


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is particular to an operation; what holds for every request stands in the opening."""
    responses: Mapping[str, Mapping[str, Any]] = operation["responses"]
    return {
        "method": method.upper(),
        "path": path,
        "id": operation["operationId"],
        "summary": operation["summary"],
        "description": operation["description"],
        "parameters": [each for each in operation["parameters"] if "$ref" not in each],
        "body": operation.get("requestBody"),
        "answers": {status: _answer(each) for status, each in responses.items() if int(status) < _SUCCESS},
        "problems": {
            status: own for status, each in responses.items() if int(status) >= _SUCCESS and (own := _own_codes(each))
        },
    }


def _answer(response: Mapping[str, Any]) -> dict[str, Any]:
    own = [name for name, header in response["headers"].items() if "$ref" in header and name != CORRELATION]
    return {"description": response["description"], "content": response.get("content", {}), "headers": own}


def _own_codes(response: Mapping[str, Any]) -> Sequence[str]:
    (content,) = response["content"].values()
    codes = [kind.removeprefix(PROBLEM_TYPE) for kind in content["schema"]["properties"]["type"]["enum"]]
    return [code for code in codes if code not in TO_ANYBODY | TO_CALLERS]


def _in_order(codes: Collection[str]) -> Sequence[str]:
    return [code for code in NOTES if code in codes]


def _problem(code: Kind) -> dict[str, Any]:
    note, problem = NOTES[code], PROBLEMS[code]
    return {
        "code": str(code),
        "status": problem.status.value,
        "title": problem.title,
        "cause": note.cause,
        "fix": note.fix,
        "again": note.again,
        "members": {**note.always, **note.sometimes},
        "anywhere": code in UNROUTED,
    }


def _token_part(token: str, place: int) -> Any:
    """Return the header (0) or the payload (1) of a compact JWS."""
    segment = token.split(".")[place]
    return json.loads(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))


def _inline(text: str) -> Markup:
    """Return text as HTML; the code of a problem leads to it."""
    return Markup().join(
        _code(piece) if number % 2 else escape(piece) for number, piece in enumerate(_CODE.split(text))
    )


def _code(piece: str) -> Markup:
    shown = Markup("<code>{}</code>").format(piece)
    return Markup('<a href="#problem-{}">{}</a>').format(piece, shown) if piece in set(NOTES) else shown


def _paragraphs(text: str) -> Markup:
    return Markup("\n").join(
        Markup("<h3>{}</h3>").format(part.removeprefix("## "))
        if part.startswith("## ")
        else Markup("<p>{}</p>").format(_inline(part))
        for part in text.split("\n\n")
    )
