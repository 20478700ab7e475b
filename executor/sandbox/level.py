"""Levels of isolation: their names, and what a slot holds at the one chosen.

L0 a separate process with limits (accidents); L1 another user per slot besides; L2 Landlock and seccomp besides, with or without another user; L3
namespaces besides, and control groups where there are any. Invariants: root never runs a program as root above L0; what is taken
for a slot is given back by `close`.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from executor.languages.interpreter import Interpreter
from executor.languages.packages import Packages
from executor.sandbox.cgroup import Group, open_group
from executor.sandbox.users import OwnUsers

LevelName = Literal["L0", "L1", "L2", "L3"]
LEVELS: tuple[LevelName, ...] = ("L0", "L1", "L2", "L3")

MEANING: dict[LevelName, str] = {
    "L0": "a process of its own and limits",
    "L1": "another user and limits",
    "L2": "Landlock, seccomp and limits",
    "L3": "namespaces, Landlock, seccomp and limits",
}
HOW_TO_GET: dict[LevelName, str] = {
    "L0": "",
    "L1": "run as root with the right to change users",
    "L2": "Linux 5.13 or newer on x86-64 or aarch64, with landlock among the kernel's lsm= and seccomp not switched off",
    "L3": "what L2 needs, and to be root (in a container with SYS_ADMIN and FOWNER besides) or allowed user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0), outside a container that masks /proc",
}

# Shared libraries, time zones, locales; the interpreter's own folders come besides.
_READABLE = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/usr/share/locale",
    "/usr/share/i18n",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/timezone",
]
# Limits that are the same for every test; those of a problem come besides.
_LIMITS = [("RLIMIT_FSIZE", 64 << 20), ("RLIMIT_NOFILE", 256), ("RLIMIT_CORE", 0), ("RLIMIT_MSGQUEUE", 0)]
_DEVICES = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"]


def at_least(level: LevelName, other: LevelName) -> bool:
    """Whether `level` is `other` or above."""
    return LEVELS.index(level) >= LEVELS.index(other)


def default_min_level() -> LevelName:
    """L1 for root, who must not run programs as root; L0 for everybody else."""
    return "L1" if os.geteuid() == 0 else "L0"


class Isolation:
    """What one slot holds of its level."""

    def __init__(self, level: LevelName, interpreter: Interpreter, name: str) -> None:
        """Take users and a control group called after `name`. Raises OSError where the level cannot be had."""
        self.level: LevelName = level
        self.users: OwnUsers | None = None
        self.group: Group | None = None
        self._readable = [*_READABLE, *map(str, interpreter.readable)]
        if at_least(level, "L1"):
            if os.geteuid() == 0:
                self.users = OwnUsers()
            elif level == "L1":
                raise OSError("it needs root")
        if level == "L3":
            self.group = open_group(name)

    @property
    def scratch_inside(self) -> bool:
        """Whether the zygote makes the scratch folder, in a file system of its own."""
        return self.level == "L3"

    @property
    def keeps_scratch(self) -> bool:
        """Whether a program can change nothing of its scratch folder but what is in it."""
        return self.level == "L2"

    @property
    def leaves_traces(self) -> bool:
        """Whether a program can leave files or objects outside its scratch folder."""
        return self.users is not None and not at_least(self.level, "L2")

    def setup(self, place: str, packages: Packages | None) -> dict[str, Any]:
        """What a zygote is told at its beginning; `place` is an empty folder of ours for the root of a namespace."""
        return {
            "confined": at_least(self.level, "L2"),
            "namespaces": place if self.level == "L3" else None,
            "readable": [*self._readable, *(packages.readable if packages else ())],
            "devices": _DEVICES,
            "limits": [*_LIMITS, *(self.users.limits() if self.users else ())],
            "packages": list(packages.names) if packages else [],
            "folders": list(packages.folders) if packages else [],
        }

    def close(self) -> None:
        """Give everything back."""
        if self.users is not None:
            self.users.close()
        if self.group is not None:
            self.group.close()
