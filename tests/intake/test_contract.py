"""The published contract by itself: whole, valid, and in step with the routes, the codes and the words of the code."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from gateway.accept.check import Severity
from gateway.domain.message import Channel
from gateway.domain.retention import CopyState
from gateway.domain.status import DeliveryStatus, MessageStatus, Reason
from gateway.errors import Kind
from gateway.intake.contract import meanings
from gateway.intake.contract.facts import Facts
from gateway.intake.contract.openapi import UNROUTED, build_openapi
from gateway.intake.contract.problem_schemas import NOTES
from gateway.intake.problems import PROBLEMS
from gateway.intake.routes import ROUTES, Authentication

# The schema of OpenAPI 3.1 documents, as the OpenAPI Initiative publishes it (Apache License 2.0):
# https://spec.openapis.org/oas/3.1/schema/2022-10-07
META_SCHEMA = Path(__file__).parents[1] / "vectors" / "openapi-3.1-schema-2022-10-07.json"
FACTS = Facts(
    gateway="gateway.example.be",
    public_url="https://gateway.example.be:8443",
    version="1.2.3",
    documents=7,
    message_bytes=12_345_678,
    manifest_bytes=98_765,
    batch_items=321,
    batch_bytes=87_654_321,
    batch_manifest_bytes=876_543,
    created_at_past=timedelta(hours=36),
    created_at_future=timedelta(minutes=4),
)
PROBLEM = "urn:document-gateway:problem:"


@pytest.fixture(scope="module")
def document() -> Any:
    """The document as a reader gets it."""
    return json.loads(json.dumps(build_openapi(ROUTES, FACTS)))


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def inside(value: Any) -> Iterator[Any]:
    """Everything in a JSON value, itself included."""
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inside(each)


def references(value: Any) -> set[str]:
    return {each["$ref"] for each in inside(value) if isinstance(each, dict) and "$ref" in each}


def validator(document: Any, schema: Any) -> Draft202012Validator:
    """A validator of a schema that stands in the document."""
    registry = Registry().with_resource("urn:contract", DRAFT202012.create_resource(document))
    local = json.loads(json.dumps(schema).replace('"#/', '"urn:contract#/'))
    return Draft202012Validator(local, registry=registry, format_checker=FormatChecker())


# ── Routes ──


def test_every_route_stands_in_the_document_and_every_operation_is_routed(document: Any) -> None:
    assert {(method, path) for method, path, _ in operations(document)} == {(each.method, each.path) for each in ROUTES}


def test_a_route_without_an_operation_or_the_other_way_round_keeps_the_gateway_from_starting() -> None:
    with pytest.raises(ValueError, match="do not match: GET /api/v1/trust"):
        build_openapi([each for each in ROUTES if each.path != "/api/v1/trust"], FACTS)
    with pytest.raises(ValueError, match="something stands there twice"):
        build_openapi([*ROUTES, ROUTES[0]], FACTS)


def test_an_operation_takes_the_parameters_of_its_path_and_says_for_whom_one_may_ask(document: Any) -> None:
    authentication = {(each.method, each.path): each.authentication for each in ROUTES}
    for method, path, operation in operations(document):
        named = {each["name"] for each in operation["parameters"] if each.get("in") == "path"}
        assert {f"{{{name}}}" for name in named} == {step for step in path.split("/") if step.startswith("{")}
        common = {each["$ref"].rpartition("/")[2] for each in operation["parameters"] if "$ref" in each}
        asks_for_others = authentication[method, path] is Authentication.CALLER
        wanted = {"x-correlation-id"} | ({"On-Behalf-Of-Enterprise-Number"} if asks_for_others else set())
        assert (method, path, common) == (method, path, wanted)
        assert authentication[method, path].value in operation["description"]


# ── Codes and words ──


def test_the_problem_schema_names_every_code_and_no_other(document: Any) -> None:
    named = document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert sorted(named) == sorted(f"{PROBLEM}{kind}" for kind in Kind)
    assert set(NOTES) == set(Kind)


def test_every_code_of_an_operation_exists_and_has_the_status_under_which_it_stands(document: Any) -> None:
    given: set[str] = set()
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            assert set(response["content"]) == {"application/problem+json"}
            named = response["content"]["application/problem+json"]["schema"]["properties"]["type"]["enum"]
            for code in (each.removeprefix(PROBLEM) for each in named):
                assert (method, path, code, int(status)) == (method, path, code, PROBLEMS[Kind(code)].status)
                assert f"`{code}`: " in response["description"]
                given.add(code)
            assert ("Retry-After" in response["headers"]) == (
                status in ("429", "503") or "still-receiving" in str(named)
            )
    assert given | UNROUTED == set(Kind)


def test_only_registered_callers_hear_of_registrations(document: Any) -> None:
    for route in ROUTES:
        responses = document["paths"][route.path][route.method.lower()]["responses"]
        assert ("403" in responses) == (route.authentication is not Authentication.TLS)
        assert {"400", "415", "500", "503"} <= responses.keys()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (meanings.CHANNELS, Channel),
        (meanings.MESSAGE_STATUSES, MessageStatus),
        (meanings.DELIVERY_STATUSES, DeliveryStatus),
        (meanings.REASONS, Reason),
        (meanings.COPY_STATES, CopyState),
        (meanings.SEVERITIES, Severity),
    ],
)
def test_every_word_has_a_meaning(told: Mapping[str, str], words: Any) -> None:
    assert list(told) == list(words)
    assert all(told.values())


def test_every_delivery_status_can_be_an_event() -> None:
    assert set(DeliveryStatus) <= meanings.EVENTS.keys()


# ── The document ──


def test_the_document_is_valid_openapi(document: Any) -> None:
    meta_schema = Draft202012Validator(json.loads(META_SCHEMA.read_text("utf-8")))
    assert [(fault.json_path, fault.message) for fault in meta_schema.iter_errors(document)] == []
    assert list(meta_schema.iter_errors({**document, "paths": {"api": {}}})) != []


def test_every_schema_in_the_document_is_valid_json_schema(document: Any) -> None:
    schemas = [each["schema"] for each in inside(document) if isinstance(each, dict) and "schema" in each]
    for schema in [*schemas, *document["components"]["schemas"].values()]:
        Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere_and_every_component_is_used(document: Any) -> None:
    components = document["components"]
    there = {
        f"#/components/{kind}/{name}" for kind in ("schemas", "parameters", "headers") for name in components[kind]
    }
    assert references(document) == there


def test_every_object_that_is_answered_is_closed(document: Any) -> None:
    asked = references([operation.get("requestBody") for *_, operation in operations(document)])
    waiting = references([operation["responses"] for *_, operation in operations(document)])
    answered: set[str] = set()
    while waiting:
        answered |= waiting
        found = references([document["components"][each.split("/")[2]][each.split("/")[3]] for each in waiting])
        waiting = found - answered
    schemas = [
        document["components"]["schemas"][each.rpartition("/")[2]]
        for each in answered
        if each.startswith("#/components/s")
    ]
    objects = [each for each in inside(schemas) if isinstance(each, dict) and each.get("type") == "object"]
    assert len(objects) > 20
    assert [each for each in objects if each.get("additionalProperties") is not False] == []
    assert "#/components/schemas/StatusRequest" in asked - answered


def test_every_operation_has_a_name_of_its_own_a_known_tag_and_words(document: Any) -> None:
    names = [operation["operationId"] for *_, operation in operations(document)]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in document["tags"]}
    for *_, operation in operations(document):
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        assert operation["description"]
        for response in operation["responses"].values():
            assert response["description"]
            assert "x-correlation-id" in response["headers"]
    assert {tag for *_, operation in operations(document) for tag in operation["tags"]} == tags


def test_every_example_keeps_its_schema(document: Any) -> None:
    shown = [each for each in inside(document["paths"]) if isinstance(each, dict) and "example" in each]
    assert len(shown) > 15
    for each in shown:
        faults = [
            (fault.json_path, fault.message)
            for fault in validator(document, each["schema"]).iter_errors(each["example"])
        ]
        assert faults == []


def test_the_wrapped_status_request_is_taken_too(document: Any) -> None:
    body = document["paths"]["/api/v1/statusRequest"]["post"]["requestBody"]["content"]["application/json"]
    taken = validator(document, body["schema"])
    assert taken.is_valid({"messagesStatusRequest": body["example"]})
    assert not taken.is_valid({"messages": []})
    assert not taken.is_valid({"messages": [{}]})


def test_who_may_ask_is_known_by_a_client_certificate(document: Any) -> None:
    (name,) = document["components"]["securitySchemes"]
    assert document["components"]["securitySchemes"][name]["type"] == "mutualTLS"
    assert document["security"] == [{name: []}]
    assert [operation for *_, operation in operations(document) if "security" in operation] == []


def test_the_limits_of_this_gateway_are_told(document: Any) -> None:
    submit = document["paths"]["/api/v1/messages"]["post"]
    assert "At most 98,765 bytes of message, 7 documents and 12,345,678 bytes" in submit["requestBody"]["description"]
    assert "at most 36 hours ago, by a clock at most 4 minutes ahead" in submit["description"]
    assert document["servers"] == [{"url": "https://gateway.example.be:8443"}]
    assert document["info"]["version"] == "1.2.3"
    assert "gateway.example.be" in document["info"]["title"]


# ── Problem documents ──

CONFLICT = {
    "type": f"{PROBLEM}reference-conflict",
    "title": "t",
    "status": 409,
    "detail": "d",
    "instance": "i",
    "messageId": "01a2014e-92d4-7f37-a359-d66bd764a1fe",
    "differingFields": ["subject"],
}


@pytest.mark.parametrize(
    ("changed", "valid"),
    [
        ({}, True),
        ({"errors": [{"pointer": "/a", "detail": "b"}]}, True),
        ({"errors": []}, False),
        ({"errors": [{"pointer": "/a"}]}, False),
        ({"type": f"{PROBLEM}none"}, False),
        ({"skewSeconds": 3}, False),
        ({"messageStatus": "accepted"}, False),
        ({"differingFields": "subject"}, False),
        ({"type": f"{PROBLEM}not-found"}, False),
        ({"sender": "0406798006"}, False),
        ({"detail": None}, False),
    ],
)
def test_what_a_code_adds_is_tied_to_that_code(document: Any, changed: Mapping[str, Any], *, valid: bool) -> None:
    taken = validator(document, document["components"]["schemas"]["Problem"])
    assert taken.is_valid({**CONFLICT, **changed}) is valid


@pytest.mark.parametrize("member", sorted(CONFLICT.keys() - {"messageId"}))  # of a batch there is a batchId
def test_a_code_has_all_its_members(document: Any, member: str) -> None:
    taken = validator(document, document["components"]["schemas"]["Problem"])
    assert not taken.is_valid({name: value for name, value in CONFLICT.items() if name != member})
