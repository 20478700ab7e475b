"""The buffer as a pure state machine: it hands out work as tickets and holds what came of it as groups.

A ticket is issued -> (put | failed -> issued again) and a put group is ready -> taken -> committed. Staleness is bounded here, by how much work is
handed out and in which order it is given to the learner. With G groups a step, N steps a policy version and a bound of eta versions:

- at version v at most (eta + v + 1) * N * G tickets have ever been issued, so generation runs ahead of training by the bound and no further;
- a group issued at version i must be trained at version i + eta or before. Groups are taken earliest deadline first, and a step waits if otherwise an
  unfinished group could miss its deadline. Tickets issued by version i are at most what is trained by the end of version i + eta, so all deadlines can be met
  and nothing is ever dropped.

Invariants: a group is trained once (kind "queue"), within its deadline; a put is taken once however often it is sent; a ticket's number never
changes, so a saved state goes on with the same work.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any

from buffer.history import ProblemHistory
from buffer.online_pool import OnlinePool
from buffer.problem_order import ProblemOrder
from buffer.settings import BufferSettings
from buffer.trajectory import Group


@dataclass(frozen=True)
class Ticket:
    """One visit to one problem, to be answered with one group."""

    group_id: int
    problem_id: str
    issued_version: int
    attempt: int


class Replay:
    """Tickets out, groups in, batches out."""

    def __init__(self, settings: BufferSettings, problem_ids: list[str]) -> None:
        self._settings = settings
        self._random = random.Random(f"{settings.seed}/pool")
        self._order = ProblemOrder(problem_ids, settings.seed, settings.selection)
        self.history = ProblemHistory()
        self.version = 0
        self._committed_steps = 0
        self._issued = 0
        self._outstanding: dict[int, tuple[Ticket, str]] = {}
        self._waiting: dict[int, Ticket] = {}  # failed or released, to be issued again
        self._ready: dict[int, Group] = {}
        self._taken: list[Group] = []
        self._pool: OnlinePool[Group] = OnlinePool(settings.capacity, self._random)
        self._drawn: set[int] = set()  # groups of the pool already taken in this pass
        self._commits_since_refresh = 0
        self._counts = {"put": 0, "duplicate": 0, "failed": 0, "abandoned": 0}

    # Work out -------------------------------------------------------------------------------------------------------

    def acquire(self, limit: int, holder: str) -> list[Ticket]:
        """Up to `limit` tickets for `holder`, as many as the staleness bound allows."""
        tickets = []
        allowed = (self._settings.max_staleness + self.version + 1) * self._settings.broadcast_every * self._settings.groups_per_step
        while len(tickets) < limit:
            if self._waiting:
                group_id = min(self._waiting)
                old = self._waiting.pop(group_id)
                ticket = Ticket(group_id, old.problem_id, self.version, old.attempt)
            elif self._issued < allowed:
                ticket = Ticket(self._issued, self._order.next(self.history.share_passing), self.version, 1)
                self._issued += 1
            else:
                break
            self._outstanding[ticket.group_id] = (ticket, holder)
            tickets.append(ticket)
        return tickets

    def put(self, group: Group) -> bool:
        """Take a finished group in; False if its ticket is not outstanding (sent twice, or taken away)."""
        held = self._outstanding.get(group.group_id)
        if held is None or held[0].problem_id != group.problem_id or held[0].issued_version != group.issued_version:
            self._counts["duplicate"] += 1
            return False
        del self._outstanding[group.group_id]
        self._counts["put"] += 1
        stamped = group.model_copy(update={"baselines": self.history.baselines(group.problem_id)})
        self.history.record(group)
        self._ready[group.group_id] = stamped
        return True

    def fail(self, group_id: int) -> None:
        """A ticket came to nothing: it is issued again, and after enough attempts its place goes to another problem."""
        held = self._outstanding.pop(group_id, None)
        if held is None:
            return
        ticket = held[0]
        self._counts["failed"] += 1
        if ticket.attempt < self._settings.max_attempts:
            again = Ticket(group_id, ticket.problem_id, ticket.issued_version, ticket.attempt + 1)
        else:
            self._counts["abandoned"] += 1
            again = Ticket(group_id, self._order.next(self.history.share_passing), ticket.issued_version, 1)
        self._waiting[group_id] = again

    def release(self, holder: str | None) -> None:
        """Every outstanding ticket of a lost holder (None: of all) is issued again."""
        for group_id, (ticket, owner) in list(self._outstanding.items()):
            if holder is None or owner == holder:
                del self._outstanding[group_id]
                self._waiting[group_id] = ticket

    def advance(self, version: int) -> None:
        """The engines hold a new policy version. Raises ValueError if it is older than the last."""
        if version < self.version:
            raise ValueError(f"policy version {version} comes after {self.version}")
        self.version = version

    # Batches out ----------------------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether a batch can be taken now."""
        if self._taken:
            return False
        if self._settings.kind == "online":
            return len(self._eligible()) >= self._settings.groups_per_step
        return len(self._ready) >= self._settings.groups_per_step and not self._must_wait_for()

    def _deadline(self, issued_version: int) -> int:
        return issued_version + self._settings.max_staleness

    def _must_wait_for(self) -> list[Ticket]:
        """Unfinished tickets that could miss their deadline if a batch were taken now."""
        settings = self._settings
        version = self._committed_steps // settings.broadcast_every
        steps_after = settings.broadcast_every - self._committed_steps % settings.broadcast_every - 1
        due = [ticket for ticket, _ in self._outstanding.values() if self._deadline(ticket.issued_version) <= version]
        due_ready = sum(self._deadline(group.issued_version) <= version for group in self._ready.values())
        left = len(due) + max(0, due_ready - settings.groups_per_step)
        return due if left > steps_after * settings.groups_per_step else []

    def _eligible(self) -> list[Group]:
        """Groups of the pool that may still be drawn in this pass."""
        fresh = [g for g in self._pool.newest() if self._deadline(g.issued_version) >= self.version]
        undrawn = [g for g in fresh if g.group_id not in self._drawn]
        if len(undrawn) < self._settings.groups_per_step <= len(fresh):
            return fresh
        if len(fresh) < self._settings.groups_per_step and self._ready:
            return [*fresh, *self._ready.values()]
        return undrawn

    def take(self) -> list[Group]:
        """One batch; it is held until `commit` or `untake`. Raises ValueError unless `ready()`."""
        if not self.ready():
            raise ValueError(f"no batch is ready: {self.waiting_for()}")
        count = self._settings.groups_per_step
        if self._settings.kind == "online":
            self._taken = self._draw(count)
        else:
            order = sorted(self._ready.values(), key=lambda group: (self._deadline(group.issued_version), group.group_id))
            self._taken = [self._ready.pop(group.group_id) for group in order[:count]]
        return list(self._taken)

    def _draw(self, count: int) -> list[Group]:
        due = self._commits_since_refresh >= self._settings.refresh_every or not len(self._pool)
        fresh = [g for g in self._pool.newest() if self._deadline(g.issued_version) >= self.version]
        if self._ready and (due or len(fresh) < count):
            self._pool.refresh(list(self._ready.values()))
            self._ready.clear()
            self._drawn.clear()
            self._commits_since_refresh = 0
        fresh = [g for g in self._pool.newest() if self._deadline(g.issued_version) >= self.version]
        undrawn = [g for g in fresh if g.group_id not in self._drawn]
        if len(undrawn) < count:
            self._drawn.clear()
            undrawn = fresh
        batch = self._random.sample(undrawn, count)
        self._drawn.update(group.group_id for group in batch)
        return batch

    def commit(self) -> None:
        """The step on the taken batch is done. Raises ValueError if nothing is taken."""
        if not self._taken:
            raise ValueError("there is no taken batch to commit")
        self._taken = []
        self._committed_steps += 1
        self._commits_since_refresh += 1

    def untake(self) -> None:
        """The step was given up: its groups are ready again."""
        if self._settings.kind == "queue":
            self._ready.update({group.group_id: group for group in self._taken})
        else:
            self._drawn -= {group.group_id for group in self._taken}
        self._taken = []

    # What there is --------------------------------------------------------------------------------------------------

    def waiting_for(self) -> str:
        """What the next batch waits for, in one line with ids."""
        due = self._must_wait_for() if self._settings.kind == "queue" else []
        tickets = due or [ticket for ticket, _ in self._outstanding.values()]
        names = ", ".join(
            f"{t.group_id} ({t.problem_id}, {self._outstanding[t.group_id][1]})" for t in sorted(tickets, key=lambda t: t.group_id)[:5]
        )
        why = "due in this version" if due else f"{len(self._ready)} of {self._settings.groups_per_step} groups ready"
        return f"{why}; under way: {names or 'none'}" + (f" and {len(tickets) - 5} more" if len(tickets) > 5 else "")

    def gauges(self) -> dict[str, float]:
        """Levels and counters."""
        lags = [self.version - group.issued_version for group in self._ready.values()]
        return {
            "outstanding": float(len(self._outstanding)),
            "ready": float(len(self._ready)),
            "taken": float(len(self._taken)),
            "issued": float(self._issued),
            "pool": float(len(self._pool)),
            "staleness_ready_max": float(max(lags, default=0)),
            **{name: float(value) for name, value in self._counts.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything, as JSON; outstanding tickets are to be issued again, taken groups are ready again."""
        version, numbers, gauss = self._random.getstate()
        waiting = {**self._waiting, **{i: ticket for i, (ticket, _) in self._outstanding.items()}}
        taken = self._taken if self._settings.kind == "queue" else []
        return {
            "version": self.version,
            "committed_steps": self._committed_steps,
            "issued": self._issued,
            "waiting": [asdict(ticket) for _, ticket in sorted(waiting.items())],
            "ready": [group.model_dump(mode="json") for group in [*self._ready.values(), *taken]],
            "pool": [[group.model_dump(mode="json") for group in block] for block in self._pool.blocks],
            "drawn": sorted(self._drawn - {group.group_id for group in self._taken}),
            "commits_since_refresh": self._commits_since_refresh,
            "counts": self._counts,
            "random": [version, list(numbers), gauss],
            "order": self._order.state_dict(),
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.version, self._committed_steps, self._issued = state["version"], state["committed_steps"], state["issued"]
        self._outstanding, self._taken = {}, []
        self._waiting = {ticket["group_id"]: Ticket(**ticket) for ticket in state["waiting"]}
        groups = [Group.model_validate(group) for group in state["ready"]]
        self._ready = {group.group_id: group for group in groups}
        self._pool.blocks = [[Group.model_validate(group) for group in block] for block in state["pool"]]
        self._drawn, self._commits_since_refresh = set(state["drawn"]), state["commits_since_refresh"]
        self._counts = dict(state["counts"])
        version, numbers, gauss = state["random"]
        self._random.setstate((version, tuple(numbers), gauss))
        self._order.load_state_dict(state["order"])
        self.history.load_state_dict(state["history"])
