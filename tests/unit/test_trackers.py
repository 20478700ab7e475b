"""Trackers beside metrics.jsonl: told of each step, dropped with a word when they fail, refused where they cannot be used."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.trackers import base
from cluster.trackers.base import Tracked, Trackers, check
from executor.errors import UserError


class Fake:
    """Keeps what it is told, and breaks where it should."""

    made: dict[str, Fake] = {}

    def __init__(self, name: str, run: Tracked, breaks_at: int | None) -> None:
        self.run, self.breaks_at, self.told, self.closed = run, breaks_at, list[int](), 0
        if breaks_at == 0:
            raise ConnectionError("no server")
        self.made[name] = self

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        if step == self.breaks_at:
            raise ConnectionError("the server has gone")
        self.told.append(step)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fake]:
    breaks = {"good": None, "late": 2, "never": 0}

    def module(path: str) -> Any:
        name = path.rpartition(".")[2]
        return SimpleNamespace(Tracker=lambda run: Fake(name, run, breaks[name]))

    monkeypatch.setattr(base, "importlib", SimpleNamespace(import_module=module))
    Fake.made = {}
    return Fake.made


def test_one_that_fails_is_told_of_once_and_the_others_go_on(
    fakes: dict[str, Fake], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "cupel"):
        trackers = Trackers(["never", "late", "good"], Tracked(tmp_path, {}))
        for step in (1, 2, 3):
            trackers.write(step, {"loss": 1.0})
        trackers.close()
        trackers.close()
    assert fakes["good"].told == [1, 2, 3] and fakes["good"].closed == 1
    assert fakes["late"].told == [1] and fakes["late"].closed == 0
    assert [record.getMessage().split()[0] for record in caplog.records] == ["never", "late"]


def test_what_cannot_be_used_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    check([])
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"wandb is not installed; install cupel\[wandb\]"):
        check(["wandb"])
    monkeypatch.setattr(base, "find_spec", lambda name: object())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        check(["mlflow"])


def test_weights_and_biases_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    module = importlib.import_module("cluster.trackers.wandb")
    ids = []
    for resume_step in (None, 1):
        tracker = module.Tracker(Tracked(tmp_path, {"run": {"steps": 2}}, resume_step))
        tracker.write(2, {"loss": 1.0})
        ids.append(tracker._run.id)
        tracker.close()
    assert ids[0] == ids[1]


def test_mlflow_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="without it MLflow has no store of its own")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    module = importlib.import_module("cluster.trackers.mlflow")
    for resume_step in (None, 1):
        tracker = module.Tracker(Tracked(tmp_path, {"run": {"steps": 2}}, resume_step))
        tracker.write((resume_step or 0) + 1, {"loss": 1.5})
        tracker.close()
    client = mlflow.tracking.MlflowClient()
    assert [m.step for m in client.get_metric_history(tracker._id, "loss")] == [1, 2]
    run = client.get_run(tracker._id)
    assert (run.info.status, run.data.params["run.steps"]) == ("FINISHED", "2")
