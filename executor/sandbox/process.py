"""The judge's end of a zygote: start it, have it fork a test's processes, have them ended.

Invariants: every zygote is started by one thread that lives as long as this process, because PR_SET_PDEATHSIG follows
the thread that forked; every request has a deadline; a zygote that answered wrongly or not at all is dead and
unusable afterwards (SandboxLost).
"""

from __future__ import annotations

import marshal
import os
import queue
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from executor.languages.interpreter import Interpreter
from executor.sandbox import answer
from executor.sandbox.cgroup import Group

T = TypeVar("T")
_REPLY_S = 20.0
_ROOM = Path(__file__).resolve().parent
_LANGUAGES = _ROOM.parent / "languages"
# What a test's process sees, whatever our own environment holds. The hash seed is fixed: no verdict may depend on it.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class SandboxLost(Exception):
    """Our own machinery failed; nothing is known about the program."""


@dataclass(frozen=True)
class End:
    """How one process ended."""

    status: int
    """As wait(2) gives it."""
    cpu_s: float
    peak_bytes: int
    by_itself: bool
    """False if we killed it."""

    @property
    def signal(self) -> int | None:
        """The signal that ended it, None if it exited."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    @property
    def code(self) -> int | None:
        """Its exit code, None if a signal ended it."""
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None


@dataclass(frozen=True)
class Process:
    """A process of a test that has not been waited for."""

    number: int
    """Its process id where the zygote is."""
    fd: int
    """A descriptor of it, readable when it is dead."""
    pid: int
    """Its process id where we are."""


def _process_id(fd: int) -> int:
    """The process id of a process descriptor, -1 where the process has been waited for. Raises OSError and ValueError."""
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(info, 512).partition(b"Pid:")[2].split(None, 1)[0])
    finally:
        os.close(info)


class _Launcher:
    """One thread that starts all zygotes of this process."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._pid = 0

    def run(self, start: Callable[[], Any]) -> Any:
        with self._lock:
            if self._thread is None or not self._thread.is_alive() or self._pid != os.getpid():
                self._thread = threading.Thread(target=self._loop, name="cupel-launcher", daemon=True)
                self._thread.start()
                self._pid = os.getpid()
        future: Future[Any] = Future()
        self._work.put((future, start))
        return future.result(timeout=_REPLY_S)

    def _loop(self) -> None:
        while True:
            future, start = self._work.get()
            try:
                future.set_result(start())
            except BaseException as error:
                future.set_exception(error)


_launcher = _Launcher()


class Zygote:
    """One warm interpreter. Used by one thread at a time."""

    def __init__(self, interpreter: Interpreter, setup: dict[str, Any], group: Group | None = None) -> None:
        """Start it in `group`, tell it how to hold programs (`setup`, see zygote.py) and wait until it is ready.

        Raises SandboxLost.
        """
        self._interpreter = interpreter
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self._process: subprocess.Popen[bytes] | None = None
        self._words = os.memfd_create(
            "cupel-zygote", os.MFD_CLOEXEC
        )  # what it says on standard error before it is ready
        ours.settimeout(_REPLY_S)
        try:
            started: subprocess.Popen[bytes] = _launcher.run(lambda: self._start(theirs.fileno()))
            self._process = started
            theirs.close()
            if group is not None:
                group.add(started.pid)
            self.base_bytes, _ = self._ask({"do": "begin", **setup}, [], answer.read_ready)
            """Address space of the bare interpreter."""
        except (SandboxLost, OSError, TimeoutError, subprocess.SubprocessError) as error:
            self.kill()
            words = os.pread(self._words, 1 << 16, 0).decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise SandboxLost(f"the sandbox's interpreter does not start: {words or error}") from error
        finally:
            theirs.close()
            os.close(self._words)

    def _start(self, descriptor: int) -> subprocess.Popen[bytes]:
        environment, keep, handed = dict(ENVIRONMENT), -1, [descriptor]
        if self._interpreter.handed_prefix is not None:
            keep = self._interpreter.open_prefix()
            handed.append(keep)
            environment["PYTHONHOME"] = f"/proc/self/fd/{keep}"
        try:
            # -I would ignore the environment, which is ours here, and the hash seed with it.
            flags = ["-s", "-P", "-S", "-B"]
            command = [str(self._interpreter.binary), *flags, str(_ROOM / "zygote.py")]
            return subprocess.Popen(
                [*command, str(descriptor), str(os.getpid()), str(keep), str(_LANGUAGES), str(_ROOM)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._words,
                env=environment,
                cwd="/",
                pass_fds=handed,
                start_new_session=True,
            )
        finally:
            if keep >= 0:
                os.close(keep)

    def _receive(self, read: Callable[[bytes], T]) -> tuple[T, list[int]]:
        try:
            raw, fds, _, _ = socket.recv_fds(self._socket, 1 << 16, 1)
            return read(raw), fds
        except answer.Failed as error:
            raise SandboxLost(str(error)) from error
        except (OSError, ValueError) as error:
            self.kill()
            raise SandboxLost(f"the sandbox's interpreter is gone: {error or type(error).__name__}") from error

    def _ask(self, request: dict[str, Any], fds: list[int], read: Callable[[bytes], T]) -> tuple[T, list[int]]:
        try:
            # The way there needs no caution: what we say is trusted. What comes back is read as if it were not.
            socket.send_fds(self._socket, [marshal.dumps(request)], fds)
        except OSError as error:
            self.kill()
            raise SandboxLost(f"the sandbox's interpreter is gone: {error}") from error
        return self._receive(read)

    @property
    def fd(self) -> int:
        """A descriptor that can be read when the test is over because its main process is dead."""
        return self._socket.fileno()

    def spawn(
        self, fds: list[int], scratch: str | None, uid: int | None, limits: list[tuple[str, int]], main: bool
    ) -> Process:
        """Fork one process whose descriptors 0, 1, ... are `fds`, and whose end ends the test if it is `main`.

        The caller closes its `fd`. Raises SandboxLost.
        """
        request = {"do": "spawn", "scratch": scratch, "uid": uid, "limits": limits, "main": main}
        number, handed = self._ask(request, fds, answer.read_spawned)
        if len(handed) != 1:
            raise SandboxLost("the sandbox's interpreter handed no process over")
        try:
            return Process(number, handed[0], _process_id(handed[0]))
        except (OSError, ValueError) as error:
            os.close(handed[0])
            raise SandboxLost(f"the new process cannot be found: {error}") from error

    def finish(self, over: bool) -> tuple[dict[int, End], float]:
        """End all processes, if the test is not `over`: how each ended, by `Process.number`, and the CPU seconds of their descendants.

        Raises SandboxLost.
        """
        read = answer.read_finished
        (ends, rest_s), _ = self._receive(read) if over else self._ask({"do": "finish"}, [], read)
        return {pid: End(status, cpu_s, peak << 10, alone) for pid, status, cpu_s, peak, alone in ends}, rest_s

    def purge(self, uids: list[int]) -> None:
        """Kill every process of these users. Raises SandboxLost."""
        self._ask({"do": "purge", "uids": uids}, [], answer.read_purged)

    @property
    def alive(self) -> bool:
        """Whether it can be used."""
        return self._process is not None and self._process.poll() is None and self._socket.fileno() >= 0

    def close(self) -> None:
        """Let it end its processes and itself; returns when it is gone."""
        self._socket.close()
        if self._process is not None:
            try:
                self._process.wait(timeout=_REPLY_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it, by force where it does not end its processes and itself within a second."""
        self._socket.close()
        if self._process is not None:
            try:
                self._process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
