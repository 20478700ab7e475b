"""The client of the executor workers, for use inside an actor's event loop.

Invariants: each request gives exactly one verdict and no exception but UserError, whatever dies; a worker never holds
more than IN_FLIGHT_PER_SLOT requests a slot of ours (more wait here, which is the backpressure); every wait has a
deadline; a lost worker is not asked again before it answers a ping.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from executor.judging import JudgeRequest
from executor.languages.base import refuse
from executor.settings import ExecutorSettings
from executor.verdict import Verdict, infrastructure
from executor.worker import IN_FLIGHT_PER_SLOT

if TYPE_CHECKING:
    from ray.actor import ActorHandle

_log = logging.getLogger(__name__)
_MARGIN_S = 30.0
_PING_S = 10.0
_RETURN_S = 120.0  # how long a lost worker may take to come back before requests that wait for one give up


@dataclass
class _Worker:
    handle: Any
    up: bool = True
    waiting_s: dict[int, float] = field(default_factory=dict)
    """Longest time that each request in flight may take."""


class ExecutorPool:
    """Sends each request to the less loaded of two workers chosen at random."""

    def __init__(self, workers: list[ActorHandle], settings: ExecutorSettings) -> None:
        self._settings = settings
        self._workers = [_Worker(handle) for handle in workers]
        self._most = IN_FLIGHT_PER_SLOT * settings.slots
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = 0

    def set_workers(self, workers: list[ActorHandle]) -> None:
        """Use these workers from now on; requests in flight at others still come back."""
        known = {worker.handle: worker for worker in self._workers}
        self._workers = [known.get(handle) or _Worker(handle) for handle in workers]

    @property
    def in_flight(self) -> int:
        """Requests sent and not answered."""
        return sum(len(worker.waiting_s) for worker in self._workers)

    def longest_s(self, request: JudgeRequest) -> float:
        """Wall seconds that the tests of a request can take at the very most."""
        wall = self._settings.wall_s(request.problem.time_limit_s)
        return wall * (len(request.chosen()) + 1) * (self._settings.retries + 1)

    async def judge(self, request: JudgeRequest) -> Verdict:
        """The verdict; infrastructure if no worker could give one. Raises UserError for what no worker can judge."""
        refuse(request.problem)
        reason = "no executor worker"
        for _ in range(self._settings.retries + 1):
            worker = await self._place()
            if worker is None:
                reason = f"no executor worker free within {_RETURN_S:g} s"
                break
            verdict, reason = await self._ask(worker, request)
            if verdict is not None:
                return verdict
        return infrastructure(request.problem.id, len(request.chosen()), reason, request.index)

    async def _place(self) -> _Worker | None:
        """A worker with room, None if there is none in time. Busy workers are waited for; lost ones only so long."""
        async with self._changed:
            lost_since: float | None = None
            while True:
                free = [w for w in self._workers if w.up and len(w.waiting_s) < self._most]
                if free:
                    return min(random.sample(free, min(2, len(free))), key=lambda w: len(w.waiting_s))
                if any(w.up for w in self._workers):
                    lost_since = None  # each request in flight has a deadline of its own
                else:
                    lost_since = lost_since or time.monotonic()
                    if time.monotonic() - lost_since > _RETURN_S:
                        return None
                try:
                    await asyncio.wait_for(self._changed.wait(), timeout=_PING_S)
                except TimeoutError:
                    up = sum(w.up for w in self._workers)
                    _log.info(
                        "waiting for an executor: %d of %d up, %d in flight", up, len(self._workers), self.in_flight
                    )

    async def _ask(self, worker: _Worker, request: JudgeRequest) -> tuple[Verdict | None, str]:
        """One try: the verdict, or why there is none."""
        from ray.exceptions import RayActorError, RayError

        self._next += 1
        ticket = self._next
        # All that is before it may have to run first.
        ahead = sum(worker.waiting_s.values()) / self._settings.slots
        worker.waiting_s[ticket] = self.longest_s(request)
        deadline = ahead + worker.waiting_s[ticket] + _MARGIN_S
        try:
            verdicts = await asyncio.wait_for(_answer(worker.handle.judge.remote([request])), timeout=deadline)
            return verdicts[0], ""
        except RayActorError as error:
            reason = f"the executor worker died: {type(error).__name__}"
        except TimeoutError:
            reason = f"the executor worker gave no answer within {deadline:.0f} s"
        except RayError as error:
            reason = (
                f"the executor worker failed: {str(error).splitlines()[-1] if str(error) else type(error).__name__}"
            )
        finally:
            worker.waiting_s.pop(ticket, None)
            await self._tell()
        self._lost(worker, reason)
        return None, reason[:300]

    def _lost(self, worker: _Worker, reason: str) -> None:
        if worker.up:
            worker.up = False
            _log.warning("%s; its requests go elsewhere", reason)
            task = asyncio.get_running_loop().create_task(self._await_return(worker))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _await_return(self, worker: _Worker) -> None:
        """Ping a lost worker until it answers; Ray restarts it meanwhile."""
        from ray.exceptions import RayError

        while worker in self._workers:
            try:
                await asyncio.wait_for(_answer(worker.handle.ping.remote()), timeout=_PING_S)
            except (RayError, TimeoutError):
                await asyncio.sleep(0.2)
                continue
            worker.up = True
            await self._tell()
            return

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def close(self) -> None:
        """Stop waiting for lost workers."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _answer(reference: Any) -> Any:
    return await reference
