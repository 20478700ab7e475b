"""The names of the levels of isolation, and the choice among them.

L0 separate process and limits only (accidents); L1 another user per slot besides; L2 Landlock and seccomp besides; L3
namespaces besides. This version has L0 and L1. Invariant: the level chosen is the highest that works here, and never
below the one asked for.
"""

from __future__ import annotations

import os
from typing import Literal, Protocol

from executor.errors import UserError

LevelName = Literal["L0", "L1", "L2", "L3"]
LEVELS: tuple[LevelName, ...] = ("L0", "L1", "L2", "L3")


class Isolation(Protocol):
    """What a level does beyond the limits that every process has. One object a slot."""

    level: LevelName
    users: tuple[int, int] | None
    """User of the program and user of the test code; None where there is no other user to be had."""

    def limits(self) -> list[tuple[str, int]]:
        """Resource limits that only this level can set."""
        ...

    def own(self, path: str) -> None:
        """Give a fresh scratch folder to the program's user."""
        ...

    def own_pipe(self, fd: int) -> None:
        """Let the program's user open the pipe again by its name in /dev."""
        ...

    def clean(self) -> None:
        """Remove what a test left outside its scratch folder, once all its processes are dead."""
        ...

    def close(self) -> None:
        """Hand back what the slot held."""
        ...


def default_min_level() -> LevelName:
    """L1 for root, who must not run programs as root; L0 for everybody else."""
    return "L1" if os.geteuid() == 0 else "L0"


def open_isolation(min_level: LevelName, max_level: LevelName = "L3") -> Isolation:
    """Isolation for one slot, the highest level up to `max_level` that works. Raises UserError where that is below `min_level`."""
    from executor.sandbox.l0 import L0
    from executor.sandbox.l1 import L1

    reason = "it needs root"
    if os.geteuid() == 0 and max_level != "L0":
        try:
            isolation: Isolation = L1()
        except OSError as error:
            reason = str(error)
            isolation = L0()
    else:
        isolation = L0()
    if LEVELS.index(isolation.level) < LEVELS.index(min_level):
        if LEVELS.index(min_level) > LEVELS.index("L1"):
            reason = "this version goes up to L1"
        isolation.close()
        raise UserError(f"executor.min_level: {min_level} cannot be had here ({reason}); {isolation.level} can")
    return isolation
