"""The checkpoints of a run: begun between two steps, written while training goes on where that is asked for.

Invariants: one is written at a time; `record` is that of the newest one that is whole; one that cannot be written ends the run with a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cluster.actors import House
from cluster.mirror import Mirror
from cluster.waiting import bounded

SAVE_S = 600.0


class Checkpoints:
    """Those that the learner of `house` writes."""

    def __init__(self, house: House, record: dict[str, Any], say: Callable[[str], None]) -> None:
        """`record`: of the checkpoint that the run goes on from, empty where there is none."""
        self._house = house
        self._say = say
        self.record = record
        self.newest: int | None = record.get("step")
        """The step of the newest one, whole or not yet."""
        self._mirror = Mirror(place, house.run_folder) if (place := house.config.run.mirror) is not None else None
        self._writing: asyncio.Task[None] | None = None

    async def save(self, record: dict[str, Any], buffer_state: bytes, best: int | None) -> None:
        """Keep what there is now. Raises UserError where this checkpoint or the one before cannot be written."""
        await self.settle()
        beside = self._house.config.run.asynchronous_checkpoints
        if beside is None:
            beside = self._house.placement.learner.gpus > 0
        save = self._house.learner.save.remote(record["step"], buffer_state, record, best, beside)
        await bounded(save, "a copy for the checkpoint", SAVE_S)
        self.newest = record["step"]
        self._writing = asyncio.create_task(self._follow(record))
        if not beside:
            await self.settle()

    async def _follow(self, record: dict[str, Any]) -> None:
        path = await bounded(self._house.learner.written.remote(), "checkpoint", SAVE_S)
        self.record = record
        self._say(f"checkpoint {path}")
        if self._mirror is not None:
            self._mirror.follow()

    async def settle(self) -> None:
        """Wait until none is being written."""
        if self._writing is not None:
            await self._writing
            self._writing = None

    def check(self) -> None:
        """Raises why the newest one could not be written."""
        if self._writing is not None and self._writing.done():
            self._writing.result()

    async def copied(self) -> None:
        """Wait until the mirror has what it was asked for."""
        if self._mirror is not None:
            await asyncio.to_thread(self._mirror.settle, SAVE_S)

    def cancel(self) -> list[asyncio.Task[None]]:
        """Wait no longer; what is cancelled."""
        if self._writing is None:
            return []
        self._writing.cancel()
        return [self._writing]
