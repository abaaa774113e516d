"""
Workers of the harness: processes that run story after story, each with its own ports, simulators and nursery.

All are forked before there is a thread or a loop, from a parent that has imported everything.
"""

import asyncio
import gc
import json
import logging
import math
import os
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash.ledgers import LEDGERS
from tests.crash.nursery import Nursery
from tests.crash.points import Plan, read_plan
from tests.crash.runs import Stage, Verdict


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run that is wanted: the fault, and the safeguards that are taken away."""

    plan: Plan | None = None
    without: tuple[str, ...] = ()


class Crew:
    """`count` workers, for runs with one kind of ledger."""

    def __init__(self, count: int, certs: Path, ledger: str) -> None:
        self.ledger = ledger
        gc.freeze()  # what was imported stays shared between the processes
        self._lines = [_hire(certs, ledger) for _ in range(count)]

    def work(self, jobs: Iterable[Job], done: Callable[[Job, Verdict], None], *, until_s: float = math.inf) -> int:
        """
        Run every job and tell `done` of each, one at a time, in the order in which they end.

        None begins after `until_s` on the monotonic clock; return how many were left.
        """
        waiting = deque(jobs)
        lock = threading.Lock()
        broken: list[Exception] = []

        def next_job() -> Job | None:
            with lock:
                return waiting.popleft() if waiting and not broken and time.monotonic() < until_s else None

        def lead(line: socket.socket) -> None:
            try:
                with line.makefile("rw", encoding="utf-8") as stream:
                    while (job := next_job()) is not None:
                        order = {"plan": None if job.plan is None else job.plan.as_json(), "without": job.without}
                        stream.write(json.dumps(order) + "\n")
                        stream.flush()
                        verdict = _read_verdict(job, stream.readline())
                        with lock:
                            done(job, verdict)
            except Exception as error:  # noqa: BLE001 -- raised again by the thread that waits
                broken.append(error)

        leads = [threading.Thread(target=lead, args=(line,)) for line in self._lines]
        for each in leads:
            each.start()
        for each in leads:
            each.join()
        if broken:
            raise broken[0]
        return len(waiting)

    def close(self) -> None:
        """Let the workers go."""
        for line in self._lines:
            line.shutdown(socket.SHUT_RDWR)
            line.close()


def _hire(certs: Path, ledger: str) -> socket.socket:
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        code = 1
        try:
            _serve(theirs, certs, ledger)
            code = 0
        except BaseException:  # noqa: BLE001 -- this process must never go on as its parent
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    theirs.close()
    return ours


def _serve(line: socket.socket, certs: Path, ledger: str) -> None:
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each connection that a kill broke
    with Nursery() as nursery, LEDGERS[ledger]() as home:  # the nursery first, while there is no thread
        stage = Stage(certs, nursery, home)
        with line.makefile("rw", encoding="utf-8") as stream:
            for order in stream:
                wanted: dict[str, Any] = json.loads(order)
                without: Sequence[str] = wanted["without"]
                verdict = asyncio.run(stage.run(read_plan(wanted["plan"]), without))
                stream.write(json.dumps(_as_json(verdict)) + "\n")
                stream.flush()


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "hit": verdict.hit,
        "violations": verdict.violations,
        "races": verdict.races,
        "points": verdict.points if verdict.plan is None else [],
        "seconds": verdict.seconds,
        "log": verdict.log if verdict.violations else "",
    }


def _read_verdict(job: Job, line: str) -> Verdict:
    if not line:
        raise RuntimeError("a worker of the harness died")
    value = json.loads(line)
    return Verdict(
        plan=job.plan,
        hit=value["hit"],
        violations=value["violations"],
        races=[(race, how) for race, how in value["races"]],
        points=[(name, label, nth, ways) for name, label, nth, ways in value["points"]],
        seconds=value["seconds"],
        log=value["log"],
    )
