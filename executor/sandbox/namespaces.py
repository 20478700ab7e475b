"""Namespaces: a machine of its own around a sandbox. Runs in the sandbox's own process, before it serves.

Inside there are no other processes, no network, no host name, no System V IPC and no files but those that programs may read, all of them read-only,
and SCRATCH, a folder in memory of bounded size. Invariants: where any step fails nothing is served (OSError); the process that entered
is number 1 inside, so the kernel ends everything with it, and it ends with the process outside that made it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys

SCRATCH = "/scratch"
_SCRATCH_OPTIONS = "size=64m,nr_inodes=4096,mode=0700"

_NEW_MOUNTS, _NEW_CGROUP, _NEW_UTS, _NEW_IPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
_NEW_USER, _NEW_PROCESSES, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC, _REMOUNT = 1, 2, 4, 8, 32
_NO_ACCESS_TIME, _BIND, _RECURSIVE, _PRIVATE, _RELATIVE_ACCESS_TIME = 1024, 4096, 16384, 1 << 18, 1 << 21
_DETACH = 2
_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _check(_libc.mount(encoded[0], encoded[1], encoded[2], flags, encoded[3]), f"mount {target}")


def enter(place: str, readable: list[str], devices: list[str]) -> None:
    """Go into new namespaces, whose root is built over the folder `place` (ours, and empty).

    Returns in a new process, number 1 inside; the calling one only waits for it, and ends with its status. Raises OSError, in either.
    """
    me = (os.geteuid(), os.getegid())
    flags = _NEW_MOUNTS | _NEW_UTS | _NEW_IPC | _NEW_NETWORK | _NEW_CGROUP | _NEW_PROCESSES
    privileged = me[0] == 0
    _check(_libc.unshare(flags if privileged else flags | _NEW_USER), "unshare")
    if not privileged:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{me[0]} {me[0]} 1"), ("gid_map", f"{me[1]} {me[1]} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    inside = os.fork()
    if inside:
        _wait(inside)
    _check(_libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getpid() != 1:
        raise OSError("the process namespace has not taken effect")
    _build(place, readable, devices)


def _wait(inside: int) -> None:
    """The process outside: it holds nothing, and ends as the one inside does."""
    os.closerange(0, 1 << 16)
    _, status = os.waitpid(inside, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _build(place: str, readable: list[str], devices: list[str]) -> None:
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    _mount("cupel", place, "tmpfs", _NO_SUID | _NO_DEVICES, "size=1m,mode=0755")
    # Folders first: a single file would be in the way of the folder that it lies in.
    for path in sorted(readable, key=lambda path: (not os.path.isdir(path), path)):
        _show(place, path)
    for path in devices:
        _show(place, path, writable=True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{place}/dev/{name}")
    os.symlink("/proc/self/fd", f"{place}/dev/fd")
    os.mkdir(f"{place}/proc")
    hardened = _NO_SUID | _NO_DEVICES | _NO_EXEC
    _mount("proc", f"{place}/proc", "proc", hardened, "hidepid=2,subset=pid")
    os.mkdir(f"{place}{SCRATCH}")
    if not os.path.lexists(
        f"{place}/tmp"
    ):  # there is one where Cupel, or a package for programs, is installed below it
        os.symlink(SCRATCH, f"{place}/tmp")
    os.chdir(place)
    _check(_libc.syscall(_PIVOT_ROOT, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _DETACH), "umount")
    os.chdir("/")
    _mount(None, "/", None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES)
    _mount("cupel", SCRATCH, "tmpfs", _NO_SUID | _NO_DEVICES, _SCRATCH_OPTIONS)
    name = b"cupel"
    _check(_libc.sethostname(name, len(name)), "sethostname")


_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine] if sys.platform == "linux" else -1


def _show(place: str, path: str, writable: bool = False) -> None:
    """Make one path of the host visible at the same path inside; what is not there is left out."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    target = place + path
    if os.path.lexists(target):
        return  # part of a folder that is shown already
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(path), target)
        return _show(place, os.path.realpath(path), writable)
    if stat.S_ISDIR(mode):
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(path, target, None, _BIND | _RECURSIVE)
    # A user's namespace may not take away from a mount what the host has forbidden, so what is set stays set.
    held = os.statvfs(path).f_flag
    kept = held & (_NO_SUID | _NO_DEVICES | _NO_EXEC | _NO_ACCESS_TIME) | (_RELATIVE_ACCESS_TIME if held & 4096 else 0)
    flags = _REMOUNT | _BIND | _NO_SUID | kept | (0 if writable else _READ_ONLY | _NO_DEVICES)
    _mount(None, target, None, flags)


def renew_scratch(uid: int) -> None:
    """An empty scratch folder that belongs to `uid`, if the last test left something in it. Raises OSError."""
    if os.listdir(SCRATCH):
        _check(_libc.umount2(os.fsencode(SCRATCH), _DETACH), "umount")
        _mount("cupel", SCRATCH, "tmpfs", _NO_SUID | _NO_DEVICES, _SCRATCH_OPTIONS)
    os.chown(SCRATCH, uid, uid)
    os.chmod(SCRATCH, 0o700)
