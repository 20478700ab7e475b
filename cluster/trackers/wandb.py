"""Weights & Biases: a run of the same name, gone on with when ours is; its own variables (WANDB_MODE, WANDB_PROJECT, ...) hold."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Mapping
from typing import Any

from cluster.trackers.base import Tracked

wandb: Any = importlib.import_module("wandb")  # an extra, which the type checker does not know


class Tracker:
    """A run of the project `cupel`, unless the environment names another."""

    def __init__(self, run: Tracked) -> None:
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "cupel"),
            # The same for every process that works on the run folder.
            id=hashlib.sha256(str(run.folder).encode()).hexdigest()[:16],
            name=run.folder.name,
            config=dict(run.config),
            dir=run.folder,
            resume="allow",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Handed to W&B's own process."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Waits until what is left is sent."""
        self._run.finish()
