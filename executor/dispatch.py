"""Which request goes to which worker: the bookkeeping of a client. Pure, without clock and without Ray.

Invariants: a request is in one place (waiting, in flight at one worker, ended) and ends exactly once; a worker that is
not open gets nothing; a worker never holds more than `per_slot` requests a slot; a request that a worker lost goes back
to the front of the queue, `tries` times at most; so does one that a worker could not judge, and only others get it as
long as there are others. What a worker refused was not tried.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass
class _Worker:
    slots: int
    open: bool = True
    known: bool = True
    """False once it is no member any more; it is forgotten when nothing of ours is left at it."""
    tickets: set[int] = field(default_factory=set)


class Dispatch:
    """Requests by ticket, workers by name."""

    def __init__(self, per_slot: int, tries: int, chance: random.Random | None = None) -> None:
        self._per_slot = per_slot
        self._tries = tries
        self._chance = chance or random.Random()
        self._workers: dict[str, _Worker] = {}
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._lost: dict[int, int] = {}  # how often each request that has not ended was tried in vain
        self._failed_at: dict[int, set[str]] = {}  # the workers that could not judge it
        self.moved = 0
        """Requests that were tried in vain and went back to the queue, in all."""

    @property
    def queue(self) -> list[int]:
        """The requests that no worker has had room for, in order."""
        return list(self._waiting)

    @property
    def front(self) -> int | None:
        """The first of them."""
        return next(iter(self._waiting), None)

    @property
    def in_flight(self) -> int:
        """Requests at workers."""
        return sum(len(worker.tickets) for worker in self._workers.values())

    @property
    def open_workers(self) -> int:
        """Workers that may be given requests."""
        return sum(worker.open for worker in self._workers.values())

    def tickets_of(self, name: str) -> set[int]:
        """What is in flight at a worker."""
        worker = self._workers.get(name)
        return set(worker.tickets) if worker else set()

    def set_members(self, slots: Mapping[str, int]) -> None:
        """These are the workers now. New ones are open; one that is missing gets no more and may still answer."""
        for name, number in slots.items():
            worker = self._workers.setdefault(name, _Worker(number))
            if not worker.known:
                worker.known = worker.open = True
            worker.slots = number
        for name in list(self._workers):
            if name not in slots:
                self._workers[name].known = self._workers[name].open = False
                self._forget_if_empty(name)

    def set_open(self, name: str, is_open: bool) -> None:
        """Whether a member may be given requests."""
        worker = self._workers.get(name)
        if worker is not None and worker.known:
            worker.open = is_open

    def submit(self, ticket: int) -> None:
        """A new request, last in the queue."""
        self._lost[ticket] = 0
        self._waiting[ticket] = None

    def place(self) -> list[tuple[int, str]]:
        """Take requests from the queue as long as there is room: each goes to the less loaded of two workers chosen at random."""
        placed: list[tuple[int, str]] = []
        free = [name for name, worker in self._workers.items() if self._has_room(worker)]
        for ticket in list(self._waiting) if free else ():
            names = free
            if ticket in self._failed_at and self._is_elsewhere(self._failed_at[ticket]):
                names = [name for name in free if name not in self._failed_at[ticket]]
                if not names:
                    continue  # it waits for one of the others
            name = min(self._chance.sample(names, min(2, len(names))), key=self._load)
            del self._waiting[ticket]
            self._workers[name].tickets.add(ticket)
            placed.append((ticket, name))
            if not self._has_room(self._workers[name]):
                free.remove(name)
                if not free:
                    break
        return placed

    def _is_elsewhere(self, names: set[str]) -> bool:
        return any(worker.open for name, worker in self._workers.items() if name not in names)

    def _has_room(self, worker: _Worker) -> bool:
        return worker.open and len(worker.tickets) < self._per_slot * worker.slots

    def _load(self, name: str) -> float:
        return len(self._workers[name].tickets) / self._workers[name].slots

    def answered(self, name: str, ticket: int) -> bool:
        """Whether this answer ends its request; one that the worker is not asked for any more does not."""
        return self._take_back(name, ticket) and self._end(ticket)

    def failed(self, name: str, ticket: int) -> bool:
        """Whether it ends a request that this worker could not judge it; if not, another one is to try."""
        if not self._take_back(name, ticket) or ticket not in self._lost:
            return False
        self._lost[ticket] += 1
        failed_at = self._failed_at.setdefault(ticket, set())
        failed_at.add(name)
        if self._lost[ticket] >= self._tries or not self._is_elsewhere(failed_at):
            return self._end(ticket)
        self.moved += 1
        self._put_back([ticket])
        return False

    def refused(self, name: str, tickets: Iterable[int]) -> None:
        """The worker takes no more: it is closed, and its requests go to the front."""
        self.set_open(name, False)
        self._put_back([ticket for ticket in tickets if self._take_back(name, ticket)])

    def lost(self, name: str) -> list[int]:
        """The worker is closed and what it had goes to the front. The requests that end here, lost too often."""
        self.set_open(name, False)
        given_up, back = [], []
        for ticket in sorted(self.tickets_of(name)):
            self._take_back(name, ticket)
            if ticket not in self._lost:
                continue  # nobody waits for it
            self._lost[ticket] += 1
            (given_up if self._lost[ticket] >= self._tries else back).append(ticket)
        self.moved += len(back)
        self._put_back(back)
        for ticket in given_up:
            self._end(ticket)
        return given_up

    def end(self, ticket: int) -> None:
        """The request ends without an answer, wherever it is; a worker that has it keeps a place taken until it answers."""
        self._end(ticket)
        self._waiting.pop(ticket, None)

    def _end(self, ticket: int) -> bool:
        self._failed_at.pop(ticket, None)
        return self._lost.pop(ticket, None) is not None

    def _take_back(self, name: str, ticket: int) -> bool:
        worker = self._workers.get(name)
        if worker is None or ticket not in worker.tickets:
            return False
        worker.tickets.discard(ticket)
        self._forget_if_empty(name)
        return True

    def _put_back(self, tickets: list[int]) -> None:
        for ticket in sorted(tickets, reverse=True):
            if ticket in self._lost:
                self._waiting[ticket] = None
                self._waiting.move_to_end(ticket, last=False)

    def _forget_if_empty(self, name: str) -> None:
        if not self._workers[name].known and not self._workers[name].tickets:
            del self._workers[name]
