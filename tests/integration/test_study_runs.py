"""A study of real runs, with a tiny random model: interrupted, gone on with, told in one table."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def start(study: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cluster", "study", str(study), "--out", str(out)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_that_was_interrupted_is_gone_on_with(codegen_folder: Path, tmp_path: Path) -> None:
    settings = {
        "model.name": str(codegen_folder),
        "run.steps": 2,
        "problems.limit": 4,
        "problems.held_out_limit": 3,
        "rollout.samples_per_problem": 2,
        "rollout.max_prompt_tokens": 900,
        "rollout.max_response_tokens": 16,
        "rollout.worked_examples": 0,
        "learner.groups_per_step": 2,
        "learner.autocast": "none",
        "engine.kv_cache_gib": 0.25,
        "evaluation.before": False,
        "evaluation.samples": 2,
    }
    rows = [{"name": "one"}, {"name": "two", "settings": {"algorithm.reward.fine": False}}]
    study, out = tmp_path / "study.yaml", tmp_path / "out"
    study.write_text(yaml.safe_dump({"question": "Which?", "seeds": [3], "settings": settings, "rows": rows}))
    first = start(study, out)
    deadline = time.monotonic() + 300
    while not (out / "two" / "seed_3" / "status.json").exists():  # the first run is over then
        assert first.poll() is None and time.monotonic() < deadline, first.communicate()
        time.sleep(0.2)
    first.terminate()  # the study alone: it asks its run to stop
    _, said = first.communicate(timeout=120)
    assert first.returncode == 130 and "Traceback" not in said, said
    assert psutil.pid_exists(json.loads((out / "two" / "seed_3" / "status.json").read_text())["pid"]) is False
    finished = (out / "one" / "seed_3" / "summary.json").stat().st_mtime_ns

    again = start(study, out)
    table, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert "2 runs" in said and "1 of them to do" in said
    assert (out / "one" / "seed_3" / "summary.json").stat().st_mtime_ns == finished
    assert "| one | 1 |" in table and "| two | 1 |" in table
    results = json.loads((out / "results.json").read_text())
    assert [(row["problems"], row["samples"]) for row in results["rows"]] == [(3, 2), (3, 2)]
    assert not list(out.glob("*/*/checkpoints/*"))  # weights are not kept unless asked for


def test_a_run_that_fails_ends_the_study_with_its_last_words(tmp_path: Path) -> None:
    row = {"name": "plain", "settings": {"model.name": str(tmp_path / "no_model"), "run.steps": 1}}
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump({"question": "Which?", "seeds": [0], "rows": [row]}))
    process = start(study, tmp_path / "out")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "plain, seed 0 ended with exit code 2" in said and "no_model" in said
    assert "Traceback" not in said
