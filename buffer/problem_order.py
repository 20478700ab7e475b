"""Which problem comes next: seeded shuffles of all problems, epoch after epoch.

Pure. Invariants: the same seed and epoch give the same order; with selection "uniform" every problem comes once an
epoch, with "signal" at least once in any MAX_SKIPS + 1 epochs; a saved order goes on at its cursor.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

MAX_SKIPS = 3  # times in a row that a problem may be passed over
SKIP_NONE_PASS = 0.5
SKIP_ALL_PASS = 0.75


def random_state(generator: random.Random) -> list[Any]:
    """The generator's state as JSON."""
    version, numbers, gauss = generator.getstate()
    return [version, list(numbers), gauss]


def set_random_state(generator: random.Random, state: Sequence[Any]) -> None:
    """Put back what `random_state` gave."""
    version, numbers, gauss = state
    generator.setstate((version, tuple(numbers), gauss))


class ProblemOrder:
    """A cursor over endless epochs of `problem_ids`. Raises ValueError if there are none, or one twice."""

    def __init__(self, problem_ids: Sequence[str], seed: int, selection: Literal["uniform", "signal"]) -> None:
        if not problem_ids:
            raise ValueError("there are no problems to order")
        if len(set(problem_ids)) != len(problem_ids):
            twice = next(name for name in problem_ids if list(problem_ids).count(name) > 1)
            raise ValueError(f"problem id {twice!r} is there twice: ids must be unique")
        self._ids = list(problem_ids)
        self._seed = seed
        self._selection = selection
        self._epoch = 0
        self._cursor = 0
        self._random = random.Random(f"{seed}/skips")
        self._skips: dict[str, int] = {}
        self._deferred: list[str] = []  # passed over by `other_than`; they come first where they may
        self._order = self._shuffled()

    def _shuffled(self) -> list[str]:
        order = list(self._ids)
        random.Random(f"{self._seed}/{self._epoch}").shuffle(order)
        return order

    def next(self, share_passing: Mapping[str, float], other_than: str | None = None) -> str:
        """The next problem, given the share of samples that passed at each problem's last visit.

        With "signal", a problem whose samples all passed or all failed is often passed over. `other_than` comes one
        call later unless it is the only problem.
        """
        for index, problem in enumerate(self._deferred):
            if problem != other_than:
                return self._deferred.pop(index)
        while True:
            problem = self._advance()
            if self._passed_over(problem, share_passing.get(problem)):
                self._skips[problem] = self._skips.get(problem, 0) + 1
                continue
            self._skips.pop(problem, None)
            if problem != other_than or len(self._ids) == 1:
                return problem
            self._deferred.append(problem)

    def _advance(self) -> str:
        if self._cursor == len(self._order):
            self._epoch, self._cursor = self._epoch + 1, 0
            self._order = self._shuffled()
        self._cursor += 1
        return self._order[self._cursor - 1]

    def _passed_over(self, problem: str, share: float | None) -> bool:
        if self._selection == "uniform" or share is None or 0 < share < 1:
            return False
        if self._skips.get(problem, 0) >= MAX_SKIPS:
            return False
        return self._random.random() < (SKIP_ALL_PASS if share == 1 else SKIP_NONE_PASS)

    def _fingerprint(self) -> str:
        return hashlib.sha256("\0".join(self._ids).encode()).hexdigest()[:16]

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what comes next, as JSON."""
        return {
            "problems": self._fingerprint(),
            "seed": self._seed,
            "epoch": self._epoch,
            "cursor": self._cursor,
            "skips": dict(self._skips),
            "deferred": list(self._deferred),
            "random": random_state(self._random),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. Raises ValueError if the problems are not the same, in the same order."""
        if state["problems"] != self._fingerprint():
            raise ValueError(
                f"the {len(self._ids)} problems are not those of the saved buffer: resume with the same problem set"
            )
        self._seed, self._epoch, self._cursor = state["seed"], state["epoch"], state["cursor"]
        self._skips, self._deferred = dict(state["skips"]), list(state["deferred"])
        set_random_state(self._random, state["random"])
        self._order = self._shuffled()
