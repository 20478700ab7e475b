"""Where a process is: told by the process itself, computing or not, and never by one that the question would kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.stacks import stacks_of

ROOT = Path(__file__).resolve().parents[2]
ASKABLE = """
import time
from executor.stacks import be_askable
be_askable()
be_askable()
def deep_in_thought():
    print("ready", flush=True)
    {does}
deep_in_thought()
"""


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", request.param],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


SLEEPS, COMPUTES = ASKABLE.format(does="time.sleep(60)"), ASKABLE.format(does="sum(range(10**12))")


@pytest.mark.parametrize("process", [SLEEPS, COMPUTES], indirect=True, ids=["sleeps", "computes"])
def test_a_process_says_where_it_is_as_often_as_it_is_asked(process: subprocess.Popen[str]) -> None:
    for _ in range(2):
        told = stacks_of(process.pid)
        assert told.startswith(f"process {process.pid}:\n") and told.count("deep_in_thought") == 1
    assert process.poll() is None


@pytest.mark.parametrize("process", ["import time; print('ready', flush=True); time.sleep(60)"], indirect=True)
def test_who_cannot_be_asked_is_left_alone(process: subprocess.Popen[str]) -> None:
    assert stacks_of(process.pid) == f"process {process.pid} cannot be asked\n"
    assert process.poll() is None


@pytest.mark.parametrize("process", [SLEEPS], indirect=True)
def test_who_is_stopped_is_not_waited_for(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)
    assert "has not answered within 1 s" in stacks_of(process.pid, 1.0)


def test_who_is_gone_is_said_to_be() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert stacks_of(process.pid) == f"process {process.pid} is gone\n"
