from dataclasses import replace

import pytest

from gateway.simulators import magic
from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.serve import Simulators
from gateway.simulators.tokens import (
    SCOPE_CONSULTATION,
    SCOPE_PREFERENCE,
    SCOPE_PUBLICATION,
    SCOPE_REPRESENTATIVE,
    Client,
)

STATUS = "/REST/ebox/enterprise/messageRegistry/v2/searchMessageStatus"
PREFERENCES = "/REST/ebox/enterprise/federation/v1/eboxPreferences/search"
CONSENTS = "/REST/ebox/enterprise/federation/v1/citizenEboxConsents/search"
PARTITION = "/REST/ebox/enterprise/partition/v1/ebox"
OWN = "0316380841"
SENDER = "0406798006"


async def publish(ebox, recipient=magic.CITIZEN_FINE):
    return (await ebox.publish(ebox.message(recipient))).json["messageId"]


async def test_the_status_of_a_message_is_unread_until_it_is_opened(ebox):
    message_id = await publish(ebox)
    reply = await ebox.status((message_id, magic.CITIZEN_FINE))
    assert reply.status == 201
    assert reply.json == [
        {
            "messageId": message_id,
            "eboxId": {"eboxType": "citizen", "eboxIdValue": magic.CITIZEN_FINE},
            "expirationDate": "2028-11-21T11:00:00+01:00",
            "readStatus": False,
            "visible": True,
        }
    ]
    assert (await ebox.control("read", messageId=message_id)).status == 200
    assert (await ebox.status((message_id, magic.CITIZEN_FINE))).json[0]["readStatus"] is True


async def test_many_messages_are_asked_for_in_one_call_and_unknown_ones_left_out(ebox):
    first, second = await publish(ebox), await publish(ebox, magic.ENTERPRISE_FINE)
    reply = await ebox.status(
        (second, magic.ENTERPRISE_FINE),
        ("unknown", magic.CITIZEN_FINE),
        (first, magic.CITIZEN_FINE),
        (first, magic.CITIZEN_UNREAD),
    )
    assert [entry["messageId"] for entry in reply.json] == [second, first]


async def test_no_known_message_is_not_found_and_no_question_an_empty_list(ebox):
    assert (await ebox.status(("unknown", magic.CITIZEN_FINE))).status == 404
    nothing = await ebox.status()
    assert (nothing.status, nothing.json) == (201, [])


async def test_another_organisation_does_not_see_a_message(ebox, ebox_simulator, client):
    message_id = await publish(ebox)
    ebox_simulator.register(Client(client_id=client.client_id, public_key=client.public_key, organisation=SENDER))
    stranger = replace(ebox, tokens={})
    assert (await stranger.status((message_id, magic.CITIZEN_FINE))).status == 404


@pytest.mark.parametrize(
    "body", [{}, ["x"], [{"messageId": "x"}], [{"messageId": 1, "eboxId": {"eboxType": "citizen", "eboxIdValue": "1"}}]]
)
async def test_a_wrong_status_question_is_invalid_input(ebox, body):
    reply = await ebox.call(STATUS, body, [SCOPE_CONSULTATION])
    assert (reply.status, reply.json["code"]) == (400, "INVALID_INPUT")


@pytest.mark.parametrize(
    ("scope", "status"),
    [(SCOPE_PUBLICATION, 201), (SCOPE_REPRESENTATIVE, 201), (SCOPE_CONSULTATION, 201), (SCOPE_PREFERENCE, 403)],
)
async def test_senders_and_consulters_may_ask_for_the_status(ebox, scope, status):
    message_id = await publish(ebox)
    assert (await ebox.status((message_id, magic.CITIZEN_FINE), scopes=[scope])).status == status


async def test_each_look_moves_reading_on_in_demo_mode(ebox, client, clock):
    async with Simulators(ebox=EboxSimulator(clients=[client], clock=clock)) as running:
        caller = replace(ebox, url=running.ebox_url, tokens={})
        reads = {}
        for recipient in (
            magic.CITIZEN_FINE,
            magic.CITIZEN_READ_AT_ONCE,
            magic.CITIZEN_UNREAD,
            magic.ENTERPRISE_UNREAD,
            magic.CITIZEN_NO_BOX,
        ):
            message_id = await publish(caller, recipient)
            looks = [await caller.status((message_id, recipient)) for _ in range(3)]
            reads[recipient] = [look.json[0]["readStatus"] for look in looks]
    assert reads == {
        magic.CITIZEN_FINE: [False, True, True],
        magic.CITIZEN_READ_AT_ONCE: [True, True, True],
        magic.CITIZEN_UNREAD: [False, False, False],
        magic.ENTERPRISE_UNREAD: [False, False, False],
        magic.CITIZEN_NO_BOX: [False, False, False],
    }


async def test_who_reads_at_once_does_so_without_steps(ebox):
    message_id = await publish(ebox, magic.CITIZEN_READ_AT_ONCE)
    assert (await ebox.status((message_id, magic.CITIZEN_READ_AT_ONCE))).json[0]["readStatus"] is True


async def test_reading_cannot_be_ordered_for_who_never_reads_or_for_an_unknown_message(ebox):
    message_id = await publish(ebox, magic.CITIZEN_UNREAD)
    assert (await ebox.control("read", messageId=message_id)).status == 400
    assert (await ebox.control("read", messageId="unknown")).status == 400
    assert (await ebox.control("read")).status == 400


async def test_preferences_name_existing_boxes_only(ebox):
    asked = [
        magic.ENTERPRISE_FINE,
        magic.ENTERPRISE_EXCLUSIVELY_EBOX,
        magic.ENTERPRISE_INACTIVE,
        magic.ENTERPRISE_NO_BOX,
        "0406798007",
    ]
    body = {"eboxType": "ENTERPRISE", "eboxIdType": "EnterpriseNumber", "eboxIdValueList": asked}
    reply = await ebox.call(PREFERENCES, body, [SCOPE_PREFERENCE])
    assert reply.status == 200
    assert {entry["eboxId"]["eboxIdValue"]: entry["exclusivelyEbox"] for entry in reply.json} == {
        magic.ENTERPRISE_FINE: False,
        magic.ENTERPRISE_EXCLUSIVELY_EBOX: True,
    }
    assert {entry["eboxId"]["eboxType"] for entry in reply.json} == {"ENTERPRISE"}


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"eboxType": "CITIZEN", "eboxIdType": "EnterpriseNumber", "eboxIdValueList": []},
        {"eboxType": "ENTERPRISE", "eboxIdType": "EnterpriseNumber", "eboxIdValueList": "0406798006"},
    ],
)
async def test_a_wrong_preference_question_is_invalid_input(ebox, body):
    reply = await ebox.call(PREFERENCES, body, [SCOPE_PREFERENCE])
    assert (reply.status, reply.json["code"], reply.json["environment"]) == (400, "INVALID_INPUT", "TEST")


async def test_consents_are_told_per_citizen_and_can_be_withdrawn(ebox):
    async def ask(*ssins):
        reply = await ebox.call(CONSENTS, {"ssins": ssins}, [SCOPE_PREFERENCE])
        return {entry["ssin"]: entry["consent"] for entry in reply.json}

    told = await ask(magic.CITIZEN_FINE, magic.CITIZEN_NO_CONSENT, magic.CITIZEN_NO_BOX)
    assert told == {magic.CITIZEN_FINE: True, magic.CITIZEN_NO_CONSENT: False, magic.CITIZEN_NO_BOX: True}
    await ebox.control("consents", ssin=magic.CITIZEN_FINE, consent=False)
    assert await ask(magic.CITIZEN_FINE) == {magic.CITIZEN_FINE: False}
    assert (await ebox.publish()).status == 400


@pytest.mark.parametrize("body", [[], {}, {"ssins": "90610100155"}, {"ssins": ["90610100156"]}])
async def test_a_wrong_consent_question_is_invalid_input(ebox, body):
    reply = await ebox.call(CONSENTS, body, [SCOPE_PREFERENCE])
    assert (reply.status, reply.json["code"]) == (400, "INVALID_INPUT")


@pytest.mark.parametrize("path", [PREFERENCES, CONSENTS])
async def test_the_federation_asks_for_its_own_scope(ebox, path):
    assert (await ebox.call(path, {}, [SCOPE_PUBLICATION])).status == 403


@pytest.mark.parametrize("path", [STATUS, PREFERENCES, CONSENTS])
async def test_calls_without_token_are_unauthorised(ebox, path):
    assert (await ebox.post(path, json=[])).status == 401


@pytest.mark.parametrize(("body", "media_type", "status"), [("[]", "text/plain", 415), ("[", "application/json", 400)])
async def test_a_body_that_is_no_json_is_refused(ebox, body, media_type, status):
    headers = {"Authorization": f"Bearer {await ebox.token(SCOPE_CONSULTATION)}", "Content-Type": media_type}
    assert (await ebox.post(STATUS, data=body, headers=headers)).status == status


@pytest.mark.parametrize(
    ("path", "status", "has_mandate"),
    [
        (f"{SENDER}/hasMandate", 200, True),
        (f"{SENDER}/hasMandate?mandataryEnterpriseNumber={OWN}&operation=publish", 200, True),
        (f"{OWN}/hasMandate?mandataryEnterpriseNumber={SENDER}&operation=publish", 200, True),
        (f"{magic.ENTERPRISE_WITHOUT_MANDATE}/hasMandate", 200, False),
        ("0406798007/hasMandate", 200, False),
        (f"{SENDER}/hasMandate?mandataryEnterpriseNumber=0566988259", 403, None),
    ],
)
async def test_a_mandate_is_told_to_its_parties(ebox, path, status, has_mandate):
    headers = {"Authorization": f"Bearer {await ebox.token(SCOPE_REPRESENTATIVE)}"}
    reply = await ebox.get(f"{PARTITION}/{path}", headers=headers)
    assert (reply.status, reply.json.get("hasMandate")) == (status, has_mandate)


async def test_only_listed_mandates_hold_when_they_are_listed(ebox, client, clock):
    simulator = EboxSimulator(clients=[client], clock=clock, mandates=[(SENDER, OWN)])
    async with Simulators(ebox=simulator) as running:
        caller = replace(ebox, url=running.ebox_url, tokens={})
        published = {}
        for sender in (SENDER, "0566988259"):
            reply = await caller.publish(
                caller.message(senderOrganizationId=sender),
                scopes=[SCOPE_REPRESENTATIVE],
                headers={"On-Behalf-Of-Enterprise-Number": sender},
            )
            published[sender] = reply.status
    assert published == {SENDER: 201, "0566988259": 403}


async def test_ordered_expiry_makes_tokens_unauthorised_and_new_ones_work(ebox):
    assert (await ebox.publish()).status == 201
    assert (await ebox.control("tokens/expire")).json == {"expired": 1}
    assert (await ebox.publish()).status == 401
    assert (await replace(ebox, tokens={}).publish()).status == 201
