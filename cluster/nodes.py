"""The nodes of a Ray cluster and the role that each has by its label; and waiting until those of a role are there.

Pure but for `main`, which a script calls after `ray start`: `python -m cluster.nodes --address HEAD:6379 learner=1 engine=4`. Invariant: the wait
is bounded, and says what it waits for, with counts.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ROLE_LABEL = "cupel-role"
ROLES = ("head", "learner", "engine", "executor")
POLL_S = 2.0
SAY_S = 15.0


@dataclass(frozen=True)
class Node:
    """A node that lives."""

    address: str
    role: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)


def living(records: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    """The nodes that live, of what `ray.nodes()` says."""
    return tuple(
        Node(record["NodeManagerAddress"], record.get("Labels", {}).get(ROLE_LABEL), record.get("Resources", {}))
        for record in records
        if record["Alive"]
    )


def lacking(wanted: Mapping[str, int], nodes: Iterable[Node]) -> dict[str, int]:
    """How many nodes of each role are still to come; empty when all are there."""
    there = Counter(node.role for node in nodes)
    return {role: count - there[role] for role, count in wanted.items() if count > there[role]}


def wait_for(
    wanted: Mapping[str, int],
    look: Callable[[], Iterable[Node]],
    seconds: float,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, int]:
    """Wait until `look` shows the nodes that are wanted. Returns what is lacking after so many seconds: nothing, as a rule."""
    started = said = clock()
    while missing := lacking(wanted, look()):
        now = clock()
        if now - started >= seconds:
            break
        if now - said >= SAY_S:
            say(f"waiting for nodes: {_counts(wanted, missing)}")
            said = now
        sleep(POLL_S)
    return missing


def _counts(wanted: Mapping[str, int], missing: Mapping[str, int]) -> str:
    return ", ".join(f"{role} {wanted[role] - count} of {wanted[role]}" for role, count in missing.items())


def read_wanted(arguments: Iterable[str]) -> dict[str, int]:
    """`role=count` of a command line. Raises ValueError with what would do."""
    wanted = {}
    for argument in arguments:
        role, _, count = argument.partition("=")
        if role not in ROLES or not count.isdigit():
            raise ValueError(f"{argument!r}: role=count is needed, the roles are {', '.join(ROLES)}")
        wanted[role] = int(count)
    return wanted


def main(arguments: list[str] | None = None) -> int:
    """Wait for nodes. Returns 0 if they came, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m cluster.nodes", description="Wait for nodes of a Ray cluster.")
    parser.add_argument("--address", required=True, metavar="HOST:PORT", help="Ray's address on the head node.")
    parser.add_argument("--seconds", type=float, default=600.0, help="How long to wait at most.")
    parser.add_argument("wanted", nargs="+", metavar="ROLE=COUNT")
    given = parser.parse_args(arguments)
    try:
        wanted = read_wanted(given.wanted)
    except ValueError as error:
        parser.error(str(error))
    import ray

    def say(text: str) -> None:
        print(f"cupel: {text}", file=sys.stderr, flush=True)

    ray.init(address=given.address, log_to_driver=False, logging_level=logging.ERROR)
    missing = wait_for(wanted, lambda: living(ray.nodes()), given.seconds, say)
    if missing:
        say(f"gave up after {given.seconds:.0f} s waiting for nodes: {_counts(wanted, missing)}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
