"""Tickets, attempts, abandonment, batches and what a person is told; staleness has a file of its own."""

from __future__ import annotations

import json

import pytest
from buffer_groups import answer, ids
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from buffer.replay import Abandoned, Replay, Ticket
from buffer.settings import BufferSettings

PROBLEMS = ["a", "b", "c", "d"]


def replay_of(**changes: object) -> Replay:
    return Replay(BufferSettings.model_validate({"groups_per_step": 2, "max_staleness": 1, **changes}), PROBLEMS)


def test_a_failed_ticket_comes_again_before_new_work_and_at_the_current_version() -> None:
    replay = replay_of()
    first, second = replay.acquire(2, "r")
    replay.advance(1)
    replay.fail(first.group_id, "the sandbox broke")
    again, new = replay.acquire(2, "r")
    assert (again.group_id, again.problem_id, again.issued_version) == (first.group_id, first.problem_id, 1)
    assert (again.attempt, again.visit) == (2, first.visit)
    assert new.group_id == 2
    assert not replay.put(answer(first))  # of the first attempt, now too old
    assert replay.put(answer(again)) and replay.put(answer(second))


def test_after_enough_attempts_the_place_goes_to_another_problem() -> None:
    replay = replay_of(max_attempts=2)
    (ticket,) = replay.acquire(1, "r")
    problem = ticket.problem_id
    for _ in range(2):
        replay.fail(ticket.group_id, "no such jar")
        (ticket,) = replay.acquire(1, "r")
    assert (ticket.group_id, ticket.attempt) == (0, 1)
    assert ticket.problem_id != problem
    assert list(replay.abandoned) == [Abandoned(0, problem, "no such jar")]
    assert (replay.gauges()["failed"], replay.gauges()["abandoned"]) == (2, 1)
    replay.fail(99, "no such ticket")
    assert replay.gauges()["failed"] == 2


def test_the_other_problem_is_never_the_one_that_failed() -> None:
    replay = Replay(BufferSettings(groups_per_step=1, max_staleness=0, max_attempts=1), ["a", "b"])
    last = ""
    for _ in range(30):
        (ticket,) = replay.acquire(1, "r")
        assert ticket.problem_id != last
        last = ticket.problem_id
        replay.fail(ticket.group_id, "broke")


def test_a_lost_holder_costs_no_attempt_and_only_its_own_tickets_come_again() -> None:
    replay = replay_of(groups_per_step=4, max_staleness=0)
    lost, kept = replay.acquire(2, "lost"), replay.acquire(2, "kept")
    replay.release("lost")
    assert replay.acquire(9, "new") == lost
    assert replay.acquire(9, "new") == []
    assert replay.put(answer(kept[0]))


def test_work_that_is_scarce_is_shared_by_those_who_are_expected() -> None:
    replay = replay_of(groups_per_step=4, max_staleness=1)
    replay.expect(3)
    assert [len(replay.acquire(16, name)) for name in ("a", "b", "a", "c", "c")] == [3, 3, 0, 2, 0]
    replay.release("b")
    assert len(replay.acquire(16, "b again")) == 3


def test_a_put_counts_once() -> None:
    replay = replay_of()
    ticket, other = replay.acquire(2, "r")
    assert replay.put(answer(ticket))
    assert not replay.put(answer(ticket))
    assert not replay.put(answer(ticket).model_copy(update={"group_id": 50}))
    wrong = next(p for p in PROBLEMS if p != other.problem_id)
    assert not replay.put(answer(other).model_copy(update={"problem_id": wrong}))
    assert (replay.gauges()["put"], replay.gauges()["duplicate"]) == (1, 3)
    assert replay.put(answer(other))
    replay.take()
    assert not replay.put(answer(ticket))
    replay.commit()
    assert not replay.put(answer(ticket))


def test_a_batch_is_held_until_its_step_is_done_or_given_up() -> None:
    replay = replay_of()
    for ticket in reversed(replay.acquire(4, "r")):
        replay.put(answer(ticket))
    assert ids(replay.take()) == [0, 1]
    assert not replay.ready()
    with pytest.raises(ValueError, match="commit or untake of the step on groups 0, 1"):
        replay.take()
    replay.untake()
    assert ids(replay.take()) == [0, 1]
    replay.commit()
    assert ids(replay.take()) == [2, 3]
    replay.commit()
    with pytest.raises(ValueError, match="no taken batch"):
        replay.commit()
    replay.untake()  # nothing is taken: nothing happens
    assert not replay.ready()


def test_versions_only_rise() -> None:
    replay = replay_of()
    replay.advance(2)
    replay.advance(2)
    with pytest.raises(ValueError, match="policy version 1 comes after 2"):
        replay.advance(1)


def test_a_person_is_told_what_a_step_waits_for() -> None:
    replay = replay_of(groups_per_step=8, max_staleness=0)
    assert replay.waiting_for() == "a rollout actor to acquire tickets (8 free, 0 of them again); 0 of 8 groups ready"
    tickets = replay.acquire(8, "rollout-3")
    assert f"0 ({tickets[0].problem_id}, rollout-3)" in replay.waiting_for()
    assert "and 3 more; 0 of 8 groups ready" in replay.waiting_for()
    assert "\n" not in replay.waiting_for()
    replay.release(None)
    assert "8 free, 8 of them again" in replay.waiting_for()
    for ticket in replay.acquire(8, "rollout-4"):
        replay.put(answer(ticket))
    assert replay.waiting_for() == "nothing: a batch is ready"
    replay.take()
    assert replay.waiting_for().startswith("commit or untake of the step on groups 0, 1, 2, 3, 4 and 3 more")
    replay.commit()
    assert replay.waiting_for() == "policy version 1: all 8 tickets of version 0 are done; 0 of 8 groups ready"


def test_gauges_tell_the_staleness_of_what_is_ready() -> None:
    replay = replay_of(groups_per_step=1, max_staleness=2)
    tickets = replay.acquire(3, "r")
    for ticket in tickets:
        replay.put(answer(ticket))
    replay.take()
    replay.commit()
    replay.advance(1)
    replay.put(answer(replay.acquire(1, "r")[0]))
    gauges = replay.gauges()
    assert gauges["staleness_ready_max"] == 1
    assert gauges["staleness_ready_mean"] == pytest.approx(2 / 3)
    assert gauges["pool_samples"] == 2  # one was trained, one is not in the pool yet; none has samples


def run_on(replay: Replay) -> list[object]:
    """Ten steps of calls, newest groups first, and all that they answered."""
    seen: list[object] = []
    for _ in range(10):
        tickets = replay.acquire(5, "later")
        seen.append(tickets)
        seen += [replay.put(answer(ticket)) for ticket in reversed(tickets)]
        seen += [replay.ready(), replay.gauges(), replay.waiting_for()]
        if replay.ready():
            seen.append(replay.take())
            replay.commit()
        replay.advance(max(replay.version, replay.learner_version))
    return seen


@hypothesis_settings(max_examples=60)
@given(data=st.data())
def test_save_and_load_at_any_moment_goes_on_the_same(data: st.DataObject) -> None:
    """The loaded buffer answers later calls as the saved one does, once that has got its work back."""
    draw = data.draw
    settings = BufferSettings(
        kind=draw(st.sampled_from(["queue", "online"])),  # type: ignore[arg-type]
        groups_per_step=draw(st.integers(1, 3)),
        max_staleness=draw(st.integers(0, 2)),
        max_attempts=draw(st.integers(1, 2)),
        capacity=draw(st.integers(3, 6)),
        refresh_every=draw(st.integers(1, 3)),
        selection=draw(st.sampled_from(["uniform", "signal"])),  # type: ignore[arg-type]
    )
    replay = Replay(settings, PROBLEMS)
    held: list[Ticket] = []
    taken = False
    for act in draw(st.lists(st.sampled_from(["acquire", "put", "put", "put", "fail", "step", "take"]), max_size=25)):
        if act == "acquire":
            held += replay.acquire(4, "early")
        elif act == "put" and held:
            replay.put(answer(held.pop(draw(st.integers(0, len(held) - 1)))))
        elif act == "fail" and held:
            replay.fail(held.pop().group_id, "broke")
        elif act == "take" and replay.ready():
            replay.take()
            taken = True
        elif act == "step" and taken:
            replay.commit()
            replay.advance(max(replay.version, replay.learner_version))
            taken = False
    issued = replay.gauges()["issued"]
    text = json.dumps(replay.state_dict())
    loaded = Replay(settings, PROBLEMS)
    loaded.load_state_dict(json.loads(text))
    assert json.dumps(loaded.state_dict()) == text
    assert loaded.gauges()["outstanding"] == loaded.gauges()["taken"] == 0
    assert loaded.gauges()["issued"] == issued
    replay.release(None)
    replay.untake()
    assert run_on(loaded) == run_on(replay)


def test_a_state_that_does_not_fit_is_refused_in_one_line() -> None:
    state = replay_of().state_dict()
    for changes, words in (
        ({"groups_per_step": 3}, "groups_per_step=3: the saved buffer was made with 2"),
        ({"broadcast_every": 2}, "broadcast_every=2"),
        ({"kind": "online"}, "kind='online'"),
        ({"max_staleness": 0}, "max_staleness=0: .* bound 1"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            replay_of(**changes).load_state_dict(state)
        assert "\n" not in str(error.value)
    for form in (1, 7):
        with pytest.raises(ValueError, match=f"^the saved buffer has form {form}; this version reads form 2$"):
            replay_of().load_state_dict({**state, "form": form})
    with pytest.raises(ValueError, match="not those of the saved buffer"):
        Replay(BufferSettings(groups_per_step=2), ["x", "y"]).load_state_dict(state)
    replay_of(max_staleness=2).load_state_dict(state)
