"""What a batch of groups says about the policy: rewards, outcomes, staleness; pure arithmetic over trajectories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from buffer.trajectory import Group

# What the metrics call an outcome; what is not here is called as it is.
_CALLED = {"memory": "error", "output_limit": "error"}


def batch_metrics(groups: Sequence[Group], policy_version: int) -> dict[str, float]:
    """Means over the sampled trajectories of `groups`; staleness is in policy versions behind `policy_version`, by token."""
    sampled = [t for group in groups for t in group.sampled]
    if not sampled:
        return {}
    last = [t.turns[-1] for t in sampled]
    rewards: defaultdict[str, list[float]] = defaultdict(list)
    for t, turn in zip(sampled, last, strict=True):
        if turn.verdict is not None:
            rewards[_CALLED.get(turn.verdict.outcome, turn.verdict.outcome)].append(t.reward)
    lags = [policy_version - v for t in sampled for v, m in zip(t.policy_versions, t.loss_mask, strict=True) if m]
    log_probs = [p for t in sampled for p, m in zip(t.log_probs, t.loss_mask, strict=True) if m]

    def share(outcome: str) -> float:
        return len(rewards[outcome]) / len(sampled)

    mixed = [len({t.passed for t in group.sampled}) > 1 for group in groups]
    return {
        "reward": fmean(t.reward for t in sampled),
        "share_passing": fmean(t.passed for t in sampled),
        "first_turn_passing": fmean(t.passed and len(t.turns) == 1 for t in sampled),
        "repaired_share": fmean(t.passed and len(t.turns) > 1 for t in sampled),
        "turns": fmean(len(t.turns) for t in sampled),
        "context_full_share": fmean(t.ending == "context" for t in sampled),
        "share_tests": fmean(turn.verdict.share_passed if turn.verdict else 0.0 for turn in last),
        "groups_mixed_share": fmean(mixed),
        "response_tokens": fmean(turn.end - turn.start for turn in last),
        "truncated_share": fmean(turn.finish_reason == "length" for turn in last),
        "no_code_share": share("no_code"),
        "syntax_error_share": share("syntax_error"),
        "error_share": share("error"),
        "timeout_share": share("timeout"),
        "failure_share": share("failure"),
        "staleness_mean": fmean(lags) if lags else 0.0,
        "staleness_max": float(max(lags, default=0)),
        # On tokens sampled from the policy, minus the mean log-probability is an unbiased estimate of its entropy.
        "entropy": -fmean(log_probs) if log_probs else 0.0,
        "trajectories": float(len(sampled)),
    } | {f"reward_{outcome}": fmean(found) for outcome, found in rewards.items() if found}
