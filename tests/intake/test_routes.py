"""Rules about the routes of this edge as a whole: who is let in where, and that every refusal has its document."""

from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import Kind, Refusal
from gateway.intake.problems import PROBLEMS, render
from gateway.intake.routes import ROUTES, Authentication, Route

if TYPE_CHECKING:
    from tests.plugins.house import House
else:
    from house import House

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")
PUBLIC = (
    "trust", "openapi.json", "docs", "message.xsd", "batch.xsd", "receipt.xsd", "xmldsig-subset.xsd",
    "message.schema.json", "batch.schema.json", "examples/message.xml", "examples/message.jws", "examples/batch.xml",
    "examples/batch.jws", "examples/batch-m1.xml", "examples/batch-m1.json",
)  # fmt: skip
A_MESSAGE = "01a2014e-92d4-7f37-a359-d66bd764a1fe"

# The statuses that senders' software is written against.
STATUSES = {
    400: {"bad-request", "malformed-message", "multipart-invalid", "signature-invalid"},
    403: {
        "category-not-authorised", "certificate-revoked", "channel-not-contracted", "profile-not-authorised",
        "recipient-not-authorised", "sender-suspended", "sender-unknown", "signer-mismatch",
    },
    404: {"not-found"},
    405: {"method-not-allowed"},
    408: {"request-timeout"},
    409: {"already-dispatched", "reference-conflict", "still-receiving"},
    410: {"cursor-expired", "feed-restored"},
    413: {"document-too-large", "message-too-large"},
    415: {"unsupported-media-type"},
    422: {
        "channel-cannot-carry", "created-at-out-of-window", "document-mismatch", "document-not-acceptable",
        "invalid-message", "wrong-gateway",
    },
    429: {"quota-exceeded"},
    500: {"internal"},
    503: {"overloaded", "provider-unavailable", "store-unavailable"},
}  # fmt: skip


def path_of(route: Route) -> str:
    return route.path.replace("{messageId}", A_MESSAGE).replace("{batchId}", A_MESSAGE).replace("{n}", "1")


def test_every_kind_of_refusal_has_its_status_and_a_title_of_its_own() -> None:
    assert set(PROBLEMS) == set(Kind)
    found: dict[int, set[str]] = {}
    for kind, problem in PROBLEMS.items():
        found.setdefault(problem.status.value, set()).add(str(kind))
    assert found == STATUSES
    titles = [problem.title for problem in PROBLEMS.values()]
    assert len(set(titles)) == len(titles)
    for kind in Kind:
        document = render(Refusal(kind, "why"), "correlation")
        assert document.status == PROBLEMS[kind].status
        assert document.content_type == "application/problem+json"


def test_every_route_names_how_its_caller_is_known() -> None:
    assert ROUTES
    for route in ROUTES:
        assert isinstance(route.authentication, Authentication)
        assert (route.handler is not None) == (route.authentication is Authentication.CALLER)
        assert (route.open_handler is not None) == (route.authentication is Authentication.TLS)
    signed = [(route.method, route.path) for route in ROUTES if route.authentication is Authentication.SIGNED]
    assert signed == [("POST", "/api/v1/messages")]
    batches = [(route.method, route.path) for route in ROUTES if route.authentication is Authentication.SIGNED_BATCH]
    assert batches == [("POST", "/api/v1/batches")]
    public = [(route.method, route.path) for route in ROUTES if route.authentication is Authentication.TLS]
    assert public == [("GET", f"/api/v1/{name}") for name in PUBLIC]
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


async def test_a_route_that_mixes_its_authentication_up_keeps_the_gateway_from_starting(
    make_house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (open_handler,) = {route.handler for route in ROUTES if route.path == "/api/v1/statusRequest"}
    for authentication, handler in (
        (Authentication.SIGNED, open_handler),
        (Authentication.SIGNED_BATCH, open_handler),
        (Authentication.CALLER, None),
        (Authentication.TLS, open_handler),
    ):
        wrong = Route(method="GET", path="/api/v1/open", authentication=authentication, handler=handler)
        monkeypatch.setattr("gateway.intake.server.ROUTES", (*ROUTES, wrong))
        with pytest.raises(ValueError, match="GET /api/v1/open has no handler that fits its authentication"):
            await make_house(parts=["intake"])


async def test_no_route_answers_without_a_client_certificate_and_only_public_ones_to_one_that_nobody_registered(
    intake: House, connect: Any, make_request: Any
) -> None:
    for route in ROUTES:
        request = make_request(route.method, path_of(route), {"Content-Type": "application/json"})
        without = await connect(intake, None)
        assert (route, await without.ask(request)) == (route, None)
        assert without.alert == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        for name in ("unknown-sender", "no-eku"):
            answer = await (await connect(intake, name)).ask(request)
            if route.authentication is Authentication.TLS:
                assert (route, answer.status) == (route, 200)
            else:
                assert (route, answer.status, answer.code) == (route, 403, "sender-unknown")


async def test_there_are_no_other_routes_and_no_other_methods(intake: House, connect: Any, make_request: Any) -> None:
    paths = sorted({path_of(route) for route in ROUTES})
    allowed = {path: {route.method for route in ROUTES if path_of(route) == path} for path in paths}
    wire = await connect(intake)
    for path in paths:
        for method in METHODS:
            if method == "HEAD":
                continue  # has an answer without a body, told apart below
            answer = await wire.ask(make_request(method, path))
            assert (method, path, answer.status == 405) == (method, path, method not in allowed[path])
    for path in ("/", "/docs", "/metrics", "/health/live", "/d/token", "/hooks/house-a", "/api/v1", "/API/V1/messages"):
        answer = await wire.ask(make_request("GET", path))
        assert (path, answer.status, answer.code) == (path, 404, "not-found")
    await wire.send(make_request("HEAD", "/api/v1/messages"))
    head = await wire.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
