"""Where checkpoints lie and which are complete; no torch, so that every command can ask."""

from __future__ import annotations

from pathlib import Path

COMPLETE = Path("trainer") / "record.json"  # the last file of a checkpoint


def folder_of(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return checkpoints / f"step_{step}"


def steps_of(checkpoints: Path) -> list[int]:
    """Steps that have a complete checkpoint, oldest first."""
    found = []
    for folder in checkpoints.glob("step_*"):
        number = folder.name.removeprefix("step_")
        if number.isdigit() and (folder / COMPLETE).is_file():
            found.append(int(number))
    return sorted(found)
