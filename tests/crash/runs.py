"""One run, from an empty folder to the verdict."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.stores.open import create_keyring
from tests.crash.environment import Environment, Ports
from tests.crash.ledgers import Home
from tests.crash.nursery import Nursery
from tests.crash.points import CUTS, Plan
from tests.crash.proof import Snapshot, after_all, after_death
from tests.crash.scenario import Story, Telling

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- a power cut is played, so a real disk would only be slower

_LONGEST_S: Final = 120.0  # of a run, in real seconds; usually 3
_LONGEST_WITHOUT_S: Final = 30.0  # nobody needs to wait for what will never end


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a run came to. `points` are those of its first gateway and after."""

    plan: Plan | None
    hit: bool
    violations: list[str]
    races: list[tuple[str, str]]
    points: list[tuple[str, str, int, str]]
    seconds: float
    log: str


class Stage:
    """What the runs of one worker share: certificates, ports, and where gateways and ledgers come from."""

    def __init__(self, certs: Path, nursery: Nursery, home: Home) -> None:
        self._certs = certs
        self._nursery = nursery
        self._ports = Ports.take()
        self._home = home

    async def run(self, plan: Plan | None, without: Sequence[str] = ()) -> Verdict:
        """Tell the story once, and judge it."""
        began_s = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix="crash-", dir=_MEMORY if _MEMORY.is_dir() else None))
        try:
            environment = await asyncio.to_thread(self._prepare, folder)
            story = await self._tell(environment, plan, without)
            log = await asyncio.to_thread(_end_of, environment.log)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder)
        return Verdict(
            plan=plan,
            hit=story.hit,
            violations=list(dict.fromkeys(story.violations)),
            races=story.races,
            points=story.points,
            seconds=time.monotonic() - began_s,
            log=log,
        )

    def _prepare(self, folder: Path) -> Environment:
        ledger = self._home.empty_ledger(folder)
        environment = Environment(folder=folder, certs=self._certs, ports=self._ports, ledger=ledger)
        (folder / "attic").mkdir()
        environment.write()
        return environment

    async def _tell(self, environment: Environment, plan: Plan | None, without: Sequence[str]) -> Story:
        snapshot = Snapshot()

        def inspect(story: Story) -> Any:
            if plan is not None and plan.way in CUTS and story.hit and story.deaths == 1:
                self._home.cut()
            after_death(environment, telling.clock, snapshot, story)

        telling = Telling(
            environment,
            self._nursery,
            plan=plan,
            without=without,
            after_death=inspect,
            longest_s=_LONGEST_S if not without else _LONGEST_WITHOUT_S,
        )
        await create_keyring(f"local:{environment.folder / 'keyring.json'}", at=telling.clock())
        story = await telling.tell()
        try:
            await after_all(environment, telling.clock, snapshot, telling.simulators, story)
        except Exception as error:  # noqa: BLE001 -- a proof that cannot be made is no proof
            story.wrong("everything can be looked at", f"{type(error).__name__}: {error}")
        return story


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:]) if log.exists() else ""
