"""What an evaluation keeps of a sample, and what it counts; pure.

A sample is an episode: one response, or several with feedback between. Invariants: a program that passes all tests passes the public ones; a sample counts once
however often it comes; counts alone make every rate that is told, so that memory grows by a byte a sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from buffer.trajectory import Ending
from executor.verdict import Outcome, Verdict


class JudgedTurn(BaseModel):
    """A response and what became of it."""

    model_config = ConfigDict(extra="forbid")

    seed: int = Field(ge=0, description="What the engine drew its tokens with.")
    response: str = Field(description="What the model said.")
    program: str = Field(description="Found in the response; empty if there is none.")
    tokens: int = Field(ge=0, description="Of the response, its end included.")
    finish_reason: Literal["stop", "length"] = Field(description="length if it was cut off.")
    outcome: Outcome = Field(description="Of the public tests; in the last turn of all tests.")
    passes_public: bool = Field(description="Whether the program passes the public tests.")
    passes_all: bool = Field(description="Whether it passes all tests.")
    chrf: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Likeness to the program of the turn before; null where there are not two.",
    )
    feedback: str = Field(
        default="", description="What the model was told then, as the chat template has it; or empty."
    )

    @model_validator(mode="after")
    def _public_tests_are_of_all(self) -> JudgedTurn:
        if self.passes_all and not self.passes_public:
            raise ValueError("it passes all tests and fails public ones")
        return self


class JudgedSample(BaseModel):
    """A line of the file; `cupel judge` reads it as a sample."""

    model_config = ConfigDict(extra="forbid")

    problem_id: str = Field(description="The problem.")
    index: int = Field(ge=0, description="Its place among the samples of the problem, from 0.")
    program: str = Field(description="The last program; empty if there is none.")
    verdict: Verdict = Field(description="Of the last program on all tests, without the single ones.")
    ending: Ending = Field(description="Why there are no more turns.")
    turns: list[JudgedTurn] = Field(min_length=1, description="The responses in order.")


@dataclass
class Tally:
    """What became of a problem's samples."""

    samples: int = 0
    passed: int = 0
    tests_passed: int = 0
    passed_after: list[int] = field(default_factory=lambda: [0])
    """Those that would have passed had they been cut off after turn 1, 2, ..."""
    public: int = 0
    """Those whose last program passes the public tests."""
    first_public: int = 0
    """Those whose first program does."""
    repaired: int = 0
    """Those whose first program is wrong and whose last is right."""
    turns: int = 0
    out_of_context: int = 0
    """Those that ended because the context had no room for another response."""
    rewritten: int = 0
    """Pairs of successive programs."""
    unchanged: int = 0
    """Pairs of the same program."""
    chrf: float = 0.0
    """Likeness of the pairs, summed."""

    @property
    def first_wrong(self) -> int:
        """Samples whose first program is wrong."""
        return self.samples - self.passed_after[0]

    def add(self, sample: JudgedSample) -> None:
        """Count a sample."""
        turns = sample.turns
        first, last = turns[0], turns[-1]
        self.samples += 1
        self.passed += sample.verdict.outcome is Outcome.PASS
        self.tests_passed += sample.verdict.passed
        for number in range(len(self.passed_after)):
            self.passed_after[number] += turns[min(number, len(turns) - 1)].passes_all
        self.public += last.passes_public
        self.first_public += first.passes_public
        self.repaired += last.passes_all and not first.passes_all
        self.turns += len(turns)
        self.out_of_context += sample.ending == "context"
        for before, after in pairwise(turns):
            if after.chrf is not None:
                self.rewritten += 1
                self.unchanged += before.program.strip() == after.program.strip()
                self.chrf += after.chrf


class Sampled:
    """Which samples there are of those that are wanted, and what became of them."""

    def __init__(self, problem_ids: Sequence[str], samples: int, turns: int = 1) -> None:
        self.samples = samples
        self.tallies = {problem_id: Tally(passed_after=[0] * turns) for problem_id in problem_ids}
        self.outcomes: Counter[Outcome] = Counter()
        self._there = {problem_id: bytearray(samples) for problem_id in problem_ids}

    def add(self, sample: JudgedSample) -> None:
        """Count a sample, once however often it comes; one beyond those wanted does not count. Raises KeyError for a problem that is not asked."""
        there = self._there[sample.problem_id]
        if not 0 <= sample.index < self.samples or there[sample.index]:
            return
        there[sample.index] = 1
        self.tallies[sample.problem_id].add(sample)
        self.outcomes[sample.verdict.outcome] += 1

    def missing(self) -> Iterator[tuple[str, int]]:
        """Samples that are not there, problem by problem; those that come to be there meanwhile are left out."""
        for problem_id, there in self._there.items():
            for index in range(self.samples):
                if not there[index]:
                    yield problem_id, index

    @property
    def count(self) -> int:
        """Samples that are there."""
        return self.outcomes.total()
