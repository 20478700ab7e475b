"""The growing file of samples: wherever a writer is cut off, the next one goes on, and draws no sample twice."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.evaluation_samples import SampleFile, differences
from cluster.evaluation_tallies import JudgedSample, JudgedTurn, Sampled, Tally, seed_of
from executor.errors import UserError
from executor.problem import Sample
from executor.verdict import ErrorInfo, Outcome, Verdict

MADE_WITH = {"form": 1, "model": "m", "temperature": 1.0, "seed": 0}
PROBLEMS = ["a", "b"]
WANTED = [(problem_id, index) for problem_id in PROBLEMS for index in range(3)]


def line(problem_id: str, index: int, outcome: Outcome = Outcome.PASS, passed: int = 2) -> JudgedSample:
    passes = outcome is Outcome.PASS
    turn = JudgedTurn(
        seed=seed_of(0, problem_id, index, 0),
        response="r\n\u4f60",
        program="print()",
        tokens=3,
        finish_reason="stop",
        outcome=outcome,
        passes_public=passes,
        passes_all=passes,
    )
    # A program may write half a surrogate pair, which no UTF-8 file holds as it is.
    verdict = Verdict(problem_id=problem_id, index=index, outcome=outcome, passed=passed, total=4)
    verdict.error = ErrorInfo(type="E", message="\ud800")
    return JudgedSample(
        problem_id=problem_id, index=index, program="print()", verdict=verdict, ending="turns", turns=[turn]
    )


ALL_PASS = Tally(samples=3, passed=3, tests_passed=6, passed_after=[3], public=3, first_public=3, turns=3)


def write(path: Path, samples: list[tuple[str, int]], **options: bool) -> None:
    with SampleFile(path, MADE_WITH, Sampled(PROBLEMS, 3), **options) as file:
        for problem_id, index in samples:
            file.add(line(problem_id, index))


def read(path: Path, samples: int = 3) -> Sampled:
    sampled = Sampled(PROBLEMS, samples)
    SampleFile(path, MADE_WITH, sampled).close()
    return sampled


@settings(max_examples=60)
@given(order=st.permutations(WANTED), written=st.integers(0, 6), cut=st.integers(0, 400))
def test_it_holds_each_sample_once_wherever_it_was_cut_off(
    order: list[tuple[str, int]], written: int, cut: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "r.samples.jsonl"
        write(path, order[:written])
        whole = path.read_bytes()
        path.write_bytes(whole[: max(0, len(whole) - cut)])
        sampled = Sampled(PROBLEMS, 3)
        with SampleFile(path, MADE_WITH, sampled) as file:
            assert sampled.count == path.read_bytes().count(b"\n") <= written
            for problem_id, index in sampled.missing():
                file.add(line(problem_id, index))
                sampled.add(line(problem_id, index))
        rows = [json.loads(text) for text in path.read_text().splitlines()]
        assert sorted((row["problem_id"], row["index"]) for row in rows) == WANTED
        assert read(path).tallies == sampled.tallies == dict.fromkeys(PROBLEMS, ALL_PASS)


def test_more_samples_may_be_asked_for_later_and_fewer(tmp_path: Path) -> None:
    path = tmp_path / "r.samples.jsonl"
    write(path, WANTED)
    assert list(read(path, 4).missing()) == [("a", 3), ("b", 3)]
    fewer = read(path, 2)
    assert list(fewer.missing()) == [] and fewer.count == 4


def test_what_is_drawn_meanwhile_is_not_drawn_again() -> None:
    sampled = Sampled(PROBLEMS, 2)
    missing = sampled.missing()
    assert next(missing) == ("a", 0)
    sampled.add(line("a", 1, Outcome.FAILURE, 1))
    sampled.add(line("a", 1, Outcome.PASS, 4))
    assert list(missing) == [("b", 0), ("b", 1)]
    assert sampled.tallies["a"] == Tally(samples=1, tests_passed=1, turns=1) and sampled.outcomes == {
        Outcome.FAILURE: 1
    }


def test_other_settings_are_told_in_one_line_and_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.samples.jsonl"
    write(path, WANTED[:2])
    before = path.read_bytes()
    with pytest.raises(
        UserError, match=r"other settings: model, temperature \(1.0, now 0.6\); --fresh starts anew"
    ) as told:
        SampleFile(path, {**MADE_WITH, "temperature": 0.6, "model": "n"}, Sampled(PROBLEMS, 3))
    assert "\n" not in str(told.value) and path.read_bytes() == before
    (tmp_path / "r.samples.settings.json").unlink()
    with pytest.raises(UserError, match="other settings: form"):
        read(path)
    write(path, WANTED[:1], fresh=True)
    assert read(path).count == 1


def test_settings_that_are_not_there_are_other_ones() -> None:
    assert differences({"seed": 1}, {"seed": 1, "top_p": 0.95}) == "top_p"
    assert differences(MADE_WITH, dict(MADE_WITH)) == ""


@pytest.mark.parametrize("damage", ["nonsense", "{}", '{"problem_id": "c", "index": 0}', "[]"])
def test_a_damaged_line_is_told_with_its_number_and_kept(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "r.samples.jsonl"
    write(path, WANTED)
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], damage, *rows[2:]]) + "\n")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"r\.samples\.jsonl:2: not a sample of this evaluation; --fresh"):
        read(path)
    assert path.read_bytes() == before


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "r.samples.jsonl"
    with SampleFile(path, MADE_WITH, Sampled(PROBLEMS, 3)) as file:
        file.add(line("a", 0))
        with pytest.raises(UserError, match="another process is writing these samples"):
            SampleFile(path, MADE_WITH, Sampled(PROBLEMS, 3), fresh=True)
    assert read(path).count == 1
    with pytest.raises(UserError, match="No such file"):
        read(tmp_path / "no" / "r.samples.jsonl")


def test_the_judge_reads_its_lines_as_samples(tmp_path: Path) -> None:
    path = tmp_path / "r.samples.jsonl"
    write(path, WANTED[:1])
    assert Sample.model_validate(json.loads(path.read_text())) == Sample(problem_id="a", program="print()")


def test_every_response_has_a_seed_of_its_own() -> None:
    seeds = {
        seed_of(seed, name, index, turn)
        for seed in (0, 1)
        for name in ("a", "a/1")
        for index in range(500)
        for turn in range(3)
    }
    assert len(seeds) == 6000 and all(0 <= seed < 1 << 53 for seed in seeds)
    assert seed_of(0, "a", 0, 1) == seed_of(0, "a", 0, 1)
