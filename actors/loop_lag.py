"""How late an event loop is: thousands of episodes share one, and a long piece of work in it makes all of them wait."""

from __future__ import annotations

import asyncio
import time

EVERY_S = 0.05


class LoopLag:
    """Watches the running loop from `start` to `stop`."""

    def __init__(self) -> None:
        self._worst = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the loop that is to be watched."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            due = time.monotonic() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self._worst = max(self._worst, time.monotonic() - due)

    def worst(self) -> float:
        """The longest that anything was late since the last call, in seconds."""
        worst, self._worst = self._worst, 0.0
        return worst

    def stop(self) -> None:
        """Watch no longer."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
