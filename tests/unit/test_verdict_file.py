"""The growing file of verdicts: wherever a writer is cut off, the next one goes on after the last whole verdict."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.errors import UserError
from executor.problem import Sample
from executor.verdict import Outcome
from executor.verdict_file import VerdictFile, digest

MADE_WITH = {"form": 1, "problems": "p"}
SAMPLES = [Sample(problem_id="p", program=f"print({number})") for number in range(5)]
DIGESTS = [digest(sample, index) for index, sample in enumerate(SAMPLES)]
LINES = [json.dumps({"index": index, "outcome": "pass", "text": "\u4f60" * index}) for index in range(len(SAMPLES))]


def grow(file: VerdictFile, upto: int = len(SAMPLES)) -> None:
    for number in range(file.earlier):
        assert file.earlier_is(number, DIGESTS[number])
    for number in range(file.earlier, upto):
        file.add(DIGESTS[number], LINES[number], Outcome.PASS)


def part(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "v.jsonl", folder / "v.jsonl.part", folder / "v.jsonl.resume"


@settings(max_examples=100)
@given(written=st.integers(0, 5), cut=st.integers(0, 200), cut_digests=st.integers(0, 100), torn=st.binary(max_size=9))
def test_it_is_the_same_file_wherever_it_was_cut_off(written: int, cut: int, cut_digests: int, torn: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        out, growing, resume = part(Path(name))
        with VerdictFile(out, MADE_WITH) as file:
            grow(file, written)
        # A kill cuts off; a machine that goes down may leave zeros, and of the verdicts anything.
        for path, less, more in ((growing, cut, torn), (resume, cut_digests, bytes(len(torn)))):
            if path.exists():
                whole = path.read_bytes()
                path.write_bytes(whole[: max(0, len(whole) - less)] + more)
        with VerdictFile(out, MADE_WITH) as file:
            assert file.earlier <= written
            grow(file)
            file.finish()
        assert out.read_text().splitlines() == LINES
        assert [path.name for path in Path(name).iterdir()] == ["v.jsonl"]


def test_nothing_is_lost_that_was_written(tmp_path: Path) -> None:
    out, growing, _ = part(tmp_path)
    with VerdictFile(out, MADE_WITH) as file:
        grow(file, 3)
    assert growing.read_text().splitlines() == LINES[:3] and not out.exists()
    with VerdictFile(out, MADE_WITH) as file:
        assert file.earlier == 3 and file.outcomes == {Outcome.PASS: 3}
        assert not file.earlier_is(1, DIGESTS[2])


def test_what_was_made_otherwise_is_told_and_kept(tmp_path: Path) -> None:
    out, growing, _ = part(tmp_path)
    with VerdictFile(out, MADE_WITH) as file:
        grow(file, 3)
    with pytest.raises(UserError, match=r"v\.jsonl\.part holds 3 verdicts .* with other problems;\n.*--fresh"):
        VerdictFile(out, {**MADE_WITH, "problems": "q"})
    assert growing.read_text().splitlines() == LINES[:3]
    with VerdictFile(out, {**MADE_WITH, "problems": "q"}, fresh=True) as file:
        assert file.earlier == 0
    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time(tmp_path: Path) -> None:
    out, _, _ = part(tmp_path)
    with VerdictFile(out, MADE_WITH) as file:
        grow(file, 1)
        with pytest.raises(UserError, match="another process is writing"):
            VerdictFile(out, MADE_WITH, fresh=True)
        grow_on = VerdictFile(tmp_path / "w.jsonl", MADE_WITH)
        grow_on.close()
        file.finish()
    assert out.read_text().splitlines() == LINES[:1]
    VerdictFile(out, MADE_WITH).close()


def test_only_a_regular_file_is_written(tmp_path: Path) -> None:
    for place in (tmp_path, Path("/dev/null")):
        with pytest.raises(UserError, match="not a regular file"):
            VerdictFile(place, MADE_WITH)
    with pytest.raises(UserError, match="No such file"):
        VerdictFile(tmp_path / "no" / "v.jsonl", MADE_WITH)


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out, _, _ = part(tmp_path)
    out.write_text("older\n")
    with VerdictFile(out, MADE_WITH) as file:
        grow(file)
        assert out.read_text() == "older\n"
        file.finish()
    assert out.read_text().splitlines() == LINES
