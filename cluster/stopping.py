"""A run that is asked to stop from a machine from which its process cannot be signalled: a file in its folder, which the run looks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from cluster.run_folder import write_atomically

REQUEST = "stop.json"
POLL_S = 1.0


def request(folder: Path) -> None:
    """Ask the run in `folder`. Raises UserError if that cannot be written."""
    write_atomically(folder / REQUEST, "{}\n")


class Stopping:
    """The run's side."""

    def __init__(self, folder: Path, stop: Callable[[], None]) -> None:
        self._path = folder / REQUEST
        self._stop = stop
        self._path.unlink(missing_ok=True)  # what was asked of the run's last process is not asked of this one

    async def follow(self) -> None:
        """Look until it is asked for."""
        while not self._path.exists():
            await asyncio.sleep(POLL_S)
        self._path.unlink(missing_ok=True)
        self._stop()
