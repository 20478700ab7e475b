"""The Ray actor that judges: a Judge with `slots` threads behind one call that takes requests in and gives verdicts out.

Invariants: programs run in processes that die with this one (sandbox/process.py); each request that is taken gives one
verdict, told to its client once; a client has at most one call waiting here (a newer one ends the older); a draining
worker takes nothing, finishes what it has, and is idle when all of that is fetched. Ray is imported only where an
actor is started.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from executor.exchange import Answer, Call, pack, unpack
from executor.judging import Judge, JudgeRequest
from executor.large_problems import ProblemReceiver
from executor.settings import ExecutorSettings
from executor.stacks import place
from executor.verdict import Outcome, Verdict, infrastructure

if TYPE_CHECKING:
    from ray.actor import ActorHandle

IN_FLIGHT_PER_SLOT = 8  # of one client: enough that a slot has work while verdicts are on their way
MAX_CALLS = 64  # at a time, of all clients; more wait in Ray's queue
_LINGER_S = 0.02  # a finished verdict waits so long for company, and only where others of its client are unfinished
_SILENT_S = 60.0  # a client that has not called for so long is gone; its verdicts are dropped


class Judging(Protocol):
    """As much of a Judge as a worker needs."""

    @property
    def level(self) -> str:
        """Level of isolation."""
        ...

    busy_slots: int
    infrastructure_failures: int

    def judge(self, request: JudgeRequest) -> Verdict:
        """The verdict on one program."""
        ...

    def close(self) -> None:
        """End everything."""
        ...


class _Mailbox:
    """What one client has here."""

    def __init__(self, lock: threading.Lock) -> None:
        self.changed = threading.Condition(lock)
        self.unfinished = 0
        self.finished: list[tuple[int, Verdict]] = []
        self.calls = 0
        self.waiting = 0
        self.seen = time.monotonic()

    @property
    def gone(self) -> bool:
        return not self.waiting and time.monotonic() - self.seen > _SILENT_S


class ExecutorWorker:
    """Judges requests; an actor by `start_worker`, or a plain object."""

    def __init__(
        self,
        settings: ExecutorSettings,
        name: str = "executor",
        open_judge: Callable[[ExecutorSettings], Judging] | None = None,
    ) -> None:
        """Open the sandboxes. Raises UserError where the level of isolation asked for cannot be had."""
        self._settings = settings
        self._name = name
        self._process = uuid.uuid4().hex
        self._judge: Judging = (open_judge or Judge)(settings)
        self._threads = ThreadPoolExecutor(settings.slots, thread_name_prefix="cupel-slot")
        self._problems = ProblemReceiver()
        self._lock = threading.Lock()
        self._finished = threading.Condition(self._lock)
        self._mailboxes: dict[str, _Mailbox] = {}
        self._draining = False
        self._outcomes: Counter[Outcome] = Counter()
        self._busy_seconds = 0.0
        # Half of what a client may have here: the other half keeps the slots busy meanwhile.
        self._enough = max(1, IN_FLIGHT_PER_SLOT * settings.slots // 2)

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call it."""
        return self._name

    def exchange(self, data: bytes, references: dict[str, Any] | None = None) -> bytes:
        """Take the requests of a Call; an Answer with what is done, as soon as that is something or the call's time is up.

        `references` are those of the large problems among them.
        """
        call = unpack(Call, data)
        if call.process not in (None, self._process):
            return pack(Answer(self._process, known=False))
        requests = [(ticket, self._problems.resolve(request, references or {})) for ticket, request in call.requests]
        with self._lock:
            mailbox = self._mailboxes.get(call.session)
            if mailbox is None:
                self._drop_silent()
                mailbox = self._mailboxes[call.session] = _Mailbox(self._lock)
            mailbox.calls += 1
            mailbox.changed.notify_all()  # ends an older call
            refused = [ticket for ticket, _ in call.requests] if self._draining else []
            if not self._draining:
                for ticket, request in requests:
                    mailbox.unfinished += 1
                    self._threads.submit(self._run, mailbox, ticket, request)
            if not refused:
                self._wait(mailbox, call.timeout_s)
            verdicts, mailbox.finished = mailbox.finished, []
            mailbox.seen = time.monotonic()
            self._finished.notify_all()
        return pack(Answer(self._process, verdicts=verdicts, refused=refused))

    def _wait(self, mailbox: _Mailbox, timeout_s: float) -> None:
        """Until there is something to tell, a newer call of the same client, or the time is up."""
        turn, deadline = mailbox.calls, time.monotonic() + timeout_s
        mailbox.waiting += 1
        lingering = False
        while mailbox.calls == turn and (left := deadline - time.monotonic()) > 0:
            if mailbox.finished:
                if not mailbox.unfinished or len(mailbox.finished) >= self._enough:
                    break
                if not lingering:
                    lingering, deadline = True, min(deadline, time.monotonic() + _LINGER_S)
                    continue
            mailbox.changed.wait(left)
        mailbox.waiting -= 1

    def _drop_silent(self) -> None:
        for session in [session for session, mailbox in self._mailboxes.items() if mailbox.gone]:
            if not self._mailboxes[session].unfinished:
                del self._mailboxes[session]

    def _run(self, mailbox: _Mailbox, ticket: int, request: JudgeRequest) -> None:
        start = time.monotonic()
        try:
            verdict = self._judge.judge(request)
        except Exception as error:  # a bug of ours must not lose a verdict
            message = f"{type(error).__name__}: {error}"[:300]
            verdict = infrastructure(request.problem.id, len(request.chosen()), message, request.index)
        with self._lock:
            self._outcomes[verdict.outcome] += 1
            self._busy_seconds += time.monotonic() - start
            mailbox.unfinished -= 1
            mailbox.finished.append((ticket, verdict))
            if not mailbox.unfinished or len(mailbox.finished) in (1, self._enough):
                mailbox.changed.notify_all()
            if not mailbox.unfinished:
                self._finished.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Take nothing from now on. Whether all is finished and fetched within `timeout_s`; then the sandboxes are closed."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._draining = True
            while any(self._holds(mailbox) for mailbox in self._mailboxes.values()):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._finished.wait(min(left, 1.0))  # that a client is silent is told by the clock alone
        self.close()
        return True

    def _holds(self, mailbox: _Mailbox) -> bool:
        return not mailbox.gone and bool(mailbox.unfinished or mailbox.finished)

    def gauges(self) -> dict[str, float]:
        """Counts since the start: executions, outcomes, busy seconds; levels: slots, busy slots, queue; infrastructure failures."""
        with self._lock:
            gauges = {f"outcome_{outcome.value}": float(self._outcomes[outcome]) for outcome in Outcome}
            gauges["executions"] = float(self._outcomes.total())
            gauges["busy_seconds"] = self._busy_seconds
            unfinished = sum(mailbox.unfinished for mailbox in self._mailboxes.values())
        busy = self._judge.busy_slots
        gauges["slots"] = float(self._settings.slots)
        gauges["busy_slots"] = float(busy)
        gauges["queue"] = float(max(0, unfinished - busy))
        gauges["infrastructure_failures"] = float(self._judge.infrastructure_failures)
        return gauges

    def place(self) -> tuple[str, int]:
        """Ray's node and the process that this is in."""
        return place()

    def ping(self) -> dict[str, Any]:
        """Who answers: process id, slots, level of isolation, and whether it is draining."""
        return {
            "pid": os.getpid(),
            "slots": self._settings.slots,
            "level": self._judge.level,
            "draining": self._draining,
        }

    def close(self) -> None:
        """End the sandboxes."""
        self._judge.close()
        self._threads.shutdown(wait=False)


def start_worker(
    settings: ExecutorSettings, name: str = "executor", worker: type[ExecutorWorker] = ExecutorWorker, **options: Any
) -> ActorHandle[Any]:
    """Start one worker, called `name`, as a Ray actor that the caller's process owns and Ray restarts without end; `options` are an actor's."""
    import ray

    defaults = {"max_restarts": -1, "max_task_retries": 0, "max_concurrency": MAX_CALLS, "num_cpus": 0}
    actor: Any = ray.remote(worker)
    return actor.options(**{**defaults, **options}).remote(settings, name)
