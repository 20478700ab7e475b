"""Counting passes: every problem sampled a number of times and judged on all its tests.

Invariants: a sample whose judging failed for reasons of ours is left out of the counts, never counted as wrong; the first sample of each problem is
kept for people to read.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from actors.concurrency import for_each
from executor.problem import Problem
from executor.verdict import Outcome, Verdict

Attempt = Callable[[Problem, int], Awaitable[tuple[str, Verdict]]]  # problem, index -> response, verdict


@dataclass
class Evaluation:
    """Passes and samples by problem at one policy version."""

    policy_version: int
    seconds: float = 0.0
    passed: dict[str, int] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    """Share of tests passed, summed over a problem's samples."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Samples by outcome."""
    shown: list[dict[str, str]] = field(default_factory=list)

    @property
    def pass_rate(self) -> float:
        """pass@1: the mean over problems of the share of samples that pass."""
        return sum(self.passed[p] / n for p, n in self.samples.items()) / max(1, len(self.samples))

    def merge(self, other: Evaluation) -> None:
        """Take in the counts of other problems."""
        self.passed |= other.passed
        self.samples |= other.samples
        self.shares |= other.shares
        self.outcomes = dict(Counter(self.outcomes) + Counter(other.outcomes))
        self.shown += other.shown
        self.seconds = max(self.seconds, other.seconds)


async def evaluate(
    problems: Sequence[Problem], samples: int, attempt: Attempt, policy_version: int, at_once: int
) -> Evaluation:
    """Sample each problem `samples` times by `attempt`, at most `at_once` at a time, those of a problem one after the other."""
    started = time.monotonic()
    evaluation = Evaluation(policy_version)

    async def one(sample: tuple[Problem, int]) -> None:
        problem, index = sample
        response, verdict = await attempt(problem, index)
        if verdict.outcome == Outcome.INFRASTRUCTURE:
            return
        evaluation.samples[problem.id] = evaluation.samples.get(problem.id, 0) + 1
        evaluation.passed[problem.id] = evaluation.passed.get(problem.id, 0) + (verdict.outcome == Outcome.PASS)
        evaluation.shares[problem.id] = evaluation.shares.get(problem.id, 0.0) + verdict.share_passed
        evaluation.outcomes[str(verdict.outcome)] = evaluation.outcomes.get(str(verdict.outcome), 0) + 1
        if index == 0:
            evaluation.shown.append({"problem_id": problem.id, "response": response, "outcome": str(verdict.outcome)})

    await for_each(itertools.product(problems, range(samples)), at_once, one)
    evaluation.seconds = time.monotonic() - started
    return evaluation
