"""The report shows what is there, names what is not, escapes everything and needs nothing from outside."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.metrics import MetricsWriter
from cluster.report.charts import Series, line_chart, thinned, ticks
from cluster.report.page import write_report
from executor.errors import UserError

EVIL = "<script>alert('x')</script>&\"'"
VOID = {"meta"}  # what SVG leaves empty closes itself


class Page(HTMLParser):
    """Reads a page: its tags, its balance, the tokens with their colours."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def episode(outcome: str = "failure", **changes: object) -> dict[str, object]:
    return {
        "step": 2,
        "group_id": 1,
        "problem_id": f"problem {EVIL}",
        "prompt": f"prompt {EVIL}",
        "tokens": ["def", " f", EVIL],
        "credits": [0.5, -0.25, 0.0],
        "log_probs": [-0.1, -0.2, -0.3],
        "policy_versions": [0, 0, 1],
        "reward": -0.3,
        "outcome": outcome,
        "passed": 1,
        "total": 4,
        "error": {"type": "NameError", "message": EVIL, "line": 3},
        "components": {"coarse": -0.3},
        **changes,
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A small whole run folder, with texts that mean harm."""
    folder = tmp_path / "run"
    (folder / "trajectories").mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"model: {{name: {json.dumps(EVIL)}}}\nalgorithm: {{name: rltf}}\nrun: {{steps: 3}}\n"
    )
    writer = MetricsWriter(folder)
    for step in range(1, 4):
        shares = {"share_passing": 0.2 * step, "failure_share": 0.1, "error_share": 0.1, "no_code_share": 0.05}
        writer.write({"step": step, "reward": -0.1 * step, "loss": 0.01, "seconds": 30.0 * step, **shares})
    writer.close()
    for label, passed in (("before", 1), ("after", 3)):
        evaluation = {
            "policy_version": 0,
            "passed": {"a": passed, EVIL: 2},
            "samples": {"a": 4, EVIL: 4},
            "shown": [{"problem_id": "a", "response": f"{label} {EVIL}", "outcome": "pass" if passed > 1 else "error"}],
        }
        (folder / f"evaluation_{label}.json").write_text(json.dumps(evaluation))
    held_out = {
        "before": 0.375,
        "after": 0.625,
        "difference": 0.25,
        "low": 0.1,
        "high": 0.4,
        "problems": 2,
        "samples": 4,
    }
    (folder / "summary.json").write_text(
        json.dumps({"status": "finished", "steps": 3, "seconds": 90.0, "held_out": held_out})
    )
    lines = [json.dumps(episode()), "not json", json.dumps(episode("pass", error=None)), '{"tokens": 3}']
    (folder / "trajectories" / "step_000002.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_turns_and_the_feedback_between_them_are_shown(run: Path) -> None:
    several = episode(
        tokens=["print", "wrong", "pass"],
        credits=[0.5, 0.0, 0.5],
        log_probs=[-0.1, None, -0.2],
        policy_versions=[0, None, 1],
        turns=[{"reward": -0.2, "outcome": "no_code"}, {"reward": 1.0, "outcome": "pass"}],
    )
    (run / "trajectories" / "step_000003.jsonl").write_text(json.dumps(several) + "\n")
    page = write_report(run).read_text()
    assert '<span class="t" title="&#39;wrong&#39;\nnot sampled">wrong</span>' in page
    assert "turns before: no_code -0.20" in page


def test_everything_is_shown(run: Path) -> None:
    path = write_report(run)
    assert path == run / "report.html"
    page = Page(path.read_text())
    assert page.open == []
    for words in (
        "37.5 %",
        "62.5 %",
        "+25.0 points",
        "+10.0 to +40.0",
        "2 problems, 4 samples each",
        "1 min 30 s",
        "3 of 3",
    ):
        assert words in page.text
    for words in (
        "Reward",
        "Samples passing",
        "Loss",
        "wrong answer",
        "1/4 to 3/4",
        "line 3: NameError",
        "coarse -0.300",
    ):
        assert words in page.text
    assert "Not in this report" not in page.text


def test_nothing_that_was_written_by_others_is_markup(run: Path) -> None:
    text = write_report(run).read_text()
    assert "<script" not in text
    page = Page(text)
    assert page.text.count("alert('x')") >= 5
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]


def test_nothing_is_fetched(run: Path) -> None:
    text = write_report(run).read_text()
    assert not re.search(r"https?://|//[a-z]|url\(|@import", text)
    for tag, attributes in Page(text).tags:
        assert tag not in {"script", "link", "img", "iframe"}
        assert not {"src", "href"} & set(attributes)


def test_tokens_are_coloured_by_their_credit(run: Path) -> None:
    page = Page(write_report(run).read_text())
    tokens = [a for tag, a in page.tags if tag == "span" and "credit" in (a.get("title") or "")][:3]
    assert [t.get("class") for t in tokens] == ["g", "b", None]
    strengths = [float((t["style"] or "").removeprefix("--s:")) for t in tokens[:2]]
    assert strengths[0] > strengths[1] > 0
    for words in ("' f'", "credit -0.2500", "log-prob -0.200", "policy version 0"):
        assert words in (tokens[1]["title"] or "")


@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.jsonl", "summary.json", "evaluation_before.json", "evaluation_after.json"]
)
@pytest.mark.parametrize("damage", [None, b"{", b"\xff\xfe", b"[]", b"null"])
def test_a_part_that_is_missing_or_damaged_is_named(run: Path, name: str, damage: bytes | None) -> None:
    if damage is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(damage)
    page = Page(write_report(run).read_text())
    assert page.open == []
    assert name in page.text.partition("Not in this report")[2]


def test_a_run_without_a_single_step_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    page = Page(write_report(tmp_path).read_text())
    assert "No learner step has been written yet." in page.text
    assert "There are no episodes" in page.text


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        write_report(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        write_report(tmp_path / "nothing")


def test_a_result_that_is_not_sure_says_so(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    summary["held_out"]["low"] = -0.1
    (run / "summary.json").write_text(json.dumps(summary))
    assert "no sure change" in Page(write_report(run).read_text()).text


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_ticks_span_the_values_and_are_few(low: float, width: float) -> None:
    found = ticks(low, low + width)
    slack = 1e-6 * max(1.0, abs(low), width)
    assert found[0] <= low + slack
    assert found[-1] >= low + width - slack
    assert 2 <= len(found) <= 8


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_curves_stay_inside_their_frame(values: list[float]) -> None:
    chart = line_chart(Series("x", [(float(i), v) for i, v in enumerate(values, 1)]), "x", "blue", zero=True)
    _, _, width, height = map(float, re.findall(r'viewBox="(\S+) (\S+) (\S+) (\S+)"', chart)[0])
    points = re.findall(r"(-?[\d.]+),(-?[\d.]+)", "".join(re.findall(r'polyline[^>]*points="([^"]*)"', chart)))
    assert len(points) == len(values)
    assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in points)


def test_a_long_run_is_thinned_to_means() -> None:
    points = thinned([(float(i), float(i)) for i in range(10_000)], 100)
    assert len(points) == 100
    assert sum(v for _, v in points) / 100 == pytest.approx(4999.5)
