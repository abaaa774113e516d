"""
Access tokens: the OAuth 2.0 client credentials grant with a signed assertion as client authentication.

Sources: RFC 6749 sections 4.4 and 5, RFC 6750, RFC 7523 section 2.2, OpenID Connect Core section 9 (`private_key_jwt`).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

from joserfc import jwt
from joserfc.jwk import RSAKey

from gateway.adapters.http import Answer, HttpClient, member, provider_word
from gateway.domain.ids import EnterpriseNumber
from gateway.errors import ChannelBlocked, DeliveryError, Unreachable

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFETIME: Final = timedelta(minutes=4)  # authorization servers take at most five
UNUSED_BEFORE_END: Final = timedelta(seconds=60)
_LONGEST_LIFETIME_S: Final = 86_400

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")  # RFC 6750, section 2.1


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient:
    """Who asks for tokens, and where; `key_id` goes into the assertion's header when set."""

    token_url: str
    audience: str
    client_id: str
    key: RSAKey = field(repr=False)
    key_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """
    What a token is for.

    Tokens of different senders are kept apart, although the token itself names no sender: a token that one sender's
    calls made suspect does not touch the others'.
    """

    scope: str
    on_behalf_of: EnterpriseNumber | None = None


@dataclass(slots=True, kw_only=True)
class _Slot:
    """The token of one grant; `lock` is held while it is fetched."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: str | None = field(default=None, repr=False)
    usable_until: datetime | None = None
    fetches: int = 0
    failure: DeliveryError | None = None


class TokenSource:
    """The tokens of one client, cached until a minute before they end; one fetch per grant at a time."""

    def __init__(self, http: HttpClient, client: OAuthClient, clock: Callable[[], datetime]) -> None:
        self._http = http
        self._client = client
        self._clock = clock
        self._slots: dict[Grant, _Slot] = {}

    async def token(self, grant: Grant) -> str:
        """
        Return a token that is good for at least a minute, or was fetched just now.

        Whoever waits while another fetches shares what comes of it, failure included.

        Raises:
            ChannelBlocked: the authorization server refuses us.
            Unreachable: it cannot be reached, is in trouble, or its answer cannot be read.
        """
        slot = self._slots.setdefault(grant, _Slot())
        fetches_before = slot.fetches
        async with slot.lock:
            if slot.token is not None and slot.usable_until is not None and self._clock() < slot.usable_until:
                return slot.token
            if slot.fetches > fetches_before and slot.failure is not None:
                raise slot.failure.with_traceback(None)
            return await self._fetch(grant, slot)

    def invalidate(self, grant: Grant, token: str) -> None:
        """Forget `token`; a newer one that another call has fetched meanwhile stays."""
        slot = self._slots.get(grant)
        if slot is not None and slot.token == token:
            slot.token = None

    async def call(self, grant: Grant, make: Callable[[str], Awaitable[Answer]]) -> Answer:
        """
        Call `make` with a token; if that is answered 401, once more with a new one. The second answer counts.

        Raises:
            DeliveryError: as for `token`, or what `make` raises.
        """
        token = await self.token(grant)
        answer = await make(token)
        if answer.status != HTTPStatus.UNAUTHORIZED:
            return answer
        self.invalidate(grant, token)
        return await make(await self.token(grant))

    async def _fetch(self, grant: Grant, slot: _Slot) -> str:
        slot.token, slot.failure = None, None
        asked_at = self._clock()
        try:
            answer = await self._http.patiently(lambda: self._ask(grant))
            token, lifetime_s = _read(answer)
        except DeliveryError as exc:
            slot.failure = exc
            raise
        finally:
            slot.fetches += 1
        slot.token, slot.usable_until = token, asked_at + timedelta(seconds=lifetime_s) - UNUSED_BEFORE_END
        return token

    async def _ask(self, grant: Grant) -> Answer:
        # Each try carries a new assertion, because a server may take each `jti` only once.
        form = {
            "grant_type": "client_credentials",
            "scope": grant.scope,
            "client_id": self._client.client_id,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self._assertion(),
        }
        return await self._http.ask_once("token", "POST", self._client.token_url, headers={}, form=form)

    def _assertion(self) -> str:
        client, now = self._client, self._clock()
        header = {"alg": "RS256"} if client.key_id is None else {"alg": "RS256", "kid": client.key_id}
        claims = {
            "iss": client.client_id,
            "sub": client.client_id,
            "aud": client.audience,
            "iat": int(now.timestamp()),
            "exp": int((now + ASSERTION_LIFETIME).timestamp()),
            "jti": str(uuid4()),
        }
        return jwt.encode(header, claims, client.key, algorithms=["RS256"])


def _read(answer: Answer) -> tuple[str, int]:
    """Return the token and its lifetime in seconds, 0 when the server does not tell."""
    if answer.status != HTTPStatus.OK:
        code = provider_word(member(answer.json(), "error")) or ""
        raise ChannelBlocked(f"token: answered {answer.status} {code}".rstrip())
    content = answer.json()
    token, kind = member(content, "access_token"), member(content, "token_type")
    if not isinstance(token, str) or not _TOKEN.match(token) or not isinstance(kind, str) or kind.lower() != "bearer":
        raise Unreachable("token: the answer holds no bearer token")
    return token, _lifetime_s(member(content, "expires_in"))


def _lifetime_s(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return max(0, min(value, _LONGEST_LIFETIME_S))
