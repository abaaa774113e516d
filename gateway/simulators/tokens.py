"""
The authorization server of the e-Box: `client_credentials` with `private_key_jwt`.

Sources: RFC 6749 sections 4.4 and 5 (grant, answers, errors), RFC 7523 section 3 (assertion), OpenID Connect Core
section 9 (`private_key_jwt`); the scopes and the audience are those of the NSSO's v5 server.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.jws import extract_compact

from gateway.simulators.front import Refusal

_EBOX: Final = "scope:document:management:consult:ws-eboxrestentreprise:"
_FEDERATION: Final = "scope:documentmanagement:ebox:enterprise:federation-rest:"
SCOPE_PUBLICATION: Final = f"{_EBOX}publicationsender"
SCOPE_REPRESENTATIVE: Final = f"{_EBOX}eboxrepresentativepublication"
SCOPE_CONSULTATION: Final = f"{_EBOX}messagesfull"
SCOPE_PREFERENCE: Final = f"{_FEDERATION}preference"
ALL_SCOPES: Final = frozenset(
    {
        SCOPE_PUBLICATION,
        SCOPE_REPRESENTATIVE,
        SCOPE_CONSULTATION,
        SCOPE_PREFERENCE,
        f"{_EBOX}summaryownebox",
        f"{_EBOX}summaryallebox",
        f"{_EBOX}referencedata",
        f"{_EBOX}documentconsumer",
        f"{_FEDERATION}registry",
    }
)

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CLOCK_SKEW_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A registered OAuth client; `organisation` is the enterprise number in its certificate."""

    client_id: str
    public_key: RSAPublicKey
    organisation: str
    scopes: frozenset[str] = ALL_SCOPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What an access token stands for."""

    client_id: str
    organisation: str
    scopes: frozenset[str]
    expires_at: datetime


class TokenServer:
    """Verifies client assertions and hands out opaque access tokens."""

    def __init__(self, *, clients: Iterable[Client], clock: Callable[[], datetime], lifetime: timedelta) -> None:
        self._clients = {client.client_id: client for client in clients}
        self._clock = clock
        self._lifetime = lifetime
        self._grants: dict[str, Grant] = {}
        self._used: dict[tuple[str, str], float] = {}  # (client, jti) -> Unix time at which the assertion expires

    def register(self, client: Client) -> None:
        """Add a client, or replace the one of that id."""
        self._clients[client.client_id] = client

    def issue(self, form: Mapping[str, str], audiences: tuple[str, ...]) -> dict[str, Any]:
        """
        Answer a token request; `audiences` are the names this server answers to, the token URL first of all.

        Raises:
            Refusal: 400 `invalid_request`, `unsupported_grant_type`, `invalid_scope`, or 401 `invalid_client`.
        """
        if form.get("grant_type") != "client_credentials":
            if "grant_type" in form:
                raise Refusal(HTTPStatus.BAD_REQUEST, "unsupported_grant_type", "only client_credentials")
            raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_request", "grant_type is missing")
        client = self._authenticated(form, audiences)
        asked = form.get("scope", "").split()
        if not asked or not client.scopes.issuperset(asked):
            raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_scope", "no scope, or one that the client does not have")
        self._forget_expired()
        token = secrets.token_urlsafe(32)
        self._grants[token] = Grant(
            client_id=client.client_id,
            organisation=client.organisation,
            scopes=frozenset(asked),
            expires_at=self._clock() + self._lifetime,
        )
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": int(self._lifetime.total_seconds()),
            "scope": " ".join(asked),
        }

    def grant(self, token: str) -> Grant | None:
        """Return what the token stands for, or None if it is unknown or expired."""
        grant = self._grants.get(token)
        return grant if grant is not None and grant.expires_at > self._clock() else None

    def expire_all(self) -> int:
        """Make every access token invalid and return how many there were."""
        count = len(self._grants)
        self._grants.clear()
        return count

    def _authenticated(self, form: Mapping[str, str], audiences: tuple[str, ...]) -> Client:
        if form.get("client_assertion_type") != ASSERTION_TYPE or "client_assertion" not in form:
            raise _invalid_client("no client assertion of type jwt-bearer")
        assertion = form["client_assertion"]
        client = self._signer(assertion)
        claims = _verified_claims(assertion, client)
        if claims.get("iss") != client.client_id or claims.get("sub") != client.client_id:
            raise _invalid_client("iss and sub are not the client id")
        if form.get("client_id", client.client_id) != client.client_id:
            raise _invalid_client("client_id is not that of the assertion")
        named = claims.get("aud")
        if not any(name in audiences for name in (named if isinstance(named, list) else [named])):
            raise _invalid_client("aud is not this token endpoint")
        expires_at_s, issued_at_s = _seconds(claims, "exp"), _seconds(claims, "iat")
        now_s = self._clock().timestamp()
        if expires_at_s <= now_s or issued_at_s > now_s + _CLOCK_SKEW_S:
            raise _invalid_client("the assertion has expired or was issued in the future")
        self._use_once(client, claims.get("jti"), expires_at_s)
        return client

    def _signer(self, assertion: str) -> Client:
        """Find the client that the assertion names; nothing in it is believed before that client's key verified it."""
        try:
            claimed = json.loads(extract_compact(assertion.encode()).payload)
        except (JoseError, ValueError) as error:
            raise _invalid_client("the assertion is no JWT") from error
        name = claimed.get("iss") if isinstance(claimed, dict) else None
        if not isinstance(name, str) or name not in self._clients:
            raise _invalid_client("unknown client")
        return self._clients[name]

    def _use_once(self, client: Client, jti: object, expires_at_s: float) -> None:
        if not isinstance(jti, str) or not jti:
            raise _invalid_client("jti is missing")
        if (client.client_id, jti) in self._used:
            raise _invalid_client("this jti was used before")
        self._used[client.client_id, jti] = expires_at_s

    def _forget_expired(self) -> None:
        now = self._clock()
        self._grants = {token: grant for token, grant in self._grants.items() if grant.expires_at > now}
        self._used = {used: expires_at_s for used, expires_at_s in self._used.items() if expires_at_s > now.timestamp()}


def _verified_claims(assertion: str, client: Client) -> dict[str, Any]:
    try:
        return jwt.decode(assertion, RSAKey.import_key(client.public_key), algorithms=["RS256"]).claims
    except JoseError as error:
        raise _invalid_client("the assertion is not signed by this client with RS256") from error


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid_client(f"{name} is missing or no number")
    return float(value)


def _invalid_client(reason: str) -> Refusal:
    return Refusal(HTTPStatus.UNAUTHORIZED, "invalid_client", reason)
