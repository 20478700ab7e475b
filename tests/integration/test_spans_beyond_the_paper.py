"""What a linter finds and what no test ran, by real programs: on the right tokens of the response, whatever cuts it up.

A linter's row marks its findings by «these»; a row of executed lines marks by ⟦these⟧ the characters whose tokens are masked. The response has text
and a fence around the program.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tokenizing import KINDS, encoded, response_with, trained

from actors.findings import Finding
from actors.linter import Linter
from actors.prompts import extract_program
from actors.rewards import rltf
from actors.rewards.base import TurnContext
from actors.token_offsets import token_offsets
from buffer.trajectory import CreditSpan
from executor.judging import Judge, JudgeRequest
from executor.problem import Problem, StdioTest
from executor.settings import ExecutorSettings
from executor.verdict import Outcome

LINTED: dict[str, tuple[Outcome, str]] = {
    "in a branch that did not run": (Outcome.FAILURE, "n = int(input())\nif n > 9:\n    print(«misssing»)\nprint(n)\n"),
    "twice in a line": (Outcome.FAILURE, "def f():\n    return «aa» + «aa» * 2\nprint(1)"),
    "behind wide characters": (Outcome.FAILURE, "if 0:\n    π = '😀 é → ' + «yy» + '😀'\nprint('é')"),
    "tabs and line ends of Windows": (Outcome.FAILURE, "if 0:\r\n\tif 1:\r\n\t\tprint(«yy»)\r\nprint(1)\r\n"),
    "an error elsewhere": (Outcome.ERROR, "def f():\n    return «yy»\n«print([][1])»"),
    "an error on the same tokens": (Outcome.ERROR, "x = 1\n«print(yy, zz)»\n"),
    "a statement of several lines": (
        Outcome.FAILURE,
        "def f():\n    print(\n        «yy»,\n        1,\n    )\nprint(1)",
    ),
    "a comparison by identity": (Outcome.FAILURE, "x = input()\nif «x is '7'»:\n    print(5)\n"),
    "a time limit, which is all tokens' fault": (Outcome.TIMEOUT, "«if 0:\n    print(yy)\nwhile True:\n    pass\n»"),
    "a right one": (Outcome.PASS, "if 0:\n    print(yy)\nprint(5)"),
    "silenced": (Outcome.FAILURE, "# ruff: noqa\nif 0:\n    print(«yy»)  # noqa\nprint(1)"),
}
MASKED: dict[str, tuple[Outcome, str]] = {
    "a branch": (Outcome.PASS, "n = int(input())\nif n > 9:\n⟦    print('much')\n    n = 0\n⟧print(5)\n"),
    "a function": (Outcome.PASS, "def f(x):\n    'Doc.'\n⟦    return (\n        x)\n⟧print(5)"),
    "line ends of Windows": (Outcome.PASS, "if 0:\r\n⟦\tx = 'é 😀'\r\n\ty = 1\r\n⟧print(5)\r\n"),
    "after an error": (Outcome.ERROR, "x = 1\n«print([][x])»\n⟦print(x)\nprint(5)\n⟧"),
    "after a limit, which is all tokens' fault": (Outcome.TIMEOUT, "«import time\ntime.sleep(9)\n⟦print(5)\n⟧»"),
    "nothing": (Outcome.FAILURE, "print(4)\n"),
    "what does not compile": (Outcome.SYNTAX_ERROR, "x = 1\n«y = = 2»\nprint(y)"),
}
ALL = [*LINTED.values(), *MASKED.values()]


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(ExecutorSettings(wall_factor=1, wall_extra_s=0.3)) as judge:
        yield judge


@pytest.fixture(scope="module")
def linter() -> Iterator[Linter]:
    linter = Linter(rltf.Settings().linter_rules)
    yield linter
    linter.close()


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """Trained on half of the rows, so that the others meet tokens they do not know."""
    programs = [plain(program) for _, program in ALL]
    return trained(request.param, programs[::2], programs)


def plain(program: str) -> str:
    return re.sub("[«»⟦⟧]", "", program)


def places(marked: str, opening: str, closing: str) -> list[tuple[int, int]]:
    """The characters between the marks, as they are counted without any mark."""
    found, at, start = [], 0, 0
    for character in marked:
        if character == opening:
            start = at
        elif character == closing:
            found.append((start, at))
        at += character not in "«»⟦⟧"
    return found


class Scored:
    """A marked program in a response, judged, linted and scored."""

    def __init__(self, judge: Judge, tokenizer: Any, marked: str, findings: list[Finding], **settings: Any) -> None:
        source = plain(marked)
        self.response = response_with(source)
        ids = encoded(tokenizer, self.response)
        found = extract_program(self.response, "python")
        assert found is not None
        tests = [StdioTest(input="2\n", output="5\n")]
        problem = Problem(id="p", prompt="?", kind="stdio", time_limit_s=0.5, memory_limit_mb=128, public_tests=tests)  # type: ignore[arg-type]
        reward = rltf.Reward(rltf.Settings(**settings))
        request = JudgeRequest(problem, found.text, executed_lines=reward.needs.executed_lines)
        self.verdict = judge.judge(request)
        self.offsets = token_offsets(tokenizer, ids)
        context = TurnContext(
            problem,
            self.verdict,
            self.response,
            ids,
            self.offsets,
            0,
            found.start,
            found.end,
            truncated=False,
            turn=0,
            final=True,
            findings=findings,
        )
        self.spans = reward.score(context).spans
        self.shift = self.response.index(source)

    def penalised(self) -> set[int]:
        """Tokens, none of which has two penalties."""
        tokens = [i for s in self.spans if s.kind == "penalty" for i in range(s.start, s.end)]
        assert len(tokens) == len(set(tokens))
        return set(tokens)

    def masked(self) -> set[int]:
        return {i for s in self.spans if s.kind == "mask" for i in range(s.start, s.end)}

    def tokens(self, marked: str, marks: str, *, whole: bool) -> set[int]:
        """The tokens that overlap a marked place, or that lie in it as a `whole`."""
        found = set[int]()
        for first, last in places(marked, *marks):
            start, end = first + self.shift, last + self.shift
            for number, (a, b) in enumerate(self.offsets):
                if (start <= a < b <= end) if whole else (a < end and b > start):
                    found.add(number)
        return found


@pytest.mark.parametrize("name", LINTED)
def test_a_finding_ends_on_its_tokens(judge: Judge, linter: Linter, tokenizer: Any, name: str) -> None:
    outcome, marked = LINTED[name]
    findings = asyncio.run(linter.check(plain(marked)))
    assert findings, "every row has a finding"
    scored = Scored(judge, tokenizer, marked, findings, linter=True)
    assert scored.verdict.outcome is outcome
    assert scored.penalised() == scored.tokens(marked, "«»", whole=False)
    assert scored.masked() == set()


@pytest.mark.parametrize("name", MASKED)
def test_what_did_not_run_is_masked_token_by_token(judge: Judge, tokenizer: Any, name: str) -> None:
    outcome, marked = MASKED[name]
    scored = Scored(judge, tokenizer, marked, [], executed_lines=True)
    assert scored.verdict.outcome is outcome
    assert scored.masked() == scored.tokens(marked, "⟦⟧", whole=True)
    assert bool(scored.masked()) == ("⟦" in marked)
    assert scored.penalised() == scored.tokens(marked, "«»", whole=False)
    assert all(span.value == 0 for span in scored.spans if span.kind == "mask")


def test_a_finding_where_nothing_ran_is_penalised_and_not_masked(judge: Judge, linter: Linter, tokenizer: Any) -> None:
    marked = "n = int(input())\nif n > 9:\n⟦    print(n, «yy», n * 2)\n    n = 0\n⟧print(n)\n"
    findings = asyncio.run(linter.check(plain(marked)))
    scored = Scored(judge, tokenizer, marked, findings, linter=True, executed_lines=True)
    named = scored.tokens(marked, "«»", whole=False)
    assert named and scored.penalised() == named
    assert scored.masked() == scored.tokens(marked, "⟦⟧", whole=True) - named


def test_neither_is_asked_for_by_default(judge: Judge, tokenizer: Any) -> None:
    finding = Finding(2, 1, 2, 3, "F821")
    spans: list[CreditSpan] = Scored(judge, tokenizer, "print(4)\nif 0:\n    yy\n", [finding]).spans
    assert spans == []
