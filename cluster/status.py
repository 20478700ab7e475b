"""`cupel status` and `cupel stop`: what runs, by the status.json that each run keeps fresh, here or on another machine that sees the folder.

Invariants: a signal goes only to the process that wrote the status; a run whose process is gone is never called running.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster import stopping
from cluster.dashboards.terminal import duration
from cluster.run_folder import latest_checkpoint, read_json
from cluster.run_owner import age, owner
from executor.errors import UserError

STALE_S = 60.0  # a running process that has said nothing for this long is worth a word
SHOWN = 12


def is_run(folder: Path) -> bool:
    """Whether `folder` is a run folder."""
    return (folder / "config.yaml").is_file() or (folder / "status.json").is_file()


def find_runs(path: Path | None) -> list[Path]:
    """The run folder `path`, or the run folders in it (./runs if None), the newest first. Raises UserError if there is
    none.
    """
    folder = Path("runs") if path is None else path.expanduser()
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; " + ("nothing has run from here" if path is None else "give a run folder")
        )
    if is_run(folder):
        return [folder]
    runs = [f for f in folder.iterdir() if f.is_dir() and is_run(f)]
    if not runs:
        raise UserError(f"{folder} holds no run folder")
    return sorted(runs, key=lambda f: f.stat().st_mtime, reverse=True)


def describe(folder: Path) -> dict[str, Any]:
    """What is known of a run: state, step, steps, seconds, waiting, checkpoint, result. Damaged files count as absent."""
    status, summary = _quiet(folder / "status.json"), _quiet(folder / "summary.json")
    running = owner(folder) if status else None
    checkpoint = latest_checkpoint(folder)
    described: dict[str, Any] = {
        "run": folder,
        "state": f"running ({running})" if running else summary.get("status") or "broken off",
        "step": status.get("step", 0) if running else summary.get("steps", status.get("step", 0)),
        "steps": status.get("steps"),
        "seconds": status.get("seconds") if running else summary.get("seconds", status.get("seconds")),
        "waiting": status.get("controller") if running else None,
        "workers": _workers(status) if running else None,
        "checkpoint": checkpoint.name if checkpoint else None,
        "held_out": None if running else summary.get("held_out"),
    }
    if running and age(status) > STALE_S:
        described["waiting"] = f"nothing heard for {duration(age(status))}; last: {status.get('controller')}"
    return described


def show(path: Path | None) -> None:
    """Print what runs. Raises UserError if there is no run."""
    runs = find_runs(path)
    console = Console(highlight=False)
    if len(runs) == 1:
        _show_one(console, describe(runs[0]))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("run", "state", "step", "time", "held-out difference, waits for"):
        table.add_column(name, overflow="fold")
    for run in runs[:SHOWN]:
        d = describe(run)
        told = str(d["waiting"] or _result(d) or "")
        table.add_row(Text(str(d["run"])), _coloured(d["state"]), _step(d), _time(d), Text(told))
    console.print(table)
    if len(runs) > SHOWN:
        console.print(f"and {len(runs) - SHOWN} older ones", style="dim")


def running(path: Path) -> Path:
    """The run folder `path`, which a process trains in. Raises UserError if none does."""
    folder = path.expanduser()
    if not folder.is_dir() or not is_run(folder):
        raise UserError(f"{folder} is not a run folder")
    if owner(folder) is None:
        raise UserError(f"{folder} is not running: {describe(folder)['state']}")
    return folder


def stop(path: Path, wait_s: float) -> int:
    """Interrupt the run in `path` and wait for its end. Returns 0 once it has ended, 1 if it has not yet. Raises
    UserError if it does not run.
    """
    folder = running(path)
    found = owner(folder)
    if found is None:  # it has ended since
        return 0
    if found.host is not None:
        stopping.request(folder)
    else:
        try:
            os.kill(found.process, signal.SIGINT)
        except ProcessLookupError:
            return 0
        except PermissionError:
            raise UserError(f"{found} belongs to another user and cannot be stopped from here") from None
    print(f"asked {found} to write a checkpoint and end", flush=True)
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if owner(folder) != found:
            print(f"{folder}: {describe(folder)['state']}")
            return 0
        time.sleep(0.2)
    if wait_s:
        print(f"{found} has not ended within {wait_s:.0f} s: {describe(folder)['waiting']}")
    return 1 if wait_s else 0


def _quiet(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}


def _workers(status: dict[str, Any]) -> str | None:
    if "rollout_actors" not in status:
        return None
    return f"{status['rollout_actors']} rollout actors, {status['executor_workers']} executor workers"


def _show_one(console: Console, d: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    rows = [
        ("run", Text(str(d["run"]))),
        ("state", _coloured(d["state"])),
        ("step", Text(_step(d))),
        ("time", Text(_time(d))),
        ("waits for", Text(d["waiting"]) if d["waiting"] else None),
        ("workers", Text(d["workers"]) if d["workers"] else None),
        ("checkpoint", Text(d["checkpoint"] or "none yet")),
        ("held out", Text(_result(d)) if _result(d) else None),
    ]
    for name, value in rows:
        if value is not None:
            table.add_row(name, value)
    console.print(table)


def _coloured(state: str) -> Text:
    colours = {"finished": "green", "running": "yellow", "stopped": "cyan"}
    return Text(state, style=colours.get(state.split()[0], "red"))


def _step(d: dict[str, Any]) -> str:
    return f"{d['step']} of {d['steps']}" if d["steps"] else str(d["step"])


def _time(d: dict[str, Any]) -> str:
    return duration(float(d["seconds"])) if isinstance(d["seconds"], int | float) else "-"


def _result(d: dict[str, Any]) -> str:
    h = d["held_out"]
    if not isinstance(h, dict):
        return ""
    return f"{h['before']:.3f} to {h['after']:.3f}, {h['difference']:+.3f} [{h['low']:+.3f}, {h['high']:+.3f}]"
