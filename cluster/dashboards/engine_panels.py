"""What vLLM tells of a run's engines, as panels of the dashboard. Pure.

vLLM's stat logger hands its metrics to Ray, which puts `ray_` before each; the tag `model_name` is RUN/rollout-N (cluster/actors.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.exported_metrics import RUN_TAG, Unit

TITLE = "Engines: what vLLM tells of itself"
NAME_TAG = "model_name"
_OF_RUNS = f'{{{NAME_TAG}=~"${RUN_TAG}/.+"}}'


@dataclass(frozen=True)
class Panel:
    """Queries that are drawn together, each with its legend."""

    title: str
    description: str
    unit: Unit
    queries: tuple[tuple[str, str], ...]


def _sum(name: str, over: str = "") -> str:
    selected = f"ray_vllm_{name}{_OF_RUNS}"
    return f"sum by ({NAME_TAG}) ({f'{over}({selected}[5m])' if over else selected})"


def _quantile(share: float, name: str) -> str:
    buckets = f"rate(ray_vllm_{name}_bucket{_OF_RUNS}[5m])"
    return f"histogram_quantile({share}, sum by (le, {NAME_TAG}) ({buckets}))"


def _legend(text: str = "") -> str:
    return f"{text} {{{{{NAME_TAG}}}}}".strip()


ENGINE_PANELS: tuple[Panel, ...] = (
    Panel(
        "Requests in the engines",
        "Requests that are sampled from now, and those that wait for room.",
        "count",
        (
            (_sum("num_requests_running"), _legend("running")),
            (_sum("num_requests_waiting"), _legend("waiting")),
        ),
    ),
    Panel(
        "Cache in use",
        "Share of the engine's cache of keys and values that requests hold; at 100 % requests are put back.",
        "share",
        ((_sum("kv_cache_usage_perc"), _legend()),),
    ),
    Panel(
        "Prompts found in the prefix cache",
        "Share of prompt tokens that were not computed again: later turns find the earlier ones.",
        "share",
        ((f"{_sum('prefix_cache_hits_total', 'rate')} / {_sum('prefix_cache_queries_total', 'rate')}", _legend()),),
    ),
    Panel(
        "Tokens sampled and read, a second",
        "Sampled tokens and prompt tokens.",
        "a second",
        (
            (_sum("generation_tokens_total", "rate"), _legend("sampled")),
            (_sum("prompt_tokens_total", "rate"), _legend("prompt")),
        ),
    ),
    Panel(
        "Time to the first token",
        "Of a request, its wait for room included: median and 95th percentile.",
        "seconds",
        (
            (_quantile(0.5, "time_to_first_token_seconds"), _legend("median")),
            (_quantile(0.95, "time_to_first_token_seconds"), _legend("95 %")),
        ),
    ),
    Panel(
        "Time between tokens",
        "Of a request: median and 95th percentile.",
        "seconds",
        (
            (_quantile(0.5, "inter_token_latency_seconds"), _legend("median")),
            (_quantile(0.95, "inter_token_latency_seconds"), _legend("95 %")),
        ),
    ),
)
