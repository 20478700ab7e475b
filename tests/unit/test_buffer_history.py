"""A group is compared with what came before it, never with itself."""

from __future__ import annotations

import json

from buffer.history import ProblemHistory
from buffer.replay import Replay
from buffer.settings import BufferSettings
from buffer.trajectory import Group, Trajectory, Turn
from executor.verdict import Outcome, Verdict


def trajectory(coarse: float, role: str = "sampled", fine: float = 0.0) -> Trajectory:
    outcome = Outcome.PASS if coarse == 1 else Outcome.FAILURE
    turn = Turn(
        start=0,
        end=1,
        response="",
        finish_reason="stop",
        verdict=Verdict(problem_id="p", outcome=outcome),
        reward=coarse + fine,
        components={"coarse": coarse, "fine": fine},
    )
    return Trajectory(
        problem_id="p",
        role=role,  # type: ignore[arg-type]
        token_ids=[7],
        log_probs=[-0.5],
        policy_versions=[0],
        loss_mask=[1],
        turns=[] if role == "reference" else [turn],
    )


def group(*trajectories: Trajectory, group_id: int = 0) -> Group:
    return Group(group_id=group_id, problem_id="p", issued_version=0, trajectories=list(trajectories))


def test_the_best_is_that_of_the_best_sampled_trajectory() -> None:
    history = ProblemHistory()
    assert history.baselines("p") == {}
    history.record(group(trajectory(-0.3), trajectory(0.3, fine=-0.3), trajectory(0.2), trajectory(1.0, role="greedy")))
    assert history.baselines("p")["best_so_far"] == {"coarse": 0.2, "fine": 0.0}
    history.record(group(trajectory(-1.0), trajectory(0.1)))
    assert history.baselines("p")["best_so_far"] == {"coarse": 0.2, "fine": 0.0}
    history.record(group(trajectory(1.0)))
    assert history.baselines("p")["best_so_far"] == {"coarse": 1.0, "fine": 0.0}
    assert history.baselines("q") == {}


def test_the_greedy_baseline_is_the_newest_even_if_worse() -> None:
    history = ProblemHistory()
    history.record(group(trajectory(-0.3)))
    assert set(history.baselines("p")) == {"best_so_far"}
    history.record(group(trajectory(-0.3), trajectory(1.0, role="greedy")))
    history.record(group(trajectory(-0.3), trajectory(-0.6, role="greedy")))
    assert history.baselines("p")["latest_greedy"] == {"coarse": -0.6, "fine": 0.0}


def test_only_sampled_trajectories_count_in_the_share() -> None:
    history = ProblemHistory()
    history.record(
        group(trajectory(1.0), trajectory(-0.3), trajectory(1.0, role="greedy"), trajectory(0.0, role="reference"))
    )
    assert history.share_passing == {"p": 0.5}


def test_put_stamps_what_was_known_before() -> None:
    replay = Replay(BufferSettings(groups_per_step=1, max_staleness=2), ["p"])
    first, second, third = replay.acquire(3, "r")
    assert [t.visit for t in (first, second, third)] == [0, 1, 2]
    given = group(trajectory(1.0), trajectory(-0.6, role="greedy"), group_id=0)
    assert replay.put(given)
    assert replay.put(group(trajectory(-0.3), group_id=1))
    assert replay.put(group(trajectory(-0.3), group_id=2))
    batches = []
    for _ in range(3):
        batches += replay.take()
        replay.commit()
    known = {"best_so_far": {"coarse": 1.0, "fine": 0.0}, "latest_greedy": {"coarse": -0.6, "fine": 0.0}}
    assert [g.baselines for g in batches] == [{}, known, known]
    assert given.baselines == {}  # the sender's own is left alone


def test_a_saved_history_is_the_same() -> None:
    history = ProblemHistory()
    assert [history.begin_visit("p"), history.begin_visit("p"), history.begin_visit("q")] == [0, 1, 0]
    history.record(group(trajectory(0.2), trajectory(-0.6, role="greedy")))
    copy = ProblemHistory()
    copy.load_state_dict(json.loads(json.dumps(history.state_dict())))
    assert copy.state_dict() == history.state_dict()
    assert copy.begin_visit("p") == 2
    copy.record(group(trajectory(0.1)))  # worse: the best reward was saved too
    assert copy.baselines("p") == history.baselines("p")
