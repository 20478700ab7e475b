"""Cupel's own starter problems: small Python tasks in two halves that share no task, one to train on and one held out."""

from __future__ import annotations

from pathlib import Path

from executor.errors import UserError
from executor.files import load_problems
from executor.problem import Problem

FORM = "starter, starter:train, starter:held_out: Cupel's own small problems (both halves, or one)"
HALVES = ("train", "held_out")
_FOLDER = Path(__file__).parent / "starter"


def load(rest: str) -> list[Problem]:
    """The half `rest`, or both if it is empty. Raises UserError for another half."""
    if rest and rest not in HALVES:
        raise UserError(
            f"problem set 'starter:{rest}': the starter problems have the halves starter:train and starter:held_out"
        )
    return [problem for half in ([rest] if rest else HALVES) for problem in load_problems(_FOLDER / f"{half}.jsonl")]
