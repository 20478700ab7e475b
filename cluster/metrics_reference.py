"""The metrics and alerts as a page of Markdown: `python -m cluster.metrics_reference > docs/metrics.md`. Pure.

Invariants: the page is made from the table that a run exports by and from the alert rules, so it holds what they hold, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.dashboards.alerts import ALERTS
from cluster.exported_metrics import EXPORTED, LEFT_OUT, ROW_TITLES, RUN_TAG, Exported

_HEAD = f"""\
# Metrics

Made by `python -m cluster.metrics_reference > docs/metrics.md`; a test holds the two together.

`metrics.jsonl` in the run folder has a line a learner step, TensorBoard the same numbers; the first column below names its keys. Means are
over the sampled episodes of the step's batch unless it says otherwise. Totals are counted since the start of the actors that live. A key is
left out of a line where there is nothing to tell: no batch of samples, no critic, no broadcast.

Prometheus has them under the names of the second column, as Ray writes them (`ray_` before each, `_total` after a counter), with the tag
`{RUN_TAG}`, the name of the run folder, and the tags shown. A gauge shows the newest line's value. What is a total in the line is a gauge that only grows
while the controller lives, so `increase` tells how many came in a time. [cluster.md](cluster.md#watching-a-run) says how to see them.
"""


def reference() -> str:
    """The whole page."""
    parts = [_HEAD]
    for row, title in ROW_TITLES.items():
        lines = [(_keys(m), _prometheus(m), m.unit, m.description) for m in EXPORTED if m.row == row]
        parts.append(f"## {title}\n\n{_table(('key', 'in Prometheus', 'unit', 'what it is'), lines)}")
    parts.append(f"## Not exported\n\n{_table(('key', 'why'), [(f'`{key}`', why) for key, why in LEFT_OUT.items()])}")
    rules = [(f"`{a.name}`", a.severity, f"`{a.expression}`", a.lasting, a.advice) for a in ALERTS]
    parts.append(
        "## Alerts\n\n`cupel dashboard` gives Prometheus these rules (`python -m cluster.dashboards.alerts` prints them).\n\n"
        + _table(("alert", "severity", "when", "for", "what to do"), rules)
    )
    return "\n".join(parts)


def _keys(metric: Exported) -> str:
    if metric.kind == "setting":
        return ", ".join(f"(the setting `{series.key}`)" for series in metric.series)
    return ", ".join(f"`{series.key}`" for series in metric.series)


def _prometheus(metric: Exported) -> str:
    """Name and tags, the values of a tag in the order of the keys."""
    own = [f"{tag}: {', '.join(series.tags[tag] for series in metric.series)}" for tag in metric.tags[1:]]
    return "; ".join([f"`{metric.in_prometheus}`", *own])


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    print(reference(), end="")
