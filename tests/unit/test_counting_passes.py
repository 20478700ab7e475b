"""Evaluation inside a run: what is counted, how much is under way at a time, and that faults of ours count for nothing."""

from __future__ import annotations

import asyncio

import pytest
from asynchronous import asynchronous

from actors.evaluation import Evaluation, evaluate
from executor.problem import Problem
from executor.verdict import Outcome, Verdict

PROBLEMS = [
    Problem.model_validate(
        {"id": name, "prompt": "Add.", "kind": "stdio", "private_tests": [{"input": "", "output": ""}]}
    )
    for name in ("p", "q")
]


def verdict(problem: Problem, outcome: Outcome, passed: int) -> Verdict:
    return Verdict(problem_id=problem.id, outcome=outcome, passed=passed, total=4)


@asynchronous
async def test_passes_tests_and_outcomes_are_counted_and_our_own_faults_left_out() -> None:
    async def attempt(problem: Problem, index: int) -> tuple[str, Verdict]:
        if problem.id == "q" and index == 2:
            return "lost", verdict(problem, Outcome.INFRASTRUCTURE, 0)
        passes = problem.id == "p" and index < 2
        return f"{problem.id}{index}", verdict(problem, *((Outcome.PASS, 4) if passes else (Outcome.FAILURE, 1)))

    found = await evaluate(PROBLEMS, 4, attempt, policy_version=7, at_once=3)
    assert (found.passed, found.samples) == ({"p": 2, "q": 0}, {"p": 4, "q": 3})
    assert found.shares == {"p": 2.5, "q": 0.75} and found.outcomes == {"pass": 2, "failure": 5}
    assert found.pass_rate == pytest.approx(0.25) and found.policy_version == 7
    assert [shown["response"] for shown in found.shown] == ["p0", "q0"]


@asynchronous
async def test_no_more_than_asked_for_are_under_way() -> None:
    running = most = 0

    async def attempt(problem: Problem, index: int) -> tuple[str, Verdict]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return "", verdict(problem, Outcome.PASS, 4)

    await evaluate(PROBLEMS, 50, attempt, policy_version=0, at_once=8)
    assert most == 8


def test_parts_of_several_actors_add_up() -> None:
    first = Evaluation(1, 2.0, {"p": 1}, {"p": 4}, {"p": 2.0}, {"pass": 1, "failure": 3})
    first.merge(Evaluation(1, 3.0, {"q": 2}, {"q": 4}, {"q": 3.0}, {"pass": 2, "error": 2}))
    assert first.passed == {"p": 1, "q": 2} and first.shares == {"p": 2.0, "q": 3.0}
    assert first.outcomes == {"pass": 3, "failure": 3, "error": 2} and first.seconds == 3.0
