"""metrics.jsonl has one line a step whatever happens; TensorBoard shows the same and cannot end a run."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest

from cluster.metrics import MetricsWriter, read_metrics
from executor.errors import UserError


def write(folder: Path, steps: range, value: float, resume_step: int | None = None) -> None:
    writer = MetricsWriter(folder, resume_step)
    for step in steps:
        writer.write({"step": step, "loss": value})
    writer.close()


def lines(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows]


def test_a_line_a_step(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4), 0.5)
    assert lines(tmp_path) == [(1, 0.5), (2, 0.5), (3, 0.5)]


def test_a_line_is_there_before_write_returns(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    writer.write({"step": 1, "loss": 1.0})
    assert lines(tmp_path) == [(1, 1.0)]
    writer.close()


def test_going_on_drops_what_came_after_the_checkpoint_and_a_torn_line(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6), 1.0)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    write(tmp_path, range(4, 7), 2.0, resume_step=3)
    assert lines(tmp_path) == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]


def test_going_on_from_the_start_begins_anew(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4), 1.0)
    write(tmp_path, range(1, 3), 2.0, resume_step=0)
    assert lines(tmp_path) == [(1, 2.0), (2, 2.0)]


def test_a_step_is_never_written_twice(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    writer.write({"step": 2, "loss": 1.0})
    for step in (2, 1):
        with pytest.raises(ValueError, match="after those of step 2"):
            writer.write({"step": step, "loss": 1.0})
    writer.close()
    assert lines(tmp_path) == [(2, 1.0)]


def test_what_is_not_finite_becomes_null(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    writer.write({"step": 1, "loss": math.nan, "reward": math.inf})
    writer.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": None, "reward": None}]


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    writer = MetricsWriter(tmp_path)
    with pytest.raises(UserError, match=r"metrics\.jsonl could not be written: No space left on device"):
        writer.write({"step": 1, "loss": 1.0})
    writer.close()


def test_tensorboard_shows_the_same_numbers_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(tmp_path, range(1, 6), 1.0)
    write(tmp_path, range(4, 6), 2.0, resume_step=3)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == lines(tmp_path)


def test_a_broken_tensorboard_is_told_once_and_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "cupel"):
        write(tmp_path, range(1, 4), 1.0)
    assert [step for step, _ in lines(tmp_path)] == [1, 2, 3]
    assert len([r for r in caplog.records if "tensorboard gets no metrics" in r.getMessage()]) == 1


def test_a_tensorboard_that_breaks_on_the_way_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = MetricsWriter(tmp_path)
    writer.write({"step": 1, "loss": 1.0})
    writer._trackers._open["tensorboard"].close()
    with caplog.at_level(logging.WARNING, "cupel"):
        writer.write({"step": 2, "loss": 1.0})
        writer.write({"step": 3, "loss": 1.0})
    writer.close()
    assert [step for step, _ in lines(tmp_path)] == [1, 2, 3]
    assert len([r for r in caplog.records if "tensorboard gets no metrics" in r.getMessage()]) == 1
