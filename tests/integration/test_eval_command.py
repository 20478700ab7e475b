"""`cupel eval` with a real engine, the default model and real judges: killed half way, gone on with, asked again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "actors" / "problem_sets" / "starter" / "train.jsonl"
PROBLEMS, SAMPLES = 4, 24
KILLED_AFTER = 8  # samples
PATIENCE_S = 240

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with the problems in it."""
    lines = STARTER.read_text().splitlines(keepends=True)
    (tmp_path / "p.jsonl").write_text("".join(lines[:PROBLEMS]))
    return tmp_path


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = ["eval", "smollm2-135m-instruct", "p.jsonl", "--samples", str(SAMPLES), "--k", "1,10"]
    command += ["--max-response-tokens", "40", "--out", "r.json", *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "cluster", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    told, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, told, err


def kill_half_way(process: subprocess.Popen[str], path: Path) -> bytes:
    """The whole lines that it left."""
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists() or path.read_bytes().count(b"\n") < KILLED_AFTER:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"no samples after {PATIENCE_S} s"
        time.sleep(0.05)
    started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    there = path.read_bytes()
    kept = there[: there.rindex(b"\n") + 1]
    assert KILLED_AFTER <= kept.count(b"\n") < PROBLEMS * SAMPLES
    return kept


def wanted(folder: Path) -> list[tuple[str, int]]:
    names = [json.loads(line)["id"] for line in (folder / "p.jsonl").read_text().splitlines()]
    return sorted((name, index) for name in names for index in range(SAMPLES))


def test_a_killed_evaluation_goes_on_and_draws_no_sample_twice(folder: Path) -> None:
    path = folder / "r.samples.jsonl"
    kept = kill_half_way(start(folder), path)
    there = path.read_bytes()
    assert not (folder / "r.json").exists()

    code, told, err = end(start(folder, "--temperature", "0.5"))
    assert code == 2 and "temperature (1.0, now 0.5); --fresh" in err and told == ""
    assert path.read_bytes() == there

    code, told, err = end(start(folder))
    assert code == 0, err
    assert f"{len(kept.splitlines())} samples are there already" in err
    assert path.read_bytes().startswith(kept)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((row["problem_id"], row["index"]) for row in rows) == wanted(folder)
    turns = [turn for row in rows for turn in row["turns"]]
    assert len({turn["seed"] for turn in turns}) == len(turns) == len(rows)
    assert all(0 < turn["tokens"] <= 40 for turn in turns)
    assert all(bool(row["program"]) == (row["verdict"]["outcome"] != "no_code") for row in rows)

    result = json.loads((folder / "r.json").read_text())
    passed = sum(row["verdict"]["outcome"] == "pass" for row in rows)
    shares = [row["verdict"]["passed"] / row["verdict"]["total"] for row in rows]
    assert result["strict_accuracy"]["mean"] == pytest.approx(passed / len(rows))
    assert result["test_case_average"]["mean"] == pytest.approx(sum(shares) / len(rows))
    assert 0 < result["pass_at_k"]["1"]["mean"] <= result["pass_at_k"]["10"]["mean"]
    assert result["by_difficulty"]["difficulty 1"]["problems"] == PROBLEMS and result["not_all_judged"] == {}
    table = told[told.index("| problems") :].strip()
    assert table in (folder / "r.md").read_text()

    code, again, err = end(start(folder))
    assert (code, again) == (0, told) and "Loading" not in err
    assert path.read_text().splitlines() == [json.dumps(row) for row in rows]


def test_episodes_of_two_turns_go_on_after_a_kill_and_the_file_says_all_that_is_told(folder: Path) -> None:
    options = ("--turns", "2", "--n-at-k", "2@6")
    path = folder / "r.samples.jsonl"
    kept = kill_half_way(start(folder, *options), path)

    code, told, err = end(start(folder, *options, "--feedback", "none"))
    assert code == 2 and "other settings: feedback; --fresh" in err and told == ""

    code, told, err = end(start(folder, *options))
    assert code == 0, err
    assert path.read_bytes().startswith(kept)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((row["problem_id"], row["index"]) for row in rows) == wanted(folder)
    turns = [turn for row in rows for turn in row["turns"]]
    assert len({turn["seed"] for turn in turns}) == len(turns) > len(rows)
    for row in rows:
        *before, last = row["turns"]
        assert last["passes_all"] == (row["verdict"]["outcome"] == "pass") and row["program"] == last["program"]
        assert last["feedback"] == "" and row["ending"] in ("turns", "public_tests")
        for turn in before:
            assert not turn["passes_public"] and "Try again" in turn["feedback"]
        assert before or last["passes_public"]

    result = json.loads((folder / "r.json").read_text())
    first_right = [row["turns"][0]["passes_all"] for row in rows]
    last_right = [row["turns"][-1]["passes_all"] for row in rows]
    assert [rate["mean"] for rate in result["pass_at_1_after_turn"]] == pytest.approx(
        [sum(first_right) / len(rows), sum(last_right) / len(rows)]
    )
    assert result["n_at_k"]["1@2"] == result["strict_accuracy"] == result["pass_at_1_after_turn"][1]
    repaired = sum(last and not first for first, last in zip(first_right, last_right, strict=True))
    assert result["repaired"]["mean"] == pytest.approx(repaired / first_right.count(False))
    assert result["turns"]["mean"] == pytest.approx(len(turns) / len(rows))
    assert 0 <= result["chrf"]["mean"] <= 1 and result["out_of_context"]["mean"] == 0
    assert list(result["single_turn_n_at_k"]) == list(result["gain_over_single_turns"]) == ["1@2", "2@6"]
    assert told[told.index("n@k") :].strip() in (folder / "r.md").read_text()

    code, again, err = end(start(folder, *options))
    assert (code, again) == (0, told) and "Loading" not in err
