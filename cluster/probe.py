"""The proof that an engine holds the learner's weights: the same tokens get the same log-probabilities on both sides.

Two tests, because neither is enough. The level: the mean difference must stay below a tolerance; that finds gross errors, but engine and learner round
differently (about 0.03 in bfloat16), so it is blind to an engine that is one small update behind. The movement: between two broadcasts the
engine's log-probabilities must have changed as the learner's did, a regression slope of 1; an engine whose weights, or one layer of
them, stayed behind has a slope well under that. Rounding only adds noise, which the slope's standard error accounts for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SLOPE_BOUND = 0.6  # an engine that took every weight has 0.9 to 1.1
STANDARD_ERRORS = 4.0
STILL = 1e-4  # the learner moved less than this (root mean square): there is nothing to follow


@dataclass(frozen=True)
class ProbeResult:
    """How an engine compares with the learner; `slope` is None where the learner did not move."""

    mean_difference: float
    max_difference: float
    slope: float | None = None
    slope_error: float | None = None

    def complaint(self, tolerance: float) -> str | None:
        """What is wrong with the engine's weights in one line, or None."""
        if not self.mean_difference <= tolerance:
            return (
                f"log-probabilities differ by {self.mean_difference:.3f} on average (at most {tolerance:.3f} allowed; "
                f"largest {self.max_difference:.2f})"
            )
        if (
            self.slope is not None
            and self.slope_error is not None
            and self.slope + STANDARD_ERRORS * self.slope_error < SLOPE_BOUND
        ):
            return (
                f"the engine's log-probabilities moved {self.slope:.2f} times as far as the learner's, where 1 is right"
            )
        return None


Scores = Sequence[Sequence[float]]


def compare(
    learner: Scores, engine: Scores, learner_before: Scores | None = None, engine_before: Scores | None = None
) -> ProbeResult:
    """Hold the engine's log-probabilities of the probe's tokens against the learner's, and their change against its change.

    Raises ValueError if the two sides scored different numbers of tokens.
    """
    there, here = _flat(learner), _flat(engine)
    if there.shape != here.shape:
        raise ValueError(f"the probe has {there.size} tokens for the learner and {here.size} for the engine")
    difference = np.abs(here - there)
    mean, largest = float(difference.mean()), float(difference.max())
    if learner_before is None or engine_before is None:
        return ProbeResult(mean, largest)
    moved, followed = there - _flat(learner_before), here - _flat(engine_before)
    square = float(moved @ moved)
    if square < STILL**2 * moved.size:
        return ProbeResult(mean, largest)
    slope = float(moved @ followed) / square
    residual = followed - slope * moved
    error = float(np.sqrt(residual @ residual / max(1, moved.size - 1) / square))
    return ProbeResult(mean, largest, slope, error)


def _flat(scores: Scores) -> np.ndarray:
    return np.concatenate([np.asarray(row, dtype=np.float64) for row in scores])
