"""How a queue keeps its bound on staleness, case by case; what holds whatever happens is in test_buffer_machine.py."""

from __future__ import annotations

import pytest
from buffer_groups import answer

from buffer.replay import Replay, Ticket
from buffer.settings import BufferSettings


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
