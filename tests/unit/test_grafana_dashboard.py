"""The dashboard has every metric once, in a form that Grafana's own model of a dashboard holds. How it looks is not tested: there is no Grafana here."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from cluster.dashboards.grafana import as_json, dashboard
from cluster.exported_metrics import EXPORTED, ROW_TITLES

DASHBOARD = json.loads(as_json())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def test_the_file_is_the_dashboard() -> None:
    assert dashboard() == DASHBOARD


def test_every_metric_is_asked_for_once_in_its_row() -> None:
    row, found = "", Counter[tuple[str, str]]()
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        for target in panel["targets"]:
            for name in re.findall(r"ray_cupel_\w+", target["expr"]):
                found[row, name] += 1
    assert found == Counter((ROW_TITLES[metric.row], metric.in_prometheus) for metric in EXPORTED)


def test_every_query_is_of_the_chosen_runs_and_data_source() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            selected = {"run"} if "ray_cupel" in target["expr"] else {"model_name"}
            assert target["expr"].count("$run") == len(re.findall(r"ray_\w+{", target["expr"]))
            assert set(re.findall(r"(\w+)=~", target["expr"])) == selected
            assert panel["datasource"] == target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert f"{{{{{selected.pop()}}}}}" in target["legendFormat"]
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "run"]


def test_panels_have_numbers_and_places_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    covered = Counter(
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    )
    assert set(covered.values()) == {1}
    assert max(x for x, _ in covered) < 24
    assert all(a["gridPos"]["y"] <= b["gridPos"]["y"] for a, b in pairwise(DASHBOARD["panels"])), "below their rows"
    for panel in PANELS:
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert panel["title"] and panel["description"]


def test_grafanas_own_model_holds_all_of_it() -> None:
    """What Grafana's model does not know is lost on the way through it."""
    register_default_plugins()
    held = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    assert _lost(DASHBOARD, held) == []


def _lost(given: Any, held: Any, place: str = "") -> list[str]:
    """Places whose value in `given` is not in `held`."""
    if isinstance(given, dict) and isinstance(held, dict):
        return [lost for key, value in given.items() for lost in _lost(value, held.get(key), f"{place}.{key}")]
    if isinstance(given, list) and isinstance(held, list) and len(given) == len(held):
        return [lost for i, pair in enumerate(zip(given, held, strict=True)) for lost in _lost(*pair, f"{place}[{i}]")]
    return [] if given == held else [place]
