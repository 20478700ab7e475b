"""Models that vLLM does not run, from the command line and in a learner: a T5 and a CodeGen, tiny and random."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
