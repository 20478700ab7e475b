"""The vocabulary of judging: what became of one test and of one program.

Invariants: `infrastructure` is ours and never the program's fault, so it is never scored; `passed` counts tests whose
outcome is `pass`; a verdict is `pass` only if every test was run and passed.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Outcome(StrEnum):
    """What became of a test or of a program."""

    PASS = "pass"
    FAILURE = "failure"
    ERROR = "error"
    SYNTAX_ERROR = "syntax_error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    NO_CODE = "no_code"
    INFRASTRUCTURE = "infrastructure"


# The first of these that any test shows is the outcome of the program.
PRECEDENCE: tuple[Outcome, ...] = (
    Outcome.INFRASTRUCTURE,
    Outcome.NO_CODE,
    Outcome.SYNTAX_ERROR,
    Outcome.TIMEOUT,
    Outcome.MEMORY,
    Outcome.OUTPUT_LIMIT,
    Outcome.ERROR,
    Outcome.FAILURE,
    Outcome.PASS,
)


class Frame(BaseModel):
    """A place on the stack of an exception, in the program's own source. Advisory, as all that a program says of itself."""

    model_config = ConfigDict(extra="forbid")

    line: int = Field(ge=1, description="1-based line of the source.")
    function: str = Field(max_length=100, description="Name of the function, `<module>` for none, `?` for no name.")
    left_out: int = Field(default=0, ge=0, description="Frames of the program before this one that are not told.")


class ErrorInfo(BaseModel):
    """Where and how a program went wrong. Advisory unless `trusted`: a program can lie about its own exceptions."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="Class name of the exception, or the signal's name.")
    message: str = Field(default="", description="Its message, shortened.")
    line: int | None = Field(
        default=None, ge=1, description="1-based line of the deepest frame in the program's own source."
    )
    column: int | None = Field(default=None, ge=1, description="1-based column in that line, where it is known.")
    frames: list[Frame] = Field(
        default_factory=list, description="Stack in the program's own source, innermost last, its middle left out."
    )
    trusted: bool = Field(
        default=False, description="True if no user code had run when it was found (a compile error)."
    )


class TestResult(BaseModel):
    """What became of one test."""

    __test__ = False  # not a pytest class
    model_config = ConfigDict(extra="forbid")

    outcome: Outcome = Field(description="What became of the test.")
    public: bool = Field(description="Whether the test is one that feedback may show.")
    seconds: float = Field(default=0.0, ge=0, description="CPU seconds of the tested process.")
    message: str = Field(default="", description="One line on what went wrong.")
    input: str | None = Field(default=None, description="Shortened input of a public test that did not pass.")
    expected: str | None = Field(
        default=None, description="Shortened expected value of a public test that did not pass."
    )
    got: str | None = Field(default=None, description="Shortened answer to a public test that did not pass.")
    assertion: str | None = Field(
        default=None, description="The assertion in a public test's code that was not met, where it is known."
    )
    error: ErrorInfo | None = Field(default=None, description="How the program went wrong in a public test.")


class Verdict(BaseModel):
    """What became of one program on the tests of its problem."""

    model_config = ConfigDict(extra="forbid")

    problem_id: str = Field(description="The problem.")
    index: int = Field(
        default=0, ge=0, description="0-based line of the sample in its file, or its place in its group."
    )
    outcome: Outcome = Field(description="What became of the program.")
    passed: int = Field(default=0, ge=0, description="Tests passed.")
    total: int = Field(default=0, ge=0, description="Tests of the problem that were asked for, run or not.")
    tests: list[TestResult] = Field(default_factory=list, description="One result a test that was run, in order.")
    error: ErrorInfo | None = Field(default=None, description="The first error, null if none.")
    unexecuted: list[tuple[int, int]] | None = Field(
        default=None,
        description="First and last lines of the statements that no test ran, as the program's process says; null: not asked, or not known.",
    )
    level: str = Field(default="", description="Isolation level the program ran under.")
    seconds: float = Field(default=0.0, ge=0, description="Wall seconds of the whole judgement.")

    @property
    def share_passed(self) -> float:
        """Share of the tests that passed, in [0, 1]."""
        return self.passed / self.total if self.total else 0.0


def aggregate(outcomes: list[Outcome], total: int) -> Outcome:
    """The program's outcome from those of its tests, by PRECEDENCE; a missing test cannot make a pass.

    Raises ValueError if every test passed and fewer than `total` were run.
    """
    worst = min(outcomes, key=PRECEDENCE.index, default=Outcome.INFRASTRUCTURE)
    if worst is Outcome.PASS and len(outcomes) < total:
        raise ValueError(f"{len(outcomes)} of {total} tests were run and all passed: the rest decides")
    return worst


def no_code(problem_id: str, total: int, index: int = 0) -> Verdict:
    """The verdict on a response that holds no program."""
    return Verdict(problem_id=problem_id, index=index, outcome=Outcome.NO_CODE, total=total)


def infrastructure(problem_id: str, total: int, message: str, index: int = 0, public: bool = False) -> Verdict:
    """The verdict where our own machinery failed; `message` says how."""
    result = TestResult(outcome=Outcome.INFRASTRUCTURE, public=public, message=message)
    return Verdict(problem_id=problem_id, index=index, outcome=Outcome.INFRASTRUCTURE, total=total, tests=[result])


def jsonable(verdict: Verdict) -> dict[str, Any]:
    """The verdict as a line of a verdicts file holds it."""
    return verdict.model_dump(mode="json")


def as_line(verdict: Verdict) -> str:
    """The verdict as JSON on one line. Half of a surrogate pair, which UTF-8 cannot hold, is written as its escape."""
    return json.dumps(jsonable(verdict), ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")
