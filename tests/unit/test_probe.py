"""The probe tells an engine that stayed behind from one that merely rounds otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.probe import compare

TOLERANCE = 0.12
TOKENS = 300


def rows(values: np.ndarray) -> list[list[float]]:
    """Log-probabilities as they come: three sequences of different lengths."""
    return [part.tolist() for part in np.split(values, [50, 180])]


def scene(
    seed: int, movement: float = 0.02, noise: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Learner and engine before and after a broadcast that the engine took; `noise` is its rounding."""
    generator = np.random.default_rng(seed)
    before = -generator.exponential(1.0, TOKENS)
    after = before + generator.normal(0, movement, TOKENS)
    return before, before + generator.normal(0, noise, TOKENS), after, after + generator.normal(0, noise, TOKENS)


def test_an_engine_with_the_learners_weights_moves_exactly_as_it() -> None:
    before, _, after, _ = scene(0)
    result = compare(rows(after), rows(after), rows(before), rows(before))
    assert result.slope == pytest.approx(1.0)
    assert result.mean_difference == result.max_difference == 0
    assert result.complaint(TOLERANCE) is None


def test_an_engine_that_stayed_behind_is_found_though_its_level_is_right() -> None:
    for seed in range(200):
        before, engine_before, after, _ = scene(seed, noise=0.003)
        engine_after = engine_before + np.random.default_rng(1000 + seed).normal(0, 0.003, TOKENS)
        result = compare(rows(after), rows(engine_after), rows(before), rows(engine_before))
        assert result.mean_difference < TOLERANCE / 3
        complaint = result.complaint(TOLERANCE)
        assert complaint is not None and "moved" in complaint


def test_an_engine_that_took_a_part_of_the_weights_is_found() -> None:
    """What one part of the model moves is independent of what the rest moves; the stale part makes up two thirds."""
    generator = np.random.default_rng(5)
    before = -generator.exponential(1.0, TOKENS)
    taken, missed = generator.normal(0, 0.01, TOKENS), generator.normal(0, 0.0141, TOKENS)
    result = compare(rows(before + taken + missed), rows(before + taken), rows(before), rows(before))
    assert result.slope == pytest.approx(1 / 3, abs=0.1)
    assert "moved 0.3" in (result.complaint(TOLERANCE) or "")


# At 0.1 rounding is five times the movement: the slope alone says nothing, its standard error says so.
@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_rounding_alone_is_never_complained_about(noise: float) -> None:
    complaints = []
    for seed in range(200):
        before, engine_before, after, engine_after = scene(seed, noise=noise)
        result = compare(rows(after), rows(engine_after), rows(before), rows(engine_before))
        complaints.append(result.complaint(TOLERANCE))
    assert complaints == [None] * 200


def test_a_learner_that_stood_still_gives_nothing_to_follow() -> None:
    before, engine_before, after, engine_after = scene(0, movement=1e-5, noise=0.03)
    result = compare(rows(after), rows(engine_after), rows(before), rows(engine_before))
    assert result.slope is None
    assert result.complaint(TOLERANCE) is None


def test_the_first_broadcast_has_only_a_level() -> None:
    _, _, after, engine = scene(0, noise=0.03)
    result = compare(rows(after), rows(engine))
    assert result.slope is None
    assert result.mean_difference == pytest.approx(np.abs(after - engine).mean())
    assert result.max_difference == pytest.approx(np.abs(after - engine).max())
    assert result.complaint(TOLERANCE) is None


def test_a_wrong_level_is_a_complaint() -> None:
    _, _, after, _ = scene(0)
    complaint = compare(rows(after), rows(after - 0.2)).complaint(TOLERANCE)
    assert complaint is not None
    assert "differ by 0.200 on average (at most 0.120 allowed; largest 0.20)" in complaint


@pytest.mark.parametrize("side", ["learner", "engine"])
def test_a_number_that_is_none_is_a_complaint(side: str) -> None:
    before, _, after, _ = scene(0)
    broken = after.copy()
    broken[7] = np.nan
    learner, engine = (broken, after) if side == "learner" else (after, broken)
    assert compare(rows(learner), rows(engine), rows(before), rows(before)).complaint(TOLERANCE) is not None


def test_different_numbers_of_tokens_are_an_error() -> None:
    with pytest.raises(ValueError, match="3 tokens for the learner and 2 for the engine"):
        compare([[0.0, 1.0], [2.0]], [[0.0, 1.0]])
