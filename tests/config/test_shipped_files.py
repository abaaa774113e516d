"""The files under config/ load as they stand, say what is true, and fit the certificates and simulators beside them."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.config import ClientCa, Config, ConfigInvalid, EboxProvider, Environment, PrintRestProvider, load
from gateway.config.providers import AddressBox, CallRules
from gateway.config.senders import load_registration
from gateway.config.staff import load_security_matrix, load_staff
from gateway.crypto.certs import load_certificates, matches_subject
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Channel
from gateway.domain.registration import Authorisation, Registration
from gateway.domain.staff import Part, Role, Verb
from gateway.preflight import preflight
from gateway.simulators.ebox_settings import DEMO_CLIENT_ID, DEMO_TRIPLES, EboxPaths

CONFIG = Path(__file__).parents[2] / "config"
EXAMPLE = CONFIG / "gateway.example.toml"
GEMEENTE, BELASTING = EnterpriseNumber("0406798006"), EnterpriseNumber("0566988259")

# Its example shows the other choice, so that the key it goes with can be shown.
SHOWN_OTHERWISE = {"providers.house-a.authorization"}
# Their keys are names that the operator or the print house chooses.
FREE = {"channels", "providers.house-a.status_map"}


@dataclass(frozen=True)
class Key:
    """One key of the example file, with the comment above it."""

    table: str
    name: str
    comment: str
    line: int

    @property
    def path(self) -> str:
        return f"{self.table}.{self.name}"


def keys() -> Iterator[Key]:
    table, comment = "", ""
    for number, line in enumerate(EXAMPLE.read_text("utf-8").splitlines()):
        if line.startswith("#"):
            comment += line.removeprefix("#")
            continue
        if header := re.fullmatch(r"\[\[?([^\]]+)\]\]?", line):
            table = header[1]
        elif stated := re.match(r"([A-Za-z0-9_-]+) = ", line):
            yield Key(table, stated[1], comment, number)
        comment = ""


KEYS = list(keys())
EXPLAINED = [key for key in KEYS if key.table not in FREE]


def without(unwanted: list[Key], folder: Path) -> Path:
    """Write the example file without some keys."""
    lines = {key.line for key in unwanted}
    text = [line for number, line in enumerate(EXAMPLE.read_text("utf-8").splitlines()) if number not in lines]
    file = folder / "gateway.toml"
    file.write_text("\n".join(text), "utf-8")
    return file


def of_dataclass(table: str, kind: type) -> set[str]:
    """Return the keys that the reader of a dataclass asks for."""
    found: set[str] = set()
    for field in fields(kind):
        match field.name:
            case "name" if kind in (EboxProvider, PrintRestProvider):
                found.add(f"{table}.adapter")
            case "call":
                found |= of_dataclass(table, CallRules)
            case "address_box_mm":
                found |= of_dataclass(f"{table}.address_box_mm", AddressBox)
            case "status_map":
                pass
            case name:
                found.add(f"{table}.{name}")
    return found


@pytest.fixture(scope="module")
def example() -> Config:
    return load(EXAMPLE)


@pytest.fixture(scope="module")
def registration() -> Registration:
    return load_registration(CONFIG / "senders", CONFIG / "categories.toml", version=1, authorities={"dev-clients"})


def test_every_key_that_is_read_stands_in_the_example(example: Config) -> None:
    wanted = of_dataclass("client_cas", ClientCa)
    wanted |= of_dataclass("providers.bosa", EboxProvider) | of_dataclass("providers.house-a", PrintRestProvider)
    for field in fields(example):
        table = getattr(example, field.name)
        if is_dataclass(table) and not isinstance(table, type):
            wanted |= of_dataclass(field.name, type(table))
    assert {key.path for key in EXPLAINED} == wanted
    assert {key.name for key in KEYS if key.table == "channels"} == set(Channel)
    assert {type(provider) for provider in example.providers.values()} == {EboxProvider, PrintRestProvider}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_every_key_of_the_example_is_commented(key: Key) -> None:
    assert len(key.comment) > len(" Adapter")


@pytest.mark.parametrize("key", EXPLAINED, ids=lambda key: key.path)
def test_every_key_of_the_example_says_whether_it_may_be_left_out(key: Key) -> None:
    assert len(re.findall(r"\b(?:Default:|Required\b|Optional:)", key.comment)) == 1


@pytest.mark.parametrize("key", [key for key in EXPLAINED if key.name.endswith("_s")], ids=lambda key: key.path)
def test_the_unit_of_a_number_stands_in_its_comment(key: Key) -> None:
    assert re.search(r"\b(?:seconds|per second)\b", key.comment, re.IGNORECASE)


def test_the_defaults_in_the_comments_are_the_defaults(tmp_path: Path) -> None:
    defaults = [key for key in EXPLAINED if "Default:" in key.comment and key.path not in SHOWN_OTHERWISE]
    assert len(defaults) > 50
    stated, left_out = load(without([], tmp_path)), load(without(defaults, tmp_path))
    assert left_out == stated


@pytest.mark.parametrize("key", [key for key in EXPLAINED if "Required" in key.comment], ids=lambda key: key.path)
def test_a_required_key_is_missed(key: Key, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(without([key], tmp_path))
    pointer = key.path.replace("client_cas.", "client_cas[0].")
    assert f"{tmp_path}/gateway.toml: {pointer}" in {error.pointer for error in caught.value.errors}


@pytest.mark.parametrize("key", [key for key in EXPLAINED if "Optional:" in key.comment], ids=lambda key: key.path)
def test_an_optional_key_may_be_left_out(key: Key, tmp_path: Path) -> None:
    assert load(without([key], tmp_path)) != load(without([], tmp_path))


def test_the_example_is_meant_for_production(example: Config) -> None:
    assert example.gateway.environment is Environment.PRODUCTION


def test_the_development_configuration_passes_the_preflight(
    tmp_path: Path, certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(CONFIG, tmp_path / "config")
    shutil.copytree(certs, tmp_path / "state" / "certs")
    (tmp_path / "state").chmod(0o700)
    monkeypatch.chdir(tmp_path)
    assert preflight(load(Path("config/gateway.dev.toml")), now=datetime.now(UTC)) == []


def test_the_development_configuration_listens_on_this_machine_alone() -> None:
    config = load(CONFIG / "gateway.dev.toml")
    assert config.gateway.environment is Environment.DEVELOPMENT
    assert all(bind.is_loopback for bind in (config.intake.bind, config.portal.bind, config.ops.bind))
    assert set(config.channels) == set(Channel)


def test_the_development_configuration_speaks_to_the_simulated_ebox() -> None:
    provider = load(CONFIG / "gateway.dev.toml").providers["bosa"]
    assert isinstance(provider, EboxProvider)
    origin, paths = "http://127.0.0.1:9601", EboxPaths()
    assert provider.client_id == DEMO_CLIENT_ID
    assert provider.base_url == origin + paths.registry_v2
    assert provider.token_url == provider.audience == origin + paths.token
    assert provider.federation_url == origin + paths.federation
    assert provider.partition_url == origin + paths.partition


def test_both_senders_are_registered(registration: Registration) -> None:
    assert {number: sender.name for number, sender in registration.senders.items()} == {
        GEMEENTE: "Gemeente Voorbeeld",
        BELASTING: "Belastingdienst Voorbeeld",
    }
    assert all(CONFIG.joinpath("senders", f"{number}.toml").is_file() for number in registration.senders)


def authorisations(registration: Registration) -> Iterator[tuple[EnterpriseNumber, Authorisation]]:
    for number, sender in registration.senders.items():
        for profile in sender.profiles.values():
            for authorisation in profile.authorisations.values():
                yield number, authorisation


def test_the_simulated_ebox_knows_the_letters_of_both_senders(registration: Registration) -> None:
    checked = 0
    for number, authorisation in authorisations(registration):
        for kind, triple in (("citizen", authorisation.ebox_citizen), ("enterprise", authorisation.ebox_enterprise)):
            if triple is not None:
                named = (number, triple.application, triple.message_type, kind)
                assert any(known.covers(*named) for known in DEMO_TRIPLES), named
                checked += 1
    assert checked >= 4


def test_every_channel_of_an_authorisation_is_under_agreement(registration: Registration) -> None:
    for number, authorisation in authorisations(registration):
        assert set(authorisation.channels) <= set(registration.senders[number].agreements)


@pytest.mark.parametrize(("file", "number"), [("gemeente.pem", GEMEENTE), ("belasting.pem", BELASTING)])
def test_the_certificates_for_development_name_the_senders(
    registration: Registration, certs: Path, file: str, number: EnterpriseNumber
) -> None:
    leaf = load_certificates(certs / file)[0]
    subjects = {
        each: certificate.subject
        for each, sender in registration.senders.items()
        for certificate in sender.certificates
        if certificate.subject is not None
    }
    assert {each for each, subject in subjects.items() if matches_subject(leaf, subject)} == {number}


def test_the_matrix_has_a_row_for_every_part_and_a_duty_for_every_role() -> None:
    matrix = load_security_matrix(CONFIG / "security-matrix.toml")
    assert set(matrix.grants) == set(Part)
    assert {role for row in matrix.grants.values() for role in row} == set(Role)


@pytest.mark.parametrize(
    ("part", "verb", "roles"),
    [
        (Part.KEYS, Verb.MODIFY, {Role.KEY_MANAGER}),
        (Part.CERTIFICATES, Verb.MODIFY, {Role.CERTIFICATE_MANAGER}),
        (Part.ACCESS, Verb.MODIFY, {Role.ACCESS_MANAGER}),
        (Part.SENDERS, Verb.WRITE, {Role.ACCESS_MANAGER}),
        (Part.MESSAGES, Verb.MODIFY, {Role.OPERATOR}),
        (Part.PRIVACY_LOG, Verb.READ, {Role.DPO, Role.AUDITOR}),
        (Part.PRIVACY_LOG, Verb.MODIFY, set()),
    ],
)
def test_the_shipped_matrix_keeps_duties_apart(part: Part, verb: Verb, roles: set[Role]) -> None:
    matrix = load_security_matrix(CONFIG / "security-matrix.toml")
    assert {role for role in Role if matrix.may(role, part, verb)} == roles


def test_the_shipped_staff_is_for_development_only() -> None:
    staff = load_staff(CONFIG / "staff.toml", self_uid=1234)
    assert [person.uid for person in staff.persons] == [1234]
    with pytest.raises(ConfigInvalid):
        load_staff(CONFIG / "staff.toml")
