"""What is in force is a numbered version in the ledger; files become one when somebody says so."""

import asyncio
import hashlib
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import rfc8785

from gateway.config.reader import ConfigInvalid
from gateway.domain.staff import Role
from gateway.records.registrations import StillNeeded
from gateway.stores.model import RegistrationVersion

GEMEENTE, BELASTING = "0406798006", "0566988259"


def rename(values: Any) -> None:
    values["name"] = "Gemeente Nieuwe Naam"


def withdraw(values: Any) -> None:
    """Take the right to one category away."""
    (profile,) = values["profiles"]
    profile["authorisations"] = [each for each in profile["authorisations"] if each["category"] != "tax-assessment"]


async def test_a_start_puts_the_files_in_force_and_keeps_their_text(premises: Any) -> None:
    (row,) = await premises.query("SELECT version, author, digest, files FROM registration_version")
    version, author, digest, text = row
    assert (version, author, digest) == (1, "start-up", hashlib.sha256(text.encode()).digest())
    kept = json.loads(text)
    assert text.encode() == rfc8785.dumps(kept)
    names = ["categories.toml", f"senders/{GEMEENTE}.toml", f"senders/{BELASTING}.toml"]
    assert {name: kept[name] for name in names} == kept
    assert kept[names[1]] == premises.files.sender(GEMEENTE).read_text()
    (entry,) = await premises.log("start-up")
    assert entry["who"] == {"gateway": "gateway.dev.example"}
    assert entry["what"] == {"versionBefore": 0, "versionAfter": 1, "digest": digest.hex(), "reason": "start-up"}


async def test_the_same_files_keep_their_number_over_a_restart_and_others_get_the_next(
    premises_with: Any, files: Any
) -> None:
    async def number_of_a_start() -> int:
        async with AsyncExitStack() as stack:
            premises = await premises_with(own_stack=stack)
            number: int = await premises.version()
        return number

    assert [await number_of_a_start() for _ in range(2)] == [1, 1]
    await asyncio.to_thread(files.edit, files.sender(GEMEENTE), rename)
    assert await number_of_a_start() == 2
    premises = await premises_with()
    assert [entry["what"]["versionAfter"] for entry in await premises.log("start-up")] == [1, 2]


async def test_what_would_change_is_shown_and_nothing_is_changed(premises: Any) -> None:
    await premises.edit(premises.files.sender(GEMEENTE), rename)
    await asyncio.to_thread(premises.files.sender(BELASTING).unlink)
    await premises.edit(premises.files.sender(GEMEENTE), lambda values: values.pop("processors"))
    told = await premises.diff()
    assert (told["registrationInForce"], told["registrationAfter"], told["needs"]) == (1, 2, [])
    assert "~ sender 0406798006: name Gemeente Voorbeeld -> Gemeente Nieuwe Naam" in told["changes"]
    assert "- sender 0406798006, processor 0566988259" in told["changes"]
    gone = "- sender 0566988259, certificate CN=documenten.belastingdienst.example,O=Belastingdienst Voorbeeld,C=BE"
    assert any(line.startswith(gone) for line in told["changes"])
    assert all(line.startswith(("~ sender 0406798006:", "- sender ")) for line in told["changes"])
    assert await premises.version() == 1
    assert await (await premises.wire("belasting")).ask() == (200, b'{"messages": []}')


async def test_applied_files_hold_for_the_next_request_and_are_logged_with_who_and_why(premises: Any) -> None:
    sender = await premises.house.sender()
    first = await sender.accepted()
    await premises.edit(premises.files.sender(GEMEENTE), withdraw)
    shown = await premises.diff()
    done = await premises.done("/senders/apply", digest=shown["digest"][:12], reason="contract ended")
    assert done == shown | {"registrationInForce": 1, "registrationAfter": 2}
    assert (await sender.send()).code == "category-not-authorised"
    versions = await premises.query("SELECT version, author FROM registration_version ORDER BY version")
    assert versions == [(1, "start-up"), (2, "Jo Peeters")]
    (entry,) = await premises.log("senders-apply")
    assert entry["who"] | {"uid": ""} == {"person": "Jo Peeters", "role": "access-manager", "uid": ""}
    assert entry["what"] == {
        "versionBefore": 1,
        "versionAfter": 2,
        "digest": shown["digest"],
        "reason": "contract ended",
    }
    assert (await sender.view(first))["status"] == "accepted"


async def test_a_message_keeps_the_number_of_the_registration_it_was_accepted_under(premises: Any) -> None:
    sender = await premises.house.sender()
    await sender.accepted()
    await premises.edit(premises.files.sender(GEMEENTE), rename)
    await premises.done("/senders/apply")
    await sender.accepted()
    letters = await premises.query("SELECT registration_version, letterhead FROM message ORDER BY position")
    assert [number for number, _ in letters] == [1, 2]
    assert ["Gemeente Nieuwe Naam" in letterhead for _, letterhead in letters] == [False, True]


async def test_a_comment_alone_makes_a_version_and_changes_nothing_else(premises: Any) -> None:
    file = premises.files.sender(GEMEENTE)
    await asyncio.to_thread(file.write_text, file.read_text() + "\n# seen by the auditor\n")
    done = await premises.done("/senders/apply")
    assert (done["registrationAfter"], done["changes"]) == (2, [])


async def test_applying_what_is_in_force_makes_no_version_and_is_logged(premises: Any) -> None:
    done = await premises.done("/senders/apply", reason="to be sure")
    assert (done["registrationInForce"], done["registrationAfter"], done["changes"]) == (1, 1, [])
    assert await premises.query("SELECT count(*) FROM registration_version") == [(1,)]
    (entry,) = await premises.log("senders-apply")
    assert (entry["res"], entry["what"]) == ("answered", {"reason": "to be sure"})


async def test_every_mistake_is_told_and_what_was_in_force_stays(premises: Any) -> None:
    await premises.edit(premises.files.sender(GEMEENTE), lambda values: values.update(name="", processors="x"))
    await premises.edit(premises.files.sender(BELASTING), lambda values: values.update(typo=1))
    problem = await premises.refused("/senders/apply")
    assert (problem["status"], problem["type"].rpartition(":")[2]) == (422, "config-invalid")
    places = [error["pointer"].rpartition("senders/")[2] for error in problem["errors"]]
    assert set(places) >= {f"{GEMEENTE}.toml: name", f"{GEMEENTE}.toml: processors", f"{BELASTING}.toml: typo"}
    assert await premises.version() == 1
    assert await premises.reloads("refused") == 1
    assert (await (await premises.house.sender()).send()).status == 201
    (entry,) = await premises.log("senders-apply")
    assert (entry["res"], entry["what"]) == ("config-invalid", {"reason": "a test"})


async def test_files_that_changed_since_they_were_looked_at_are_not_applied(premises: Any) -> None:
    await premises.edit(premises.files.sender(GEMEENTE), rename)
    shown = await premises.diff()
    await premises.edit(premises.files.sender(GEMEENTE), withdraw)
    problem = await premises.refused("/senders/apply", digest=shown["digest"])
    assert "look at them again" in problem["errors"][0]["detail"]
    assert await premises.version() == 1


@pytest.mark.parametrize("digest", ["", "abc", "G" * 12, 7, "a" * 65])
async def test_a_digest_that_is_none_is_refused(premises: Any, digest: object) -> None:
    problem = await premises.refused("/senders/apply", digest=digest)
    assert [error["pointer"] for error in problem["errors"]] == ["/digest"]


async def test_of_many_who_apply_at_once_one_makes_the_version(premises: Any) -> None:
    await premises.edit(premises.files.sender(GEMEENTE), rename)
    done = await asyncio.gather(*(premises.done("/senders/apply") for _ in range(5)))
    assert sorted((each["registrationInForce"], each["registrationAfter"]) for each in done) == [(1, 2)] + [(2, 2)] * 4


async def test_an_operator_looks_and_does_not_apply(premises: Any) -> None:
    await asyncio.to_thread(premises.files.write_staff, Role.OPERATOR)
    await premises.house.gateway.reload()
    assert (await premises.diff())["registrationInForce"] == 1
    for path in ("/senders/apply", "/senders/suspend", "/senders/resume"):
        assert (await premises.refused(path))["status"] == 403


# ── What messages under way need ──


async def test_what_messages_under_way_need_is_not_taken_away(premises: Any) -> None:
    sender, other = await premises.house.sender(), await premises.house.sender("belasting")
    for _ in range(2):
        await sender.accepted()
    await other.accepted()

    def another_profile(values: Any) -> None:
        (certificate,) = values["certificates"]
        certificate.pop("profiles")
        values["profiles"][0]["id"] = "loket"
        values["profiles"][0]["authorisations"] = [
            each | {"ebox": {"citizen": {"message_type": "OTHER", "application": "x"}}, "channels": ["print"]}
            for each in values["profiles"][0]["authorisations"]
        ]
        values.pop("processors")

    await premises.edit(premises.files.sender(GEMEENTE), another_profile)
    await asyncio.to_thread(premises.files.sender(BELASTING).unlink)
    needed = {
        f"profile burgerzaken of sender {GEMEENTE}": 2,
        f"e-Box triple LETTER_CITIZEN, document-gateway (ebox-citizen) of sender {GEMEENTE}": 2,
        f"sender {BELASTING}": 1,
    }
    assert {each["what"]: each["messages"] for each in (await premises.diff())["needs"]} == needed
    problem = await premises.refused("/senders/apply")
    assert (problem["status"], problem["type"].rpartition(":")[2]) == (409, "still-needed")
    assert {error["pointer"]: error["detail"] for error in problem["errors"]} == {
        what: f"{count} messages under way need it" for what, count in needed.items()
    }
    assert await premises.version() == 1
    await sender.accepted()


async def test_a_right_is_withdrawn_although_messages_are_under_way(premises: Any) -> None:
    sender = await premises.house.sender()
    await sender.accepted()
    await premises.edit(premises.files.sender(GEMEENTE), withdraw)
    await premises.done("/senders/apply")
    assert await premises.version() == 2


async def test_a_category_of_a_message_under_way_stays(premises: Any) -> None:
    await (await premises.house.sender()).accepted()
    for number in (GEMEENTE, BELASTING):
        await premises.edit(
            premises.files.sender(number),
            lambda values: [
                profile.update(
                    authorisations=[
                        {**each, "category": "civil-status"} if each["category"] == "tax-assessment" else each
                        for each in profile["authorisations"]
                    ]
                )
                for profile in values["profiles"]
            ],
        )
    await premises.edit(
        premises.files.folder / "categories.toml", lambda values: values["categories"].pop("tax-assessment")
    )
    problem = await premises.refused("/senders/apply")
    assert [error["pointer"] for error in problem["errors"]] == ["category tax-assessment"]


async def test_a_gateway_does_not_start_without_what_messages_under_way_need(premises_with: Any, files: Any) -> None:
    async with AsyncExitStack() as stack:
        premises = await premises_with(own_stack=stack)
        await (await premises.house.sender()).accepted()

    def no_print(values: Any) -> None:
        del values["providers"]["house-a"], values["channels"]["print"]

    for _ in range(2):
        with pytest.raises(StillNeeded, match=r"provider house-a \(1 messages under way\)"):
            await premises_with(no_print)
    await asyncio.to_thread(files.sender(GEMEENTE).unlink)
    with pytest.raises(StillNeeded, match=rf"sender {GEMEENTE} \(1 messages under way\)"):
        await premises_with()
    assert await premises.query("SELECT count(*) FROM registration_version") == [(1,)]


# ── What another process put in force ──


async def put_in_force_elsewhere(premises: Any, version: int, change: Any) -> None:
    """Do what another process on the same ledger does, whose file of the sender is changed so."""
    ledger = premises.house.gateway.ledger
    texts = json.loads((await ledger.registration_in_force()).text)
    name = f"senders/{GEMEENTE}.toml"
    text = rfc8785.dumps(texts | {name: change(texts[name])})
    new = RegistrationVersion(
        version=version,
        digest=hashlib.sha256(text).digest(),
        author="another process",
        at=datetime.now(UTC),
        text=text.decode(),
    )
    assert await ledger.add_registration(new, [])


async def test_what_another_process_put_in_force_is_followed(premises: Any) -> None:
    sender = await premises.house.sender()
    assert (await sender.send()).status == 201
    await put_in_force_elsewhere(premises, 2, lambda text: "active = false\n" + text)

    async def followed() -> bool:
        return bool((await sender.call("GET", "/api/v1/messages")).status == 403)

    await premises.until(followed)
    assert (await sender.send()).code == "sender-suspended"
    assert (await premises.version(), await premises.reloads("followed")) == (2, 1)
    done = await premises.done("/senders/apply")  # the files here are the source for whoever applies them here
    assert (done["registrationInForce"], done["registrationAfter"]) == (2, 3)
    assert done["changes"] == [f"~ sender {GEMEENTE}: active no -> yes"]
    assert (await sender.send()).status == 201


@pytest.mark.parametrize(("old", "new"), [("name = ", "typo = "), ("dev-clients", "new-ca")])
async def test_what_this_process_cannot_read_leaves_what_it_uses(premises: Any, old: str, new: str) -> None:
    await put_in_force_elsewhere(premises, 2, lambda text: text.replace(old, new))

    async def told() -> bool:
        return bool(await premises.reloads("refused") >= 1)

    await premises.until(told)
    for _ in range(2):
        await premises.diff()  # looks at the ledger again
    assert (await premises.version(), await premises.reloads("refused")) == (1, 1)
    assert (await (await premises.house.sender()).send()).status == 201
    await put_in_force_elsewhere(premises, 3, lambda text: text.replace(new, old))

    async def followed() -> bool:
        return bool(await premises.version() == 3)

    await premises.until(followed)


async def test_a_text_that_was_tampered_with_is_not_followed(premises: Any) -> None:
    ledger = premises.house.gateway.ledger
    in_force = await ledger.registration_in_force()
    tampered = replace(in_force, version=2, text=in_force.text.replace("Gemeente", "Gemeenxe"))
    assert await ledger.add_registration(tampered, [])

    async def told() -> bool:
        return bool(await premises.reloads("refused") == 1)

    await premises.until(told)
    assert await premises.version() == 1


async def test_a_start_with_mistakes_changes_nothing(premises_with: Any, files: Any) -> None:
    async with AsyncExitStack() as stack:
        premises = await premises_with(own_stack=stack)
    await premises.edit(files.sender(GEMEENTE), lambda values: values.update(typo=1))
    with pytest.raises(ConfigInvalid):
        await premises_with()
    assert await premises.query("SELECT count(*) FROM registration_version") == [(1,)]
