"""Evaluation inside a run: what is counted, how much is under way at a time, and that faults of ours count for nothing."""

from __future__ import annotations

import asyncio

import pytest
from asynchronous import asynchronous

from actors.episode import Episode, Rules
from actors.evaluation import Evaluation, evaluate
from executor.problem import Problem
from executor.verdict import Outcome, Verdict

PROBLEMS = [
    Problem.model_validate(
        {"id": name, "prompt": "Add.", "kind": "stdio", "private_tests": [{"input": "", "output": ""}]}
    )
    for name in ("p", "q")
]


def finished(problem: Problem, said: str, outcome: Outcome, passed: int, turns: int = 1) -> Episode:
    """An episode whose last program came to this; those before it failed."""
    rules = Rules(max_turns=turns, max_tokens=1000, max_response_tokens=1)
    episode = Episode(problem.id, [1], rules)
    for number in range(1, turns + 1):
        episode.respond([2], [-1.0], [0], said, "stop")
        last = number == turns
        result = (outcome, passed) if last else (Outcome.FAILURE, 0)
        episode.judge(Verdict(problem_id=problem.id, outcome=result[0], passed=result[1], total=4))
        if not last:
            episode.observe([3])
    return episode


@asynchronous
async def test_passes_tests_and_outcomes_are_counted_and_our_own_faults_left_out() -> None:
    async def attempt(problem: Problem, index: int) -> Episode | Verdict:
        if problem.id == "q" and index == 2:
            return Verdict(problem_id="q", outcome=Outcome.INFRASTRUCTURE)
        passes = problem.id == "p" and index < 2
        result = (Outcome.PASS, 4) if passes else (Outcome.FAILURE, 1)
        return finished(problem, f"{problem.id}{index}", *result, turns=index + 1)

    found = await evaluate(PROBLEMS, 4, attempt, policy_version=7, at_once=3)
    assert (found.passed, found.samples) == ({"p": 2, "q": 0}, {"p": 4, "q": 3})
    assert found.shares == {"p": 2.5, "q": 0.75} and found.outcomes == {"pass": 2, "failure": 5}
    assert found.pass_rate == pytest.approx(0.25) and found.policy_version == 7
    assert found.passed_at_turn == {"1": 1, "2": 1}, "the second is a repair"
    assert [shown["response"] for shown in found.shown] == ["p0", "q0"]


@asynchronous
async def test_no_more_than_asked_for_are_under_way() -> None:
    running = most = 0

    async def attempt(problem: Problem, index: int) -> Episode | Verdict:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return finished(problem, "", Outcome.PASS, 4)

    await evaluate(PROBLEMS, 50, attempt, policy_version=0, at_once=8)
    assert most == 8


def test_parts_of_several_actors_add_up() -> None:
    first = Evaluation(1, 2.0, {"p": 1}, {"p": 4}, {"p": 2.0}, {"pass": 1, "failure": 3}, {"1": 1})
    first.merge(Evaluation(1, 3.0, {"q": 2}, {"q": 4}, {"q": 3.0}, {"pass": 2, "error": 2}, {"1": 1, "3": 1}))
    assert first.passed_at_turn == {"1": 2, "3": 1}
    assert first.passed == {"p": 1, "q": 2} and first.shares == {"p": 2.0, "q": 3.0}
    assert first.outcomes == {"pass": 3, "failure": 3, "error": 2} and first.seconds == 3.0
