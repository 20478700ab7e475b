"""A run that goes on by itself: the controller is a child process, started again from the newest checkpoint when it dies or has lost what nobody replaces.

Invariants: a person's mistake, a stop and the end of a run are never followed by another start, nor is a child that made no run folder; one that cannot be started again
(too little memory while the dead one's is still being freed) is tried once more like one that died;
starts that bring the run no new checkpoint are counted, farther apart each time, and end it at `run.max_restarts`; whoever kills this process stops
the child, which leaves a checkpoint.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster.run_folder import latest_checkpoint
from executor.errors import LOST

FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 600.0
TELL = "CUPEL_TELL_RUN_FOLDER"  # the file descriptor that the child tells its run folder to
RESTARTED = "CUPEL_RESTARTED"  # how often the run was started again before the child


class Restarts:
    """How often and how soon a run is started again; pure."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self._reached: str | None = None

    def pause(self, checkpoint: str | None) -> float | None:
        """Seconds until the next start of a run whose newest checkpoint is that one; None to give it up."""
        if checkpoint != self._reached:
            self._reached, self.count = checkpoint, 0
        self.count += 1
        if self.count > self.limit:
            return None
        return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self.count - 1))


def supervised() -> bool:
    """Whether this process is the child of a supervisor."""
    return TELL in os.environ


def restarted() -> int:
    """How often the run was started again before this process, by the supervisor of both."""
    return int(os.environ.get(RESTARTED, "0"))


def tell_run_folder(path: Path) -> None:
    """The child tells its supervisor what can be gone on with."""
    descriptor = os.environ.pop(TELL, None)
    if descriptor is not None:
        with os.fdopen(int(descriptor), "w") as pipe:
            pipe.write(str(path))


def supervise(
    arguments: Sequence[str],
    limit: int,
    command: Sequence[str] = (sys.executable, "-m", "cluster", "train"),
    say: Callable[[str], None] | None = None,
) -> int:
    """Run `command` with `arguments`, and again with `--resume` where that may help. Returns the exit code of the last one."""
    say = say or _say
    restarts = Restarts(limit)
    child = _Child()
    begun = 0
    folder: Path | None = None
    while True:
        code, told = child.run([*command, *arguments], begun)
        folder = told or folder
        if child.stopped or folder is None or (told and not may_go_on(code)):
            return code if code >= 0 else 128 - code
        reached = latest_checkpoint(folder)
        pause = restarts.pause(reached.name if reached else None)
        how = _how_it_ended(code, told)
        if pause is None:
            say(
                f"the run {how}; {limit} new starts in a row brought no new checkpoint, so it is given up: "
                f"cupel train --resume {folder} goes on from {reached.name if reached else 'its start'}"
            )
            return LOST
        say(
            f"the run {how}; it goes on from {reached.name if reached else 'its start'} in {pause:.0f} s "
            f"(start {restarts.count} of {limit} since then)"
        )
        if child.asked.wait(pause):
            return 130
        arguments, begun = ["--resume", str(folder)], begun + 1


def may_go_on(code: int) -> bool:
    """Whether a run that ended with that exit code may do better when started again; negative: killed by a signal."""
    return code == LOST or code < 0


def _how_it_ended(code: int, told: Path | None) -> str:
    if code < 0:
        return f"was killed by signal {-code}"
    return "had lost what it cannot replace" if told else "could not be begun again"


class _Child:
    """One child at a time, which hears of every signal to stop that this process gets."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._forward)

    @property
    def stopped(self) -> bool:
        """Whether somebody asked for the end."""
        return self.asked.is_set()

    def _forward(self, number: int, _: object) -> None:
        self.asked.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def run(self, command: Sequence[str], begun: int) -> tuple[int, Path | None]:
        """Run it to its end, `begun` times before: exit code, and its run folder if it came to one."""
        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, TELL: str(writing), RESTARTED: str(begun)},
                pass_fds=[writing],
                preexec_fn=_end_with_the_parent,
            )
        finally:
            os.close(writing)
        with os.fdopen(reading) as pipe:
            told = pipe.read()  # ends when the child has told, or with it
        return self._process.wait(), Path(told) if told else None


def _end_with_the_parent() -> None:
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _say(text: str) -> None:
    print(f"cupel: {text}", file=sys.stderr, flush=True)
