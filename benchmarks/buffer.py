"""How many groups a second the buffer actor takes, and what of that is Ray's: the same groups in the same run without an actor.

    python benchmarks/buffer.py [--groups 640] [--tokens 600] [--putters 4] [--rounds 3]

Wall-clock rates are of cores that all processes share; the processor time of the buffer's own process is what bounds it on a machine with more of them.

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

import psutil  # noqa: E402
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
CALLS = 2000  # that carry nothing


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


def busy_s() -> float:
    """Processor seconds of the buffer's process so far."""
    (process,) = [one for one in psutil.process_iter(["name"]) if one.info["name"].startswith("ray::BufferActo")]
    return sum(process.cpu_times()[:2])


async def empty_calls(buffer: Any) -> tuple[float, float]:
    """Processor seconds of a call that carries nothing, and seconds of one there and back where nothing else goes on."""
    started = busy_s()
    for _ in range(CALLS // AT_ONCE):
        await asyncio.gather(*(buffer.held_by.remote("nobody") for _ in range(AT_ONCE)))
    each = (busy_s() - started) / CALLS
    trips = []
    for _ in range(CALLS // AT_ONCE):
        asked = time.perf_counter()
        await buffer.held_by.remote("nobody")
        trips.append(time.perf_counter() - asked)
    return each, statistics.median(trips)


def calls() -> tuple[float, float]:
    """`empty_calls` of a buffer of its own."""
    buffer = create(SETTINGS, ["p"])
    ray.get(buffer.held_by.remote("nobody"))
    found = asyncio.run(empty_calls(buffer))
    ray.kill(buffer)
    return found


def through_ray(groups: int, tokens: int, putters: int) -> tuple[float, float]:
    """Seconds of `groups` through an actor, and those that its process was busy."""
    buffer = create(SETTINGS, ["p"])
    putter: Any = ray.remote(Putter)
    workers = [putter.options(num_cpus=0).remote(f"putter-{i}", tokens) for i in range(putters)]
    ray.get([worker.ready.remote() for worker in workers])
    before = busy_s()
    running = [worker.run.remote(buffer) for worker in workers]
    seconds = asyncio.run(drain(buffer, groups))
    busy = busy_s() - before
    ray.get(buffer.close.remote())
    ray.get(running)
    for actor in [*workers, buffer]:
        ray.kill(actor)
    return seconds, busy


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
    seconds = {"without an actor": [asyncio.run(_alone(groups, asked.tokens)) for _ in range(asked.rounds)]}
    busy: dict[str, list[float]] = {}
    for putters in (1, asked.putters):
        found = [through_ray(groups, asked.tokens, putters) for _ in range(asked.rounds)]
        seconds[f"{putters} putters"], busy[f"{putters} putters"] = map(list, zip(*found, strict=True))
    empty, there_and_back = map(min, zip(*(calls() for _ in range(asked.rounds)), strict=True))
    ray.shutdown()
    print(f"groups of {len(pickle.dumps(made_once(asked.tokens))) / 1024:.0f} KiB, pickled; {os.cpu_count()} cores")
    rates = {name: sorted(groups / each for each in found) for name, found in seconds.items()}
    for name, found in rates.items():
        print(f"{name:18} {statistics.median(found):9.0f} groups/s ({found[0]:.0f} to {found[-1]:.0f})")
    slower = statistics.median(rates["without an actor"]) / statistics.median(rates[f"{asked.putters} putters"])
    print(f"through Ray: 1/{slower:.0f} of the groups that the state machine itself takes")
    for name, found in busy.items():
        print(f"{name:18} {1000 * min(found) / groups:9.2f} ms of the buffer's process a group, calls for it included")
    print(
        f"a call that carries nothing: {1000 * empty:.2f} ms of its process, {1000 * there_and_back:.2f} ms there and back"
    )


if __name__ == "__main__":
    main()
