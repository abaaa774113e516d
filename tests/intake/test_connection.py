"""Connections that share the buffer in which TLS opens what arrives."""

from typing import Any

import pytest
from aiohttp import web

from gateway.intake.admission import Places
from gateway.intake.connection import ARRIVAL_BYTES, Connection


class Listening(Connection):
    """Keeps what it is handed instead of reading it as HTTP."""

    heard: list[bytes]

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)


@pytest.fixture
def arrival() -> memoryview:
    return memoryview(bytearray(ARRIVAL_BYTES))


async def listening(arrival: memoryview) -> Listening:
    async def nobody(_: Any) -> web.Response:
        raise AssertionError("no request is ever whole here")

    def refuse(status: int) -> web.Response:
        raise AssertionError(status)

    connection = Listening(
        web.Server(nobody), Places(10), arrival, on_crowd=lambda: None, on_malformed=refuse, access_log=None
    )
    connection.heard = []
    return connection


async def test_what_came_on_one_connection_stays_as_it_was_when_another_reads(arrival: memoryview) -> None:
    one, other = await listening(arrival), await listening(arrival)
    for connection, octets in ((one, b"first letter"), (other, b"another one!"), (one, b"and more")):
        buffer = connection.get_buffer(-1)
        assert len(buffer) == ARRIVAL_BYTES
        buffer[: len(octets)] = octets
        connection.buffer_updated(len(octets))
    assert one.heard == [b"first letter", b"and more"]
    assert other.heard == [b"another one!"]
