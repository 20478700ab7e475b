"""What an evaluation found, in numbers and as a table; pure.

A sample is an episode, and it passes if its last program does. Strict accuracy is the share of samples that pass all tests, which is pass@1; the test-case average is the share of tests passed. Both are
means over problems, as is pass@k. Invariants: a problem with fewer than k judged samples says nothing of pass@k; it is left out,
or counts as 0 where that is asked for (as RLTF's evaluator does), and it is always named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.evaluation_tallies import Tally
from cluster.statistics import Interval, pass_at_k, rate_interval
from executor.problem import Problem

ALL = "all"
_SHOWN = 10  # names of problems in a line for people


@dataclass(frozen=True)
class Row:
    """Rates over some of the problems; None where no problem has samples enough."""

    name: str
    problems: int
    judged: int
    """Problems with a judged sample."""
    pass_at_k: dict[int, Interval | None]
    test_case_average: Interval | None

    def as_json(self) -> dict[str, Any]:
        """Plain values, rates in [0, 1]."""
        rates = {str(k): interval and asdict(interval) for k, interval in self.pass_at_k.items()}
        return {
            "problems": self.problems,
            "judged_problems": self.judged,
            "strict_accuracy": rates["1"],
            "test_case_average": self.test_case_average and asdict(self.test_case_average),
            "pass_at_k": rates,
        }


def summarise(
    problems: Sequence[Problem],
    tallies: Mapping[str, Tally],
    ks: Sequence[int],
    name: Callable[[int], str],
    missing_as_zero: bool = False,
) -> list[Row]:
    """A row for all problems, then one a difficulty, the easiest first; `name` says what a difficulty is called. pass@1 is always there."""
    ks = sorted({1, *ks})
    return [_row(name, some, tallies, ks, missing_as_zero) for name, some in groups(problems, name)]


def groups(problems: Sequence[Problem], name: Callable[[int], str]) -> list[tuple[str, list[Problem]]]:
    """All problems, then those of each difficulty, the easiest first, under their names."""
    difficulties = sorted({problem.difficulty for problem in problems if problem.difficulty is not None})
    by_difficulty = [
        (name(difficulty), [problem for problem in problems if problem.difficulty == difficulty])
        for difficulty in difficulties
    ]
    return [(ALL, list(problems)), *by_difficulty]


def _row(
    name: str, problems: Sequence[Problem], tallies: Mapping[str, Tally], ks: Sequence[int], missing_as_zero: bool
) -> Row:
    judged = [(problem, tallies[problem.id]) for problem in problems if tallies[problem.id].samples]
    shares = [tally.tests_passed / (tally.samples * tests_of(problem)) for problem, tally in judged]
    number = len(problems) if missing_as_zero else None

    def interval(values: list[float]) -> Interval | None:
        return rate_interval(values, number) if values or missing_as_zero else None

    rates = {k: [pass_at_k(t.samples, t.passed, k) for _, t in judged if t.samples >= k] for k in ks}
    return Row(name, len(problems), len(judged), {k: interval(rates[k]) for k in ks}, interval(shares))


def tests_of(problem: Problem) -> int:
    """Tests that a sample of the problem is judged on."""
    return len(problem.public_tests) + len(problem.private_tests)


def incomplete(
    tallies: Mapping[str, Tally], needed: Mapping[str, int], samples: int, reasons: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Problems with samples that could not be judged: how many were, for which rates (by the samples that each needs) that is too few, and why."""
    return {
        problem_id: {
            "judged_samples": tally.samples,
            "too_few_for": [rate for rate, number in needed.items() if tally.samples < number],
            "reason": reasons.get(problem_id, "unknown"),
        }
        for problem_id, tally in tallies.items()
        if tally.samples < samples
    }


def notes(lacking: Mapping[str, dict[str, Any]], rates: Iterable[str], missing_as_zero: bool) -> list[str]:
    """Lines on the problems that say nothing of a rate, one for all rates that lack the same."""
    fate = "count as 0" if missing_as_zero else "are left out (--missing-as-zero counts them as 0)"
    lacking_by_rate: dict[tuple[str, ...], list[str]] = {}
    for rate in rates:
        names = tuple(problem_id for problem_id, lack in lacking.items() if rate in lack["too_few_for"])
        lacking_by_rate.setdefault(names, []).append(rate)
    return [
        f"{', '.join(rates)}: problems with too few judged samples {fate}: {', '.join(names[:_SHOWN])}"
        + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        for names, rates in lacking_by_rate.items()
        if names
    ]


def needed(ks: Sequence[int]) -> dict[str, int]:
    """Judged samples that a problem must have to say something of each pass@k."""
    return {f"pass@{k}": k for k in sorted({1, *ks})}


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table with aligned columns, rates and their 95 % intervals in percent."""
    ks = list(rows[0].pass_at_k)
    head = ["problems", "number", "strict accuracy (pass@1)", *[f"pass@{k}" for k in ks if k != 1], "test-case average"]
    cells = [head]
    for row in rows:
        number = str(row.problems) if row.judged == row.problems else f"{row.judged} of {row.problems}"
        rates = [percent(row.pass_at_k[k]) for k in ks]
        cells.append([row.name, number, *rates, percent(row.test_case_average)])
    return markdown(cells)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A table with aligned columns; the first line is its head."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def percent(interval: Interval | None) -> str:
    """A rate with its interval."""
    if interval is None:
        return "-"
    return f"{100 * interval.mean:.2f} [{100 * interval.low:.2f}, {100 * interval.high:.2f}]"
