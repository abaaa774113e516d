"""Access tokens from the simulated authorization server: how they are asked for, kept, shared and replaced."""

import asyncio
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import pytest
from joserfc import jwt
from joserfc.jws import extract_compact

from gateway.adapters.http import Answer
from gateway.adapters.oauth import Grant
from gateway.domain.ids import EnterpriseNumber
from gateway.errors import ChannelBlocked, DeliveryError, Unreachable
from gateway.simulators.ebox_settings import DEMO_CLIENT_ID
from gateway.simulators.tokens import SCOPE_PREFERENCE, SCOPE_PUBLICATION

PUBLISH = Grant(scope=SCOPE_PUBLICATION)
TOKEN = {"access_token": "t-1", "token_type": "Bearer", "expires_in": 300}


def answer(status: int) -> Answer:
    return Answer(status=status, media_type="", body=b"", whole=True, retry_after_s=None)


async def test_an_assertion_is_signed_short_lived_and_single_use(ebox: Any, stub: Any) -> None:
    stub.answers(200, data={**TOKEN, "expires_in": 1})
    source = ebox.tokens(token_url=f"{stub.url}/token")
    for _ in range(2):
        assert await source.token(PUBLISH) == "t-1"
    seen = set()
    for path, headers, body in stub.requests:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        claims = jwt.decode(form["client_assertion"], ebox.key, algorithms=["RS256"]).claims
        assert (path, headers["Content-Type"]) == ("/token", "application/x-www-form-urlencoded")
        assert (form["grant_type"], form["scope"]) == ("client_credentials", SCOPE_PUBLICATION)
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert claims["iss"] == claims["sub"] == form["client_id"] == DEMO_CLIENT_ID
        assert claims["aud"] == ebox.settings().audience
        assert claims["iat"] == ebox.clock().timestamp()
        assert 0 < claims["exp"] - claims["iat"] <= 300
        assert extract_compact(form["client_assertion"].encode()).headers() == {"alg": "RS256", "typ": "JWT"}
        seen.add(UUID(claims["jti"]))
    assert len(seen) == 2


async def test_a_token_is_kept_until_a_minute_before_its_end(ebox: Any) -> None:
    source = ebox.tokens()
    first = await source.token(PUBLISH)
    ebox.clock.move(seconds=239)
    assert await source.token(PUBLISH) == first
    ebox.clock.move(seconds=1)
    assert await source.token(PUBLISH) != first
    assert ebox.calls("token") == 2


@pytest.mark.parametrize("lifetime", [{}, {"expires_in": 60}, {"expires_in": -5}, {"expires_in": True}])
async def test_a_token_without_a_minute_to_live_is_used_once(ebox: Any, stub: Any, lifetime: dict[str, int]) -> None:
    stub.answers(200, data={"access_token": "t-1", "token_type": "bearer", **lifetime})
    source = ebox.tokens(token_url=stub.url)
    for _ in range(2):
        assert await source.token(PUBLISH) == "t-1"
    assert len(stub.requests) == 2


async def test_a_lifetime_may_be_written_as_text(ebox: Any, stub: Any) -> None:
    stub.answers(200, data={**TOKEN, "expires_in": "300"})
    source = ebox.tokens(token_url=stub.url)
    for _ in range(2):
        assert await source.token(PUBLISH) == "t-1"
    assert len(stub.requests) == 1


async def test_each_scope_and_sender_has_its_own_token(ebox: Any) -> None:
    source = ebox.tokens()
    grants = [
        PUBLISH,
        Grant(scope=SCOPE_PREFERENCE),
        Grant(scope=SCOPE_PUBLICATION, on_behalf_of=EnterpriseNumber("0566988259")),
        Grant(scope=SCOPE_PUBLICATION, on_behalf_of=EnterpriseNumber("0406798006")),
    ]
    tokens = [await source.token(grant) for grant in grants * 2]
    assert tokens[:4] == tokens[4:]
    assert len(set(tokens)) == ebox.calls("token") == 4


async def test_callers_at_the_same_time_share_one_fetch(ebox: Any) -> None:
    source = ebox.tokens()
    tokens = await asyncio.gather(*(source.token(PUBLISH) for _ in range(20)))
    assert len(set(tokens)) == 1
    assert ebox.calls("token") == 1


async def test_callers_at_the_same_time_share_one_failure(ebox: Any) -> None:
    ebox.simulator.faults.order("token", "unauthorised")
    source = ebox.tokens()
    outcomes = await asyncio.gather(*(source.token(PUBLISH) for _ in range(20)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ChannelBlocked}
    assert ebox.calls("token") == 1
    assert await source.token(PUBLISH)


async def test_a_caller_that_gives_up_does_not_take_the_others_along(ebox: Any) -> None:
    ebox.simulator.faults.order("token", "slow")
    source = ebox.tokens()
    first, second = (asyncio.create_task(source.token(PUBLISH)) for _ in range(2))
    async with asyncio.timeout(10):
        await ebox.simulator.records.until(lambda records: records.held == 1)
    first.cancel()
    assert await second
    assert first.cancelled()


async def test_only_the_refused_token_is_forgotten(ebox: Any) -> None:
    source = ebox.tokens()
    first = await source.token(PUBLISH)
    source.invalidate(PUBLISH, first)
    second = await source.token(PUBLISH)
    source.invalidate(PUBLISH, first)
    source.invalidate(Grant(scope="never asked for"), first)
    assert await source.token(PUBLISH) == second != first


@pytest.mark.parametrize(
    ("statuses", "wanted", "tokens"),
    [([200], 200, 1), ([401, 201], 201, 2), ([401, 401, 201], 401, 2), ([403, 201], 403, 1), ([401, 403], 403, 2)],
)
async def test_only_a_401_leads_to_one_new_token_and_one_more_call(
    ebox: Any, statuses: list[int], wanted: int, tokens: int
) -> None:
    source, used, left = ebox.tokens(), [], list(statuses)

    async def make(token: str) -> Answer:
        used.append(token)
        return answer(left.pop(0))

    assert (await source.call(PUBLISH, make)).status == wanted
    assert len(set(used)) == len(used) == tokens == ebox.calls("token")


@pytest.mark.parametrize(
    ("fault", "times", "error", "calls"),
    [
        ("bad-request", 1, ChannelBlocked, 1),
        ("unauthorised", 1, ChannelBlocked, 1),
        ("forbidden", 1, ChannelBlocked, 1),
        ("redirect", 1, ChannelBlocked, 1),
        ("server-error", 3, Unreachable, 3),
        ("unavailable", 1, Unreachable, 1),
        ("request-timeout", 3, Unreachable, 3),
        ("too-many-requests", 1, Unreachable, 1),
        ("close", 3, Unreachable, 3),
        ("keep-then-truncate", 3, Unreachable, 3),
        ("malformed-json", 1, Unreachable, 1),
        ("wrong-content-type", 1, Unreachable, 1),
    ],
)
async def test_each_failure_of_the_token_endpoint_has_its_meaning(
    *, ebox: Any, fault: str, times: int, error: type[DeliveryError], calls: int
) -> None:
    ebox.simulator.faults.order("token", fault, times)
    source = ebox.tokens()
    with pytest.raises(DeliveryError) as caught:
        await source.token(PUBLISH)
    assert type(caught.value) is error
    assert ebox.calls("token") == calls
    assert await source.token(PUBLISH)


@pytest.mark.parametrize("fault", ["server-error", "close", "request-timeout"])
async def test_short_trouble_is_sat_out(ebox: Any, fault: str) -> None:
    ebox.simulator.faults.order("token", fault, 2)
    assert await ebox.tokens().token(PUBLISH)
    assert ebox.calls("token") == 3


async def test_a_server_that_is_away_or_silent_is_unreachable(ebox: Any, closed_port: int) -> None:
    with pytest.raises(Unreachable):
        await ebox.tokens(token_url=f"http://127.0.0.1:{closed_port}").token(PUBLISH)
    ebox.simulator.faults.order("token", "hang")
    with pytest.raises(Unreachable):
        await ebox.tokens(look_up_timeout_s=0.2, look_up_tries=1).token(PUBLISH)


async def test_the_servers_own_code_tells_why_it_refuses(ebox: Any) -> None:
    with pytest.raises(ChannelBlocked, match="token: answered 400 invalid_scope"):
        await ebox.tokens().token(Grant(scope="unknown"))


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        None,
        {"access_token": "t-1"},
        {"access_token": "t-1", "token_type": "mac"},
        {"access_token": "", "token_type": "Bearer"},
        {"access_token": 5, "token_type": "Bearer"},
        {"access_token": "two words", "token_type": "Bearer"},
        {"access_token": "t-1\r\nX-Injected: 1", "token_type": "Bearer"},
    ],
)
async def test_an_answer_without_a_bearer_token_is_none(ebox: Any, stub: Any, content: Any) -> None:
    stub.answers(200, data=content)
    with pytest.raises(Unreachable, match="no bearer token"):
        await ebox.tokens(token_url=stub.url).token(PUBLISH)
