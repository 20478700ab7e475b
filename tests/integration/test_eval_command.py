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
PATIENCE_S = 240

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


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


def test_a_killed_evaluation_goes_on_and_draws_no_sample_twice(tmp_path: Path) -> None:
    lines = STARTER.read_text().splitlines(keepends=True)
    (tmp_path / "p.jsonl").write_text("".join(lines[:PROBLEMS]))
    path = tmp_path / "r.samples.jsonl"
    process = start(tmp_path)
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists() or path.read_bytes().count(b"\n") < 8:
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
    assert 8 <= kept.count(b"\n") < PROBLEMS * SAMPLES
    assert not (tmp_path / "r.json").exists()

    code, told, err = end(start(tmp_path, "--temperature", "0.5"))
    assert code == 2 and "temperature (1.0, now 0.5); --fresh" in err and told == ""
    assert path.read_bytes() == there

    code, told, err = end(start(tmp_path))
    assert code == 0, err
    assert f"{len(kept.splitlines())} samples are there already" in err
    assert path.read_bytes().startswith(kept)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    wanted = sorted((json.loads(line)["id"], index) for line in lines[:PROBLEMS] for index in range(SAMPLES))
    assert sorted((row["problem_id"], row["index"]) for row in rows) == wanted
    assert len({row["seed"] for row in rows}) == len(rows)
    assert all(0 < row["tokens"] <= 40 for row in rows)
    assert all(bool(row["program"]) == (row["verdict"]["outcome"] != "no_code") for row in rows)

    result = json.loads((tmp_path / "r.json").read_text())
    passed = sum(row["verdict"]["outcome"] == "pass" for row in rows)
    shares = [row["verdict"]["passed"] / row["verdict"]["total"] for row in rows]
    assert result["strict_accuracy"]["mean"] == pytest.approx(passed / len(rows))
    assert result["test_case_average"]["mean"] == pytest.approx(sum(shares) / len(rows))
    assert 0 < result["pass_at_k"]["1"]["mean"] <= result["pass_at_k"]["10"]["mean"]
    assert result["by_difficulty"]["difficulty 1"]["problems"] == PROBLEMS and result["not_all_judged"] == {}
    table = told[told.index("| problems") :].strip()
    assert table in (tmp_path / "r.md").read_text()

    code, again, err = end(start(tmp_path))
    assert (code, again) == (0, told) and "Loading" not in err
    assert path.read_text().splitlines() == [json.dumps(row) for row in rows]
