"""MBPP, in the columns of the hub's data set or in the mxeval form; which of the two a row is, its columns tell.

hub: task_id, text or prompt, code, test_list, test_setup_code or test_imports. The first assert is public and is shown
in the prompt, as the function's name is told nowhere else; the others are private. challenge_test_list is not used, as
in MBPP's own evaluation. mxeval: task_id, prompt (signature and docstring), canonical_solution, entry_point, test
(`check(candidate)`). Its docstring shows all tests. `mbpp:PATH#train` keeps one of MBPP's usual parts, by task number:
few_shot 1-10, test 11-510, validation 511-600, train 601-974.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from actors.problem_sets.base import make_problem, read_rows
from executor.errors import UserError
from executor.problem import Problem

FORM = "mbpp:FILE.jsonl, mbpp:FILE.jsonl#train: MBPP in the hub's columns or in mxeval's form (parts few_shot, test, validation, train)"
PARTS = {"few_shot": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
_NUMBER = re.compile(r"(?:MBPP/)?(\d+)\Z")


def load(rest: str) -> list[Problem]:
    """The problems of `FILE` or `FILE#PART`. Raises UserError."""
    name, sign, part = rest.partition("#")
    if not name:
        raise UserError(f"problem set 'mbpp:': give a file: {FORM}")
    if sign and part not in PARTS:
        raise UserError(f"problem set 'mbpp:{rest}': MBPP has the parts {', '.join(PARTS)}")
    problems = []
    for where, row in read_rows(Path(name).expanduser()):
        number = _number(where, row)
        if not sign or number in PARTS[part]:
            problems.append(_mxeval(where, number, row) if "canonical_solution" in row else _hub(where, number, row))
    return problems


def _number(where: str, row: dict[str, Any]) -> int:
    match = _NUMBER.match(str(row.get("task_id", "")))
    if match is None:
        known = "task_id like 11 or MBPP/11"
        raise UserError(f"{where}: not a row of MBPP for Python (it needs {known}; found {row.get('task_id')!r})")
    return int(match.group(1))


def _hub(where: str, number: int, row: dict[str, Any]) -> Problem:
    tests = row.get("test_list")
    text = row.get("text") or row.get("prompt")
    if not isinstance(tests, list) or not isinstance(text, str):
        raise UserError(
            f"{where}: neither hub columns (text, code, test_list) nor mxeval's (prompt, canonical_solution, test)"
        )
    setup = row.get("test_setup_code") or "\n".join(row.get("test_imports") or [])
    codes = [{"code": f"{setup}\n{test}" if setup else test} for test in tests]
    name = entry_point(tests[0], row.get("code") or "") if tests else None
    shown = f"\n\nIt must satisfy this test:\n{tests[0]}" if tests else ""
    return make_problem(
        where,
        id=f"mbpp/{number}",
        prompt=text + shown,
        kind="function",
        entry_point=name,
        public_tests=codes[:1],
        private_tests=codes[1:],
        references=[row["code"]] if row.get("code") else [],
    )


def _mxeval(where: str, number: int, row: dict[str, Any]) -> Problem:
    prompt, solution = row.get("prompt"), row.get("canonical_solution")
    if not isinstance(prompt, str) or not isinstance(row.get("test"), str):
        raise UserError(f"{where}: mxeval's rows have prompt and test")
    return make_problem(
        where,
        id=f"mbpp/{number}",
        prompt=row.get("description") or "Complete this function.",
        starter_code=prompt.strip("\n"),
        kind="script",
        entry_point=row.get("entry_point"),
        private_tests=[{"code": row["test"]}],
        references=[prompt + solution] if solution else [],
    )


def entry_point(test: str, code: str) -> str | None:
    """The function of `code` that the assert `test` calls first; None where neither says."""
    try:
        called = [
            n.func.id for n in ast.walk(ast.parse(test)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
        defined = {n.name for n in ast.parse(code).body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    except (SyntaxError, ValueError, RecursionError):
        return None
    return next((name for name in called if name in defined), None)
