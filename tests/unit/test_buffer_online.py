"""RLTF's online buffer: refreshes, draws, the staleness bound and resume."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from buffer.online_pool import OnlineDraws, OnlinePool
from buffer.replay import Replay, Ticket
from buffer.settings import BufferSettings
from buffer.trajectory import Group

PROBLEMS = ["a", "b", "c", "d", "e"]


def answer(ticket: Ticket) -> Group:
    return Group(
        group_id=ticket.group_id, problem_id=ticket.problem_id, issued_version=ticket.issued_version, trajectories=[]
    )


def online(**changes: int) -> BufferSettings:
    return BufferSettings.model_validate({"kind": "online", "groups_per_step": 2, "capacity": 6, **changes})


def fill(replay: Replay) -> None:
    for ticket in replay.acquire(10_000, "r"):
        assert replay.put(answer(ticket))


def ids(groups: list[Group]) -> list[int]:
    return [group.group_id for group in groups]


def test_refreshes_push_out_the_oldest() -> None:
    """Golden A16, from the released code of RLTF."""
    pool: OnlinePool[int] = OnlinePool(10, random.Random(0))
    numbers = iter(range(1000))
    pool.refresh([next(numbers) for _ in range(10)])
    sizes = []
    for count in (4, 6, 12, 5, 0):
        pool.refresh([next(numbers) for _ in range(count)])
        sizes.append(([len(block) for block in pool.blocks], len(pool.newest())))
    assert sizes == [([6, 4], 10), ([4, 6], 10), ([12], 10), ([7, 5], 10), ([7, 5, 0], 10)]


@given(updates=st.lists(st.integers(0, 9), max_size=12), seed=st.integers(0, 99))
def test_a_full_pool_stays_full_and_loses_exactly_as_many_as_come(updates: list[int], seed: int) -> None:
    pool: OnlinePool[int] = OnlinePool(5, random.Random(seed))
    total = 0
    for count in updates:
        before = [item for block in pool.blocks for item in block]
        new = list(range(total, total + count))
        total += count
        pool.refresh(new)
        after = [item for block in pool.blocks for item in block]
        assert after == sorted(after)
        assert set(new) <= set(after)
        if len(before) >= 5:
            assert len(after) == max(len(before), count)
        assert len(pool.newest()) == min(5, total)
        assert pool.newest() == after[-5:]


def test_which_of_the_oldest_block_go_is_random() -> None:
    kept = set()
    for seed in range(50):
        pool: OnlinePool[int] = OnlinePool(4, random.Random(seed))
        pool.refresh([0, 1, 2, 3])
        pool.refresh([4, 5])
        kept.add(tuple(pool.blocks[0]))
    assert len(kept) == 6  # every pair of four


def test_the_pool_fills_to_its_capacity() -> None:
    replay = Replay(online(capacity=6, max_staleness=5, refresh_every=1), PROBLEMS)
    sizes = []
    for _ in range(5):
        for ticket in replay.acquire(2, "r"):
            replay.put(answer(ticket))
        replay.take()
        sizes.append(int(replay.gauges()["pool"]))
        replay.commit()
    assert sizes == [2, 4, 6, 6, 6]


def test_no_group_comes_again_before_all_have_come() -> None:
    replay = Replay(online(groups_per_step=2, capacity=8, max_staleness=100, broadcast_every=100), PROBLEMS)
    tickets = replay.acquire(5, "r")
    for ticket in tickets:
        replay.put(answer(ticket))
    drawn: list[int] = []
    for _ in range(10):
        batch = ids(replay.take())
        assert len(set(batch)) == 2
        drawn += batch
        replay.commit()
    passes = [drawn[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(one) == [0, 1, 2, 3, 4] for one in passes)
    assert len({tuple(one) for one in passes}) > 1  # shuffled, not in turn


def test_new_groups_wait_for_the_refresh_unless_the_pool_is_starved() -> None:
    replay = Replay(online(groups_per_step=1, refresh_every=3, max_staleness=9, capacity=4), PROBLEMS)
    assert not replay.ready()
    first, *others = replay.acquire(4, "r")
    replay.put(answer(first))
    assert replay.ready()
    assert ids(replay.take()) == [0]
    replay.commit()
    for ticket in others:
        replay.put(answer(ticket))
    for _ in range(2):
        assert ids(replay.take()) == [0]
        replay.commit()
    replay.take()
    assert replay.gauges()["pool"] == 4


def test_it_does_not_start_before_there_is_a_whole_step() -> None:
    replay = Replay(online(groups_per_step=3), PROBLEMS)
    tickets = replay.acquire(3, "r")
    for ticket in tickets[:2]:
        replay.put(answer(ticket))
    assert not replay.ready()
    assert "2 of 3 groups ready" in replay.waiting_for() and f"2 ({tickets[2].problem_id}, r)" in replay.waiting_for()
    replay.put(answer(tickets[2]))
    assert sorted(ids(replay.take())) == [0, 1, 2]


def test_groups_too_old_neither_come_nor_crowd_out_fresh_ones() -> None:
    """The slow group 1 arrives last: in a pool of one it would be the newest, and training would stop."""
    replay = Replay(online(groups_per_step=1, capacity=1, broadcast_every=2, max_staleness=0), PROBLEMS)
    quick, slow = replay.acquire(9, "r")
    replay.put(answer(quick))
    for _ in range(2):
        assert ids(replay.take()) == [0]
        replay.commit()
    replay.advance(1)
    assert not replay.ready()
    fill(replay)
    replay.put(answer(slow))
    assert replay.ready()
    assert replay.take()[0].issued_version == 1


def test_an_old_group_in_the_pool_does_not_push_out_a_fresh_one() -> None:
    """Group 1 was issued before group 0 and finished after it; when it is too old, group 0 is not."""
    draws = OnlineDraws(capacity=2, refresh_every=1, generator=random.Random(0))
    for group_id, version in ((0, 1), (1, 0)):
        draws.stage(Group(group_id=group_id, problem_id="a", issued_version=version, trajectories=[]))
        draws.draw(1, oldest_version=0)
        draws.commit()
    draws.stage(Group(group_id=2, problem_id="a", issued_version=2, trajectories=[]))
    assert draws.can_draw(2, oldest_version=1)
    assert sorted(ids(draws.draw(2, oldest_version=1))) == [0, 2]


@hypothesis_settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_draws_are_fresh_never_starve_and_survive_a_restart(data: st.DataObject) -> None:
    draw = data.draw
    settings = BufferSettings(
        kind="online",
        groups_per_step=draw(st.integers(1, 3)),
        broadcast_every=draw(st.integers(1, 2)),
        max_staleness=draw(st.integers(0, 3)),
        capacity=draw(st.integers(3, 8)),
        refresh_every=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 9)),
    )
    replay = Replay(settings, PROBLEMS)
    slow: list[Ticket] = []
    for step in range(15):
        version = step // settings.broadcast_every
        replay.advance(version)
        slow += replay.acquire(10_000, "r")
        late = draw(st.integers(0, 3))
        done, slow = slow[late:], slow[:late]  # the oldest take long
        for ticket in done:
            assert replay.put(answer(ticket))
        while not replay.ready():  # never starved once what is slow is done
            assert slow, replay.waiting_for()
            assert replay.put(answer(slow.pop()))
        saved = replay.state_dict()
        batch = replay.take()
        assert len({*ids(batch)}) == settings.groups_per_step
        assert all(version - group.issued_version <= settings.max_staleness for group in batch)
        if draw(st.booleans()):
            replay.untake()
            assert ids(replay.take()) == ids(batch)
        if draw(st.booleans()):
            if draw(st.booleans()):
                saved = replay.state_dict()  # the batch counts as not taken
            replay = Replay(settings, PROBLEMS)
            replay.load_state_dict(json.loads(json.dumps(saved)))
            again = replay.acquire(len(slow), "r")
            assert [t.group_id for t in again] == sorted(t.group_id for t in slow)
            slow = again
            assert ids(replay.take()) == ids(batch)
        replay.commit()


def test_a_pool_smaller_than_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"capacity=4 cannot fill a step.*groups_per_step=8"):
        BufferSettings(kind="online", capacity=4, groups_per_step=8)
    assert BufferSettings(capacity=4, groups_per_step=8).kind == "queue"
