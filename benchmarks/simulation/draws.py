"""The chances of a simulation: lengths of responses, seconds of programs, who passes.

Pure. Invariant: what an episode meets depends on its group, its place in it, its turn and the try alone, so that two
settings that differ in size see the same work, and differences between them are not chance.
"""

from __future__ import annotations

import numpy

from benchmarks.simulation.setting import Setting

_SIZE = 1 << 17
_MASK = _SIZE - 1


class Draws:
    """Tables of independent draws, read at places that episodes name."""

    def __init__(self, setting: Setting) -> None:
        chance = numpy.random.default_rng(setting.seed)
        lengths = setting.response_tokens * numpy.exp(setting.response_sigma * chance.standard_normal(_SIZE))
        self._lengths: list[int] = numpy.clip(numpy.rint(lengths), 1, setting.max_response_tokens).astype(int).tolist()
        seconds = setting.program_seconds * numpy.exp(setting.program_sigma * chance.standard_normal(_SIZE))
        self._seconds: list[float] = numpy.minimum(seconds, setting.time_limit_s).tolist()
        self._evens: list[list[float]] = chance.random((4, _SIZE)).tolist()
        exponent = 1 / setting.pass_share - 1  # the mean of u^k is 1 / (k + 1)
        self._pass: list[float] = (chance.random(setting.problems) ** exponent).tolist()
        self._setting = setting

    def place(self, group_id: int, sample: int, turn: int, again: int) -> int:
        """Where the draws of a turn stand; `again` counts what was done before in vain."""
        s = self._setting
        return (((group_id * s.samples_per_problem + sample) * s.max_turns + turn) + 104729 * again) & _MASK

    def response_tokens(self, place: int) -> int:
        """Length of a response."""
        return self._lengths[place]

    def has_code(self, place: int) -> bool:
        """Whether it holds a program."""
        return self._evens[0][place] >= self._setting.no_code_share

    def passes(self, place: int, problem: int) -> bool:
        """Whether its program passes."""
        return self._evens[1][place] < self._pass[problem]

    def judge_s(self, place: int, tests: int) -> float:
        """Seconds of a slot for a program and so many tests; the first test that meets the time limit ends it."""
        s = self._setting
        if self._evens[2][place] < s.timeout_share:
            return s.test_s + s.time_limit_s
        return tests * (s.test_s + self._seconds[place])

    def judge_fails(self, place: int) -> bool:
        """Whether our own machinery fails on it."""
        return self._evens[3][place & _MASK] < self._setting.judge_failure_share

    @property
    def pass_chances(self) -> list[float]:
        """The chance of each problem that an answer passes."""
        return self._pass

    def mean_response_tokens(self) -> float:
        """Over the table."""
        return sum(self._lengths) / _SIZE

    def mean_judge_s(self, tests: int) -> float:
        """Over the table."""
        s = self._setting
        own = tests * (s.test_s + sum(self._seconds) / _SIZE)
        return (1 - s.timeout_share) * own + s.timeout_share * (s.test_s + s.time_limit_s)
