"""Problem sets by name. A set `KIND:REST` is read by the file KIND.py of this folder; a path that ends in .jsonl is in
Cupel's own form.

A file of this folder that reads a set has `load(rest) -> list[Problem]` and `FORM`, one line on what REST is.
Invariants: a set that is returned has problems, no id twice, and tests for every problem. What is wrong with Cupel's own
form is an error with file and line; what is wrong with a row of another's is told, and the row left out (rows.py).
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any, Protocol

from actors.problem_sets.rows import SOURCES
from executor.errors import UserError
from executor.problem import Problem

_NOT_SETS = {"base", "code_cases", "hub", "jsonl", "public_tests", "rows"}


class ProblemSet(Protocol):
    """A module that reads one kind of problem set."""

    FORM: str

    def load(self, rest: str) -> list[Problem]:
        """The problems. Raises UserError."""
        ...


def kinds() -> list[str]:
    """Names of the kinds of problem sets there are."""
    folder = Path(__file__).parent
    return sorted(
        module.name
        for module in pkgutil.iter_modules([str(folder)])
        if not module.ispkg and module.name not in _NOT_SETS
    )


def forms() -> list[str]:
    """One line on each way to name a problem set."""
    return [_module(kind).FORM for kind in kinds()] + [
        f"SOURCE is {SOURCES}",
        "FILE.jsonl: problems in Cupel's own form",
    ]


def load(name: str, limit: int | None = None) -> list[Problem]:
    """The problems of the set `name`, in its order, at most `limit`. Raises UserError; for an unknown name it lists
    what exists.
    """
    kind, colon, rest = name.partition(":")
    if kind in kinds() and (colon or not Path(name).exists()):
        problems = _module(kind).load(rest)
    elif name.endswith(".jsonl"):
        from actors.problem_sets import jsonl

        problems = jsonl.load(name)
    elif Path(name).exists():
        raise UserError(
            f"problem set {name}: a file of problems ends in .jsonl; say what another kind is, like mbpp:{name} or apps:{name}"
        )
    else:
        raise UserError(f"problem set {name!r} is not known; there are:\n" + "\n".join(forms()))
    _refuse_twins(name, problems)
    return problems[:limit]


def _module(kind: str) -> ProblemSet:
    module: Any = importlib.import_module(f"actors.problem_sets.{kind}")
    return module


def _refuse_twins(name: str, problems: list[Problem]) -> None:
    if not problems:
        raise UserError(f"problem set {name}: no problems")
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise UserError(f"problem set {name}: problem {problem.id!r} is there twice")
        seen.add(problem.id)
