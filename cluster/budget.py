"""n@k: how many programs are handed in, and how many responses are paid for; pure.

Every turn of an episode is a response, so k of them pay for k // turns episodes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from executor.errors import UserError

_FORM = re.compile(r"\s*([1-9][0-9]{0,8})@([1-9][0-9]{0,8})\s*")


@dataclass(frozen=True, order=True)
class Budget:
    """`n` programs are handed in, chosen among those of `k` responses."""

    k: int
    n: int

    def __str__(self) -> str:
        return f"{self.n}@{self.k}"

    def episodes(self, turns: int) -> int:
        """How many episodes of at most so many turns the responses pay for."""
        return self.k // turns


def parse(text: str) -> list[Budget]:
    """Budgets as a person writes them, the smallest first. Raises UserError."""
    found = [_FORM.fullmatch(part) for part in text.split(",")]
    budgets = sorted({Budget(n=int(match[1]), k=int(match[2])) for match in found if match is not None})
    if None in found or any(budget.n > budget.k for budget in budgets):
        raise UserError(f"--n-at-k {text!r}: give programs handed in, @ and as many responses or more, like 1@3,10@100")
    return budgets


def with_own(budgets: Sequence[Budget], turns: int, samples: int) -> list[Budget]:
    """The budgets, and that of one episode if it has several turns. Raises UserError for one that so many samples say nothing of."""
    for budget in budgets:
        if not (episodes := budget.episodes(turns)):
            raise UserError(
                f"--n-at-k {budget}: an episode may take {turns} responses; {budget.n}@{turns} would do, or --turns {budget.k}"
            )
        if episodes > samples:
            raise UserError(
                f"--n-at-k {budget}: {budget.k} responses are {episodes} episodes of {turns} turns, and there are {samples} a problem; "
                f"--samples {episodes} would do"
            )
    return sorted({*budgets, Budget(n=1, k=turns)} if turns > 1 else set(budgets))
