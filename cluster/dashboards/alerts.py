"""Alert rules for Prometheus: `python -m cluster.dashboards.alerts` prints the rule file. Pure.

Invariants: a rule asks only for metrics of the table of exported metrics, or for those of a node that Ray itself exports (RAY_METRICS); what it asks
for of a run has the tag `run`; its last value counts for two minutes, since a late report of Ray's is no news.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import yaml

from cluster.exported_metrics import BY_NAME, RUN_TAG

RAY_METRICS = ("ray_node_disk_utilization_percentage", "ray_node_mem_used", "ray_node_mem_total")
NO_STEP_MINUTES = 30


@dataclass(frozen=True)
class Alert:
    """One rule."""

    name: str
    severity: Literal["critical", "warning", "info"]
    expression: str
    lasting: str  # for how long, before it is told
    summary: str  # {{ $labels.run }} and {{ $value }} are filled in by Prometheus
    advice: str


def _newest(name: str, window: str = "2m", **tags: str) -> str:
    """The newest value of a metric in `window`, one a run; of the time series with these tags."""
    chosen = ",".join(f'{tag}="{value}"' for tag, value in tags.items())
    selected = f"{BY_NAME[name].in_prometheus}{{{chosen}}}" if chosen else BY_NAME[name].in_prometheus
    return f"max by ({RUN_TAG}) (last_over_time({selected}[{window}]))"


def _grown(name: str) -> str:
    """By how much a total has grown of late, one a run."""
    return f"sum by ({RUN_TAG}) (increase({BY_NAME[name].in_prometheus}[15m]))"


def _done(window: str) -> str:
    """The runs that have made all their steps."""
    return f"({_newest('cupel_step', window)} >= {_newest('cupel_steps_planned', window)})"


_RUN = "{{ $labels.run }}"
_VALUE = "{{ $value | humanize }}"
_SHARE = "{{ $value | humanizePercentage }}"

ALERTS: tuple[Alert, ...] = (
    Alert(
        "CupelNoStep",
        "critical",
        f"(time() - {_newest('cupel_last_step_timestamp_seconds')} "
        f"> clamp_min({_newest('cupel_step_timeout_seconds')}, {60 * NO_STEP_MINUTES})) unless on ({RUN_TAG}) {_done('2m')}",
        "0m",
        f"{_RUN} has made no step for {{{{ $value | humanizeDuration }}}}",
        "cupel status says what the run waits for. A learner.step_timeout_s beyond 30 minutes is waited for as well.",
    ),
    Alert(
        "CupelRunGone",
        "warning",
        f"{_newest('cupel_steps_planned', window='1h')} unless on ({RUN_TAG}) {_done('1h')} "
        f"unless on ({RUN_TAG}) {_newest('cupel_steps_planned', window='5m')}",
        "0m",
        f"{_RUN} is not heard of any more, before its {_VALUE} steps were made",
        "Stopped by hand, killed, or its node is gone: cupel status RUN; cupel train --resume RUN goes on from the last checkpoint.",
    ),
    Alert(
        "CupelInfrastructureFailures",
        "warning",
        f"{_grown('cupel_infrastructure_failures')} > 0",
        "0m",
        f"{_RUN} lost about {_VALUE} samples to our own failures in 15 minutes",
        "The executors fail, not the programs: Ray's logs of the executor workers say why.",
    ),
    Alert(
        "CupelRolloutReplaced",
        "warning",
        f"{_grown('cupel_rollouts_replaced')} > 0",
        "0m",
        f"{_RUN} lost a rollout actor, which is replaced",
        "Three times a run; often memory: a smaller engine.kv_cache_gib.",
    ),
    Alert(
        "CupelExecutorWorkersLost",
        "warning",
        f"{_newest('cupel_executor_workers', state='lost')} > 0",
        "5m",
        f"{_RUN}: {_VALUE} executor workers do not answer",
        "They are restarted by themselves; where they stay lost, a node is gone or its memory is spent.",
    ),
    Alert(
        "CupelExecutorQueue",
        "warning",
        f"{_newest('cupel_executor_queue')} > 4 * {_newest('cupel_executor_slots', state='all')}",
        "10m",
        f"{_RUN}: {_VALUE} programs wait for an executor, more than four for each slot",
        "More executor.workers, or executor.slots where cores are idle.",
    ),
    Alert(
        "CupelExecutorSlow",
        "warning",
        f"{_newest('cupel_executor_latency_seconds', statistic='p95')} > 60",
        "10m",
        f"{_RUN}: a program waits {{{{ $value | humanizeDuration }}}} for its verdict (95th percentile)",
        "Too few slots for what is sampled, or programs that all run into their time limit.",
    ),
    Alert(
        "CupelStalenessBeyondBound",
        "critical",
        f"{_newest('cupel_staleness', statistic='max')} > {_newest('cupel_staleness_bound')}",
        "0m",
        f"{_RUN} trained on tokens {_VALUE} policy versions old, beyond its bound",
        "A defect of ours: please report it with the run's metrics.jsonl.",
    ),
    Alert(
        "CupelStalenessAtBound",
        "info",
        # With a bound of 1 that is how a run is: every batch is sampled while the one before it is learned from.
        f"{_newest('cupel_staleness', statistic='mean')} >= ({_newest('cupel_staleness_bound')} > 1)",
        "30m",
        f"{_RUN}: the mean token is as old as weights.max_staleness allows ({_VALUE} policy versions)",
        "Rollouts wait for the learner: fewer rollout actors would do, or a faster learner.",
    ),
    Alert(
        "CupelLogProbMismatch",
        "warning",
        f"{_newest('cupel_log_prob_mismatch')} > 0.3",
        "10m",
        f"{_RUN}: learner and engines differ by {_VALUE} nats a token",
        "Staleness and rounding together: a smaller weights.max_staleness or learner.learning_rate, or an engine.dtype that rounds less.",
    ),
    Alert(
        "CupelNothingToLearn",
        "info",
        f"{_newest('cupel_mixed_groups_share')} < 0.05",
        "30m",
        f"{_RUN}: only {_SHARE} of the groups have both passing and failing programs",
        "Other problems (problems.max_difficulty), buffer.selection=signal, or more rollout.samples_per_problem.",
    ),
    Alert(
        "CupelRolloutLoopLag",
        "warning",
        f"{_newest('cupel_rollout_loop_lag_seconds')} > 10",
        "10m",
        f"{_RUN}: a rollout actor's event loop is late by {{{{ $value | humanizeDuration }}}}",
        "It computes where it should wait, or its node has too few cores.",
    ),
    Alert(
        "CupelDiskNearlyFull",
        "critical",
        "max by (ip) (last_over_time(ray_node_disk_utilization_percentage[2m])) > 90",
        "5m",
        "the disk of node {{ $labels.ip }} is {{ $value | humanize }} % full",
        "Checkpoints and Ray's spilled objects need room: a smaller run.keep_checkpoints, or older runs moved away.",
    ),
    Alert(
        "CupelMemoryNearlyFull",
        "critical",
        "max by (ip) (last_over_time(ray_node_mem_used[2m])) / max by (ip) (last_over_time(ray_node_mem_total[2m])) > 0.95",
        "2m",
        f"the memory of node {{{{ $labels.ip }}}} is {_SHARE} full",
        "Ray ends processes next: a smaller learner.micro_batch_tokens or engine.kv_cache_gib.",
    ),
)


def rules() -> dict[str, Any]:
    """The rule file's content."""
    return {
        "groups": [
            {
                "name": "cupel",
                "rules": [
                    {
                        "alert": alert.name,
                        "expr": alert.expression,
                        "for": alert.lasting,
                        "labels": {"severity": alert.severity},
                        "annotations": {"summary": alert.summary, "description": alert.advice},
                    }
                    for alert in ALERTS
                ],
            }
        ]
    }


def as_yaml() -> str:
    """The rule file."""
    return yaml.safe_dump(rules(), sort_keys=False, width=1000)


if __name__ == "__main__":
    print(as_yaml(), end="")
