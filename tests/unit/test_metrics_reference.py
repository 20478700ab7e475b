"""The page on metrics and alerts says what the code exports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from cluster.config import Config
from cluster.dashboards.alerts import ALERTS
from cluster.exported_metrics import EXPORTED, line_keys
from cluster.metrics_reference import reference

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "metrics.md"


def test_the_page_is_what_the_command_prints() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.metrics_reference"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert PAGE.read_text(encoding="utf-8") == done.stdout == reference(), (
        "run: python -m cluster.metrics_reference > docs/metrics.md"
    )


def test_every_key_metric_and_alert_is_in_the_page() -> None:
    page = reference()
    for key in line_keys():
        assert f"`{key}`" in page
    for metric in EXPORTED:
        assert len(re.findall(rf"\| `{metric.in_prometheus}`[; ]", page)) == 1
    for alert in ALERTS:
        assert f"| `{alert.name}` |" in page


def test_advice_names_settings_that_there_are() -> None:
    settings = Config().model_dump()
    named = {
        tuple(word.split("."))
        for alert in ALERTS
        for word in re.findall(r"(?<![$])\b[a-z_]+\.[a-z_]+\b", f"{alert.summary} {alert.advice}")
    } - {("metrics", "jsonl")}
    assert named
    for section, key in named:
        assert key in settings[section], f"{section}.{key}"
