"""Whatever happens in whatever order, to a queue and to RLTF's buffer: the same promises, with each kind's settings.

Nothing is lost, trained too old or twice in a pass, no sample is pushed out that has a place, the buffer goes on from a
saved state as it would have, and nothing deadlocks. The state machine is driven at random and checked against a plain
model of where each ticket and sample is; a queue also against Hall's condition (places for all that is due by every
version), which is not how the buffer decides.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Literal

from buffer_groups import answer, ids, names
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from buffer.replay import Replay, Ticket
from buffer.settings import BufferSettings
from buffer.trajectory import Group

HOLDERS = st.sampled_from(["rollout-0", "rollout-1", "rollout-2"])
MOST_SAMPLES = 3


class BufferMachine(RuleBasedStateMachine):
    """A buffer, three rollout actors, a learner and a controller, none of them in step with another."""

    kind: Literal["queue", "online"]

    def __init__(self) -> None:
        super().__init__()
        self.outstanding: dict[int, tuple[Ticket, str]] = {}
        self.again: set[int] = set()
        self.finished: dict[int, Group] = {}
        self.taken: list[Group] = []
        self.trained: Counter[int] = Counter()
        self.in_pass: set[int] = set()  # drawn since the last refresh or since all had been drawn
        self.steps = 0
        self.steps_since_refresh = 0
        self.version = 0
        self.issued = 0
        self.expected = 1  # rollout actors

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        groups = data.draw(st.integers(1, 3), "groups_per_step")
        self.settings = BufferSettings(
            kind=self.kind,
            groups_per_step=groups,
            broadcast_every=data.draw(st.integers(1, 3), "broadcast_every"),
            max_staleness=data.draw(st.integers(0, 3), "max_staleness"),
            max_attempts=data.draw(st.integers(1, 2), "max_attempts"),
            selection=data.draw(st.sampled_from(["uniform", "signal"]), "selection"),
            capacity=data.draw(st.integers(groups * MOST_SAMPLES, groups * MOST_SAMPLES + 12), "capacity"),
            refresh_every=data.draw(st.integers(1, 5), "refresh_every"),
            fill_first=data.draw(st.booleans(), "fill_first"),
        )
        self.problems = [f"p{i}" for i in range(data.draw(st.integers(1, 4), "problems"))]
        self.replay = Replay(self.settings, self.problems)

    # What the model knows

    @property
    def oldest(self) -> int:
        return self.steps // self.settings.broadcast_every - self.settings.max_staleness

    @property
    def pool(self) -> list[Group]:
        return list(self.replay.pool.groups)

    @property
    def staged(self) -> list[Group]:
        return list(self.replay.pool.staged)

    def fresh(self, groups: list[Group]) -> list[Group]:
        return [one for one in groups if one.issued_version >= self.oldest]

    def available(self) -> list[Group]:
        """What a step might be made of, by the model: of a queue all that has not been trained."""
        untrained = [g for name, g in self.finished.items() if not self.trained[name]]
        there = untrained if self.kind == "queue" else self.fresh([*self.pool, *self.staged])
        return [one for one in there if one.group_id not in ids(self.taken)]

    # Rollout actors

    @rule(limit=st.integers(1, 12), holder=HOLDERS)
    def acquire(self, limit: int, holder: str) -> None:
        free = max(0, self.replay.allowed - self.issued) + len(self.again)
        held = sum(owner == holder for _, owner in self.outstanding.values())
        part = math.ceil((free + len(self.outstanding)) / self.expected)
        tickets = self.replay.acquire(limit, holder)
        assert len(tickets) == max(0, min(limit, free, part - held))
        for ticket in tickets:
            assert ticket.issued_version == self.version
            assert ticket.group_id not in self.outstanding
            if ticket.group_id == self.issued:
                assert not self.again  # work to be done again comes first
                self.issued += 1
            else:
                self.again.remove(ticket.group_id)
            self.outstanding[ticket.group_id] = (ticket, holder)

    def acquire_all(self) -> None:
        """Those that are expected, once each, leave nothing that might be under way."""
        for number in range(self.expected):
            self.acquire(10_000, f"rollout-{number}")
        assert not self.again and self.issued >= self.replay.allowed

    @rule(holders=st.integers(1, 3))
    def expect(self, holders: int) -> None:
        self.expected = holders
        self.replay.expect(holders)

    def pick(self, data: st.DataObject) -> Ticket:
        return self.outstanding[data.draw(st.sampled_from(sorted(self.outstanding)))][0]

    @precondition(lambda self: self.outstanding)
    @rule(data=st.data(), size=st.integers(1, MOST_SAMPLES))
    def put(self, data: st.DataObject, size: int) -> None:
        self.finish(self.pick(data), size)

    def finish(self, ticket: Ticket, size: int = MOST_SAMPLES) -> None:
        group = answer(ticket, size)
        assert self.replay.put(group)
        assert not self.replay.put(group)
        del self.outstanding[ticket.group_id]
        self.finished[ticket.group_id] = group

    @precondition(lambda self: self.outstanding)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        ticket = self.pick(data)
        self.replay.fail(ticket.group_id, "the sandbox broke")
        del self.outstanding[ticket.group_id]
        self.again.add(ticket.group_id)

    @rule(holder=st.none() | HOLDERS, late=st.booleans())
    def release(self, holder: str | None, late: bool) -> None:
        self.replay.release(holder)
        for group_id, (ticket, owner) in list(self.outstanding.items()):
            if holder is None or owner == holder:
                del self.outstanding[group_id]
                self.again.add(group_id)
                # The holder was not lost after all: its group counts only if it is as fresh as a new one would be.
                if late and self.replay.put(answer(ticket, 1)):
                    assert ticket.issued_version == self.version
                    self.again.remove(group_id)
                    self.finished[group_id] = answer(ticket, 1)

    # Learner and controller

    @precondition(lambda self: self.replay.ready())
    @rule(given_up=st.booleans())
    def take(self, given_up: bool) -> None:
        pool, staged = self.pool, self.staged
        self.taken = self.replay.take()
        assert len(set(ids(self.taken))) == len(self.taken) == self.settings.groups_per_step
        assert all(one.issued_version >= self.oldest for one in self.taken)
        refreshed = bool(staged) and not self.staged
        if refreshed:
            self.check_refresh(self.fresh(pool), self.fresh(staged))
            self.in_pass.clear()
            self.steps_since_refresh = 0
        else:
            assert names(self.pool) == names(pool)
            starved = len(self.fresh(pool)) < self.settings.groups_per_step
            assert not staged or not (starved or self.kind == "queue")
            assert not staged or self.steps_since_refresh < self.settings.refresh_every
        drawable = {one.group_id: one for one in self.fresh(self.pool)}
        assert all(drawable[one.group_id] == one for one in self.taken)
        if self.kind == "queue":
            assert all(not self.trained[name] for name in ids(self.taken))
            assert all(names([one]) == names([self.finished[one.group_id]]) for one in self.taken)  # with all samples
        if given_up:
            taken = ids(self.taken)
            self.untake()
            assert ids(self.replay.take()) == taken
            self.taken = [drawable[name] for name in taken]

    def check_refresh(self, pool: list[Group], staged: list[Group]) -> None:
        before, new, after = set(names(pool)), set(names(staged)), set(names(self.pool))
        places = self.settings.capacity if self.kind == "online" else 10**9
        assert len(after) == min(len(before) + len(new), places)
        assert after <= before | new
        assert new <= after or not before & after  # the older ones went first
        whole = {one.group_id: len(one.sampled) for one in (*pool, *staged)}
        assert sum(len(one.sampled) < whole[one.group_id] for one in self.pool) <= 1

    @precondition(lambda self: self.taken)
    @rule()
    def commit(self) -> None:
        drawn = set(ids(self.taken))
        drawable = set(ids(self.fresh(self.pool)))
        left = drawable - self.in_pass
        if len(left) >= len(drawn):
            assert drawn <= left  # none again before all have come
            self.in_pass |= drawn
        else:
            assert left <= drawn
            self.in_pass = drawn - left
        self.trained.update(drawn)
        self.replay.commit()
        self.steps += 1
        self.steps_since_refresh += 1
        self.taken = []

    @rule()
    def untake(self) -> None:
        self.replay.untake()
        self.taken = []

    @precondition(lambda self: not self.taken)
    @rule(rounds=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=4))
    def run_with_slow_groups(self, rounds: list[tuple[int, int]]) -> None:
        """The oldest groups take long while newer ones come in and the learner goes on: what the bound is for."""
        for slow, most in rounds:
            self.acquire_all()
            for group_id in sorted(self.outstanding)[slow:]:
                self.finish(self.outstanding[group_id][0])
            for _ in range(most):
                self.it_waits_exactly_where_it_must()
                if not self.replay.ready():
                    break
                self.take(given_up=False)
                self.commit()
                self.catch_up()

    def catch_up(self) -> None:
        while self.version < self.steps // self.settings.broadcast_every:
            self.advance()

    @precondition(lambda self: self.version < self.steps // self.settings.broadcast_every)
    @rule()
    def advance(self) -> None:
        self.version += 1
        self.replay.advance(self.version)

    def loaded(self, text: str) -> Replay:
        replay = Replay(self.settings, self.problems)
        replay.load_state_dict(json.loads(text))
        replay.expect(self.expected)
        assert json.dumps(replay.state_dict()) == text
        return replay

    @rule()
    def restart(self) -> None:
        text = json.dumps(self.replay.state_dict())
        saved, self.replay = self.replay, self.loaded(text)
        self.again |= set(self.outstanding)
        self.outstanding, self.taken = {}, []
        # From here on the saved one would do the same, once it has its work back.
        saved.release(None)
        saved.untake()
        assert saved.gauges() == self.replay.gauges()
        assert saved.waiting_for() == self.replay.waiting_for()
        assert not saved.ready() or saved.take() == self.loaded(text).take()

    def teardown(self) -> None:
        """Once all that was handed out is answered and the engines are up to date, a step is always possible."""
        if not hasattr(self, "replay"):
            return
        self.catch_up()
        if self.taken:
            self.commit()
            self.catch_up()
        for _ in range(4):
            self.acquire_all()
            for group_id in sorted(self.outstanding, reverse=True):
                self.finish(self.outstanding[group_id][0])
            assert self.replay.ready(), self.replay.waiting_for()
            self.take(given_up=False)
            self.commit()
            self.catch_up()

    # What always holds

    @invariant()
    def every_ticket_is_in_one_place(self) -> None:
        assert sorted([*self.outstanding, *self.again, *self.finished]) == list(range(self.issued))
        gauges = self.replay.gauges()
        assert gauges["outstanding"] == len(self.outstanding)
        assert gauges["reissuable"] == len(self.again)
        assert gauges["ready"] == len(self.available())
        assert gauges["taken"] == len(self.taken)
        assert gauges["issued"] == self.issued

    @invariant()
    def generation_keeps_within_the_bound(self) -> None:
        s = self.settings
        assert self.issued <= (s.max_staleness + self.version + 1) * s.broadcast_every * s.groups_per_step

    @invariant()
    def what_was_sampled_is_there_as_far_as_there_are_places(self) -> None:
        held = names([*self.pool, *self.staged])
        assert len(held) == len(set(held))
        if self.kind == "online":
            assert len(names(self.pool)) <= self.settings.capacity
            assert len(names(self.staged)) < self.settings.capacity + MOST_SAMPLES
        else:
            untrained = [one for name, one in self.finished.items() if not self.trained[name]]
            assert sorted(held) == sorted(names(untrained))

    @invariant()
    def it_waits_exactly_where_it_must(self) -> None:
        available = self.available()
        enough = not self.taken and len(available) >= self.settings.groups_per_step
        may_go = self.no_group_would_be_late() if self.kind == "queue" else self.filled()
        assert self.replay.ready() == (enough and may_go)

    def filled(self) -> bool:
        s = self.settings
        more = self.outstanding or self.again or self.issued < self.replay.allowed
        return bool(self.steps or not s.fill_first or len(names(self.available())) >= s.capacity or not more)

    def no_group_would_be_late(self) -> bool:
        s = self.settings
        first = sorted(self.available(), key=lambda g: (g.issued_version, g.group_id))
        left = [g.issued_version + s.max_staleness for g in first[s.groups_per_step :]]
        left += [ticket.issued_version + s.max_staleness for ticket, _ in self.outstanding.values()]
        return all(
            sum(due <= v for due in left) <= max(0, (v + 1) * s.broadcast_every - self.steps - 1) * s.groups_per_step
            for v in range(self.version + s.max_staleness + 2)
        )


class QueueMachine(BufferMachine):
    """Every group once, in time."""

    kind = "queue"


class OnlineMachine(BufferMachine):
    """RLTF's pool."""

    kind = "online"


_SETTINGS: Any = hypothesis_settings(max_examples=50, stateful_step_count=50)
QueueMachine.TestCase.settings = _SETTINGS
OnlineMachine.TestCase.settings = _SETTINGS
TestQueue = QueueMachine.TestCase
TestOnline = OnlineMachine.TestCase
