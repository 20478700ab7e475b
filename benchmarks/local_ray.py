"""A Ray for a benchmark: of this machine alone, without a dashboard, with the repository on the path of its processes."""

from __future__ import annotations

import os
from pathlib import Path

import ray

ROOT = Path(__file__).resolve().parent.parent


def start() -> None:
    """Start it; `ray.shutdown` ends it."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
