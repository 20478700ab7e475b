"""The client's bookkeeping: every request ends once, none goes to a closed worker, none beyond the bound."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from executor.dispatch import Dispatch

NAMES = ["a", "b", "c", "d"]
PER_SLOT = 2


class Client(RuleBasedStateMachine):
    """What a client may live through, in any order; `self` keeps what must be true by other means."""

    @initialize(seed=st.integers(0, 1000), tries=st.integers(1, 3))
    def begin(self, seed: int, tries: int) -> None:
        self.tries = tries
        self.dispatch = Dispatch(PER_SLOT, tries, random.Random(seed))
        self.slots: dict[str, int] = {}
        self.closed: set[str] = set()
        self.at: dict[str, set[int]] = {}
        self.waiting: list[int] = []
        self.ended: list[int] = []
        self.losses: dict[int, int] = {}
        self.failed_at: dict[int, set[str]] = {}
        self.next = 0

    @rule(slots=st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3)))
    def members(self, slots: dict[str, int]) -> None:
        for name in slots:
            if name not in self.slots:
                self.closed.discard(name)
        self.slots = slots
        self.dispatch.set_members(slots)

    @rule(name=st.sampled_from(NAMES), is_open=st.booleans())
    def open_or_close(self, name: str, is_open: bool) -> None:
        self.dispatch.set_open(name, is_open)
        if name in self.slots:
            (self.closed.discard if is_open else self.closed.add)(name)

    @rule(number=st.integers(1, 5))
    def submit(self, number: int) -> None:
        for _ in range(number):
            self.next += 1
            self.dispatch.submit(self.next)
            self.waiting.append(self.next)
            self.losses[self.next] = 0

    @rule()
    def place(self) -> None:
        before = {name: len(tickets) for name, tickets in self.at.items()}
        placed = self.dispatch.place()
        tickets = [ticket for ticket, _ in placed]
        assert tickets == [ticket for ticket in self.waiting if ticket in tickets], "first come, first served"
        self.waiting = [ticket for ticket in self.waiting if ticket not in tickets]
        for ticket, name in placed:
            assert name in self.may_have(ticket)
            self.at.setdefault(name, set()).add(ticket)
        for name in {name for _, name in placed}:
            assert before.get(name, 0) < len(self.at[name]) <= PER_SLOT * self.slots[name]
        room = {n for n in self.slots if len(self.at.get(n, ())) < PER_SLOT * self.slots[n]}
        assert not any(room & self.may_have(ticket) for ticket in self.waiting), "a request waits though there is room"

    def may_have(self, ticket: int) -> set[str]:
        is_open = set(self.slots) - self.closed
        return is_open - self.failed_at.get(ticket, set()) or is_open

    @precondition(lambda self: any(self.at.values()))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(n for n in self.at if self.at[n])))
        ticket = data.draw(st.sampled_from(sorted(self.at[name])))
        assert self.dispatch.answered(name, ticket) is (ticket in self.losses)
        assert not self.dispatch.answered(name, ticket), "an answer counts once"
        self.at[name].discard(ticket)
        self.finish([ticket])

    @precondition(lambda self: any(self.at.values()))
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(n for n in self.at if self.at[n])))
        ticket = data.draw(st.sampled_from(sorted(self.at[name])))
        waited_for = ticket in self.losses
        ends = self.dispatch.failed(name, ticket)
        assert not self.dispatch.failed(name, ticket), "a failure counts once"
        self.at[name].discard(ticket)
        if waited_for:
            self.losses[ticket] += 1
            self.failed_at.setdefault(ticket, set()).add(name)
            others = set(self.slots) - self.closed - self.failed_at[ticket]
            assert ends == (self.losses[ticket] >= self.tries or not others)
            if ends:
                self.finish([ticket])
            else:
                self.waiting.insert(0, ticket)
        assert waited_for or not ends

    @rule(name=st.sampled_from(NAMES), ticket=st.integers(1, 60))
    def late_answer(self, name: str, ticket: int) -> None:
        if ticket not in self.at.get(name, set()):
            assert not self.dispatch.answered(name, ticket)

    @rule(name=st.sampled_from(NAMES))
    def lose(self, name: str) -> None:
        had = {ticket for ticket in self.at.pop(name, set()) if ticket in self.losses}
        given_up = self.dispatch.lost(name)
        for ticket in had:
            self.losses[ticket] += 1
        assert set(given_up) == {ticket for ticket in had if self.losses[ticket] >= self.tries}
        self.finish(given_up)
        self.waiting = sorted(had - set(given_up)) + self.waiting
        if name in self.slots:
            self.closed.add(name)

    @rule(name=st.sampled_from(NAMES), data=st.data())
    def refuse(self, name: str, data: st.DataObject) -> None:
        tickets = data.draw(st.sets(st.sampled_from(sorted(self.at[name])))) if self.at.get(name) else set()
        self.dispatch.refused(name, tickets)
        self.at.get(name, set()).difference_update(tickets)
        self.waiting = sorted(ticket for ticket in tickets if ticket in self.losses) + self.waiting
        if name in self.slots:
            self.closed.add(name)

    @rule(ticket=st.integers(1, 60))
    def nobody_waits(self, ticket: int) -> None:
        self.dispatch.end(ticket)
        self.losses.pop(ticket, None)
        if ticket in self.waiting:
            self.waiting.remove(ticket)

    def finish(self, tickets: list[int]) -> None:
        for ticket in tickets:
            if self.losses.pop(ticket, None) is not None:
                assert ticket not in self.ended
                self.ended.append(ticket)

    @invariant()
    def each_in_one_place(self) -> None:
        assert self.dispatch.queue == self.waiting
        for name in NAMES:
            assert self.dispatch.tickets_of(name) == self.at.get(name, set())
        assert self.dispatch.in_flight == sum(map(len, self.at.values()))
        assert self.dispatch.open_workers == len(set(self.slots) - self.closed)


TestClient = Client.TestCase
TestClient.settings = settings(max_examples=150, stateful_step_count=40)


def test_the_less_loaded_of_two_gets_the_request() -> None:
    dispatch = Dispatch(per_slot=4, tries=1, chance=random.Random(0))
    dispatch.set_members({"small": 1, "large": 3})
    for ticket in range(12):
        dispatch.submit(ticket)
    dispatch.place()
    assert (len(dispatch.tickets_of("small")), len(dispatch.tickets_of("large"))) == (3, 9)


def test_what_one_worker_could_not_judge_another_tries() -> None:
    for seed in range(20):
        dispatch = Dispatch(per_slot=4, tries=3, chance=random.Random(seed))
        dispatch.set_members({"a": 1, "b": 1, "c": 1})
        dispatch.submit(1)
        [(_, first)] = dispatch.place()
        assert not dispatch.failed(first, 1)
        for ticket in range(2, 14):
            dispatch.submit(ticket)
        placed = dict(dispatch.place())
        second = placed[1]
        assert second != first
        for name in {"a", "b", "c"} - {second}:
            dispatch.set_open(name, False)
        assert dispatch.failed(second, 1) and 1 not in dispatch.queue, "there is nobody else to ask"
