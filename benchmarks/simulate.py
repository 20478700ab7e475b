"""The whole loop on paper: throughput and staleness for 1 to 1,024 GPUs and up to 100,000 executor slots, and what saturates first.

    python benchmarks/simulate.py                                 the default tables (two to three minutes of one core)
    python benchmarks/simulate.py gpus=16 max_staleness=2         a setting of one's own
    python benchmarks/simulate.py gpus=16 slots=64,128,256        a table of one
    python benchmarks/simulate.py constants                       every constant, its default and where it is from
    python benchmarks/simulate.py measure                         what the control plane's state machines cost here

Discrete events; inside are the repository's own `Replay` with its problem order, `Dispatch` and `Episode`. Service times are those of
`constants`. Every simulation ends with a ledger of group ids: each one trained once, in the buffer, under way or to be done again.

Not single events: tokens (a sequence's end is computed from its engine's pace; an episode's token stands for `unit_tokens`), executor
workers beyond `simulated_workers` (one stands for several), the calls of a batch, polls that end empty-handed, and the moments between two looks at whether a batch is ready (`check_s`, or a twentieth of the wait).
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# One of the files in this folder is called as a package of ours, and the folder comes first where this one is run.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.simulation import measuring, report  # noqa: E402
from benchmarks.simulation.loop import Simulation  # noqa: E402
from benchmarks.simulation.setting import Setting, with_overrides  # noqa: E402
from executor.errors import UserError  # noqa: E402

# Larger rows have more groups a step, so fewer steps say as much.
SCALE = {1: 12, 2: 12, 4: 12, 8: 12, 16: 12, 32: 8, 64: 6, 128: 5, 256: 4, 512: 3, 1024: 3}  # GPUs: steps
TABLES = (
    ("Executor slots, on 16 GPUs", ["gpus=16"], "slots=16,32,64,128,256,512"),
    ("Staleness bound, on 16 GPUs", ["gpus=16"], "max_staleness=0,1,2,4,8"),
)


def table(setting: Setting, varied: str, values: Sequence[str]) -> None:
    """Print a line for each value of one name as it is known."""
    own = varied not in ("gpus", "slots")
    print(report.markdown(report.head(varied), []))
    for value in values:
        result = Simulation(with_overrides(setting, [f"{varied}={value}"])).run()
        print(report.markdown((), [report.row(result, value if own else None)]).splitlines()[-1], flush=True)
        gc.collect()


def scales() -> None:
    """The default tables."""
    print("## GPUs\n")
    print(report.markdown(report.head(), []))
    for gpus, steps in SCALE.items():
        result = Simulation(Setting(gpus=gpus, steps=steps, warmup_steps=3)).run()
        print(report.markdown((), [report.row(result)]).splitlines()[-1], flush=True)
        gc.collect()
    for title, fixed, varied in TABLES:
        print(f"\n## {title}\n")
        name, _, values = varied.partition("=")
        table(with_overrides(Setting(steps=12), fixed), name, values.split(","))


def measured() -> None:
    """Print what the state machines cost."""
    constants, rates = measuring.measure()
    print(
        report.markdown(("constant", "seconds"), [(f"`{name}`", f"{value:.2g}") for name, value in constants.items()])
    )
    print()
    rows = [(name, f"{1e6 * seconds:,.1f}", f"{1 / seconds:,.0f}") for name, seconds in rates]
    print(report.markdown(("asked of", "microseconds", "a second"), rows))


def main(words: Sequence[str]) -> int:
    """Print what is asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="NAME=VALUE", help="or one of: constants, measure")
    what: list[str] = parser.parse_args(words).what
    gc.disable()  # nothing that a simulation leaves behind is a cycle, and looking for one takes a third of its time
    started = time.process_time()
    try:
        if what == ["constants"]:
            print(report.constants())
            return 0
        if what == ["measure"]:
            measured()
            return 0
        varied = [word for word in what if "," in word]
        if len(varied) > 1:
            raise UserError(f"{' '.join(varied)}: a table varies one name")
        setting = with_overrides(Setting(), [word for word in what if word not in varied])
        if varied:
            name, _, values = varied[0].partition("=")
            table(setting, name, values.split(","))
        elif what:
            print(report.whole(setting, Simulation(setting).run()))
        else:
            scales()
    except UserError as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    print(f"\n{time.process_time() - started:.0f} s of one core")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
