"""The report: one HTML page from a run folder, with everything in it; no script, nothing from a network.

Invariants: every text that a model, a problem or a person wrote is escaped; a part that is missing is named, not an
error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from cluster.dashboards.terminal import duration
from cluster.report.charts import Series, line_chart, stacked_chart
from cluster.report.reading import Episode, ProblemRates, RunData, read_run
from cluster.run_folder import write_atomically

# title, metric, colour, whether 0 stays in sight, what it says
CURVES = (
    ("Reward", "reward", "amber", False, "mean over the samples of a step"),
    ("Samples passing", "share_passing", "green", True, "share that passes every test"),
    ("Held-out problems passing", "held_out_pass_rate", "green", True, "pass@1 of problems that are not trained on"),
    ("Repairs", "repaired_share", "green", True, "share of episodes that pass after a first answer that did not"),
    ("Tests passing", "share_tests", "green", True, "share of single tests"),
    ("Loss", "loss", "blue", False, "of the policy"),
    ("Returns explained", "value_explained", "blue", True, "share of their variance that the critic foresaw"),
    ("Distance from the reference", "reference_divergence", "violet", True, "nats a token, mean over turns"),
    ("Staleness", "staleness_mean", "violet", True, "policy versions behind, mean over tokens"),
    ("Log-probability mismatch", "log_prob_mismatch", "violet", True, "mean |learner - engine| a token"),
    ("Tokens a second", "tokens_per_second", "blue", True, "generated, over all engines"),
    ("Executions a second", "executions_per_second", "blue", True, "programs judged"),
    ("Gradient norm", "gradient_norm", "blue", True, "before clipping"),
    ("Entropy", "entropy", "violet", True, "nats a token"),
    ("Response length", "response_tokens", "blue", True, "tokens"),
    ("Waiting for groups", "wait_seconds", "red", True, "seconds the learner stood still"),
)
# outcome, metric, colour, from the bottom up
OUTCOMES = (
    ("pass", "share_passing", "green"),
    ("wrong answer", "failure_share", "amber"),
    ("error", "error_share", "red"),
    ("timeout", "timeout_share", "violet"),
    ("syntax error", "syntax_error_share", "blue"),
    ("no code", "no_code_share", "grey"),
)


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of the run folder `run` to `out` (its own report.html if None). Raises UserError if it is no run
    folder or cannot be written.
    """
    data = read_run(Path(run).expanduser())
    target = data.path / "report.html" if out is None else Path(out).expanduser()
    write_atomically(target, render(data))
    return target


def render(data: RunData) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    strongest = max((abs(t.credit) for e in data.episodes for t in e.tokens), default=0.0)
    return environment.get_template("page.html").render(
        name=data.path.resolve().name,
        facts=_facts(data),
        result=_result(data.summary.get("held_out")),
        curves=_curves(data),
        verdicts=_verdicts(data),
        problems=[_problem(p) for p in data.problems],
        pairs=data.pairs,
        episodes=[_episode(e, strongest) for e in data.episodes],
        missing=data.missing,
    )


def _facts(data: RunData) -> list[tuple[str, str]]:
    """The essentials, as (what, value)."""

    def setting(section: str, key: str) -> Any:
        part = data.config.get(section)
        return part.get(key) if isinstance(part, dict) else None

    last = data.metrics[-1] if data.metrics else {}
    steps = data.summary.get("steps", last.get("step", 0))
    seconds = data.summary.get("seconds", last.get("seconds"))
    facts = [
        ("status", data.summary.get("status", "running or broken off")),
        ("model", setting("model", "name")),
        ("algorithm", setting("algorithm", "name")),
        ("steps", f"{steps} of {setting('run', 'steps')}" if setting("run", "steps") is not None else steps),
        ("time", duration(float(seconds)) if isinstance(seconds, int | float) else None),
        ("staleness bound", setting("weights", "max_staleness")),
        ("trained on", setting("problems", "train")),
        ("held out", setting("problems", "held_out")),
        ("samples a problem", setting("rollout", "samples_per_problem")),
        ("groups a step", setting("learner", "groups_per_step")),
        ("learning rate", setting("learner", "learning_rate")),
        ("seed", setting("run", "seed")),
    ]
    return [
        (what, f"{value:g}" if isinstance(value, float) else str(value)) for what, value in facts if value is not None
    ]


def _result(held_out: Any) -> dict[str, Any] | None:
    keys = ("before", "after", "difference", "low", "high", "problems", "samples")
    if not isinstance(held_out, dict) or not all(isinstance(held_out.get(key), int | float) for key in keys):
        return None
    better, worse = held_out["low"] > 0, held_out["high"] < 0
    return {**held_out, "tone": "good" if better else "bad" if worse else "unsure"}


def _curves(data: RunData) -> list[dict[str, Any]]:
    curves = []
    for title, key, colour, zero, meaning in CURVES:
        points = [(float(m["step"]), float(m[key])) for m in data.metrics if isinstance(m.get(key), int | float)]
        if points:
            chart = line_chart(Series(title, points), title, colour, zero)
            curves.append({"title": title, "meaning": meaning, "last": f"{points[-1][1]:.4g}", "chart": chart})
    return curves


def _verdicts(data: RunData) -> dict[str, Any] | None:
    rows = [m for m in data.metrics if isinstance(m.get("share_passing"), int | float)]
    if not rows:
        return None
    known = [
        (name, key, colour) for name, key, colour in OUTCOMES if any(isinstance(m.get(key), int | float) for m in rows)
    ]
    layers = [(name, colour, [float(m.get(key) or 0.0) for m in rows]) for name, key, colour in known]
    chart = stacked_chart([float(m["step"]) for m in rows], layers, "Verdicts over steps")
    return {"chart": chart, "legend": [(name, colour, f"{shares[-1]:.0%}") for name, colour, shares in layers]}


def _problem(rates: ProblemRates) -> dict[str, Any]:
    def share(counts: tuple[int, int] | None) -> float | None:
        return 100 * counts[0] / counts[1] if counts and counts[1] else None

    def text(counts: tuple[int, int] | None) -> str:
        return f"{counts[0]}/{counts[1]}" if counts else "-"

    return {
        "id": rates.problem_id,
        "before": share(rates.before),
        "after": share(rates.after),
        "text": f"{text(rates.before)} to {text(rates.after)}",
        "tone": "good" if rates.change > 0 else "bad" if rates.change < 0 else "same",
    }


def _episode(episode: Episode, strongest: float) -> dict[str, Any]:
    tokens = []
    for token in episode.tokens:
        strength = round(min(1.0, abs(token.credit) / strongest) * 0.6 + 0.05, 3) if strongest and token.credit else 0.0
        told = token.log_prob is None and token.policy_version is None
        parts = [repr(token.text), "not sampled" if told else f"credit {token.credit:+.4f}"]
        if token.log_prob is not None:
            parts.append(f"log-prob {token.log_prob:.3f}")
        if token.policy_version is not None:
            parts.append(f"policy version {token.policy_version}")
        tokens.append(
            {
                "text": token.text,
                "strength": strength,
                "good": token.credit > 0,
                "told": told,
                "tip": "\n".join(parts),
            },
        )
    return {
        "step": episode.step,
        "problem_id": episode.problem_id,
        "prompt": episode.prompt,
        "tokens": tokens,
        "reward": f"{episode.reward:+.3f}",
        "outcome": episode.outcome,
        "tests": f"{episode.passed} of {episode.total} tests" if episode.total else "no tests run",
        "error": episode.error,
        "turns": ", ".join(f"{outcome} {reward:+.2f}" for reward, outcome in episode.turns[:-1]),
        "components": ", ".join(f"{name} {value:+.3f}" for name, value in episode.components.items()),
    }
