"""Counting passes: every problem attempted a number of times, each attempt an episode whose last program is judged on all tests.

Invariants: an episode that we failed to judge for reasons of ours is left out of the counts, never counted as wrong; the first of each problem is
kept for people to read.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from actors.concurrency import for_each
from actors.episode import Episode
from executor.problem import Problem
from executor.verdict import Outcome, Verdict

Attempt = Callable[[Problem, int], Awaitable[Episode | Verdict]]  # problem, index -> the episode, or how judging failed


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
    passed_at_turn: dict[str, int] = field(default_factory=dict)
    """Episodes that passed, by the number of their last turn, from 1; those beyond the first are repairs."""
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
        self.passed_at_turn = dict(Counter(self.passed_at_turn) + Counter(other.passed_at_turn))
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
        episode = await attempt(problem, index)
        if isinstance(episode, Verdict):
            return
        last, turns = episode.turns[-1], str(len(episode.turns))
        verdict = last.verdict
        assert verdict is not None, "a finished episode is judged"
        outcome = str(verdict.outcome)
        evaluation.samples[problem.id] = evaluation.samples.get(problem.id, 0) + 1
        evaluation.shares[problem.id] = evaluation.shares.get(problem.id, 0.0) + verdict.share_passed
        evaluation.outcomes[outcome] = evaluation.outcomes.get(outcome, 0) + 1
        evaluation.passed.setdefault(problem.id, 0)
        if verdict.outcome is Outcome.PASS:
            evaluation.passed[problem.id] += 1
            evaluation.passed_at_turn[turns] = evaluation.passed_at_turn.get(turns, 0) + 1
        if index == 0:
            evaluation.shown.append({"problem_id": problem.id, "response": last.response, "outcome": outcome})

    await for_each(itertools.product(problems, range(samples)), at_once, one)
    evaluation.seconds = time.monotonic() - started
    return evaluation
