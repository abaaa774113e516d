"""
An e-Box: token endpoint, Message Registry v2 and v3 (sender's side), federation service and mandate look-up.

Sources: Message Registry API 2.1, federation API 1.3, the e-Box pages for document senders and document providers.
Where those are silent (bodies of `citizenEboxConsents` and `hasMandate`, scope of `searchMessageStatus`), README.md
names the choice made here.
"""

import json
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from aiohttp import hdrs, web

from gateway.simulators.control import control_routes
from gateway.simulators.ebox_boxes import Boxes
from gateway.simulators.ebox_message import Dialect, invalid
from gateway.simulators.ebox_registry import PublishCall, Published, Registry, status_message
from gateway.simulators.ebox_settings import DEMO_TRIPLES, EboxPaths, Triple, WithoutConsent
from gateway.simulators.ebox_upload import read_upload
from gateway.simulators.faults import FaultEngine
from gateway.simulators.front import Advance, Answer, Clock, Front, Refusal, utc_now
from gateway.simulators.records import Records
from gateway.simulators.structured import sf_string
from gateway.simulators.tokens import (
    SCOPE_CONSULTATION,
    SCOPE_PREFERENCE,
    SCOPE_PUBLICATION,
    SCOPE_REPRESENTATIVE,
    Client,
    Grant,
    TokenServer,
)

ON_BEHALF_OF: Final = "On-Behalf-Of-Enterprise-Number"
IDEMPOTENCY_KEY: Final = "Idempotency-Key"
OPERATIONS: Final = ("token", "publish", "status", "preferences", "consents", "mandate")
PUBLISH_SCOPES: Final = frozenset({SCOPE_PUBLICATION, SCOPE_REPRESENTATIVE})
STATUS_SCOPES: Final = PUBLISH_SCOPES | {SCOPE_CONSULTATION}
PREFERENCE_SCOPES: Final = frozenset({SCOPE_PREFERENCE})

_BEARER: Final = re.compile(r"Bearer ([A-Za-z0-9._~+/-]+=*)\Z", re.IGNORECASE)

_Handler = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    fields: Mapping[str, str] = field(repr=False)
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _JsonCall:
    grant: Grant
    body: Any = field(repr=False)
    facts: Mapping[str, str] = field(default_factory=dict)


class EboxSimulator:
    """
    One e-Box environment: `app` serves it; `faults`, `records`, `registry` and `boxes` are its Python control.

    `public_url` is the origin that token assertions name as audience; without it, the origin of each request counts.
    `limit_bytes` bounds the files of one message together. See `Boxes` for `mandates` and `without_consent`.
    """

    def __init__(
        self,
        *,
        clients: Iterable[Client] = (),
        triples: Iterable[Triple] = DEMO_TRIPLES,
        mandates: Iterable[tuple[str, str]] | None = None,
        paths: EboxPaths | None = None,
        public_url: str | None = None,
        clock: Clock = utc_now,
        advance: Advance = "on-poll",
        without_consent: WithoutConsent = "refuse",
        require_idempotency_key: bool = True,
        keep_bytes: bool = False,
        limit_bytes: int = 30_000_000,
        token_lifetime: timedelta = timedelta(minutes=5),
    ) -> None:
        self.paths = paths or EboxPaths()
        self._public_url = public_url
        self.records = Records(clock=clock)
        self.faults = FaultEngine(
            operations=OPERATIONS,
            header_facts=("idempotency_key", "on_behalf_of"),
            body_facts=("recipient", "sender", "application", "message_type"),
        )
        self.front = Front(faults=self.faults, records=self.records, error_form=_error_form)
        self.tokens = TokenServer(clients=clients, clock=clock, lifetime=token_lifetime)
        self.boxes = Boxes(mandates=mandates, without_consent=without_consent)
        self.registry = Registry(triples=triples, boxes=self.boxes, records=self.records, advance=advance)
        self._require_key = require_idempotency_key
        self._keep_bytes = keep_bytes
        self._limit_bytes = limit_bytes
        self.app = self._application()

    def register(self, client: Client) -> None:
        """Let an OAuth client ask for tokens."""
        self.tokens.register(client)

    @property
    def messages(self) -> Mapping[str, Published]:
        """Return the published messages by message id."""
        return self.registry.messages

    def _application(self) -> web.Application:
        app = web.Application()
        app.on_shutdown.append(self.front.shut_down)
        paths = self.paths
        calls: dict[str, _Handler] = {
            paths.token: self._token,
            f"{paths.registry_v2}/publishMessage": self._publish(Dialect.V2),
            f"{paths.registry_v3}/ebox/messages": self._publish(Dialect.V3),
            f"{paths.registry_v2}/searchMessageStatus": self._json_call("status", STATUS_SCOPES, self._status),
            f"{paths.federation}/eboxPreferences/search": self._json_call(
                "preferences", PREFERENCE_SCOPES, self._preferences
            ),
            f"{paths.federation}/citizenEboxConsents/search": self._json_call(
                "consents", PREFERENCE_SCOPES, self._consents
            ),
        }
        app.add_routes([web.post(path, handler) for path, handler in calls.items()])
        app.add_routes([web.get(f"{paths.partition}/ebox/{{enterpriseNumber}}/hasMandate", self._mandate)])
        app.add_routes(
            control_routes(
                self.front,
                {
                    "read": self._order_read,
                    "consents": self._order_consent,
                    "tokens/expire": self._order_expiry,
                },
            )
        )
        return app

    # the provider's calls

    async def _token(self, request: web.Request) -> web.StreamResponse:
        async def receive() -> _Form:
            if request.content_type != "application/x-www-form-urlencoded":
                raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_request", "a form is expected")
            try:
                fields = (await request.post()).items()
            except (ValueError, LookupError) as error:
                raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_request", "the form cannot be read") from error
            return _Form(fields={name: value for name, value in fields if isinstance(value, str)})

        async def act(form: _Form) -> Answer:
            origin = self._public_url or f"{request.scheme}://{request.host}"
            payload = self.tokens.issue(form.fields, (origin + self.paths.token,))
            return Answer(status=HTTPStatus.OK, payload=payload, headers={hdrs.CACHE_CONTROL: "no-store"})

        return await self.front.serve(request, "token", facts={}, receive=receive, act=act)

    def _publish(self, dialect: Dialect) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            async def receive() -> PublishCall:
                grant = self._authorised(request, PUBLISH_SCOPES)
                key = self._idempotency_key(request)
                upload = await read_upload(request, dialect, limit_bytes=self._limit_bytes, keep_bytes=self._keep_bytes)
                behalf = request.headers.get(ON_BEHALF_OF)
                return PublishCall(grant=grant, on_behalf_of=behalf, key=key, dialect=dialect, upload=upload)

            facts = _header_facts(request)
            publish = self.registry.publish
            return await self.front.serve(request, "publish", facts=facts, receive=receive, act=publish)

        return handle

    def _json_call(
        self,
        operation: str,
        scopes: frozenset[str],
        act: Callable[[_JsonCall], Coroutine[Any, Any, Answer]],
    ) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            async def receive() -> _JsonCall:
                grant = self._authorised(request, scopes)
                return _JsonCall(grant=grant, body=await _json_body(request))

            facts = _header_facts(request)
            return await self.front.serve(request, operation, facts=facts, receive=receive, act=act)

        return handle

    async def _status(self, call: _JsonCall) -> Answer:
        return self.registry.status(call.body, call.grant)

    async def _preferences(self, call: _JsonCall) -> Answer:
        return Answer(status=HTTPStatus.OK, payload=self.boxes.preferences(call.body))

    async def _consents(self, call: _JsonCall) -> Answer:
        return Answer(status=HTTPStatus.OK, payload=self.boxes.consents(call.body))

    async def _mandate(self, request: web.Request) -> web.StreamResponse:
        async def receive() -> _JsonCall:
            return _JsonCall(grant=self._authorised(request, None), body=None)

        async def act(call: _JsonCall) -> Answer:
            own = call.grant.organisation
            first = request.match_info["enterpriseNumber"]
            second = request.query.get("mandataryEnterpriseNumber", own)
            if own not in (first, second):
                raise Refusal(HTTPStatus.FORBIDDEN, "FORBIDDEN", "this mandate is not the caller's")
            represented = first if second == own else second
            has_mandate = self.boxes.has_mandate(represented, own)
            return Answer(status=HTTPStatus.OK, payload={"hasMandate": has_mandate})

        return await self.front.serve(request, "mandate", facts={}, receive=receive, act=act)

    def _authorised(self, request: web.Request, scopes: frozenset[str] | None) -> Grant:
        """Return what the bearer token stands for; one of `scopes` must be in it, None asks for no scope."""
        bearer = _BEARER.match(request.headers.get(hdrs.AUTHORIZATION, ""))
        grant = self.tokens.grant(bearer.group(1)) if bearer else None
        if grant is None:
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "UNAUTHORIZED",
                "the token is missing, unknown or expired",
                headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
            )
        if scopes is not None and not scopes & grant.scopes:
            raise Refusal(HTTPStatus.FORBIDDEN, "FORBIDDEN", "the token lacks the scope")
        return grant

    def _idempotency_key(self, request: web.Request) -> str | None:
        given = request.headers.getall(IDEMPOTENCY_KEY, [])
        if not given and not self._require_key:
            return None
        key = sf_string(given[0]) if len(given) == 1 else None
        if key is None:
            raise invalid("one Idempotency-Key, a string in double quotes, is expected")
        return key

    # the control interface

    async def _order_read(self, order: Mapping[str, Any]) -> dict[str, Any]:
        self.registry.mark_read(str(order["messageId"]))
        return {}

    async def _order_consent(self, order: Mapping[str, Any]) -> dict[str, Any]:
        self.boxes.set_consent(str(order["ssin"]), consent=order["consent"] is True)
        return {}

    async def _order_expiry(self, _order: Mapping[str, Any]) -> dict[str, Any]:
        return {"expired": self.tokens.expire_all()}


def _header_facts(request: web.Request) -> dict[str, str]:
    facts = {}
    if IDEMPOTENCY_KEY in request.headers:
        given = request.headers[IDEMPOTENCY_KEY]
        facts["idempotency_key"] = sf_string(given) or given
    if ON_BEHALF_OF in request.headers:
        facts["on_behalf_of"] = request.headers[ON_BEHALF_OF]
    return facts


async def _json_body(request: web.Request) -> Any:
    if request.content_type != "application/json":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "application/json is expected")
    try:
        return json.loads(await request.read())
    except ValueError as error:
        raise invalid("the body is no JSON") from error


def _error_form(operation: str, refusal: Refusal) -> dict[str, Any]:
    if operation == "token":
        return {"error": refusal.code, "error_description": refusal.message}
    payload = status_message(refusal)
    if operation in ("preferences", "consents"):
        payload["environment"] = payload["environment"].upper()
    return payload
