"""What the control plane's own state machines cost, measured in this process: no Ray, one core, the least of several rounds.

CPU time, not wall time: what else runs on the machine is not theirs. Printed are the constants of setting.py that
come from here, and how many a second that makes.
"""

from __future__ import annotations

import asyncio
import pickle
import random
import time
from collections.abc import Callable

from actors.episode import Episode, Rules
from buffer.actor import BufferActor
from buffer.replay import Replay, Ticket
from buffer.settings import BufferSettings
from buffer.trajectory import Group, Trajectory, Turn
from executor.dispatch import Dispatch
from executor.verdict import Outcome, Verdict
from executor.worker import IN_FLIGHT_PER_SLOT

_SAMPLES = 8
_LARGE = 100_000
_POLLS = 500
ROUNDS = 5


def group(ticket: Ticket, tokens: int = 20) -> Group:
    """Arbitrary ids and probabilities, as different from one another as real ones."""
    chance = random.Random(ticket.group_id)
    trajectories = [
        Trajectory(
            problem_id=ticket.problem_id,
            token_ids=[chance.randrange(150_000) for _ in range(tokens)],
            log_probs=[-chance.random() for _ in range(tokens)],
            policy_versions=[0] * tokens,
            loss_mask=[1] * tokens,
            turns=[Turn(start=0, end=tokens, response="", finish_reason="stop")],
        )
        for _ in range(_SAMPLES)
    ]
    return Group(
        group_id=ticket.group_id,
        problem_id=ticket.problem_id,
        issued_version=ticket.issued_version,
        trajectories=trajectories,
    )


def _least(rounds: int, seconds: Callable[[], float]) -> float:
    return min(seconds() for _ in range(rounds))


def _timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _full(staged: int) -> tuple[Replay, list[Ticket]]:
    """A replay with so many groups staged, and tickets still out."""
    replay = Replay(BufferSettings(groups_per_step=_LARGE), ["p"])
    tickets = replay.acquire(staged + 64, "measuring")
    for ticket in tickets[:staged]:
        replay.pool.staged.append(group(ticket, 1))  # as put would, at less than its price
    return replay, tickets[staged:]


def _put_s(staged: int) -> float:
    replay, tickets = _full(staged)
    groups = [group(ticket, 1) for ticket in tickets]
    return _timed(lambda: [replay.put(made) for made in groups]) / len(groups)


def _ready_s(held: int) -> float:
    replay, _ = _full(held)
    return _timed(replay.ready) / held


def _wake_s(rounds: int) -> float:
    """What each waiting poll adds to a put in BufferActor."""

    async def puts(polls: int) -> float:
        buffer = BufferActor(BufferSettings(groups_per_step=_LARGE, max_staleness=0), ["p"])
        tickets = await buffer.acquire(_LARGE, "measuring", 1.0) or []
        waiting = [asyncio.create_task(buffer.acquire(1, f"rollout-{i}", 60.0)) for i in range(polls)]
        await asyncio.sleep(0)
        groups = [group(ticket, 1) for ticket in tickets[:32]]
        started = time.process_time()
        for made in groups:
            await buffer.put(made)
            for _ in range(
                3 * _POLLS
            ):  # those woken look one after another and wait on; as many turns of the loop without them
                await asyncio.sleep(0)
        seconds = (time.process_time() - started) / len(groups)
        await buffer.close()
        await asyncio.gather(*waiting)
        return seconds

    few, many = (_least(rounds, lambda n=n: asyncio.run(puts(n))) for n in (0, _POLLS))
    return max(0.0, (many - few) / _POLLS)


def _token_s() -> float:
    tokens = 1000
    data = pickle.dumps(group(Ticket(0, "p", 0, 1, 0), tokens), protocol=5)
    return _timed(lambda: pickle.loads(data)) / (tokens * _SAMPLES)


def _place_s(workers: int) -> float:
    """A request in, placed, answered."""
    dispatch = Dispatch(IN_FLIGHT_PER_SLOT, 3, random.Random(0))
    dispatch.set_members({f"executor-{i}": 32 for i in range(workers)})

    def work() -> None:
        for ticket in range(64):
            dispatch.submit(ticket)
            for placed, name in dispatch.place():
                dispatch.answered(name, placed)

    return _timed(work) / 64


def _turn_s() -> float:
    """A turn of an episode of three: response of 500 tokens, verdict, feedback."""
    rules = Rules(max_turns=3, max_tokens=100_000, max_response_tokens=2048)
    failure = Verdict(problem_id="p", outcome=Outcome.FAILURE)
    response = [1] * 500, [-1.0] * 500, [0] * 500

    def work() -> None:
        for _ in range(20):
            episode = Episode("p", [1] * 600, rules)
            for turn in range(3):
                episode.respond(*response, "", "stop")
                episode.judge(failure)
                if turn < 2:
                    episode.observe([1] * 200)
            episode.trajectory()

    return _timed(work) / 60


def measure(rounds: int = ROUNDS) -> tuple[dict[str, float], list[tuple[str, float]]]:
    """The constants of setting.py by name; and what is asked of each state machine, with its seconds."""
    empty, full = (_least(rounds, lambda n=n: _put_s(n)) for n in (0, 2000))
    few, many = (_least(rounds, lambda n=n: _place_s(n)) for n in (16, 2000))
    token = _least(rounds, _token_s)
    constants = {
        "put_s": empty,
        "ready_group_s": _least(rounds, lambda: _ready_s(2000)),
        "wake_s": _wake_s(rounds),
        "place_worker_s": max(0.0, many - few) / (2000 - 16),
    }
    rates = [
        ("Replay.put, nothing staged", empty),
        ("Replay.put, 2,000 groups staged", full),
        ("a group of 8 x 1,500 tokens unpickled", 12_000 * token),
        ("Dispatch: in, placed, answered; 16 workers", few),
        ("Dispatch: in, placed, answered; 2,000 workers", many),
        ("Episode: a turn of 500 tokens", _least(rounds, _turn_s)),
    ]
    return constants, rates
