"""Every problem comes in its turn, the order is the seed's, and a saved order goes on where it was."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.problem_order import MAX_SKIPS, ProblemOrder

IDS = [f"p{i}" for i in range(10)]


def epoch(order: ProblemOrder) -> list[str]:
    return [order.next({}) for _ in IDS]


def test_each_epoch_is_a_shuffle_of_its_own_and_the_seed_decides_it() -> None:
    order, same, other = (
        ProblemOrder(IDS, 1, "uniform"),
        ProblemOrder(IDS, 1, "uniform"),
        ProblemOrder(IDS, 2, "uniform"),
    )
    epochs = [epoch(order) for _ in range(3)]
    assert all(sorted(one) == sorted(IDS) for one in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs == [epoch(same) for _ in range(3)]
    assert epochs[0] != epoch(other)


def test_signal_passes_over_what_teaches_nothing_and_uniform_does_not() -> None:
    shares = {"p0": 1.0, "p1": 0.0, "p2": 0.5}
    signal, uniform = ProblemOrder(IDS, 0, "signal"), ProblemOrder(IDS, 0, "uniform")
    counts = Counter(signal.next(shares) for _ in range(6000))
    fresh = counts["p3"]  # once an epoch
    # Passed over with probability q, three times in a row at most, a problem comes once in 1 + q + q^2 + q^3 epochs.
    assert counts["p0"] / fresh == pytest.approx(1 / (1 + 0.75 + 0.75**2 + 0.75**3), abs=0.04)
    assert counts["p1"] / fresh == pytest.approx(1 / (1 + 0.5 + 0.25 + 0.125), abs=0.04)
    assert counts["p2"] == pytest.approx(fresh, abs=1)
    assert set(Counter(uniform.next(shares) for _ in range(1000)).values()) == {100}


@given(seed=st.integers(0, 1000), shares=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=10, max_size=10))
def test_with_signal_every_problem_comes_within_four_epochs(seed: int, shares: list[float]) -> None:
    share_passing = dict(zip(IDS, shares, strict=True))
    order = ProblemOrder(IDS, seed, "signal")
    for _ in range(3):
        seen: set[str] = set()
        first = order.state_dict()["epoch"]
        while order.state_dict()["epoch"] <= first + MAX_SKIPS + 1:
            seen.add(order.next(share_passing))
        assert seen == set(IDS)


def test_other_than_comes_one_call_later() -> None:
    order, plain = ProblemOrder(IDS, 0, "uniform"), ProblemOrder(IDS, 0, "uniform")
    for _ in range(60):
        first, second = plain.next({}), plain.next({})
        if first == second:  # across the end of an epoch
            break
        assert [order.next({}, other_than=first), order.next({})] == [second, first]


def test_other_than_is_never_what_comes_unless_it_is_alone() -> None:
    order = ProblemOrder(["a", "b"], 0, "uniform")
    last = None
    for _ in range(40):
        following = order.next({}, other_than=last)
        assert following != last
        last = following
    assert ProblemOrder(["a"], 0, "uniform").next({}, other_than="a") == "a"


@given(seed=st.integers(0, 100), before=st.integers(0, 35), selection=st.sampled_from(["uniform", "signal"]))
def test_a_saved_order_goes_on(seed: int, before: int, selection: str) -> None:
    shares = {"p0": 1.0, "p1": 0.0}
    order = ProblemOrder(IDS, seed, selection)  # type: ignore[arg-type]
    last = None
    for _ in range(before):
        last = order.next(shares, other_than=last)
    state = json.loads(json.dumps(order.state_dict()))
    copy = ProblemOrder(IDS, seed + 1, selection)  # type: ignore[arg-type]
    copy.load_state_dict(state)
    assert [copy.next(shares) for _ in range(40)] == [order.next(shares) for _ in range(40)]


def test_what_is_wrong_with_the_problems_is_said() -> None:
    with pytest.raises(ValueError, match="no problems"):
        ProblemOrder([], 0, "uniform")
    with pytest.raises(ValueError, match="'b' is there twice"):
        ProblemOrder(["a", "b", "b"], 0, "uniform")
    with pytest.raises(ValueError, match="not those of the saved buffer"):
        ProblemOrder(["a", "c"], 0, "uniform").load_state_dict(ProblemOrder(["a", "b"], 0, "uniform").state_dict())
