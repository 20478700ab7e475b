"""Problem sets by name. A set `KIND:REST` is read by the file KIND.py of this folder; a path that ends in .jsonl is in
Cupel's own form.

A file of this folder that reads a set has `load(rest) -> list[Problem]` and `FORM`, one line on what REST is.
Invariants: a set that is returned has problems, no id twice, and tests for every problem; everything else is told with
the file and the line.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from executor.errors import UserError
from executor.problem import Problem

_NOT_SETS = {"base", "jsonl"}


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
    return [_module(kind).FORM for kind in kinds()] + ["FILE.jsonl: problems in Cupel's own form"]


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


# What the loaders of foreign forms share -----------------------------------------------------------------------------


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a JSONL file, each with its place (`file:line`) for messages. Raises UserError."""
    from executor.files import read_lines

    for number, line in read_lines(path):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON: {error.msg} (column {error.colno})") from None
        except RecursionError:
            raise UserError(f"{where}: JSON nested too deep") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: not an object")
        yield where, row


def make_problem(where: str, **fields: Any) -> Problem:
    """A problem, with what is wrong about it as a UserError that names the place."""
    try:
        return Problem(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: {key + ': ' if key else ''}{first['msg'].removeprefix('Value error, ')}") from None
