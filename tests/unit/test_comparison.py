"""Two evaluations against each other: the difference is each problem's with itself, and what cannot be compared is said."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.budget import Budget
from cluster.cli import app
from cluster.comparison import Results, compare, table
from cluster.evaluation_tallies import Tally
from executor.errors import UserError

TESTS = 4


def tally(samples: int, passed_after: list[int], public: int | None = None) -> Tally:
    passed = passed_after[-1]
    return Tally(
        samples=samples,
        passed=passed,
        tests_passed=TESTS * passed,
        passed_after=passed_after,
        public=passed if public is None else public,
        repaired=passed - passed_after[0],
    )


def results(name: str, **tallies: Tally) -> Results:
    turns = len(next(iter(tallies.values())).passed_after)
    return Results(name, tallies, dict.fromkeys(tallies, TESTS), turns)


def written(folder: Path, name: str, **tallies: Tally) -> Path:
    """A result file with what is read of one."""
    found: dict[str, Any] = {
        "max_turns": len(next(iter(tallies.values())).passed_after),
        "by_problem": {problem: {**asdict(known), "tests": TESTS} for problem, known in tallies.items()},
    }
    (folder / name).write_text(json.dumps(found), encoding="utf-8")
    return folder / name


BEFORE = results("before", a=tally(4, [0, 0]), b=tally(4, [1, 2]), c=tally(4, [4, 4]))
AFTER = results("after", a=tally(2, [0, 1]), b=tally(2, [1, 2]), c=tally(2, [2, 2]))


def test_every_problem_is_compared_with_itself() -> None:
    rows, remarks = compare([BEFORE], [AFTER])
    by_name = {row.measure: row for row in rows}
    assert remarks == []
    assert list(by_name) == [
        "pass@1",
        "pass@1 after turn 1",
        "pass@1 after turn 2",
        "repaired, of all samples",
        "test-case average",
    ]
    assert by_name["pass@1"].first.mean == pytest.approx((0 + 0.5 + 1) / 3)
    assert by_name["pass@1"].second.mean == pytest.approx((0.5 + 1 + 1) / 3)
    assert by_name["pass@1"].difference.mean == pytest.approx(1 / 3)
    assert by_name["pass@1 after turn 1"].difference.mean == pytest.approx(0.25 / 3)
    assert by_name["repaired, of all samples"].difference.mean == pytest.approx((0.5 + 0.25) / 3)
    assert by_name["test-case average"].difference.mean == pytest.approx(1 / 3)
    low, high = by_name["pass@1"].difference.low, by_name["pass@1"].difference.high
    assert -1 <= low < 1 / 3 < high <= 1


def test_an_evaluation_does_not_differ_from_itself() -> None:
    rows, _ = compare([BEFORE], [BEFORE])
    assert all((row.difference.low, row.difference.mean, row.difference.high) == (0, 0, 0) for row in rows)


def test_the_other_way_round_the_sign_is_the_other() -> None:
    there, _ = compare([BEFORE], [AFTER])
    back, _ = compare([AFTER], [BEFORE])
    assert [row.difference.mean for row in there] == pytest.approx([-row.difference.mean for row in back])


def test_seeds_that_disagree_make_a_wider_interval() -> None:
    worse = results("worse", a=tally(2, [0, 0]), b=tally(2, [0, 0]), c=tally(2, [1, 1]))
    (one, *_), _ = compare([BEFORE], [AFTER])
    (several, *_), _ = compare([BEFORE], [AFTER, worse])
    assert several.second.mean == pytest.approx((one.second.mean + 0.5 / 3) / 2)
    assert several.difference.high - several.difference.low > one.difference.high - one.difference.low


def test_problems_that_only_one_side_has_are_left_out_and_said() -> None:
    more = results("more", a=tally(2, [0, 1]), b=tally(2, [1, 2]), d=tally(2, [2, 2]))
    rows, remarks = compare([BEFORE], [more])
    assert rows[0].first.mean == pytest.approx(0.25)
    assert remarks == [
        "before: 1 problems that not every file has are left out",
        "more: 1 problems that not every file has are left out",
    ]
    with pytest.raises(UserError, match="1 judged problems in common"):
        compare([BEFORE], [results("one", a=tally(2, [0, 1]))])


def test_n_at_k_is_compared_where_the_samples_suffice() -> None:
    rows, _ = compare([BEFORE], [AFTER], [Budget(n=1, k=4)])
    row = next(row for row in rows if row.measure == "1@4")
    # Two episodes of two turns are drawn, and one handed in that passes the public tests: of b's four, two are right.
    assert row.first.mean == pytest.approx((0 + 5 / 6 + 1) / 3)
    assert row.second.mean == pytest.approx(1.0)
    with pytest.raises(UserError, match="after: 1@8 needs 4 samples a problem, and one has 2"):
        compare([BEFORE], [AFTER], [Budget(n=1, k=8)])


def test_the_table_is_signed() -> None:
    rows, _ = compare([AFTER], [BEFORE])
    assert table(rows).splitlines()[2].split(" | ")[3].startswith("-33.33 [")


def test_the_command_reads_what_an_evaluation_wrote(tmp_path: Path) -> None:
    one = written(tmp_path, "one.json", **BEFORE.tallies)
    other = written(tmp_path, "other.json", **AFTER.tallies)
    said = CliRunner().invoke(app, ["compare", str(one), f"{other},{other}", "--n-at-k", "1@2"])
    assert said.exit_code == 0, said.output
    assert "| pass@1 " in said.output and "+33.33 [" in said.output and "1@2" in said.output


@pytest.mark.parametrize(
    "text, told",
    [
        ("{", "damaged"),
        ("[]", "not a result file"),
        ('{"max_turns": 1}', "not a result file"),
        ('{"max_turns": 1, "by_problem": {"a": {"samples": "many", "tests": 1}}}', "not a result file"),
    ],
)
def test_what_is_no_result_file_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=told):
        Results.read(path)
    with pytest.raises(UserError, match="there is no such file; cupel eval --out"):
        Results.read(tmp_path / "none.json")
