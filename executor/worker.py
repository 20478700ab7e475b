"""The Ray actor that judges: a Judge with `slots` threads, and gauges.

Invariants: programs run in processes that die with this one (sandbox/process.py); a call gives one verdict a request,
in order; the gauges answer while all slots are busy. Ray is imported only where an actor is started.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from executor.judging import Judge, JudgeRequest
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict, infrastructure

if TYPE_CHECKING:
    from ray.actor import ActorHandle

IN_FLIGHT_PER_SLOT = 4


class ExecutorWorker:
    """Judges requests; an actor by `start_worker`, or a plain object."""

    def __init__(self, settings: ExecutorSettings) -> None:
        """Open the sandboxes. Raises UserError where the level of isolation asked for cannot be had."""
        self._settings = settings
        self._judge = Judge(settings)
        self._threads = ThreadPoolExecutor(settings.slots, thread_name_prefix="cupel-slot")
        self._lock = threading.Lock()
        self._outcomes: Counter[Outcome] = Counter()
        self._busy_seconds = 0.0

    def judge(self, requests: list[JudgeRequest]) -> list[Verdict]:
        """One verdict a request, in order."""
        return list(self._threads.map(self._one, requests))

    def _one(self, request: JudgeRequest) -> Verdict:
        start = time.monotonic()
        try:
            verdict = self._judge.judge(request)
        except Exception as error:  # a bug of ours must not lose the other verdicts
            message = f"{type(error).__name__}: {error}"[:300]
            verdict = infrastructure(request.problem.id, len(request.chosen()), message, request.index)
        with self._lock:
            self._outcomes[verdict.outcome] += 1
            self._busy_seconds += time.monotonic() - start
        return verdict

    def gauges(self) -> dict[str, float]:
        """Counts since the start: executions, outcomes, busy seconds; slots, busy slots, infrastructure failures."""
        with self._lock:
            gauges = {f"outcome_{outcome.value}": float(self._outcomes[outcome]) for outcome in Outcome}
            gauges["executions"] = float(self._outcomes.total())
            gauges["busy_seconds"] = self._busy_seconds
        gauges["slots"] = float(self._settings.slots)
        gauges["busy_slots"] = float(self._judge.busy_slots)
        gauges["infrastructure_failures"] = float(self._judge.infrastructure_failures)
        return gauges

    def ping(self) -> dict[str, Any]:
        """Who answers: process id and level of isolation."""
        return {"pid": os.getpid(), "level": self._judge.level}

    def close(self) -> None:
        """End the sandboxes."""
        self._judge.close()
        self._threads.shutdown(wait=False)


def start_worker(settings: ExecutorSettings, **options: Any) -> ActorHandle[Any]:
    """Start one worker as a Ray actor that is restarted without end; `options` are an actor's (name, num_cpus, ...).

    Several calls are served at a time, so that a pool may send requests one by one and the gauges never wait.
    """
    import ray

    defaults = {"max_restarts": -1, "max_task_retries": 0, "max_concurrency": IN_FLIGHT_PER_SLOT * settings.slots + 2}
    actor: Any = ray.remote(ExecutorWorker)
    return actor.options(**{**defaults, **options}).remote(settings)
