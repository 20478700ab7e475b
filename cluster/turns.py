"""Whose turn it is on a GPU that is too small for learner and engine at once (`engine.sleep_mode`).

Invariants: the engine is up only while the learner rests, and the other way round; where each has memory of its own, all of this is nothing.
"""

from __future__ import annotations

import time

from cluster.actors import House
from cluster.rollouts import RolloutActors
from cluster.waiting import bounded

REST_S = 300.0


class Turns:
    """The engine's to begin with, since it measures the memory that it finds."""

    def __init__(self, house: House, rollouts: RolloutActors) -> None:
        self._house = house
        self._rollouts = rollouts
        self._learner = False
        self.shared = house.config.engine.sleep_mode
        self._seconds = 0.0

    async def learner(self) -> None:
        """The engine sleeps from now on."""
        if not self.shared or self._learner:
            return
        started = time.monotonic()
        await self._rollouts.sleep()
        self._learner = True
        self._seconds += time.monotonic() - started

    async def engines(self) -> None:
        """The learner rests from now on; who wakes the engine may do so."""
        if not self._learner:
            return
        started = time.monotonic()
        await bounded(self._house.learner.rest.remote(), "the learner's rest", REST_S)
        self._rollouts.may_wake()
        self._learner = False
        self._seconds += time.monotonic() - started

    def metrics(self) -> dict[str, float]:
        """What giving memory back has taken since the last call."""
        metrics = {"turn_seconds": self._seconds}
        self._seconds = 0.0
        return metrics if self.shared else {}
