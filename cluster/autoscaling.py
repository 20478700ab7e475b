"""How many executor workers a run should have, by how long its programs wait for one; pure but for `Autoscaler`, which asks and acts.

Invariants: never fewer than `least` or more than `most`; more only once all that were asked for are there, since what waits for a node is the
demand that an autoscaler of nodes sees; fewer only after a long calm, and never so few that what is busy now would not fit.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from executor.errors import UserError

EVERY_S = 5.0
CALM_S = 120.0
GROWTH = 1.5
SHRINKAGE = 0.75
SPARE = 1.25  # of what is busy


@dataclass(frozen=True)
class Load:
    """What is seen of the executors at one moment."""

    workers: int
    """Asked for, draining ones left out."""
    up: int
    slots: int
    """Of all that are up."""
    busy_slots: int
    queue_age_s: float
    """Since when the oldest program waits for a worker that has room; 0 if none does."""


class Sizing:
    """The state machine."""

    def __init__(self, least: int, most: int, queue_age_s: float) -> None:
        self._least, self._most, self._queue_age_s = least, most, queue_age_s
        self._calm_since: float | None = None
        self._peak = 0  # slots busy since then

    def wanted(self, load: Load, now: float) -> int:
        """How many workers there should be."""
        calm = load.queue_age_s == 0 and load.busy_slots * SPARE < load.slots
        if not calm:
            self._calm_since, self._peak = None, 0
        elif self._calm_since is None:
            self._calm_since = now
        self._peak = max(self._peak, load.busy_slots)
        if load.queue_age_s > self._queue_age_s and load.up >= load.workers:
            return self._bounded(math.ceil(load.workers * GROWTH))
        if self._calm_since is not None and now - self._calm_since >= CALM_S and load.up:
            enough = math.ceil(self._peak * SPARE / (load.slots / load.up))
            self._calm_since, self._peak = now, load.busy_slots
            return self._bounded(max(enough, math.floor(load.workers * SHRINKAGE)))
        return self._bounded(load.workers)

    def _bounded(self, workers: int) -> int:
        return min(self._most, max(self._least, workers))


class Autoscaler:
    """Follows the load of a run."""

    def __init__(
        self,
        sizing: Sizing,
        look: Callable[[], Awaitable[Load | None]],
        scale: Callable[[int], Awaitable[str]],
        say: Callable[[str], None],
    ) -> None:
        """`look`: the load, None if it cannot be seen now; `scale`: have so many workers, and what to say of it."""
        self._sizing = sizing
        self._look = look
        self._scale = scale
        self._say = say

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            load = await self._look()
            if load is None:
                continue
            wanted = self._sizing.wanted(load, time.monotonic())
            if wanted == load.workers:
                continue
            try:
                self._say(
                    f"{await self._scale(wanted)} (programs waited {load.queue_age_s:.1f} s, {load.busy_slots} of {load.slots} slots busy)"
                )
            except UserError as error:  # the membership actor may be on its way back: the next look tries again
                self._say(f"executor workers stay as they are: {error}")
