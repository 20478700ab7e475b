"""What is asked of Prometheus is there: every query of the dashboard and of the alerts, against a real Prometheus that asks what a node of Ray would answer."""

from __future__ import annotations

import inspect
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_server import NEEDED, Node, ask, running_node, running_prometheus, until

from cluster.dashboards.alerts import ALERTS, RAY_METRICS, as_yaml
from cluster.dashboards.grafana import dashboard
from cluster.dashboards.prometheus import prometheus_settings
from cluster.exported_metrics import EXPORTED

pytestmark = NEEDED
LINES = Path(__file__).resolve().parents[1] / "unit" / "metrics_lines.jsonl"
HEALTHY: dict[str, float] = {
    name: value for text in LINES.read_text(encoding="utf-8").splitlines() for name, value in json.loads(text).items()
} | {
    "linter_failures": 0.0,
    "step": 3,
    "staleness_mean": 1.0,
    "staleness_max": 1.0,
    "groups_mixed_share": 0.5,
    "held_out_pass_rate": 0.1,
    "reward_pass": 1.0,
    "executor_queue_age_seconds": 0.0,
    "restarts": 0.0,
}
# What makes each alert of a run speak, over a healthy line: a step later, or the step's age.
SICK: dict[str, dict[str, float]] = {
    "CupelNoStep": {"late_s": 3600.0},
    "CupelInfrastructureFailures": {"infrastructure": 4.0},
    "CupelRolloutReplaced": {"rollouts_replaced": 1.0},
    "CupelExecutorWorkersLost": {"executor_workers_lost": 1.0},
    "CupelExecutorQueue": {"executor_queue": 100.0, "executor_slots": 8.0},
    "CupelExecutorSlow": {"executor_latency_p95_seconds": 65.5},
    "CupelStalenessBeyondBound": {"staleness_max": 3.0},
    "CupelStalenessAtBound": {"staleness_mean": 2.0, "staleness_max": 2.0},
    "CupelLogProbMismatch": {"log_prob_mismatch": 0.9},
    "CupelNothingToLearn": {"groups_mixed_share": 0.0},
    "CupelRolloutLoopLag": {"rollout_loop_lag_seconds": 11.0},
}
OF_A_NODE = {"CupelDiskNearlyFull", "CupelMemoryNearlyFull"}
SETTINGS = {"run": {"steps": 9}, "weights": {"max_staleness": 2}}


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with running_node() as running:
        yield running


@pytest.fixture(scope="module")
def server(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus with the settings that `cupel dashboard` writes, only more often."""
    folder = tmp_path_factory.mktemp("prometheus")
    nodes, rules, settings = folder / "nodes.json", folder / "rules.yml", folder / "prometheus.yml"
    nodes.write_text(json.dumps([{"labels": {"job": "ray"}, "targets": [node.address]}]))
    rules.write_text(as_yaml())
    written = yaml.safe_load(prometheus_settings(nodes, rules))
    written["global"] = dict.fromkeys(written["global"], "2s")
    settings.write_text(yaml.safe_dump(written))
    with running_prometheus(settings, folder) as address:
        yield address


def seen(server: str, run: str, name: str, value: float) -> None:
    """Wait until Prometheus has read that value twice, so that what is asked of a stretch of time has something to tell."""
    query = f'count_over_time({name}{{run="{run}"}}[1m]) >= 2 and {name}{{run="{run}"}} == {value}'
    until(lambda: ask(server, query), f"{name} of {run} is {value}")


def test_promtool_finds_nothing_wrong_with_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(as_yaml())
    done = subprocess.run(["promtool", "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_promtool_finds_nothing_wrong_with_the_settings(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(as_yaml())
    (tmp_path / "prometheus.yml").write_text(prometheus_settings(tmp_path / "nodes.json", tmp_path / "rules.yml"))
    (tmp_path / "nodes.json").write_text("[]")
    command = ["promtool", "check", "config", "prometheus.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_query_of_the_dashboard_returns_data(node: Node, server: str) -> None:
    node.export("panels", HEALTHY, SETTINGS)
    seen(server, "panels", "ray_cupel_step", 3)
    node.export("panels", {**HEALTHY, "step": 4}, SETTINGS)
    seen(server, "panels", "ray_cupel_step", 4)
    count = 0
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            if "ray_vllm_" in target["expr"]:  # test_jobs.py has a vLLM to tell them
                continue
            found = ask(server, target["expr"].replace("$run", "panels"))
            assert found, f"{panel['title']}: {target['expr']}"
            assert {series["metric"]["run"] for series in found} == {"panels"}
            count += 1
    assert count == len(EXPORTED)
    assert ask(server, 'increase(ray_cupel_learner_tokens_total{run="panels"}[1m]) > 0')
    assert ask(server, "count by (run) (ray_cupel_step)"), "what the variable of the dashboard lists"


def test_what_is_told_no_more_is_shown_no_more(node: Node, server: str) -> None:
    node.export("quiet", HEALTHY, SETTINGS)
    seen(server, "quiet", "ray_cupel_step", 3)
    assert ask(server, 'ray_cupel_reward{run="quiet"}')
    node.export("quiet", {name: value for name, value in HEALTHY.items() if name != "reward"} | {"step": 4}, SETTINGS)
    seen(server, "quiet", "ray_cupel_step", 4)
    assert not ask(server, 'ray_cupel_reward{run="quiet"}')


def test_no_alert_speaks_of_a_healthy_run(node: Node, server: str) -> None:
    node.export("healthy", HEALTHY, SETTINGS)
    node.gauges(**dict.fromkeys(RAY_METRICS, 50.0) | {"ray_node_mem_total": 100.0})
    seen(server, "healthy", "ray_cupel_step", 3)
    for alert in ALERTS:
        found = [s for s in ask(server, alert.expression) if s["metric"].get("run", "healthy") == "healthy"]
        assert not found, f"{alert.name}: {found}"


def test_an_alert_speaks_of_a_run_that_gives_it_reason_and_only_then(node: Node, server: str) -> None:
    runs = {alert.name.lower(): alert for alert in ALERTS if alert.name in SICK}
    for run in runs:
        node.export(run, HEALTHY, SETTINGS)
    for run, alert in runs.items():
        seen(server, run, "ray_cupel_step", 3)
        assert not of(run, ask(server, alert.expression)), alert.name
    for run, alert in runs.items():
        sick = {**HEALTHY, "step": 4, **SICK[alert.name]}
        node.export(run, sick, SETTINGS, sick.pop("late_s", 0.0))
    for run, alert in runs.items():
        seen(server, run, "ray_cupel_step", 4)
        assert of(run, ask(server, alert.expression)), alert.name


def test_a_run_that_is_done_may_take_its_time(node: Node, server: str) -> None:
    """Its last evaluation may take longer than any step."""
    (alert,) = [alert for alert in ALERTS if alert.name == "CupelNoStep"]
    node.export("done", {**HEALTHY, "step": 9}, SETTINGS, 3600.0)
    seen(server, "done", "ray_cupel_step", 9)
    assert not of("done", ask(server, alert.expression))


def test_a_run_that_is_gone_is_missed_unless_it_was_done(node: Node, server: str) -> None:
    (alert,) = [alert for alert in ALERTS if alert.name == "CupelRunGone"]
    for run, step in (("gone", 3), ("finished", 9)):
        node.export(run, {**HEALTHY, "step": step}, SETTINGS)
    for run, step in (("gone", 3), ("finished", 9)):
        seen(server, run, "ray_cupel_step", step)
        node.end(run)
    until(lambda: not ask(server, 'ray_cupel_step{run="gone"}'), "the run is gone")
    later = time.time() + 10 * 60
    assert not of("gone", ask(server, alert.expression))
    assert of("gone", ask(server, alert.expression, later))
    assert not of("finished", ask(server, alert.expression, later))


def test_alerts_of_a_node_speak_when_it_is_full(node: Node, server: str) -> None:
    node.gauges(ray_node_disk_utilization_percentage=97.0, ray_node_mem_used=99.0, ray_node_mem_total=100.0)
    until(lambda: ask(server, "ray_node_disk_utilization_percentage == 97"), "the disk is full")
    for alert in ALERTS:
        if alert.name in OF_A_NODE:
            assert [s["metric"]["ip"] for s in ask(server, alert.expression)] == ["10.0.0.1"], alert.name


def test_prometheus_itself_tells_an_alert_with_its_text(node: Node, server: str) -> None:
    node.export("told", HEALTHY, SETTINGS)
    seen(server, "told", "ray_cupel_step", 3)
    node.export("told", {**HEALTHY, "staleness_max": 7.0, "step": 4}, SETTINGS)
    query = 'ALERTS{alertname="CupelStalenessBeyondBound", run="told", alertstate="firing", severity="critical"}'
    until(lambda: ask(server, query), "the alert is told")


def test_every_alert_is_tried_here() -> None:
    assert {alert.name for alert in ALERTS} == {*SICK, *OF_A_NODE, "CupelRunGone"}


def test_ray_tells_of_a_node_what_alerts_ask_for() -> None:
    agent = pytest.importorskip("ray.dashboard.modules.reporter.reporter_agent", reason="Ray is not installed")
    source = inspect.getsource(agent)
    for name in RAY_METRICS:
        assert f'"{name.removeprefix("ray_")}"' in source


def of(run: str, series: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in series if one["metric"]["run"] == run]
