"""L0, a plain process with limits: stops accidents, not intent. What remains where no other user can be had."""

from __future__ import annotations

from executor.sandbox.level import LevelName


class L0:
    """Nothing beyond the limits every process has; the program has all the rights of the user who judges."""

    level: LevelName = "L0"
    users: tuple[int, int] | None = None

    def limits(self) -> list[tuple[str, int]]:
        """None: the number of processes is counted per user, and this user has others."""
        return []

    def own(self, path: str) -> None:
        """Nothing to do."""

    def own_pipe(self, fd: int) -> None:
        """Nothing to do."""

    def clean(self) -> None:
        """Nothing that could be told apart from the user's own files."""

    def close(self) -> None:
        """Nothing is held."""
