"""What a person gets wrong: one or two clear lines, exit code 2, nothing half-written. Real `cupel` processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROBLEM = {
    "id": "p",
    "prompt": "Add.",
    "kind": "function",
    "entry_point": "f",
    "private_tests": [{"args": [], "expected": 1}],
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with files that are wrong in ways of their own."""
    whole = json.dumps(PROBLEM)
    (tmp_path / "good.jsonl").write_text(whole + "\n")
    (tmp_path / "broken.jsonl").write_text(whole + '\n{"id": \n')
    (tmp_path / "untested.jsonl").write_text(json.dumps({**PROBLEM, "private_tests": []}) + "\n")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "twice.jsonl").write_text(whole + "\n" + whole + "\n")
    (tmp_path / "stranger.jsonl").write_text(json.dumps({"problem_id": "q", "program": ""}) + "\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "typo.yaml").write_text("run:\n  step: 3\n")
    (tmp_path / "torn.yaml").write_text("run: [\n")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"")
    (tmp_path / "a_file").write_text("")
    taken = tmp_path / "runs" / "taken"
    taken.mkdir(parents=True)
    return tmp_path


def listing(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


CASES = [
    ("train run.step=3", "run.step: unknown key; known here: directory"),
    ("train run.steps=three", "run.steps='three'"),
    ("train run.steps=-1", "run.steps=-1"),
    ("train learner.micro_batch_tokens=64", "cannot hold one episode"),
    ("train buffer.kind=online buffer.capacity=1", "buffer.capacity=1 is less than"),
    ("train algorithm.name=ppo", "ppo"),
    ("train nothing.yaml", "configuration nothing.yaml: No such file or directory"),
    ("train list.yaml", "expected sections, found list"),
    ("train typo.yaml", "run.step: unknown key"),
    ("train torn.yaml", "is not YAML"),
    ("train good.jsonl typo.yaml", "one configuration file at a time"),
    ("train --dry-run problems.train=nothing.jsonl", "nothing.jsonl: No such file or directory"),
    ("train --dry-run problems.train=broken.jsonl", "broken.jsonl:2: not JSON"),
    ("train --dry-run problems.train=untested.jsonl", "untested.jsonl:1: "),
    ("train --dry-run problems.train=empty.jsonl", "empty.jsonl: no problems"),
    ("train --dry-run problems.train=twice.jsonl", "problem 'p' is already on line 1"),
    ("train --dry-run problems.train=good.jsonl problems.held_out=good.jsonl", "share 1 problems, 'p' among them"),
    ("train --dry-run problems.train=mbbp:x", "problem set 'mbbp:x' is not known"),
    ("train --dry-run model=model", "has no tokenizer"),
    ("train --dry-run model=./nothing", "no such folder"),
    ("train --resume nowhere", "nowhere: no such folder"),
    ("train --resume model", "not a run folder: it has no config.yaml"),
    ("train typo.yaml --resume runs/taken", "leave out typo.yaml"),
    ("judge nothing.jsonl good.jsonl", "nothing.jsonl: No such file or directory"),
    ("judge broken.jsonl good.jsonl", "broken.jsonl:2: not JSON"),
    ("judge good.jsonl stranger.jsonl --out verdicts.jsonl", "stranger.jsonl:1: no problem 'q'"),
    ("judge good.jsonl good.jsonl --workers 0", "workers"),
    ("problems nothing --out x.jsonl", "problem set 'nothing' is not known"),
    ("problems broken.jsonl --out x.jsonl", "broken.jsonl:2: not JSON"),
    ("problems good.jsonl --out a_file/x.jsonl", "x.jsonl could not be written: Not a directory"),
    ("problems mbpp:good.jsonl --out x.jsonl", "good.jsonl:1: not a row of MBPP"),
    ("problems humaneval:nothing.jsonl --out x.jsonl", "nothing.jsonl: no such file or folder; a set is a file"),
    ("problems apps:model --check", "model: not a folder of data files"),
    ("problems mbpp:good.jsonl#tset --check", "MBPP has one of the parts few_shot, test, validation, train"),
    ("problems starter", "give --out FILE.jsonl to write the problems, --check to run their references, or both"),
    ("problems starter --out x.jsonl --references 2", "add --check"),
    ("eval model starter:held_out --turns 0", "turns"),
    ("eval model starter:held_out --feedback loud", "feedback"),
    (
        "eval model starter:held_out --n-at-k 3",
        "give programs handed in, @ and as many responses or more, like 1@3,10@100",
    ),
    ("eval model starter:held_out --turns 3 --n-at-k 10@100", "--samples 33 would do"),
    ("eval model starter:held_out --samples 4 --k 1,10", "--samples 10 would do"),
    ("eval model starter:held_out --k many", "give numbers like 1,10"),
    ("eval model starter:held_out --out results", "a name that ends in .json"),
    ("eval model starter:held_out --fresh", "without --out nothing is kept"),
    ("eval model broken.jsonl", "broken.jsonl:2: not JSON"),
    ("report nowhere", "nowhere: no such folder"),
    ("report model", "not a run folder"),
    ("status nowhere", "nowhere: no such folder"),
    ("stop model", "not a run folder"),
]


@pytest.mark.parametrize("command, message", CASES, ids=[c for c, _ in CASES])
def test_a_mistake_is_told_in_a_line_or_two_and_changes_nothing(here: Path, command: str, message: str) -> None:
    before = listing(here)
    done = subprocess.run(
        [sys.executable, "-m", "cluster", *command.split()],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) <= 2 or "not known; there are" in lines[0] or lines[0].startswith("Usage:")
    assert listing(here) == before
