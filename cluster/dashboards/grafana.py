"""The dashboard for Grafana, made from the table of exported metrics and vLLM's own: `python -m cluster.dashboards.grafana` prints its JSON. Pure.

Invariants: every exported metric is in one panel, in the row that the table gives it, and what vLLM tells below the rollout; every query is bound to the data source and the runs that are
chosen at the top; the same table gives the same JSON, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cluster.dashboards.engine_panels import ENGINE_PANELS, Panel
from cluster.dashboards.engine_panels import TITLE as ENGINE_TITLE
from cluster.exported_metrics import EXPORTED, ROW_TITLES, RUN_TAG, Exported, Row, Unit

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


def _rows() -> Iterator[tuple[str, list[Panel]]]:
    for row, title in ROW_TITLES.items():
        yield title, _exported(row)
        if row == "rollout":
            yield ENGINE_TITLE, list(ENGINE_PANELS)


def _exported(row: Row) -> list[Panel]:
    """The panels of a row of the table."""
    panels: dict[str, list[Exported]] = {}
    for metric in EXPORTED:
        if metric.row == row:
            panels.setdefault(metric.panel, []).append(metric)
    return [
        Panel(
            title + {"counter": ", a second", "total": ", in an hour"}.get(metrics[0].kind, ""),
            " ".join(metric.description for metric in metrics),
            metrics[0].unit,
            tuple((query(metric), _legend(metric)) for metric in metrics),
        )
        for title, metrics in panels.items()
    ]


def _legend(metric: Exported) -> str:
    own = " ".join(f"{{{{{tag}}}}}" for tag in metric.tags[1:])
    kind = "as set" if metric.kind == "setting" else ""
    return " ".join(filter(None, (own, kind, f"{{{{{RUN_TAG}}}}}")))


def _panels() -> Iterator[dict[str, Any]]:
    """Rows and the panels below them, placed from top to bottom."""
    number, top = 1, 0
    for name, panels in _rows():
        place = {"x": 0, "y": top, "w": _WIDTH * _IN_A_ROW, "h": 1}
        yield {"id": number, "type": "row", "title": name, "collapsed": False, "gridPos": place, "panels": []}
        number, top = number + 1, top + 1
        for index, panel in enumerate(panels):
            line, column = divmod(index, _IN_A_ROW)
            place = {"x": column * _WIDTH, "y": top + line * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            yield _drawn(number, panel, place)
            number += 1
        top += -(-len(panels) // _IN_A_ROW) * _HEIGHT


def _drawn(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATA_SOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATA_SOURCE,
                "expr": asked,
                "legendFormat": legend,
                "range": True,
            }
            for index, (asked, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": _UNITS[panel.unit],
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


def as_json() -> str:
    """The dashboard's file."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    print(as_json(), end="")
