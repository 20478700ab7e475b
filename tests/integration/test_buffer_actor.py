"""The buffer as a real Ray actor: waits end, lost holders lose nothing, groups cross whole, a state makes a new buffer."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from buffer.actor import create
from buffer.replay import Ticket
from buffer.settings import BufferSettings
from buffer.trajectory import NOT_SAMPLED, CreditSpan, Group, Trajectory, Turn
from executor.verdict import Outcome, Verdict

PROBLEMS = ["a", "b", "c"]
LIMIT_S = 30.0  # nothing here takes long; a test that hangs ends


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture
def buffer() -> Iterator[Any]:
    actor = create(BufferSettings(groups_per_step=2, max_staleness=0), PROBLEMS)
    yield actor
    ray.kill(actor)


def get(reference: Any) -> Any:
    return ray.get(reference, timeout=LIMIT_S)


def full_group(ticket: Ticket, samples: int = 2, tokens: int = 20) -> Group:
    prompt = tokens // 4
    trajectories = [
        Trajectory(
            problem_id=ticket.problem_id,
            token_ids=list(range(1000, 1000 + tokens)),
            log_probs=[0.0] * prompt + [-0.123456789 * (i + 1) for i in range(tokens - prompt)],
            policy_versions=[NOT_SAMPLED] * prompt + [ticket.issued_version] * (tokens - prompt),
            loss_mask=[0] * prompt + [1] * (tokens - prompt),
            turns=[
                Turn(
                    start=prompt,
                    end=tokens,
                    response="print(1)\n" * 20,
                    finish_reason="stop",
                    verdict=Verdict(problem_id=ticket.problem_id, outcome=Outcome.FAILURE, index=index, total=3),
                    reward=-0.3,
                    components={"coarse": -0.3},
                    spans=[CreditSpan(start=prompt, end=prompt + 2, value=-0.3, reason="NameError, line 1")],
                )
            ],
        )
        for index in range(samples)
    ]
    return Group(
        group_id=ticket.group_id,
        problem_id=ticket.problem_id,
        issued_version=ticket.issued_version,
        trajectories=trajectories,
    )


def test_groups_cross_whole_and_in_order(buffer: Any) -> None:
    tickets = get(buffer.acquire.remote(5, "r", 5.0))
    groups = [full_group(ticket) for ticket in tickets]
    assert not get(buffer.wait_ready.remote(0.0))
    assert [get(buffer.put.remote(group)) for group in reversed(groups)] == [True, True]
    assert get(buffer.put.remote(groups[0])) is False
    assert get(buffer.wait_ready.remote(5.0))
    taken = get(buffer.take.remote())
    assert taken == groups
    get(buffer.commit.remote())
    with pytest.raises(ValueError, match="no taken batch"):
        get(buffer.commit.remote())


def test_an_acquire_waits_for_work_and_no_longer_than_told(buffer: Any) -> None:
    tickets = get(buffer.acquire.remote(5, "r", 5.0))
    assert len(tickets) == 2
    started = time.monotonic()
    assert get(buffer.acquire.remote(5, "r", 0.3)) == []
    assert 0.25 < time.monotonic() - started < 5
    polls = [buffer.acquire.remote(1, f"r{i}", 20.0) for i in range(3)]
    get(buffer.fail.remote(tickets[0].group_id, "the sandbox broke"))
    done, rest = ray.wait(polls, num_returns=1, timeout=LIMIT_S)
    assert [ticket.group_id for ticket in get(done[0])] == [tickets[0].group_id]
    assert ray.wait(rest, num_returns=1, timeout=0.3)[0] == []
    get(buffer.close.remote())
    assert get(rest) == [None, None]
    assert get(buffer.acquire.remote(1, "r", 20.0)) is None


def test_a_step_wakes_the_learner_and_a_version_wakes_the_actors(buffer: Any) -> None:
    tickets = get(buffer.acquire.remote(2, "r", 5.0))
    learner = buffer.wait_ready.remote(20.0)
    waiting = get(buffer.waiting_for.remote())
    assert f"0 ({tickets[0].problem_id}, r)" in waiting
    for ticket in tickets:
        get(buffer.put.remote(full_group(ticket)))
    assert get(learner) is True
    get(buffer.take.remote())
    get(buffer.untake.remote())
    get(buffer.take.remote())
    actor = buffer.acquire.remote(9, "r", 20.0)
    get(buffer.commit.remote())
    assert ray.wait([actor], timeout=0.3)[0] == []
    get(buffer.advance.remote(1))
    assert [(t.group_id, t.issued_version) for t in get(actor)] == [(2, 1), (3, 1)]


def test_tickets_of_a_dead_actor_are_not_given_to_its_unanswered_poll(buffer: Any) -> None:
    """A poll outlives the process that sent it; work released to it would be lost without a word."""

    class Holder:
        def work(self, buffer: Any) -> int:
            tickets = ray.get(buffer.acquire.remote(9, "lost", 5.0))
            self.poll = buffer.acquire.remote(9, "lost", 25.0)
            ray.get(buffer.gauges.remote())  # calls of one caller begin in order: the poll has begun
            return len(tickets)

    holder: Any = ray.remote(Holder).options(num_cpus=0).remote()
    assert get(holder.work.remote(buffer)) == 2
    ray.kill(holder)
    get(buffer.release.remote("lost"))
    assert get(buffer.gauges.remote())["reissuable"] == 2
    assert [t.group_id for t in get(buffer.acquire.remote(9, "new", 5.0))] == [0, 1]


def test_a_lost_holder_that_comes_back_gets_nothing(buffer: Any) -> None:
    """As when the network of its host was cut: what it took now would be nobody's once its host ends, and waited for without end."""
    get(buffer.acquire.remote(2, "lost", 5.0))
    get(buffer.release.remote("lost"))
    assert get(buffer.acquire.remote(2, "lost", 5.0)) is None
    assert get(buffer.gauges.remote())["outstanding"] == 0
    assert [t.group_id for t in get(buffer.acquire.remote(9, "new", 5.0))] == [0, 1]


def test_a_released_holder_that_lives_polls_again(buffer: Any) -> None:
    get(buffer.acquire.remote(2, "r", 5.0))
    poll = buffer.acquire.remote(2, "r", 20.0)
    assert ray.wait([poll], timeout=0.3)[0] == []
    get(buffer.release.remote(None))
    assert get(poll) == []
    assert len(get(buffer.acquire.remote(2, "r", 5.0))) == 2


def test_a_new_actor_goes_on_from_a_state_under_the_same_name() -> None:
    settings = BufferSettings(groups_per_step=2, max_staleness=1)
    first = create(settings, PROBLEMS, name="buffer-resume")
    tickets = get(first.acquire.remote(3, "r", 5.0))
    groups = [full_group(ticket) for ticket in tickets[:2]]
    for group in groups:
        get(first.put.remote(group))
    get(first.take.remote())
    state = get(first.state.remote())
    assert isinstance(state, bytes)
    ray.kill(first)
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            second = create(settings, PROBLEMS, name="buffer-resume")
            break
        except ValueError:  # the name is still taken
            assert time.monotonic() < deadline
            time.sleep(0.1)
    get(second.load.remote(state))
    assert get(ray.get_actor("buffer-resume").wait_ready.remote(5.0))
    assert [g.trajectories for g in get(second.take.remote())] == [g.trajectories for g in groups]
    assert get(second.acquire.remote(1, "r", 5.0)) == tickets[2:]
    other = create(settings, ["x"])
    with pytest.raises(ValueError, match="not those of the saved buffer"):
        get(other.load.remote(state))
    ray.kill(second)
    ray.kill(other)


def test_many_polls_at_once_each_get_their_own_ticket() -> None:
    buffer = create(BufferSettings(groups_per_step=64, max_staleness=0), PROBLEMS)
    answers = get([buffer.acquire.remote(1, f"r{i}", 20.0) for i in range(64)])
    assert sorted(ticket.group_id for (ticket,) in answers) == list(range(64))
    ray.kill(buffer)
