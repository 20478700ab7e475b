"""The model that is evaluated: where it lies, how it was trained to be asked, and what tells it from another."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cluster.config import Config, load_config
from cluster.model_source import DEFAULT_MODEL, resolve
from cluster.run_folder import latest_checkpoint
from executor.errors import UserError

_ENDS = 1 << 20  # bytes


def find_model(model: str) -> tuple[Path, Config, bool]:
    """The folder of a model, a checkpoint or a run (its newest checkpoint), the configuration whose prompts it was trained with,
    and whether that is a run's or the defaults. Raises UserError."""
    path = Path(model).expanduser()
    for run in (path, path.parent.parent):
        if path.is_dir() and (run / "config.yaml").exists():
            config = load_config(run / "config.yaml")
            checkpoint = latest_checkpoint(run) if run == path else path
            if checkpoint is None:
                raise UserError(f"run folder {run} has no complete checkpoint yet")
            return resolve(str(checkpoint), config.model.cache), config, True
    config = Config()
    return resolve(model or DEFAULT_MODEL, config.model.cache), config, False


def fingerprint(folder: Path) -> str:
    """Tells models apart wherever they lie, by the size and both ends of each file: training moves every weight."""
    hashed = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        size = path.stat().st_size
        hashed.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            hashed.update(file.read(_ENDS))
            file.seek(max(0, size - _ENDS))
            hashed.update(file.read(_ENDS))
    return hashed.hexdigest()
