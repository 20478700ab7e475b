"""Nothing of a step's line is forgotten on the way to Prometheus: the table knows every key that the code can put there, and no other."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asynchronous import asynchronous
from metrics_lines import LINES
from test_batch_metrics import ALIKE, MIXED
from test_rates import Actor, client, worker
from trajectories import group, sampled

from cluster.config import Config
from cluster.exported_metrics import BY_NAME, EXPORTED, LEFT_OUT, line_keys
from cluster.rates import Rates
from executor.verdict import Outcome
from learner.batch_metrics import batch_metrics

ROOT = Path(__file__).resolve().parents[2]
# Whose code adds to the line by name; batch_metrics and Rates are asked themselves.
WRITERS = ["cluster/run.py", "cluster/held_out.py", "cluster/turns.py", "learner/worker.py", "learner/estimates.py"]
WRITERS += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "learner" / "losses").glob("*.py"))]
VARIABLES = {"metrics", "found", "sums"}  # what they call a line, or a part of it


def keys_in(source: str) -> Iterator[str]:
    """Patterns of the keys that `source` gives a line: in dictionaries that become one or are joined to one, or by subscript."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in VARIABLES:
                yield from _of_dictionaries(value)
            case ast.AugAssign(target=ast.Name(id=name), value=value) if name in VARIABLES:
                yield from _of_dictionaries(value)
            case ast.Subscript(value=ast.Name(id=name), slice=key, ctx=ast.Store()) if name in VARIABLES:
                yield from _pattern(key)
            case ast.FunctionDef(name=function):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Return) and inner.value is not None:
                        names = {n.id for n in ast.walk(inner.value) if isinstance(n, ast.Name)}
                        if function.endswith("metrics") or (isinstance(inner.value, ast.BinOp) and "metrics" in names):
                            yield from _of_dictionaries(inner.value)


def _of_dictionaries(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.Dict(keys=keys):
            for key in keys:
                if key is not None:
                    yield from _pattern(key)
        case ast.BinOp(left=left, right=right):
            yield from _of_dictionaries(left)
            yield from _of_dictionaries(right)
        case ast.IfExp(body=body, orelse=other):
            yield from _of_dictionaries(body)
            yield from _of_dictionaries(other)


def _pattern(key: ast.expr) -> Iterator[str]:
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        yield re.escape(key.value.removesuffix("_sum"))
    elif isinstance(key, ast.JoinedStr):
        parts = [re.escape(p.value) if isinstance(p, ast.Constant) else "[a-z]*_?" for p in key.values]  # type: ignore[arg-type]
        yield "".join(parts)


async def rates_keys() -> set[str]:
    house: Any = SimpleNamespace(
        rollouts={0: Actor(client(100, 0.5) | {"linter_failures": 0.0})},
        executors={"a": Actor(worker(4, 2))},
        owner=SimpleNamespace(membership=Actor({"workers_up": 1.0, "workers_lost": 0.0, "workers_draining": 0.0})),
        buffer=Actor({"ready": 3.0}),
    )
    return set((await Rates(house).read())[0])


@asynchronous
async def test_the_table_has_every_key_that_the_code_gives_a_line_and_no_other() -> None:
    outcomes = group(*(sampled([1], [2], outcome=outcome.value) for outcome in Outcome if outcome != "infrastructure"))
    counted = await rates_keys() | set(batch_metrics([MIXED, ALIKE, outcomes], 6))
    patterns = {pattern for path in WRITERS for pattern in keys_in((ROOT / path).read_text(encoding="utf-8"))}
    known = line_keys()
    assert counted - set(known) == set(), "name them in EXPORTED, or in LEFT_OUT with why"
    assert {p for p in patterns if not any(re.fullmatch(p, key) for key in known)} == set(), (
        "name them in EXPORTED, or in LEFT_OUT with why"
    )
    made = {key for key in known if key in counted or any(re.fullmatch(p, key) for p in patterns)}
    assert set(known) == made, "the table has keys that no code gives a line any more"


@pytest.mark.parametrize("line", LINES, ids=["rlef", "rltf"])
def test_a_real_line_has_only_keys_that_the_table_knows(line: dict[str, Any]) -> None:
    assert set(line) <= set(line_keys())


def test_a_key_that_is_added_to_the_code_is_seen() -> None:
    """The reading of sources is no blind eye: each way in which the code adds to a line today."""
    assert set(keys_in('metrics = {"one": 1, "two_sum": 2} if x else {"three": 3}')) == {"one", "two", "three"}
    assert set(keys_in('metrics |= other | {"four": 4}\nfound["five"] += 5\nsums[f"{x}_six"] = 6')) == {
        "four",
        "five",
        "[a-z]*_?_six",
    }
    assert set(keys_in('def step():\n    return metrics | {"seven": 7}')) == {"seven"}
    assert set(keys_in('def value_metrics():\n    return {"eight": 8}')) == {"eight"}
    assert set(keys_in('def other():\n    return {"nine": 9}\nanother = {"ten": 10}')) == set()


def test_a_key_feeds_one_time_series_and_a_time_series_has_one_key() -> None:
    assert [key for key, count in Counter(line_keys()).items() if count > 1] == []
    assert len(BY_NAME) == len(EXPORTED)
    for metric in EXPORTED:
        assert len({tuple(sorted(series.tags.items())) for series in metric.series}) == len(metric.series), metric.name
        assert {("run", *series.tags) for series in metric.series} <= {metric.tags}, metric.name
        assert re.fullmatch(r"cupel_[a-z][a-z_]*", metric.name), "Ray drops a name of another form"
        assert metric.series or metric.kind == "clock"
    assert all(LEFT_OUT.values())


def test_settings_are_in_the_configuration() -> None:
    for metric in EXPORTED:
        for series in metric.series if metric.kind == "setting" else ():
            section, name = series.key.split(".")
            assert isinstance(getattr(getattr(Config(), section), name), int | float)
