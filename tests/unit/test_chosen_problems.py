"""Which problems a run takes: none that is held out, none too hard, and of long prompts what the configuration says."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from cluster.chosen_problems import chosen_problems, with_fitting_prompts
from cluster.config import Config, load_config
from executor.errors import UserError


@pytest.fixture
def config(tmp_path: Path) -> Config:
    def problem(name: str, words: int) -> str:
        test = {"args": [], "expected": 1}
        shape = {"kind": "function", "entry_point": "f", "private_tests": [test]}
        return json.dumps({"id": name, "prompt": "word " * words, **shape}) + "\n"

    (tmp_path / "train.jsonl").write_text(problem("short", 5) + problem("long", 400))
    (tmp_path / "held_out.jsonl").write_text(problem("longer", 500) + problem("shorter", 4))
    files = [f"problems.{part}={tmp_path / part}.jsonl" for part in ("train", "held_out")]
    # The tokenizer of these tests knows few words: a letter is a token.
    return load_config(None, [*files, "rollout.max_prompt_tokens=900", "rollout.worked_examples=0"])


def test_long_prompts_are_left_out_and_named_where_that_is_asked_for(
    config: Config, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config.problems.long_prompts = "leave_out"
    with caplog.at_level(logging.WARNING, logger="cupel"):
        problems, held_out = with_fitting_prompts(config, model_folder, *chosen_problems(config))
    assert ([p.id for p in problems], [p.id for p in held_out]) == (["short"], ["shorter"])
    assert "1 of 2 prompts" in caplog.text and "left out: long" in caplog.text and "left out: longer" in caplog.text


def test_otherwise_nothing_is_left_out_in_silence(config: Config, model_folder: Path) -> None:
    problems, held_out = with_fitting_prompts(config, model_folder, *chosen_problems(config))
    assert len(problems) == len(held_out) == 2


def test_a_limit_that_leaves_nothing_is_told(config: Config, model_folder: Path) -> None:
    config.problems.long_prompts = "leave_out"
    config.rollout.max_prompt_tokens = 8
    with pytest.raises(
        UserError, match=r"problems\.train: 2 of 2 prompts are longer than rollout\.max_prompt_tokens=8"
    ):
        with_fitting_prompts(config, model_folder, *chosen_problems(config))
