"""The client of the executor workers, for use inside an actor's event loop.

Invariants: each request gives exactly one verdict and no exception but UserError, whatever dies; a worker never holds
more than IN_FLIGHT_PER_SLOT requests a slot of ours (more wait here, which is the backpressure); every wait has a
deadline; a lost worker is asked again only after it has answered a ping; without a membership actor, or while it is dead,
work goes on with the members known.

Requests that wait for the same worker at the same time go in one call, and come back in as few calls as that leaves
without holding a verdict up (worker.py). A worker has at most two calls of ours: one that waits for verdicts, and one
that brings requests and thereby ends the other.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from executor.deadline import within
from executor.dispatch import Dispatch
from executor.exchange import Answer, Call, pack, unpack
from executor.judging import JudgeRequest
from executor.languages.base import refuse
from executor.large_problems import DistantRequest, ProblemSender
from executor.latency import Latencies
from executor.membership import Member, Roster
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict, infrastructure
from executor.worker import IN_FLIGHT_PER_SLOT

_log = logging.getLogger(__name__)

BATCH = 64  # requests of one call
_CALLS = 2
_POLL_S = 10.0  # a call to a worker, or to the membership actor, comes back at least so often
_ANSWER_S = 30.0  # and at the latest so long after that
_PING_S = 10.0
_AGAIN_S = 0.2
_CHECK_S = 1.0
RETURN_S = 120.0  # how long requests wait while no worker is up


@dataclass(frozen=True)
class _Pending:
    """One request without a verdict."""

    request: JudgeRequest
    future: asyncio.Future[Verdict]
    longest_s: float
    since: float


@dataclass
class _Link:
    """What is under way with one worker."""

    name: str
    handle: Any
    slots: int
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    process: str | None = None
    member: bool = True
    up: bool = True
    """As the membership says."""
    down: bool = False
    """Lost by our own experience."""
    outgoing: list[int] = field(default_factory=list)
    due: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Of each request in flight: when it must be answered, and the longest time it may take by itself."""
    ahead_s: float = 0.0
    calls: dict[asyncio.Task[None], float] = field(default_factory=dict)
    """When each call must have come back."""

    def expect(self, ticket: int, longest_s: float) -> None:
        """All that is before it may have to run first."""
        self.outgoing.append(ticket)
        self.ahead_s += longest_s
        self.due[ticket] = (time.monotonic() + self.ahead_s / self.slots + longest_s + _ANSWER_S, longest_s)

    def settle(self, ticket: int) -> None:
        _, longest_s = self.due.pop(ticket, (0.0, 0.0))
        self.ahead_s = self.ahead_s - longest_s if self.due else 0.0

    def overdue(self) -> bool:
        now = time.monotonic()
        return any(now > due for due, _ in self.due.values()) or any(now > due for due in self.calls.values())


class ExecutorPool:
    """Sends each request to the less loaded of two workers chosen at random."""

    def __init__(
        self, workers: Mapping[str, Any], settings: ExecutorSettings, membership: Any = None, return_s: float = RETURN_S
    ) -> None:
        """`workers` are known to begin with; `membership`, if there is one, tells of changes."""
        self._settings = settings
        self._membership = membership
        self._return_s = return_s
        self._dispatch = Dispatch(IN_FLIGHT_PER_SLOT, settings.retries + 1)
        self._links: dict[str, _Link] = {}
        self._pending: dict[int, _Pending] = {}
        self._next = 0
        self._scheduled = False
        self._closed = False
        self._none_open_since: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sender = ProblemSender()
        self._latencies = Latencies()
        self._infrastructure = 0
        self.set_members(Member(name, "up", handle, settings.slots) for name, handle in workers.items())
        self._spawn(self._check())
        if membership is not None:
            self._spawn(self._subscribe())

    @property
    def in_flight(self) -> int:
        """Requests sent and not answered."""
        return self._dispatch.in_flight

    def longest_s(self, request: JudgeRequest) -> float:
        """Wall seconds that the tests of a request can take at the very most."""
        return self._settings.longest_s(request.problem.time_limit_s, len(request.chosen()))

    async def judge(self, request: JudgeRequest) -> Verdict:
        """The verdict; infrastructure if no worker could give one. Raises UserError for what no worker can judge."""
        refuse(request.problem)
        self._next += 1
        ticket = self._next
        future = asyncio.get_running_loop().create_future()
        self._pending[ticket] = _Pending(request, future, self.longest_s(request), time.monotonic())
        self._dispatch.submit(ticket)
        if self._closed:
            self._give_up(ticket, "the pool is closed")
        self._schedule()
        try:
            return await future
        finally:
            if self._pending.pop(ticket, None) is not None:  # nobody waits for it any more
                self._dispatch.end(ticket)

    def set_members(self, members: Iterable[Member]) -> None:
        """The workers from now on. One that is missing gets no new request; what is in flight there may still come back."""
        known = {member.name: member for member in members if member.handle is not None and member.state != "starting"}
        self._dispatch.set_members({name: member.slots for name, member in known.items()})
        for name, link in self._links.items():
            link.member = link.up = name in known
        for name, member in known.items():
            link = self._links.setdefault(name, _Link(name, member.handle, member.slots))
            link.slots, link.up = member.slots, member.state == "up"
            self._dispatch.set_open(name, link.up and not link.down)
            if member.state == "lost" and link.due:
                self._lose(link, link.session, "the executor worker does not answer")
        self._schedule()

    def gauges(self) -> dict[str, float]:
        """Levels and counters of this client; the latencies are from request to verdict."""
        front = self._dispatch.front
        return {
            "executor_queue": float(len(self._dispatch.queue)),
            "executor_queue_age": time.monotonic() - self._pending[front].since if front is not None else 0.0,
            "executor_in_flight": float(self._dispatch.in_flight),
            "executor_workers_open": float(self._dispatch.open_workers),
            "executor_moved": float(self._dispatch.moved),
            "executor_infrastructure": float(self._infrastructure),
            **self._latencies.gauges("executor_latency"),
        }

    async def close(self) -> None:
        """End all waits; requests without a verdict, now or later, end as infrastructure."""
        self._closed = True
        for ticket in list(self._pending):
            self._give_up(ticket, "the pool is closed")
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Requests out, verdicts in ----------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Place what waits when the callers of this moment have all been heard, so that they share calls."""
        if not (self._scheduled or self._closed):
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._place)

    def _place(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        for ticket, name in self._dispatch.place():
            self._links[name].expect(ticket, self._pending[ticket].longest_s)
        for link in list(self._links.values()):
            self._pump(link)
            if not (link.member or link.due or link.calls):
                del self._links[link.name]

    def _pump(self, link: _Link) -> None:
        """A call for new requests, or one to fetch verdicts where none is under way."""
        while len(link.calls) < _CALLS and (link.outgoing or (link.due and not link.calls)):
            batch, link.outgoing = link.outgoing[:BATCH], link.outgoing[BATCH:]
            task = self._spawn(self._call(link, link.session, batch))
            link.calls[task] = time.monotonic() + _POLL_S + _ANSWER_S
            task.add_done_callback(lambda task: link.calls.pop(task, None))

    async def _call(self, link: _Link, session: str, batch: list[int]) -> None:
        from ray.exceptions import RayActorError, RayError

        try:
            data, references = self._pack(link, session, batch)
            answer = unpack(Answer, await link.handle.exchange.remote(data, *references))
        except RayActorError as error:
            self._lose(link, session, f"the executor worker died: {type(error).__name__}")
            return
        except RayError as error:
            self._lose(
                link, session, f"the executor worker failed: {(str(error).splitlines() or [type(error).__name__])[-1]}"
            )
            return
        finally:
            link.calls.pop(asyncio.current_task(), None)  # type: ignore[arg-type]
            self._schedule()
        if link.session != session:
            return  # lost meanwhile; its requests are elsewhere
        if not answer.known:
            self._lose(link, session, "the executor worker was restarted")
            return
        link.process = answer.process
        for ticket, verdict in answer.verdicts:
            link.settle(ticket)
            # Another worker, perhaps on another machine, may have what this one lacks.
            ends = self._dispatch.failed if verdict.outcome is Outcome.INFRASTRUCTURE else self._dispatch.answered
            if ends(link.name, ticket):
                self._end(ticket, verdict)
        for ticket in answer.refused:
            link.settle(ticket)
        if answer.refused:
            self._dispatch.refused(link.name, answer.refused)

    def _pack(self, link: _Link, session: str, batch: list[int]) -> tuple[bytes, list[dict[str, Any]]]:
        """The arguments of a call: the second only where there are large problems, since it takes Ray's slow pickler."""
        requests: list[tuple[int, JudgeRequest | DistantRequest]] = []
        references: dict[str, Any] = {}
        for ticket in batch:
            if ticket in self._pending:
                request, needed = self._sender.prepare(self._pending[ticket].request)
                requests.append((ticket, request))
                references |= needed
            else:  # nobody waits for it any more, and it was not sent
                link.settle(ticket)
                self._dispatch.answered(link.name, ticket)
        return pack(Call(session, link.process, _POLL_S, requests)), [references] if references else []

    def _end(self, ticket: int, verdict: Verdict) -> None:
        pending = self._pending.pop(ticket)
        self._latencies.add(time.monotonic() - pending.since)
        self._infrastructure += verdict.outcome is Outcome.INFRASTRUCTURE
        if not pending.future.done():
            pending.future.set_result(verdict)

    def _give_up(self, ticket: int, reason: str) -> None:
        request = self._pending[ticket].request
        self._dispatch.end(ticket)
        self._end(ticket, infrastructure(request.problem.id, len(request.chosen()), reason[:300], request.index))

    # Workers that are lost, and that come back ------------------------------------------------------------------------

    def _lose(self, link: _Link, session: str, reason: str) -> None:
        """All that the worker had goes elsewhere; what it may still say is not heard."""
        if link.session != session:
            return
        link.session, link.process = uuid.uuid4().hex, None
        link.outgoing.clear()
        link.due.clear()
        link.ahead_s = 0.0
        for task in link.calls:
            if task is not asyncio.current_task():
                task.cancel()
        link.calls.clear()
        for ticket in self._dispatch.lost(link.name):
            if ticket in self._pending:
                self._give_up(ticket, reason)
        if link.member and not link.down:
            link.down = True
            _log.warning("%s (%s); its requests go elsewhere", reason, link.name)
            self._spawn(self._await_return(link))
        self._schedule()

    async def _await_return(self, link: _Link) -> None:
        """Ping a lost worker until it answers; Ray restarts it meanwhile."""
        from ray.exceptions import RayError

        while link.member:
            try:
                await within(link.handle.ping.remote(), _PING_S)
                break
            except (RayError, TimeoutError):
                await asyncio.sleep(_AGAIN_S)
        link.down = False
        self._dispatch.set_open(link.name, link.up)
        self._schedule()

    async def _check(self) -> None:
        """Once in a while: who is overdue is lost, and who has waited too long for any worker gives up."""
        while True:
            await asyncio.sleep(min(_CHECK_S, self._return_s / 4))
            for link in list(self._links.values()):
                if link.overdue():
                    self._lose(link, link.session, "the executor worker gave no answer in time")
            now = time.monotonic()
            if self._dispatch.open_workers:
                self._none_open_since = None
                continue
            self._none_open_since = self._none_open_since or now
            for ticket in self._dispatch.queue:
                if now - max(self._none_open_since, self._pending[ticket].since) > self._return_s:
                    self._give_up(ticket, f"no executor worker was up for {self._return_s:g} s")

    async def _subscribe(self) -> None:
        """Follow the membership."""
        from ray.exceptions import RayError

        since: tuple[str, int] | None = None
        while True:
            try:
                changes = self._membership.changes.remote(since, _POLL_S)
                roster: Roster | None = await within(changes, _POLL_S + _ANSWER_S)
            except (RayError, TimeoutError):
                await asyncio.sleep(_AGAIN_S)
                continue
            if roster is not None:
                since = roster.stamp
                if roster.epoch:  # a fresh membership actor does not know its members
                    self.set_members(roster.members)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        """A task that breaks is a defect of ours: whoever waits is told, instead of waiting for ever."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            for ticket, pending in list(self._pending.items()):
                self._pending.pop(ticket)
                self._dispatch.end(ticket)
                if not pending.future.done():
                    pending.future.set_exception(error)
