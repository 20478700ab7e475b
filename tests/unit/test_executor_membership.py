"""The state machine of the members: states, epochs, what may follow on what."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from executor.errors import UserError
from executor.membership import Member, Membership, Roster


def some_name(draw: st.DataObject, roster: Roster) -> str:
    return draw.draw(st.sampled_from([*(member.name for member in roster.members), "nobody"]))


class Workers(RuleBasedStateMachine):
    """Reports and orders in any order."""

    @initialize(number=st.integers(1, 3))
    def begin(self, number: int) -> None:
        self.membership = Membership("x")
        members = [Member(f"executor-{i}", handle=i) for i in range(number)]
        self.membership.adopt(members, epoch=0, started=number)
        self.seen = self.membership.roster
        self.names = {member.name for member in members}
        self.ended: set[str] = set()
        self.draining: set[str] = set()

    @rule(number=st.integers(1, 3))
    def add(self, number: int) -> None:
        names = self.membership.add(number)
        assert len(names) == number and not self.names & set(names), "a name is used once"
        self.names |= set(names)

    @rule(data=st.data())
    def joined(self, data: st.DataObject) -> None:
        self.membership.joined(some_name(data, self.seen), object())

    @rule(data=st.data(), slots=st.integers(1, 4))
    def answered(self, data: st.DataObject, slots: int) -> None:
        name = some_name(data, self.seen)
        before = self.membership.get(name)
        self.membership.answered(name, slots)
        after = self.membership.get(name)
        if before is not None:
            assert after is not None and after.state == ("draining" if before.state == "draining" else "up")

    @rule(data=st.data())
    def answered_that_it_drains(self, data: st.DataObject) -> None:
        """Told by an earlier membership actor."""
        name = some_name(data, self.seen)
        if len(self.working()) > 1 or name not in self.working():
            self.membership.answered(name, 1, draining=True)
            after = self.membership.get(name)
            assert after is None or after.state == "draining"

    @rule(data=st.data())
    def silent(self, data: st.DataObject) -> None:
        name = some_name(data, self.seen)
        self.membership.silent(name)
        after = self.membership.get(name)
        assert after is None or after.state in ("starting", "lost")

    @rule(data=st.data())
    def died(self, data: st.DataObject) -> None:
        name = some_name(data, self.seen)
        before = len(self.working())
        successor = self.membership.died(name)
        assert self.membership.get(name) is None
        assert len(self.working()) == before, "whoever worked has a successor"
        if successor is not None:
            assert successor not in self.names
            self.names.add(successor)

    @rule(data=st.data(), number=st.integers(-1, 3), by_name=st.booleans())
    def drain(self, data: st.DataObject, number: int, by_name: bool) -> None:
        which = some_name(data, self.seen) if by_name else number
        working = self.working()
        try:
            names = self.membership.drain(which)
        except UserError:
            assert which not in working or len(working) == 1 or number < 1 or number >= len(working)
            return
        assert set(names) <= set(working) and len(names) == (1 if by_name else number)
        assert self.working() == [name for name in working if name not in names] != []

    @rule(data=st.data())
    def removed(self, data: st.DataObject) -> None:
        if self.draining:
            self.membership.removed(data.draw(st.sampled_from(sorted(self.draining))))

    def working(self) -> list[str]:
        return [member.name for member in self.membership.roster.members if member.state != "draining"]

    @invariant()
    def epochs_tell_changes(self) -> None:
        now = self.membership.roster
        assert now.epoch >= self.seen.epoch and (now.epoch > self.seen.epoch) == (now.members != self.seen.members)
        self.seen = now

    @invariant()
    def nobody_comes_back(self) -> None:
        states = {member.name: member.state for member in self.membership.roster.members}
        assert not self.ended & set(states), "who was removed is a member again"
        assert all(states.get(name, "draining") == "draining" for name in self.draining)
        self.ended |= self.names - set(states)
        self.draining = {name for name, state in states.items() if state == "draining"}

    @invariant()
    def somebody_works(self) -> None:
        assert self.working()

    @invariant()
    def the_gauges_count_them(self) -> None:
        gauges = self.membership.gauges()
        assert sum(v for k, v in gauges.items() if k.startswith("workers_")) == len(self.membership.roster.members)


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=150, stateful_step_count=40)


def test_what_is_not_adopted_takes_no_orders() -> None:
    membership = Membership("x")
    assert membership.roster.epoch == 0
    with pytest.raises(UserError, match="not known yet"):
        membership.add(1)
    with pytest.raises(UserError, match="not known yet"):
        membership.drain(1)
    membership.adopt([], epoch=7, started=3)
    assert membership.roster.epoch == 8 and membership.add(1) == ["executor-3"]
    with pytest.raises(ValueError, match="begun"):
        membership.adopt([], epoch=7, started=3)


def test_a_drain_says_what_would_do() -> None:
    membership = Membership("x")
    membership.adopt([Member("executor-0", "up", 0), Member("executor-1", "up", 1)], 0, 2)
    with pytest.raises(UserError, match=r"'executor-7'.*executor-0, executor-1"):
        membership.drain("executor-7")
    with pytest.raises(UserError, match="leaves no executor worker"):
        membership.drain(2)
    assert membership.drain(1) == ["executor-1"]
