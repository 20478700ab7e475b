"""Whatever happens in whatever order: no group trains too late, none is lost or trained twice, nothing deadlocks.

The state machine is driven at random and checked against a plain model of where each ticket is, and against Hall's
condition (places for all that is due by every version), which is not how the buffer decides.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from buffer.replay import Replay, Ticket
from buffer.settings import BufferSettings
from buffer.trajectory import Group

HOLDERS = st.sampled_from(["rollout-0", "rollout-1", "rollout-2"])


def answer(ticket: Ticket) -> Group:
    return Group(
        group_id=ticket.group_id, problem_id=ticket.problem_id, issued_version=ticket.issued_version, trajectories=[]
    )


class QueueMachine(RuleBasedStateMachine):
    """A queue, three rollout actors, a learner and a controller, none of them in step with another."""

    def __init__(self) -> None:
        super().__init__()
        self.outstanding: dict[int, tuple[Ticket, str]] = {}
        self.again: set[int] = set()
        self.ready: dict[int, Group] = {}
        self.taken: list[Group] = []
        self.trained: list[int] = []
        self.steps = 0
        self.version = 0
        self.issued = 0

    @initialize(
        group_count=st.integers(1, 3),
        steps=st.integers(1, 3),
        staleness=st.integers(0, 3),
        problems=st.integers(1, 4),
        attempts=st.integers(1, 2),
        selection=st.sampled_from(["uniform", "signal"]),
    )
    def start(self, group_count: int, steps: int, staleness: int, problems: int, attempts: int, selection: str) -> None:
        self.settings = BufferSettings(
            groups_per_step=group_count,
            broadcast_every=steps,
            max_staleness=staleness,
            max_attempts=attempts,
            selection=selection,  # type: ignore[arg-type]
        )
        self.problems = [f"p{i}" for i in range(problems)]
        self.replay = Replay(self.settings, self.problems)

    # Rollout actors

    @rule(limit=st.integers(1, 12), holder=HOLDERS)
    def acquire(self, limit: int, holder: str) -> None:
        for place, ticket in enumerate(self.replay.acquire(limit, holder)):
            assert ticket.issued_version == self.version
            assert place < limit
            assert ticket.group_id not in self.outstanding
            if ticket.group_id == self.issued:
                assert not self.again  # work to be done again comes first
                self.issued += 1
            else:
                self.again.remove(ticket.group_id)
            self.outstanding[ticket.group_id] = (ticket, holder)

    def pick(self, data: st.DataObject) -> Ticket:
        return self.outstanding[data.draw(st.sampled_from(sorted(self.outstanding)))][0]

    @precondition(lambda self: self.outstanding)
    @rule(data=st.data())
    def put(self, data: st.DataObject) -> None:
        self.finish(self.pick(data))

    def finish(self, ticket: Ticket) -> None:
        group = answer(ticket)
        assert self.replay.put(group)
        assert not self.replay.put(group)
        del self.outstanding[ticket.group_id]
        self.ready[ticket.group_id] = group

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
                if late and self.replay.put(answer(ticket)):
                    assert ticket.issued_version == self.version
                    self.again.remove(group_id)
                    self.ready[group_id] = answer(ticket)

    # Learner and controller

    @precondition(lambda self: self.replay.ready())
    @rule()
    def take(self) -> None:
        self.taken = self.replay.take()
        assert len(self.taken) == self.settings.groups_per_step
        for group in self.taken:
            del self.ready[group.group_id]

    @precondition(lambda self: self.taken)
    @rule()
    def commit(self) -> None:
        learner_version = self.steps // self.settings.broadcast_every
        for group in self.taken:
            assert learner_version - group.issued_version <= self.settings.max_staleness
            self.trained.append(group.group_id)
        self.replay.commit()
        self.steps += 1
        self.taken = []

    @precondition(lambda self: not self.taken)
    @rule(rounds=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=4), holder=HOLDERS)
    def run_with_slow_groups(self, rounds: list[tuple[int, int]], holder: str) -> None:
        """The oldest groups take long while newer ones come in and the learner goes on: what the bound is for."""
        for slow, most in rounds:
            self.acquire(10_000, holder)
            for group_id in sorted(self.outstanding)[slow:]:
                self.finish(self.outstanding[group_id][0])
            for _ in range(most):
                self.it_waits_exactly_where_it_must()
                if not self.replay.ready():
                    break
                self.take()
                self.commit()
                self.catch_up()

    def catch_up(self) -> None:
        while self.version < self.steps // self.settings.broadcast_every:
            self.advance()

    @rule()
    def untake(self) -> None:
        self.replay.untake()
        self.ready |= {group.group_id: group for group in self.taken}
        self.taken = []

    @precondition(lambda self: self.version < self.steps // self.settings.broadcast_every)
    @rule()
    def advance(self) -> None:
        self.version += 1
        self.replay.advance(self.version)

    @rule()
    def restart(self) -> None:
        state = json.loads(json.dumps(self.replay.state_dict()))
        self.replay = Replay(self.settings, self.problems)
        self.replay.load_state_dict(state)
        self.again |= set(self.outstanding)
        self.outstanding = {}
        self.ready |= {group.group_id: group for group in self.taken}
        self.taken = []

    def teardown(self) -> None:
        """Once all that was handed out is answered and the engines are up to date, a step is always possible."""
        if not hasattr(self, "replay"):
            return
        self.catch_up()
        if self.taken:
            self.commit()
            self.catch_up()
        for _ in range(4):
            self.acquire(10_000, "rollout-0")
            for group_id in sorted(self.outstanding, reverse=True):
                self.finish(self.outstanding[group_id][0])
            assert self.replay.ready(), self.replay.waiting_for()
            self.take()
            self.commit()
            self.catch_up()

    # What always holds

    @invariant()
    def every_ticket_is_in_one_place(self) -> None:
        taken = [group.group_id for group in self.taken]
        everywhere = [*self.outstanding, *self.again, *self.ready, *taken, *self.trained]
        assert sorted(everywhere) == list(range(self.issued))
        gauges = self.replay.gauges()
        assert gauges["outstanding"] == len(self.outstanding)
        assert gauges["reissuable"] == len(self.again)
        assert gauges["ready"] == len(self.ready)
        assert gauges["taken"] == len(taken)
        assert gauges["issued"] == self.issued

    @invariant()
    def generation_keeps_within_the_bound(self) -> None:
        s = self.settings
        assert self.issued <= (s.max_staleness + self.version + 1) * s.broadcast_every * s.groups_per_step

    @invariant()
    def it_waits_exactly_where_it_must(self) -> None:
        s = self.settings
        first = sorted(self.ready.values(), key=lambda g: (g.issued_version, g.group_id))
        left = [g.issued_version + s.max_staleness for g in first[s.groups_per_step :]]
        left += [ticket.issued_version + s.max_staleness for ticket, _ in self.outstanding.values()]
        fits = all(
            sum(due <= v for due in left) <= max(0, (v + 1) * s.broadcast_every - self.steps - 1) * s.groups_per_step
            for v in range(self.version + s.max_staleness + 2)
        )
        assert self.replay.ready() == (not self.taken and len(first) >= s.groups_per_step and fits)


QueueMachine.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=50, deadline=None)
TestQueue = QueueMachine.TestCase


def drive(replay: Replay, *group_ids: int, tickets: dict[int, Ticket]) -> None:
    for group_id in group_ids:
        assert replay.put(answer(tickets[group_id]))


def test_a_step_waits_for_tickets_that_are_due_later_than_this_version() -> None:
    """Staleness 2, one group a step: at version 1 groups 1 and 2 are due by version 2, which has one place left."""
    replay = Replay(BufferSettings(groups_per_step=1, max_staleness=2), ["a", "b"])
    tickets = {t.group_id: t for t in replay.acquire(10, "slow")}
    assert sorted(tickets) == [0, 1, 2]
    drive(replay, 0, tickets=tickets)
    replay.take()
    replay.commit()
    replay.advance(1)
    tickets |= {t.group_id: t for t in replay.acquire(10, "quick")}
    drive(replay, 3, tickets=tickets)
    assert not replay.ready()
    assert "1 (" in replay.waiting_for() and "slow" in replay.waiting_for()
    drive(replay, 2, tickets=tickets)
    assert [group.group_id for group in replay.take()] == [2]
    replay.commit()
    replay.advance(2)
    assert not replay.ready()  # group 1 is due now
    drive(replay, 1, tickets=tickets)
    assert [group.group_id for group in replay.take()] == [1]


def test_a_step_does_not_wait_where_the_slow_group_still_fits() -> None:
    replay = Replay(BufferSettings(groups_per_step=2, max_staleness=1), ["a", "b", "c"])
    tickets = {t.group_id: t for t in replay.acquire(10, "r")}
    assert len(tickets) == 4
    drive(replay, 3, 2, tickets=tickets)
    assert [group.group_id for group in replay.take()] == [2, 3]
    replay.commit()
    replay.advance(1)
    tickets |= {t.group_id: t for t in replay.acquire(10, "r")}
    drive(replay, 4, 5, 1, tickets=tickets)
    assert not replay.ready()  # group 0 is due in this step
    drive(replay, 0, tickets=tickets)
    assert [group.group_id for group in replay.take()] == [0, 1]


def test_staleness_zero_is_synchronous() -> None:
    replay = Replay(BufferSettings(groups_per_step=2, broadcast_every=2, max_staleness=0), ["a", "b", "c"])
    for version in range(3):
        tickets = {t.group_id: t for t in replay.acquire(100, "r")}
        assert len(tickets) == 4 and replay.acquire(100, "r") == []
        drive(replay, *tickets, tickets=tickets)
        for _ in range(2):
            assert {g.issued_version for g in replay.take()} == {version}
            replay.commit()
        assert not replay.ready() and replay.acquire(100, "r") == []
        assert f"policy version {version + 1}" in replay.waiting_for()
        replay.advance(version + 1)


@pytest.mark.parametrize("staleness", [0, 1, 5])
def test_tickets_in_all_follow_the_rule(staleness: int) -> None:
    replay = Replay(BufferSettings(groups_per_step=3, broadcast_every=2, max_staleness=staleness), ["a"])
    assert len(replay.acquire(1000, "r")) == (staleness + 1) * 6
    replay.advance(4)
    assert len(replay.acquire(1000, "r")) == 4 * 6
