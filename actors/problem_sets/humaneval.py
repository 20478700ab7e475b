"""HumanEval, and what has its columns (HumanEval+): task_id, prompt, canonical_solution, test, entry_point.

The prompt is a signature with a docstring, which the answer goes on from and repeats; the test is a `check(candidate)`
that decides alone, as the docstring's examples are prose. A few prompts define a second function that their test calls:
it is given to the test, so that an answer which leaves it out is not wrong for that. `public` after `#` makes some asserts
of the test public, as feedback between turns needs them (public_tests.py).
"""

from __future__ import annotations

import ast
import re

from actors.problem_sets.public_tests import derive
from actors.problem_sets.rows import BrokenRow, Row, good, make_problem, named, of_split, rows
from executor.problem import Problem

FORM = "humaneval:SOURCE[#WORD,...]: HumanEval or HumanEval+; words: one split, public"
_NUMBER = re.compile(r"HumanEval/(\d+)\Z")


def load(rest: str) -> list[Problem]:
    """The problems of `SOURCE` or `SOURCE#WORD,...`. Raises UserError."""
    source, words = named("humaneval", FORM, rest)
    found = of_split(source, rows(source), [word for word in words if word != "public"])
    return good(source, found, (lambda row: derive(_problem(row))) if "public" in words else _problem)


def _problem(row: Row) -> Problem:
    return completion(row, f"humaneval/{number_of(row)}", "Complete this function.")


def number_of(row: Row) -> int:
    """The number of a row's task. Raises BrokenRow."""
    refuse_other_languages(row)
    match = _NUMBER.match(str(row.columns.get("task_id")))
    if match is None:
        found = row.columns.get("task_id")
        raise BrokenRow(f"not a row of HumanEval (it needs task_id like HumanEval/11; found {found!r:.60})")
    return int(match.group(1))


def refuse_other_languages(row: Row) -> None:
    """Raises BrokenRow for a row that says it is not Python."""
    language = row.columns.get("language") or "python"
    if language != "python":
        raise BrokenRow(f"its language is {language!r:.40}, and this version judges Python only")


def completion(row: Row, id: str, statement: str) -> Problem:
    """The problem `id` of a row with these columns. Raises BrokenRow."""
    prompt, test, entry_point = (row.columns.get(name) for name in ("prompt", "test", "entry_point"))
    if not (isinstance(prompt, str) and isinstance(test, str) and isinstance(entry_point, str)):
        raise BrokenRow("it needs texts in prompt, test and entry_point")
    solution = row.columns.get("canonical_solution")
    return make_problem(
        id=id,
        prompt=statement,
        starter_code=prompt.strip("\n"),
        kind="script",
        entry_point=entry_point,
        private_tests=[{"code": with_helpers(prompt, entry_point, test)}],
        references=[prompt + solution] if isinstance(solution, str) and solution else [],
    )


def with_helpers(prompt: str, entry_point: str, test: str) -> str:
    """The test, preceded by functions of the prompt that it calls beside the entry point, with the prompt's imports."""
    try:
        body = ast.parse(prompt).body
        called = {node.id for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name)}
    except (SyntaxError, ValueError, RecursionError):
        return test
    others = [node for node in body if isinstance(node, ast.FunctionDef) and node.name != entry_point]
    if not called & {node.name for node in others}:
        return test
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n\n".join([*(ast.unparse(node) for node in (*imports, *others)), test])
