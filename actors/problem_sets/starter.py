"""Cupel's own starter problems: small Python tasks in halves that share no task, one to train on and one held out.

Those of the `second_try` halves leave a convention open that only feedback on their public tests settles.
"""

from __future__ import annotations

from pathlib import Path

from executor.errors import UserError
from executor.files import load_problems
from executor.problem import Problem

HALVES = ("train", "held_out")
"""What `starter` alone is."""
SECOND_TRY_HALVES = ("second_try_train", "second_try_held_out")
FORM = (
    "starter, starter:NAME[,NAME,...]: Cupel's own small problems; names: train, held_out (without a name both), "
    "second_try_train, second_try_held_out (not to be solved without feedback)"
)
_NAMES = (*HALVES, *SECOND_TRY_HALVES)
_FOLDER = Path(__file__).parent / "starter"


def load(rest: str) -> list[Problem]:
    """The problems that `rest` names, with commas between names, in their order; the two halves if it is empty.

    Raises UserError for an unknown name, and for one that comes twice.
    """
    names = [name.strip() for name in rest.split(",")] if rest else list(HALVES)
    for place, name in enumerate(names):
        if name not in _NAMES:
            known = ", ".join(f"starter:{known}" for known in _NAMES)
            raise UserError(f"problem set 'starter:{rest}': no starter problems are named {name!r}; there are {known}")
        if name in names[:place]:
            raise UserError(f"problem set 'starter:{rest}': {name!r} comes twice; give each name once")
    return [problem for name in names for problem in load_problems(_FOLDER / f"{name}.jsonl")]
