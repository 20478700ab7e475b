"""The buffer actor of a simulation: the real `Replay` behind one event loop, and the ledger that no group is lost or trained twice.

Invariants: the state machine changes when its loop comes to it, in the order of arrival; the ledger follows what was
handed out, put and trained on its own and must agree with the state machine in the end.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from benchmarks.simulation.setting import Setting
from benchmarks.simulation.stations import Clock, Server
from buffer.replay import Replay, Ticket
from buffer.settings import BufferSettings
from buffer.trajectory import Group

_PATIENCE = 0.05  # of the time waited for a batch, until it is looked at again
_POLL_S = 5.0  # actors/rollout.py ACQUIRE_TIMEOUT_S


class Asker(Protocol):
    """A rollout actor, as the buffer knows it."""

    name: str
    process: int

    def receive(self, process: int, tickets: list[Ticket]) -> None:
        """Take tickets on."""
        ...


class Ledger:
    """Each group id from the first ticket to the step that trained it."""

    def __init__(self) -> None:
        self.out: dict[int, str] = {}
        """Holder of each ticket under way."""
        self.put: Counter[int] = Counter()
        self.trained: Counter[int] = Counter()
        self.released = 0
        self.refused = 0

    def check(self, replay: Replay) -> None:
        """Raises AssertionError unless every group issued is in one place, and trained once at most."""
        gauges = replay.gauges()
        issued = int(gauges["issued"])
        ready = [g.group_id for g in (*replay.pool.groups, *replay.pool.staged)]
        untrained = [i for i in self.put if not self.trained[i]]
        assert sorted(ready) == sorted(untrained), "what was put and not trained is in the buffer, once"
        assert all(count == 1 for count in self.put.values()), "a group counts once"
        assert all(count == 1 for count in self.trained.values()), "a group is trained once"
        assert set(self.trained) <= set(self.put), "only what was put is trained"
        assert len(self.out) == gauges["outstanding"], "tickets under way"
        again = issued - len(self.put) - len(self.out)
        assert again == gauges["reissuable"], "what is neither under way nor put is to be done again"
        assert not set(self.out) & set(self.put), "what was put is not under way"
        assert {*self.out, *self.put} <= set(range(issued)), "nothing came that was not issued"
        assert gauges["duplicate"] == self.refused, "what was refused was told so"


class CentralBuffer:
    """What rollout actors and controller ask; every question costs the loop its time."""

    def __init__(self, clock: Clock, setting: Setting, groups: int) -> None:
        self._clock = clock
        self._setting = setting
        self._groups = groups
        settings = BufferSettings(
            groups_per_step=groups,
            broadcast_every=setting.broadcast_every,
            max_staleness=setting.max_staleness,
            seed=setting.seed,
        )
        self.replay = Replay(settings, [str(i) for i in range(setting.problems)])
        self.loop = Server(clock)
        self.ledger = Ledger()
        self._polls: deque[tuple[Asker, int, int, float]] = deque()
        self._changed: Callable[[], None] | None = None
        self._looking = False
        self._since = 0.0

    def acquire(self, asker: Asker, limit: int) -> None:
        """A poll for tickets; answered when there are any."""
        self._clock.at(self.loop.serve(self._setting.call_s), self._poll, asker, asker.process, limit)

    def _poll(self, asker: Asker, process: int, limit: int) -> None:
        self._polls.append((asker, process, limit, self._clock.now))
        self._answer()

    def _answer(self) -> None:
        """Polls in the order in which they came; each takes what it has room for and its part allows, as with the actor's condition."""
        left: deque[tuple[Asker, int, int, float]] = deque()
        while self._polls:
            asker, process, limit, since = poll = self._polls.popleft()
            if asker.process != process:
                continue
            tickets = self.replay.acquire(limit, asker.name)
            if not tickets:
                left.append(poll)
                continue
            for ticket in tickets:
                self.ledger.out[ticket.group_id] = asker.name
            # Polls that ended empty-handed and came again meanwhile are not single events.
            again = int((self._clock.now - since) / _POLL_S)
            done = self.loop.serve(again * self._setting.call_s) if again else self._clock.now
            self._clock.at(done + self._setting.latency_s, asker.receive, process, tickets)
        self._polls = left

    def put(self, group: Group, tokens: int, then: Callable[[], None]) -> None:
        """A finished group; `then` is called when the actor knows that it arrived."""
        s, pool = self._setting, self.replay.pool
        held = len(pool.staged) + len(pool.groups) if self._changed is not None else 0
        seconds = s.call_s + s.group_token_s * tokens + s.put_s
        seconds += s.ready_group_s * held + s.wake_s * len(self._polls)
        self._clock.at(self.loop.serve(seconds), self._put, group, then)

    def _put(self, group: Group, then: Callable[[], None]) -> None:
        if self.replay.put(group):
            self.ledger.put[group.group_id] += 1
            self.ledger.out.pop(group.group_id, None)
        else:
            self.ledger.refused += 1
        self._clock.at(self._clock.now + self._setting.latency_s, then)
        self._look_soon()

    def fail(self, group_id: int, then: Callable[[], None]) -> None:
        """A ticket came to nothing."""
        self._clock.at(self.loop.serve(self._setting.call_s), self._fail, group_id, then)

    def _fail(self, group_id: int, then: Callable[[], None]) -> None:
        self.replay.fail(group_id, "simulated")
        self.ledger.out.pop(group_id, None)
        self._answer()
        self._clock.at(self._clock.now + self._setting.latency_s, then)

    def release(self, holder: str, then: Callable[[], None]) -> None:
        """A rollout actor is lost: its tickets are issued again."""
        self._clock.at(self.loop.serve(self._setting.call_s), self._release, holder, then)

    def _release(self, holder: str, then: Callable[[], None]) -> None:
        self.replay.release(holder)
        mine = [group_id for group_id, name in self.ledger.out.items() if name == holder]
        for group_id in mine:
            del self.ledger.out[group_id]
        self.ledger.released += len(mine)
        self._answer()
        then()

    def advance(self, version: int) -> None:
        """The engines hold new weights."""
        self._clock.at(self.loop.serve(self._setting.call_s), self._advance, version)

    def _advance(self, version: int) -> None:
        self.replay.advance(version)
        self._answer()

    # The learner's side -----------------------------------------------------------------------------------------------

    def when_ready(self, act: Callable[[], None]) -> None:
        """Call `act` once, as soon as a batch can be taken."""
        self._changed, self._since = act, self._clock.now
        self._look()

    def _look_soon(self) -> None:
        if self._changed is not None and not self._looking:
            self._looking = True
            now = self._clock.now
            self._clock.at(now + max(self._setting.check_s, _PATIENCE * (now - self._since)), self._look)

    def _look(self) -> None:
        self._looking = False
        pool = self.replay.pool
        enough = len(pool.groups) + len(pool.staged) >= self._groups
        if self._changed is not None and enough and self.replay.ready():
            act, self._changed = self._changed, None
            act()

    def take(self, tokens: Callable[[list[Group]], int], then: Callable[[list[Group], int], None]) -> None:
        """One batch: the loop pickles it."""
        groups = self.replay.take()
        count = tokens(groups)
        done = self.loop.serve(self._setting.call_s + self._setting.group_token_s * count)
        self._clock.at(done + self._setting.latency_s, then, groups, count)

    def commit(self, groups: list[Group]) -> None:
        """The step is done."""
        self.replay.commit()
        self.ledger.trained.update(group.group_id for group in groups)
        self.loop.serve(self._setting.call_s)
