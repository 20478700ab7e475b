"""The simulation: rollout actors, executor workers, buffer, and the controller's loop of steps and broadcasts.

Invariant: after every simulation the ledger balances, or AssertionError is raised.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from benchmarks.simulation.central import CentralBuffer
from benchmarks.simulation.draws import Draws
from benchmarks.simulation.rollout import RolloutActor, Totals
from benchmarks.simulation.setting import Setting
from benchmarks.simulation.sizing import split
from benchmarks.simulation.stations import Clock, Worker
from buffer.trajectory import Group

FULL = 0.8  # a part with this load is what holds the rest up: work comes in bursts
BOUND = "bound"  # of staleness


@dataclass(frozen=True)
class Result:
    """What a simulation came to, over its measured steps."""

    gpus: int
    engines: int
    learner_gpus: float
    slots: int
    groups_per_step: int
    seconds: float
    """Simulated."""
    steps_per_hour: float
    trajectories_per_s: float
    tokens_per_s: float
    """Sampled."""
    judgements_per_s: float
    puts_per_s: float
    loads: dict[str, float]
    """Share of its time or capacity that each part was busy: engines, executors, dispatch, buffer, learner, broadcast."""
    learner_idle: float
    staleness_mean: float
    """Policy versions behind the learner, over the tokens trained."""
    staleness_max: int
    episode_s: float
    """Mean seconds of an episode."""
    episodes_under_way: float
    """Mean number."""
    trained_groups: int
    tokens_while_training: float
    deaths: int
    lost_episodes: int
    lost_samples: int
    lost_workers: int
    events: int

    @property
    def fullest(self) -> tuple[str, float]:
        """The part with the highest load; learner and broadcast share the controller's time, so they count together."""
        loads = dict(self.loads)
        both = loads["learner"] + loads["broadcast"]
        loads["learner" if loads["learner"] >= loads["broadcast"] else "broadcast"] = both
        name = max(loads, key=lambda part: loads[part])
        return name, loads[name]

    @property
    def saturated(self) -> str:
        """What holds the rest up; the bound, where every part has time to spare and waits for slow episodes and new weights."""
        name, load = self.fullest
        return name if load >= FULL else BOUND


@dataclass(frozen=True)
class _Snapshot:
    now: float
    produced: float
    engines_s: float
    executors_s: float
    loops_s: float
    buffer_s: float
    learner_s: float
    broadcast_s: float
    episodes: int
    episode_s: float
    under_way_s: float
    judged: int
    puts: int


class Simulation:
    """One setting, from an empty buffer to the last step."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.clock = Clock()
        draws = Draws(setting)
        self.engines, self.learner_gpus = split(setting, draws)
        self.buffer = CentralBuffer(self.clock, setting, setting.groups)
        self.buffer.replay.expect(self.engines)
        number = min(setting.simulated_workers, setting.workers)
        slots = {f"executor-{i}": len(range(i, setting.slots_in_all, number)) for i in range(number)}
        self.workers = {name: Worker(self.clock, count) for name, count in slots.items()}
        self.totals = Totals()
        self.actors = [
            RolloutActor(i, self.clock, setting, draws, self.buffer, self.workers, slots, self.totals)
            for i in range(self.engines)
        ]
        self._chance = random.Random(f"{setting.seed}/deaths")
        self._version = 0
        self._steps = 0
        self._learner_s = self._broadcast_s = 0.0
        self._tokens_while_training = 0.0
        self._trained_tokens: Counter[int] = Counter()  # by staleness, of the measured steps
        self._trained_groups = 0
        self._deaths = self._lost_workers = 0
        self._done = False
        self._first: _Snapshot | None = None

    def run(self) -> Result:
        """All steps. Raises AssertionError where the ledger does not balance, or all stands still."""
        for actor in self.actors:
            actor.ask()
            self._die_later(actor)
        for name in self.workers:
            self._lose_later(name)
        if self.setting.warmup_steps == 0:
            self._first = self._snapshot()
        self.buffer.when_ready(self._take)
        while not self._done:
            assert self.clock.step(), f"all stands still; the buffer waits for {self.buffer.replay.waiting_for()}"
        self.buffer.ledger.check(self.buffer.replay)
        return self._result()

    # Controller and learner -------------------------------------------------------------------------------------------

    def _take(self) -> None:
        self.buffer.take(self._packed_tokens, self._learn)

    def _packed_tokens(self, groups: list[Group]) -> int:
        """Tokens that the learner computes: a shared prompt once."""
        return sum(int(group.seconds["tokens"]) + self.setting.prompt_tokens for group in groups)

    def _learn(self, groups: list[Group], tokens: int) -> None:
        s = self.setting
        self._note_staleness(groups)
        seconds = s.learner_fixed_s + s.group_token_s * tokens
        seconds += tokens * s.learner_token_s * s.learner_passes / self.learner_gpus**s.learner_scaling
        self._learner_s += seconds
        self.clock.at(self.clock.now + seconds, self._learnt, groups, self._produced())

    def _note_staleness(self, groups: list[Group]) -> None:
        if self._first is None:
            return
        self._trained_groups += len(groups)
        learner_version = self._steps // self.setting.broadcast_every
        for group in groups:
            for trajectory in group.trajectories:
                for version in set(trajectory.policy_versions):
                    if version >= 0:
                        count = trajectory.policy_versions.count(version)
                        self._trained_tokens[learner_version - version] += count

    def _learnt(self, groups: list[Group], produced: float) -> None:
        self._tokens_while_training += self._produced() - produced
        self.buffer.commit(groups)
        self._steps += 1
        if self._steps % self.setting.broadcast_every:
            self._next_step()
            return
        s = self.setting
        seconds = s.weights_gb / s.transfer_gb_s
        self._broadcast_s += seconds + s.load_s + s.probe_s
        self.clock.at(self.clock.now + seconds, self._update)

    def _update(self) -> None:
        self._version += 1
        for actor in self.actors:
            actor.engine.update(self._version)
        self.clock.at(self.clock.now + self.setting.load_s, self._updated)

    def _updated(self) -> None:
        self.buffer.advance(self._version)
        self.clock.at(self.clock.now + self.setting.probe_s, self._next_step)

    def _next_step(self) -> None:
        if self._steps == self.setting.warmup_steps:
            self._first = self._snapshot()
        if self._steps >= self.setting.warmup_steps + self.setting.steps:
            self._done = True
        else:
            self.buffer.when_ready(self._take)

    # What dies --------------------------------------------------------------------------------------------------------

    def _die_later(self, actor: RolloutActor) -> None:
        if rate := self.setting.actor_deaths_per_hour:
            self.clock.at(self.clock.now + self._chance.expovariate(rate / 3600), self._die, actor)

    def _die(self, actor: RolloutActor) -> None:
        self._deaths += 1
        actor.die(self._version)
        self._die_later(actor)

    def _lose_later(self, name: str) -> None:
        if rate := self.setting.worker_failures_per_hour:
            self.clock.at(self.clock.now + self._chance.expovariate(rate / 3600), self._lose, name)

    def _lose(self, name: str) -> None:
        self._lost_workers += 1
        self.workers[name].lose(self.setting.worker_return_s)
        for actor in self.actors:
            actor.worker_lost(name)
        self.clock.at(self.clock.now + self.setting.worker_return_s, self._return, name, self.workers[name].process)
        self._lose_later(name)

    def _return(self, name: str, process: int) -> None:
        if self.workers[name].process == process:  # else it was lost again
            for actor in self.actors:
                actor.worker_back(name)

    # Counting ---------------------------------------------------------------------------------------------------------

    def _produced(self) -> float:
        for actor in self.actors:
            actor.engine.advance()
        return sum(actor.engine.produced for actor in self.actors)

    def _snapshot(self) -> _Snapshot:
        self.totals.change(self.clock.now, 0)
        return _Snapshot(
            now=self.clock.now,
            produced=self._produced(),
            engines_s=sum(actor.engine.full_s() for actor in self.actors),
            executors_s=sum(worker.busy_s for worker in self.workers.values()),
            loops_s=sum(actor.loop.busy_s for actor in self.actors),
            buffer_s=self.buffer.loop.busy_s,
            learner_s=self._learner_s,
            broadcast_s=self._broadcast_s,
            episodes=self.totals.episodes,
            episode_s=self.totals.episode_s,
            under_way_s=self.totals.under_way_s,
            judged=self.totals.judged,
            puts=len(self.buffer.ledger.put),
        )

    def _result(self) -> Result:
        first, last = self._first, self._snapshot()
        assert first is not None, "the warm-up ended"
        seconds = last.now - first.now
        learner, broadcast = last.learner_s - first.learner_s, last.broadcast_s - first.broadcast_s
        tokens = sum(self._trained_tokens.values())
        episodes = last.episodes - first.episodes
        return Result(
            gpus=self.setting.gpus,
            engines=self.engines,
            learner_gpus=self.learner_gpus,
            slots=self.setting.slots_in_all,
            groups_per_step=self.setting.groups,
            seconds=seconds,
            steps_per_hour=3600 * self.setting.steps / seconds,
            trajectories_per_s=episodes / seconds,
            tokens_per_s=(last.produced - first.produced) / seconds,
            judgements_per_s=(last.judged - first.judged) / seconds,
            puts_per_s=(last.puts - first.puts) / seconds,
            loads={
                "engines": (last.engines_s - first.engines_s) / seconds / self.engines,
                "executors": (last.executors_s - first.executors_s) / seconds / self.setting.slots_in_all,
                "dispatch": (last.loops_s - first.loops_s) / seconds / self.engines,
                "buffer": (last.buffer_s - first.buffer_s) / seconds,
                "learner": learner / seconds,
                "broadcast": broadcast / seconds,
            },
            learner_idle=max(0.0, 1 - (learner + broadcast) / seconds),
            staleness_mean=sum(age * count for age, count in self._trained_tokens.items()) / tokens if tokens else 0.0,
            staleness_max=max(self._trained_tokens, default=0),
            episode_s=(last.episode_s - first.episode_s) / episodes if episodes else 0.0,
            episodes_under_way=(last.under_way_s - first.under_way_s) / seconds,
            trained_groups=self._trained_groups,
            tokens_while_training=self._tokens_while_training,
            deaths=self._deaths,
            lost_episodes=self.totals.lost_episodes,
            lost_samples=self.totals.lost_samples,
            lost_workers=self._lost_workers,
            events=self.clock.events,
        )
