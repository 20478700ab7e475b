"""Trajectories and groups as tests write them: a prompt, responses, what each was worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from buffer.trajectory import NOT_SAMPLED, Group, Trajectory, Turn
from executor.verdict import Outcome, Verdict


def verdict(outcome: Outcome | str = Outcome.PASS, passed: int = 0, total: int = 4, **fields: Any) -> Verdict:
    return Verdict(problem_id="p", outcome=Outcome(outcome), passed=passed, total=total, **fields)


def sampled(
    prompt: Sequence[int],
    response: Sequence[int],
    components: dict[str, float] | None = None,
    *,
    log_probs: Sequence[float] | None = None,
    version: int = 0,
    outcome: Outcome | str = Outcome.FAILURE,
    role: str = "sampled",
    **turn: Any,
) -> Trajectory:
    """One response of one turn; `components` make its reward."""
    parts = components or {}
    return Trajectory(
        problem_id="p",
        role=role,  # type: ignore[arg-type]
        token_ids=[*prompt, *response],
        log_probs=[0.0] * len(prompt) + list(log_probs or [-1.0] * len(response)),
        policy_versions=[NOT_SAMPLED] * len(prompt) + [version] * len(response),
        loss_mask=[0] * len(prompt) + [int(role == "sampled")] * len(response),
        turns=[
            Turn(
                **{
                    "start": len(prompt),
                    "end": len(prompt) + len(response),
                    "response": "",
                    "finish_reason": "stop",
                    "verdict": verdict(outcome),
                    "reward": sum(parts.values()),
                    "components": parts,
                    **turn,
                }
            )
        ],
    )


def reference(prompt: Sequence[int], response: Sequence[int]) -> Trajectory:
    length = len(prompt) + len(response)
    return Trajectory(
        problem_id="p",
        role="reference",
        token_ids=[*prompt, *response],
        log_probs=[0.0] * length,
        policy_versions=[NOT_SAMPLED] * length,
        loss_mask=[0] * len(prompt) + [1] * len(response),
    )


def group(*members: Trajectory, group_id: int = 0, **fields: Any) -> Group:
    return Group(group_id=group_id, problem_id="p", issued_version=0, trajectories=list(members), **fields)


def dialogue(
    prompt: Sequence[int],
    turns: Sequence[tuple[Sequence[int], Sequence[int]]],
    rewards: Sequence[float],
    *,
    log_probs: Sequence[Sequence[float]] | None = None,
    outcome: Outcome | str = Outcome.FAILURE,
) -> Trajectory:
    """Several turns, each a response and the feedback before it (that of the first is not used); `outcome` is the last one's."""
    ids, probs, mask, told = list(prompt), [0.0] * len(prompt), [0] * len(prompt), []
    for number, (feedback, response) in enumerate(turns):
        between = list(feedback) if number else []
        ids += [*between, *response]
        probs += [0.0] * len(between) + list(log_probs[number] if log_probs else [-1.0] * len(response))
        mask += [0] * len(between) + [1] * len(response)
        final = number == len(turns) - 1
        told.append(
            Turn(
                start=len(ids) - len(response),
                end=len(ids),
                response="",
                finish_reason="stop",
                verdict=verdict(outcome if final else Outcome.FAILURE),
                reward=rewards[number],
            )
        )
    return Trajectory(
        problem_id="p",
        token_ids=ids,
        log_probs=probs,
        policy_versions=[0 if m else NOT_SAMPLED for m in mask],
        loss_mask=mask,
        turns=told,
    )
