"""Problems in Cupel's own form: one problem a line of JSON (see executor/problem.py)."""

from __future__ import annotations

import json
from pathlib import Path

from executor.files import load_problems
from executor.problem import Problem


def load(path: str) -> list[Problem]:
    """The problems of a file. Raises UserError naming the broken line."""
    return load_problems(Path(path).expanduser())


def dump(problems: list[Problem]) -> str:
    """The problems as the text of a file that `load` reads back to equal ones; what is left at its default is left out.
    Half of a surrogate pair, which UTF-8 cannot hold, is written as its escape.
    """
    text = "".join(json.dumps(_short(problem), ensure_ascii=False) + "\n" for problem in problems)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _short(problem: Problem) -> dict[str, object]:
    full = problem.model_dump(mode="json")
    defaults = {name: field.get_default(call_default_factory=True) for name, field in Problem.model_fields.items()}
    needed = {"id", "prompt", "language", "kind"}
    return {key: value for key, value in full.items() if key in needed or getattr(problem, key) != defaults[key]}
