"""What the runs of a study say: rates by row with intervals over seeds and problems, and differences between rows; pure.

Invariant: rows are compared on the problems that all of their runs have samples of, each problem with itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np

from cluster.statistics import Interval, seeds_interval
from executor.verdict import Outcome

# Outcomes that say that a program did not run to its end; a failure ran and answered wrong.
_NOT_RUN = [str(o) for o in Outcome if o not in (Outcome.PASS, Outcome.FAILURE)]


@dataclass(frozen=True)
class Trained:
    """One finished run, evaluated."""

    seed: int
    passed: dict[str, float]  # share of a problem's samples that passed
    shares: dict[str, float]  # share of tests passed, mean over a problem's samples
    outcomes: dict[str, int]  # samples by outcome
    samples: int  # a problem
    seconds: float

    @property
    def pass_at_1(self) -> float:
        """Mean over problems."""
        return fmean(self.passed.values())


@dataclass(frozen=True)
class RowResult:
    """One row of the table."""

    name: str
    seeds: list[int]
    problems: int
    samples: int
    pass_at_1: Interval
    by_seed: list[float]
    test_case_average: Interval
    outcomes: dict[str, float]  # share of samples
    against: str | None
    difference: Interval | None  # of pass@1
    minutes: float  # a run, mean

    @property
    def not_run(self) -> float:
        """Share of samples that did not run to their end."""
        return sum(share for outcome, share in self.outcomes.items() if outcome in _NOT_RUN)


def compare(rows: Mapping[str, Sequence[Trained]], compared_with: Callable[[str], str | None]) -> list[RowResult]:
    """A result a row. Raises ValueError if the rows share fewer than two problems."""
    problems = sorted(set.intersection(*(set(run.passed) for runs in rows.values() for run in runs)))
    passed = {name: np.array([[run.passed[p] for p in problems] for run in runs]) for name, runs in rows.items()}
    results = []
    for name, runs in rows.items():
        counts = sum((Counter(run.outcomes) for run in runs), Counter())
        against = compared_with(name)
        against = against if against in rows else None
        results.append(
            RowResult(
                name=name,
                seeds=[run.seed for run in runs],
                problems=len(problems),
                samples=min(run.samples for run in runs),
                pass_at_1=seeds_interval(passed[name]),
                by_seed=[float(rates.mean()) for rates in passed[name]],
                test_case_average=seeds_interval(np.array([[run.shares[p] for p in problems] for run in runs])),
                outcomes={outcome: count / counts.total() for outcome, count in sorted(counts.items())},
                against=against,
                difference=None if against is None else seeds_interval(passed[name], passed[against]),
                minutes=fmean(run.seconds for run in runs) / 60,
            )
        )
    return results


def as_json(question: str, results: Sequence[RowResult]) -> str:
    """Everything, rates in [0, 1]."""
    return json.dumps({"question": question, "rows": [asdict(row) for row in results]}, indent=1) + "\n"


def as_markdown(results: Sequence[RowResult]) -> str:
    """The table, rates in percent; intervals hold 95 %."""
    lines = [
        "| row | seeds | pass@1 | by seed | tests passed | did not run | difference | minutes a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results:
        low, high = 100 * max(0.0, row.pass_at_1.low), 100 * min(1.0, row.pass_at_1.high)
        change = ""
        if row.difference is not None:
            d = row.difference
            change = (
                f"{100 * d.mean:+.1f} [{100 * max(-1.0, d.low):+.1f}, {100 * min(1.0, d.high):+.1f}] to {row.against}"
            )
        lines.append(
            f"| {row.name} | {len(row.seeds)} | {100 * row.pass_at_1.mean:.1f} [{low:.1f}, {high:.1f}] "
            f"| {', '.join(f'{100 * rate:.1f}' for rate in row.by_seed)} | {100 * row.test_case_average.mean:.1f} "
            f"| {100 * row.not_run:.1f} | {change} | {row.minutes:.1f} |"
        )
    first = results[0]
    return (
        "\n".join(lines)
        + f"\n\nIn percent, {first.problems} held-out problems x {first.samples} samples, 95 % intervals over seeds and problems.\n"
    )
