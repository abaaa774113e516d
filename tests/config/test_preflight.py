"""What `preflight` finds around a configuration: keys, certificates, and the other files."""

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from gateway.config import load
from gateway.preflight import own_uid, preflight

Values = dict[str, Any]
Change = Callable[[Values, Mapping[str, Any]], Values]
Write = Callable[[str, Values], Path]
Check = Callable[..., dict[str, str]]


@pytest.fixture
def surroundings(sender: Values, write: Write, certs: Path, tmp_path: Path) -> Path:
    """A folder with every file that the configuration of `check` names."""
    shutil.copytree(certs, tmp_path / "certs")
    (tmp_path / "api.key").write_text("one-word\n")
    (tmp_path / "api.key").chmod(0o600)
    write("categories.toml", {"categories": {"tax": {"description": "Taxes"}}})
    write("staff.toml", {})
    write("security-matrix.toml", {})
    write("senders/a.toml", sender)
    return tmp_path


@pytest.fixture
def check(minimal: Values, changed: Change, write: Write, surroundings: Path) -> Check:
    """Run preflight in development over real certificates and return what it found, by pointer."""
    changed(
        minimal,
        {
            "gateway/environment": "development",
            "intake": {"certificate": "certs/server.pem", "key_file": "certs/server.key"},
            "receipts": {"certificate": "certs/receipts.pem", "key_file": "certs/receipts.key"},
            "client_cas/0": {"name": "ca-a", "file": "certs/clients-ca.pem", "crl_file": "certs/clients.crl.pem"},
            "portal": {"public_url": "https://letters.example"},
            "providers/bosa/key_file": "certs/ebox-client.key",
            "providers/house-a/authorization": "api-key",
            "providers/house-a/api_key_file": "api.key",
        },
    )

    def run(changes: Mapping[str, Any] | None = None, *, after: timedelta = timedelta(0)) -> dict[str, str]:
        config = load(write("gateway.toml", changed(minimal, changes or {})))
        found = preflight(config, now=datetime.now(UTC) + after)
        assert len(set(found)) == len(found)
        return {error.pointer.replace(f"{surroundings}/", ""): error.detail for error in found}

    return run


def only(found: dict[str, str], pointer: str) -> str:
    """Return the detail of the one mistake that there should be."""
    assert list(found) == [pointer]
    return found[pointer]


def test_nothing_is_wrong_with_a_right_set(check: Check) -> None:
    assert check() == {}


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("intake.certificate", "certs/server.pem"),
        ("intake.key_file", "certs/server.key"),
        ("receipts.certificate", "certs/receipts.pem"),
        ("receipts.key_file", "certs/receipts.key"),
        ("client_cas[0].file", "certs/clients-ca.pem"),
        ("client_cas[0].crl_file", "certs/clients.crl.pem"),
        ("providers.bosa.key_file", "certs/ebox-client.key"),
        ("providers.house-a.api_key_file", "api.key"),
    ],
)
def test_a_missing_file_is_told(check: Check, tmp_path: Path, key: str, file: str) -> None:
    (tmp_path / file).unlink()
    assert only(check(), f"gateway.toml: {key}").endswith(f"{file} does not exist")


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("intake.certificate", "certs/server.pem"),
        ("intake.key_file", "certs/server.key"),
        ("client_cas[0].file", "certs/clients-ca.pem"),
        ("client_cas[0].crl_file", "certs/clients.crl.pem"),
        ("providers.bosa.key_file", "certs/ebox-client.key"),
        ("providers.house-a.api_key_file", "api.key"),
    ],
)
def test_a_file_with_something_else_in_it_is_told(check: Check, tmp_path: Path, key: str, file: str) -> None:
    (tmp_path / file).write_text("something else")
    detail = only(check(), f"gateway.toml: {key}")
    assert "something else" not in detail


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("intake.key_file", "certs/server.key"),
        ("receipts.key_file", "certs/receipts.key"),
        ("providers.bosa.key_file", "certs/ebox-client.key"),
        ("providers.house-a.api_key_file", "api.key"),
    ],
)
def test_a_secret_that_others_may_touch_is_told(check: Check, tmp_path: Path, key: str, file: str, mode: int) -> None:
    (tmp_path / file).chmod(mode)
    assert f"is open to others (mode {mode:04o}); chmod 600" in only(check(), f"gateway.toml: {key}")


def test_a_secret_that_systemd_hands_over_may_look_open_to_a_group_and_to_nobody_else(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "certs"))
    (tmp_path / "certs" / "server.key").chmod(0o440)
    (tmp_path / "certs" / "receipts.key").chmod(0o444)
    (tmp_path / "api.key").chmod(0o440)
    found = check()
    assert set(found) == {"gateway.toml: receipts.key_file", "gateway.toml: providers.house-a.api_key_file"}


def test_a_key_of_another_certificate_is_told(check: Check) -> None:
    found = check({"intake/key_file": "certs/gemeente.key"})
    assert "is not the key of the certificate" in only(found, "gateway.toml: intake.key_file")


def test_a_key_with_a_password_is_told(check: Check, tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "certs" / "ebox-client.key").write_bytes(pem)
    assert "without a password" in only(check(), "gateway.toml: providers.bosa.key_file")


def test_a_key_that_cannot_sign_rs256_is_told(check: Check) -> None:
    found = check({"providers/bosa/key_file": "certs/gemeente.key"})
    assert "must be an RSA key of 2048 bits" in only(found, "gateway.toml: providers.bosa.key_file")


def test_certificates_in_the_wrong_order_are_told(check: Check, tmp_path: Path) -> None:
    file = tmp_path / "certs" / "server.pem"
    end = b"-----END CERTIFICATE-----\n"
    leaf, issuer, _ = file.read_bytes().split(end)
    file.write_bytes(leaf + end + (tmp_path / "certs" / "clients-ca.pem").read_bytes())
    assert "then the authority that issued it" in only(check(), "gateway.toml: intake.certificate")
    file.write_bytes(issuer + end + leaf + end)
    assert set(check()) == {"gateway.toml: intake.certificate", "gateway.toml: intake.key_file"}


def test_an_expired_certificate_is_told(check: Check) -> None:
    found = check({"intake": {"certificate": "certs/expired.pem", "key_file": "certs/expired.key"}})
    assert "expired" in only(found, "gateway.toml: intake.certificate")


def test_a_certificate_with_a_weak_key_is_told(check: Check) -> None:
    found = check({"intake": {"certificate": "certs/weak-key.pem", "key_file": "certs/weak-key.key"}})
    assert "weak-key" in only(found, "gateway.toml: intake.certificate")


def test_a_key_that_cannot_sign_receipts_is_told(check: Check) -> None:
    found = check({"receipts": {"certificate": "certs/belasting.pem", "key_file": "certs/belasting.key"}})
    assert "P-256" in only(found, "gateway.toml: receipts.key_file")


def test_an_authority_that_is_none_is_told(check: Check) -> None:
    assert "not-a-ca" in only(check({"client_cas/0/file": "certs/gemeente.pem"}), "gateway.toml: client_cas[0].file")


def test_a_revocation_list_of_another_authority_is_told(check: Check) -> None:
    found = check({"client_cas/0/file": "certs/other-clients-ca.pem"})
    assert "crl-issuer" in only(found, "gateway.toml: client_cas[0].crl_file")


def test_an_expired_revocation_list_is_told_where_nobody_would_get_in(check: Check) -> None:
    stale = {"client_cas/0/crl_file": "certs/stale.crl.pem"}
    assert "nobody gets in" in only(check(stale), "gateway.toml: client_cas[0].crl_file")
    assert check({"client_cas/0/revocation": "soft-fail"}) == {}


def test_everything_expires_one_day(check: Check) -> None:
    assert set(check(after=timedelta(days=400))) == {
        "gateway.toml: intake.certificate",
        "gateway.toml: receipts.certificate",
        "gateway.toml: client_cas[0].crl_file",
    }


@pytest.mark.parametrize("content", ["", "two words", "é", "x" * 65_537])
def test_an_api_key_that_is_not_one_word_is_told(check: Check, tmp_path: Path, content: str) -> None:
    (tmp_path / "api.key").write_text(content)
    assert set(check()) == {"gateway.toml: providers.house-a.api_key_file"}


def test_an_authority_of_a_provider_is_read(check: Check) -> None:
    assert check({"providers/house-a/ca_file": "certs/ca.pem"}) == {}
    found = check({"providers/house-a/ca_file": "nowhere.pem"})
    assert "does not exist" in only(found, "gateway.toml: providers.house-a.ca_file")


def test_production_refuses_what_was_made_for_development(check: Check) -> None:
    found = check(
        {
            "gateway/environment": "production",
            "portal": {
                "public_url": "https://letters.example",
                "certificate": "certs/server.pem",
                "key_file": "certs/receipts.key",
            },
            "providers/bosa/ca_file": "certs/ca.pem",
        }
    )
    assert {pointer for pointer, detail in found.items() if "was made for development" in detail} == {
        "gateway.toml: intake.certificate",
        "gateway.toml: receipts.certificate",
        "gateway.toml: portal.certificate",
        "gateway.toml: client_cas[0].file",
        "gateway.toml: providers.bosa.ca_file",
    }


def test_production_refuses_one_key_for_two_duties(check: Check) -> None:
    pair = {"certificate": "certs/server.pem", "key_file": "certs/server.key"}
    shared = {"receipts": pair, "portal": {"public_url": "https://letters.example", **pair}}
    assert check(shared) == {}
    found = check({"gateway/environment": "production"})
    assert {pointer for pointer, detail in found.items() if "same key as intake.key_file" in detail} == {
        "gateway.toml: receipts.key_file",
        "gateway.toml: portal.key_file",
    }


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_state_folder_that_others_may_write_to_is_told(check: Check, tmp_path: Path, mode: int) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    assert "can be written by others" in only(check(), "gateway.toml: gateway.state")


def test_a_state_folder_that_is_a_file_is_told(check: Check, tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    assert "is not a folder" in only(check(), "gateway.toml: gateway.state")


def test_mistakes_of_the_other_files_are_told_too(check: Check, write: Write, sender: Values) -> None:
    sender["certificates"][0]["issuer_ca"] = "ca-b"
    write("senders/a.toml", sender)
    write("categories.toml", {})
    write("staff.toml", {"persons": [{"name": "Ann"}]})
    write("security-matrix.toml", {"content": {}})
    found = check({"intake/certificate": "nowhere.pem"})
    assert {
        "gateway.toml: intake.certificate",
        "senders/a.toml: certificates[0].issuer_ca",
        "categories.toml: categories",
        "staff.toml: persons[0].uid",
        "security-matrix.toml: content",
    } <= set(found)


def test_self_stands_for_this_user_in_development_only(check: Check, tmp_path: Path) -> None:
    person = {"name": "Ann", "uid": "self", "roles": ["operator"], "confidentiality_statement": "2026-01-01"}
    (tmp_path / "staff.toml").write_text(tomli_w.dumps({"persons": [person | {"until": "2026-12-31"}]}))
    assert check() == {}
    assert own_uid(load(tmp_path / "gateway.toml")) is not None
    portal = {"certificate": "certs/server.pem", "key_file": "certs/server.key", "public_url": "https://l.example"}
    found = check({"gateway/environment": "test", "portal": portal})
    assert "for development only" in only(found, "staff.toml: persons[0].uid")
    assert own_uid(load(tmp_path / "gateway.toml")) is None


def test_earlier_receipt_certificates_stand_in_a_folder_and_may_have_expired(
    check: Check, tmp_path: Path, certs: Path
) -> None:
    past = {"receipts/past": "past"}
    assert "is not a folder" in only(check(past), "gateway.toml: receipts.past")
    (tmp_path / "past").mkdir()
    assert check(past) == {}
    shutil.copyfile(certs / "expired.pem", tmp_path / "past" / "2020.pem")
    (tmp_path / "past" / "readme.txt").write_text("something else")
    assert check(past) == {}
    (tmp_path / "past" / "2021.pem").write_text("something else")
    assert "2021.pem cannot be used" in only(check(past), "gateway.toml: receipts.past")
