"""How Prometheus and Grafana are set up for a Ray cluster: their settings, their command lines, where Ray keeps what they need. Pure.

Ray (its dashboard's metrics module) keeps a list of nodes for Prometheus in its temporary folder, and in its newest session Grafana's settings with the
folder that Grafana reads dashboards from; it starts neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from cluster.dashboards.grafana import SCRAPE_INTERVAL_S

PROMETHEUS_URL = "http://localhost:9090"
GRAFANA_URL = "http://localhost:3000"
DASHBOARD_FILE = "cupel_grafana_dashboard.json"
RETENTION = "30d"


@dataclass(frozen=True)
class RayFolder:
    """What Ray keeps below its temporary folder."""

    path: Path
    environment: Mapping[str, str]

    @property
    def nodes(self) -> Path:
        """The list of nodes to ask for metrics, written anew every few seconds by Ray's dashboard."""
        return self.path / "prom_metrics_service_discovery.json"

    @property
    def grafana(self) -> Path:
        """Grafana's settings; only a Ray with its dashboard makes them."""
        root = self.environment.get("RAY_METRICS_OUTPUT_ROOT") or self.path / "session_latest" / "metrics"
        return Path(root) / "grafana"

    @property
    def dashboards(self) -> Path:
        """The folder that Grafana reads dashboards from."""
        return Path(self.environment.get("RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR") or self.grafana / "dashboards")

    @property
    def data_source(self) -> Path:
        """Where Grafana is told the address of Prometheus."""
        return self.grafana / "provisioning" / "datasources" / "default.yml"

    @property
    def grafana_ini(self) -> Path:
        """What Grafana is started with."""
        return self.grafana / "grafana.ini"


@dataclass(frozen=True)
class Monitoring:
    """The folder that Cupel keeps its own part in; it outlives Ray's sessions."""

    path: Path

    @property
    def settings(self) -> Path:
        """Prometheus's settings."""
        return self.path / "prometheus.yml"

    @property
    def rules(self) -> Path:
        """The alert rules."""
        return self.path / "cupel_rules.yml"

    @property
    def dashboard(self) -> Path:
        """The dashboard for Grafana, to be imported where it cannot be put in place."""
        return self.path / DASHBOARD_FILE

    def log(self, program: str) -> Path:
        """What a program that is started here says."""
        return self.path / f"{program}.log"


def ray_temporary_folder(given: Path | None, environment: Mapping[str, str]) -> Path:
    """Ray's temporary folder: as told, by RAY_TMPDIR, or where Ray has it by itself."""
    return given if given is not None else Path(environment.get("RAY_TMPDIR") or "/tmp") / "ray"


def prometheus_settings(nodes: Path, rules: Path) -> str:
    """The file prometheus.yml: the nodes of `nodes` are asked, the alerts of `rules` are told."""
    every = f"{SCRAPE_INTERVAL_S}s"
    settings = {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "ray", "file_sd_configs": [{"files": [str(nodes)]}]}],
    }
    return yaml.safe_dump(settings, sort_keys=False)


def prometheus_command(program: str, monitoring: Monitoring, url: str) -> list[str]:
    """How Prometheus is started to answer at `url`, for this machine alone."""
    return [
        program,
        f"--config.file={monitoring.settings}",
        f"--storage.tsdb.path={monitoring.path / 'data'}",
        f"--storage.tsdb.retention.time={RETENTION}",
        f"--web.listen-address=127.0.0.1:{urlsplit(url).port or 80}",
    ]


def grafana_command(program: str, home: Path, ray: RayFolder, monitoring: Monitoring, url: str) -> list[str]:
    """How Grafana is started with Ray's settings to answer at `url`, for this machine alone; `home` holds its pages."""
    return [
        program,
        "server",
        f"--homepath={home}",
        f"--config={ray.grafana_ini}",
        f"cfg:default.paths.data={monitoring.path / 'grafana'}",
        "cfg:default.server.http_addr=127.0.0.1",
        f"cfg:default.server.http_port={urlsplit(url).port or 80}",
    ]


def data_source_url(settings: str) -> str | None:
    """The address of Prometheus in Grafana's data sources, as Ray writes them; None if there is none."""
    try:
        found: Any = yaml.safe_load(settings)
        return next(source["url"] for source in found["datasources"] if source["type"] == "prometheus")
    except (yaml.YAMLError, LookupError, TypeError, StopIteration):
        return None


def is_here(url: str) -> bool:
    """Whether an address is this machine's own."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
