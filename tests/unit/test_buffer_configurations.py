"""The shipped buffers run at their own settings, whatever the speed of the rollout actors: no deadlock, nothing too old, no place empty."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

import pytest
from buffer_groups import group, ids

from buffer.replay import Replay, Ticket
from buffer.trajectory import Group
from cluster.actors import buffer_settings
from cluster.config import Config, load_config

CONFIGS = Path(__file__).resolve().parents[2] / "cluster" / "configs"
PROBLEMS = [f"p{i}" for i in range(50)]


class Simulation:
    """A learner, and rollout actors that finish so many groups a learner step, the oldest tickets last."""

    def __init__(self, config: Config, groups_a_step: float) -> None:
        self.config = config
        self.replay = Replay(buffer_settings(config), PROBLEMS)
        self.speed = groups_a_step
        self.outstanding: list[Ticket] = []
        self.steps = 0
        self.batches: list[list[Group]] = []
        self.pools: list[list[int]] = []  # at every draw
        most = config.rollout.samples_per_problem
        # Group after group, some without a few samples that could not be judged.
        self.answers = cycle([group(0, size) for size in (most, most, most, most - 1, most, max(2, most - 3))])

    def finish(self, count: int) -> None:
        for _ in range(count):
            limit = self.config.rollout.concurrent_groups - len(self.outstanding)
            self.outstanding += self.replay.acquire(limit, "r")
            if not self.outstanding:
                return
            ticket = self.outstanding.pop()
            fields = {
                "group_id": ticket.group_id,
                "problem_id": ticket.problem_id,
                "issued_version": ticket.issued_version,
            }
            assert self.replay.put(next(self.answers).model_copy(update=fields))

    def step(self) -> None:
        self.finish(int((self.steps + 1) * self.speed) - int(self.steps * self.speed))
        while not self.replay.ready():
            self.outstanding += self.replay.acquire(1, "r")
            assert self.outstanding, f"nothing is under way or to be had, and it waits for {self.replay.waiting_for()}"
            self.finish(1)
        version = self.steps // self.config.weights.broadcast_every
        self.batches.append(self.replay.take())
        self.pools.append(sorted(ids(self.replay.pool.groups)))
        assert len(set(ids(self.batches[-1]))) == self.config.learner.groups_per_step
        assert all(version - one.issued_version <= self.config.weights.max_staleness for one in self.batches[-1])
        assert self.config.buffer.kind == "queue" or self.replay.pool.samples <= self.config.buffer.capacity
        self.replay.commit()
        self.steps += 1
        self.replay.advance(self.steps // self.config.weights.broadcast_every)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def refreshes(self) -> list[int]:
        """Steps at which the pool was another one than before."""
        return [i for i in range(1, self.steps) if self.pools[i] != self.pools[i - 1]]


@pytest.mark.parametrize("speed", [0.2, 1.0, 6.0, 30.0])
@pytest.mark.parametrize("name", ["rltf_online_buffer", "rltf_offline", "rltf_all", "synchronous"])
def test_a_shipped_buffer_never_starves(name: str, speed: float) -> None:
    simulation = Simulation(load_config(CONFIGS / f"{name}.yaml"), speed)
    simulation.run(60)


def test_the_papers_buffer_does_not_starve_where_rollouts_are_slowest() -> None:
    Simulation(load_config(CONFIGS / "rltf_paper.yaml"), 0.2).run(200)


@pytest.mark.parametrize("speed", [1.0, 30.0])
def test_the_papers_buffer_is_full_from_the_first_step_and_refreshed_every_50(speed: float) -> None:
    simulation = Simulation(load_config(CONFIGS / "rltf_paper.yaml"), speed)
    simulation.run(1)
    assert simulation.replay.gauges()["pool_samples"] == 6400
    for _ in range(22):
        simulation.run(10)
        assert simulation.replay.gauges()["pool_samples"] == 6400
    assert simulation.refreshes() == list(range(50, 221, 50))


def test_the_papers_buffer_is_drawn_from_again_where_rollouts_are_slow() -> None:
    """One group a step where a step takes six: each comes about six times in its life in the pool."""
    simulation = Simulation(load_config(CONFIGS / "rltf_paper.yaml"), 1.0)
    simulation.run(400)
    drawn = [name for batch in simulation.batches for name in ids(batch)]
    assert 3 < len(drawn) / len(set(drawn)) < 7


def test_a_refresh_changes_nothing_but_for_the_newest_groups() -> None:
    simulation = Simulation(load_config(CONFIGS / "rltf_paper.yaml"), 2.0)
    simulation.run(200)
    for before, after in zip(simulation.pools[49::50], islice(simulation.pools, 50, None, 50), strict=False):
        new = set(after) - set(before)
        assert 90 <= len(new) <= 110  # two a step, of 50 steps, and those beyond the first filling
        assert min(new) > max(before) - simulation.config.rollout.concurrent_groups


def test_the_offline_row_draws_what_the_first_weights_sampled() -> None:
    simulation = Simulation(load_config(CONFIGS / "rltf_offline.yaml"), 3.0)
    simulation.run(100)
    assert {one.issued_version for batch in simulation.batches for one in batch} == {0}
    drawn = [name for batch in simulation.batches for name in ids(batch)]
    assert len(drawn) > len(set(drawn))


def test_the_default_trains_every_group_once() -> None:
    simulation = Simulation(load_config(), 6.0)
    simulation.run(100)
    drawn = [name for batch in simulation.batches for name in ids(batch)]
    assert len(drawn) == len(set(drawn)) == 600
