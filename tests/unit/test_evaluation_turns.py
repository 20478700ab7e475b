"""Rates of episodes: what the counts say by turn, n@k against single turns of the same file, and which rates are left out."""

from __future__ import annotations

import pytest

from cluster.benchmark import OTHER
from cluster.budget import Budget
from cluster.evaluation_tallies import JudgedSample, JudgedTurn, Sampled, Tally
from cluster.evaluation_turns import TurnsRow, needed, not_asked_for, summarise_turns, tables
from cluster.statistics import Interval, n_at_k
from executor.problem import Problem
from executor.verdict import Outcome, Verdict

ONE_AT_3, TWO_AT_6 = Budget(n=1, k=3), Budget(n=2, k=6)
RIGHT, PUBLIC, WRONG = "right", "public", "wrong"


def sample(problem_id: str, index: int, programs: list[tuple[str, str]], ending: str = "turns") -> JudgedSample:
    """An episode of programs, each with how good it is."""
    turns = [
        JudgedTurn(
            seed=0,
            response="",
            program=program,
            tokens=1,
            finish_reason="stop",
            outcome=Outcome.PASS if good == RIGHT else Outcome.FAILURE,
            passes_public=good != WRONG,
            passes_all=good == RIGHT,
            chrf=None if number == 0 else 0.25,
        )
        for number, (program, good) in enumerate(programs)
    ]
    outcome = turns[-1].outcome
    verdict = Verdict(
        problem_id=problem_id, index=index, outcome=outcome, passed=3 * (outcome is Outcome.PASS), total=3
    )
    return JudgedSample.model_validate(
        {"problem_id": problem_id, "index": index, "program": programs[-1][0], "verdict": verdict}
        | {"ending": ending, "turns": turns}
    )


EPISODES = [
    [("a", RIGHT)],
    [("a", WRONG), ("b", RIGHT)],
    [("a", WRONG), ("a ", WRONG), ("c", RIGHT)],
    [("a", WRONG), ("b", WRONG), ("b", PUBLIC)],
    [("a", PUBLIC)],
    [("a", WRONG)],
]
TALLY = Tally(
    samples=6,
    passed=3,
    tests_passed=9,
    passed_after=[1, 2, 3],
    public=5,
    first_public=2,
    repaired=2,
    turns=11,
    out_of_context=1,
    rewritten=5,
    unchanged=2,
    chrf=1.25,
)


def problem(name: str, difficulty: int | None = None) -> Problem:
    test = {"input": "", "output": ""}
    return Problem.model_validate(
        {"id": name, "prompt": "p", "kind": "stdio", "private_tests": [test], "difficulty": difficulty}
    )


def rows(tallies: dict[str, Tally], budgets: list[Budget], samples: int = 6, **options: bool) -> list[TurnsRow]:
    problems = [problem(name) for name in tallies]
    return summarise_turns(problems, tallies, budgets, 3, samples, OTHER.name, **options)


def mean(interval: Interval | None) -> float:
    assert interval is not None and interval.low <= interval.mean <= interval.high
    return interval.mean


def test_counts_are_those_of_the_episodes() -> None:
    sampled = Sampled(["p"], 6, turns=3)
    for index, programs in enumerate(EPISODES):
        sampled.add(sample("p", index, programs, "context" if index == 5 else "turns"))
        sampled.add(sample("p", index, [("again", RIGHT)]))
    assert sampled.tallies["p"] == TALLY and sampled.tallies["p"].first_wrong == 5
    assert sampled.outcomes == {Outcome.PASS: 3, Outcome.FAILURE: 3}


def test_an_episode_that_goes_on_after_a_right_program_may_lose_it() -> None:
    tally = Tally(passed_after=[0, 0])
    tally.add(sample("p", 0, [("a", RIGHT), ("b", WRONG)]))
    assert (tally.passed_after, tally.passed, tally.repaired) == ([1, 0], 0, 0)


def test_a_turn_that_passes_all_tests_passes_the_public_ones() -> None:
    turn = sample("p", 0, [("a", RIGHT)]).turns[0].model_dump()
    with pytest.raises(ValueError, match="fails public ones"):
        JudgedTurn.model_validate(turn | {"passes_public": False})


def test_rates_are_those_of_the_counts() -> None:
    (row,) = rows({"p": TALLY}, [ONE_AT_3, TWO_AT_6])
    assert [mean(rate) for rate in row.passed_after] == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert mean(row.n_at_k[ONE_AT_3]) == pytest.approx(3 / 6)
    assert mean(row.n_at_k[TWO_AT_6]) == pytest.approx(n_at_k(6, 5, 3, 2, 2))
    assert mean(row.single[ONE_AT_3]) == pytest.approx(n_at_k(6, 2, 1, 1, 3))
    assert mean(row.single[TWO_AT_6]) == pytest.approx(1.0)  # both that pass the public tests are handed in
    assert mean(row.gain[ONE_AT_3]) == pytest.approx(3 / 6 - n_at_k(6, 2, 1, 1, 3))
    assert mean(row.repaired) == pytest.approx(2 / 5)
    assert mean(row.turns) == pytest.approx(11 / 6)
    assert mean(row.out_of_context) == pytest.approx(1 / 6)
    assert (mean(row.chrf), mean(row.unchanged)) == pytest.approx((1.25 / 5, 2 / 5))


def test_shares_are_of_all_episodes_and_rates_are_means_over_problems() -> None:
    easy = Tally(samples=2, passed=2, tests_passed=6, passed_after=[2, 2, 2], public=2, first_public=2, turns=2)
    (row,) = rows({"hard": TALLY, "easy": easy}, [ONE_AT_3])
    assert mean(row.passed_after[0]) == pytest.approx((1 / 6 + 1) / 2)
    assert mean(row.turns) == pytest.approx(13 / 8)
    assert mean(row.repaired) == pytest.approx(2 / 5)  # the easy one has nothing to repair


def test_problems_without_enough_samples_are_left_out_or_count_as_zero() -> None:
    few = Tally(samples=1, passed=1, tests_passed=3, passed_after=[1, 1, 1], public=1, first_public=1, turns=1)
    tallies = {"p": TALLY, "few": few, "none": Tally(passed_after=[0, 0, 0])}
    left_out, zero = rows(tallies, [TWO_AT_6])[0], rows(tallies, [TWO_AT_6], missing_as_zero=True)[0]
    one = n_at_k(6, 5, 3, 2, 2)
    assert mean(left_out.n_at_k[TWO_AT_6]) == pytest.approx(one)
    assert mean(zero.n_at_k[TWO_AT_6]) == pytest.approx(one / 3)
    assert mean(left_out.gain[TWO_AT_6]) == pytest.approx(one - 1)
    assert mean(zero.gain[TWO_AT_6]) == pytest.approx((one - 1) / 3)
    assert mean(left_out.passed_after[2]) == pytest.approx((3 / 6 + 1) / 2)
    assert mean(zero.passed_after[2]) == pytest.approx((3 / 6 + 1) / 3)


def test_single_turns_are_not_told_of_where_too_few_samples_were_asked_for() -> None:
    for missing_as_zero in (False, True):
        (row,) = rows({"p": TALLY}, [TWO_AT_6], samples=5, missing_as_zero=missing_as_zero)
        assert row.n_at_k[TWO_AT_6] is not None
        assert row.single == row.gain == {TWO_AT_6: None}
    assert not_asked_for([ONE_AT_3, TWO_AT_6], 3, 5) == ["2@6 of single turns: --samples 6 would do, and there are 5"]
    assert not_asked_for([ONE_AT_3, TWO_AT_6], 3, 6) == not_asked_for([TWO_AT_6], 1, 5) == []
    assert needed([ONE_AT_3, TWO_AT_6], 3, 5) == {"1@3": 1, "2@6": 2, "1@3 of single turns": 3}
    assert needed([ONE_AT_3], 1, 5) == {"1@3": 3}


def test_nothing_judged_says_nothing() -> None:
    (row,) = rows({"p": Tally(passed_after=[0, 0, 0])}, [ONE_AT_3])
    assert row.n_at_k == row.single == row.gain == {ONE_AT_3: None}
    assert row.passed_after == [None] * 3
    assert (row.repaired, row.turns, row.out_of_context, row.chrf, row.unchanged) == (None,) * 5
    assert row.as_json()["n_at_k"] == {"1@3": None} and "| -" in tables([row])[0]


def test_tables_hold_all_of_it_easiest_first() -> None:
    problems = [problem("h", 3), problem("e", 1)]
    tallies = {"h": TALLY, "e": TALLY}
    found = summarise_turns(problems, tallies, [ONE_AT_3], 3, 6, OTHER.name)
    assert [row.name for row in found] == ["all", "difficulty 1", "difficulty 3"]
    heads = [[cell.strip() for cell in told.splitlines()[2].strip("|").split("|")] for told in tables(found)]
    assert heads == [
        ["problems", "1@3", "1@3 of single turns", "gain"],
        ["problems", "pass@1 after turn 1", "pass@1 after turn 2", "pass@1 after turn 3", "repaired"],
        ["problems", "turns", "out of context", "chrF", "unchanged"],
    ]
    single = summarise_turns([problem("p")], {"p": Tally(6, 3, 9, [3], 3, 3)}, [ONE_AT_3], 1, 6, OTHER.name)
    assert [told.splitlines()[2].split() for told in tables(single)] == [["|", "problems", "|", "1@3", "|"]]
    assert list(single[0].as_json()) == ["n_at_k"]
    assert tables(summarise_turns([problem("p")], {"p": Tally(6, 3, 9, [3])}, [], 1, 6, OTHER.name)) == []
