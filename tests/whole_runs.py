"""Whole runs as processes of their own: started, watched, and what is left of them looked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
TINY = [
    "problems.limit=6",
    "problems.held_out_limit=3",
    "evaluation.samples=1",
    "rollout.samples_per_problem=4",
    "rollout.max_response_tokens=24",
    "rollout.worked_examples=0",
    "learner.groups_per_step=2",
    "run.checkpoint_every=1",
    "engine.kv_cache_gib=0.25",
]
# With the tiny model that vLLM runs, each of whose tokens is a byte or two.
TINY_MODEL = [*TINY, "rollout.max_prompt_tokens=900", "engine.threads=1", "learner.threads=1"]
# With a tiny model and without vLLM: a run that goes on until it is stopped, a step in a second or two.
ENDLESS = [
    "run.steps=100000",
    "problems.limit=6",
    "problems.held_out=null",
    "rollout.samples_per_problem=2",
    "rollout.max_prompt_tokens=900",
    "rollout.max_response_tokens=8",
    "rollout.worked_examples=0",
    "learner.groups_per_step=2",
    "engine.backend=transformers",
    "engine.threads=1",
    "engine.kv_cache_gib=0.1",
    "learner.threads=1",
]
PATIENCE_S = 420


def start(*arguments: str, inside: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
    """`cupel train` in a session of its own, behind the words that bring it to another host."""
    return subprocess.Popen(
        [*inside, sys.executable, "-m", "cluster", "train", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        start_new_session=True,
    )


def rows(run: Path) -> list[dict[str, Any]]:
    """The metrics that are there."""
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def steps(run: Path) -> list[int]:
    """The steps that are done."""
    return [row["step"] for row in rows(run)]


def wait_for(what: str, condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until the condition holds, as long as the run lives."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode} before {what}:\n{process.communicate()[0]}"
        assert time.monotonic() < deadline, f"no {what} after {PATIENCE_S} s"
        time.sleep(0.2)


def tree(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The run's processes."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def named(process: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    """Those of the run's processes that are called so."""
    return [one for one in tree(process) if name in _command(one)]


def _command(process: psutil.Process) -> str:
    try:
        return "".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie, too
        return ""


def kill_all(process: subprocess.Popen[str]) -> None:
    """With SIGKILL; all of it must be gone."""
    killed = tree(process)
    for one in killed:
        one.kill()
    process.communicate()
    assert not survivors(killed, 20)


def survivors(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still live after `seconds`; a zombie is dead."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
