"""HumanEval+ in the columns of the hub's data set, with public tests, as turns with feedback need them.

`humaneval` reads the same rows as one private test. Here the cases of `check(candidate)` that the docstring shows are public,
else the first, which are HumanEval's own; the others stay together in the private test (public_tests.py).
"""

from __future__ import annotations

from actors.problem_sets.humaneval import completion, number_of
from actors.problem_sets.public_tests import derive
from actors.problem_sets.rows import Row, good, named, of_split, rows
from executor.problem import Problem

FORM = "humanevalplus:SOURCE[#SPLIT]: HumanEval+, a few of its tests public"


def load(rest: str) -> list[Problem]:
    """The problems of `SOURCE` or `SOURCE#SPLIT`. Raises UserError."""
    source, words = named("humanevalplus", FORM, rest)
    return good(source, of_split(source, rows(source), words), _problem)


def _problem(row: Row) -> Problem:
    return derive(completion(row, f"humanevalplus/{number_of(row)}", "Complete this function."))
