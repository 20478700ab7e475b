"""What an evaluation is made with, and which problems a model has room for, on a real tokenizer and a real tiny model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from actors.engine.protocol import SamplingSettings
from actors.feedback_turns import FeedbackSettings
from cluster import evaluation
from cluster.budget import Budget
from cluster.config import Config
from cluster.evaluated_model import fingerprint
from cluster.evaluation import Asked, evaluate_command
from cluster.evaluation_plan import Plan
from cluster.evaluation_samples import differences
from executor.errors import UserError
from executor.problem import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROOM = 512  # max_position_embeddings of the tiny model


def problem(name: str, statement: str, public: bool = False) -> Problem:
    tests = {"public_tests" if public else "private_tests": [{"input": "", "output": ""}]}
    return Problem.model_validate({"id": name, "prompt": statement, "kind": "stdio", **tests})


def plan(folder: Path, max_tokens: int = 8, turns: int = 1, context: int | None = None) -> Plan:
    config = Config()
    config.rollout.worked_examples = 0
    problems = [problem("short", "Add."), problem("long", "Add. " * 400)]
    feedback = FeedbackSettings("tests", None, 40)
    return Plan(folder, config, problems, SamplingSettings(1.0, 1.0, max_tokens), 0, turns, feedback, context)


def test_a_problem_that_the_model_has_no_room_for_gets_a_reason(
    model_folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    reasons: dict[str, str] = {}
    prompts = plan(model_folder).fitting_prompts(tokenizer, reasons)
    assert list(prompts) == ["short"] and list(reasons) == ["long"]
    assert f"8 of response are more than the model's {ROOM}" in reasons["long"]
    length = len(prompts["short"])
    assert plan(model_folder, ROOM - length).fitting_prompts(tokenizer, {}) == prompts
    assert plan(model_folder, ROOM - length + 1).fitting_prompts(tokenizer, {}) == {}
    limited = plan(model_folder, context=length + 7)
    assert limited.fitting_prompts(tokenizer, reasons) == {}
    assert f"more than asked for {length + 7}" in reasons["short"]


def test_a_sample_and_the_engine_have_room_for_all_turns_or_for_what_there_is(model_folder: Path) -> None:
    for turns, context, tokens in ((1, None, 18), (3, None, 10 + 3 * 8 + 2 * 40), (12, None, ROOM), (12, 100, 100)):
        made = plan(model_folder, turns=turns, context=context)
        rules = made.rules(longest_prompt=10)
        assert (rules.max_turns, rules.max_tokens, rules.max_response_tokens) == (turns, tokens, 8)
        assert made.engine(rules).max_model_tokens == tokens


def test_without_feedback_nobody_says_that_the_public_tests_pass(model_folder: Path) -> None:
    first = plan(model_folder, turns=2)
    told, silent = FeedbackSettings("tests", None, 40), FeedbackSettings("none", None, 40)
    assert replace(first, feedback=told).rules(10).stop_on_public
    assert not replace(first, feedback=silent).rules(10).stop_on_public


def test_random_feedback_needs_another_problem_to_speak_of(model_folder: Path) -> None:
    alone = [first_of_two := problem("a", "Add.", public=True), problem("b", "Add.")]
    made = replace(plan(model_folder, turns=2), problems=alone)
    with pytest.raises(UserError, match="--feedback random: there is only one problem with public tests in python"):
        replace(made, feedback=FeedbackSettings("random", None, 40))
    two = [first_of_two, problem("b", "Add.", public=True)]
    replace(made, problems=two, feedback=FeedbackSettings("random", None, 40))


def test_an_encoder_decoder_takes_one_turn(t5_folder: Path) -> None:
    assert plan(t5_folder).rules(10).max_tokens == 18
    with pytest.raises(UserError, match="an encoder-decoder, which takes one turn: --turns 1"):
        plan(t5_folder, turns=2)


def test_all_that_samples_depend_on_is_told_by_its_name(model_folder: Path, tmp_path: Path) -> None:
    first = plan(model_folder)
    made = first.made_with()
    assert differences(made, plan(model_folder).made_with()) == ""
    hotter = replace(first.sampling, temperature=1.2, top_p=0.95)
    assert differences(made, replace(first, sampling=hotter).made_with()) == (
        "temperature (1.0, now 1.2), top_p (1.0, now 0.95)"
    )
    other = [first.problems[0], problem("long", "Subtract.")]
    assert differences(made, replace(first, problems=other, seed=3).made_with()) == "problems, seed (0, now 3)"
    assert differences(made, replace(first, max_context_tokens=99).made_with()) == "max_context_tokens"


def test_what_feedback_is_made_of_counts_where_there_are_turns_that_follow_it(
    model_folder: Path, tmp_path: Path
) -> None:
    words = tmp_path / "words.yaml"
    words.write_text("header: These tests failed.\n")
    for settings, name in (
        (FeedbackSettings("none", None, 40), "feedback"),
        (FeedbackSettings("tests", str(words), 40), "feedback_templates"),
        (FeedbackSettings("tests", None, 41), "max_feedback_tokens (40, now 41)"),
    ):
        single, several = plan(model_folder), plan(model_folder, turns=2)
        assert differences(single.made_with(), replace(single, feedback=settings).made_with()) == ""
        assert differences(several.made_with(), replace(several, feedback=settings).made_with()) == name
    assert differences(several.made_with(), plan(model_folder, turns=3).made_with()) == "turns (2, now 3)"


def asked(folder: Path, **options: Any) -> Asked:
    return Asked(**{"model": str(folder), "problem_set": "p", "samples": 9, "ks": [1], **options})


def test_a_runs_own_settings_hold_unless_others_are_asked_for(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = list[Plan]()

    async def keep(plan: Plan, *_: object) -> None:
        plans.append(plan)

    run = Config()
    run.rollout.max_turns, run.rollout.feedback, run.rollout.max_feedback_tokens = 3, "none", 99
    run.rollout.max_response_tokens, run.rollout.max_context_tokens = 70, 900
    monkeypatch.setattr(evaluation, "_sample", keep)
    found = {"run": (model_folder, run, True), "model": (model_folder, Config(), False)}
    monkeypatch.setattr(evaluation, "find_model", found.__getitem__)
    problems = [problem("a", "Add.", public=True), problem("b", "Add.", public=True)]
    other: dict[str, Any] = {"turns": 2, "feedback": "random", "max_response_tokens": 80, "max_context_tokens": 1000}
    for model, options in (("run", {}), ("run", other), ("model", {}), ("model", other)):
        with pytest.raises(UserError, match="no sample could be judged"):
            evaluate_command(asked(model_folder, **{"model": model, **options}), problems)
    taken = [
        (p.turns, p.feedback.mode, p.feedback.max_tokens, p.sampling.max_tokens, p.max_context_tokens) for p in plans
    ]
    assert taken == [
        (3, "none", 99, 70, 900),
        (2, "random", 99, 80, 1000),
        (1, "tests", 256, 256, None),
        (2, "random", 256, 80, 1000),
    ]
    with pytest.raises(UserError, match="10 episodes of 3 turns, and there are 9 a problem; --samples 10 would do"):
        evaluate_command(asked(model_folder, model="run", budgets=[Budget(n=1, k=30)]), problems)


def test_a_chat_template_that_takes_no_second_question_is_told_before_an_engine_starts(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    )
    monkeypatch.setattr(evaluation, "start", None)
    problems = [problem("a", "Add.", public=True)]
    with pytest.raises(UserError, match="cannot hold episodes of several turns"):
        evaluate_command(asked(folder, turns=2, max_response_tokens=8), problems)


def test_a_model_is_the_same_wherever_it_lies_and_another_once_it_is_trained(
    model_folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model_folder, tmp_path / "copy")
    assert fingerprint(copy) == fingerprint(model_folder)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint(copy) != fingerprint(model_folder)
