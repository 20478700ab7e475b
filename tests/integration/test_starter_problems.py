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
from typing import Any

import pytest

from actors.problem_sets import starter
from executor.feedback import feedback
from executor.judging import Judge, JudgeRequest
from executor.problem import FunctionTest, Problem, StdioTest, Test
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict

FOLDER = Path(starter.__file__).parent / "starter"


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


SECOND_TRY_TRAIN, SECOND_TRY_HELD_OUT = map(starter.load, starter.SECOND_TRY_HALVES)
SECOND_TRY = [*SECOND_TRY_TRAIN, *SECOND_TRY_HELD_OUT]
TRAIN, HELD_OUT = [*starter.load("train"), *SECOND_TRY_TRAIN], [*starter.load("held_out"), *SECOND_TRY_HELD_OUT]
PROBLEMS = {problem.id: problem for problem in [*TRAIN, *HELD_OUT]}
SECOND_TRY_WRONG = rows("second_try_wrong.jsonl")
"""With `other_reading`: whether the program takes the statement at its word and another of its readings."""
WRONG = [*rows("wrong.jsonl"), *SECOND_TRY_WRONG]


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
    assert len(TRAIN) - len(SECOND_TRY_TRAIN) >= 160
    assert len(HELD_OUT) - len(SECOND_TRY_HELD_OUT) >= 80
    assert len(SECOND_TRY_TRAIN) >= 96
    assert len(SECOND_TRY_HELD_OUT) >= 48
    assert len(PROBLEMS) == len(TRAIN) + len(HELD_OUT)


@pytest.mark.parametrize("half", [*starter.HALVES, *starter.SECOND_TRY_HALVES])
def test_two_thirds_are_functions_and_a_third_programs(half: str) -> None:
    problems = starter.load(half)
    kinds = Counter(problem.kind for problem in problems)
    assert set(kinds) == {"function", "stdio"}
    assert kinds["function"] / len(problems) == pytest.approx(2 / 3, abs=0.05)


def test_every_problem_has_tests_enough_and_none_twice() -> None:
    guessed = {problem.id for problem in SECOND_TRY}
    for problem in PROBLEMS.values():
        assert len(problem.public_tests) >= (1 if problem.id in guessed else 2), problem.id
        assert len(problem.private_tests) >= (4 if problem.id in guessed else 5), problem.id
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


def test_both_second_try_halves_have_the_same_families_and_no_constant_in_common() -> None:
    families = [Counter(problem.topics[0] for problem in half) for half in (SECOND_TRY_TRAIN, SECOND_TRY_HELD_OUT)]
    assert families[0] == {name: 2 * count for name, count in families[1].items()}
    assert constants(SECOND_TRY_TRAIN) & constants(SECOND_TRY_HELD_OUT) == set()


def constants(problems: list[Problem]) -> set[str | int]:
    """Words in the references; numbers too where they are what is open."""
    found: set[str | int] = set()
    for problem in problems:
        nodes = [node for text in problem.references for node in ast.walk(ast.parse(text))]
        values = [node.value for node in nodes if isinstance(node, ast.Constant)]
        found |= {value.strip() for value in values if isinstance(value, str) and len(value.strip()) > 1}
        if problem.topics[0] in ("number", "fixed result"):
            found |= {value for value in values if isinstance(value, int)}
    return found


def test_every_second_try_problem_has_another_reading() -> None:
    assert {row["problem_id"] for row in SECOND_TRY_WRONG if row["other_reading"]} == {p.id for p in SECOND_TRY}


def test_feedback_tells_another_reading_what_is_wanted(judge: Judge) -> None:
    """It fails public tests by what it gives, never by an error, and is told in full what all of these expect."""
    readings = [(PROBLEMS[row["problem_id"]], row["program"]) for row in SECOND_TRY_WRONG if row["other_reading"]]

    def told(pair: tuple[Problem, str]) -> bool:
        problem, program = pair
        verdict = judge.judge(JudgeRequest(problem, program, tests="public"))
        outcomes = {result.outcome for result in verdict.tests}
        if Outcome.FAILURE not in outcomes or not outcomes <= {Outcome.FAILURE, Outcome.PASS}:
            return False
        lines = [line.strip() for line in feedback(problem, program, verdict).splitlines()]
        return all(
            line.strip() in lines
            for test, result in zip(problem.public_tests, verdict.tests, strict=True)
            if result.outcome is Outcome.FAILURE
            for line in expected(test).splitlines()
        )

    with ThreadPoolExecutor(2) as threads:
        untold = [pair for pair, was_told in zip(readings, threads.map(told, readings), strict=True) if not was_told]
    assert [(problem.id, program) for problem, program in untold] == []


def expected(test: Test) -> str:
    if isinstance(test, StdioTest):
        return test.output
    assert isinstance(test, FunctionTest)
    return repr(test.expected)


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
