"""
The OpenAPI 3.1 document of the sender interface, built from the routes and what the contract says of each.

Schemas are JSON Schema 2020-12. Descriptions are CommonMark of the plainest kind: paragraphs, `code`, and headings in
the opening.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from gateway.errors import Kind
from gateway.intake.caller import ON_BEHALF_OF
from gateway.intake.contract.account_operations import CONTRACT_OPERATIONS, DOSSIER_OPERATIONS, account_operations
from gateway.intake.contract.account_schemas import ACCOUNT_SCHEMAS
from gateway.intake.contract.basics import GROUPS, basics
from gateway.intake.contract.batch_operations import batch_operations
from gateway.intake.contract.batch_schemas import BATCH_SCHEMAS, BATCH_VALUES
from gateway.intake.contract.facts import Facts
from gateway.intake.contract.letter_operations import letter_operations
from gateway.intake.contract.letter_schemas import LETTER_SCHEMAS, VALUES
from gateway.intake.contract.operation import Answer, Content, Operation, Parameter
from gateway.intake.contract.problem_schemas import NOTES, problem_of, problem_schemas
from gateway.intake.contract.proof_operations import PROOF_OPERATIONS
from gateway.intake.contract.proof_schemas import PROOF_SCHEMAS
from gateway.intake.contract.shapes import number, ref, text
from gateway.intake.problems import CONTENT_TYPE, PROBLEMS
from gateway.intake.routes import Authentication, Route
from gateway.intake.server import CORRELATION

_CORRELATION_PATTERN: Final = "^[A-Za-z0-9-]{1,36}$"
_RETRY_AFTER: Final = "Retry-After"
_CERTIFICATE: Final = "clientCertificate"

TO_ANYBODY: Final = frozenset({Kind.BAD_REQUEST, Kind.UNSUPPORTED_MEDIA_TYPE, Kind.OVERLOADED, Kind.INTERNAL})
"""What the edge itself refuses, before it knows or asks who is calling."""
TO_CALLERS: Final = frozenset(
    {Kind.SENDER_UNKNOWN, Kind.SENDER_SUSPENDED, Kind.CERTIFICATE_REVOKED, Kind.STORE_UNAVAILABLE}
)
"""What follows from finding out who is calling."""
UNROUTED: Final = frozenset({Kind.NOT_FOUND, Kind.METHOD_NOT_ALLOWED})
"""What answers a request that no operation is for."""

HEADERS: Final[Mapping[str, Mapping[str, Any]]] = {
    CORRELATION: {
        "description": "The request's own, or a new one.",
        "required": True,
        "schema": text(pattern=_CORRELATION_PATTERN),
    },
    "Location": {
        "description": "Where to follow the message, or the batch.",
        "required": True,
        "schema": text(format="uri"),
    },
    _RETRY_AFTER: {
        "description": "Try again after so many seconds.",
        "required": True,
        "schema": number(minimum=1),
    },
    "Content-Disposition": {"description": "A name for the file.", "required": True, "schema": text()},
    "ETag": {"description": "Changes with the file.", "required": True, "schema": text(pattern='^"[^"]+"$')},
    "Cache-Control": {"description": "How long it may be kept.", "required": True, "schema": text()},
}
_PARAMETERS: Final = (
    Parameter(
        name=CORRELATION,
        where="header",
        schema=text(pattern=_CORRELATION_PATTERN),
        description="A number of yours for this request, which comes back. Without a personal number in it.",
    ),
    Parameter(
        name=ON_BEHALF_OF,
        where="header",
        schema=ref("EnterpriseNumber"),
        description="The sender for whom a processor asks; without it, the party of the certificate itself. Not when a "
        "message is handed over: its signed `Sender` says it.",
    ),
)


def operations(facts: Facts) -> Sequence[Operation]:
    """Return what the contract says of every operation, in the order of the documentation."""
    all_of_them = (
        *letter_operations(facts),
        *batch_operations(facts),
        *PROOF_OPERATIONS,
        *DOSSIER_OPERATIONS,
        *account_operations(facts),
        *CONTRACT_OPERATIONS,
    )
    return sorted(all_of_them, key=lambda each: list(GROUPS).index(each.group))


def problems_of(operation: Operation, authentication: Authentication) -> frozenset[Kind]:
    """Return every code that an operation can give."""
    known = frozenset[Kind]() if authentication is Authentication.TLS else TO_CALLERS
    return TO_ANYBODY | known | operation.problems


def build_openapi(routes: Sequence[Route], facts: Facts) -> dict[str, Any]:
    """
    Return the document.

    Raises:
        ValueError: a route without an operation, an operation without a route, or one of either twice.
    """
    described = operations(facts)
    routed = {(route.method, route.path): route for route in routes}
    named = {(each.method, each.path): each for each in described}
    if routed.keys() != named.keys() or len(routed) != len(routes) or len(named) != len(described):
        astray = sorted(" ".join(key) for key in routed.keys() ^ named.keys())
        raise ValueError(f"routes and contract do not match: {', '.join(astray) or 'something stands there twice'}")
    paths: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for key, operation in named.items():
        paths[operation.path][operation.method.lower()] = _operation(operation, routed[key].authentication)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": f"Sender interface of {facts.gateway}",
            "version": facts.version,
            "description": basics(facts),
        },
        "servers": [{"url": facts.public_url}],
        "security": [{_CERTIFICATE: []}],
        "tags": [{"name": str(group), "description": words} for group, words in GROUPS.items()],
        "paths": dict(paths),
        "components": {
            "schemas": {
                **LETTER_SCHEMAS,
                **BATCH_SCHEMAS,
                **PROOF_SCHEMAS,
                **ACCOUNT_SCHEMAS,
                **problem_schemas(),
                **VALUES,
                **BATCH_VALUES,
            },
            "parameters": {each.name: _parameter(each) for each in _PARAMETERS},
            "headers": {name: dict(header) for name, header in HEADERS.items()},
            "securitySchemes": {
                _CERTIFICATE: {"type": "mutualTLS", "description": "A client certificate of a known authority."}
            },
        },
    }


def _operation(operation: Operation, authentication: Authentication) -> dict[str, Any]:
    common = _PARAMETERS if authentication is Authentication.CALLER else _PARAMETERS[:1]
    answers = {str(int(each.status)): _answer(each) for each in operation.answers}
    built: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [str(operation.group)],
        "summary": operation.summary,
        "description": f"{operation.description}\n\nCaller: {authentication.value}.",
        "parameters": [
            *(_parameter(each) for each in operation.parameters),
            *({"$ref": f"#/components/parameters/{each.name}"} for each in common),
        ],
        "responses": answers | _refusals(problems_of(operation, authentication)),
    }
    if operation.body is not None:
        built["requestBody"] = {
            "description": operation.body.description,
            "required": True,
            "content": {name: _content(each) for name, each in operation.body.content.items()},
        }
    return built


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.description,
        "required": parameter.required,
        "schema": parameter.schema,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    sometimes = {name: _optional(name, HEADERS[name]["description"]) for name in answer.sometimes_headers}
    built: dict[str, Any] = {"description": answer.description, "headers": _headers(answer.headers) | sometimes}
    if answer.content:
        built["content"] = {name: _content(each) for name, each in answer.content.items()}
    return built


def _content(content: Content) -> dict[str, Any]:
    built: dict[str, Any] = {"schema": content.schema}
    if content.example is not None:
        built["example"] = content.example
    if content.encoding:
        built["encoding"] = content.encoding
    return built


def _headers(names: Collection[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (CORRELATION, *names)}


def _optional(name: str, description: str) -> dict[str, Any]:
    return {**HEADERS[name], "required": False, "description": description}


def _refusals(kinds: Collection[Kind]) -> dict[str, Any]:
    by_status: defaultdict[int, list[Kind]] = defaultdict(list)
    for kind in NOTES:
        if kind in kinds:
            by_status[PROBLEMS[kind].status.value].append(kind)
    return {str(status): _refusal(status, found) for status, found in sorted(by_status.items())}


def _refusal(status: int, kinds: Sequence[Kind]) -> dict[str, Any]:
    headers = _headers(())
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers |= {_RETRY_AFTER: {"$ref": f"#/components/headers/{_RETRY_AFTER}"}}
    elif Kind.STILL_RECEIVING in kinds:
        note = f"With {Kind.STILL_RECEIVING}. {HEADERS[_RETRY_AFTER]['description']}"
        headers |= {_RETRY_AFTER: _optional(_RETRY_AFTER, note)}
    return {
        "description": "; ".join(f"`{kind}`: {NOTES[kind].cause}" for kind in kinds) + ".",
        "headers": headers,
        "content": {CONTENT_TYPE: {"schema": problem_of(kinds, status)}},
    }
