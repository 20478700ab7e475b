"""Numbers about pass rates and how sure they are; pure.

Invariants: a problem counts once however many samples it has; what is uncertain is which problems were drawn, and over several
runs which seeds, never single samples; the same input and seed give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
_DRAWS = 200_000  # of Student's distribution, for a quantile to the second digit
_AT_A_TIME = 1 << 22  # numbers drawn at a time, to bound memory


@dataclass(frozen=True)
class Interval:
    """A mean with the interval that holds it at 95 %."""

    mean: float
    low: float
    high: float


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of `k` samples passes, given that `passed` of `samples` did
    (Chen et al. 2021, eq. 1).

    Computed as a product, so that large counts do not overflow. Raises ValueError if `k` samples cannot be drawn.
    """
    if not 0 <= passed <= samples:
        raise ValueError(f"{passed} of {samples} samples passed")
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples a problem and there are {samples}")
    if samples - passed < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / n for n in range(samples - passed + 1, samples + 1))


@lru_cache(maxsize=1 << 16)  # many problems have the same counts
def n_at_k(rollouts: int, public: int, right: int, n: int, drawn: int) -> float:
    """Chance that one of `n` programs is right, handed in from `drawn` of the `rollouts` of a problem, of which `public` pass the public tests and
    `right` of these all tests (Li et al. 2022; exact, as all draws are averaged over).

    Rollouts are drawn without replacement; of those that pass the public tests `n` are picked at random, or all if they are fewer.
    `drawn` is what the budget of k responses pays for: k // turn limit. Raises ValueError if so many cannot be drawn.
    """
    if not 0 <= right <= public <= rollouts:
        raise ValueError(f"{right} right ones of {public} that pass the public tests, of {rollouts} rollouts")
    if n < 1 or not 1 <= drawn <= rollouts:
        raise ValueError(f"{n} of {drawn} rollouts cannot be handed in where there are {rollouts}")
    one_is_right = [0.0, *(pass_at_k(public, right, picked) for picked in range(1, min(n, drawn, public) + 1))]
    ways = math.comb(rollouts, drawn)
    return min(
        1.0,
        math.fsum(
            # Whole numbers of any size, so that the quotient is as exact as a float can be.
            (math.comb(public, passing) * math.comb(rollouts - public, drawn - passing) / ways)
            * one_is_right[min(n, passing)]
            for passing in range(max(0, drawn - (rollouts - public)), min(public, drawn) + 1)
        ),
    )


def padded(values: Sequence[float], problems: int | None = None) -> list[float]:
    """One value a problem, `values`, and a 0 for each of the `problems` that has none: RLTF's rule for missing problems.

    None leaves the missing ones out. Raises ValueError if there are no problems, or fewer than there are values.
    """
    number = len(values) if problems is None else problems
    if number < max(1, len(values)):
        raise ValueError(f"{len(values)} problems have samples and there are {number}")
    return [*values, *[0.0] * (number - len(values))]


def mean_interval(values: Sequence[float], seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Mean of one value a problem, `values` [problems], with a 95 % interval as in `ratio_interval`."""
    return ratio_interval(values, None, seed, resamples)


def ratio_interval(
    parts: Sequence[float], wholes: Sequence[float] | None, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Sum of `parts` [problems] over that of `wholes` [problems] (None: 1 each), with a 95 % percentile bootstrap interval over problems.

    A problem whose whole is 0 says nothing and is left out. Deviations are widened by sqrt(n / (n - 1)), since n
    resampled values vary by (n - 1) / n of what n fresh ones would. Raises ValueError for no values. One value says
    nothing of its own spread: the interval is then unbounded.
    """
    data = np.asarray([parts] if wholes is None else [parts, wholes], dtype=np.float64)
    if wholes is not None:
        data = data[:, data[1] > 0]
    number = data.shape[1]
    if number == 0:
        raise ValueError("no problems to take a mean over")

    def ratios(chosen: np.ndarray) -> np.ndarray:
        means = chosen.mean(axis=-1)  # [1 or 2, resamples]
        return means[0] if wholes is None else means[0] / means[1]

    mean = float(ratios(data))
    if number == 1:
        return Interval(mean, -math.inf, math.inf)
    random = np.random.default_rng(seed)
    rows = max(1, _AT_A_TIME // data.size)
    resampled = np.concatenate(
        [
            ratios(data[:, random.integers(0, number, size=(min(rows, resamples - start), number))])
            for start in range(0, resamples, rows)
        ]
    )
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail))
    widen = math.sqrt(number / (number - 1))
    return Interval(mean, mean + (float(low) - mean) * widen, mean + (float(high) - mean) * widen)


def rate_interval(values: Sequence[float], problems: int | None = None, seed: int = 0) -> Interval:
    """Mean of one rate a problem with its 95 % interval, within [0, 1]; `problems` as in `padded`."""
    return within(mean_interval(padded(values, problems), seed), 0.0, 1.0)


def within(interval: Interval, least: float, most: float) -> Interval:
    """The interval without what cannot be."""
    return Interval(interval.mean, max(least, interval.low), min(most, interval.high))


def paired_difference(
    before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]], seed: int = 0
) -> tuple[float, float, float]:
    """Difference of pass rates and its 95 % interval (difference, low, high), from (passed, samples) of the same
    problems in the same order.

    Each problem gives one number, its rate after less its rate before, and problems are resampled. The spread of these
    numbers already holds both the spread between problems and the noise of a few samples a problem; resampling the
    samples inside each problem as well would count that noise twice and make the interval too wide. Pairing removes how
    hard each problem is. Raises ValueError where the two do not match.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} problems before and {len(after)} after")
    if any(samples < 1 for _, samples in [*before, *after]):
        raise ValueError("a problem has no samples")
    differences = [p1 / n1 - p0 / n0 for (p0, n0), (p1, n1) in zip(before, after, strict=True)]
    interval = within(mean_interval(differences, seed), -1.0, 1.0)
    return interval.mean, interval.low, interval.high


def seeds_interval(rates: np.ndarray, less: np.ndarray | None = None, seed: int = 0) -> Interval:
    """Mean of `rates` [seeds, problems] with a 95 % interval for other seeds and other problems; `less` [other seeds, problems] is taken
    off, on the same problems: the difference of two ways to train.

    The variance is that of the seeds' means plus that of the problems' (the noise of few samples is in both, so it is
    rather too large), the quantile Student's with Satterthwaite's degrees of freedom: three seeds that disagree make a wide interval.
    One seed says nothing of its own spread: the interval is then over problems alone. Raises ValueError where the problems
    do not match, or there are fewer than two.
    """
    tables = [rates] if less is None else [rates, less]
    problems = rates.shape[-1]
    if any(t.ndim != 2 or len(t) < 1 or t.shape[1] != problems for t in tables) or problems < 2:
        raise ValueError(
            f"rates of shapes {[t.shape for t in tables]}: one row a seed, the same two or more problems in each"
        )
    by_problem = rates.mean(axis=0) - (0.0 if less is None else less.mean(axis=0))
    parts = [(float(by_problem.var(ddof=1)) / problems, problems - 1)]  # variance of the mean, its degrees of freedom
    parts += [(float(t.mean(axis=1).var(ddof=1)) / len(t), len(t) - 1) for t in tables if len(t) > 1]
    mean, variance = float(by_problem.mean()), sum(part for part, _ in parts)
    if variance == 0:
        return Interval(mean, mean, mean)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    draws = np.random.default_rng(seed).standard_t(freedom, size=_DRAWS)
    reach = float(np.quantile(np.abs(draws), CONFIDENCE)) * math.sqrt(variance)
    return Interval(mean, mean - reach, mean + reach)
