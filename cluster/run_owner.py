"""Which process trains in a run folder, by the status.json that it keeps fresh; seen from its own machine and from others that see the folder.

Invariants: on its own machine a process is told from a later one with the same number by its start time, and one that is gone is never called alive;
from another machine it counts as alive for as long as its status is fresh and there is no summary of its end.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from cluster.run_folder import read_json

SILENT_S = 60.0  # after which a process that cannot be looked at counts as gone


@dataclass(frozen=True)
class Owner:
    """A process that lives."""

    process: int
    host: str | None = None
    """Its machine, where that is another one."""

    def __str__(self) -> str:
        return f"process {self.process}" + (f" of {self.host}" if self.host else "")


def owner(folder: Path) -> Owner | None:
    """The process that trains in `folder`; None if none does. Raises UserError if its status is damaged."""
    status = read_json(folder / "status.json")
    if not isinstance(status, dict) or not isinstance(status.get("pid"), int):
        return None
    host = status.get("host", platform.node())
    if host != platform.node():
        ended = (folder / "summary.json").exists() or age(status) > SILENT_S
        return None if ended else Owner(status["pid"], host)
    try:
        process = psutil.Process(status["pid"])
        same = abs(process.create_time() - float(status.get("pid_started", 0.0))) < 1.0
        return Owner(process.pid) if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def age(status: Mapping[str, Any]) -> float:
    """Seconds since the status was written, by this machine's clock."""
    return time.time() - float(status.get("written", 0.0))
