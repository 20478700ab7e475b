"""Drawing tokens: temperature, nucleus, greedy, and the log-probability that goes with each."""

from __future__ import annotations

import math

import pytest
import torch

from actors.engine.decoding import draw
from actors.engine.protocol import SamplingSettings

PROBABILITIES = [0.5, 0.25, 0.15, 0.1]
DRAWS = 4000


def setting(temperature: float = 1.0, top_p: float = 1.0) -> SamplingSettings:
    return SamplingSettings(temperature=temperature, top_p=top_p, max_tokens=1)


def drawn(sampling: SamplingSettings) -> tuple[list[float], dict[int, float]]:
    """How often each token came, and the log-probability that was reported with it."""
    logits = torch.tensor(PROBABILITIES).log().repeat(DRAWS, 1)
    tokens, log_probs = draw(logits, [sampling] * DRAWS, torch.Generator().manual_seed(0))
    reported = {int(token): float(value) for token, value in zip(tokens, log_probs, strict=True)}
    return (tokens.bincount(minlength=4) / DRAWS).tolist(), reported


@pytest.mark.parametrize(
    "sampling, expected",
    [
        (setting(), PROBABILITIES),
        (setting(temperature=0.5), [p * p / 0.345 for p in PROBABILITIES]),
        (setting(top_p=0.7), [2 / 3, 1 / 3, 0, 0]),
        (setting(top_p=0.5), [1, 0, 0, 0]),
        (setting(top_p=1e-6), [1, 0, 0, 0]),
    ],
)
def test_tokens_come_as_often_as_their_log_probability_says(sampling: SamplingSettings, expected: list[float]) -> None:
    shares, reported = drawn(sampling)
    assert shares == pytest.approx(expected, abs=0.03)
    for token, value in reported.items():
        assert math.exp(value) == pytest.approx(expected[token], rel=1e-4)
    assert set(reported) == {token for token, share in enumerate(expected) if share}


def test_greedy_takes_the_likeliest_at_temperature_one() -> None:
    shares, reported = drawn(setting(temperature=0.0, top_p=0.1))
    assert shares == [1, 0, 0, 0]
    assert reported == {0: pytest.approx(math.log(0.5))}


def test_each_row_has_settings_of_its_own() -> None:
    logits = torch.tensor(PROBABILITIES).log().repeat(3, 1)
    _, log_probs = draw(logits, [setting(temperature=0.0), setting(top_p=0.4), setting(temperature=0.0, top_p=0.4)])
    assert log_probs.exp().tolist() == pytest.approx([0.5, 1.0, 0.5])


def test_a_seed_draws_the_same_whatever_else_is_in_the_batch() -> None:
    logits = torch.zeros(3, 50)
    seeded, free = SamplingSettings(1.0, 1.0, 8, seed=7), SamplingSettings(1.0, 1.0, 8)
    other = SamplingSettings(1.0, 1.0, 8, seed=8)

    def sequence(at: int, batch: list[SamplingSettings], numbers: int) -> list[int]:
        generator = torch.Generator().manual_seed(numbers)
        return [int(draw(logits[: len(batch)], batch, generator, position)[0][at]) for position in range(12)]

    alone = sequence(0, [seeded], 1)
    assert sequence(2, [free, other, seeded], 2) == alone
    assert sequence(1, [free, other, seeded], 2) != alone
    assert len(set(alone)) > 1, "a position of its own each token"
    assert sequence(0, [free], 1) != sequence(0, [free], 2)
