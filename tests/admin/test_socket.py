import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.admin.problems import AdminRefusal, Code, as_refusal, render
from gateway.admin.routes import ROUTES
from gateway.admin.socket import AdminServer, SocketRefused, serve_admin
from gateway.domain.ids import MessageId
from gateway.domain.message import Channel
from gateway.domain.staff import Part, Role, SecurityMatrix, Staff, Verb
from gateway.errors import KeyringRefused, StoreUnavailable
from gateway.stores.model import KeyedMessage, LogEntry

EBOX = Channel.EBOX_CITIZEN
READS = [route for route in ROUTES if route.method == "GET"]


def path_of(path: str) -> str:
    return path.replace("{messageId}", "0190163d-8694-739b-aea5-966c26f8ad90")


# ── who may ──


async def test_every_route_that_is_served_declares_the_right_it_needs(new_admin: Any) -> None:
    admin = new_admin()
    application = AdminServer(admin.deps(), admin.metrics)._application()
    served = {
        (route.method, route.resource.canonical) for route in application.router.routes() if route.resource is not None
    }
    assert served == {(route.method, route.path) for route in ROUTES}
    assert all(isinstance(route.part, Part) and isinstance(route.verb, Verb) for route in ROUTES)


def test_what_changes_something_needs_more_than_reading() -> None:
    assert {route.method for route in ROUTES if route.verb is Verb.READ} == {"GET"}
    assert {route.verb for route in ROUTES if route.method != "GET"} == {Verb.MODIFY}


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.command)
async def test_a_role_may_do_what_the_matrix_says_and_nothing_else(
    admin: Any, make_person: Any, route: Any, role: Role
) -> None:
    admin.staff = Staff(persons=(make_person("Somebody", admin.uid, role),))
    status, answer = await admin.ask(route.method, path_of(route.path), json={} if route.method == "POST" else None)
    entry = admin.office.log("admin")[-1]
    assert (entry["ev"], entry["who"]["person"], entry["who"]["uid"]) == (route.command, "Somebody", "1001")
    if admin.matrix.may(role, route.part, route.verb):
        assert status in {200, 400, 404}
        assert entry["who"]["role"] == role
    else:
        assert (status, answer["type"]) == (403, "urn:document-gateway:problem:not-permitted")
        assert (entry["res"], entry["who"].get("role")) == ("not-permitted", None)


def test_the_matrix_lets_operators_decide_and_support_only_look(matrix: SecurityMatrix) -> None:
    deciding = {role for role in Role if matrix.may(role, Part.MESSAGES, Verb.MODIFY)}
    looking = {role for role in Role if matrix.may(role, Part.MESSAGES, Verb.READ)}
    assert deciding == {Role.OPERATOR}
    assert looking == {Role.OPERATOR, Role.SUPPORT, Role.AUDITOR}


@pytest.mark.parametrize("path", ["/ops/doubts", "/status", "/no/such/path"])
async def test_a_stranger_is_refused_whatever_they_ask_and_it_is_logged(admin: Any, path: str) -> None:
    admin.uid = 4444
    status, problem = await admin.get(path)
    assert (status, problem["type"]) == (403, "urn:document-gateway:problem:not-staff")
    entry = admin.office.log("admin")[-1]
    assert (entry["who"], entry["res"]) == ({"uid": "4444"}, "not-staff")


async def test_a_stranger_decides_nothing(office: Any, admin: Any) -> None:
    doubt = await office.in_doubt(EBOX)
    admin.uid = 4444
    assert (await admin.decide(doubt, "accepted"))[0] == 403
    assert await office.ledger.to_decide() == [doubt]


async def test_support_looks_at_a_doubt_and_does_not_decide_it(office: Any, admin: Any, make_person: Any) -> None:
    doubt = await office.in_doubt(EBOX)
    admin.staff = Staff(persons=(make_person("A Supporter", admin.uid, Role.SUPPORT),))
    assert (await admin.get("/ops/doubts"))[0] == 200
    assert (await admin.decide(doubt, "accepted"))[0] == 403
    assert await office.ledger.to_decide() == [doubt]


async def test_who_is_out_of_service_is_a_stranger_from_the_next_day_on(
    office: Any, admin: Any, make_person: Any
) -> None:
    last_day = office.clock.now.date()
    admin.staff = Staff(persons=(make_person("A Leaver", admin.uid, Role.OPERATOR, until=last_day),))
    assert (await admin.get("/status"))[0] == 200
    office.clock.advance(timedelta(days=1))
    assert (await admin.get("/status"))[0] == 403


@pytest.mark.parametrize("uid", [65_534, 4_294_967_295])
async def test_a_user_id_that_stands_for_nobody_is_refused_even_if_somebody_registered_it(
    admin: Any, make_person: Any, uid: int
) -> None:
    admin.staff = Staff(persons=(make_person("Nobody", uid, Role.OPERATOR),))
    admin.uid = uid
    assert (await admin.get("/status"))[0] == 403


async def test_a_change_of_roles_holds_for_the_next_command_of_an_open_connection(admin: Any, make_person: Any) -> None:
    assert (await admin.get("/status"))[0] == 200
    admin.staff = Staff(persons=(make_person("An Operator", admin.uid, Role.KEY_MANAGER),))
    assert (await admin.get("/status"))[0] == 403


@pytest.mark.parametrize(("registered", "status"), [(os.getuid(), 200), (os.getuid() + 1, 403)])
async def test_the_kernel_says_which_user_connects(
    office: Any, new_admin: Any, socket_path: Path, make_person: Any, *, registered: int, status: int
) -> None:
    admin = new_admin()
    admin.staff = Staff(persons=(make_person("Myself", registered, Role.OPERATOR),))
    async with (
        serve_admin(socket_path, admin.deps(), admin.metrics),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket_path))) as admin.session,
    ):
        assert (await admin.get("/status"))[0] == status
    assert office.log("admin")[-1]["who"]["uid"] == str(os.getuid())


# ── what is told ──


async def test_doubts_tell_what_to_look_up_and_what_can_be_decided(
    office: Any, admin: Any, no_personal_data: Callable[[object], None]
) -> None:
    doubt = await office.in_doubt(EBOX, Channel.PRINT)
    status, body = await admin.get("/ops/doubts")
    assert (status, body["total"]) == (200, 1)
    row = body["doubts"][0]
    assert row == row | {
        "deliveryId": str(doubt.delivery_id),
        "messageId": str(doubt.message_id),
        "sender": "0406798006",
        "profile": "burgerzaken",
        "channel": "ebox-citizen",
        "provider": "bosa",
        "reason": "outcome-unknown",
        "since": "2026-11-22T10:00:00Z",
        "deadlineAt": "2026-11-23T10:00:00Z",
        "attempts": 1,
        "canBeDecided": ["accepted", "not-accepted", "give-up"],
    }
    no_personal_data(body)


async def test_late_deliveries_are_told_with_how_late_they_are(
    office: Any, admin: Any, no_personal_data: Callable[[object], None]
) -> None:
    message = await office.post(EBOX)
    _, empty = await admin.get("/ops/late")
    assert (empty["late"], empty["total"]) == ([], 0)
    assert [each["count"] for each in empty["erasures"].values()] == [0, 0]
    office.clock.advance(timedelta(days=2, minutes=1))
    status, body = await admin.get("/ops/late")
    assert (status, body["total"]) == (200, 1)
    row = body["late"][0]
    assert (row["messageId"], row["nextAction"], row["lateSeconds"]) == (str(message.message_id), "send", 60)
    assert (row["owner"], row["since"], row["canBeDecided"]) == ("worker", "2026-11-22T10:00:00Z", [])
    assert "stays in the queue" in row["then"]
    assert "workers run" in row["advice"]
    no_personal_data(body)


async def test_what_should_be_erased_and_is_not_is_told_with_its_messages(
    office: Any, admin: Any, no_personal_data: Callable[[object], None]
) -> None:
    doubts = [await office.in_doubt(EBOX) for _ in range(2)]
    for doubt in doubts:
        await admin.decide(doubt, "accepted")
    office.clock.advance(timedelta(hours=1))
    assert (await admin.get("/ops/late"))[1]["erasures"]["copies"]["count"] == 0
    office.clock.advance(timedelta(minutes=1))
    _, body = await admin.get("/ops/late")
    copies = body["erasures"]["copies"]
    assert (copies["count"], copies["owner"], copies["oldestDueAt"]) == (2, "sweeper", "2026-11-22T10:00:00Z")
    assert {each["messageId"] for each in copies["messages"]} == {str(doubt.message_id) for doubt in doubts}
    no_personal_data(body)
    record = await office.message(doubts[0].message_id)
    assert await office.ledger.destroy_keys(record, office.clock.now, [])
    office.clock.advance(timedelta(minutes=61))
    _, body = await admin.get("/ops/late")
    assert [each["count"] for each in body["erasures"].values()] == [1, 1]
    assert (await admin.get("/status"))[1]["lateErasures"] == 2


async def test_a_message_is_shown_with_its_deliveries_and_timeline_and_nothing_personal(
    office: Any, admin: Any, no_personal_data: Callable[[object], None]
) -> None:
    doubt = await office.in_doubt(EBOX)
    status, body = await admin.get(f"/ops/show/{doubt.message_id}")
    assert (status, body["status"], body["documents"]) == (200, "needs-decision", 1)
    assert [(each["deliveryId"], each["attempts"]) for each in body["deliveries"]] == [(str(doubt.delivery_id), 1)]
    assert [(each["event"], each["result"]) for each in body["timeline"]] == [("in-doubt", "unknown")]
    no_personal_data(body)
    entry = office.log("admin")[-1]
    assert (entry["ev"], entry["what"]) == ("ops-show", {"message": str(doubt.message_id)})


@pytest.mark.parametrize("message_id", ["0190163d-8694-739b-aea5-966c26f8ad90", "1", "%2e%2e", "X" * 300])
async def test_a_message_that_is_not_there_is_not_found(admin: Any, message_id: str) -> None:
    status, problem = await admin.get(f"/ops/show/{message_id}")
    assert (status, problem["type"]) == (404, "urn:document-gateway:problem:not-found")


async def test_the_status_tells_versions_queues_and_the_registration_in_force(office: Any, admin: Any) -> None:
    await office.in_doubt(EBOX)
    await office.post(Channel.PRINT)
    office.clock.advance(timedelta(minutes=5))
    status, body = await admin.get("/status")
    assert status == 200
    assert body == body | {
        "gateway": "gateway.test",
        "registrationVersion": 7,
        "startedAt": "2026-11-22T10:00:00Z",
        "uptimeSeconds": 300,
        "toDecide": 1,
        "late": 0,
        "lateErasures": 0,
    }
    assert body["versions"]["gateway"] == "1.2.3"
    assert {(each["channel"], each["action"], each["count"]) for each in body["queues"]} == {
        ("ebox-citizen", "decide", 1),
        ("print", "send", 1),
    }


@pytest.mark.parametrize("route", READS, ids=lambda route: route.command)
async def test_whoever_looks_leaves_a_trace(office: Any, admin: Any, route: Any) -> None:
    message = await office.post(EBOX)
    status, _ = await admin.get(route.path.replace("{messageId}", str(message.message_id)))
    entry = office.log("admin")[-1]
    assert (status, entry["ev"], entry["res"]) == (200, route.command, "answered")
    assert entry["who"] == {"person": "An Operator", "uid": "1001", "role": "operator"}


# ── what is refused ──


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"{}", "text/plain", 415, "unsupported-media-type"),
        (b"{", "application/json", 400, "bad-request"),
        (b"\xff", "application/json", 400, "bad-request"),
        (b"[]", "application/json", 400, "bad-request"),
        (b'{"reason": "abc", "reason": "abd"}', "application/json", 400, "bad-request"),
        (b"[" * 5_000, "application/json", 400, "bad-request"),
        (b" " * 20_000, "application/json", 413, "body-too-large"),
    ],
)
async def test_a_body_that_is_no_order_is_a_problem(
    admin: Any, content: bytes, content_type: str, status: int, code: str
) -> None:
    answer = await admin.ask("POST", "/ops/decide", data=content, headers={"Content-Type": content_type})
    assert (answer[0], answer[1]["type"]) == (status, f"urn:document-gateway:problem:{code}")
    assert admin.office.log("admin")[-1]["res"] == code


async def test_a_dry_run_asked_for_in_the_query_is_refused_instead_of_overlooked(office: Any, admin: Any) -> None:
    doubt = await office.in_doubt(EBOX)
    body = {"deliveryId": str(doubt.delivery_id), "decision": "accepted", "reason": "asked them"}
    status, problem = await admin.ask("POST", "/ops/decide?dryRun=true", json=body)
    assert (status, problem["type"]) == (400, "urn:document-gateway:problem:bad-request")
    assert await office.ledger.to_decide() == [doubt]


async def test_an_unknown_path_and_a_wrong_method_are_problems(admin: Any) -> None:
    assert (await admin.get("/no/such/path"))[1]["type"] == "urn:document-gateway:problem:not-found"
    status, problem = await admin.ask("DELETE", "/ops/decide")
    assert (status, problem["detail"]) == (405, "this path takes POST")


class Broken:
    """A ledger of which one call fails."""

    def __init__(self, ledger: Any, call: str, error: Exception) -> None:
        self._ledger = ledger
        self._call = call
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == self._call else getattr(self._ledger, name)

    async def _fail(self, *_arguments: object) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("call", "error", "status", "code"),
    [
        ("to_decide", StoreUnavailable("disk full at /secret"), 503, "store-unavailable"),
        ("append", StoreUnavailable("disk full at /secret"), 503, "store-unavailable"),
        ("to_decide", KeyringRefused("the key /secret"), 500, "internal"),
        ("to_decide", ValueError("90610100155"), 500, "internal"),
    ],
)
async def test_what_failed_inside_is_not_told_outside(
    office: Any, new_admin: Any, socket_path: Path, *, call: str, error: Exception, status: int, code: str
) -> None:
    admin = new_admin()
    async with (
        serve_admin(
            socket_path, admin.deps(Broken(office.ledger, call, error)), admin.metrics, uid_of=lambda _: admin.uid
        ),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket_path))) as admin.session,
    ):
        answer, problem = await admin.get("/ops/doubts")
    assert (answer, problem["type"]) == (status, f"urn:document-gateway:problem:{code}")
    assert "secret" not in json.dumps(problem)
    assert "90610100155" not in json.dumps(problem)


async def test_a_decision_on_a_message_that_changed_meanwhile_is_refused(
    office: Any, new_admin: Any, socket_path: Path
) -> None:
    doubt = await office.in_doubt(EBOX)
    admin = new_admin()

    class Meddling(Broken):
        async def keyed_message(self, message_id: MessageId) -> KeyedMessage:
            found: KeyedMessage = await self._ledger.keyed_message(message_id)
            # As if somebody else had changed the message after it was read.
            return replace(found, record=replace(found.record, revision=99))

    async with (
        serve_admin(
            socket_path,
            admin.deps(Meddling(office.ledger, "", ValueError())),
            admin.metrics,
            uid_of=lambda _: admin.uid,
        ),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket_path))) as admin.session,
    ):
        status, problem = await admin.decide(doubt, "accepted")
    assert (status, problem["type"]) == (409, "urn:document-gateway:problem:not-waiting")
    assert await office.ledger.to_decide() == [doubt]


@pytest.mark.parametrize("code", list(Code))
async def test_every_refusal_has_a_problem_document_of_its_own(code: Code) -> None:
    response = render(as_refusal(AdminRefusal(code, "a fix")), "c-1")
    body = json.loads(response.text or "")
    assert body["type"] == f"urn:document-gateway:problem:{code}"
    assert (body["status"], body["instance"]) == (response.status, "c-1")
    assert response.status >= 400
    assert response.content_type == "application/problem+json"


async def test_commands_are_counted_by_route_and_never_by_id(office: Any, admin: Any) -> None:
    message = await office.post(EBOX)
    await admin.get(f"/ops/show/{message.message_id}")
    await admin.get("/no/such/path")
    samples = [sample for family in admin.metrics.registry.collect() for sample in family.samples]
    counted = {
        (sample.labels["route"], sample.labels["status"])
        for sample in samples
        if sample.name == "gateway_requests_total" and sample.labels["edge"] == "admin"
    }
    assert counted == {("GET /ops/show/{messageId}", "200"), ("GET unknown", "404")}


# ── the socket ──


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_there(path: Path) -> bool:
    return path.exists()


def leave_file(path: Path) -> None:
    path.parent.mkdir(0o700)
    path.write_text("precious")


def content_of(path: Path) -> str:
    return path.read_text()


def remove(path: Path) -> None:
    path.unlink()


def leave_stale(path: Path) -> None:
    path.parent.mkdir(0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))


async def test_the_socket_is_for_its_user_and_group_in_a_directory_for_its_user(admin: Any) -> None:
    assert (mode(admin.path), mode(admin.path.parent)) == (0o660, 0o700)


async def test_the_umask_of_the_process_does_not_matter(new_admin: Any, socket_path: Path) -> None:
    admin = new_admin()
    before = os.umask(0o077)
    try:
        async with serve_admin(socket_path, admin.deps(), admin.metrics):
            assert (mode(socket_path), mode(socket_path.parent)) == (0o660, 0o700)
    finally:
        os.umask(before)


async def test_a_directory_opened_to_a_group_of_staff_stays_so(new_admin: Any, socket_path: Path) -> None:
    admin = new_admin()
    socket_path.parent.mkdir()
    socket_path.parent.chmod(0o750)
    async with serve_admin(socket_path, admin.deps(), admin.metrics):
        assert mode(socket_path.parent) == 0o750


@pytest.mark.parametrize("others", [0o770, 0o702])
async def test_a_directory_in_which_others_can_write_is_refused(new_admin: Any, socket_path: Path, others: int) -> None:
    admin = new_admin()
    socket_path.parent.mkdir()
    socket_path.parent.chmod(others)
    with pytest.raises(SocketRefused, match="others can write"):
        await AdminServer(admin.deps(), admin.metrics).start(socket_path)
    assert not is_there(socket_path)


async def test_what_a_crash_left_is_replaced(new_admin: Any, socket_path: Path) -> None:
    admin = new_admin()
    leave_stale(socket_path)
    async with (
        serve_admin(socket_path, admin.deps(), admin.metrics, uid_of=lambda _: admin.uid),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket_path))) as admin.session,
    ):
        assert (await admin.get("/status"))[0] == 200


async def test_a_second_gateway_leaves_the_socket_of_the_first_alone(new_admin: Any, admin: Any) -> None:
    second = new_admin()
    with pytest.raises(SocketRefused, match="another gateway answers"):
        await AdminServer(second.deps(), second.metrics).start(admin.path)
    assert (await admin.get("/status"))[0] == 200


async def test_a_file_in_the_place_of_the_socket_is_left_alone(new_admin: Any, socket_path: Path) -> None:
    admin = new_admin()
    leave_file(socket_path)
    with pytest.raises(SocketRefused, match="no socket"):
        await AdminServer(admin.deps(), admin.metrics).start(socket_path)
    assert content_of(socket_path) == "precious"


async def test_the_socket_goes_when_the_gateway_stops(new_admin: Any, socket_path: Path) -> None:
    admin = new_admin()
    async with serve_admin(socket_path, admin.deps(), admin.metrics):
        assert is_there(socket_path)
    assert not is_there(socket_path)


async def test_the_socket_of_a_successor_stays_when_the_gateway_stops(new_admin: Any, socket_path: Path) -> None:
    admin = new_admin()
    async with serve_admin(socket_path, admin.deps(), admin.metrics):
        remove(socket_path)
        leave_stale(socket_path)
    assert is_there(socket_path)


async def test_a_command_that_runs_is_finished_when_the_gateway_stops(
    office: Any, new_admin: Any, socket_path: Path
) -> None:
    doubt = await office.in_doubt(EBOX)
    begun, go_on = asyncio.Event(), asyncio.Event()
    admin = new_admin()

    class Slow(Broken):
        async def append(self, entries: Sequence[LogEntry]) -> None:
            begun.set()
            await go_on.wait()
            await self._ledger.append(entries)

    server = AdminServer(admin.deps(Slow(office.ledger, "", ValueError())), admin.metrics, uid_of=lambda _: admin.uid)
    await server.start(socket_path)
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket_path))) as admin.session:
        asking = asyncio.create_task(admin.get("/ops/doubts"))
        await begun.wait()
        stopping = asyncio.create_task(server.stop())
        go_on.set()
        assert [row["deliveryId"] for row in (await asking)[1]["doubts"]] == [str(doubt.delivery_id)]
        await stopping
