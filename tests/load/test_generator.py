"""The generator against a server that answers as it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from load.answers import Answer, Outcome
from load.generator import NO_ANSWER, Result, Target, run

OK = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
FULL = b'HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 22\r\n\r\n{"code": "overloaded"}'


class Plain:
    """Requests with a body of `size` bytes in pieces of 1,000."""

    def __init__(self, size: int = 0) -> None:
        self.size = size

    def head(self, target: Target, number: int) -> bytes:
        return f"PUT /{number} HTTP/1.1\r\nHost: {target.host}\r\nContent-Length: {self.size}\r\n\r\n".encode()

    def pieces(self, number: int) -> Iterator[bytes]:  # noqa: ARG002 -- the call of all requests
        return (b"x" * min(1000, self.size - start) for start in range(0, self.size, 1000))

    def asked(self, number: int) -> range:
        return range(number, number + 1)

    def outcomes(self, number: int, answer: Answer) -> list[Outcome]:  # noqa: ARG002 -- the call of all requests
        return [(answer.code, answer.is_success)]


class Threes(Plain):
    """Requests that each ask for three things, of which the last never succeeds."""

    def asked(self, number: int) -> range:
        return range(3 * number, 3 * number + 3)

    def outcomes(self, number: int, answer: Answer) -> list[Outcome]:  # noqa: ARG002 -- the call of all requests
        return [(answer.code, answer.is_success)] * 2 + [("missing", False)]


class Server:
    """Answers the n-th request that arrives with `answers(n)`; None: it hangs up instead. Before that it waits."""

    def __init__(self, answers: Callable[[int], bytes | None]) -> None:
        self.answers = answers
        self.go = asyncio.Event()
        self.go.set()
        self.bodies: list[int] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().rpartition(b"content-length:")[2])
                self.bodies.append(len(await reader.readexactly(size)))
                await self.go.wait()
                answer = self.answers(len(self.bodies))
                if answer is None:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Target]:
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        yield Target(base_url=f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", tls=None)


async def closed(target: Target, count: int, *, connections: int = 2, size: int = 0, longest_s: float = 60) -> Result:
    return await run([target], Plain(size), connections=connections, numbers=iter(range(count)), longest_s=longest_s)


async def test_every_request_is_sent_once_over_kept_connections() -> None:
    server = Server(lambda _: OK)
    async with serving(server) as target:
        result = await closed(target, 50, size=2_500)
    assert server.bodies == [2_500] * 50
    assert server.connections == 2
    assert sorted(result.accepted) == list(range(50))
    assert result.codes == {"201": 50}
    assert len(result.latencies_s) == 50
    assert result.errors == 0


async def test_refusals_are_counted_by_code_and_the_connection_is_opened_again() -> None:
    server = Server(lambda number: FULL if number == 2 else OK)
    async with serving(server) as target:
        result = await closed(target, 4, connections=1)
    assert result.codes == {"201": 3, "503 overloaded": 1}
    assert result.errors == 1
    assert list(result.accepted) == [0, 2, 3]
    assert len(result.latencies_s) == 3
    assert server.connections == 2


async def test_a_lost_connection_is_an_error_and_not_the_end() -> None:
    server = Server(lambda number: None if number == 1 else OK)
    async with serving(server) as target:
        result = await closed(target, 3, connections=1)
    assert result.codes == {NO_ANSWER: 1, "201": 2}


async def test_what_cannot_be_read_is_an_error() -> None:
    server = Server(lambda number: b"what?\r\n\r\n" if number == 1 else OK)
    async with serving(server) as target:
        result = await closed(target, 2, connections=1)
    assert result.codes == {NO_ANSWER: 1, "201": 1}


async def test_nothing_is_sent_once_the_time_is_over() -> None:
    server = Server(lambda _: OK)
    async with serving(server) as target:
        result = await closed(target, 5, longest_s=0)
    assert (result.codes, server.bodies) == ({}, [])


async def test_a_server_that_does_not_listen_ends_the_run() -> None:
    server = Server(lambda _: OK)
    async with serving(server) as target:
        pass
    with pytest.raises(ConnectionRefusedError):
        await closed(target, 1)


async def test_requests_that_wait_for_a_stalled_server_are_charged_from_when_they_were_due() -> None:
    server, length_s = Server(lambda _: OK), 0.5
    server.go.clear()
    asyncio.get_running_loop().call_later(length_s, server.go.set)
    async with serving(server) as target:
        # All are due at once, and one connection sends them one after the other: each waited for the first.
        result = await run(
            [target],
            Plain(),
            connections=1,
            numbers=iter(range(5)),
            due_s=iter([0.0] * 5),
            longest_s=60,
        )
    assert len(result.latencies_s) == 5
    # Counted from when it was sent, all but the first would have taken no time; nothing is too slow for this.
    assert min(result.latencies_s) >= length_s * 0.9


async def test_an_open_run_ends_with_its_schedule() -> None:
    server = Server(lambda _: OK)
    async with serving(server) as target:
        result = await run(
            [target],
            Plain(),
            connections=3,
            numbers=iter(range(100)),
            due_s=iter([0.0, 0.001]),
            longest_s=60,
        )
    assert len(result.accepted) == 2


async def test_connections_go_to_the_servers_in_turn() -> None:
    one, two = Server(lambda _: OK), Server(lambda _: OK)
    async with serving(one) as first, serving(two) as second:
        await run([first, second], Plain(), connections=4, numbers=iter(range(40)), longest_s=60)
    assert (one.connections, two.connections) == (2, 2)
    assert len(one.bodies) + len(two.bodies) == 40


async def test_what_is_asked_for_is_counted_and_not_the_requests() -> None:
    server = Server(lambda number: None if number == 2 else OK)
    told = list[int]()
    async with serving(server) as target:
        result = await run(
            [target], Threes(), connections=1, numbers=iter(range(3)), longest_s=60, on_success=told.append
        )
    assert result.codes == {"201": 4, "missing": 2, NO_ANSWER: 3}
    assert list(result.accepted) == [0, 1, 6, 7]
    assert (result.errors, len(result.latencies_s), told) == (5, 2, [2, 2])
