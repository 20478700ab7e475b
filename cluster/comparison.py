"""Two ways to evaluate, or two models, against each other, from the result files of `cupel eval`.

Each side may be several files: one a seed, of which the means are compared. Invariants: every problem is compared with itself; sides whose problems differ
are compared on those that both have, and that is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cluster.budget import Budget
from cluster.evaluation_results import markdown, percent
from cluster.evaluation_tallies import Tally
from cluster.run_folder import read_json
from cluster.statistics import Interval, n_at_k, seeds_interval, within
from executor.errors import UserError

_TALLIES = TypeAdapter(dict[str, Tally])
_FEWEST = 2  # problems that an interval needs


@dataclass(frozen=True)
class Results:
    """What a result file of `cupel eval` says of each problem."""

    name: str
    tallies: dict[str, Tally]
    """Of problems with a judged sample."""
    tests: dict[str, int]
    """Tests that a sample of the problem is judged on."""
    turns: int

    @classmethod
    def read(cls, path: Path) -> Results:
        """Raises UserError for a file that is not one."""
        if (found := read_json(path)) is None:
            raise UserError(f"{path}: there is no such file; cupel eval --out {path} would write it")
        try:
            return cls._parsed(str(path), found)
        except (ValidationError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path}: not a result file of cupel eval") from None

    @classmethod
    def _parsed(cls, name: str, found: Any) -> Results:
        by_problem: dict[str, dict[str, Any]] = found["by_problem"]
        tests = {problem: int(known.pop("tests")) for problem, known in by_problem.items()}
        tallies = _TALLIES.validate_python(by_problem)
        judged = {problem: tally for problem, tally in tallies.items() if tally.samples}
        return cls(name, judged, tests, int(found["max_turns"]))


@dataclass(frozen=True)
class Compared:
    """One measure of both sides, rates in [0, 1]."""

    measure: str
    first: Interval
    second: Interval
    difference: Interval
    """Of the second less the first."""


def compare(
    first: Sequence[Results], second: Sequence[Results], budgets: Sequence[Budget] = ()
) -> tuple[list[Compared], list[str]]:
    """A line a measure, and remarks. Raises UserError where the sides have fewer than two problems in common, or too few samples for a budget."""
    sides = [first, second]
    every = [*first, *second]
    problems = sorted(set.intersection(*(set(results.tallies) for results in every)))
    if len(problems) < _FEWEST:
        raise UserError(f"the files have {len(problems)} judged problems in common: {_FEWEST} are the least to compare")
    remarks = [
        f"{results.name}: {len(results.tallies) - len(problems)} problems that not every file has are left out"
        for results in every
        if len(results.tallies) > len(problems)
    ]
    compared = []
    for name, rate in _measures(every, problems, budgets).items():
        tables = [np.array([[rate(side, problem) for problem in problems] for side in results]) for results in sides]
        one, other = (within(seeds_interval(table), 0.0, 1.0) for table in tables)
        compared.append(Compared(name, one, other, within(seeds_interval(tables[1], tables[0]), -1.0, 1.0)))
    return compared, remarks


def _measures(
    every: Sequence[Results], problems: Sequence[str], budgets: Sequence[Budget]
) -> dict[str, Callable[[Results, str], float]]:
    """By name, the rate of a problem's samples."""
    turns = min(results.turns for results in every)

    def share(count: Callable[[Tally], float]) -> Callable[[Results, str], float]:
        return lambda results, problem: count(results.tallies[problem]) / results.tallies[problem].samples

    def chosen(budget: Budget) -> Callable[[Results, str], float]:
        for results in every:
            fewest = min(results.tallies[problem].samples for problem in problems)
            if fewest < (drawn := budget.episodes(results.turns)):
                raise UserError(f"{results.name}: {budget} needs {drawn} samples a problem, and one has {fewest}")
        return lambda results, problem: n_at_k(
            (tally := results.tallies[problem]).samples,
            tally.public,
            tally.passed,
            budget.n,
            budget.episodes(results.turns),
        )

    measures = {"pass@1": share(lambda tally: tally.passed)}
    measures |= {str(budget): chosen(budget) for budget in budgets}
    for turn in range(turns if turns > 1 else 0):
        measures[f"pass@1 after turn {turn + 1}"] = share(lambda tally, turn=turn: tally.passed_after[turn])
    if turns > 1:
        measures["repaired, of all samples"] = share(lambda tally: tally.repaired)
    measures["test-case average"] = lambda results, problem: (
        (tally := results.tallies[problem]).tests_passed / (tally.samples * results.tests[problem])
    )
    return measures


def table(compared: Sequence[Compared]) -> str:
    """Markdown, rates and their 95 % intervals in percent."""
    cells = [["measure", "first", "second", "difference"]]
    cells += [[row.measure, percent(row.first), percent(row.second), _signed(row.difference)] for row in compared]
    return markdown(cells)


def _signed(interval: Interval) -> str:
    mean, low, high = (100 * value for value in dataclasses.astuple(interval))
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
