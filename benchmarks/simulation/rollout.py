"""A rollout actor of a simulation: the real `Episode` and `Dispatch`, an engine that takes its time, one event loop.

Invariant: what an actor that died has begun changes nothing any more, whoever still works on it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from actors.episode import Episode, Phase, Rules
from benchmarks.simulation.central import CentralBuffer
from benchmarks.simulation.draws import Draws
from benchmarks.simulation.setting import Setting
from benchmarks.simulation.stations import Clock, Engine, Generation, Server, Worker
from buffer.replay import Ticket
from buffer.trajectory import Group, Trajectory
from executor.dispatch import Dispatch
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict
from executor.worker import IN_FLIGHT_PER_SLOT

_TRIES = ExecutorSettings.model_fields["retries"].default + 1
_MIN_TRAJECTORIES = 2  # actors/rollout.py, which imports Ray's company
_VERDICTS = {outcome: Verdict(problem_id="simulated", outcome=outcome) for outcome in Outcome}


@dataclass(eq=False)
class _Visit:
    """A group under way."""

    ticket: Ticket
    again: int
    left: int
    trajectories: list[Trajectory] = field(default_factory=list)
    tokens: int = 0


@dataclass(eq=False)
class _Attempt:
    """An episode under way."""

    visit: _Visit
    sample: int
    episode: Episode
    process: int
    begun: float
    tokens: int
    """Of prompt, responses and feedback so far."""
    new: int = 0
    version: int = -1
    place: int = 0
    passes: bool = False


class Totals:
    """What all actors have done."""

    def __init__(self) -> None:
        self.episodes = 0
        self.episode_s = 0.0
        self.under_way = 0
        self.under_way_s = 0.0
        """Integral of the number under way."""
        self._since = 0.0
        self.judged = 0
        self.lost_episodes = 0
        self.lost_samples = 0

    def change(self, now: float, by: int) -> None:
        """So many episodes more are under way."""
        self.under_way_s += self.under_way * (now - self._since)
        self.under_way, self._since = self.under_way + by, now


class RolloutActor:
    """Takes tickets, plays episodes, puts groups."""

    def __init__(
        self,
        number: int,
        clock: Clock,
        setting: Setting,
        draws: Draws,
        buffer: CentralBuffer,
        workers: dict[str, Worker],
        slots: dict[str, int],
        totals: Totals,
    ) -> None:
        self.name = f"rollout-{number}"
        self.process = 0
        self.engine = Engine(clock, setting)
        self.loop = Server(clock)
        self._number = number
        self._clock, self._setting, self._draws, self._buffer = clock, setting, draws, buffer
        self._workers, self._slots, self._totals = workers, slots, totals
        turns = setting.max_turns
        self._rules = Rules(
            max_turns=turns,
            max_tokens=self._units(setting.prompt_tokens)
            + turns * self._units(setting.max_response_tokens)
            + (turns - 1) * self._units(setting.feedback_tokens),
            max_response_tokens=self._units(setting.max_response_tokens),
        )
        self._prompt = [0] * self._units(setting.prompt_tokens)
        self._feedback = [0] * self._units(setting.feedback_tokens)
        self._judgement_s = setting.dispatch_s + setting.place_worker_s * setting.workers
        self._begin()

    def _begin(self) -> None:
        self._dispatch = Dispatch(IN_FLIGHT_PER_SLOT, _TRIES, random.Random(f"{self.name}/{self.process}"))
        self._dispatch.set_members(self._slots)
        self._visits: dict[int, _Visit] = {}
        self._pending: dict[int, tuple[_Attempt, int]] = {}
        self._queued = 0
        self._next = 0
        self._asking = False

    def _units(self, tokens: int) -> int:
        return -(-tokens // self._setting.unit_tokens)

    # Tickets ----------------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Poll for as many tickets as there is room for."""
        free = self._setting.groups_at_once - len(self._visits)
        if free > 0 and not self._asking:
            self._asking = True
            self._buffer.acquire(self, free)

    def receive(self, process: int, tickets: list[Ticket]) -> None:
        """Begin their groups."""
        if process != self.process:
            return
        self._asking = False
        for ticket in tickets:
            visit = _Visit(ticket, process * 7 + ticket.attempt - 1, self._setting.samples_per_problem)
            self._visits[ticket.group_id] = visit
            for sample in range(self._setting.samples_per_problem):
                episode = Episode(ticket.problem_id, self._prompt, self._rules, bool(self._setting.public_tests))
                attempt = _Attempt(visit, sample, episode, process, self._clock.now, self._setting.prompt_tokens)
                self._totals.change(self._clock.now, +1)
                self._generate(attempt)
        self.ask()

    # An episode -------------------------------------------------------------------------------------------------------

    def _generate(self, attempt: _Attempt) -> None:
        visit, turn = attempt.visit, len(attempt.episode.turns)
        attempt.place = self._draws.place(visit.ticket.group_id, attempt.sample, turn, visit.again)
        attempt.passes = self._draws.passes(attempt.place, int(visit.ticket.problem_id))
        self.engine.submit(
            Generation(
                tokens=self._draws.response_tokens(attempt.place),
                context=attempt.tokens,
                new=attempt.new,
                prompt_of=visit.ticket.group_id if turn == 0 else None,
                version=attempt.version,
                done=self._responded,
                owner=attempt,
            )
        )

    def _responded(self, generation: Generation, version: int, start: float) -> None:
        attempt: _Attempt = generation.owner
        if attempt.process != self.process:
            return
        units = self._units(generation.tokens)
        versions = self.engine.versions(start, generation.tokens, units)
        attempt.episode.respond([1] * units, [-1.0] * units, versions, "", "stop")
        attempt.tokens += generation.tokens
        attempt.version = version
        if self._draws.has_code(attempt.place):
            self._judge_after(attempt, self._setting.turn_s)
        else:
            self._clock.at(self.loop.serve(self._setting.turn_s), self._judged, attempt, Outcome.NO_CODE)

    def _judge_after(self, attempt: _Attempt, seconds: float) -> None:
        self._clock.at(self.loop.serve(seconds + self._judgement_s), self._judge, attempt)

    def _judge(self, attempt: _Attempt) -> None:
        if attempt.process != self.process:
            return
        self._next += 1
        self._pending[self._next] = attempt, 0
        self._dispatch.submit(self._next)
        self._queued += 1
        self._place()

    def _place(self) -> None:
        if not self._queued:
            return
        s = self._setting
        for ticket, name in self._dispatch.place():
            self._queued -= 1
            attempt, tries = self._pending[ticket]
            public = attempt.episode.phase is Phase.JUDGE_PUBLIC
            seconds = self._draws.judge_s(attempt.place, s.public_tests if public else s.all_tests)
            worker = self._workers[name]
            done = worker.serve(s.latency_s, seconds)
            fails = self._draws.judge_fails(attempt.place + 7919 * tries)
            back = done + s.linger_s + s.latency_s
            self._clock.at(back, self._answered, attempt.process, ticket, name, worker.process, fails)

    def _answered(self, process: int, ticket: int, name: str, worker: int, fails: bool) -> None:
        if process != self.process or worker != self._workers[name].process:
            return  # nobody waits for it, or it was lost with its worker and is done again
        attempt, tries = self._pending[ticket]
        if fails:
            if self._dispatch.failed(name, ticket):
                del self._pending[ticket]
                self._lost(attempt)
            else:
                self._pending[ticket] = attempt, tries + 1
                self._queued += 1
        else:
            ended = self._dispatch.answered(name, ticket)
            assert ended, "a request ends once"
            del self._pending[ticket]
            self._totals.judged += 1
            self._judged(attempt, Outcome.PASS if attempt.passes else Outcome.FAILURE)
        self._place()

    def _judged(self, attempt: _Attempt, outcome: Outcome) -> None:
        if attempt.process != self.process:
            return
        episode = attempt.episode
        episode.judge(_VERDICTS[outcome])
        if episode.phase is Phase.OBSERVE:
            episode.observe(self._feedback)
            if episode.phase is Phase.GENERATE:
                attempt.new = self._setting.feedback_tokens
                attempt.tokens += attempt.new
                self._generate(attempt)
                return
        if episode.phase is Phase.JUDGE_ALL:
            if outcome is Outcome.NO_CODE:
                episode.judge(_VERDICTS[outcome])
            else:
                self._judge_after(attempt, 0.0)
                return
        visit = attempt.visit
        visit.trajectories.append(episode.trajectory())
        visit.tokens += attempt.tokens - self._setting.prompt_tokens
        self._totals.episodes += 1
        self._totals.episode_s += self._clock.now - attempt.begun
        self._ended(visit)

    def _lost(self, attempt: _Attempt) -> None:
        """Our machinery failed on a sample: it is left out."""
        self._totals.lost_samples += 1
        self._ended(attempt.visit)

    def _ended(self, visit: _Visit) -> None:
        self._totals.change(self._clock.now, -1)
        visit.left -= 1
        if visit.left:
            return
        ticket, process = visit.ticket, self.process

        def settled() -> None:
            if process == self.process:
                del self._visits[ticket.group_id]
                self.ask()

        if len(visit.trajectories) < min(_MIN_TRAJECTORIES, self._setting.samples_per_problem):
            self._buffer.fail(ticket.group_id, settled)
            return
        group = Group(
            group_id=ticket.group_id,
            problem_id=ticket.problem_id,
            issued_version=ticket.issued_version,
            trajectories=visit.trajectories,
            seconds={"tokens": float(visit.tokens)},
        )
        self._buffer.put(group, visit.tokens + len(visit.trajectories) * self._setting.prompt_tokens, settled)

    # What dies --------------------------------------------------------------------------------------------------------

    def die(self, version: int) -> None:
        """The process is gone; a fresh one begins after a while, and is told of new weights meanwhile."""
        self.engine.advance()
        self.process += 1
        under_way = sum(visit.left for visit in self._visits.values())
        self._totals.change(self._clock.now, -under_way)
        self._totals.lost_episodes += under_way
        produced, prefill_s = self.engine.produced, self.engine.prefill_s
        process = self.process

        def up() -> None:
            if process == self.process:  # else it died again meanwhile
                self._asking = False
                self.ask()

        self._begin()
        self._asking = True  # nothing is asked for until it is up
        self.engine = Engine(self._clock, self._setting, version, produced, prefill_s)
        restart = self._setting.engine_restart_s
        self._buffer.release(self.name, lambda: self._clock.at(self._clock.now + restart, up))

    def worker_lost(self, name: str) -> None:
        """An executor worker is gone: what it had is asked of others; what was lost too often ends."""
        before = len(self._dispatch.tickets_of(name))
        given_up = self._dispatch.lost(name)
        self._queued += before - len(given_up)
        for ticket in given_up:
            attempt, _ = self._pending.pop(ticket)
            self._lost(attempt)
        self._place()

    def worker_back(self, name: str) -> None:
        """It judges again."""
        self._dispatch.set_open(name, True)
        self._place()
