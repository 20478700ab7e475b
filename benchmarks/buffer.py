"""How many groups a second the buffer actor takes, and what of that is Ray's: the same groups in the same run without an actor.

    python benchmarks/buffer.py [--groups 640] [--tokens 600] [--putters 4] [--rounds 3]

Each group has eight responses of so many tokens. Putters do what rollout actors do between them and the buffer (acquire tickets, put groups), this process what
the controller does (take batches, commit them, go on to the next policy version).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pickle
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import ray  # noqa: E402

from benchmarks import local_ray  # noqa: E402
from benchmarks.simulation.measuring import group  # noqa: E402
from buffer.actor import BufferActor, create  # noqa: E402
from buffer.replay import Ticket  # noqa: E402
from buffer.settings import BufferSettings  # noqa: E402
from buffer.trajectory import Group  # noqa: E402

STEP = 32  # groups
SETTINGS = BufferSettings(groups_per_step=STEP, max_staleness=4)
AT_ONCE = 8  # groups that a putter works on
WAIT_S = 5.0


def made_once(tokens: int) -> Group:
    """A group to be put again and again: making one takes longer than putting it."""
    return group(Ticket(0, "p", 0, 1, 0), tokens)


def as_asked(made: Group, ticket: Ticket) -> Group:
    """That group, for this ticket."""
    return made.model_copy(update={"group_id": ticket.group_id, "issued_version": ticket.issued_version})


class Putter:
    """A rollout actor whose groups cost nothing."""

    def __init__(self, name: str, tokens: int) -> None:
        self._name, self._made = name, made_once(tokens)

    async def ready(self) -> None:
        """Answers once the process is there."""

    async def run(self, buffer: Any) -> None:
        """Put groups until the buffer is closed."""
        while (tickets := await buffer.acquire.remote(AT_ONCE, self._name, WAIT_S)) is not None:
            await asyncio.gather(*(buffer.put.remote(as_asked(self._made, ticket)) for ticket in tickets))


async def drain(buffer: Any, groups: int) -> float:
    """Seconds until so many groups are taken."""
    started = time.perf_counter()
    for version in range(1, groups // STEP + 1):
        while not await buffer.wait_ready.remote(WAIT_S):
            pass
        await buffer.take.remote()
        await buffer.commit.remote()
        await buffer.advance.remote(version)
    return time.perf_counter() - started


def through_ray(groups: int, tokens: int, putters: int) -> float:
    """Seconds of `groups` through an actor."""
    buffer = create(SETTINGS, ["p"])
    putter: Any = ray.remote(Putter)
    workers = [putter.options(num_cpus=0).remote(f"putter-{i}", tokens) for i in range(putters)]
    ray.get([worker.ready.remote() for worker in workers])
    running = [worker.run.remote(buffer) for worker in workers]
    seconds = asyncio.run(drain(buffer, groups))
    ray.get(buffer.close.remote())
    ray.get(running)
    for actor in [*workers, buffer]:
        ray.kill(actor)
    return seconds


async def _alone(groups: int, tokens: int) -> float:
    buffer, seconds, made = BufferActor(SETTINGS, ["p"]), 0.0, made_once(tokens)
    for version in range(1, groups // STEP + 1):
        while not await buffer.wait_ready(0.0):
            tickets = await buffer.acquire(AT_ONCE, "alone", WAIT_S)
            assert tickets
            for ticket in tickets:
                finished = as_asked(made, ticket)
                started = time.perf_counter()
                await buffer.put(finished)
                seconds += time.perf_counter() - started
        started = time.perf_counter()
        await buffer.take()
        await buffer.commit()
        await buffer.advance(version)
        seconds += time.perf_counter() - started
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, default in (("groups", 640), ("tokens", 600), ("putters", 4), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    groups = max(1, asked.groups // STEP) * STEP
    local_ray.start()
    ways = {"without an actor": lambda: asyncio.run(_alone(groups, asked.tokens))}
    ways |= {f"{n} putters": lambda n=n: through_ray(groups, asked.tokens, n) for n in (1, asked.putters)}
    seconds = {name: [run() for _ in range(asked.rounds)] for name, run in ways.items()}
    ray.shutdown()
    print(f"groups of {len(pickle.dumps(made_once(asked.tokens))) / 1024:.0f} KiB, pickled; {os.cpu_count()} cores")
    rates = {name: sorted(groups / each for each in found) for name, found in seconds.items()}
    for name, found in rates.items():
        print(f"{name:18} {statistics.median(found):9.0f} groups/s ({found[0]:.0f} to {found[-1]:.0f})")
    slower = statistics.median(rates["without an actor"]) / statistics.median(rates[f"{asked.putters} putters"])
    print(f"through Ray: 1/{slower:.0f} of the groups that the state machine itself takes")


if __name__ == "__main__":
    main()
