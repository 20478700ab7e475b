"""The dashboard for Grafana, made from the table of exported metrics: `python -m cluster.dashboards.grafana` prints its JSON. Pure.

Invariants: every exported metric is in one panel, in the row that the table gives it; every query is bound to the data source and the runs that are
chosen at the top; the same table gives the same JSON, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cluster.exported_metrics import EXPORTED, ROW_TITLES, RUN_TAG, Exported, Unit

UID = "cupel"
TITLE = "Cupel"
RUN_FILTER = f'{RUN_TAG}=~"$run"'
SCRAPE_INTERVAL_S = 15
"""Longer than the 10 s in which Ray's processes report: a gauge that Prometheus asks for twice between two reports is not there the second time."""

_SCHEMA_VERSION = 36  # of Grafana 9 and later, which lift it to their own
_DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_UNITS: dict[Unit, str] = {
    "share": "percentunit",
    "seconds": "s",
    "a second": "short",
    "tokens": "short",
    "nats": "short",
    "versions": "short",
    "count": "short",
    "number": "short",
}
_WIDTH, _HEIGHT, _IN_A_ROW = 8, 7, 3


def query(metric: Exported) -> str:
    """What a panel asks Prometheus for, with Grafana's variable `$run`: one series a run and value of the other tags."""
    selected = f"{metric.in_prometheus}{{{RUN_FILTER}}}"
    by = ", ".join(metric.tags)
    match metric.kind:
        case "counter":
            # A step may take many minutes, and counts all it has at its end.
            return f"sum by ({by}) (rate({selected}[30m]))"
        case "total":
            return f"sum by ({by}) (increase({selected}[1h]))"
        case "clock":
            return f"time() - max by ({by}) ({selected})"
        case "gauge" | "setting":
            return f"max by ({by}) ({selected})"


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana's provisioning and import read it."""
    return {
        "uid": UID,
        "title": TITLE,
        "description": "Runs of Cupel: what is learned, how fast, and what goes wrong.",
        "tags": ["cupel", "ray"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": _SCHEMA_VERSION,
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": list(_panels()),
    }


def _variables() -> list[dict[str, Any]]:
    runs = f"label_values(ray_cupel_step, {RUN_TAG})"
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1},
        {
            "name": RUN_TAG,
            "label": "Run",
            "type": "query",
            "datasource": _DATA_SOURCE,
            "query": {"query": runs, "refId": "runs"},
            "refresh": 2,  # again whenever the time range changes
            "sort": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        },
    ]


def _panels() -> Iterator[dict[str, Any]]:
    """Rows and the panels below them, placed from top to bottom."""
    number, top = 1, 0
    for row, name in ROW_TITLES.items():
        panels: dict[str, list[Exported]] = {}
        for metric in EXPORTED:
            if metric.row == row:
                panels.setdefault(metric.panel, []).append(metric)
        place = {"x": 0, "y": top, "w": _WIDTH * _IN_A_ROW, "h": 1}
        yield {"id": number, "type": "row", "title": name, "collapsed": False, "gridPos": place, "panels": []}
        number, top = number + 1, top + 1
        for index, (title, metrics) in enumerate(panels.items()):
            line, column = divmod(index, _IN_A_ROW)
            place = {"x": column * _WIDTH, "y": top + line * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            yield _panel(number, title, metrics, place)
            number += 1
        top += -(-len(panels) // _IN_A_ROW) * _HEIGHT


def _panel(number: int, title: str, metrics: list[Exported], place: dict[str, int]) -> dict[str, Any]:
    ending = {"counter": ", a second", "total": ", in an hour"}.get(metrics[0].kind, "")
    return {
        "id": number,
        "type": "timeseries",
        "title": title + ending,
        "description": " ".join(metric.description for metric in metrics),
        "datasource": _DATA_SOURCE,
        "gridPos": place,
        "targets": [_target(metric, chr(ord("A") + index)) for index, metric in enumerate(metrics)],
        "fieldConfig": {
            "defaults": {
                "unit": _UNITS[metrics[0].unit],
                "color": {"mode": "palette-classic"},
                # A report of Ray's that comes late is no gap in the run.
                "custom": {"lineWidth": 1, "fillOpacity": 0, "spanNulls": 4 * SCRAPE_INTERVAL_S * 1000},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "none"},
        },
    }


def _target(metric: Exported, reference: str) -> dict[str, Any]:
    own = " ".join(f"{{{{{tag}}}}}" for tag in metric.tags[1:])
    kind = "as set" if metric.kind == "setting" else ""
    return {
        "refId": reference,
        "datasource": _DATA_SOURCE,
        "expr": query(metric),
        "legendFormat": " ".join(filter(None, (own, kind, f"{{{{{RUN_TAG}}}}}"))),
        "range": True,
    }


def as_json() -> str:
    """The dashboard's file."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    print(as_json(), end="")
