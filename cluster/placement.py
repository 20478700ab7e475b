"""Which process gets which part of the cluster; pure.

Where nodes have roles (the label `cupel-role`), an actor goes to a node of its role: learner, engine, executor, and the buffer and what else steers the run to the head. Where none
has one, all nodes are one pool. On a machine without a GPU every actor asks Ray for no CPU: two cores hold a whole run, and the operating system shares
them better than a reservation would. With one GPU, engine and learner share it, as they do with `engine.sleep_mode`; with more, each has its own. Executor workers reserve a CPU a
slot as soon as there are several nodes, which is what spreads them, and what an autoscaler sees.

What a run cannot do without, the learner and its first engine, is reserved by one placement group (`Core`): both or neither, so that two runs do not each hold half of
what they need, and as near to each other as can be, since weights go from one to the other. Everything else comes and goes by itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.config import Config
from cluster.nodes import ROLE_LABEL, Node
from executor.errors import UserError


@dataclass(frozen=True)
class Place:
    """What Ray reserves for one actor, and on which nodes."""

    gpus: float = 0.0
    cpus: float = 0.0
    role: str | None = None
    spread: bool = False
    """Over as many nodes as there are."""

    @property
    def labels(self) -> dict[str, str]:
        """Of the nodes that would do."""
        return {} if self.role is None else {ROLE_LABEL: self.role}

    @property
    def options(self) -> dict[str, Any]:
        """Those of a Ray actor."""
        options: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        if self.role is not None:
            options["label_selector"] = self.labels
        if self.spread:
            options["scheduling_strategy"] = "SPREAD"
        return options


@dataclass(frozen=True)
class Core:
    """The bundles of the learner and the first engine in one placement group."""

    bundles: tuple[Mapping[str, float], ...]
    labels: tuple[Mapping[str, str], ...]
    """Of the nodes that each bundle may be on."""
    learner: int
    rollout: int
    """Which bundle is whose."""

    @property
    def gpus(self) -> float:
        """Of all bundles."""
        return sum(bundle.get("GPU", 0.0) for bundle in self.bundles)


@dataclass(frozen=True)
class Placement:
    """The place of one actor of each kind."""

    learner: Place = Place()
    rollout: Place = Place()
    executor: Place = Place()
    control: Place = Place()
    """Of the buffer and the executors' membership, which ask for nothing but to be reached."""

    @property
    def core(self) -> Core | None:
        """None where learner and engine reserve nothing."""
        learner, rollout = self.learner, self.rollout
        if not (learner.gpus and rollout.gpus):
            return None
        labels = [place.labels for place in (learner, rollout)]
        if learner.gpus + rollout.gpus <= 1:  # halves of one GPU, and not of two
            return Core(({"GPU": 1.0},), (labels[0],), 0, 0)
        return Core(({"GPU": learner.gpus}, {"GPU": rollout.gpus}), tuple(labels), 0, 1)


def engine_threads(asked: int | None) -> int:
    """OpenMP threads of an engine on a CPU: half of the cores, unless so many are asked for.

    In a run the learner takes what the engine leaves idle; and two engine threads that wait for a core spin against each other, so that more are
    slower as soon as anything else runs.
    """
    return asked or max(1, (os.cpu_count() or 1) // 2)


@dataclass(frozen=True)
class Demand:
    """How many a run wants."""

    rollout_actors: int = 1
    executor_workers: int = 1
    slots: int = 1
    """Of an executor worker."""
    tensor_parallel: int = 1
    """GPUs of one engine, all of one node."""
    sleep_mode: bool = False
    """Learner and engine take turns on one GPU."""

    @classmethod
    def of(cls, config: Config) -> Demand:
        """What the configuration asks for."""
        return cls(
            config.rollout.actors,
            config.executor.workers,
            config.executor.slots,
            config.engine.tensor_parallel,
            config.engine.sleep_mode,
        )

    @property
    def engines(self) -> str:
        """As a person set it."""
        split = f" engine.tensor_parallel={self.tensor_parallel}" if self.tensor_parallel > 1 else ""
        return f"rollout.actors={self.rollout_actors}{split}"


def plan(nodes: Sequence[Node], demand: Demand, growing: bool = False) -> Placement:
    """Places for one learner and what is demanded on `nodes`.

    `growing`: an autoscaler adds nodes when something waits for them. Raises UserError if what there is does not suffice and will not grow.
    """
    roles = {node.role for node in nodes if node.role is not None}
    if demand.sleep_mode and roles:
        raise UserError(
            f"engine.sleep_mode=true: learner and engine take turns on one GPU, but nodes with {ROLE_LABEL}=learner and =engine are two"
        )
    if demand.sleep_mode and demand.rollout_actors > 1:
        raise UserError(f"{demand.engines}: with engine.sleep_mode=true one engine takes turns with the learner")
    if not growing:
        _refuse(nodes, roles, demand)
    if roles:
        return Placement(
            learner=Place(gpus=float(_sum(nodes, "GPU", "learner") > 0), role="learner"),
            rollout=Place(gpus=float(demand.tensor_parallel * (_sum(nodes, "GPU", "engine") > 0)), role="engine"),
            executor=Place(cpus=float(demand.slots), role="executor", spread=True),
            control=Place(role="head" if "head" in roles else None),
        )
    gpus = _sum(nodes, "GPU")
    each = 0.0 if gpus == 0 else 0.5 if gpus == 1 or demand.sleep_mode else 1.0
    alone = len(nodes) < 2 and not growing
    executor = Place() if alone else Place(cpus=float(demand.slots), spread=True)
    return Placement(learner=Place(gpus=each), rollout=Place(gpus=each * demand.tensor_parallel), executor=executor)


def _sum(nodes: Sequence[Node], resource: str, role: str | None = None) -> int:
    """Of the nodes of that role, or of all."""
    return int(sum(node.resources.get(resource, 0) for node in nodes if role is None or node.role == role))


def _fitting(gpus: Sequence[int], demand: Demand) -> int:
    """Engines on nodes with so many GPUs."""
    return sum(number // demand.tensor_parallel for number in gpus)


def _fitting_beside_the_learner(gpus: Sequence[int], demand: Demand) -> int:
    """As many as fit wherever the learner's GPU is, for Ray chooses that."""
    with_learner = [[n - (i == j) for j, n in enumerate(gpus)] for i, has in enumerate(gpus) if has]
    return min((_fitting(left, demand) for left in with_learner), default=0)


def _refuse(nodes: Sequence[Node], roles: set[str], demand: Demand) -> None:
    for role in ("learner", "engine", "executor"):
        if roles and role not in roles:
            raise UserError(
                f"no node has the label {ROLE_LABEL}={role}: ray start --address=HEAD:6379 --labels {ROLE_LABEL}={role}, "
                "or ray.growing=true if an autoscaler adds one"
            )
    each = "one" if demand.tensor_parallel == 1 else f"{demand.tensor_parallel} of one node"
    if roles:
        gpus = [_sum([node], "GPU") for node in nodes if node.role == "engine"]
        if sum(gpus) > 0 and _fitting(gpus, demand) < demand.rollout_actors:
            raise UserError(
                f"{demand.engines}: the nodes with {ROLE_LABEL}=engine have {sum(gpus)} GPUs, {each} for each"
            )
    else:
        gpus = [_sum([node], "GPU") for node in nodes]
        if sum(gpus) == 1 and (demand.rollout_actors > 1 or demand.tensor_parallel > 1):
            raise UserError(f"{demand.engines}: one GPU holds one engine beside the learner")
        fitting = _fitting_beside_the_learner(gpus, demand)
        if sum(gpus) > 1 and not demand.sleep_mode and fitting < demand.rollout_actors:
            raise UserError(
                f"{demand.engines}: with {sum(gpus)} GPUs, one of them the learner's, at most {fitting} fit, {each} for each"
            )
    cpus, wanted = _sum(nodes, "CPU", "executor" if roles else None), demand.executor_workers * demand.slots
    if (roles or len(nodes) > 1) and wanted > cpus:
        where = f"the nodes with {ROLE_LABEL}=executor have" if roles else "the cluster has"
        raise UserError(
            f"executor.workers={demand.executor_workers}: {wanted} CPUs are needed, {demand.slots} each, {where} {cpus}"
        )
