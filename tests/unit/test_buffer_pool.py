"""What a step is made of: refreshes, eviction exact in samples, passes, the first filling, and both kinds of buffer."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from buffer_groups import answer, group, ids, names, sample
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from buffer.pool import Drawing, Pool, samples
from buffer.replay import Replay
from buffer.settings import BufferSettings
from buffer.trajectory import Group
from learner.losses import rltf

PROBLEMS = ["a", "b", "c", "d", "e"]
SIZES = st.lists(st.integers(1, 5), max_size=5)  # of the groups that come in with one refresh


def online(**changes: Any) -> BufferSettings:
    usual = {"kind": "online", "groups_per_step": 2, "capacity": 6, "refresh_every": 1, "fill_first": False}
    return BufferSettings.model_validate({**usual, **changes})


def pool_of(capacity: float, seed: int = 0, **changes: Any) -> Pool:
    return Pool(Drawing(**{"groups_per_step": 1, "again": True, "capacity": capacity, **changes}), random.Random(seed))


def refreshed(pool: Pool, groups: list[Group]) -> list[Group]:
    """What the pool holds once `groups` have come in."""
    for one in groups:
        pool.stage(one, 0)
    if pool.candidates(0):
        pool.draw(0)
        pool.undo()
    return list(pool.groups)


def block(first: int, sizes: list[int]) -> list[Group]:
    return [group(first + place, size) for place, size in enumerate(sizes)]


# Eviction, exact in samples ---------------------------------------------------------------------------------------


def newest(sizes: list[int], limit: int) -> list[int]:
    """How many of each block are among the `limit` newest samples."""
    shares = []
    for size in reversed(sizes):
        shares.append(min(size, limit))
        limit -= shares[-1]
    return [share for share in reversed(shares) if share]


@hypothesis_settings(max_examples=50)
@given(data=st.data(), seed=st.integers(0, 99))
def test_refreshes_push_out_the_oldest(data: st.DataObject, seed: int) -> None:
    """Golden A16, from the released code of RLTF, however the samples are grouped: new samples, what is left of each block.

    That code keeps a block that is larger than the pool and draws from its newest samples only; here it is cut to those.
    """
    expected = [(10, [10]), (4, [6, 4]), (6, [4, 6]), (12, [12]), (5, [7, 5]), (0, [7, 5, 0])]
    pool = pool_of(10, seed)
    blocks: dict[int, int] = {}
    for number, (count, left) in enumerate(expected):
        new: list[Group] = []
        while samples(new) < count:
            size = data.draw(st.integers(1, count - samples(new)))
            new.append(group(len(blocks), size))
            blocks[new[-1].group_id] = number
        now = refreshed(pool, new)
        shares = [sum(blocks[name] == n for name, _ in names(now)) for n in range(number + 1)]
        assert [share for share in shares if share] == newest(left, 10)
        assert pool.samples == 10


@given(blocks=st.lists(SIZES, max_size=8), capacity=st.integers(5, 20), seed=st.integers(0, 99))
def test_the_pool_is_the_newest_samples_and_loses_exactly_as_many_as_come(
    blocks: list[list[int]], capacity: int, seed: int
) -> None:
    pool = pool_of(capacity, seed)
    born: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for number, new_sizes in enumerate(blocks):
        before = names(pool.groups)
        new = block(len(born), new_sizes)
        born |= dict.fromkeys(ids(new), number)
        sizes |= {one.group_id: len(one.sampled) for one in new}
        now = refreshed(pool, new)
        after = names(now)
        came = samples(new)
        assert len(set(after)) == len(after) == min(capacity, len(before) + came)
        assert set(after) <= {*before, *names(new)}
        lost = {*before, *names(new)} - set(after)
        assert len(lost) == max(0, len(before) + came - capacity)
        if lost:  # nothing older than the newest of what went is left
            assert all(born[name] >= max(born[gone] for gone, _ in lost) for name, _ in after)
        cut = [one.group_id for one in now if len(one.sampled) < sizes[one.group_id]]
        assert cut in ([], [now[0].group_id] if now else [])


def test_which_samples_of_the_oldest_block_go_is_chance() -> None:
    whole, parts = set(), set()
    for seed in range(100):
        pool = pool_of(4, seed)
        refreshed(pool, block(0, [1, 1, 1, 1]))
        whole.add(frozenset(names(refreshed(pool, block(4, [2])))) - {(4, 0), (4, 1)})
        pool = pool_of(4, seed)
        refreshed(pool, block(0, [4]))
        parts.add(frozenset(names(refreshed(pool, block(4, [2])))) - {(4, 0), (4, 1)})
    assert len(whole) == len(parts) == 6  # every pair of four, groups or one group's samples


def test_a_cut_group_keeps_what_else_it_holds_and_the_mean_it_had() -> None:
    pool = pool_of(4)
    whole = group(0, rewards=[1.0, 0.0, 0.0, 0.0]).model_copy(update={"baselines": {"best_so_far": {"coarse": 1.0}}})
    others = [sample(0, 8, role="greedy"), sample(0, 9, role="reference")]
    pool.stage(whole.model_copy(update={"trajectories": [others[0], *whole.trajectories, others[1]]}), 0)
    pool.draw(0)
    pool.commit()
    for group_id in (1, 2):  # one sample each: the group is cut twice
        (cut, *_) = refreshed(pool, [group(group_id, 1)])
        assert [t for t in cut.trajectories if t.role != "sampled"] == others
        assert set(names([cut])) < set(names([whole]))
        assert cut.baselines == {"best_so_far": {"coarse": 1.0}, "group_mean": {"coarse": 0.25}}
    assert len(cut.sampled) == 2


@given(rewards=st.lists(st.floats(-1, 1), min_size=2, max_size=6), data=st.data())
def test_the_credit_of_a_sample_is_the_same_when_others_of_its_group_have_gone(
    rewards: list[float], data: st.DataObject
) -> None:
    whole = group(0, rewards=rewards)
    gone = data.draw(st.integers(1, len(rewards) - 1))
    pool = pool_of(len(rewards), seed=data.draw(st.integers(0, 9)))
    refreshed(pool, [whole])
    cut = refreshed(pool, [group(1, gone)])[0]
    loss = rltf.Loss(rltf.Settings(baseline="group_mean"))
    before = dict(zip(names([whole]), loss.advantages(whole), strict=True))
    assert len(cut.sampled) == len(rewards) - gone
    for name, credit in zip(names([cut]), loss.advantages(cut), strict=True):
        assert credit == pytest.approx(before[name])


def test_groups_of_references_alone_have_a_limit_too() -> None:
    pool = pool_of(3)
    for group_id in range(6):
        refreshed(pool, [group(group_id, 0)])
    assert sorted(ids(pool.groups)) == [3, 4, 5]


def test_groups_larger_than_the_pool_was_made_for_do_not_starve_a_step() -> None:
    pool = pool_of(4, groups_per_step=3)
    refreshed(pool, block(0, [4, 4, 4, 4]))
    assert len(pool.candidates(0)) == 3


# Draws --------------------------------------------------------------------------------------------------------------


def test_the_pool_fills_to_its_capacity() -> None:
    replay = Replay(online(capacity=11, max_staleness=5), PROBLEMS)
    sizes = []
    for _ in range(5):
        for ticket in replay.acquire(2, "r"):
            replay.put(answer(ticket, 2))
        replay.take()
        sizes.append(int(replay.gauges()["pool_samples"]))
        replay.commit()
    assert sizes == [4, 8, 11, 11, 11]


def test_no_group_comes_again_before_all_have_come() -> None:
    replay = Replay(online(capacity=8, max_staleness=100, broadcast_every=100), PROBLEMS)
    for ticket in replay.acquire(5, "r"):
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
    assert replay.gauges()["pool_samples"] == 4


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
    for ticket in replay.acquire(9, "r"):
        replay.put(answer(ticket))
    replay.put(answer(slow))
    assert replay.ready()
    assert replay.take()[0].issued_version == 1


def test_an_old_group_in_the_pool_does_not_push_out_a_fresh_one() -> None:
    """Group 1 was issued before group 0 and finished after it; when it is too old, group 0 is not."""
    pool = pool_of(2, groups_per_step=1)
    for group_id, version in ((0, 1), (1, 0)):
        refreshed(pool, [group(group_id, version=version)])
    pool.stage(group(2, version=2), 1)
    pool.draw(1)
    assert sorted(ids(pool.groups)) == [0, 2]


def test_to_train_every_group_once_is_the_same_pool_with_other_settings() -> None:
    pool = Pool(Drawing(groups_per_step=2), random.Random(0))
    for one in (group(3, 1, version=1), group(2, 1), group(1, 1, version=1)):
        pool.stage(one, 0)
    assert ids(pool.draw(0)) == [2, 1]
    pool.stage(group(0, 1), 0)
    assert sorted(ids(pool.candidates(0))) == [0, 3]
    pool.undo()
    assert ids(pool.draw(0)) == [0, 2]  # what came meanwhile is due before group 1
    pool.commit()
    assert ids(pool.draw(0)) == [1, 3]
    pool.commit()
    assert pool.candidates(0) == [] and pool.samples == 0


# The first filling --------------------------------------------------------------------------------------------------


def test_the_first_step_waits_until_the_pool_is_full() -> None:
    replay = Replay(online(groups_per_step=1, capacity=7, max_staleness=9, fill_first=True), PROBLEMS)
    tickets = replay.acquire(4, "r")
    for ticket in tickets[:3]:
        replay.put(answer(ticket, 2))
    assert not replay.ready()
    assert f"{tickets[3].group_id} ({tickets[3].problem_id}, r); 6 of 7 samples to begin with" in replay.waiting_for()
    replay.put(answer(tickets[3], 1))
    assert replay.ready()
    replay.take()
    replay.untake()
    assert replay.ready()
    replay.take()
    replay.commit()
    assert replay.ready()


def test_the_first_step_does_not_wait_for_what_cannot_come() -> None:
    """Short groups, or a bound that allows few: all that version 0 may sample is in, and it is less than the pool."""
    replay = Replay(online(groups_per_step=2, capacity=100, max_staleness=1, fill_first=True), PROBLEMS)
    tickets = replay.acquire(100, "r")
    assert len(tickets) == 4
    for ticket in tickets[:3]:
        replay.put(answer(ticket, 2))
    replay.fail(tickets[3].group_id, "broke")
    assert not replay.ready()
    (again,) = replay.acquire(100, "r")
    assert not replay.ready()
    replay.put(answer(again, 1))
    assert replay.ready()


def test_it_does_not_start_before_there_is_a_whole_step() -> None:
    replay = Replay(online(groups_per_step=3), PROBLEMS)
    tickets = replay.acquire(3, "r")
    for ticket in tickets[:2]:
        replay.put(answer(ticket))
    assert not replay.ready()
    assert "2 of 3 groups ready" in replay.waiting_for() and f"2 ({tickets[2].problem_id}, r)" in replay.waiting_for()
    replay.put(answer(tickets[2]))
    assert sorted(ids(replay.take())) == [0, 1, 2]


def test_no_more_is_held_for_a_refresh_than_the_pool_can_take_in() -> None:
    pool = pool_of(7, groups_per_step=2)
    for one in block(0, [3] * 20):
        pool.stage(one, 0)
    assert ids(pool.staged) == [17, 18, 19]
    pool.stage(group(20, 3, version=1), 1)
    assert ids(pool.staged) == [20]  # the others are too old to be drawn


# Settings -----------------------------------------------------------------------------------------------------------


def test_a_pool_smaller_than_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"capacity=4 cannot fill a step.*groups_per_step=8"):
        BufferSettings(kind="online", capacity=4, groups_per_step=8)
    assert BufferSettings(capacity=4, groups_per_step=8).kind == "queue"


def test_a_run_may_go_on_with_a_smaller_pool() -> None:
    replay = Replay(online(capacity=12, max_staleness=9), PROBLEMS)
    for ticket in replay.acquire(4, "r"):
        replay.put(answer(ticket, 3))
    replay.take()
    replay.commit()
    smaller = Replay(online(capacity=7, max_staleness=9), PROBLEMS)
    smaller.load_state_dict(json.loads(json.dumps(replay.state_dict())))
    assert (replay.gauges()["pool_samples"], smaller.gauges()["pool_samples"]) == (12, 7)
