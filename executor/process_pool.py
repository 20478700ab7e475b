"""Judge on all cores: a process for each program that is judged at a time, since one interpreter keeps only a few busy.

Invariants: one answer a request, whatever dies: a process that is lost is replaced and its program judged again, in
the end as infrastructure; every wait for an answer has a deadline; the processes end with this one, and do not hear
the terminal's Ctrl-C, which is for this one to answer.
"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection

from executor.errors import UserError
from executor.judging import JudgeRequest
from executor.problem import Problem
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, as_line, infrastructure

MOST_WORKERS = 128
_START_S = 120.0
_END_S = 5.0
_MARGIN_S = 30.0


def cores() -> int:
    """Cores that this process may use, as far as there can be workers."""
    return max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0))))


@dataclass(frozen=True)
class Judged:
    """An outcome, and the verdict as a line of a verdicts file holds it."""

    outcome: Outcome
    line: str


class _Lost(Exception):
    """A process did not answer."""


class _Process:
    """One judging process. Used by one thread at a time, but for `end`."""

    def __init__(self, settings: ExecutorSettings) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "executor.process_worker", settings.model_dump_json()],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
                process_group=0,
            )
        self._socket = ours
        self._connection = Connection(os.dup(ours.fileno()))
        self._problem: Problem | None = None

    def ready(self) -> str:
        """Wait until it is; its level of isolation. Raises UserError where that cannot be had, and _Lost."""
        return self._receive(_START_S)[1]

    def judge(self, request: JudgeRequest, seconds: float) -> Judged:
        """Raises _Lost where there is no answer within so many seconds."""
        problem = None if request.problem is self._problem else request.problem
        rest = {
            "program": request.program,
            "tests": request.tests,
            "stop_at_first_failure": request.stop_at_first_failure,
            "index": request.index,
            "executed_lines": request.executed_lines,
        }
        try:
            self._connection.send((problem, rest))
        except OSError as error:
            raise _Lost(str(error)) from None
        self._problem = request.problem
        _, outcome, line = self._receive(seconds)
        return Judged(Outcome(outcome), line)

    def _receive(self, seconds: float) -> tuple[str, ...]:
        try:
            if not self._connection.poll(seconds):
                raise _Lost(f"no answer within {seconds:.0f} s")
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise _Lost("it ended") from None
        if answer[0] == "refused":
            raise UserError(answer[1])
        return answer

    def end(self) -> None:
        """Ask it to end; from any thread, even while it judges."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has ended

    def close(self) -> None:
        """Wait for its end, or make it end."""
        self.end()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()
        self._connection.close()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self.close()


class ProcessPool:
    """Judges `workers` programs at a time. A context manager; leaving it gives up what is not judged yet."""

    def __init__(self, settings: ExecutorSettings, workers: int) -> None:
        """Start the processes. Raises UserError where the level of isolation asked for cannot be had."""
        self._settings = settings.model_copy(update={"slots": 1})
        self._closed = False
        self._free: queue.LifoQueue[_Process] = queue.LifoQueue()
        self._processes: list[_Process] = []
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="cupel-judge")
        try:
            for _ in range(workers):
                self._processes.append(_Process(self._settings))
            levels = [process.ready() for process in self._processes]
        except BaseException as error:
            self.close()
            if isinstance(error, _Lost):
                raise UserError(f"a judging process does not start: {error}") from None
            raise
        self.level = levels[0]
        for process in self._processes:
            self._free.put(process)

    def submit(self, request: JudgeRequest) -> Future[Judged]:
        """Have a program judged."""
        return self._threads.submit(self._judge, request)

    def _judge(self, request: JudgeRequest) -> Judged:
        tests = len(request.chosen())
        longest = self._settings.longest_s(request.problem.time_limit_s, tests)
        process = self._free.get()  # at once: there are no more threads than processes
        reason = ""
        try:
            for _ in range(self._settings.retries + 1):
                try:
                    return process.judge(request, longest + _MARGIN_S)
                except _Lost as error:
                    reason = f"a judging process was lost: {error}"
                if self._closed:
                    break
                process = self._replace(process)
        finally:
            self._free.put(process)
        verdict = infrastructure(request.problem.id, tests, reason, request.index)
        return Judged(verdict.outcome, as_line(verdict))

    def _replace(self, lost: _Process) -> _Process:
        lost.kill()
        process = self._processes[self._processes.index(lost)] = _Process(self._settings)
        if self._closed:
            process.end()
        try:
            process.ready()
        except _Lost:
            pass  # the next request finds it so
        return process

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        for process in self._processes:
            process.end()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.close()

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
