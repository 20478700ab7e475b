"""A small warm interpreter that forks one process a test: run as a script by sandbox/process.py, never imported.

Invariants: single-threaded; it holds no descriptor but its socket, and never sees a program, an input or an answer,
so nothing of one test can be found in the memory of the next; a forked process is shut in (own session, limits, user,
scratch folder, Landlock, seccomp) before it reads what it is to do; all that a test started is dead and reaped when its
end is told. Where the judge is gone (the socket ends, or SIGTERM by PR_SET_PDEATHSIG) everything is killed, then this
process ends.

argv: socket descriptor, process id of the judge, descriptor of the standard library's folder to keep open or -1,
folder of the language's files, folder of this one's. The first request, "begin", says how programs are to be held.

Modules that are imported and not used are what most programs and the runners import: once here, not in each test.
"""

from __future__ import annotations

import _sitebuiltins
import array
import atexit  # noqa: F401
import bisect  # noqa: F401
import builtins
import copy  # noqa: F401
import ctypes
import functools  # noqa: F401
import gc
import heapq  # noqa: F401
import importlib
import itertools  # noqa: F401
import marshal
import math  # noqa: F401
import operator  # noqa: F401
import os
import re  # noqa: F401
import resource
import select
import signal
import socket
import string  # noqa: F401
import struct
import sys
import types
import typing  # noqa: F401
from collections.abc import Callable

# What these two would do in every new process takes a tenth of a test, and there is nothing to do: this one has a single
# thread, and random numbers are to start alike in every test. Where programs may fork, the hooks are theirs (see _shut_in).
_fork_hooks: list[dict] = []
_register_at_fork = os.register_at_fork
os.register_at_fork = lambda **hooks: _fork_hooks.append(hooks)  # type: ignore[assignment]
import random  # noqa: E402
import threading  # noqa: E402, F401

os.register_at_fork = _register_at_fork

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
_CAPABILITIES_HEADER = struct.pack("<Ii", 0x20080522, 0)  # version 3, this process
_NO_CAPABILITIES = bytes(24)
_PLACES = 7  # descriptors that a forked process has at the most
_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]


def prctl(option: int, value: int) -> None:
    """One prctl call. Raises OSError."""
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def drop_capabilities() -> None:
    """Give up what the maker of a user's namespace may do in it. Raises OSError."""
    if _libc.capset(_CAPABILITIES_HEADER, _NO_CAPABILITIES):
        raise OSError(ctypes.get_errno(), "capset")


def set_limits(limits: list[tuple[str, int]]) -> None:
    """Limit this process, for good; only the stack, which the address space bounds anyway, can be raised again. Raises OSError."""
    for name, value in limits:
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(which, (value, hard if name == "RLIMIT_STACK" else value))


def load(name: str, folder: str) -> types.ModuleType:
    """A module from one file, under its bare name, without a search path that programs would inherit."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    with open(os.path.join(folder, f"{name}.py"), encoding="utf-8") as file:
        exec(compile(file.read(), f"<cupel {name}>", "exec", dont_inherit=True), module.__dict__)
    return module


class Zygote:
    """The state: the socket, and the processes of the running test."""

    def __init__(self, sock: socket.socket, keep: int, child: types.ModuleType, answer: types.ModuleType) -> None:
        self.sock, self.keep, self.child, self.answer = sock, keep, child, answer
        self.pids: list[int] = []
        self.main = -1
        self.uids: set[int] = set()
        self.prepare: Callable[[str | None], None] = lambda scratch: None
        self.confine: Callable[[], None] = lambda: None
        self.seal: Callable[[], None] = lambda: None
        self.renew_scratch: Callable[[int], None] | None = None
        self.scratch: str | None = None
        self.confined = False

    def serve(self) -> None:
        """Answer requests until the judge is gone; tell of a test's end unasked, when its main process is dead."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        while True:
            if self.main >= 0:
                poller.register(self.main, select.POLLIN)
                over = any(fd == self.main for fd, _ in poller.poll())
                poller.unregister(self.main)
                if over:
                    self._tell(self._finish())
                    continue
            raw, fds = self._receive()
            if not raw:
                return
            request = marshal.loads(raw)
            try:
                if request["do"] == "spawn":
                    self._tell(*self._spawn(request, fds))
                elif request["do"] == "purge":
                    self._tell(self._purge(request))
                elif self.pids:  # else its end has been told already
                    self._tell(self._finish())
            except OSError as error:
                self._tell(self.answer.failed(f"{type(error).__name__}: {error}"))
            finally:
                for fd in fds:
                    os.close(fd)

    def _tell(self, answer: bytes, handed: int = -1) -> None:
        if handed < 0:
            self.sock.send(answer)
            return
        socket.send_fds(self.sock, [answer], [handed])
        if handed != self.main:
            os.close(handed)

    def begin(self, folder: str) -> None:
        """The first request: how programs are held. Raises OSError where that cannot be had."""
        raw, _ = self._receive()
        if not raw:
            os._exit(0)
        request = marshal.loads(raw)
        if request["do"] != "begin":
            raise OSError("the first request is not how to begin")
        readable, devices = request["readable"], request["devices"]
        modules = {name: load(name, folder) for name in ("landlock", "namespaces", "seccomp")}
        sys.path[:0] = request["folders"]
        for name in request["packages"]:
            importlib.import_module(name)
        del sys.path[: len(request["folders"])]
        if request["namespaces"] is not None:
            modules["namespaces"].enter(request["namespaces"], readable, devices)
            self.renew_scratch = modules["namespaces"].renew_scratch
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        os.umask(0o022)
        set_limits(request["limits"])
        self.confined = request["confined"]
        if self.confined:
            rules = modules["landlock"].Rules(readable, devices)
            calls = modules["seccomp"].Filter(scoped=rules.scoped)
            self.prepare, self.confine = rules.prepare, rules.restrict
            self.seal = calls.install

    def _receive(self) -> tuple[bytes, list[int]]:
        fds = array.array("i")
        raw, ancillary, _, _ = self.sock.recvmsg(1 << 16, socket.CMSG_SPACE(16 * fds.itemsize))
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        return raw, list(fds)

    def _spawn(self, request: dict, fds: list[int]) -> tuple[bytes, int]:
        """Fork one process; its number, and a descriptor of it. The end of one that is `main` ends the test."""
        if request["uid"] is not None:
            self.uids.add(request["uid"])
        if self.renew_scratch is not None and request["scratch"] is not None:
            self.renew_scratch(os.getuid() if request["uid"] is None else request["uid"])
        self.prepare(request["scratch"])
        if request["scratch"] != self.scratch and request["scratch"] is not None:
            self.scratch = os.environ["HOME"] = os.environ["TMPDIR"] = request["scratch"]
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 97
            try:
                self._shut_in(request, fds, me)
                self.child.main()
                status = 0
            except BaseException as error:
                self.child.report("broken", f"{type(error).__name__}: {error}")
            finally:
                os._exit(status)
        self.pids.append(pid)
        fd = os.pidfd_open(pid)
        if request["main"]:
            self.main = fd
        return self.answer.spawned(pid), fd

    def _shut_in(self, request: dict, fds: list[int], parent: int) -> None:
        """Everything that holds the new process, in the order in which each step still has the right to do it.

        What can be inherited was set in `begin`: every call here is made once for every test.
        """
        if not self.confined:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for hooks in _fork_hooks:
                os.register_at_fork(**hooks)
        os.setsid()
        self.confine()
        for place, fd in enumerate(fds):  # all of them lie above these places
            os.dup2(fd, place, inheritable=place < 3)
        if self.keep < 0:
            os.closerange(len(fds), 1 << 20)
        else:
            os.closerange(len(fds), self.keep)
            os.closerange(self.keep + 1, 1 << 20)
        os.chdir(request["scratch"] or "/")
        set_limits(request["limits"])
        uid = request["uid"]
        if uid is None:
            drop_capabilities()
        else:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(97)
        self.seal()

    def _finish(self) -> bytes:
        """Kill and reap all that the test started."""
        ends = []
        if self.main >= 0:
            os.close(self.main)
            self.main = -1
        alone = {pid for pid in self.pids if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)}
        for pid in self.pids:
            if (
                pid not in alone or not self.confined
            ):  # a dead one may have left others of its group, where it can make any
                _kill(pid)
        for pid in self.pids:
            _, status, usage = os.wait4(pid, 0)
            ends.append((pid, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, pid in alone))
        rest = self._reap_rest()
        self.pids = []
        return self.answer.finished(ends, rest)

    def _purge(self, request: dict) -> bytes:
        """Kill what an earlier holder of these users left alive."""
        for uid in request["uids"]:
            kill_user(uid)
        return self.answer.purged()

    def _reap_rest(self) -> float:
        """Every descendant left is a child of ours by now (we are their subreaper), so no child means no survivor."""
        seconds = 0.0
        while True:
            try:
                pid, _, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return seconds
            if pid:
                seconds += usage.ru_utime + usage.ru_stime
                continue
            for uid in self.uids:
                kill_user(uid)
            if not self.uids:
                for survivor in _children():
                    _kill(survivor)
            pid, _, usage = os.wait4(-1, 0)
            seconds += usage.ru_utime + usage.ru_stime

    def end(self) -> None:
        """Kill everything; used when the judge is gone."""
        for pid in self.pids:
            _kill(pid)
        try:
            self._reap_rest()
        except OSError:
            pass


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def kill_user(uid: int) -> None:
    """Kill every process of a user at once, so that none can fork away; only for users that are ours alone."""
    if uid < 1000:
        raise PermissionError("that user is not ours")
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _children() -> list[int]:
    me, found = str(os.getpid()), []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    if file.read().rpartition(b")")[2].split()[1].decode() == me:
                        found.append(int(name))
            except (OSError, IndexError):
                pass
    return found


def main() -> None:
    """Set up and serve."""
    descriptor, judge, keep, folder = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    sandbox_folder = sys.argv[5]
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # where memory runs out, ours goes first; forks inherit it
    if os.getppid() != judge:
        return
    load("wire", folder)
    load("python_peer", folder)
    load("python_lines", folder)
    child = load("python_child", folder)
    for name in ("exit", "quit"):  # what `site` would add
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
    builtins.help = _sitebuiltins._Helper()  # type: ignore[attr-defined]
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    # What is handed over for a new process has to lie above the places that it goes to.
    while os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) < _PLACES:
        pass
    sock = socket.socket(fileno=descriptor)
    answer = load("answer", sandbox_folder)
    zygote = Zygote(sock, keep, child, answer)

    try:
        zygote.begin(sandbox_folder)
    except (OSError, ImportError) as error:
        sock.send(answer.failed(str(error)))
        os._exit(1)
    child.make_streams()
    prctl(PR_SET_DUMPABLE, 0)  # not before: a user's namespace is set up through files of /proc that this closes

    def orphaned(*_: object) -> None:
        zygote.end()
        os._exit(0)

    if not zygote.confined:  # else there is nobody to kill but processes that die with this one
        signal.signal(signal.SIGTERM, orphaned)
    with open("/proc/self/statm", encoding="ascii") as file:
        space = int(file.read().split()[0]) * resource.getpagesize()
    sock.send(answer.ready(space))
    random.seed(0)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        zygote.serve()
    finally:
        zygote.end()
        os._exit(0)


main()
