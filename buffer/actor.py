"""The buffer's process: the state machine of replay.py behind waits with deadlines.

Invariants: every wait ends after its `timeout_s`; every method may be called again without harm; `acquire` returns None once, and only once, the
buffer is closed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from typing import Any

from buffer.replay import Replay, Ticket
from buffer.settings import BufferSettings
from buffer.trajectory import Group

log = logging.getLogger("cupel.buffer")


class BufferActor:
    """A Ray actor with one event loop."""

    def __init__(self, settings: BufferSettings, problem_ids: list[str]) -> None:
        self._replay = Replay(settings, problem_ids)
        self._changed = asyncio.Condition()
        self._closed = False

    async def acquire(self, limit: int, holder: str, timeout_s: float) -> list[Ticket] | None:
        """Up to `limit` tickets, at least one unless `timeout_s` passes first; None once the buffer is closed."""
        tickets: list[Ticket] = []

        def found() -> bool:
            nonlocal tickets
            if not self._closed:
                tickets = self._replay.acquire(limit, holder)
            return bool(tickets) or self._closed

        await self._until(found, timeout_s)
        return None if self._closed and not tickets else tickets

    async def _until(self, condition: Any, timeout_s: float) -> bool:
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(condition), timeout_s)
            except TimeoutError:
                return False
        return True

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def put(self, group: Group) -> bool:
        """Take a finished group in; False if it was not waited for."""
        taken = self._replay.put(group)
        await self._notify()
        return taken

    async def fail(self, group_id: int, reason: str) -> None:
        """A ticket came to nothing, for `reason`."""
        log.warning("group %d failed: %s", group_id, reason)
        self._replay.fail(group_id)
        await self._notify()

    async def release(self, holder: str | None) -> None:
        """The tickets of a lost rollout actor (None: of all) are issued again."""
        self._replay.release(holder)
        await self._notify()

    async def wait_ready(self, timeout_s: float) -> bool:
        """Whether a batch can be taken, waiting up to `timeout_s` for it."""
        return await self._until(self._replay.ready, timeout_s)

    async def take(self) -> list[Group]:
        """One batch."""
        return self._replay.take()

    async def commit(self) -> None:
        """The step on the batch is done."""
        self._replay.commit()
        await self._notify()

    async def untake(self) -> None:
        """The step was given up."""
        self._replay.untake()
        await self._notify()

    async def advance(self, version: int) -> None:
        """The engines hold a new policy version."""
        self._replay.advance(version)
        await self._notify()

    async def close(self) -> None:
        """No more work is handed out."""
        self._closed = True
        await self._notify()

    async def gauges(self) -> dict[str, float]:
        """Levels and counters."""
        return self._replay.gauges()

    async def waiting_for(self) -> str:
        """What the next batch waits for."""
        return self._replay.waiting_for()

    async def state(self) -> bytes:
        """Everything the buffer holds."""
        return zlib.compress(json.dumps(self._replay.state_dict()).encode(), level=1)

    async def load(self, state: bytes) -> None:
        """Go on from a saved state."""
        self._replay.load_state_dict(json.loads(zlib.decompress(state)))
        await self._notify()


def create(settings: BufferSettings, problem_ids: list[str], **options: Any) -> Any:
    """Start the buffer as a Ray actor that the caller owns."""
    import ray

    return ray.remote(BufferActor).options(max_concurrency=1000, **options).remote(settings, problem_ids)
