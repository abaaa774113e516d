"""The text that the ledger keeps of a registration, and reading it again."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gateway.config.reader import ConfigInvalid
from gateway.config.registration_files import RegistrationFiles, read_registration, reread_registration
from gateway.domain.ids import EnterpriseNumber

CONFIG = Path(__file__).parents[2] / "config"
AUTHORITIES = {"dev-clients"}
GEMEENTE = EnterpriseNumber("0406798006")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CONFIG / "senders", tmp_path / "bodies")
    shutil.copyfile(CONFIG / "categories.toml", tmp_path / "classes.toml")
    return tmp_path


def read(folder: Path) -> RegistrationFiles:
    return read_registration(folder / "bodies", folder / "classes.toml", authorities=AUTHORITIES)


def mistakes(folder: Path) -> dict[str, str]:
    with pytest.raises(ConfigInvalid) as invalid:
        read(folder)
    return {error.pointer.rpartition("/")[2]: error.detail for error in invalid.value.errors}


def test_a_text_is_read_again_as_the_registration_it_was(folder: Path) -> None:
    files = read(folder)
    again = reread_registration(files.text, version=4, authorities=AUTHORITIES)
    assert (files.registration.version, again.version) == (0, 4)
    assert (again.senders, again.categories) == (files.registration.senders, files.registration.categories)
    assert files.digest == hashlib.sha256(files.text.encode()).digest()


def test_what_folders_are_called_makes_no_difference(folder: Path) -> None:
    shipped = read_registration(CONFIG / "senders", CONFIG / "categories.toml", authorities=AUTHORITIES)
    assert read(folder).text == shipped.text


def test_every_octet_of_a_text_counts(folder: Path) -> None:
    before = read(folder).digest
    file = folder / "bodies" / f"{GEMEENTE}.toml"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n", 1))
    changed = read(folder)
    assert changed.digest != before
    assert "\r\n" in json.loads(changed.text)[f"senders/{GEMEENTE}.toml"]
    file.rename(file.with_name("gemeente.toml"))
    assert read(folder).digest not in (before, changed.digest)


def test_what_is_no_sender_is_no_part_of_it(folder: Path) -> None:
    before = read(folder).digest
    (folder / "bodies" / ".swap.toml").write_text("[")
    (folder / "bodies" / "notes.txt").write_text("x")
    assert read(folder).digest == before


def test_a_file_name_is_plain(folder: Path) -> None:
    file = folder / "bodies" / f"{GEMEENTE}.toml"
    file.rename(file.with_name("gemeente\u00e9.toml"))
    assert "plain ASCII" in mistakes(folder)["bodies"]


def test_a_personal_number_stands_in_no_registration(folder: Path) -> None:
    file = folder / "bodies" / f"{GEMEENTE}.toml"
    file.write_text(file.read_text().replace("CN=documenten.voorbeeld.be", "CN=Jan Peeters,serialNumber=90610100155"))
    found = mistakes(folder)
    assert "spki_sha256" in found[f"{GEMEENTE}.toml: certificates[0].subject"]
    assert "90610100155" not in json.dumps(found)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"categories.toml": 1}', '{"senders/a.toml": ""}', "x"])
def test_what_is_no_text_of_a_registration_is_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="registration 7"):
        reread_registration(text, version=7, authorities=None)


def test_a_mistake_in_a_kept_text_names_version_file_and_place(folder: Path) -> None:
    texts: dict[str, Any] = json.loads(read(folder).text)
    texts[f"senders/{GEMEENTE}.toml"] += "\n[typo]\n"
    with pytest.raises(ConfigInvalid) as invalid:
        reread_registration(json.dumps(texts), version=7, authorities=AUTHORITIES)
    assert [error.pointer for error in invalid.value.errors] == [f"registration 7: senders/{GEMEENTE}.toml: typo"]


def test_a_kept_text_that_names_an_authority_this_gateway_lacks_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigInvalid, match="none of the configured client_cas"):
        reread_registration(read(folder).text, version=7, authorities={"others"})
