"""A run folder holds whole files, one process at a time, and only complete checkpoints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from cluster.run_folder import RunFolder, latest_checkpoint, write_atomically
from cluster.run_owner import SILENT_S, Owner, owner
from executor.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> subprocess.Popen[str]:
    """A real second process."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the folder until it is killed."""
    process = python(f"""
        import time
        from cluster.run_folder import RunFolder
        with RunFolder.open({str(folder)!r}).locked():
            print("held", flush=True)
            time.sleep(60)
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder.create(tmp_path / "runs", "one")
    made.write_text("config.yaml", "run: {}\n")
    return made


def test_folders_made_in_the_same_second_differ(tmp_path: Path) -> None:
    made = {RunFolder.create(tmp_path).path for _ in range(5)}
    assert len(made) == 5
    assert all((path / "checkpoints").is_dir() for path in made)


def test_a_name_that_is_taken_is_refused_with_what_would_do(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there already.*cupel train --resume"):
        RunFolder.create(tmp_path / "runs", "one")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/x"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="not the name of a folder"):
        RunFolder.create(tmp_path, name)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be made: .*run\.directory"):
        RunFolder.create(tmp_path / "file", "one")
    with pytest.raises(UserError, match="cannot be made"):
        RunFolder.create("/proc/cupel", "one")


@pytest.mark.parametrize("make", ["nothing", "folder"])
def test_only_run_folders_are_opened(tmp_path: Path, make: str) -> None:
    path = tmp_path / "x"
    if make == "folder":
        path.mkdir()
    with pytest.raises(UserError, match="no such folder" if make == "nothing" else "no config.yaml"):
        RunFolder.open(path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(folder: RunFolder) -> None:
    folder.write_text("summary.json", "old")
    process = python(f"""
        import resource
        from cluster.run_folder import RunFolder
        from executor.errors import UserError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            RunFolder.open({str(folder.path)!r}).write_text("summary.json", "x" * 5000)
        except UserError as error:
            print(error)
    """)
    out, err = process.communicate(timeout=30)
    assert "summary.json could not be written: File too large" in out, err
    assert (folder.path / "summary.json").read_text() == "old"
    assert not list(folder.path.glob(".*part"))


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_atomically(path, json.dumps([0] * 1000))
    done = threading.Event()

    def rewrite() -> None:
        for number in range(100):
            write_atomically(path, json.dumps([number] * 1000), sync=False)
        done.set()

    thread = threading.Thread(target=rewrite)
    thread.start()
    while not done.is_set():
        assert len(set(json.loads(path.read_text()))) == 1
    thread.join()


def test_damaged_json_is_told_and_missing_json_is_none(folder: RunFolder) -> None:
    assert folder.read_json("nothing.json") is None
    folder.write_text("summary.json", '{"status": ')
    with pytest.raises(UserError, match="damaged"):
        folder.read_json("summary.json")


def test_two_processes_never_train_in_one_folder(folder: RunFolder) -> None:
    process = holder(folder.path)
    try:
        with pytest.raises(UserError, match=f"in use by process {process.pid}"), folder.locked():
            pass
    finally:
        process.kill()
        process.communicate()


def test_a_killed_process_lets_go_of_its_folder(folder: RunFolder) -> None:
    process = holder(folder.path)
    assert owner(folder.path) == Owner(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert owner(folder.path) is None
    with folder.locked():
        assert owner(folder.path) == Owner(os.getpid())


def test_a_process_number_used_again_is_not_the_run(folder: RunFolder) -> None:
    with folder.locked():
        status = folder.read_json("status.json")
    assert status is not None
    folder.write_json("status.json", {**status, "pid_started": status["pid_started"] - 1000})
    assert owner(folder.path) is None


def test_from_another_machine_a_run_lives_while_its_status_is_fresh_and_it_has_not_ended(folder: RunFolder) -> None:
    with folder.locked():
        status = folder.read_json("status.json")
    assert status is not None
    elsewhere = {**status, "host": "another", "pid": 7}
    folder.write_json("status.json", elsewhere)
    assert owner(folder.path) == Owner(7, "another")
    folder.write_json("status.json", {**elsewhere, "written": status["written"] - SILENT_S - 1})
    assert owner(folder.path) is None
    folder.write_json("status.json", elsewhere)
    folder.write_json("summary.json", {"status": "stopped"})
    assert owner(folder.path) is None


def test_heartbeats_are_kept_to_one_a_second(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder.locked():
        before = (folder.path / "status.json").stat().st_mtime_ns
        for _ in range(100):
            folder.heartbeat({"controller": "soon"})
        assert (folder.path / "status.json").stat().st_mtime_ns == before
        monkeypatch.setattr(folder, "_last_heartbeat", time.monotonic() - 2)
        folder.heartbeat({"controller": "later"})
        status = folder.read_json("status.json")
        assert status is not None
        assert status["controller"] == "later" and status["pid"] == os.getpid()


def test_the_newest_complete_checkpoint_counts(folder: RunFolder) -> None:
    assert folder.latest_checkpoint() is None
    for step, complete in ((8, True), (16, True), (9, True), (24, False)):
        trainer = folder.path / "checkpoints" / f"step_{step}" / "trainer"
        trainer.mkdir(parents=True)
        if complete:
            (trainer / "record.json").write_text("{}")
    (folder.path / "checkpoints" / ".step_32.part").mkdir()
    (folder.path / "checkpoints" / "step_x").mkdir()
    assert latest_checkpoint(folder.path) == folder.path / "checkpoints" / "step_16"


def test_the_log_goes_to_the_folder_while_it_is_held(folder: RunFolder) -> None:
    import logging

    with folder.locked():
        folder.log_to_file()
        logging.getLogger("cupel").info("hello")
    assert "INFO hello" in (folder.path / "logs" / "controller.log").read_text()
    assert not logging.getLogger("cupel").handlers
