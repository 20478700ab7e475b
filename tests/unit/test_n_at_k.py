"""n@k against its golden numbers, against every draw and pick there is, and against pass@k; budgets as people write them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from golden_cases import golden
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.budget import Budget, parse, with_own
from cluster.statistics import n_at_k, pass_at_k
from executor.errors import UserError


@st.composite
def counts(draw: st.DrawFn, most: int) -> tuple[int, int, int]:
    """Rollouts, of which pass the public tests, of which are right."""
    rollouts = draw(st.integers(1, most))
    public = draw(st.integers(0, rollouts))
    return rollouts, public, draw(st.integers(0, public))


def test_golden() -> None:
    given_, expected = golden("B05")
    rows = [(r["N"], r["public_pass"], r["correct"], r["n"], r["K"]) for r in given_["rows"]]
    assert [n_at_k(*row) for row in rows] == pytest.approx(expected, abs=1e-6)


def test_golden_budget_of_responses() -> None:
    given_, expected = golden("B06")
    assert Budget(n=10, k=given_["k"]).episodes(given_["turn_limit"]) == expected


def chance_over_all_draws(kinds: Sequence[str], n: int, drawn: int) -> float:
    """By the definition: every draw is as likely, and so is every pick from what passes the public tests in it."""
    chances = []
    for chosen in itertools.combinations(kinds, drawn):
        passing = [kind for kind in chosen if kind != "wrong"]
        picks = list(itertools.combinations(passing, min(n, len(passing))))
        chances.append(sum("right" in pick for pick in picks) / len(picks))
    return math.fsum(chances) / len(chances)


@settings(max_examples=150)
@given(counts(7), st.integers(1, 8), st.data())
def test_it_is_the_mean_over_all_draws_and_picks(count: tuple[int, int, int], n: int, data: st.DataObject) -> None:
    rollouts, public, right = count
    drawn = data.draw(st.integers(1, rollouts))
    kinds = ["right"] * right + ["public"] * (public - right) + ["wrong"] * (rollouts - public)
    assert n_at_k(rollouts, public, right, n, drawn) == pytest.approx(chance_over_all_draws(kinds, n, drawn), abs=1e-12)


@given(counts(1000))
def test_one_rollout_is_right_as_often_as_rollouts_are(count: tuple[int, int, int]) -> None:
    rollouts, _, right = count
    assert n_at_k(*count, 1, 1) == pytest.approx(right / rollouts, abs=1e-12)


@given(counts(1000), st.integers(1, 1000), st.data())
def test_it_is_a_chance_that_grows_with_both_numbers(count: tuple[int, int, int], n: int, data: st.DataObject) -> None:
    drawn = data.draw(st.integers(1, count[0]))
    chance = n_at_k(*count, n, drawn)
    assert 0.0 <= chance <= 1.0
    assert n_at_k(*count, n + 1, drawn) >= chance - 1e-12
    if drawn < count[0]:
        assert n_at_k(*count, n, drawn + 1) >= chance - 1e-12


@given(counts(1000), st.data())
def test_it_is_pass_at_k_where_all_are_handed_in_and_the_public_tests_keep_the_right_ones(
    count: tuple[int, int, int], data: st.DataObject
) -> None:
    rollouts, _, right = count
    drawn = data.draw(st.integers(1, rollouts))
    assert n_at_k(rollouts, right, right, drawn, drawn) == pytest.approx(pass_at_k(rollouts, right, drawn), abs=1e-12)
    assert n_at_k(*count, drawn, drawn) == pytest.approx(pass_at_k(rollouts, right, drawn), abs=1e-12)


@pytest.mark.parametrize("row", [(3, 4, 1, 1, 1), (3, 1, 2, 1, 1), (3, 2, 1, 0, 1), (3, 2, 1, 1, 0), (3, 2, 1, 1, 4)])
def test_what_cannot_be_drawn_is_refused(row: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="rollouts"):
        n_at_k(*row)


def test_budgets_are_read_as_people_write_them() -> None:
    assert parse("10@100, 1@3,1@3") == [Budget(n=1, k=3), Budget(n=10, k=100)]
    assert str(Budget(n=10, k=100)) == "10@100"
    for text in ("", "3", "1@", "0@3", "1@0", "5@3", "1@3,", "1@x", "-1@3"):
        with pytest.raises(UserError, match="like 1@3,10@100"):
            parse(text)


def test_one_episode_of_several_turns_is_always_told() -> None:
    assert with_own([], 1, 4) == []
    assert with_own([Budget(n=2, k=4)], 1, 4) == [Budget(n=2, k=4)]
    assert with_own([Budget(n=1, k=3), Budget(n=2, k=6)], 3, 2) == [Budget(n=1, k=3), Budget(n=2, k=6)]
    assert with_own([], 3, 1) == [Budget(n=1, k=3)]


def test_a_budget_that_the_samples_say_nothing_of_is_refused_in_a_line_with_what_would_do() -> None:
    with pytest.raises(
        UserError, match="33 episodes of 3 turns, and there are 32 a problem; --samples 33 would do"
    ) as told:
        with_own([Budget(n=10, k=100)], 3, 32)
    assert "\n" not in str(told.value)
    assert with_own([Budget(n=10, k=100)], 3, 33)
    with pytest.raises(UserError, match="an episode may take 3 responses; 1@3 would do"):
        with_own([Budget(n=1, k=2)], 3, 100)
