"""
Sends prepared requests over kept TLS connections, and notes what came back and when.

Closed: each connection sends its next request when it has the answer to the last, as fast as it goes. Open: requests
are due at given times, whatever the server does, and what each took counts from the time at which it was due; so a
server that stalls is charged for all that waited meanwhile, not only for the requests that it happened to hold (to miss
that is called coordinated omission).

One event loop, no library between it and TLS; asyncio sets TCP_NODELAY on each connection.
"""

import asyncio
import ssl
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final, Protocol
from urllib.parse import urlsplit

from load.answers import Answer, AnswerReader, AnswerUnreadable, Outcome, outcomes_of_batch
from load.bodies import CONTENT_TYPE, BodySet

_CONNECT_S: Final = 30.0
_ANSWER_S: Final = 120.0
CONNECTIONS: Final = 64  # where nothing else is asked for: enough for commits to be shared
NO_ANSWER: Final = "no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server, and how to speak to it; `tls` None: plainly, for a test."""

    base_url: str
    tls: ssl.SSLContext | None

    @property
    def host(self) -> str:
        """The name in the address, which the certificate has to carry."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def port(self) -> int:
        """The port in the address."""
        return urlsplit(self.base_url).port or 443


class Requests(Protocol):
    """Makes the n-th request of a run: its head, and its body in pieces. Tells what it asks for and what came of it."""

    def head(self, target: Target, number: int) -> bytes:
        """Return the request line and the headers, to their empty line."""

    def pieces(self, number: int) -> Iterator[bytes]:
        """Yield the body."""

    def asked(self, number: int) -> range:
        """Return the numbers of all that it asks for: of the request itself, or of the messages in it."""

    def outcomes(self, number: int, answer: Answer) -> Sequence[Outcome]:
        """Return what became of each of `asked`."""


class _One:
    """What is common to requests that ask for one thing."""

    __slots__ = ()

    def asked(self, number: int) -> range:
        """See `Requests`."""
        return range(number, number + 1)

    def outcomes(self, number: int, answer: Answer) -> Sequence[Outcome]:  # noqa: ARG002 -- the call of all requests
        """See `Requests`."""
        return ((answer.code, answer.is_success),)


@dataclass(frozen=True, slots=True)
class HandOvers:
    """POSTs the bodies of a set, one after the other and from the start again."""

    bodies: BodySet

    def head(self, target: Target, number: int) -> bytes:
        """See `Requests`."""
        return _head(target, "POST", self.bodies.path, self.bodies.entries[number % len(self.bodies)].size_bytes)

    def pieces(self, number: int) -> Iterator[bytes]:
        """See `Requests`."""
        return self.bodies.pieces(number % len(self.bodies))

    def asked(self, number: int) -> range:
        """See `Requests`."""
        return self.bodies.numbers_in(number % len(self.bodies))

    def outcomes(self, number: int, answer: Answer) -> Sequence[Outcome]:
        """See `Requests`."""
        if self.bodies.are_batches:
            return outcomes_of_batch(answer, len(self.asked(number)))
        return ((answer.code, answer.is_success),)


@dataclass(frozen=True, slots=True)
class Uploads(_One):
    """PUTs the bodies of a set under a path, each to a name of its own."""

    bodies: BodySet
    path: str

    def head(self, target: Target, number: int) -> bytes:
        """See `Requests`."""
        size_bytes = self.bodies.entries[number % len(self.bodies)].size_bytes
        return _head(target, "PUT", f"{self.path}/{number}", size_bytes)

    def pieces(self, number: int) -> Iterator[bytes]:
        """See `Requests`."""
        return self.bodies.pieces(number % len(self.bodies))


@dataclass(frozen=True, slots=True)
class LookUps(_One):
    """GETs paths, one after the other and from the start again."""

    paths: Sequence[str]

    def head(self, target: Target, number: int) -> bytes:
        """See `Requests`."""
        return _head(target, "GET", self.paths[number % len(self.paths)], None)

    def pieces(self, number: int) -> Iterator[bytes]:  # noqa: ARG002 -- the call of all requests
        """See `Requests`."""
        return iter(())


def _head(target: Target, method: str, path: str, size_bytes: int | None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {target.host}:{target.port}", "Accept: application/json"]
    if size_bytes is not None:
        lines += [f"Content-Type: {CONTENT_TYPE}", f"Content-Length: {size_bytes}"]
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass(slots=True, kw_only=True)
class Result:
    """
    What came of a run. `latencies_s`: of the requests that were answered 2xx. Of all that was asked for, which for a
    batch are its messages: `accepted`: the numbers of what succeeded, in the order of the answers; `codes`: what became
    of each, the status with the code of a problem, and of a message in a batch its outcome.
    """

    latencies_s: "array[float]" = field(default_factory=lambda: array("d"))
    accepted: "array[int]" = field(default_factory=lambda: array("L"))
    codes: Counter[str] = field(default_factory=Counter)
    wall_s: float = 0.0
    own_cpu_s: float = 0.0  # of the generator

    @property
    def errors(self) -> int:
        """How many of what was asked for did not succeed."""
        return sum(self.codes.values()) - len(self.accepted)

    @property
    def rate_per_s(self) -> float:
        """Successes per second."""
        return len(self.accepted) / self.wall_s if self.wall_s else 0.0

    @property
    def own_share(self) -> float:
        """Share of one core that the generator used; near 1 it was the limit."""
        return self.own_cpu_s / self.wall_s if self.wall_s else 0.0


async def run(
    targets: Sequence[Target],
    requests: Requests,
    *,
    connections: int,
    numbers: Iterator[int],
    due_s: Iterator[float] | None = None,
    longest_s: float,
    on_success: Callable[[int], None] | None = None,
) -> Result:
    """
    Send requests until `numbers`, or `due_s`, or `longest_s` seconds are at an end; `connections` go to the targets in
    turn.

    `due_s`: when each is due, in seconds from the start (open); None: as soon as a connection is free (closed).
    `on_success` is told of each answer how many of what was asked for succeeded.

    Raises:
        OSError: a connection was refused.
    """
    opened = [_Connection(target) for _, target in zip(range(connections), cycle(targets), strict=False)]
    try:
        await asyncio.gather(*(connection.open() for connection in opened))
        result = Result()
        began_s, cpu_s = time.perf_counter(), time.process_time()
        work = _Work(requests, numbers, due_s, began_s, began_s + longest_s, result, on_success)
        await asyncio.gather(*(work.use(connection) for connection in opened))
        result.wall_s, result.own_cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    finally:
        for connection in opened:
            connection.close()
    return result


@dataclass(slots=True)
class _Work:
    requests: Requests
    numbers: Iterator[int]
    due_s: Iterator[float] | None
    began_s: float
    ends_s: float
    result: Result
    on_success: Callable[[int], None] | None

    async def use(self, connection: "_Connection") -> None:
        """Send one request after the other, until there is none left."""
        while (now_s := time.perf_counter()) < self.ends_s:
            number = next(self.numbers, None)
            if number is None:
                return
            counts_from_s = now_s
            if self.due_s is not None:
                due_s = next(self.due_s, None)
                if due_s is None:
                    return
                counts_from_s = self.began_s + due_s
                if counts_from_s > self.ends_s:
                    return
                if counts_from_s > now_s:
                    await asyncio.sleep(counts_from_s - now_s)
            await self._send(connection, number, counts_from_s)

    async def _send(self, connection: "_Connection", number: int, counts_from_s: float) -> None:
        result = self.result
        try:
            answer = await connection.exchange(
                self.requests.head(connection.target, number), self.requests.pieces(number)
            )
        except (OSError, AnswerUnreadable):  # TimeoutError and ConnectionError are OSErrors
            result.codes[NO_ANSWER] += len(self.requests.asked(number))
            return
        if answer.is_success:
            result.latencies_s.append(time.perf_counter() - counts_from_s)
        before = len(result.accepted)
        for asked, (code, is_success) in zip(
            self.requests.asked(number), self.requests.outcomes(number, answer), strict=True
        ):
            result.codes[code] += 1
            if is_success:
                result.accepted.append(asked)
        if self.on_success is not None:
            self.on_success(len(result.accepted) - before)


class _Connection(asyncio.Protocol):
    """One kept connection; opened again when it was closed between two requests."""

    def __init__(self, target: Target) -> None:
        self.target: Final = target
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._answer: asyncio.Future[Answer] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    async def open(self) -> None:
        """Connect, unless the connection stands."""
        if self._transport is not None and not self._transport.is_closing():
            return
        self._reader = AnswerReader()
        self._writable.set()
        async with asyncio.timeout(_CONNECT_S):
            self._transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: self,
                "127.0.0.1",
                self.target.port,
                ssl=self.target.tls,
                server_hostname=self.target.host if self.target.tls is not None else None,
            )

    def close(self) -> None:
        """Close the connection, without waiting for the other side."""
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, head: bytes, pieces: Iterator[bytes]) -> Answer:
        """
        Send one request, and return the answer to it, which may come before all is sent.

        Raises:
            OSError: no connection, no answer, or none in time.
            AnswerUnreadable: an answer that this reader does not take.
        """
        await self.open()
        transport, self._answer = self._transport, asyncio.get_running_loop().create_future()
        if transport is None:
            raise ConnectionResetError
        try:
            async with asyncio.timeout(_ANSWER_S):
                transport.write(head + next(pieces, b""))
                for piece in pieces:
                    await self._writable.wait()
                    if self._answer.done():
                        break
                    transport.write(piece)
                answer = await self._answer
        except BaseException:
            transport.abort()
            raise
        if answer.closes:
            transport.abort()
        return answer

    # ── What the loop calls ──

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            answer = self._reader.feed(data)
        except AnswerUnreadable as error:
            self._end(error)
            return
        if answer is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._transport = None
        self._end(exc if isinstance(exc, OSError) else ConnectionResetError())

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable.set()

    def _end(self, error: Exception) -> None:
        self._writable.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
