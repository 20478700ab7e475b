"""A learner as tests make it: the tiny model, one update a step, full precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from learner.worker import LearnerSettings


def learner_settings(model: Path, run_folder: Path, **changes: Any) -> LearnerSettings:
    """Settings of RLTF on `model`, with `changes`."""
    settings = {
        "model_path": str(model),
        "algorithm": "rltf",
        "loss": {},
        "temperature": 1.0,
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "epochs": 1,
        "minibatches": 1,
        "weight_decay": 0.0,
        "betas": (0.9, 0.95),
        "max_gradient_norm": 1.0,
        "micro_batch_tokens": 256,
        "autocast": "none",
        "threads": 1,
        "seed": 0,
        "run_folder": str(run_folder),
        "keep_checkpoints": 2,
        "engine_dtype": "float32",
    }
    return LearnerSettings(**{**settings, **changes})
