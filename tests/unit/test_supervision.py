"""A run that goes on by itself: when it is started again, how often, how it ends. The children are real processes, scripts of a few lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.supervision import FIRST_PAUSE_S, LONGEST_PAUSE_S, Restarts
from executor.errors import LOST

ROOT = Path(__file__).resolve().parents[2]

# Tells its folder as `cupel train` does, notes how it was called, and does what the next line of its plan says.
CHILD = """
import os, signal, sys, time
from pathlib import Path
from cluster.supervision import restarted, tell_run_folder
folder = Path({folder!r})
with open(folder / "calls", "a") as calls:
    print(*sys.argv[1:], restarted(), file=calls)
plan = (folder / "plan").read_text().splitlines()
(folder / "plan").write_text("\\n".join(plan[1:]))
act, _, rest = plan[0].partition(" ")
if act == "early":
    sys.exit(int(rest))
tell_run_folder(folder)
if act == "checkpoint":
    path = folder / "checkpoints" / rest.split()[0] / "trainer"
    path.mkdir(parents=True)
    (path / "record.json").write_text("{{}}")
    rest = rest.split()[1]
if act == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    (folder / "waits").write_text(str(os.getpid()))
    time.sleep(60)
if rest == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(rest))
"""
SUPERVISOR = """
import sys
from cluster import supervision
supervision.FIRST_PAUSE_S = {pause}
sys.exit(supervision.supervise(["a.yaml", "b=c"], 2, [sys.executable, {child!r}]))
"""


def start(folder: Path, *plan: str, pause: float = 0.01) -> subprocess.Popen[str]:
    (folder / "plan").write_text("\n".join(plan))
    (folder / "child.py").write_text(CHILD.format(folder=str(folder)))
    supervisor = SUPERVISOR.format(pause=pause, child=str(folder / "child.py"))
    return subprocess.Popen(
        [sys.executable, "-c", supervisor],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("code", [0, 2, 130, 1])
def test_an_end_is_an_end(tmp_path: Path, code: int) -> None:
    assert end(start(tmp_path, f"exit {code}")) == (code, "")
    assert calls(tmp_path) == ["a.yaml b=c 0"]


def test_who_came_to_no_run_folder_is_not_started_again(tmp_path: Path) -> None:
    assert end(start(tmp_path, f"early {LOST}"))[0] == LOST
    assert len(calls(tmp_path)) == 1


@pytest.mark.parametrize(
    ("how", "said"), [("killed", "killed by signal 9"), (str(LOST), "lost what it cannot replace")]
)
def test_what_was_lost_goes_on_from_its_checkpoint(tmp_path: Path, how: str, said: str) -> None:
    code, told = end(start(tmp_path, f"exit {how}", f"checkpoint step_5 {how}", "exit 0"))
    assert code == 0
    assert calls(tmp_path) == ["a.yaml b=c 0", f"--resume {tmp_path} 1", f"--resume {tmp_path} 2"]
    first, second = told.splitlines()
    assert said in first and "goes on from its start" in first
    assert "goes on from step_5" in second and "start 1 of 2" in second


def test_what_could_not_be_begun_again_is_tried_once_more(tmp_path: Path) -> None:
    code, told = end(start(tmp_path, "checkpoint step_5 killed", "early 2", "exit 0"))
    assert code == 0
    assert calls(tmp_path)[1:] == [f"--resume {tmp_path} 1", f"--resume {tmp_path} 2"]
    assert "could not be begun again; it goes on from step_5" in told.splitlines()[1]


def test_what_can_never_be_begun_again_is_given_up(tmp_path: Path) -> None:
    code, told = end(start(tmp_path, "checkpoint step_5 killed", "early 2", "early 2", "exit 0"))
    assert code == LOST and len(calls(tmp_path)) == 3
    assert "given up" in told.splitlines()[-1]


def test_what_brings_no_new_checkpoint_is_given_up(tmp_path: Path) -> None:
    plan = ["exit killed", "checkpoint step_5 killed", "checkpoint step_10 75", "exit killed", "exit 75"]
    code, told = end(start(tmp_path, *plan))
    assert code == LOST
    assert len(calls(tmp_path)) == len(plan)
    assert "given up" in told.splitlines()[-1] and "from step_10" in told.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_reaches_the_child_and_is_the_end(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "wait", "exit 0")
    deadline = time.monotonic() + 60
    while not (tmp_path / "waits").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    assert end(process)[0] == 130
    assert len(calls(tmp_path)) == 1


def test_a_stop_between_two_starts_is_the_end(tmp_path: Path) -> None:
    process = start(tmp_path, "exit killed", "exit 0", pause=60.0)
    assert process.stderr is not None
    assert "in 60 s" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 130
    assert len(calls(tmp_path)) == 1


def test_the_child_of_a_killed_supervisor_is_asked_to_stop(tmp_path: Path) -> None:
    process = start(tmp_path, "wait")
    deadline = time.monotonic() + 60
    while not (tmp_path / "waits").exists() or not (tmp_path / "waits").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child = int((tmp_path / "waits").read_text())
    process.kill()
    process.wait()
    while Path(f"/proc/{child}").exists() and "zombie" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.02)


@given(st.integers(1, 20), st.lists(st.booleans(), max_size=60))
def test_starts_are_bounded_and_farther_apart_until_there_is_a_new_checkpoint(limit: int, progress: list[bool]) -> None:
    restarts, step, in_a_row, last = Restarts(limit), 0, 0, 0.0
    for moved in progress:
        step += moved
        in_a_row = 1 if moved else in_a_row + 1
        pause = restarts.pause(f"step_{step}" if step else None)
        if in_a_row > limit:
            assert pause is None
            return
        assert pause is not None and FIRST_PAUSE_S <= pause <= LONGEST_PAUSE_S
        assert pause == FIRST_PAUSE_S if in_a_row == 1 else pause >= last
        last = pause
