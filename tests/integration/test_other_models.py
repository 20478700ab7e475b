"""Models that vLLM does not run, from the command line and in a learner: a T5 and a CodeGen, tiny and random."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_such_a_model_is_evaluated_without_vllm(other_model_folder: Path, tmp_path: Path) -> None:
    problem = {"id": "add", "prompt": "Add.", "kind": "function", "entry_point": "add"}
    problem |= {"private_tests": [{"args": [1, 2], "expected": 3}]}
    problems, out = tmp_path / "problems.jsonl", tmp_path / "out.json"
    problems.write_text(json.dumps(problem) + "\n")
    code = "import sys; from cluster.cli import app; app(standalone_mode=False); sys.exit(3 if 'vllm' in sys.modules else 0)"
    options = ["--samples", "4", "--max-response-tokens", "8", "--k", "1"]
    done = subprocess.run(
        [sys.executable, "-c", code, "eval", other_model_folder, problems, *options, "--out", out],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(out.read_text())["by_problem"]["add"]["samples"] == 4
    assert "Traceback" not in done.stderr


def test_vllm_for_an_encoder_decoder_is_refused_before_anything_starts(t5_folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cluster",
            "train",
            f"model={t5_folder}",
            "engine.backend=vllm",
            f"run.directory={tmp_path}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "engine.backend=vllm: tiny-t5 is an encoder-decoder (t5)" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_such_a_model_is_trained_and_its_engine_follows(other_model_folder: Path, tmp_path: Path) -> None:
    settings = [
        f"model={other_model_folder}",
        f"run.directory={tmp_path}",
        "run.name=run",
        "run.steps=3",
        "run.checkpoint_every=3",
        "problems.limit=4",
        "problems.held_out=null",
        "rollout.samples_per_problem=2",
        "rollout.max_prompt_tokens=900",
        "rollout.max_response_tokens=24",
        "rollout.worked_examples=0",
        "learner.groups_per_step=2",
        "learner.learning_rate=1e-3",
        "learner.autocast=none",
        "algorithm.loss.supervised_weight=1",  # a random model passes nothing: without references it would stand still
        "engine.kv_cache_gib=0.25",
        "ray.dashboard=false",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "train", *settings],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [step["policy_version"] for step in steps] == [1, 2, 3]
    for step in steps:
        assert step["gradient_norm"] > 0
        assert step["probe_difference"] < 1e-3
        assert step["log_prob_mismatch"] < 1e-3 or step["staleness_max"] > 0
    assert [step["probe_slope"] for step in steps] == pytest.approx([1.0] * 3, abs=0.05)
    assert (tmp_path / "run" / "checkpoints" / "step_3" / "model.safetensors").exists()
