"""Problem sets by name: `starter:train`, `starter:held_out`, `mbpp:PATH`, `apps:PATH`, or a file in Cupel's own form."""

from __future__ import annotations

from pathlib import Path

from executor.errors import UserError
from executor.files import load_problems
from executor.problem import Problem

_STARTER = Path(__file__).parent / "starter"


def load(name: str, limit: int | None = None) -> list[Problem]:
    """The problems of a set, at most `limit`. Raises UserError naming what exists."""
    kind, _, rest = name.partition(":")
    if kind == "starter":
        halves = [rest] if rest else ["train", "held_out"]
        if not set(halves) <= {"train", "held_out"}:
            raise UserError(f"problem set {name!r}: the starter problems have the halves starter:train and starter:held_out")
        problems = [problem for half in halves for problem in load_problems(_STARTER / f"{half}.jsonl")]
    elif Path(name).suffix == ".jsonl":
        problems = load_problems(Path(name))
    else:
        raise UserError(f"problem set {name!r} is not known: give starter:train, starter:held_out or a .jsonl file of problems")
    return problems[:limit]
