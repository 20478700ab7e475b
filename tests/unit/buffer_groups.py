"""Groups as tests of the buffer put them: an answer to a ticket with so many samples, each told from every other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from buffer.replay import Ticket
from buffer.trajectory import NOT_SAMPLED, Group, Trajectory, Turn


def sample(group_id: int, index: int, version: int = 0, reward: float = 0.0, role: str = "sampled") -> Trajectory:
    return Trajectory(
        problem_id="p",
        role=role,  # type: ignore[arg-type]
        token_ids=[group_id, index],
        log_probs=[0.0, -1.0],
        policy_versions=[NOT_SAMPLED, version],
        loss_mask=[0, int(role == "sampled")],
        turns=[
            Turn(start=1, end=2, response="", finish_reason="stop", reward=reward, components={"coarse": reward}),
        ],
    )


def group(group_id: int, size: int = 0, version: int = 0, rewards: Sequence[float] = ()) -> Group:
    values = [*rewards, *[0.0] * size][: max(size, len(rewards))]
    return Group(
        group_id=group_id,
        problem_id="p",
        issued_version=version,
        trajectories=[sample(group_id, index, version, value) for index, value in enumerate(values)],
    )


def answer(ticket: Ticket, size: int = 0) -> Group:
    made = group(ticket.group_id, size, ticket.issued_version)
    return made.model_copy(update={"problem_id": ticket.problem_id})


def ids(groups: Iterable[Group]) -> list[int]:
    return [one.group_id for one in groups]


def names(groups: Iterable[Group]) -> list[tuple[int, int]]:
    """Every sample of `groups`, as (group, index)."""
    return [(t.token_ids[0], t.token_ids[1]) for one in groups for t in one.sampled]
