"""What a language of programs is: compile once, run many tests; one file of this folder a language.

Invariants: an open program holds its slot until it is closed; whatever a program does is a finding; SandboxLost means that our own machinery failed
and nothing is known of the program, BrokenTest that a test cannot be run whatever the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from executor.errors import UserError
from executor.problem import Language, Problem, Test
from executor.sandbox.running import Limits
from executor.sandbox.slot import Slot
from executor.verdict import ErrorInfo, Outcome


class BrokenTest(Exception):
    """Test code that cannot be run, whatever the program."""


@dataclass(frozen=True)
class TestAssertion:
    """An assertion of a test's code, and what it compares a call's answer with, where it does just that."""

    __test__ = False  # not a pytest class

    text: str
    expected: str | None = None


@dataclass(frozen=True)
class Finding:
    """What one test showed. `got` is what the program answered, as text, where it did."""

    outcome: Outcome
    seconds: float
    message: str = ""
    error: ErrorInfo | None = None
    got: str | None = None
    assertion: TestAssertion | None = None
    """The one that was not met, where that is known."""
    starved: bool = False
    """Out of wall time with CPU time left: to be tried once more."""
    undecided: tuple[Any] | None = None
    """The answer, where the problem's own checker has to say whether it is right."""


class OpenProgram(Protocol):
    """One program in one slot."""

    def run(self, test: Test) -> Finding:
        """Run one test. Raises SandboxLost and BrokenTest; the next test can be run all the same."""
        ...

    def close(self) -> None:
        """End what still runs. Raises SandboxLost."""
        ...

    def unexecuted(self) -> list[tuple[int, int]] | None:
        """First and last lines of the statements that no test has run, once it is closed; None if not asked for, or not known."""
        ...


def open_program(
    slot: Slot, problem: Problem, source: str, limits: Limits, tests: int, executed_lines: bool = False
) -> OpenProgram:
    """`source` in `slot`, to be run on `tests` tests at most. Raises UserError for a language that there is none of."""
    refuse(problem)
    from executor.languages.python import PythonProgram

    return PythonProgram(slot, problem, source, limits, tests, executed_lines)


def refuse(problem: Problem) -> None:
    """Raises UserError for a problem in a language that is not judged in this version."""
    languages: tuple[Language, ...] = ("python",)
    if problem.language not in languages:
        raise UserError(f"problem {problem.id!r}: language {problem.language}: not in this version")
