"""Does the default run learn? Train it with several seeds, one after the other, and print the results as a Markdown table.

    .venv/bin/python benchmarks/learning.py                      seeds 0 to 3, the defaults
    .venv/bin/python benchmarks/learning.py --seeds 0,1 run.steps=12

A run that already lies in the folder is read, not repeated. Memory is what the whole machine had less at the run's peak than before it, so nothing
else should run beside it; the table says how long each part took on this machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
GIB = 1 << 30
SAMPLE_S = 1.0


def train(folder: Path, seed: int, overrides: list[str]) -> None:
    """One run to its end, in `folder`/seed_N. Raises SystemExit if it fails."""
    command = [sys.executable, "-m", "cluster", "train", f"run.seed={seed}", f"run.name=seed_{seed}"]
    before = psutil.virtual_memory().available
    peak = 0
    process = subprocess.Popen([*command, f"run.directory={folder}", *overrides], cwd=ROOT, stdout=sys.stderr)
    while process.poll() is None:
        peak = max(peak, before - psutil.virtual_memory().available)
        time.sleep(SAMPLE_S)
    if process.returncode != 0:
        raise SystemExit(f"seed {seed} ended with exit code {process.returncode}")
    (folder / f"seed_{seed}" / "peak_memory.json").write_text(json.dumps({"bytes": peak}), encoding="utf-8")


def row(run: Path) -> dict[str, Any]:
    """What one finished run says."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    memory = run / "peak_memory.json"
    return {
        **summary["held_out"],
        "seconds": summary["seconds"],
        "first_step": steps[0]["seconds"],
        "gib": json.loads(memory.read_text(encoding="utf-8"))["bytes"] / GIB if memory.exists() else float("nan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2,3", help="Seeds, with commas between.")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "learning", help="Where the runs go.")
    parser.add_argument("overrides", nargs="*", help="Settings as for cupel train.")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    rows = {}
    for seed in (int(text) for text in arguments.seeds.split(",")):
        if not (folder / f"seed_{seed}" / "summary.json").exists():
            train(folder, seed, arguments.overrides)
        rows[seed] = row(folder / f"seed_{seed}")
    print("| seed | pass@1 before | after | difference | 95 % interval | first step | whole run | memory |")
    print("|---|---|---|---|---|---|---|---|")
    for seed, r in rows.items():
        print(
            f"| {seed} | {r['before']:.3f} | {r['after']:.3f} | {r['difference']:+.3f} | [{r['low']:+.3f}, {r['high']:+.3f}] "
            f"| {r['first_step']:.0f} s | {r['seconds']:.0f} s | {r['gib']:.1f} GiB |"
        )


if __name__ == "__main__":
    main()
