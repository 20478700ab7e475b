"""A study: its file, what each run is given, what is done again, and what its table says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cluster.config import dump_config
from cluster.statistics import seeds_interval
from cluster.study import STUDIES, configurations, folder_name, load_study, run_study
from cluster.study_results import Trained, as_markdown, compare
from executor.errors import UserError


def study_file(folder: Path, **changes: Any) -> Path:
    study = {
        "question": "Does it help?",
        "seeds": [0, 1],
        "settings": {"run.steps": 3, "evaluation.before": False},
        "rows": [{"name": "plain"}, {"name": "+ more", "config": "more.yaml", "settings": {"run.steps": 5}}],
        **changes,
    }
    (folder / "more.yaml").write_text("learner: {groups_per_step: 2}\n")
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def test_settings_come_in_the_order_file_study_row_command_line(tmp_path: Path) -> None:
    study, path = load_study(str(study_file(tmp_path)))
    configs = configurations(study, path, tmp_path / "out", ["learner.warmup_steps=1"])
    assert list(configs) == [("plain", 0), ("plain", 1), ("+ more", 0), ("+ more", 1)]
    plain, more = configs["plain", 1], configs["+ more", 0]
    assert (plain.run.steps, plain.run.seed, plain.learner.groups_per_step) == (3, 1, 6)
    assert (more.run.steps, more.run.seed, more.learner.groups_per_step) == (5, 0, 2)
    assert more.learner.warmup_steps == plain.learner.warmup_steps == 1
    assert Path(more.run.directory) == tmp_path / "out" / "more"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [{"name": "a"}, {"name": "A"}]}, "each row needs a name of its own"),
        ({"rows": [{"name": "a", "against": "b"}]}, "against='b' is no other row"),
        ({"rows": []}, "rows"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"row": []}, "row"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_study(str(study_file(tmp_path, **changes)))


def test_the_row_with_a_wrong_setting_is_named_before_anything_runs(tmp_path: Path) -> None:
    path = study_file(tmp_path, rows=[{"name": "good"}, {"name": "bad", "settings": {"run.step": 1}}])
    with pytest.raises(UserError, match=r"row 'bad': run\.step: unknown key"):
        run_study(str(path), tmp_path / "out", None, [])
    assert not (tmp_path / "out").exists()


def test_ours_are_found_by_name_and_all_of_their_rows_can_run(tmp_path: Path) -> None:
    assert STUDIES.is_dir()
    for file in STUDIES.glob("*.yaml"):
        study, path = load_study(file.stem)
        assert path == file and configurations(study, path, tmp_path, [])


def finished(folder: Path, config: str, passed: int) -> None:
    """A run folder as a finished run leaves it."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    (folder / "summary.json").write_text(json.dumps({"status": "finished", "seconds": 60.0}))
    evaluation = {
        "samples": {"p": 4, "q": 4},
        "passed": {"p": passed, "q": 1},
        "shares": {"p": 2.0, "q": 3.0},
        "outcomes": {"pass": passed + 1, "failure": 4, "error": 3 - passed},
    }
    (folder / "evaluation_after.json").write_text(json.dumps(evaluation))


def test_finished_runs_are_read_and_never_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, path = load_study(str(study_file(tmp_path)))
    out = tmp_path / "out"
    for (row, seed), config in configurations(study, path, out, []).items():
        finished(out / folder_name(row) / f"seed_{seed}", dump_config(config), passed=3 if row == "+ more" else seed)
    run_study(str(path), out, None, [])
    table = capsys.readouterr().out
    assert table == (out / "results.md").read_text()
    assert "| plain | 2 | 18.8 " in table and "| + more | 2 | 50.0 " in table and "to plain" in table
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert rows[1]["difference"]["mean"] == pytest.approx(0.3125)


def test_a_run_from_before_there_was_a_setting_counts_as_one_with_its_default(tmp_path: Path) -> None:
    study, path = load_study(str(study_file(tmp_path)))
    for (row, seed), config in configurations(study, path, tmp_path / "out", []).items():
        older = yaml.safe_load(dump_config(config))
        del older["problems"]["long_prompts"]
        finished(tmp_path / "out" / folder_name(row) / f"seed_{seed}", yaml.safe_dump(older), passed=1)
    run_study(str(path), tmp_path / "out", None, [])


def test_a_run_of_other_settings_is_not_taken_for_this_one(tmp_path: Path) -> None:
    study, path = load_study(str(study_file(tmp_path)))
    config = configurations(study, path, tmp_path / "out", ["run.steps=9"])["plain", 0]
    finished(tmp_path / "out" / "plain" / "seed_0", dump_config(config), passed=1)
    with pytest.raises(UserError, match="made with other settings"):
        run_study(str(path), tmp_path / "out", None, [])


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "out" / "plain" / "seed_0" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    with pytest.raises(UserError, match="no run folder"):
        run_study(str(study_file(tmp_path)), tmp_path / "out", None, [])
    assert precious.read_text() == "mine"


def test_a_study_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"no such file; give one, or one of .*granularity"):
        load_study("nothing")


# The numbers ---------------------------------------------------------------------------------------------------------


def trained(seed: int, passed: dict[str, float]) -> Trained:
    return Trained(seed, passed, passed, {"pass": 1, "error": 3}, samples=4, seconds=120)


def test_rows_are_compared_on_the_problems_that_all_have() -> None:
    rows = {
        "a": [trained(0, {"p": 0.0, "q": 0.5, "r": 1.0}), trained(1, {"p": 0.0, "q": 0.5, "r": 1.0})],
        "b": [trained(0, {"p": 0.5, "q": 1.0})],
    }
    first, second = compare(rows, lambda name: "a" if name == "b" else None)
    assert first.problems == second.problems == 2
    assert first.pass_at_1.mean == pytest.approx(0.25) and first.difference is None
    assert second.difference is not None and second.difference.mean == pytest.approx(0.5)
    assert second.difference.low == pytest.approx(0.5)  # each problem gained as much: pairing takes the rest away
    assert first.not_run == pytest.approx(0.75)
    assert "| b | 1 | 75.0 [" in as_markdown([first, second])


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    held = 0
    for _ in range(60):
        problems, seeds = random.normal(0.3, 0.2, size=80), random.normal(0, 0.02, size=(3, 1))
        rates = problems + seeds + random.normal(0, 0.1, size=(3, 80))
        interval = seeds_interval(rates)
        held += interval.low <= 0.3 <= interval.high
    assert 53 <= held <= 60  # 57 expected


def test_seeds_that_disagree_make_a_difference_unsure() -> None:
    same, apart = np.full((3, 50), 0.4), np.linspace(0.2, 0.6, 3)[:, None].repeat(50, axis=1)
    noise = np.random.default_rng(0).normal(0, 0.05, size=(3, 50))
    sure, unsure = seeds_interval(same + noise, same - 0.1), seeds_interval(apart + noise, same - 0.1)
    assert sure.low > 0 and unsure.low < 0 < unsure.high
    assert sure.mean == pytest.approx(unsure.mean)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="the same two or more problems"):
        seeds_interval(np.zeros((3, 5)), np.zeros((3, 4)))
