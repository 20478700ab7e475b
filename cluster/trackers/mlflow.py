"""MLflow: a run of the same name, gone on with when ours is; MLFLOW_TRACKING_URI says where."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from typing import Any

from cluster.trackers.base import Tracked

mlflow: Any = importlib.import_module("mlflow")  # an extra, which the type checker does not know
EXPERIMENT = "cupel"
NAME = "mlflow_run"  # the file of the run folder that holds MLflow's id of the run


class Tracker:
    """A run of the experiment `cupel`, unless the environment names another."""

    def __init__(self, run: Tracked) -> None:
        self._client = mlflow.tracking.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
        known = run.folder / NAME
        if run.resume_step is not None and known.exists():
            self._id = known.read_text()
            self._client.update_run(self._id, "RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self._id = self._client.create_run(experiment_id, run_name=run.folder.name).info.run_id
        known.write_text(self._id)
        for key, value in _flat(run.config).items():
            self._client.log_param(self._id, key, value)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Queued and sent by a thread of MLflow's."""
        now = int(time.time() * 1000)
        self._client.log_batch(
            self._id,
            [mlflow.entities.Metric(name, value, now, step) for name, value in metrics.items()],
            synchronous=False,
        )

    def close(self) -> None:
        """Waits until what is left is sent."""
        self._client.set_terminated(self._id)


def _flat(config: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
