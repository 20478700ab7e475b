"""Solved problems shown as earlier turns of the chat, so that a small model sees what an answer looks like.

Some are solved at once; one, for episodes of several turns, at the second try, after the feedback that an episode would give. Invariants: none of them
is in a problem set of ours; they are Python, and go before Python questions only.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.feedback_turns import FeedbackSettings
from actors.prompts import Message, question, reference_response
from executor.feedback import Mode, feedback, no_feedback
from executor.feedback_templates import DEFAULT, FeedbackTemplates, load_templates
from executor.problem import FunctionTest, Problem, StdioTest, Test
from executor.verdict import Outcome, TestResult, Verdict


def _function(name: str, prompt: str, reference: str, test: Test) -> Problem:
    return Problem(
        id=name, prompt=prompt, kind="function", entry_point=name, public_tests=[test], references=[reference]
    )


def _stdio(name: str, prompt: str, reference: str, test: Test) -> Problem:
    return Problem(id=name, prompt=prompt, kind="stdio", public_tests=[test], references=[reference])


SOLVED_AT_ONCE = (
    _function(
        "double",
        "Write a Python function `double(n)` that returns the integer n multiplied by two. Example: `double(4)` returns `8`.",
        "def double(n):\n    return n * 2",
        FunctionTest(args=[4], expected=8),
    ),
    _function(
        "count_positive",
        "Write a Python function `count_positive(xs)` that returns how many numbers in the list xs are greater than zero, "
        "0 for an empty list. Example: `count_positive([1, -2, 3])` returns `2`.",
        "def count_positive(xs):\n    return sum(1 for x in xs if x > 0)",
        FunctionTest(args=[[1, -2, 3]], expected=2),
    ),
    _stdio(
        "plus_one",
        "Write a Python program that reads an integer n from standard input and prints n plus one. Example: input `4` prints `5`.",
        "n = int(input())\nprint(n + 1)",
        StdioTest(input="4\n", output="5\n"),
    ),
    _stdio(
        "title",
        "Write a Python program that reads one line of text from standard input and prints it with every word beginning with a capital letter. "
        "Example: input `red apple` prints `Red Apple`.",
        "line = input()\nprint(line.title())",
        StdioTest(input="red apple\n", output="Red Apple\n"),
    ),
)


@dataclass(frozen=True)
class SecondTry:
    """A problem whose public test a first answer fails; the reference is the second."""

    problem: Problem
    first: str
    """A program that takes the statement at its word."""
    got: str
    """What it gives to the public test, as feedback shows it."""


SOLVED_AT_THE_SECOND_TRY = (
    SecondTry(
        _function(
            "greet",
            "Write a Python function `greet(name)` that returns a greeting for the text name. The words are those that the tests expect.",
            'def greet(name):\n    return "Welcome back, " + name + "!"',
            FunctionTest(args=["Ann"], expected="Welcome back, Ann!"),
        ),
        'def greet(name):\n    return "Hello " + name',
        "'Hello Ann'",
    ),
    SecondTry(
        _stdio(
            "greeting",
            "Write a Python program that reads a name from standard input and prints a greeting. The words are those that the tests expect.",
            'name = input()\nprint("Welcome back, " + name + "!")',
            StdioTest(input="Ann\n", output="Welcome back, Ann!\n"),
        ),
        'name = input()\nprint("Hello " + name)',
        "Hello Ann\n",
    ),
)


@dataclass(frozen=True)
class WorkedExamples:
    """What is shown before a question."""

    number: int = 0
    """Problems that are solved at once."""
    second_try: bool = False
    """Whether one that is solved at the second try follows them."""
    mode: Mode = "tests"
    templates: FeedbackTemplates = DEFAULT
    """What feedback says, and in which words."""

    @classmethod
    def told(cls, number: int, second_try: bool, settings: FeedbackSettings) -> WorkedExamples:
        """Examples with the feedback of these settings. Raises UserError for templates that cannot be read."""
        return cls(number, second_try, settings.mode, load_templates(settings.templates))

    def before(self, problem: Problem) -> list[Message]:
        """The earlier turns of the chat that asks `problem`: examples of its kind."""
        if problem.language != "python":
            return []
        kind = "stdio" if problem.kind == "stdio" else "function"
        turns: list[str] = []
        for example in [e for e in SOLVED_AT_ONCE if e.kind == kind][: self.number]:
            turns += [question(example), reference_response(example, example.references[0])]
        for example in [e for e in SOLVED_AT_THE_SECOND_TRY if e.problem.kind == kind and self.second_try]:
            asked = example.problem
            turns += [question(asked), reference_response(asked, example.first), self._feedback(example)]
            turns += [reference_response(asked, asked.references[0])]
        return [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(turns)]

    def _feedback(self, example: SecondTry) -> str:
        problem = example.problem
        if self.mode == "none":
            return no_feedback(problem, self.templates)
        failed = TestResult(outcome=Outcome.FAILURE, public=True, got=example.got)
        verdict = Verdict(problem_id=problem.id, outcome=Outcome.FAILURE, total=1, tests=[failed])
        return feedback(problem, example.first, verdict, self.templates)
