"""The Ray actor round membership.py: it watches the workers' health and tells everybody what changes.

Invariants: every ping and every poll has a deadline; it starts and ends no process itself but a hung worker's, which Ray
restarts: the workers' owner (worker_owner.py) follows the roster. When this actor dies, Ray starts it anew and the owner
tells it the members; until then clients go on with those that they know.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from typing import Any

from executor.deadline import within
from executor.membership import Member, Membership, Roster

MAX_CONCURRENCY = 1000  # polls at a time, one of each client
PING_S = 10.0  # a ping's deadline; three that pass and the process is taken for hung
DRAIN_POLL_S = 10.0  # a draining worker tells at least so often that it is not done
_EVERY_S = 1.0  # between the pings of a worker that is up
_AGAIN_S = 0.2  # between those of one that is not
_MISSED = 3
_LONGEST_PAUSE_S = 60.0  # before a worker takes the place of one that could not start

_log = logging.getLogger(__name__)


class MembershipActor:
    """One event loop: the state machine, a task for each worker, and polls."""

    def __init__(self, ping_s: float = PING_S) -> None:
        self._ping_s = ping_s
        self._failed_starts = 0  # one after another
        self._membership = Membership(uuid.uuid4().hex)
        self._changed = asyncio.Condition()
        self._watches: dict[str, asyncio.Task[None]] = {}

    async def adopt(self, members: list[Member], epoch: int, started: int) -> None:
        """What the owner knows; until then nothing is known here. Raises ValueError the second time."""
        self._membership.adopt(members, epoch, started)
        for member in members:
            self._watch(member)
        await self._tell()

    async def joined(self, name: str, handle: Any) -> None:
        """The owner has started that member."""
        self._membership.joined(name, handle)
        member = self._membership.get(name)
        if member is not None:
            self._watch(member)
        await self._tell()

    async def changes(self, since: tuple[str, int] | None, timeout_s: float) -> Roster | None:
        """The roster as soon as it is another than the one of stamp `since`; None if it stays that one for `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self._membership.roster.stamp != since)
                return self._membership.roster
        except TimeoutError:
            return None

    async def add(self, number: int) -> list[str]:
        """Have so many more workers started; their names. Raises UserError for less than 1."""
        names = self._membership.add(number)
        await self._tell()
        return names

    async def drain(self, which: str | int) -> list[str]:
        """Let the worker of that name, or so many, finish what they have and end; their names. Raises UserError if that cannot be."""
        names = self._membership.drain(which)
        await self._tell()
        return names

    async def members(self) -> dict[str, str]:
        """The state of each worker by name."""
        return {member.name: member.state for member in self._membership.roster.members}

    async def pid(self) -> int:
        """The process id."""
        return os.getpid()

    async def gauges(self) -> dict[str, float]:
        """Members by state, and the epoch."""
        return self._membership.gauges()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _watch(self, member: Member) -> None:
        if member.handle is not None and member.name not in self._watches:
            task = asyncio.get_running_loop().create_task(self._follow(member.name, member.handle))
            self._watches[member.name] = task
            task.add_done_callback(lambda _: self._watches.pop(member.name, None))

    async def _follow(self, name: str, handle: Any) -> None:
        """Report of one worker until it is no member any more."""
        import ray
        from ray.exceptions import ActorDiedError, RayError

        missed = ended = 0
        while (member := self._membership.get(name)) is not None:
            epoch = self._membership.epoch
            try:
                if member.state == "draining":
                    if await within(handle.drain.remote(DRAIN_POLL_S), DRAIN_POLL_S + self._ping_s):
                        self._membership.removed(name)
                else:
                    answer = await within(handle.ping.remote(), self._ping_s)
                    self._membership.answered(name, answer["slots"], answer["draining"])
                    self._failed_starts = 0
                missed = ended = 0
            except TimeoutError:
                missed += 1
                if missed >= _MISSED and member.state in ("up", "draining"):
                    _log.warning("executor worker %s does not answer; its process is ended", name)
                    self._membership.silent(name)
                    if self._membership.get(name) is not None:
                        ray.kill(handle, no_restart=False)
            except RayError as error:
                # Said once, it may be of the process that is being replaced; said twice running, it is for good.
                ended = ended + 1 if isinstance(error, ActorDiedError) else 0
                if ended >= 2:
                    if member.state == "starting":  # its successor will hardly do better
                        self._failed_starts += 1
                        await asyncio.sleep(min(_LONGEST_PAUSE_S, 2.0**self._failed_starts))
                    successor = self._membership.died(name)
                    _log.warning("executor worker %s ended (%s); in its place: %s", name, _line(error), successor)
                else:
                    self._membership.silent(name)
            if self._membership.epoch != epoch:
                await self._tell()
            state = self._state(name)
            await self._pause(name, _EVERY_S if state == "up" or ended else _AGAIN_S)

    async def _pause(self, name: str, seconds: float) -> None:
        """Sleep, unless the member's state changes: a drain begins at once."""
        before = self._state(name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self._state(name) != before)

    def _state(self, name: str) -> str | None:
        member = self._membership.get(name)
        return member.state if member else None


def _line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1].strip() if lines else type(error).__name__)[:300]


def start_membership(name: str | None = None, namespace: str | None = None, ping_s: float = PING_S, **more: Any) -> Any:
    """Start it as a Ray actor that the caller's process owns and Ray restarts without end, under `name` if there is one; `more` are an actor's
    options.
    """
    import ray

    options: dict[str, Any] = {
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_concurrency": MAX_CONCURRENCY,
        "num_cpus": 0,
        **more,
    }
    if name is not None:
        options |= {"name": name, "namespace": namespace}
    actor: Any = ray.remote(MembershipActor)
    return actor.options(**options).remote(ping_s)
