"""The JSON Schema of batches: it takes every batch that the gateway takes, and refuses what a schema can refuse."""

import copy
import json
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from lxml import etree

from gateway.crypto.fields import batch_from_json
from gateway.errors import Refusal

SCHEMA: Any = json.loads(files("gateway.intake.contract").joinpath("batch_schema.json").read_text("utf-8"))
TAKEN = Draft202012Validator(SCHEMA)
XS = "{http://www.w3.org/2001/XMLSchema}"
FULL: dict[str, Any] = {
    "gateway": "gateway.example.be",
    "reference": "batch-1",
    "createdAt": "2026-11-22T10:00:00Z",
    "sender": {"enterpriseNumber": "0316380841", "ovoCode": "OVO000001", "profile": "burgerzaken"},
    "items": [{"number": number, "reference": f"2026-{number}", "sha256": "ab" * 32} for number in (1, 2)],
}
# The way to a member, and the values that it may not have.
WRONG: dict[str, list[Any]] = {
    "gateway": ["gate way", "", "g" * 254, None, 1],
    "reference": ["a b", "a" * 65, "", "é"],
    "createdAt": ["2026-11-22", "2026-11-22T10:00:00+01:00", "2026-11-22T10:00:00", ""],
    "sender": [{}, {"profile": "a"}, "0406798006", {"enterpriseNumber": "0406798006", "ovoCode": "OVO000001"}],
    "sender/enterpriseNumber": ["BE0406798006", "2316380841", "031638084", 316380841],
    "sender/ovoCode": ["OVO1", "ovo000001"],
    "sender/profile": ["Burgerzaken", "-a", "a-", "a" * 65, ""],
    "items": [[], {}, None],
    "items/0": [[], {}, "2026-1"],
    "items/0/number": ["1", 0, 501, True, None, 1.5],
    "items/0/reference": ["a b", "a" * 65, "", None],
    "items/0/sha256": ["AB" * 32, "ab" * 31, "", None],
}


def with_value(path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(FULL)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place: Any = changed
    for step in steps:
        place = place[step]
    place[last] = value
    return changed


def is_taken(fields: dict[str, Any]) -> bool:
    """Whether the gateway itself takes this JSON form."""
    try:
        batch_from_json(fields)
    except Refusal:
        return False
    return True


def test_the_schema_is_valid_and_takes_a_batch_with_every_field() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert is_taken(FULL)
    assert list(TAKEN.iter_errors(FULL)) == []


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in WRONG.items() for value in values])
def test_what_the_gateway_refuses_by_its_form_the_schema_refuses_too(path: str, value: Any) -> None:
    changed = with_value(path, value)
    assert not is_taken(changed)
    assert not TAKEN.is_valid(changed)


@pytest.mark.parametrize(
    "path", [*FULL, *(f"sender/{name}" for name in FULL["sender"]), *(f"items/0/{name}" for name in FULL["items"][0])]
)
def test_what_may_be_left_out_of_a_batch(path: str) -> None:
    shorter = copy.deepcopy(FULL)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place: Any = shorter
    for step in steps:
        place = place[step]
    del place[last]
    assert TAKEN.is_valid(shorter) == is_taken(shorter) == (path in ("sender/ovoCode", "sender/profile"))


@pytest.mark.parametrize("place", ["", "sender", "items/0"])
def test_no_object_of_a_batch_has_other_members(place: str) -> None:
    changed = with_value(f"{place}/colour".removeprefix("/"), "blue")
    assert not is_taken(changed)
    assert not TAKEN.is_valid(changed)


@pytest.mark.parametrize("count", [1, 500, 501])
def test_a_batch_has_at_most_five_hundred_items(count: int) -> None:
    items = [FULL["items"][0] | {"number": number, "reference": f"2026-{number}"} for number in range(1, count + 1)]
    assert TAKEN.is_valid(FULL | {"items": items}) == is_taken(FULL | {"items": items}) == (count <= 500)


def test_the_members_are_the_elements_of_the_xml_schema_in_their_order() -> None:
    schema = etree.fromstring(files("gateway.crypto").joinpath("batch.xsd").read_bytes())
    (sequence,) = schema.iterfind(f"{XS}complexType[@name='BatchType']/{XS}sequence")
    names = [str(each.get("name")) for each in sequence if each.get("name") is not None]
    assert [name[0].lower() + name[1:] for name in names] == list(SCHEMA["properties"]) == list(FULL)
    attributes = [str(each.get("name")) for each in schema.iterfind(f"{XS}complexType[@name='ItemType']/{XS}attribute")]
    assert attributes == list(SCHEMA["properties"]["items"]["items"]["properties"])
