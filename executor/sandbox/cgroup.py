"""Control groups: a bound on the memory and the number of tasks of everything that a slot starts, where this machine lets us make groups.

Both versions, each as far as it is there. Invariants: a group that cannot be made whole is not made at all; groups of judges that no longer
live are removed by the next one that starts; `close` leaves no group behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_MOUNTS = Path("/proc/self/mounts")
_OWN = Path("/proc/self/cgroup")
_PREFIX = "cupel-"
_TASKS = 256
_SLACK_BYTES = 192 << 20
"""Beyond a program's own memory: the warm interpreter, files in the scratch folder, page tables, pipes."""

_MEMORY_LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}
_KILLS = {1: "memory.oom_control", 2: "memory.events"}


class Group:
    """One group, or its two halves in version 1 (memory and pids)."""

    def __init__(self, version: int, memory: Path, tasks: Path) -> None:
        self._version, self._memory, self._folders = version, memory, {memory, tasks}
        self._limit = self._kills = 0
        _write(tasks / "pids.max", str(_TASKS))

    def add(self, pid: int) -> None:
        """Move a process here; those that it makes from now on follow. Raises OSError."""
        for folder in self._folders:
            _write(folder / "cgroup.procs", str(pid))

    def limit(self, memory_bytes: int) -> None:
        """Bound the memory of the next test: a little above what its own limit allows. Raises OSError."""
        if memory_bytes != self._limit:
            _write(self._memory / _MEMORY_LIMIT[self._version], str(memory_bytes + _SLACK_BYTES))
            self._limit = memory_bytes

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of the group for memory since this was last asked."""
        before, self._kills = self._kills, self._count_kills()
        return self._kills > before

    def _count_kills(self) -> int:
        for line in (self._memory / _KILLS[self._version]).read_text(encoding="utf-8").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
        return 0

    def close(self) -> None:
        """Remove it; its processes are dead."""
        for folder in self._folders:
            _remove(folder)


def open_group(name: str) -> Group | None:
    """A new group of that name, or None where this machine lets us make none that holds memory and tasks."""
    for version, memory, tasks in _places():
        made: list[Path] = []
        try:
            for parent in dict.fromkeys((memory, tasks)):
                _remove_abandoned(parent)
                folder = parent / f"{_PREFIX}{os.getpid()}-{name}"
                folder.mkdir()
                made.append(folder)
            return Group(version, made[0], made[-1])
        except OSError:
            for folder in made:
                _remove(folder)
    return None


def _places() -> Iterator[tuple[int, Path, Path]]:
    """Where groups might be made: version, parent for memory, parent for tasks."""
    mounts: dict[str, Path] = {}
    for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2":
            mounts["2"] = Path(where)
        elif kind == "cgroup":
            mounts |= {name: Path(where) for name in options.split(",") if name in ("memory", "pids")}
    own: dict[str, str] = {}
    for line in _OWN.read_text(encoding="utf-8", errors="replace").splitlines():
        number, names, path = line.split(":", 2)
        own |= {name: path.lstrip("/") for name in (names.split(",") if number != "0" else ["2"])}
    if "memory" in mounts and "pids" in mounts:
        yield 1, mounts["memory"] / own.get("memory", ""), mounts["pids"] / own.get("pids", "")
    if "2" in mounts:
        here = mounts["2"] / own.get("2", "")
        # A group that holds processes may not share its controllers out, so beside our own is the likelier place.
        for parent in dict.fromkeys((here.parent if here != mounts["2"] else here, here, mounts["2"])):
            if _shares(parent):
                yield 2, parent, parent


def _shares(parent: Path) -> bool:
    """Whether groups in `parent` have the controllers of memory and tasks, if need be after asking for them."""
    try:
        control = parent / "cgroup.subtree_control"
        wanted = {"memory", "pids"}
        if not wanted <= set(control.read_text(encoding="utf-8").split()):
            _write(control, "+memory +pids")
        return wanted <= set(control.read_text(encoding="utf-8").split())
    except OSError:
        return False


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            _remove(folder)


def _remove(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # somebody still dies in it: the next judge removes it
