"""MBPP, in the columns of the hub's data set (MBPP+ included) or in the mxeval form; which of them a row is, its columns tell.

hub: task_id, text or prompt, code, test_list, test_setup_code or test_imports; MBPP+ has its many tests in `test`. The
first assert is public and is shown in the prompt, as the function's name is told nowhere else; all other tests are
private. challenge_test_list is not used, as in MBPP's own evaluation. mxeval: task_id, prompt (signature and docstring),
canonical_solution, entry_point, test (`check(candidate)`). Its docstring shows all tests.

Words after `#`: one of MBPP's usual parts, by task number, whatever split a row comes from; `asserts` shows all of
test_list in the prompt, which changes nothing in what is public; `shots` puts tasks 2, 3 and 4 before the question as
worked examples, and leaves them out of the set; `public` makes some of mxeval's tests public, as feedback between turns
needs them (public_tests.py).
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, replace
from typing import Any

from actors.problem_sets.humaneval import completion, refuse_other_languages
from actors.problem_sets.public_tests import derive
from actors.problem_sets.rows import BrokenRow, Row, good, make_problem, named, rows
from executor.errors import UserError
from executor.problem import Problem

PARTS = {"few_shot": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
OPTIONS = ("asserts", "shots", "public")
SHOTS = (2, 3, 4)
FORM = f"mbpp:SOURCE[#WORD,...]: MBPP or MBPP+; words: a part ({', '.join(PARTS)}), {', '.join(OPTIONS)}"
_NUMBER = re.compile(r"(?:(?:MBPP|Mbpp)/)?(\d{1,9})\Z")


@dataclass(frozen=True)
class _Wanted:
    """What the words after `#` ask for; `shots` is the text before the question."""

    numbers: range | None
    all_asserts: bool
    public: bool = False
    shots: str = ""


def load(rest: str) -> list[Problem]:
    """The problems of `SOURCE` or `SOURCE#WORD,...`. Raises UserError."""
    source, words = named("mbpp", FORM, rest)
    part = [word for word in words if word in PARTS]
    if len(part) > 1 or set(words) - {*PARTS, *OPTIONS}:
        known = f"one of the parts {', '.join(PARTS)}, and {', '.join(OPTIONS)}"
        raise UserError(f"problem set 'mbpp:{rest}': MBPP has {known}")
    found = list(rows(source))
    wanted = _Wanted(PARTS[part[0]] if part else None, "asserts" in words, "public" in words)
    if "shots" in words:
        wanted = replace(wanted, shots=_shots(source, found, wanted))
    return good(source, found, lambda row: _problem(row, wanted))


def _problem(row: Row, wanted: _Wanted) -> Problem | None:
    number = number_of(row)
    if wanted.numbers is not None and number not in wanted.numbers:
        return None
    if wanted.shots and number in SHOTS:
        return None
    if "canonical_solution" not in row.columns:
        return _hub(number, row, wanted)
    if wanted.shots or wanted.all_asserts:
        raise BrokenRow("in mxeval's form, which shows all tests; asserts and shots are for the hub's columns")
    description = row.columns.get("description")
    statement = description if description and isinstance(description, str) else "Complete this function."
    problem = completion(row, f"mbpp/{number}", statement)
    return derive(problem) if wanted.public else problem


def number_of(row: Row) -> int:
    """The number of a row's task. Raises BrokenRow."""
    refuse_other_languages(row)
    match = _NUMBER.match(str(row.columns.get("task_id", "")))
    if match is None:
        found = row.columns.get("task_id")
        raise BrokenRow(f"not a row of MBPP (it needs task_id like 11 or MBPP/11; found {found!r:.60})")
    return int(match.group(1))


def _hub(number: int, row: Row, wanted: _Wanted) -> Problem:
    _, code, tests = parts(row)
    if not tests:
        raise BrokenRow("no tests")
    more = row.columns.get("test")
    codes = [{"code": with_setup(row, test)} for test in tests]
    codes += [{"code": more}] if isinstance(more, str) and more.strip() else []
    return make_problem(
        id=f"mbpp/{number}",
        prompt=wanted.shots + question(row, wanted.all_asserts),
        kind="function",
        entry_point=entry_point(tests[0], code),
        public_tests=codes[:1],
        private_tests=codes[1:],
        references=[code] if code else [],
    )


def parts(row: Row) -> tuple[str, str, list[str]]:
    """Text, code and asserts of a row in the hub's columns. Raises BrokenRow."""
    text = row.columns.get("text") or row.columns.get("prompt")
    code, tests = row.columns.get("code") or "", row.columns.get("test_list")
    if not (isinstance(text, str) and isinstance(code, str) and _are_texts(tests)):
        raise BrokenRow("neither hub columns (text, code, test_list) nor mxeval's (prompt, canonical_solution, test)")
    return text, code, tests or []


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _joined(lines: Any) -> str:
    return "\n".join(lines) if _are_texts(lines) else ""


def with_setup(row: Row, test: str) -> str:
    """A test after what it needs to run."""
    setup = row.columns.get("test_setup_code") or _joined(row.columns.get("test_imports"))
    return f"{setup}\n{test}" if setup else test


def question(row: Row, all_asserts: bool = False) -> str:
    """The text of a task with the asserts that its prompt shows, which is the first unless all are wanted."""
    text, _, tests = parts(row)
    shown = tests if all_asserts else tests[:1]
    return "\n".join(
        [text, "", "It must satisfy these tests:" if len(shown) > 1 else "It must satisfy this test:", *shown]
    )


def _shots(source: str, found: list[Row], wanted: _Wanted) -> str:
    """The worked examples, each as its task is asked and as its answer is to be given. Raises UserError."""
    examples: dict[int, str] = {}
    for row in found:
        try:
            number = number_of(row)
            if number in SHOTS:
                code = parts(row)[1].replace("\r\n", "\n").strip()
                examples[number] = f"{question(row, wanted.all_asserts)}\n\n```python\n{code}\n```"
        except BrokenRow:
            continue  # told where all rows are read
    missing = [str(number) for number in SHOTS if number not in examples]
    if missing:
        raise UserError(
            f"{source}: shots needs MBPP's tasks 2, 3 and 4 in the hub's columns; missing: {', '.join(missing)}"
        )
    solved = "\n\n".join(examples[number] for number in SHOTS)
    return f"Three tasks and their solutions:\n\n{solved}\n\nThe next task:\n\n"


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
