"""How long training stands still for a checkpoint: until it is written, or only until it is copied (`run.asynchronous_checkpoints`), in the same run.

    python benchmarks/checkpoint.py [--rounds 3]

The default model with AdamW's memory, on this machine's disk and without a GPU. The fastest rounds are compared, since other work on the machine only ever adds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster.config import load_config
from cluster.model_source import resolve
from learner import checkpoint
from learner.model import Policy

MIB = 1 << 20


def main() -> None:
    """Parse arguments, save as often as asked for."""
    parser = argparse.ArgumentParser(description="A checkpoint written beside training against one that is waited for.")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    config = load_config()
    model = resolve(config.model.name, config.model.cache)
    module = Policy(model, autocast=None, temperature=1.0).module
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    waited: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for step in range(rounds):
            for beside, seconds in waited.items():
                started = time.monotonic()
                snapshot = checkpoint.capture(module, optimizer, None, b"", {"step": step}, copied=beside)
                captured = time.monotonic()
                checkpoint.write(Path(folder), step, snapshot, source=model, keep=1)
                seconds.append((captured if beside else time.monotonic()) - started)
                del snapshot
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    whole, copy = min(waited[False]), min(waited[True])
    print(
        f"a checkpoint of {size / MIB:,.0f} MiB: written {whole:.2f} s, copied {copy:.2f} s, ratio {copy / whole:.2f}"
    )


if __name__ == "__main__":
    main()
