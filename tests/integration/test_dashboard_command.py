"""`cupel dashboard` as a person meets it, beside what a Ray leaves on the disk: files put in place, a real Prometheus started and ended, mistakes in a line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from prometheus_server import NEEDED, ROOT, ask, fetch, running_node, until
from ray_nodes import free_port

from cluster.dashboards import alerts, grafana


class Beside:
    """A Ray's folder with `nodes` in its list, and a folder for `cupel dashboard`."""

    def __init__(self, folder: Path, nodes: list[str]) -> None:
        self.ray, self.own = folder / "ray", folder / "own"
        self.url = f"http://localhost:{free_port()}"
        self.nodes = self.ray / "prom_metrics_service_discovery.json"
        self.grafana = self.ray / "session_latest" / "metrics" / "grafana"
        (self.grafana / "dashboards").mkdir(parents=True)
        self.nodes.write_text(json.dumps([{"labels": {"job": "ray"}, "targets": nodes}]))
        source = self.grafana / "provisioning" / "datasources" / "default.yml"
        source.parent.mkdir(parents=True)
        source.write_text(yaml.safe_dump({"datasources": [{"name": "P", "type": "prometheus", "url": self.url}]}))
        (self.grafana / "grafana.ini").write_text("[security]\n")

    def command(self, *arguments: str) -> list[str]:
        options = ["--ray-folder", str(self.ray), "--folder", str(self.own), *arguments]
        return [sys.executable, "-m", "cluster", "dashboard", *options]

    def environment(self, **changes: str) -> dict[str, str]:
        grafana_url = f"http://localhost:{free_port()}"
        return {**os.environ, "PYTHONPATH": str(ROOT), "RAY_GRAFANA_HOST": grafana_url, **changes}

    def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), env=self.environment(**changes), capture_output=True, text=True, timeout=120
        )

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[str]]:
        """The command, once it has said that it stays."""
        process = subprocess.Popen(
            self.command(), env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None and process.stderr is not None
            lines = list(iter(process.stdout.readline, "an interrupt (Ctrl-C) ends what was started here\n"))
            assert process.poll() is None, process.stderr.read()
            assert f"Prometheus: {self.url} (alerts: {self.url}/alerts)\n" in lines
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture
def beside(tmp_path: Path) -> Beside:
    return Beside(tmp_path, [])


def test_files_are_put_where_they_are_read(beside: Beside) -> None:
    done = beside.run("--no-start")
    assert done.returncode == 0, done.stderr
    put = beside.grafana / "dashboards" / "cupel_grafana_dashboard.json"
    assert put.read_text() == grafana.as_json() == (beside.own / "cupel_grafana_dashboard.json").read_text()
    settings = yaml.safe_load((beside.own / "prometheus.yml").read_text())
    (rules,) = settings["rule_files"]
    assert Path(rules).read_text() == alerts.as_yaml()
    assert settings["scrape_configs"][0]["file_sd_configs"] == [{"files": [str(beside.nodes)]}]
    assert str(put) in done.stdout


def test_what_is_not_installed_is_said_with_the_line_that_starts_it(beside: Beside, tmp_path: Path) -> None:
    done = beside.run(PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "prometheus is not installed here: apt-get install prometheus" in done.stdout
    assert (
        f"  prometheus --config.file={beside.own}/prometheus.yml --storage.tsdb.path={beside.own}/data" in done.stdout
    )
    assert "grafana is not installed here" in done.stdout
    assert f"--config={beside.grafana}/grafana.ini" in done.stdout


def test_a_ray_whose_newest_session_has_no_dashboard_leaves_grafana_to_an_import(beside: Beside) -> None:
    (beside.grafana.parent.parent).rename(beside.ray / "another")
    done = beside.run("--no-start")
    assert done.returncode == 0, done.stderr
    assert f"import into Grafana\n  {beside.own}/cupel_grafana_dashboard.json" in done.stdout


def test_without_a_ray_it_says_how_to_have_one(beside: Beside) -> None:
    long_ago = time.time() - 3600
    os.utime(beside.nodes, (long_ago, long_ago))
    ended = beside.run()
    beside.nodes.unlink()
    absent = beside.run()
    for done, why in ((ended, "was last written 36"), (absent, "is not there")):
        assert done.returncode == 2
        assert f"cupel: {beside.nodes} {why}" in done.stderr
        assert "ray start --head" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not beside.own.exists()


def test_a_folder_that_cannot_be_made_is_told_in_a_line(beside: Beside) -> None:
    beside.own.write_text("a file")
    done = beside.run("--no-start")
    assert done.returncode == 2
    assert done.stderr.startswith(f"cupel: {beside.own} cannot be made") and len(done.stderr.splitlines()) == 1


@NEEDED
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_prometheus_is_started_reads_a_node_and_ends_with_the_command(tmp_path: Path, end: signal.Signals) -> None:
    with running_node() as node:
        beside = Beside(tmp_path, [node.address])
        node.export("watched", {"step": 1}, {})
        with beside.started() as process:
            until(lambda: ask(beside.url, 'ray_cupel_step{run="watched"} == 1'), "the node's metrics")
            rules = json.loads(fetch(f"{beside.url}/api/v1/rules") or "{}")["data"]["groups"][0]["rules"]
            assert [rule["name"] for rule in rules] == [alert.name for alert in alerts.ALERTS]

            second = beside.run()
            assert second.returncode == 0, second.stderr
            assert f"a Prometheus answers at {beside.url} already" in second.stdout

            process.send_signal(end)
            assert process.wait(60) == 0
        assert fetch(f"{beside.url}/-/healthy") is None


@NEEDED
def test_a_prometheus_that_ends_by_itself_is_told(beside: Beside) -> None:
    with beside.started() as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (prometheus,) = map(int, children)
        os.kill(prometheus, signal.SIGKILL)
        assert process.wait(60) == 2
        assert process.stderr is not None
        assert "cupel: prometheus ended with code -9" in process.stderr.read()
