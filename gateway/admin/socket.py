"""
The admin interface: JSON over HTTP on a Unix socket, for the commands of the staff on this machine.

The kernel tells the user id of the process at the other end (SO_PEERCRED, unix(7)); `staff.toml` makes it a person with
roles, and the security matrix says what a role may do. No password, no token, nothing that could leak. Whoever is no
member of staff is refused, whatever they ask for; every command, refused or not, is in the admin log.
"""

import asyncio
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn
from uuid import uuid4

from aiohttp import hdrs, web

from gateway.admin.interface import AdminDeps, Route
from gateway.admin.journal import Actor, command_entry, refusal_entry
from gateway.admin.problems import AdminRefusal, Code, as_refusal, render
from gateway.admin.routes import ROUTES
from gateway.domain.calendar import day_of
from gateway.domain.staff import Person
from gateway.errors import GatewayError, StoreUnavailable
from gateway.stores.model import LogEntry
from gateway.telemetry import Metrics

_log: Final = logging.getLogger(__name__)
_CORRELATION: Final = "x-correlation-id"
_UCRED: Final = struct.Struct("iII")  # struct ucred of Linux: pid, uid, gid
# What Linux shows for a user of another user namespace: it could be anybody.
_NOBODY_UIDS: Final = frozenset({65_534, 0xFFFF_FFFF})
_LARGEST_BODY_BYTES: Final = 16_384
_HEADER_S: Final = 10.0
_DRAIN_S: Final = 10.0
_PROBE_S: Final = 2.0
_BACKLOG: Final = 16
_SOCKET_MODE: Final = 0o660
_DIRECTORY_MODE: Final = 0o700

_UID: Final = web.RequestKey("uid", int)
_PERSON: Final = web.RequestKey("person", Person)

PeerUid = Callable[[asyncio.BaseTransport], int]
_RawHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


__all__ = ["AdminServer", "SocketRefused", "peer_uid", "serve_admin"]


class SocketRefused(GatewayError):
    """The admin socket cannot be made safely at this path; says what stands in the way."""


def peer_uid(transport: asyncio.BaseTransport) -> int:
    """
    Return the user id of the process that connected a Unix socket, as it was at that moment (unix(7)).

    Raises:
        OSError: the connection has gone.
    """
    connection = transport.get_extra_info("socket")
    _pid, uid, _gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


class AdminServer:
    """Listens for the staff; `start` and `stop` each once."""

    def __init__(self, deps: AdminDeps, metrics: Metrics, *, uid_of: PeerUid = peer_uid) -> None:
        self._deps = deps
        self._metrics = metrics
        self._uid_of = uid_of
        self._place: _Place | None = None
        self._runner = web.AppRunner(
            self._application(), access_log=None, keepalive_timeout=_HEADER_S, shutdown_timeout=_DRAIN_S
        )

    async def start(self, path: Path) -> None:
        """
        Listen at `path`. A socket that nobody answers on is removed; the directory is made (0700) when it is missing.

        Raises:
            SocketRefused: another gateway answers there, it is no socket, or others can write in its directory.
            OSError: the file system refuses.
        """
        self._place = await asyncio.to_thread(_listen, path)
        await self._runner.setup()
        await web.SockSite(self._runner, self._place.listener, backlog=_BACKLOG).start()

    async def stop(self) -> None:
        """Take no more commands, finish those that run, remove the socket."""
        if self._place is not None:
            await asyncio.to_thread(self._place.remove)
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._edge], client_max_size=_LARGEST_BODY_BYTES)
        for route in ROUTES:
            application.router.add_route(route.method, route.path, self._handler(route))
        return application

    # ── One request ──

    @web.middleware
    async def _edge(self, request: web.Request, handler: _RawHandler) -> web.StreamResponse:
        correlation_id = str(uuid4())
        response: web.StreamResponse
        try:
            await self._identify(request)
            response = await handler(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 -- the edge turns every error into a problem document, and logs it
            response = render(self._refusal(error, correlation_id), correlation_id)
            if isinstance(error, web.HTTPMethodNotAllowed):
                response.headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods))
        response.headers[_CORRELATION] = correlation_id
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
        route = _path_of(request)
        self._metrics.requests.labels(edge="admin", route=f"{request.method} {route}", status=response.status).inc()
        return response

    async def _identify(self, request: web.Request) -> None:
        """Note who asks; a stranger is refused before anything is said about the request."""
        if request.transport is None:
            raise ConnectionResetError("the caller has gone")
        uid = self._uid_of(request.transport)
        today = day_of(self._deps.deliver.clock())
        person = None if uid in _NOBODY_UIDS else self._deps.staff().person(uid, on=today)
        if person is None:
            await self._refuse_and_log(
                _command_of(request), uid, None, Code.NOT_STAFF, f"user id {uid} is no member of staff in service"
            )
        else:
            request[_UID], request[_PERSON] = uid, person

    def _handler(self, route: Route) -> _RawHandler:
        book = self._deps.deliver.logbook

        async def answer(request: web.Request) -> web.StreamResponse:
            actor = await self._permitted(request, route)
            try:
                _require_no_query(request)
                told = await route.handler(request, actor, self._deps)
            except Exception as error:
                refusal = as_refusal(error)
                with suppress(StoreUnavailable):  # then nothing was done, or the entry is where the change is
                    await self._append(
                        command_entry(book, route.command, actor, result=refusal.code, what=refusal.what)
                    )
                raise
            if not told.in_log:  # before the answer: nobody looks without a trace
                entry = command_entry(
                    book, route.command, actor, result="answered", what=told.what, subject=told.subject
                )
                await self._append(entry)
            return web.json_response(told.body)

        return answer

    async def _permitted(self, request: web.Request, route: Route) -> Actor:
        person, uid = request[_PERSON], request[_UID]
        role = self._deps.matrix().role_for(person.roles, route.part, route.verb)
        if role is None:
            await self._refuse_and_log(
                route.command,
                uid,
                person.name,
                Code.NOT_PERMITTED,
                f"none of your roles may {route.verb} {route.part}; the access manager grants roles",
            )
        return Actor(name=person.name, uid=uid, role=role)

    async def _refuse_and_log(self, command: str, uid: int, name: str | None, code: Code, detail: str) -> NoReturn:
        await self._append(refusal_entry(self._deps.deliver.logbook, command, uid, name=name, result=str(code)))
        raise AdminRefusal(code, detail)

    async def _append(self, entry: LogEntry) -> None:
        await self._deps.deliver.ledger.append([entry])

    def _refusal(self, error: Exception, correlation_id: str) -> AdminRefusal:
        refusal = as_refusal(error)
        if refusal.code in (Code.INTERNAL, Code.STORE_UNAVAILABLE):
            known = isinstance(error, GatewayError)
            _log.error(
                "admin command failed",
                extra={
                    "correlation": correlation_id,
                    "error": type(error).__name__,
                    "cause": str(error) if known else _origin(error),
                },
            )
        return refusal


def _require_no_query(request: web.Request) -> None:
    """Refuse what would be overlooked: `?dryRun=true` must not end in a real decision."""
    if request.query_string:
        raise AdminRefusal(Code.BAD_REQUEST, "commands take no query parameters; nothing was done")


@asynccontextmanager
async def serve_admin(
    path: Path, deps: AdminDeps, metrics: Metrics, *, uid_of: PeerUid = peer_uid
) -> AsyncIterator[AdminServer]:
    """
    Listen for the staff at `path` while the context is open.

    Raises:
        SocketRefused, OSError: as `AdminServer.start`.
    """
    server = AdminServer(deps, metrics, uid_of=uid_of)
    await server.start(path)
    try:
        yield server
    finally:
        await server.stop()


def _path_of(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


def _command_of(request: web.Request) -> str:
    asked = (request.method, _path_of(request))
    return next((route.command for route in ROUTES if (route.method, route.path) == asked), "unknown")


def _origin(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""


# ── The socket ──


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A listening socket, and the file that is its name."""

    listener: socket.socket
    path: Path
    identity: tuple[int, int]

    def remove(self) -> None:
        """Remove the name, unless another has taken its place."""
        with suppress(FileNotFoundError):
            if _identity(self.path) == self.identity:
                self.path.unlink()


def _listen(path: Path) -> _Place:
    """Return a socket that listens at `path`; nobody but its user and group could ever connect to it."""
    _require_own_directory(path.parent)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), _SOCKET_MODE)  # Linux makes the file with this mode, less the umask
        listener.bind(os.fspath(path))
        path.chmod(_SOCKET_MODE)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        return _Place(listener=listener, path=path, identity=_identity(path))
    except BaseException:
        listener.close()
        raise


def _require_own_directory(directory: Path) -> None:
    """
    Make the directory for ourselves alone.

    One that is there may be opened (0750) to a group of staff with accounts of their own, but not to be written in:
    whoever can replace the socket can pose as the gateway.
    """
    with suppress(FileExistsError):
        directory.mkdir(_DIRECTORY_MODE)
    state = directory.stat()
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or state.st_uid not in (os.geteuid(), 0):
        raise SocketRefused(f"others can write in {directory}; it must belong to the gateway's user: chmod go-w")


def _remove_stale(path: Path) -> None:
    """Remove what a crash left: a socket on which the kernel knows no listener."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketRefused(f"{path} is there and is no socket; name another path, or move that file away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass  # somebody listens, and is busy
    raise SocketRefused(f"another gateway answers at {path}; stop it first")


def _identity(path: Path) -> tuple[int, int]:
    state = path.lstat()
    return state.st_dev, state.st_ino
