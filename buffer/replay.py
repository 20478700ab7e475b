"""The buffer as a pure state machine: it hands out work as tickets and holds what came of it as groups.

A ticket is issued, then put (its group is ready) or failed or released (issued again); a ready group is taken, then
committed or untaken. With G groups a step, N steps a policy version, a bound of eta versions, and a learner that
after s committed steps is at version s // N:

- at policy version v at most (eta + v + 1) * N * G tickets have ever been issued;
- a group issued at version i is due: it is trained at learner version i + eta or before.

So tickets due by version d are never more than the (d + 1) * N * G groups trained by its end, and every group can be
trained in time if no step wastes its places. A step takes the groups due first; where later ones would fill it while
groups due sooner are unfinished, it goes ahead only if those, however late they finish, still fit in the steps left.
Otherwise it waits for them. Waiting ends: tickets issued meanwhile, or again, are due later.

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
from buffer.online_pool import OnlineDraws
from buffer.problem_order import ProblemOrder
from buffer.settings import BufferSettings
from buffer.trajectory import Group

FORM = 1  # version of the saved state
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
        self._waiting: dict[int, Ticket] = {}  # failed or released, to be issued again
        self._ready: dict[int, Group] = {}
        self._draws = OnlineDraws(settings.capacity, settings.refresh_every, random.Random(f"{settings.seed}/pool"))
        self._taken: list[Group] = []
        self._counts: Counter[str] = Counter()
        self.abandoned: deque[Abandoned] = deque(maxlen=REMEMBERED)  # the newest

    # Work out -------------------------------------------------------------------------------------------------------

    @property
    def allowed(self) -> int:
        """Tickets that may have been issued, in all, at this policy version."""
        settings = self._settings
        return (settings.max_staleness + self.version + 1) * settings.broadcast_every * settings.groups_per_step

    def acquire(self, limit: int, holder: str) -> list[Ticket]:
        """Up to `limit` tickets for `holder`, as many as the staleness bound allows; those to be issued again first."""
        tickets: list[Ticket] = []
        while len(tickets) < limit:
            if self._waiting:
                ticket = replace(self._waiting.pop(min(self._waiting)), issued_version=self.version)
            elif self._issued < self.allowed:
                ticket = self._visit(self._issued)
                self._issued += 1
            else:
                break
            self._outstanding[ticket.group_id] = (ticket, holder)
            tickets.append(ticket)
        return tickets

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
        self._outstanding.pop(group.group_id, None)
        self._waiting.pop(group.group_id, None)
        self._counts["put"] += 1
        stamped = group.model_copy(update={"baselines": self.history.baselines(group.problem_id)})
        self.history.record(group)
        if self._settings.kind == "online":
            self._draws.stage(stamped)
        else:
            self._ready[group.group_id] = stamped
        return True

    def fail(self, group_id: int, reason: str) -> None:
        """A ticket came to nothing: it is issued again, and after enough attempts its place goes to another problem."""
        held = self._outstanding.pop(group_id, None)
        if held is None:
            return
        ticket = held[0]
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
                del self._outstanding[group_id]
                self._waiting[group_id] = ticket

    def advance(self, version: int) -> None:
        """The engines hold a new policy version. Raises ValueError if it is older than the last."""
        if version < self.version:
            raise ValueError(f"policy version {version} comes after {self.version}: versions only rise")
        self.version = version

    # Batches out ----------------------------------------------------------------------------------------------------

    @property
    def learner_version(self) -> int:
        """Policy version that the learner trains: committed steps // N."""
        return self._committed_steps // self._settings.broadcast_every

    def ready(self) -> bool:
        """Whether a batch can be taken now."""
        if self._taken:
            return False
        if self._settings.kind == "online":
            return self._draws.can_draw(self._settings.groups_per_step, self._oldest)
        return len(self._ready) >= self._settings.groups_per_step and not self._due_first()

    @property
    def _oldest(self) -> int:
        return self.learner_version - self._settings.max_staleness

    def _due(self, work: Ticket | Group) -> int:
        return work.issued_version + self._settings.max_staleness

    def _by_due(self) -> list[Group]:
        return sorted(self._ready.values(), key=lambda group: (self._due(group), group.group_id))

    def _due_first(self) -> list[Ticket]:
        """Unfinished tickets of which some would be late if a batch were taken now.

        Whatever is left after the batch is lined up by when it is due, G to a step. Where a place in the line comes
        too late, the steps left cannot hold all that is due by then, and places in the batch would be wasted on others.
        """
        settings = self._settings
        unfinished = [ticket for ticket, _ in self._outstanding.values()]
        left = [self._due(work) for work in (*self._by_due()[settings.groups_per_step :], *unfinished)]
        next_step = self._committed_steps + 1
        late = [
            due
            for place, due in enumerate(sorted(left))
            if (next_step + place // settings.groups_per_step) // settings.broadcast_every > due
        ]
        return [ticket for ticket in unfinished if self._due(ticket) <= max(late)] if late else []

    def take(self) -> list[Group]:
        """The groups due first, held until `commit` or `untake`. Raises ValueError unless `ready()`."""
        if not self.ready():
            raise ValueError(f"no batch is ready; it waits for {self.waiting_for()}")
        if self._settings.kind == "online":
            self._taken = self._draws.draw(self._settings.groups_per_step, self._oldest)
        else:
            self._taken = self._by_due()[: self._settings.groups_per_step]
            for group in self._taken:
                del self._ready[group.group_id]
        return list(self._taken)

    def commit(self) -> None:
        """The step on the taken batch is done. Raises ValueError if nothing is taken."""
        if not self._taken:
            raise ValueError("there is no taken batch to commit")
        self._taken = []
        self._committed_steps += 1
        self._draws.commit()

    def untake(self) -> None:
        """The step was given up: its groups are ready again. Does nothing if nothing is taken."""
        if self._settings.kind == "queue":
            self._ready.update({group.group_id: group for group in self._taken})
        self._draws.undo()
        self._taken = []

    # What there is --------------------------------------------------------------------------------------------------

    def _candidates(self) -> list[Group]:
        """Finished groups that a batch may be made of."""
        if self._settings.kind == "online":
            return self._draws.candidates(self._oldest)
        return list(self._ready.values())

    def waiting_for(self) -> str:
        """What the next batch waits for, in one line with ids and holders."""
        if self._taken:
            return f"commit or untake of the step on groups {_some(str(group.group_id) for group in self._taken)}"
        if self.ready():
            return "nothing: a batch is ready"
        due = self._due_first() if self._settings.kind == "queue" else []
        tickets = sorted(due or [ticket for ticket, _ in self._outstanding.values()], key=lambda t: t.group_id)
        under_way = _some(f"{t.group_id} ({t.problem_id}, {self._outstanding[t.group_id][1]})" for t in tickets)
        count = f"{len(self._candidates())} of {self._settings.groups_per_step} groups ready"
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
            "taken": float(len(self._taken)),
            "issued": float(self._issued),
            "pool": float(len(self._draws)),
            "staleness_ready_mean": sum(lags) / len(lags) if lags else 0.0,
            "staleness_ready_max": float(max(lags, default=0)),
            **{name: float(self._counts[name]) for name in COUNTERS},
        }

    # Resume ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything, as JSON; outstanding tickets are to be issued again, taken groups are ready again."""
        waiting = {**self._waiting, **{i: ticket for i, (ticket, _) in self._outstanding.items()}}
        taken = self._taken if self._settings.kind == "queue" else []
        return {
            "form": FORM,
            "settings": self._settings.model_dump(mode="json"),
            "version": self.version,
            "committed_steps": self._committed_steps,
            "issued": self._issued,
            "waiting": [asdict(waiting[group_id]) for group_id in sorted(waiting)],
            "ready": [group.model_dump(mode="json") for group in (*self._ready.values(), *taken)],
            "draws": self._draws.state_dict(),
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
        self._draws.load_state_dict(state["draws"])
        self.version, self._committed_steps, self._issued = state["version"], state["committed_steps"], state["issued"]
        self._outstanding, self._taken = {}, []
        self._waiting = {ticket["group_id"]: Ticket(**ticket) for ticket in state["waiting"]}
        self._ready = {g.group_id: g for g in map(Group.model_validate, state["ready"])}
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


def _some(names: Iterable[str]) -> str:
    """The first few of `names`, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
