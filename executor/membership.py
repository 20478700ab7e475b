"""The workers of a run as a state machine: who is a member, in which state, and what changed since. Pure.

Invariants: every change raises the epoch by one and nothing else does; a name is never used twice; a draining member
never gets work again: all that can become of it is to be removed; only a member that is `up` may be given work.

A member is `starting` until it first answers, `up` while it answers, `lost` while it does not (its process is being
restarted, or it hangs), `draining` from the moment it is told to finish what it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from executor.errors import UserError

State = Literal["starting", "up", "draining", "lost"]
STATES: tuple[State, ...] = ("starting", "up", "draining", "lost")


@dataclass(frozen=True)
class Member:
    """One worker."""

    name: str
    state: State = "starting"
    handle: Any = None
    """Its actor; None until its owner has started it."""
    slots: int = 1


@dataclass(frozen=True)
class Roster:
    """All members at one moment. Whoever holds one asks for the next by its `stamp`."""

    incarnation: str
    """Differs for each process of the membership actor."""
    epoch: int
    """0: a fresh process that has not been told yet who its members are."""
    members: tuple[Member, ...] = ()

    @property
    def stamp(self) -> tuple[str, int]:
        """What tells this roster from every other one."""
        return self.incarnation, self.epoch


class Membership:
    """The members and their states. Names that are unknown are ignored where a late report may name them."""

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        self._members: dict[str, Member] = {}
        self._epoch = 0
        self._started = 0

    @property
    def roster(self) -> Roster:
        """The members now."""
        return Roster(self._incarnation, self._epoch, tuple(self._members.values()))

    @property
    def epoch(self) -> int:
        """How many changes there were."""
        return self._epoch

    def get(self, name: str) -> Member | None:
        """The member of that name."""
        return self._members.get(name)

    def adopt(self, members: Iterable[Member], epoch: int, started: int) -> None:
        """Start from what the owner knows: its members, the last epoch it has seen, how many it has started in all.

        Raises ValueError if there are members already.
        """
        if self._epoch:
            raise ValueError("the membership has begun")
        self._members = {member.name: member for member in members}
        self._epoch, self._started = epoch + 1, started

    def add(self, number: int) -> list[str]:
        """Ask for so many more; their names. They have no handle until `joined`. Raises UserError before `adopt`, or for less than 1."""
        self._needs_adoption()
        if number < 1:
            raise UserError(f"cannot add {number} executor workers: give a number of at least 1")
        names = [self._new_name() for _ in range(number)]
        for name in names:
            self._members[name] = Member(name)
        self._epoch += 1
        return names

    def _new_name(self) -> str:
        self._started += 1
        return f"executor-{self._started - 1}"

    def joined(self, name: str, handle: Any) -> None:
        """Its owner has started it."""
        member = self._members.get(name)
        if member is not None and member.handle is None:
            self._change(replace(member, handle=handle))

    def answered(self, name: str, slots: int, draining: bool = False) -> None:
        """It lives; `draining` if it says that it was told to drain, which an earlier membership actor may have done."""
        member = self._members.get(name)
        if member is None:
            return
        state: State = "draining" if draining or member.state == "draining" else "up"
        self._change(replace(member, state=state, slots=slots))

    def silent(self, name: str) -> None:
        """It does not answer; it is waited for. A draining one has nothing more to give and is removed."""
        member = self._members.get(name)
        if member is None:
            return
        if member.state == "draining":
            self.removed(name)
        elif member.state == "up":
            self._change(replace(member, state="lost"))

    def died(self, name: str) -> str | None:
        """It will never answer again: it is removed. The name of the one that takes its place, None for a draining one."""
        member = self._members.get(name)
        if member is None:
            return None
        del self._members[name]
        self._epoch += 1
        if member.state == "draining":
            return None
        successor = self._new_name()
        self._members[successor] = Member(successor)
        return successor

    def drain(self, which: str | int) -> list[str]:
        """Members that get no new work from now on: the one of that name, or so many of them, the newest first.

        Raises UserError where there is no such member, or where no other would be left to work.
        """
        self._needs_adoption()
        staying = [member for member in self._members.values() if member.state != "draining"]
        if isinstance(which, str):
            chosen = [member for member in staying if member.name == which]
            if not chosen:
                names = ", ".join(member.name for member in staying)
                raise UserError(f"no executor worker {which!r} to drain; there are: {names}")
        else:
            if which < 1:
                raise UserError(f"cannot drain {which} executor workers: give a number of at least 1")
            # Those that do not work yet, or not now, are missed least.
            order = sorted(enumerate(staying), key=lambda pair: (pair[1].state == "up", -pair[0]))
            chosen = [member for _, member in order[:which]]
        if (len(staying) <= which) if isinstance(which, int) else len(staying) == 1:
            raise UserError(f"draining that many leaves no executor worker: there are {len(staying)}; add some first")
        for member in chosen:
            if member.handle is None:  # it has not been started
                del self._members[member.name]
            else:
                self._members[member.name] = replace(member, state="draining")
        self._epoch += 1
        return [member.name for member in chosen]

    def removed(self, name: str) -> None:
        """A member is done and no member any more."""
        if self._members.pop(name, None) is not None:
            self._epoch += 1

    def gauges(self) -> dict[str, float]:
        """Members by state, and the epoch."""
        states = Counter(member.state for member in self._members.values())
        return {**{f"workers_{state}": float(states[state]) for state in STATES}, "epoch": float(self._epoch)}

    def _needs_adoption(self) -> None:
        if not self._epoch:
            raise UserError("the executor workers are not known yet (their membership actor has just begun); try again")

    def _change(self, member: Member) -> None:
        if self._members[member.name] != member:
            self._members[member.name] = member
            self._epoch += 1
