"""The buffer as a pure state machine: it hands out work as tickets and holds what came of it as groups.

A ticket is issued, then put (its group is ready) or failed or released (issued again); ready groups are taken, then
committed or untaken. How old a group may be when it trains is in staleness.py, what a batch is made of in pool.py.

Invariants: kind "queue" trains every group once, in time, and drops none; kind "online" draws no group too old; a put
counts once however often it is sent; every ticket is in one place; all randomness is seeded, so a saved state goes
on as the original would.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from buffer.history import ProblemHistory
from buffer.pool import Drawing, Pool, samples
from buffer.problem_order import ProblemOrder
from buffer.settings import BufferSettings
from buffer.staleness import Staleness, by_due
from buffer.trajectory import Group

FORM = 2  # version of the saved state
SHOWN = 5  # ids that a line for people names
REMEMBERED = 100  # abandoned tickets kept for people to look at
COUNTERS = ("put", "duplicate", "failed", "abandoned")


@dataclass(frozen=True)
class Ticket:
    """One visit to one problem, to be answered with one group."""

    group_id: int
    problem_id: str
    issued_version: int
    attempt: int  # 1 for the first
    visit: int  # how often the problem was issued before


@dataclass(frozen=True)
class Abandoned:
    """A visit that failed too often; its place went to another problem."""

    group_id: int
    problem_id: str
    reason: str


class Replay:
    """Tickets out, groups in, batches out."""

    def __init__(self, settings: BufferSettings, problem_ids: Sequence[str]) -> None:
        self._settings = settings
        self._order = ProblemOrder(problem_ids, settings.seed, settings.selection)
        self.history = ProblemHistory()
        self.version = 0
        self._committed_steps = 0
        self._issued = 0
        self._outstanding: dict[int, tuple[Ticket, str]] = {}
        self._held: Counter[str] = Counter()  # outstanding tickets by holder
        self._holders = 1
        self._waiting: dict[int, Ticket] = {}  # failed or released, to be issued again
        drawing = _drawing(settings)
        self.pool = Pool(drawing, random.Random(f"{settings.seed}/pool"))
        self._staleness = Staleness(
            settings.groups_per_step, settings.broadcast_every, settings.max_staleness, all_are_owed=not drawing.again
        )
        self._counts: Counter[str] = Counter()
        self.abandoned: deque[Abandoned] = deque(maxlen=REMEMBERED)  # the newest

    # Work out -------------------------------------------------------------------------------------------------------

    @property
    def allowed(self) -> int:
        """Tickets that may have been issued, in all, at this policy version."""
        return self._staleness.tickets(self.version)

    def expect(self, holders: int) -> None:
        """So many share the work from now on: none holds more of it than its part, rounded up, while the others have to do without."""
        self._holders = max(1, holders)

    def acquire(self, limit: int, holder: str) -> list[Ticket]:
        """Up to `limit` tickets for `holder`, as many as the staleness bound and its part of the work allow; those to be issued again first."""
        free = max(0, self.allowed - self._issued) + len(self._waiting)
        part = -(-(len(self._outstanding) + free) // self._holders)
        tickets: list[Ticket] = []
        for _ in range(min(limit, free, part - self._held[holder])):
            if self._waiting:
                ticket = replace(self._waiting.pop(min(self._waiting)), issued_version=self.version)
            else:
                ticket = self._visit(self._issued)
                self._issued += 1
            self._outstanding[ticket.group_id] = (ticket, holder)
            tickets.append(ticket)
        self._held[holder] += len(tickets)
        return tickets

    def _take_back(self, group_id: int) -> Ticket | None:
        """The ticket of that group, which is nobody's from now on; None if nobody holds it."""
        held = self._outstanding.pop(group_id, None)
        if held is None:
            return None
        ticket, holder = held
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        return ticket

    def _visit(self, group_id: int, other_than: str | None = None) -> Ticket:
        problem_id = self._order.next(self.history.share_passing, other_than)
        return Ticket(group_id, problem_id, self.version, attempt=1, visit=self.history.begin_visit(problem_id))

    def put(self, group: Group) -> bool:
        """Take a finished group in; False if it answers no ticket as issued: sent twice, or its ticket issued again.

        A group whose ticket was released meanwhile is welcome if the ticket would be issued at the same version now.
        """
        held = self._outstanding.get(group.group_id)
        ticket = held[0] if held else self._waiting.get(group.group_id)
        version = ticket.issued_version if held and ticket else self.version
        if ticket is None or ticket.problem_id != group.problem_id or group.issued_version != version:
            self._counts["duplicate"] += 1
            return False
        self._take_back(group.group_id)
        self._waiting.pop(group.group_id, None)
        self._counts["put"] += 1
        stamped = group.model_copy(update={"baselines": self.history.baselines(group.problem_id)})
        self.pool.stage(stamped, self._staleness.oldest(self._committed_steps))
        self.history.record(group)
        return True

    def fail(self, group_id: int, reason: str) -> None:
        """A ticket came to nothing: it is issued again, and after enough attempts its place goes to another problem."""
        ticket = self._take_back(group_id)
        if ticket is None:
            return
        self._counts["failed"] += 1
        if ticket.attempt < self._settings.max_attempts:
            self._waiting[group_id] = replace(ticket, attempt=ticket.attempt + 1)
            return
        self._counts["abandoned"] += 1
        self.abandoned.append(Abandoned(group_id, ticket.problem_id, reason))
        self._waiting[group_id] = self._visit(group_id, other_than=ticket.problem_id)

    def release(self, holder: str | None) -> None:
        """Every outstanding ticket of a lost holder (None: of all) is issued again as the same attempt."""
        for group_id, (ticket, owner) in list(self._outstanding.items()):
            if holder is None or owner == holder:
                self._take_back(group_id)
                self._waiting[group_id] = ticket

    def advance(self, version: int) -> None:
        """The engines hold a new policy version. Raises ValueError if it is older than the last."""
        if version < self.version:
            raise ValueError(f"policy version {version} comes after {self.version}: versions only rise")
        self.version = version

    # Batches out ----------------------------------------------------------------------------------------------------

    @property
    def learner_version(self) -> int:
        """Policy version that the learner trains."""
        return self._staleness.learner_version(self._committed_steps)

    def ready(self) -> bool:
        """Whether a batch can be taken now."""
        if self.pool.taken or len(self._candidates()) < self._settings.groups_per_step:
            return False
        return not self._filling() and not self._due_first()

    def _candidates(self) -> list[Group]:
        """Finished groups that a batch may be made of."""
        return self.pool.candidates(self._staleness.oldest(self._committed_steps))

    def _filling(self) -> bool:
        """Whether the first step waits for more samples: as many as it is to begin with, if so many can come."""
        if self._committed_steps or samples(self._candidates()) >= self.pool.drawing.fill:
            return False
        return bool(self._outstanding or self._waiting) or self._issued < self.allowed

    def _due_first(self) -> list[Ticket]:
        """Unfinished tickets of which some would be late if a batch were taken now."""
        unfinished = [ticket for ticket, _ in self._outstanding.values()]
        left = (*by_due(self._candidates())[self._settings.groups_per_step :], *unfinished)
        late = self._staleness.late(self._committed_steps, [work.issued_version for work in left])
        return [ticket for ticket in unfinished if self._staleness.due(ticket.issued_version) <= late]

    def take(self) -> list[Group]:
        """The groups of one step, held until `commit` or `untake`. Raises ValueError unless `ready()`."""
        if not self.ready():
            raise ValueError(f"no batch is ready; it waits for {self.waiting_for()}")
        return self.pool.draw(self._staleness.oldest(self._committed_steps))

    def commit(self) -> None:
        """The step on the taken batch is done. Raises ValueError if nothing is taken."""
        if not self.pool.taken:
            raise ValueError("there is no taken batch to commit")
        self.pool.commit()
        self._committed_steps += 1

    def untake(self) -> None:
        """The step was given up: its groups are ready again. Does nothing if nothing is taken."""
        self.pool.undo()

    # What there is --------------------------------------------------------------------------------------------------

    def held_by(self, holder: str) -> list[int]:
        """Group ids of a holder's outstanding tickets."""
        return sorted(group_id for group_id, (_, owner) in self._outstanding.items() if owner == holder)

    def waiting_for(self) -> str:
        """What the next batch waits for, in one line with ids and holders."""
        if self.pool.taken:
            return f"commit or untake of the step on groups {_some(str(group.group_id) for group in self.pool.taken)}"
        if self.ready():
            return "nothing: a batch is ready"
        due = self._due_first()
        tickets = sorted(due or [ticket for ticket, _ in self._outstanding.values()], key=lambda t: t.group_id)
        under_way = _some(f"{t.group_id} ({t.problem_id}, {self._outstanding[t.group_id][1]})" for t in tickets)
        groups = self._candidates()
        count = f"{len(groups)} of {self._settings.groups_per_step} groups ready"
        if self._filling():
            count = f"{samples(groups)} of {self.pool.drawing.fill} samples to begin with"
        if due:
            return f"groups due first: {under_way}; {count}"
        if tickets:
            return f"groups under way: {under_way}; {count}"
        if self._waiting or self._issued < self.allowed:
            free = len(self._waiting) + max(0, self.allowed - self._issued)
            return f"a rollout actor to acquire tickets ({free} free, {len(self._waiting)} of them again); {count}"
        return (
            f"policy version {self.version + 1}: all {self._issued} tickets of version {self.version} are done; {count}"
        )

    def gauges(self) -> dict[str, float]:
        """Levels and counters; staleness of ready groups is in policy versions behind the learner."""
        lags = [self.learner_version - group.issued_version for group in self._candidates()]
        return {
            "outstanding": float(len(self._outstanding)),
            "reissuable": float(len(self._waiting)),
            "ready": float(len(lags)),
            "taken": float(len(self.pool.taken)),
            "issued": float(self._issued),
            "pool_samples": float(self.pool.samples),
            "staleness_ready_mean": sum(lags) / len(lags) if lags else 0.0,
            "staleness_ready_max": float(max(lags, default=0)),
            **{name: float(self._counts[name]) for name in COUNTERS},
        }

    # Resume ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything, as JSON; outstanding tickets are to be issued again, taken groups are ready again."""
        waiting = {**self._waiting, **{i: ticket for i, (ticket, _) in self._outstanding.items()}}
        return {
            "form": FORM,
            "settings": self._settings.model_dump(mode="json"),
            "version": self.version,
            "committed_steps": self._committed_steps,
            "issued": self._issued,
            "waiting": [asdict(waiting[group_id]) for group_id in sorted(waiting)],
            "pool": self.pool.state_dict(),
            "counts": dict(self._counts),
            "abandoned": [asdict(one) for one in self.abandoned],
            "order": self._order.state_dict(),
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. Raises ValueError if it was made for other settings or problems."""
        self._must_fit(state)
        self._order.load_state_dict(state["order"])
        self.history.load_state_dict(state["history"])
        self.pool.load_state_dict(state["pool"])
        self.version, self._committed_steps, self._issued = state["version"], state["committed_steps"], state["issued"]
        self._outstanding, self._held = {}, Counter()
        self._waiting = {ticket["group_id"]: Ticket(**ticket) for ticket in state["waiting"]}
        self._counts = Counter(state["counts"])
        self.abandoned = deque((Abandoned(**one) for one in state["abandoned"]), maxlen=REMEMBERED)

    def _must_fit(self, state: dict[str, Any]) -> None:
        if state.get("form") != FORM:
            raise ValueError(f"the saved buffer has form {state.get('form')!r}; this version reads form {FORM}")
        saved = state["settings"]
        for name in ("groups_per_step", "broadcast_every", "kind"):
            value = getattr(self._settings, name)
            if value != saved[name]:
                raise ValueError(f"{name}={value!r}: the saved buffer was made with {saved[name]!r}; resume with that")
        if self._settings.max_staleness < saved["max_staleness"]:
            raise ValueError(
                f"max_staleness={self._settings.max_staleness}: the saved buffer holds groups made under the bound "
                f"{saved['max_staleness']}; resume with that or more"
            )


def _drawing(settings: BufferSettings) -> Drawing:
    """What a kind of buffer means; nothing else knows of kinds."""
    if settings.kind == "queue":
        return Drawing(settings.groups_per_step)
    return Drawing(
        settings.groups_per_step,
        again=True,
        capacity=settings.capacity,
        refresh_every=settings.refresh_every,
        fill=settings.capacity if settings.fill_first else 0,
    )


def _some(names: Iterable[str]) -> str:
    """The first few of `names`, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
