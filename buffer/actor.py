"""The buffer's process: the state machine of replay.py behind waits with deadlines.

Invariants: every wait ends after its `timeout_s`; a ticket is never handed to a holder that was released as lost, nor to a
poll that began before all were: nobody may be left to read the answer, and one whose host was only cut off asks again when it is back, though another
has its place; `acquire` returns None to those, and to all once the buffer is closed, and only then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from buffer.replay import Replay, Ticket
from buffer.settings import BufferSettings
from buffer.trajectory import Group
from executor.stacks import place

log = logging.getLogger("cupel.buffer")

MAX_CONCURRENCY = 10_000  # calls at a time, polls of all rollout actors among them; more wait in Ray's queue


class BufferActor:
    """A Ray actor with one event loop."""

    def __init__(self, settings: BufferSettings, problem_ids: Sequence[str]) -> None:
        self._replay = Replay(settings, problem_ids)
        self._changed = asyncio.Condition()
        self._closed = False
        self._lost: set[str] = set()  # holders, whose names nobody takes again
        self._releases = 0  # of all holders

    async def expect(self, holders: int) -> None:
        """So many rollout actors share the work from now on."""
        self._replay.expect(holders)
        await self._notify()

    async def acquire(self, limit: int, holder: str, timeout_s: float) -> list[Ticket] | None:
        """Up to `limit` tickets; none if there was none within `timeout_s`; None once the buffer is closed, and for a lost holder."""
        tickets: list[Ticket] = []
        releases = self._releases

        def over() -> bool:
            return self._closed or holder in self._lost

        def settled() -> bool:
            if over() or self._releases != releases:
                return True
            tickets.extend(self._replay.acquire(limit, holder))
            return bool(tickets)

        await self._until(settled, timeout_s)
        return None if over() and not tickets else tickets

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        # The condition is evaluated between awaits, so a timeout cannot lose what it has just acquired.
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                return await self._changed.wait_for(condition)
        except TimeoutError:
            return False

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def put(self, group: Group) -> bool:
        """Take a finished group in; False if it was not waited for, which does no harm."""
        accepted = self._replay.put(group)
        await self._notify()
        return accepted

    async def fail(self, group_id: int, reason: str) -> None:
        """A ticket came to nothing, for `reason`."""
        log.warning("group %d failed: %s", group_id, reason)
        self._replay.fail(group_id, reason)
        await self._notify()

    async def release(self, holder: str | None) -> None:
        """The tickets of a lost rollout actor, who gets no more (None: of all), are issued again, and its polls end without any."""
        if holder is None:
            self._releases += 1
        else:
            self._lost.add(holder)
        self._replay.release(holder)
        await self._notify()

    async def wait_ready(self, timeout_s: float) -> bool:
        """Whether a batch can be taken, waiting up to `timeout_s` for it."""
        return await self._until(self._replay.ready, timeout_s)

    async def take(self) -> list[Group]:
        """One batch, held until `commit` or `untake`. Raises ValueError unless one is ready."""
        return self._replay.take()

    async def commit(self) -> None:
        """The step on the batch is done. Raises ValueError if nothing is taken."""
        self._replay.commit()
        await self._notify()

    async def untake(self) -> None:
        """The step was given up; its groups come again."""
        self._replay.untake()
        await self._notify()

    async def advance(self, version: int) -> None:
        """The engines hold a new policy version. Raises ValueError if it is older than the last."""
        self._replay.advance(version)
        await self._notify()

    async def close(self) -> None:
        """No more work is handed out; what is under way can still be put."""
        self._closed = True
        await self._notify()

    async def gauges(self) -> dict[str, float]:
        """Levels and counters."""
        return self._replay.gauges()

    async def place(self) -> tuple[str, int]:
        """Ray's node and the process that this is in."""
        return place()

    async def waiting_for(self) -> str:
        """What the next batch waits for, in one line."""
        return self._replay.waiting_for()

    async def held_by(self, holder: str) -> list[int]:
        """The groups that a rollout actor is to make, by number."""
        return self._replay.held_by(holder)

    async def state(self) -> bytes:
        """Everything the buffer holds, as compressed JSON."""
        snapshot = self._replay.state_dict()
        return await asyncio.to_thread(lambda: zlib.compress(json.dumps(snapshot).encode(), level=1))

    async def load(self, state: bytes) -> None:
        """Go on from a saved state. Raises ValueError if it does not fit this buffer."""
        self._replay.load_state_dict(json.loads(zlib.decompress(state)))
        await self._notify()


def create(settings: BufferSettings, problem_ids: Sequence[str], name: str | None = None, **options: Any) -> Any:
    """Start the buffer as a Ray actor that the caller owns, under `name` if there is one; `options` go to Ray."""
    import ray

    options = {"max_concurrency": MAX_CONCURRENCY, "num_cpus": 0, **options}
    if name is not None:
        options["name"] = name
    return ray.remote(BufferActor).options(**options).remote(settings, list(problem_ids))
