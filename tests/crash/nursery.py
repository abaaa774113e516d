"""
Where gateway processes come from: a parent that has imported everything and only forks.

Starting an interpreter and importing the gateway costs more than a whole run; a fork costs nothing. The parent has no
threads and no event loop, so its children start as clean as a new process.
"""

import json
import os
import signal
import socket
from typing import Any, Self

from tests.crash import child

_LARGEST_ORDER_BYTES = 65_536


class Nursery:
    """Forks gateways on order. Made before its maker has a thread or a loop."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            self._line.close()
            _fork_on_order(theirs)
            os._exit(0)
        theirs.close()

    def start(self, order: dict[str, Any]) -> tuple[int, socket.socket]:
        """Start a gateway; return its process id and the line to it."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._line, [json.dumps(order).encode()], [theirs.fileno()])
        return int(self._line.recv(64)), ours

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._line.close()
        os.waitpid(self._pid, 0)


def _fork_on_order(line: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries them
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepared = False
    while True:
        content, fds, _, _ = socket.recv_fds(line, _LARGEST_ORDER_BYTES, 1)
        if not content:
            return
        if not prepared:
            child.foresee(json.loads(content))
            prepared = True
        pid = os.fork()
        if pid == 0:
            line.close()
            child.live(json.loads(content), socket.socket(fileno=fds[0]))
            os._exit(0)
        os.close(fds[0])
        line.send(str(pid).encode())
