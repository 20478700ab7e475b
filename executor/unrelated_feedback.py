"""Feedback that has nothing to do with the attempt: believable, on a public test of another problem (the mode `random`). Pure.

It goes through the same templates as true feedback does, so that what a model makes of the content can be told from what it makes of being told anything.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from random import Random
from typing import Any

from executor.errors import UserError
from executor.feedback import MAX_CHARS, MAX_TEST_CHARS, feedback
from executor.feedback_templates import DEFAULT, FeedbackTemplates
from executor.languages.base import TestAssertion
from executor.languages.python_tests import assertions
from executor.problem import CodeTest, FunctionTest, Problem, StdioTest
from executor.showing import written
from executor.verdict import Outcome, TestResult, Verdict

_INTEGER = re.compile(r"-?\d+")


def unrelated_feedback(
    problem: Problem,
    problems: Sequence[Problem],
    random: Random,
    templates: FeedbackTemplates = DEFAULT,
    max_chars: int = MAX_CHARS,
    max_test_chars: int = MAX_TEST_CHARS,
) -> str:
    """What a wrong answer to another of the `problems` might be told. Raises UserError where no other one has public tests."""
    start = random.randrange(len(problems)) if problems else 0
    for number in range(len(problems)):  # one after the other: there may be many, and most will do
        other = problems[(start + number) % len(problems)]
        if other.id != problem.id and other.language == problem.language and other.public_tests:
            verdict = _wrong_answer(other, random)
            return feedback(other, None, verdict, templates, max_chars, max_test_chars)
    raise UserError(
        f"rollout.feedback=random: there is no other problem with public tests than {problem.id!r} in {problem.language}; "
        "give more problems, or take rollout.feedback=none"
    )


def _wrong_answer(problem: Problem, random: Random) -> Verdict:
    """A verdict on a program that fails one public test and passes the others."""
    chosen = random.randrange(len(problem.public_tests))
    results = [TestResult(outcome=Outcome.PASS, public=True) for _ in problem.public_tests]
    results[chosen] = _failed(problem, chosen, random)
    total = len(problem.public_tests)
    return Verdict(problem_id=problem.id, outcome=Outcome.FAILURE, passed=total - 1, total=total, tests=results)


def _failed(problem: Problem, chosen: int, random: Random) -> TestResult:
    """The test as if its answer had been wrong: another test's, or one that is near."""
    test = problem.public_tests[chosen]
    others = [other for number, other in enumerate(problem.public_tests) if number != chosen]
    result = TestResult(outcome=Outcome.FAILURE, public=True)
    if isinstance(test, StdioTest):
        outputs = [o.output for o in others if isinstance(o, StdioTest) and o.output.split() != test.output.split()]
        result.got = random.choice(outputs) if outputs else _other_text(test.output, random)
    elif isinstance(test, FunctionTest):
        values = [written(other.expected) for other in others if isinstance(other, FunctionTest)]
        result.got = _other_written(test.expected, values, random)
    else:
        assert isinstance(test, CodeTest)
        chosen_one = random.choice(assertions(test.code) or (TestAssertion(test.code),))
        result.assertion, result.expected = chosen_one.text, chosen_one.expected
        if chosen_one.expected is not None:
            seen = [one.expected for o in others if isinstance(o, CodeTest) for one in assertions(o.code)]
            values = [value for value in seen if value is not None]
            result.got = _other_written(_value(chosen_one.expected), values, random)
    return result


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # as it is written it is none any more: inf
        return None


def _other_written(expected: Any, values: list[str], random: Random) -> str:
    """One of the values that is not the expected one, else one that is near, as Python writes it."""
    right = written(expected)
    wrong = [value for value in values if value != right]
    near = random.choice(wrong) if wrong else written(_other_value(expected, random))
    return near if near != right else "None"


def _other_value(value: Any, random: Random) -> Any:
    """A value near this one, and unlike it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + random.choice([-2, -1, 1, 2])
    if isinstance(value, float):
        return value * 2 + random.choice([0.5, 1.0])
    if isinstance(value, str):
        return _other_text(value, random)
    if isinstance(value, list | tuple) and value:
        place = random.randrange(len(value))
        return type(value)([*value[:place], _other_value(value[place], random), *value[place + 1 :]])
    if isinstance(value, dict) and value:
        key = random.choice(list(value))
        return {**value, key: _other_value(value[key], random)}
    return None if value is not None else 0


def _other_text(text: str, random: Random) -> str:
    """A text near this one, and unlike it: another number in it, else without a character at its end."""
    numbers = list(_INTEGER.finditer(text))
    if not numbers:
        shorter = text.rstrip()[:-1].rstrip()
        return shorter if shorter != text.strip() else "0"
    number = random.choice(numbers)
    return f"{text[: number.start()]}{_near(number.group(), random)}{text[number.end() :]}"


def _near(digits: str, random: Random) -> str:
    """Another integer of about this size; only its last digits change, as it may have very many."""
    sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
    last = int(digits[-9:]) + random.choice([1, 2, 3])
    return f"{sign}{digits[:-9]}{last:0{min(9, len(digits))}}"
