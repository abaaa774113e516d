import asyncio
import base64
import hmac
import json
from dataclasses import replace
from datetime import timedelta
from io import BytesIO

import pytest

from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.serve import Simulators
from gateway.simulators.tokens import SCOPE_PREFERENCE, SCOPE_PUBLICATION, Client


async def test_a_signed_assertion_buys_a_bearer_token(ebox):
    reply = await ebox.ask_token(scope=f"{SCOPE_PUBLICATION} {SCOPE_PREFERENCE}")
    assert reply.status == 200
    assert reply.headers["Cache-Control"] == "no-store"
    assert set(reply.json) == {"access_token", "token_type", "expires_in", "scope"}
    assert (reply.json["token_type"], reply.json["expires_in"]) == ("Bearer", 300)
    assert reply.json["scope"] == f"{SCOPE_PUBLICATION} {SCOPE_PREFERENCE}"


async def test_audience_may_stand_in_a_list(ebox):
    audience = ["https://other.example", f"{ebox.url}/REST/oauth/v5/token"]
    assert (await ebox.ask_token(client_assertion=ebox.assertion(aud=audience))).status == 200


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iss": "somebody-else"}, "unknown issuer"),
        ({"iss": ...}, "no issuer"),
        ({"sub": "somebody-else"}, "other subject"),
        ({"aud": "https://elsewhere.example/token"}, "other audience"),
        ({"aud": ...}, "no audience"),
        ({"aud": {"no": "text"}}, "audience of a wrong kind"),
        ({"exp": 1_000_000_000}, "expired"),
        ({"exp": ...}, "no end"),
        ({"exp": "tomorrow"}, "end is no number"),
        ({"exp": True}, "end is a boolean"),
        ({"iat": 9_999_999_999}, "from the future"),
        ({"iat": ...}, "no time of issue"),
        ({"jti": ...}, "no jti"),
        ({"jti": ""}, "empty jti"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
async def test_a_wrong_claim_is_invalid_client(ebox, claims, why):
    reply = await ebox.ask_token(client_assertion=ebox.assertion(**claims))
    assert (reply.status, reply.json["error"]) == (401, "invalid_client"), why


async def test_a_stranger_s_signature_is_invalid_client(ebox, rsa_keys):
    reply = await ebox.ask_token(client_assertion=ebox.assertion(key=rsa_keys[1]))
    assert (reply.status, reply.json["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("alg", ["RS512", "PS256"])
async def test_another_algorithm_is_invalid_client(ebox, alg):
    reply = await ebox.ask_token(client_assertion=ebox.assertion(alg=alg))
    assert (reply.status, reply.json["error"]) == (401, "invalid_client")


async def test_an_hmac_with_the_public_key_as_secret_is_invalid_client(ebox, client_key):
    def encoded(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).decode().rstrip("=")

    payload = ebox.assertion().split(".")[1]
    signed = f"{encoded(json.dumps({'alg': 'HS256'}).encode())}.{payload}"
    mac = hmac.digest(client_key.as_pem(private=False), signed.encode(), "sha256")
    reply = await ebox.ask_token(client_assertion=f"{signed}.{encoded(mac)}")
    assert (reply.status, reply.json["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("assertion", ["", "a.b.c", "é", "eyJhbGciOiJSUzI1NiJ9.WzFd.AAAA"])
async def test_an_assertion_that_is_no_jwt_is_invalid_client(ebox, assertion):
    form = {**ebox.form(), "client_assertion": assertion}
    reply = await ebox.post("/REST/oauth/v5/token", data=form)
    assert (reply.status, reply.json["error"]) == (401, "invalid_client")


async def test_an_assertion_is_good_once(ebox):
    assertion = ebox.assertion()
    assert (await ebox.ask_token(client_assertion=assertion)).status == 200
    again = await ebox.ask_token(client_assertion=assertion)
    assert (again.status, again.json["error"]) == (401, "invalid_client")


async def test_a_jti_stays_used_until_its_assertion_would_have_expired(ebox, clock):
    first = ebox.assertion(jti="one", exp=int(clock().timestamp()) + 1000)
    assert (await ebox.ask_token(client_assertion=first)).status == 200
    clock.move(timedelta(seconds=900))
    assert (await ebox.ask_token()).status == 200
    assert (await ebox.ask_token(client_assertion=first)).status == 401


async def test_one_assertion_sent_twice_at_once_buys_one_token(ebox):
    assertion = ebox.assertion()
    replies = await asyncio.gather(*(ebox.ask_token(client_assertion=assertion) for _ in range(2)))
    assert sorted(reply.status for reply in replies) == [200, 401]


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"grant_type": ...}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_assertion_type": ...}, 401, "invalid_client"),
        ({"client_assertion_type": "urn:other"}, 401, "invalid_client"),
        ({"client_assertion": ...}, 401, "invalid_client"),
        ({"client_id": "somebody-else"}, 401, "invalid_client"),
        ({"scope": ...}, 400, "invalid_scope"),
        ({"scope": "scope:of:something:else"}, 400, "invalid_scope"),
        ({"scope": f"{SCOPE_PUBLICATION} scope:of:something:else"}, 400, "invalid_scope"),
    ],
)
async def test_a_wrong_form_gets_the_oauth_error(ebox, fields, status, error):
    reply = await ebox.ask_token(**fields)
    assert (reply.status, reply.json["error"]) == (status, error)


async def test_a_body_that_is_no_form_is_invalid_request(ebox):
    reply = await ebox.post("/REST/oauth/v5/token", json=ebox.form())
    assert (reply.status, reply.json["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded; charset=klingon", None])
async def test_a_form_that_cannot_be_decoded_is_invalid_request(ebox, media_type):
    headers = {"Content-Type": media_type or "application/x-www-form-urlencoded; charset=utf-8"}
    reply = await ebox.post("/REST/oauth/v5/token", data=b"grant_type=\xff\xfe", headers=headers)
    assert (reply.status, reply.json["error"]) == (400, "invalid_request")


async def test_a_form_above_a_mebibyte_is_too_large(ebox, ebox_simulator):
    form = BytesIO(b"grant_type=client_credentials&padding=" + b"x" * 1_050_000)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = await ebox.post("/REST/oauth/v5/token", data=form, headers=headers)
    assert (reply.status, reply.json["error"]) == (413, "TOO_LARGE")
    assert ebox_simulator.records.calls[-1].status == 413


async def test_a_scope_that_the_client_was_not_given_is_invalid_scope(ebox, ebox_simulator, client):
    ebox_simulator.register(
        Client(
            client_id=client.client_id,
            public_key=client.public_key,
            organisation=client.organisation,
            scopes=frozenset({SCOPE_PREFERENCE}),
        )
    )
    assert (await ebox.ask_token(scope=SCOPE_PREFERENCE)).status == 200
    assert (await ebox.ask_token(scope=SCOPE_PUBLICATION)).json["error"] == "invalid_scope"


async def test_a_configured_public_url_is_the_only_audience(ebox, client, clock):
    public = EboxSimulator(clients=[client], clock=clock, public_url="https://ebox.example")
    async with Simulators(ebox=public) as running:
        caller = replace(ebox, url=running.ebox_url)
        named = caller.assertion(aud="https://ebox.example/REST/oauth/v5/token")
        assert (await caller.ask_token(client_assertion=named)).status == 200
        assert (await caller.ask_token()).status == 401
