"""The starter problems: enough of them, no task in both halves, and tests that tell right from wrong."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest

from actors.problem_sets import starter
from executor.judging import Judge, JudgeRequest
from executor.problem import Problem
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict

TRAIN, HELD_OUT = starter.load("train"), starter.load("held_out")
PROBLEMS = {problem.id: problem for problem in [*TRAIN, *HELD_OUT]}
WRONG = [
    json.loads(line)
    for line in (Path(starter.__file__).parent / "starter" / "wrong.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(ExecutorSettings(slots=2)) as judge:
        yield judge


def all_verdicts(judge: Judge, programs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Verdicts in order, two programs at a time, each up to its first failure."""

    def ask(pair: tuple[Problem, str]) -> Verdict:
        return judge.judge(JudgeRequest(*pair, stop_at_first_failure=True))

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(ask, programs))


def test_both_halves_are_large_enough_and_no_id_comes_twice() -> None:
    assert len(TRAIN) >= 160
    assert len(HELD_OUT) >= 80
    assert len(PROBLEMS) == len(TRAIN) + len(HELD_OUT)


@pytest.mark.parametrize("half", [TRAIN, HELD_OUT], ids=["train", "held_out"])
def test_two_thirds_are_functions_and_a_third_programs(half: list[Problem]) -> None:
    kinds = Counter(problem.kind for problem in half)
    assert set(kinds) == {"function", "stdio"}
    assert kinds["function"] / len(half) == pytest.approx(2 / 3, abs=0.05)


def test_every_problem_has_tests_enough_and_none_twice() -> None:
    for problem in PROBLEMS.values():
        assert len(problem.public_tests) >= 2, problem.id
        assert len(problem.private_tests) >= 5, problem.id
        given = [
            json.dumps(test.model_dump(exclude={"expected", "output"}))
            for test in [*problem.public_tests, *problem.private_tests]
        ]
        assert len(set(given)) == len(given), problem.id


def test_references_pass(judge: Judge) -> None:
    programs = [(problem, text) for problem in PROBLEMS.values() for text in problem.references]
    assert {problem.id for problem, _ in programs} == set(PROBLEMS)
    verdicts = all_verdicts(judge, programs)
    assert [(v.problem_id, v.outcome, v.error) for v in verdicts if v.outcome is not Outcome.PASS] == []


def test_every_problem_has_wrong_programs() -> None:
    counts = Counter(row["problem_id"] for row in WRONG)
    assert set(counts) == set(PROBLEMS)
    assert {name for name, count in counts.items() if count < 2} == set()


def test_every_wrong_program_fails(judge: Judge) -> None:
    verdicts = all_verdicts(judge, [(PROBLEMS[row["problem_id"]], row["program"]) for row in WRONG])
    wrongly = [
        (row["problem_id"], row["why"], verdict.outcome)
        for row, verdict in zip(WRONG, verdicts, strict=True)
        if verdict.outcome in (Outcome.PASS, Outcome.INFRASTRUCTURE)
    ]
    assert wrongly == []


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """Three words or signs at a time."""
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def similarity(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    """Jaccard: what both have, as a share of what either has."""
    return len(one & other) / len(one | other)


def test_no_statement_of_one_half_is_nearly_one_of_the_other() -> None:
    there = [(problem.id, shingles(problem.prompt)) for problem in HELD_OUT]
    here = [(problem.id, shingles(problem.prompt)) for problem in TRAIN]
    twins = [(a, b, round(similarity(x, y), 2)) for (a, x), (b, y) in product(here, there) if similarity(x, y) >= 0.75]
    assert twins == []


def body(program: str) -> str:
    """The program without comments and layout, its entry point and variables named by where they first come."""
    tree = ast.parse(program)
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    text, order = ast.unparse(tree), defaultdict[str, str](lambda: f"name{len(order)}")
    return re.sub(r"\b[A-Za-z_]\w*\b", lambda found: order[found[0]] if found[0] in bound else found[0], text)


def same_solutions() -> set[tuple[str, str]]:
    """Problems of the two halves that one and the same program solves, but for its names."""
    solutions: defaultdict[str, set[str]] = defaultdict(set)
    for problem in HELD_OUT:
        for text in problem.references:
            solutions[body(text)].add(problem.id)
    return {(p.id, other) for p in TRAIN for text in p.references for other in solutions.get(body(text), ())}


def test_no_solution_of_one_half_solves_the_other() -> None:
    assert same_solutions() == set()
