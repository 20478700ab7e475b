"""The metrics that a run exports to Prometheus: one table, from which exporter, dashboard, alerts and docs/metrics.md are made. Pure.

Invariants: every key of a step's line in metrics.jsonl feeds one time series or stands in LEFT_OUT with why (a test holds that against the code that
makes the line); a name is in the table once; every time series has the tag `run`. Nothing is a histogram: a line holds one number a key, and where a
distribution matters (latencies, staleness) it holds the distribution's mean and upper end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from executor.verdict import Outcome

Row = Literal["run", "learning", "rollout", "executor", "buffer", "weights", "failures"]
Unit = Literal["share", "seconds", "a second", "tokens", "nats", "versions", "count", "number"]
Kind = Literal["gauge", "counter", "total", "setting", "clock"]
"""What becomes of the numbers of a line.

gauge: the newest is shown; one that the line does not have is not shown. counter: they add up. total: they are totals already, of the actors that
live, so what they grow by adds up; a gauge in Prometheus, because a counter of Ray's is not there before it counts, and one that appears as 1 has not
grown in Prometheus's eyes. setting: of the configuration, shown from the start. clock: when the newest line was written, or the run began.
"""

RUN_TAG = "run"

ROW_TITLES: dict[Row, str] = {
    "run": "Run",
    "learning": "Learning",
    "rollout": "Rollout",
    "executor": "Executor",
    "buffer": "Buffer and staleness",
    "weights": "Weights: learner and engines",
    "failures": "Failures",
}


@dataclass(frozen=True)
class Series:
    """One time series: a key of the line (of the configuration, for a setting) and what sets it apart from others of its metric."""

    key: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """One metric."""

    name: str
    kind: Kind
    row: Row
    panel: str  # metrics of a row that name the same panel share it
    unit: Unit
    description: str
    series: tuple[Series, ...] = ()

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that every time series of it has, `run` first."""
        return (RUN_TAG, *(self.series[0].tags if self.series else ()))

    @property
    def in_prometheus(self) -> str:
        """Its name there: Ray puts `ray_` before every name, the Prometheus client `_total` after a counter's."""
        return f"ray_{self.name}{'_total' if self.kind == 'counter' else ''}"


def _by(tag: str, **keys: str) -> tuple[Series, ...]:
    """A time series for each value of `tag`: VALUE=KEY, or VALUE_=KEY where Python reads VALUE otherwise."""
    return tuple(Series(key, {tag: value.removesuffix("_")}) for value, key in keys.items())


def _one(key: str) -> tuple[Series, ...]:
    return (Series(key),)


EXPORTED: tuple[Exported, ...] = (
    # How far the run is.
    Exported("cupel_step", "gauge", "run", "Learner step", "count", "Learner step.", _one("step")),
    Exported(
        "cupel_steps_planned", "setting", "run", "Learner step", "count", "Where the run ends.", _one("run.steps")
    ),
    Exported(
        "cupel_policy_version",
        "gauge",
        "run",
        "Policy version",
        "versions",
        "Newest version that the engines hold.",
        _one("policy_version"),
    ),
    Exported(
        "cupel_run_seconds",
        "gauge",
        "run",
        "Time in the run",
        "seconds",
        "Seconds since the start, earlier sessions included.",
        _one("seconds"),
    ),
    Exported(
        "cupel_last_step_timestamp_seconds",
        "clock",
        "run",
        "Since the last step",
        "seconds",
        "When the newest step ended, or the session began, in seconds since 1970.",
    ),
    Exported(
        "cupel_step_timeout_seconds",
        "setting",
        "run",
        "Since the last step",
        "seconds",
        "After how long a learner step counts as hung.",
        _one("learner.step_timeout_s"),
    ),
    Exported(
        "cupel_step_seconds",
        "gauge",
        "run",
        "Where a step's time goes",
        "seconds",
        "Of the newest step: waiting for a batch, the learner's step itself, publishing and updating all engines, the probe after that "
        "(these two on steps with a broadcast); with `engine.sleep_mode` also giving a GPU's memory to the engine and back, which is part of the broadcast where there is one.",
        _by(
            "part",
            wait="wait_seconds",
            learn="learner_seconds",
            broadcast="broadcast_seconds",
            probe="probe_seconds",
            turns="turn_seconds",
        ),
    ),
    # What is learned.
    Exported("cupel_reward", "gauge", "learning", "Reward", "number", "Sum of the turns' rewards.", _one("reward")),
    Exported(
        "cupel_reward_by_outcome",
        "gauge",
        "learning",
        "Reward by outcome",
        "number",
        "Mean sum of the turns' rewards of the episodes whose last program ended so; `error` holds `memory` and `output_limit` too.",
        _by(
            "outcome",
            pass_="reward_pass",
            no_code="reward_no_code",
            syntax_error="reward_syntax_error",
            error="reward_error",
            timeout="reward_timeout",
            failure="reward_failure",
        ),
    ),
    Exported(
        "cupel_pass_share",
        "gauge",
        "learning",
        "Passing episodes",
        "share",
        "Share of episodes that end with a program that passes all tests; at the first turn; at a later one.",
        _by("turn", any="share_passing", first="first_turn_passing", later="repaired_share"),
    ),
    Exported(
        "cupel_held_out_pass_rate",
        "gauge",
        "learning",
        "Held-out problems",
        "share",
        "pass@1 on problems that are not trained on, when one of the evaluations while training goes on has ended.",
        _one("held_out_pass_rate"),
    ),
    Exported(
        "cupel_tests_pass_share",
        "gauge",
        "learning",
        "Passing tests",
        "share",
        "Mean share of tests passed.",
        _one("share_tests"),
    ),
    Exported(
        "cupel_outcome_share",
        "gauge",
        "learning",
        "How programs fail",
        "share",
        "Share of episodes by the outcome of the last program that does not pass; `error` holds `memory` and `output_limit` too.",
        _by(
            "outcome",
            no_code="no_code_share",
            syntax_error="syntax_error_share",
            error="error_share",
            timeout="timeout_share",
            failure="failure_share",
        ),
    ),
    Exported(
        "cupel_mixed_groups_share",
        "gauge",
        "learning",
        "Groups to learn from",
        "share",
        "Share of groups in which some programs pass and some do not.",
        _one("groups_mixed_share"),
    ),
    Exported(
        "cupel_cut_off_share",
        "gauge",
        "learning",
        "Cut off",
        "share",
        "Share of last responses cut off at their own limit; share of episodes ended because their context was full.",
        _by("limit", response="truncated_share", context="context_full_share"),
    ),
    Exported(
        "cupel_response_tokens",
        "gauge",
        "learning",
        "Length of a response",
        "tokens",
        "Mean length of the last response.",
        _one("response_tokens"),
    ),
    Exported(
        "cupel_turns", "gauge", "learning", "Turns", "number", "Mean number of responses an episode.", _one("turns")
    ),
    Exported(
        "cupel_entropy",
        "gauge",
        "learning",
        "Entropy",
        "nats",
        "Minus the mean log-probability of the sampled tokens: an estimate of the policy's entropy.",
        _one("entropy"),
    ),
    Exported(
        "cupel_reference_divergence",
        "gauge",
        "learning",
        "Divergence from the reference policy",
        "nats",
        "RLEF: mean log-ratio of policy and reference policy on sampled tokens, an estimate of their KL divergence.",
        _one("reference_divergence"),
    ),
    Exported(
        "cupel_loss",
        "gauge",
        "learning",
        "Loss",
        "number",
        "Of the step; RLEF: the critic's part of it, not weighted.",
        _by("part", all="loss", critic="value_loss"),
    ),
    Exported(
        "cupel_gradient_norm",
        "gauge",
        "learning",
        "Gradient norm",
        "number",
        "Before clipping.",
        _by("network", policy="gradient_norm", critic="critic_gradient_norm"),
    ),
    Exported(
        "cupel_learning_rate", "gauge", "learning", "Learning rate", "number", "Of the policy.", _one("learning_rate")
    ),
    Exported(
        "cupel_clipped_share",
        "gauge",
        "learning",
        "Clipped",
        "share",
        "Share of tokens whose ratio is clipped (GRPO, RLEF, RLTF with objective=clipped).",
        _one("clipped"),
    ),
    Exported(
        "cupel_critic_value",
        "gauge",
        "learning",
        "The critic's estimates",
        "number",
        "RLEF: mean of the critic's estimates, and of the returns that it should have estimated.",
        _by("of", estimate="value_mean", truth="return_mean"),
    ),
    Exported(
        "cupel_critic_explained_share",
        "gauge",
        "learning",
        "What the critic explains",
        "share",
        "RLEF: share of the returns' variance that the critic explains; 0 or less: no more than their mean does.",
        _one("value_explained"),
    ),
    Exported(
        "cupel_learner_tokens",
        "counter",
        "learning",
        "Tokens of the learner",
        "tokens",
        "Tokens that the loss counts; tokens computed, shared prompts once.",
        _by("tokens", trained="trained_tokens", packed="packed_tokens"),
    ),
    Exported(
        "cupel_episodes",
        "counter",
        "learning",
        "Episodes learned from",
        "count",
        "Sampled episodes in the steps' batches.",
        _one("trajectories"),
    ),
    Exported(
        "cupel_updates",
        "counter",
        "learning",
        "Updates",
        "count",
        "Steps of the optimizer; a learner step makes epochs times minibatches of them.",
        _one("updates"),
    ),
    # What the engines do.
    Exported(
        "cupel_generated_tokens_per_second",
        "gauge",
        "rollout",
        "Tokens generated",
        "a second",
        "Tokens of finished responses since the last step, evaluations included.",
        _one("tokens_per_second"),
    ),
    Exported(
        "cupel_cached_prompt_share",
        "gauge",
        "rollout",
        "Prompt tokens from the cache",
        "share",
        "Share of prompt tokens since the last step that the engines did not compute again.",
        _one("cached_prompt_share"),
    ),
    Exported(
        "cupel_rollout_loop_lag_seconds",
        "gauge",
        "rollout",
        "Lag of the rollout loop",
        "seconds",
        "How late a rollout actor's event loop was at worst; large: it computes where it should wait.",
        _one("rollout_loop_lag_seconds"),
    ),
    # What the executors do.
    Exported(
        "cupel_executions_per_second",
        "gauge",
        "executor",
        "Programs judged",
        "a second",
        "Programs judged since the last step, each on all its tests, by outcome; evaluations included.",
        tuple(
            Series(f"executions_per_second_{outcome.value}", {"outcome": outcome.value})
            for outcome in Outcome
            if outcome is not Outcome.NO_CODE  # what no executor worker says
        ),
    ),
    Exported(
        "cupel_executor_latency_seconds",
        "gauge",
        "executor",
        "From program to verdict",
        "seconds",
        "From handing a program over to its verdict, since the last step; p95 is a bucket's upper bound, at most 1.42 times too large. Not there "
        "where none was judged.",
        _by("statistic", mean="executor_latency_seconds", p95="executor_latency_p95_seconds"),
    ),
    Exported(
        "cupel_executor_queue",
        "gauge",
        "executor",
        "Programs waiting",
        "count",
        "Programs that wait in rollout actors because every executor worker has its share, at the end of the step.",
        _one("executor_queue"),
    ),
    Exported(
        "cupel_executor_queue_age_seconds",
        "gauge",
        "executor",
        "Longest wait",
        "seconds",
        "Since when the oldest of them waits, at the end of the step; with executor.max_workers this brings more workers.",
        _one("executor_queue_age_seconds"),
    ),
    Exported(
        "cupel_executor_slots",
        "gauge",
        "executor",
        "Slots",
        "count",
        "Slots that run a test at the end of the step; slots of all workers that live.",
        _by("state", busy="executor_busy_slots", all="executor_slots"),
    ),
    Exported(
        "cupel_executor_workers",
        "gauge",
        "executor",
        "Workers",
        "count",
        "Executor workers that answer; those that do not, and are restarted.",
        _by("state", up="executor_workers_up", lost="executor_workers_lost"),
    ),
    # What lies between them and the learner.
    Exported(
        "cupel_buffer_groups",
        "gauge",
        "buffer",
        "Groups",
        "count",
        "Groups ready for the learner; tickets under way.",
        _by("state", ready="buffer_ready", under_way="buffer_outstanding"),
    ),
    Exported(
        "cupel_staleness",
        "gauge",
        "buffer",
        "Staleness",
        "versions",
        "Policy versions that a token is older than the weights being trained, over tokens.",
        _by("statistic", mean="staleness_mean", max="staleness_max"),
    ),
    Exported(
        "cupel_staleness_bound",
        "setting",
        "buffer",
        "Staleness",
        "versions",
        "What staleness may come to.",
        _one("weights.max_staleness"),
    ),
    # Whether engines and learner agree.
    Exported(
        "cupel_log_prob_mismatch",
        "gauge",
        "weights",
        "Mismatch of log-probabilities",
        "nats",
        "Mean absolute difference between the learner's and the engine's log-probability of a sampled token: staleness and rounding together.",
        _one("log_prob_mismatch"),
    ),
    Exported(
        "cupel_importance_ratio",
        "gauge",
        "weights",
        "Importance ratio",
        "number",
        "Mean ratio learner / engine, before the cap.",
        _one("importance_ratio"),
    ),
    Exported(
        "cupel_importance_capped_share",
        "gauge",
        "weights",
        "Importance ratios capped",
        "share",
        "Share of tokens whose importance ratio is above the cap.",
        _one("importance_capped"),
    ),
    Exported(
        "cupel_probe_difference",
        "gauge",
        "weights",
        "Probe: difference",
        "nats",
        "Mean difference of log-probabilities of learner and engine on the probe, after a broadcast; of the engine that differs most.",
        _one("probe_difference"),
    ),
    Exported(
        "cupel_probe_slope",
        "gauge",
        "weights",
        "Probe: slope",
        "number",
        "How far the engine moved for what the learner moved, 1 is right; from the second probe on and only where the learner moved.",
        _one("probe_slope"),
    ),
    # What went wrong.
    Exported(
        "cupel_infrastructure_failures",
        "total",
        "failures",
        "Samples lost to our own failures",
        "count",
        "Samples lost to our own failures, never scored.",
        _one("infrastructure"),
    ),
    Exported(
        "cupel_executor_failures",
        "total",
        "failures",
        "Executor failures made up for",
        "count",
        "Tests run again after an interpreter broke, programs sent again after a worker was lost or could not judge them.",
        _one("executor_failures"),
    ),
    Exported(
        "cupel_rollouts_replaced",
        "total",
        "failures",
        "Rollout actors replaced",
        "count",
        "Rollout actors lost and replaced.",
        _one("rollouts_replaced"),
    ),
    Exported(
        "cupel_restarts",
        "gauge",
        "failures",
        "Restarts of the run",
        "count",
        "How often the run was begun again from a checkpoint since `cupel train` started.",
        _one("restarts"),
    ),
    Exported(
        "cupel_linter_failures",
        "total",
        "failures",
        "Programs that the linter could not read",
        "count",
        "Programs that the linter could not read; counts only with algorithm.reward.linter.",
        _one("linter_failures"),
    ),
)

BY_NAME: dict[str, Exported] = {metric.name: metric for metric in EXPORTED}

LEFT_OUT: dict[str, str] = {
    "held_out_step": "a name for the point that cupel_held_out_pass_rate makes; Prometheus has the time",
    "executions_per_second": "the sum of cupel_executions_per_second over outcomes",
}
"""Keys of a line that are not exported, and why."""


def line_keys() -> list[str]:
    """The keys of a line that this table knows of, those left out among them."""
    exported = [series.key for metric in EXPORTED if metric.kind != "setting" for series in metric.series]
    return [*exported, *LEFT_OUT]
