"""A run's copy somewhere else: whole or not there, what is kept here, and good to go on from."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from cluster.mirror import Mirror, check, fetch
from executor.errors import UserError
from learner.checkpoint_folder import COMPLETE, steps_of

URL = "memory://bucket/runs"


@pytest.fixture(autouse=True)
def store() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "mine"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("run: {steps: 9}\n")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    (folder / "evaluation_before.json").write_text("{}")
    (folder / "report.html").write_text("large")
    return folder


def write(run: Path, step: int) -> Path:
    checkpoint = run / "checkpoints" / f"step_{step}"
    (checkpoint / "trainer").mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights %d" % step)
    (checkpoint / "trainer" / "state.pt").write_bytes(b"state")
    (checkpoint / COMPLETE).write_text("{}")
    return checkpoint


def drop(checkpoint: Path) -> None:
    for path in sorted(checkpoint.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    checkpoint.rmdir()


def there(store: Any) -> list[str]:
    return sorted(path.removeprefix("/bucket/runs/mine/") for path in store.find("/bucket/runs/mine"))


def test_what_is_kept_here_is_kept_there(run: Path, store: Any) -> None:
    mirror = Mirror(URL, run)
    old = write(run, 2)
    mirror.copy()
    small = ["config.yaml", "evaluation_before.json", "metrics.jsonl"]
    of_one = ["model.safetensors", "trainer/record.json", "trainer/state.pt"]
    assert there(store) == sorted([*small, *(f"checkpoints/step_2/{name}" for name in of_one)])
    write(run, 4)
    drop(old)
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    mirror.copy()
    assert there(store) == sorted([*small, *(f"checkpoints/step_4/{name}" for name in of_one)])
    assert store.cat("/bucket/runs/mine/metrics.jsonl").count(b"\n") == 2


def test_a_copy_is_gone_on_from(run: Path, tmp_path: Path) -> None:
    for step in (2, 10):
        write(run, step)
    Mirror(URL, run).copy()
    fetched = fetch(f"{URL}/mine", tmp_path / "elsewhere")
    assert fetched == tmp_path / "elsewhere" / "mine"
    assert steps_of(fetched / "checkpoints") == [10]
    for name in (
        "config.yaml",
        "metrics.jsonl",
        "checkpoints/step_10/model.safetensors",
        f"checkpoints/step_10/{COMPLETE}",
    ):
        assert (fetched / name).read_bytes() == (run / name).read_bytes()
    with pytest.raises(UserError, match=r"is there already: cupel train --resume .*/elsewhere/mine"):
        fetch(f"{URL}/mine", tmp_path / "elsewhere")


def test_a_checkpoint_that_did_not_come_whole_does_not_count(run: Path, store: Any, tmp_path: Path) -> None:
    write(run, 2)
    Mirror(URL, run).copy()
    store.pipe("/bucket/runs/mine/checkpoints/step_4/model.safetensors", b"half of")
    left = tmp_path / "elsewhere" / ".mine.part" / "checkpoints" / "step_9"
    left.mkdir(parents=True)  # by a fetch that was killed
    assert steps_of(fetch(f"{URL}/mine", tmp_path / "elsewhere") / "checkpoints") == [2]
    with pytest.raises(UserError, match="no run with a complete checkpoint"):
        fetch(f"{URL}/other", tmp_path / "elsewhere")
    Mirror(URL, run).copy()
    assert not [path for path in there(store) if "step_4" in path], "nor does it stay"


def test_the_last_file_goes_up_last(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run, 2)
    mirror = Mirror(URL, run)
    order: list[str] = []
    monkeypatch.setattr(mirror, "_put", lambda path, target: order.append(target.rpartition("step_2/")[2]))
    mirror.copy()
    assert order[-1] == COMPLETE.as_posix() and len(order) == 3


def test_a_checkpoint_that_went_meanwhile_leaves_nothing(
    run: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write(run, 2)
    mirror = Mirror(URL, run)
    put = mirror._put

    def put_and_drop(path: Path, target: str) -> None:
        put(path, target)
        if checkpoint.exists():
            drop(checkpoint)

    monkeypatch.setattr(mirror, "_put", put_and_drop)
    mirror.copy()
    assert not [path for path in there(store) if path.startswith("checkpoints")]


def test_training_does_not_wait_and_a_failure_is_told(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("cupel"), "propagate", True)
    mirror = Mirror(URL, run)
    begun, going, copied = threading.Event(), threading.Event(), []

    def copy() -> None:
        begun.set()
        assert going.wait(10)
        copied.append(1)
        if len(copied) == 1:
            raise PermissionError("no such right")

    monkeypatch.setattr(mirror, "copy", copy)
    mirror.follow()
    assert begun.wait(10)
    for _ in range(4):
        mirror.follow()
    mirror.settle(0.05)
    assert "not all is at" in caplog.text and not copied
    going.set()
    mirror.settle(10)
    assert len(copied) == 2, "the one that was under way, and one for all that came meanwhile"
    assert "PermissionError: no such right" in caplog.text


def test_a_place_that_cannot_be_is_told_before_a_run() -> None:
    check(None)
    check("/a/folder")
    with pytest.raises(UserError, match="nonsense://x"):
        check("nonsense://x")
