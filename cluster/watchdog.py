"""The watchdog of a run: names what makes no progress any more, writes down where its threads are, and acts as the configuration says.

Invariants: what is idle is not stuck; a part is told once for each time that it gets stuck; the watchdog itself waits for nobody longer than
ASK_S, so a part that does not answer is one that makes no progress.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.config import WatchdogSection
from cluster.waiting import or_none
from executor.errors import RunLost, UserError
from executor.stacks import stacks_of

LOOKS = 8  # within `after_s`
LONGEST_PAUSE_S = 15.0
ASK_S = 10.0
STACKS_S = 60.0


@dataclass(frozen=True)
class Sight:
    """What is seen of a part: `mark` changes whenever it makes progress; one that is not `busy` has nothing to do."""

    mark: Hashable
    busy: bool = True


class Watch:
    """Since when each part has made no progress; pure."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._since: dict[str, tuple[Hashable, float]] = {}
        self._told: set[str] = set()

    def see(self, sights: Mapping[str, Sight | None], now: float) -> dict[str, float]:
        """Parts that are newly stuck, with the seconds since their last progress. None: the part does not answer."""
        for part in [part for part in self._since if part not in sights]:
            del self._since[part]
            self._told.discard(part)
        stuck = {}
        for part, sight in sights.items():
            mark, since = self._since.get(part, (None, now))
            if part not in self._since or (sight is not None and (not sight.busy or sight.mark != mark)):
                self._since[part] = (sight.mark if sight is not None else None, now)
                self._told.discard(part)
            elif now - since >= self._after_s and part not in self._told:
                self._told.add(part)
                stuck[part] = now - since
        return stuck


@dataclass
class Part:
    """A part of the run that is watched."""

    actor: Any
    """Its handle, which has a method `place`."""
    look: Callable[[], Awaitable[Sight]]
    works_on: Callable[[], Awaitable[str]] | None = None
    """A line with ids."""
    restart: Callable[[], None] | None = None
    """Ends it, so that a fresh one takes its place; None where the run has to begin again for that."""


class Watchdog:
    """Looks again and again."""

    def __init__(
        self,
        settings: WatchdogSection,
        parts: Callable[[], Mapping[str, Part]],
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        """`parts`: those that there are now, by name; `folder`: where stacks are written."""
        self._settings = settings
        self._parts = parts
        self._folder = folder
        self._say = say
        self._watch = Watch(settings.after_s)
        self._places: dict[Any, tuple[str, int]] = {}  # by actor: one that is stuck could not tell any more

    async def follow(self) -> None:
        """Until cancelled. Raises RunLost or UserError where a part is stuck that the run cannot do without, as `watchdog.action` says."""
        while True:
            await asyncio.sleep(min(LONGEST_PAUSE_S, self._settings.after_s / LOOKS))
            parts = dict(self._parts())
            sights = await asyncio.gather(*(or_none(part.look(), ASK_S) for part in parts.values()))
            await asyncio.gather(*(self._learn_place(part.actor) for part in parts.values()))
            stuck = self._watch.see(dict(zip(parts, sights, strict=True)), time.monotonic())
            for name, seconds in stuck.items():
                await self._act(name, parts[name], seconds)

    async def _learn_place(self, actor: Any) -> None:
        if actor not in self._places and (place := await or_none(actor.place.remote(), ASK_S)):
            self._places[actor] = place

    async def _act(self, name: str, part: Part, seconds: float) -> None:
        works_on = await or_none(part.works_on(), ASK_S) if part.works_on is not None else None
        on = f" ({works_on})" if works_on else ""
        told = f"{name} has made no progress for {seconds:.0f} s{on}; {await self._write_stacks(name, part)}"
        if self._settings.action == "warn":
            self._say(told)
        elif self._settings.action == "stop":
            raise UserError(f"{told}; watchdog.action=stop")
        elif part.restart is None:
            raise RunLost(told)
        else:
            self._say(f"{told}; it is ended, a fresh one takes its place")
            part.restart()

    async def _write_stacks(self, name: str, part: Part) -> str:
        place = self._places.get(part.actor)
        text = await or_none(_stacks(*place), STACKS_S) if place else None
        if not text:
            return "where it is could not be seen"
        path = self._folder / f"{name.replace(' ', '_')}_{time.strftime('%Y-%m-%d_%H-%M-%S')}.txt"
        self._folder.mkdir(exist_ok=True)
        path.write_text(text)
        return f"where it is says {path}"


async def _stacks(node: str, pid: int) -> str:
    """The stacks of a process on one of Ray's nodes."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    return await ray.remote(stacks_of).options(num_cpus=0, scheduling_strategy=there).remote(pid)
