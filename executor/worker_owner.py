"""The owner of a run's executor workers: starts and ends their processes as the membership actor's roster says.

It lives in the process that must not be outlived (the controller), because Ray ends an actor with the process that
started it: if the membership actor started the workers, its death would end them all. Invariants: a worker's process is
ended when it is no member any more, and all of them by `close`; a fresh membership actor is told the members that the
last one had; every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from executor.membership import Member, Roster
from executor.membership_actor import PING_S, start_membership
from executor.settings import ExecutorSettings
from executor.worker import start_worker

_log = logging.getLogger(__name__)

POLL_S = 10.0
_ANSWER_S = 30.0  # above the poll's own time
_AGAIN_S = 0.2
_CLOSE_S = 10.0
_FAREWELL_S = 3.0


class WorkerOwner:
    """Workers by name, one thread that follows the roster."""

    def __init__(
        self,
        settings: ExecutorSettings,
        number: int,
        *,
        name: str | None = None,
        namespace: str | None = None,
        ping_s: float = PING_S,
        start: Callable[[ExecutorSettings, str], Any] = start_worker,
        membership_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Start the membership actor, as `name` if there is one and with these options of Ray's, and so many workers."""
        self._settings = settings
        self._start = start
        self._lock = threading.Lock()
        self._handles = {name: start(settings, name) for name in map("executor-{}".format, range(number))}
        self._roster = Roster("", 0, tuple(Member(name, handle=handle) for name, handle in self._handles.items()))
        self._started = number
        self.membership = start_membership(name, namespace, ping_s, **(membership_options or {}))
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="cupel-worker-owner", daemon=True)
        self._thread.start()

    @property
    def workers(self) -> dict[str, Any]:
        """The actors of all workers that run, by name."""
        with self._lock:
            return dict(self._handles)

    def _follow(self) -> None:
        import ray
        from ray.exceptions import RayError

        since: tuple[str, int] | None = None
        while not self._closed.is_set():
            try:
                roster: Roster | None = self._ask(self.membership.changes.remote(since, POLL_S), POLL_S + _ANSWER_S)
                if roster is None:
                    continue
                since = roster.stamp
                if roster.epoch == 0:
                    known = [replace(m, handle=self._handles.get(m.name)) for m in self._roster.members]
                    self._ask(self.membership.adopt.remote(known, self._roster.epoch, self._started), _ANSWER_S)
                else:
                    self._apply(roster)
            except Exception as error:  # whatever it is, workers must still be started and ended
                if self._closed.wait(_AGAIN_S) or not ray.is_initialized():
                    return
                known = isinstance(error, RayError)
                _log.log(
                    logging.INFO if known else logging.ERROR, "the executors' membership: %s", error, exc_info=not known
                )
                since = None

    def _ask(self, reference: Any, timeout_s: float) -> Any:
        import ray

        return ray.get(reference, timeout=timeout_s)

    def _apply(self, roster: Roster) -> None:
        import ray

        names = {member.name for member in roster.members}
        for name in [name for name in self._handles if name not in names]:
            with self._lock:
                handle = self._handles.pop(name)
            ray.kill(handle)
        self._roster = roster
        for member in roster.members:
            self._started = max(self._started, int(member.name.rpartition("-")[2]) + 1)
            if member.handle is None and member.name not in self._handles:
                with self._lock:
                    if self._closed.is_set():
                        return
                    self._handles[member.name] = self._start(self._settings, member.name)
        for member in roster.members:
            if member.handle is None and member.name in self._handles:
                self._ask(self.membership.joined.remote(member.name, self._handles[member.name]), _ANSWER_S)

    def close(self) -> None:
        """End all of them."""
        import ray
        from ray.exceptions import RayError

        self._closed.set()
        with self._lock:
            workers = list(self._handles.values())
            self._handles.clear()
        with contextlib.suppress(RayError, ValueError):
            # Who is not killed leaves no scratch folder; a test that still runs is not waited for longer.
            if endings := [worker.close.remote() for worker in workers]:
                ray.wait(endings, num_returns=len(endings), timeout=_FAREWELL_S)
        for handle in [self.membership, *workers]:
            with contextlib.suppress(RayError, ValueError):  # it may have ended already
                ray.kill(handle)
        self._thread.join(_CLOSE_S)
