"""What a run folder holds, read for the report.

Invariants: reading never fails for a part that is missing or damaged: that part is empty and `missing` says so in a
line; nothing is read that a report does not show, so a long run costs little more than a short one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cluster.metrics import NAME as METRICS
from cluster.metrics import read_metrics
from cluster.run_folder import read_json
from executor.errors import UserError

EPISODES = 8
EPISODES_A_FILE = 4
PAIRS = 6


@dataclass(frozen=True)
class Token:
    """One token of a response, with what the learner made of it."""

    text: str
    credit: float
    log_prob: float | None
    """None where it was not sampled: feedback."""
    policy_version: int | None


@dataclass(frozen=True)
class Episode:
    """One trained episode."""

    step: int
    problem_id: str
    prompt: str
    tokens: list[Token]
    reward: float
    outcome: str
    passed: int
    total: int
    error: str
    turns: list[tuple[float, str]]
    """Reward and outcome of each."""
    components: dict[str, float]


@dataclass(frozen=True)
class ProblemRates:
    """Passes of one held-out problem, (passed, samples) before and after training."""

    problem_id: str
    before: tuple[int, int] | None
    after: tuple[int, int] | None

    @property
    def change(self) -> float:
        """Difference of the rates; 0 where one side is missing."""
        if self.before is None or self.after is None:
            return 0.0
        return self.after[0] / max(1, self.after[1]) - self.before[0] / max(1, self.before[1])


@dataclass(frozen=True)
class Pair:
    """Responses to one held-out problem before and after training, each (outcome, response)."""

    problem_id: str
    before: tuple[str, str]
    after: tuple[str, str]


@dataclass
class RunData:
    """Everything that the report shows."""

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    problems: list[ProblemRates] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def read_run(path: Path) -> RunData:
    """Read the run folder `path`. Raises UserError only if there is no such folder or it is none of ours."""
    if not path.is_dir():
        raise UserError(f"run folder {path}: no such folder")
    if not any((path / name).exists() for name in ("config.yaml", METRICS, "summary.json")):
        raise UserError(f"{path} is not a run folder: it has neither config.yaml nor {METRICS}")
    data = RunData(path)
    data.config = _config(data)
    data.summary = _mapping(data, "summary.json", "the run has not come to its end")
    try:
        data.metrics = read_metrics(path / METRICS)
    except UserError as error:
        data.missing.append(str(error))
    if not data.metrics:
        data.missing.append(f"{METRICS} has no steps: there are no curves")
    before = _mapping(data, "evaluation_before.json", "held-out problems were not evaluated before training")
    after = _mapping(data, "evaluation_after.json", "held-out problems were not evaluated after training")
    data.problems = _rates(before, after)
    data.pairs = _pairs(before, after)
    data.episodes = _episodes(data)
    if not data.episodes:
        data.missing.append("trajectories/ holds no episodes")
    return data


def _config(data: RunData) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load((data.path / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        loaded = None
    if not isinstance(loaded, dict):
        data.missing.append("config.yaml is missing or cannot be read")
        return {}
    return loaded


def _mapping(data: RunData, name: str, otherwise: str) -> dict[str, Any]:
    try:
        value = read_json(data.path / name)
    except UserError as error:
        data.missing.append(str(error))
        return {}
    if not isinstance(value, dict):
        data.missing.append(f"{name} is missing: {otherwise}")
        return {}
    return value


# Held-out problems --------------------------------------------------------------------------------------------------


def _counts(evaluation: dict[str, Any]) -> dict[str, tuple[int, int]]:
    passed, samples = evaluation.get("passed"), evaluation.get("samples")
    if not isinstance(passed, dict) or not isinstance(samples, dict):
        return {}
    return {str(key): (int(passed.get(key, 0)), int(number)) for key, number in samples.items() if _is_number(number)}


def _rates(before: dict[str, Any], after: dict[str, Any]) -> list[ProblemRates]:
    """Problems by change of rate, the best first."""
    first, second = _counts(before), _counts(after)
    rates = [ProblemRates(key, first.get(key), second.get(key)) for key in sorted({*first, *second})]
    return sorted(rates, key=lambda r: -r.change)


def _pairs(before: dict[str, Any], after: dict[str, Any]) -> list[Pair]:
    """Responses to the same problem, those first whose outcome changed."""
    first, second = _shown(before), _shown(after)
    pairs = [Pair(key, first[key], second[key]) for key in first if key in second]
    pairs.sort(key=lambda p: (p.before[0] == p.after[0], p.before[0] == "pass"))
    return pairs[:PAIRS]


def _shown(evaluation: dict[str, Any]) -> dict[str, tuple[str, str]]:
    shown = evaluation.get("shown")
    rows = [row for row in shown if isinstance(row, dict)] if isinstance(shown, list) else []
    return {str(r.get("problem_id")): (str(r.get("outcome")), str(r.get("response", ""))) for r in reversed(rows)}


# Episodes -----------------------------------------------------------------------------------------------------------


def _episodes(data: RunData) -> list[Episode]:
    """A few episodes of the last and of the first step, of different outcomes where there are."""
    files = sorted((data.path / "trajectories").glob("step_*.jsonl"))
    chosen = [files[-1], files[0]] if len(files) > 1 else files
    episodes: list[Episode] = []
    for file in chosen:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            data.missing.append(f"{file.name}: {error.strerror or error}")
            continue
        found = [e for e in map(_episode, text.splitlines()) if e is not None]
        episodes += _varied(found, EPISODES_A_FILE)
    return episodes[:EPISODES]


def _varied(episodes: Iterable[Episode], number: int) -> list[Episode]:
    """Up to `number` episodes, one an outcome first; among equals those with credit, and with an error, come first."""
    rest = sorted(episodes, key=lambda e: (not any(t.credit for t in e.tokens), not e.error))
    chosen: list[Episode] = []
    while rest and len(chosen) < number:
        seen = {e.outcome for e in chosen}
        index = next((i for i, e in enumerate(rest) if e.outcome not in seen), 0)
        chosen.append(rest.pop(index))
    return chosen


def _episode(line: str) -> Episode | None:
    try:
        row = json.loads(line)
        texts = row["tokens"]
        credits, log_probs, versions = (row.get(name) or [] for name in ("credits", "log_probs", "policy_versions"))
        tokens = [
            Token(
                str(text),
                float(credits[i]) if i < len(credits) else 0.0,
                _at(log_probs, i),
                None if (version := _at(versions, i)) is None else int(version),
            )
            for i, text in enumerate(texts)
        ]
        return Episode(
            step=int(row.get("step", 0)),
            problem_id=str(row.get("problem_id", "")),
            prompt=str(row.get("prompt", "")),
            tokens=tokens,
            reward=float(row.get("reward") or 0.0),
            outcome=str(row.get("outcome") or "none"),
            passed=int(row.get("passed") or 0),
            total=int(row.get("total") or 0),
            error=_error(row.get("error")),
            turns=[(float(t["reward"]), str(t["outcome"])) for t in row.get("turns") or []],
            components={str(k): float(v) for k, v in (row.get("components") or {}).items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _at(values: list[Any], index: int) -> float | None:
    """A number that is there; feedback has none."""
    return float(values[index]) if index < len(values) and values[index] is not None else None


def _error(error: Any) -> str:
    if not isinstance(error, dict):
        return ""
    line = f"line {error['line']}: " if error.get("line") else ""
    message = f": {error['message']}" if error.get("message") else ""
    return f"{line}{error.get('type', 'error')}{message}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
