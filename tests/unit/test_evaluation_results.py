"""Tables of an evaluation: means over problems, missing problems left out or counted as 0, levels by name."""

from __future__ import annotations

import pytest

from cluster.benchmark import OTHER, benchmark_of
from cluster.evaluation_results import Row, incomplete, needed, notes, summarise, table
from cluster.evaluation_tallies import Tally
from cluster.statistics import Interval
from executor.problem import Problem


def problem(name: str, difficulty: int | None = None, tests: int = 4) -> Problem:
    cases = [{"input": str(number), "output": ""} for number in range(tests)]
    return Problem.model_validate(
        {"id": name, "prompt": "p", "kind": "stdio", "private_tests": cases, "difficulty": difficulty}
    )


APPS = [problem("apps/0", 2), problem("apps/1", 2), problem("apps/2", 5), problem("apps/3", 5)]
# Golden case D02: two of four problems have samples, 3 and 20 of 20 pass.
D02 = {
    "apps/0": Tally(samples=20, passed=3, tests_passed=40),
    "apps/1": Tally(samples=20, passed=20, tests_passed=80),
    "apps/2": Tally(),
    "apps/3": Tally(),
}


def mean(interval: Interval | None) -> float:
    assert interval is not None
    assert 0.0 <= interval.low <= interval.mean <= interval.high <= 1.0
    return interval.mean


def test_missing_problems_count_as_zero_where_that_is_asked_for() -> None:
    everything, introductory, competition = summarise(APPS, D02, [1], benchmark_of(APPS).name, missing_as_zero=True)
    assert mean(everything.pass_at_k[1]) == pytest.approx(0.2875)
    assert mean(everything.test_case_average) == pytest.approx((0.5 + 1.0) / 4)
    assert (introductory.name, competition.name) == ("introductory", "competition")
    assert mean(introductory.pass_at_k[1]) == pytest.approx(0.575)
    assert mean(competition.pass_at_k[1]) == 0.0


def test_missing_problems_are_left_out_otherwise() -> None:
    everything, introductory, competition = summarise(APPS, D02, [1], benchmark_of(APPS).name)
    assert mean(everything.pass_at_k[1]) == mean(introductory.pass_at_k[1]) == pytest.approx(0.575)
    assert (everything.problems, everything.judged) == (4, 2)
    assert competition.pass_at_k == {1: None} and competition.test_case_average is None
    assert competition.as_json()["strict_accuracy"] is None


def test_pass_at_k_is_of_problems_with_k_samples() -> None:
    tallies = {"a": Tally(1000, 4, 0), "b": Tally(999, 999, 0)}
    problems = [problem("a"), problem("b")]
    (row,) = summarise(problems, tallies, [1000], OTHER.name)
    assert list(row.pass_at_k) == [1, 1000]
    assert mean(row.pass_at_k[1000]) == 1.0 and mean(row.pass_at_k[1]) == pytest.approx((0.004 + 1) / 2)
    (row,) = summarise(problems, tallies, [1000], OTHER.name, missing_as_zero=True)
    assert mean(row.pass_at_k[1000]) == 0.5 and mean(row.pass_at_k[1]) == pytest.approx((0.004 + 1) / 2)


def test_numbers_name_difficulties_where_the_benchmark_has_no_names() -> None:
    problems = [problem("starter/a", 3), problem("starter/b", 1), problem("starter/c")]
    rows = summarise(problems, {p.id: Tally(1, 1, 4) for p in problems}, [1], benchmark_of(problems).name)
    assert [(row.name, row.problems) for row in rows] == [("all", 3), ("difficulty 1", 1), ("difficulty 3", 1)]


def test_papers_settings_are_those_of_the_benchmark_that_all_problems_are_from() -> None:
    mbpp = [problem("mbpp/11"), problem("mbpp/12")]
    assert (benchmark_of(APPS).temperature, benchmark_of(APPS).top_p) == (0.6, 0.95)
    assert (benchmark_of(mbpp).temperature, benchmark_of(mbpp).top_p) == (1.2, 0.95)
    for name in ("code_contests/aizu/p00001", "humanevalplus/1", "mbppplus/2", "livecodebench/abc301_a"):
        assert (benchmark_of([problem(name)]).temperature, benchmark_of([problem(name)]).top_p) == (0.2, 0.95)
    assert benchmark_of([problem("livecodebench/1")]).name(3) == "medium"
    assert benchmark_of([*APPS, *mbpp]) is benchmark_of([problem("mine")]) is OTHER
    assert (OTHER.temperature, OTHER.top_p) == (1.0, 1.0)


def test_problems_that_were_not_judged_are_named() -> None:
    lacking = incomplete(D02, needed([10]), 20, {"apps/2": "a judging process was lost"})
    assert list(lacking) == ["apps/2", "apps/3"]
    assert lacking["apps/2"] == {
        "judged_samples": 0,
        "too_few_for": ["pass@1", "pass@10"],
        "reason": "a judging process was lost",
    }
    for zero, fate in ((False, "are left out"), (True, "count as 0")):
        (told,) = notes(lacking, needed([10]), zero)
        assert told.startswith("pass@1, pass@10: ") and fate in told and told.endswith("apps/2, apps/3")
    many = incomplete({f"p{number}": Tally() for number in range(12)}, needed([1]), 1, {})
    assert notes(many, needed([1]), False)[0].endswith("p8, p9 and 2 more")
    some = incomplete({"a": Tally(19, 0, 0)}, needed([20]), 20, {})
    assert [line.partition(":")[0] for line in notes(some, needed([20]), False)] == ["pass@20"]
    assert notes({}, needed([1]), False) == []


def test_the_table_is_markdown_with_aligned_columns() -> None:
    rates = {1: Interval(0.0145, 0.01, 0.02), 1000: None}
    rows = [Row("all", 5000, 4999, rates, Interval(0.5, 0.4, 0.6)), Row("interview", 1, 1, rates, None)]
    lines = table(rows).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["problems", "number", "strict accuracy (pass@1)", "pass@1000", "test-case average"]
    assert set("".join(cells[1])) == {"-"}
    assert cells[2] == ["all", "4999 of 5000", "1.45 [1.00, 2.00]", "-", "50.00 [40.00, 60.00]"]
    assert cells[3] == ["interview", "1", "1.45 [1.00, 2.00]", "-", "-"]
    assert len({len(line) for line in lines}) == 1
