"""Which problem comes next: seeded shuffles of all problems, epoch after epoch.

Pure. Invariants: the same seed gives the same order; no problem is skipped more than MAX_SKIPS times in a row.
"""

from __future__ import annotations

import random
from typing import Any, Literal

MAX_SKIPS = 3
SKIP_NONE_PASS = 0.5
SKIP_ALL_PASS = 0.75


class ProblemOrder:
    """A cursor over endless epochs of `problem_ids`."""

    def __init__(self, problem_ids: list[str], seed: int, selection: Literal["uniform", "signal"]) -> None:
        if not problem_ids:
            raise ValueError("there are no problems to order")
        self._ids = list(problem_ids)
        self._seed = seed
        self._selection = selection
        self._epoch = 0
        self._cursor = 0
        self._random = random.Random(f"{seed}/skips")
        self._skips: dict[str, int] = {}
        self._order = self._shuffled()

    def _shuffled(self) -> list[str]:
        order = list(self._ids)
        random.Random(f"{self._seed}/{self._epoch}").shuffle(order)
        return order

    def next(self, share_passing: dict[str, float]) -> str:
        """The next problem. With "signal", one whose samples last all passed or all failed is often passed over."""
        while True:
            if self._cursor == len(self._order):
                self._epoch, self._cursor = self._epoch + 1, 0
                self._order = self._shuffled()
            problem = self._order[self._cursor]
            self._cursor += 1
            if not self._skip(problem, share_passing.get(problem)):
                self._skips[problem] = 0
                return problem
            self._skips[problem] = self._skips.get(problem, 0) + 1

    def _skip(self, problem: str, share: float | None) -> bool:
        if self._selection == "uniform" or share is None or 0 < share < 1 or self._skips.get(problem, 0) >= MAX_SKIPS:
            return False
        return self._random.random() < (SKIP_ALL_PASS if share == 1 else SKIP_NONE_PASS)

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what comes next, as JSON."""
        version, numbers, gauss = self._random.getstate()
        return {"epoch": self._epoch, "cursor": self._cursor, "skips": self._skips, "random": [version, list(numbers), gauss]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, over the same problems."""
        self._epoch, self._cursor, self._skips = state["epoch"], state["cursor"], dict(state["skips"])
        version, numbers, gauss = state["random"]
        self._random.setstate((version, tuple(numbers), gauss))
        self._order = self._shuffled()
        if self._cursor > len(self._order):
            raise ValueError("the saved problem cursor lies beyond the problems: the problem set has changed")
