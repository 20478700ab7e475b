"""MBPP+ in the columns of the hub's data set: the asserts of MBPP are public, the first is in the prompt, EvalPlus's are private.

EvalPlus's test goes through MBPP's own cases too; they are taken out of it, so that what decides is what feedback never shows.
`mbpp` reads the same rows with the first assert public and all others private.
"""

from __future__ import annotations

import ast

from actors.problem_sets.code_cases import CodeCases, key
from actors.problem_sets.mbpp import entry_point, number_of, parts, question, with_setup
from actors.problem_sets.rows import BrokenRow, Row, good, make_problem, named, of_split, rows
from executor.problem import Problem

FORM = "mbppplus:SOURCE[#SPLIT]: MBPP+, the asserts of MBPP public"


def load(rest: str) -> list[Problem]:
    """The problems of `SOURCE` or `SOURCE#SPLIT`. Raises UserError."""
    source, words = named("mbppplus", FORM, rest)
    return good(source, of_split(source, rows(source), words), _problem)


def _problem(row: Row) -> Problem:
    number = number_of(row)
    _, code, asserts = parts(row)
    test = row.columns.get("test")
    name = entry_point(asserts[0], code) if asserts else None
    if name is None or not isinstance(test, str):
        raise BrokenRow("not a row of MBPP+ (it needs code, a test, and a test_list that calls the code)")
    cases = CodeCases(test, name)
    shown = {arguments for text in asserts for arguments in _called_with(text, name)}
    public = [n for n, arguments in enumerate(cases.arguments) if arguments in shown]
    if len(cases.arguments) == len(public):
        raise BrokenRow("its test has no inputs in EvalPlus's form beside those of test_list")
    return make_problem(
        id=f"mbppplus/{number}",
        prompt=question(row),
        kind="function",
        entry_point=name,
        public_tests=[{"code": with_setup(row, text)} for text in asserts],
        private_tests=[{"code": cases.without(public)}],
        references=[code],
    )


def _called_with(text: str, name: str) -> list[str]:
    """The arguments of an assert's calls of a function."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [
        key(n.args) for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name
    ]
