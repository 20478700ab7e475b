"""What a verdict is worth: the table, the share of tests, the tokens at fault; never anything for our own failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from golden_cases import golden
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import actors.rewards
from actors.findings import Finding
from actors.rewards import base, grpo, rltf
from executor.problem import Problem
from executor.verdict import ErrorInfo, Outcome, Verdict, aggregate

RUNTIME = {"compile_error": Outcome.SYNTAX_ERROR, "runtime_error": Outcome.ERROR}
LINES = ["Sure:\n", "```python\n", "n = 1\n", "print(a", "[n])\n", "```", "<end>"]
RESPONSE = "".join(LINES[:-1])
LIMITS = [Outcome.TIMEOUT, Outcome.MEMORY, Outcome.OUTPUT_LIMIT]
SCORED = [outcome for outcome in Outcome if outcome is not Outcome.INFRASTRUCTURE]


def context(outcome: Outcome, passed: int = 0, error: ErrorInfo | None = None, **changes: Any) -> base.TurnContext:
    """A response of seven tokens, the last of them silent, at position 10 of its trajectory; tokens 2 to 4 are the program."""
    offsets, at = [], 0
    for line in LINES:
        size = 0 if line == "<end>" else len(line)
        offsets.append((at, at + size))
        at += size
    fields: dict[str, Any] = {
        "problem": Problem(id="p", prompt="?", kind="stdio", public_tests=[{"input": "", "output": ""}]),  # type: ignore[arg-type]
        "verdict": Verdict(problem_id="p", outcome=outcome, passed=passed, total=20, error=error),
        "response": RESPONSE,
        "token_ids": list(range(len(LINES))),
        "token_offsets": offsets,
        "token_start": 10,
        "program_start": RESPONSE.index("n = 1"),
        "program_end": RESPONSE.index("```", 10),
        "truncated": False,
        "turn": 0,
        "final": True,
    }
    return base.TurnContext(**fields | changes)


def reward(outcome: Outcome, share: float = 0.0, mode: Literal["sum", "replace"] = "replace") -> float:
    return sum(rltf.components(outcome, share, rltf.Settings(adaptive_mode=mode)).values())


def outcome_of(name: str) -> Outcome:
    return RUNTIME.get(name) or Outcome(name)


def test_the_algorithms_are_the_folders_files() -> None:
    files = {path.stem for path in Path(actors.rewards.__path__[0]).glob("*.py")} - {"__init__", "base"}
    assert set(base.names()) == files
    for name in files:
        module = base.load(name)
        assert module.Reward(module.Settings()).score(context(Outcome.PASS, 20)).reward > 0
    with pytest.raises(ValueError, match=r"'ppo'.*grpo.*rltf"):
        base.load("ppo")


@pytest.mark.parametrize("name", base.names())
def test_our_own_failure_is_never_scored(name: str) -> None:
    module = base.load(name)
    with pytest.raises(ValueError, match="never scored"):
        module.Reward(module.Settings()).score(context(Outcome.INFRASTRUCTURE))


def test_coarse_table_a01() -> None:
    only_coarse = rltf.Settings(adaptive=False)
    worth = {outcome: sum(rltf.components(outcome, 0.5, only_coarse).values()) for outcome in SCORED}
    assert worth == {
        Outcome.PASS: 1.0,
        Outcome.FAILURE: -0.3,
        Outcome.ERROR: -0.6,
        Outcome.TIMEOUT: -0.6,
        Outcome.MEMORY: -0.6,
        Outcome.OUTPUT_LIMIT: -0.6,
        Outcome.SYNTAX_ERROR: -1.0,
        Outcome.NO_CODE: -1.0,
    }


def test_adaptive_a02() -> None:
    shares = [0.0, 0.05, 0.25, 0.35, 0.5, 0.95, 1.0]
    expected = [-0.3, -0.235, 0.025, 0.155, 0.35, 0.935, 1.0]
    assert [rltf.adaptive(Outcome.FAILURE, share) for share in shares] == pytest.approx(expected, abs=1e-6)
    assert rltf.adaptive(Outcome.PASS, 1.0) == rltf.adaptive(Outcome.FAILURE, 1.0)


def test_relative_reward_a03() -> None:
    pairs = [
        ((Outcome.ERROR, 0.0), (Outcome.FAILURE, 0.1), -0.43),
        ((Outcome.FAILURE, 0.35), (Outcome.FAILURE, 0.1), 0.325),
        ((Outcome.PASS, 1.0), (Outcome.FAILURE, 0.5), 0.65),
        ((Outcome.SYNTAX_ERROR, 0.0), (Outcome.PASS, 1.0), -2.0),
        ((Outcome.FAILURE, 0.5), (Outcome.FAILURE, 0.5), 0.0),
    ]
    for sample, earlier, expected in pairs:
        assert reward(*sample) - reward(*earlier) == pytest.approx(expected, abs=1e-6)


def test_golden_tables() -> None:
    for name, expected in golden("A01")[1].items():
        assert rltf.COARSE[outcome_of(name)] == expected
    inputs, numbers = golden("A02")
    assert [rltf.adaptive(Outcome.FAILURE, s) for s in inputs["pass_ratio"]] == pytest.approx(numbers, abs=1e-6)
    inputs, numbers = golden("A03")
    for pair, expected in zip(inputs["pairs"], numbers, strict=True):
        sample = reward(outcome_of(pair["sample"]), pair["sample_ratio"] or 0.0)
        earlier = reward(outcome_of(pair["base"]), pair["base_ratio"] or 0.0)
        assert sample - earlier == pytest.approx(expected, abs=1e-6)
    of_test = {"True": Outcome.PASS, "False": Outcome.FAILURE, "-1": Outcome.ERROR, "-2": Outcome.SYNTAX_ERROR}
    inputs, numbers = golden("A04")
    for results, expected in zip(inputs["results"], numbers, strict=True):
        outcome = aggregate([of_test[result] for result in results], len(results))
        assert outcome == outcome_of(expected["outcome"])
        assert reward(outcome, results.count("True") / len(results)) == pytest.approx(expected["reward"], abs=1e-6)


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["sum", "replace"]))
def test_a_better_outcome_is_never_worth_less(low: float, high: float, mode: Literal["sum", "replace"]) -> None:
    low, high = min(low, high), max(low, high)
    ladder = [
        reward(Outcome.SYNTAX_ERROR, 0.0, mode),
        reward(Outcome.ERROR, high, mode),
        reward(Outcome.FAILURE, low, mode),
        reward(Outcome.FAILURE, high, mode),
        reward(Outcome.PASS, 1.0, mode),
    ]
    assert ladder == sorted(ladder)
    assert ladder[0] < ladder[1] < ladder[2]


@pytest.mark.parametrize("coarse", [True, False])
@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("mode", ["sum", "replace"])
def test_every_outcome_has_the_same_components(coarse: bool, adaptive: bool, mode: Literal["sum", "replace"]) -> None:
    # A component that only some outcomes have would be compared with a baseline that others never meet.
    settings = rltf.Settings(coarse=coarse, adaptive=adaptive, adaptive_mode=mode)
    assert len({tuple(rltf.components(outcome, 0.5, settings)) for outcome in SCORED}) == 1


def test_settings_refuse_nonsense() -> None:
    with pytest.raises(ValidationError):
        rltf.Settings(fine_value=0.3)
    with pytest.raises(ValidationError):
        rltf.Settings(linter_value=0.1)
    rltf.Settings(coarse=False, adaptive=False, fine=False, linter=True)
    with pytest.raises(ValidationError, match="nothing to learn from"):
        rltf.Settings(coarse=False, adaptive=False, fine=False)
    with pytest.raises(ValidationError):
        rltf.Settings.model_validate({"corse": True})


def test_the_penalty_falls_on_the_failing_line_of_the_program() -> None:
    score = rltf.Reward(rltf.Settings()).score(context(Outcome.ERROR, error=ErrorInfo(type="NameError", line=2)))
    (span,) = score.spans
    assert (span.start, span.end, span.value) == (13, 15, -0.3)
    assert span.reason == "NameError in line 2"
    assert score.reward == pytest.approx(sum(score.components.values())) == pytest.approx(-1.2)


def test_the_penalty_of_a_limit_falls_on_the_program_and_not_on_the_words_around_it() -> None:
    (span,) = rltf.Reward(rltf.Settings()).score(context(Outcome.TIMEOUT)).spans
    assert (span.start, span.end) == (12, 15)


@pytest.mark.parametrize(
    "turn",
    [
        context(Outcome.PASS, 20),
        context(Outcome.FAILURE, 7),
        context(Outcome.ERROR),
        context(Outcome.NO_CODE, program_start=None, program_end=None),
        context(Outcome.SYNTAX_ERROR, error=ErrorInfo(type="IndentationError", line=2)),
    ],
)
def test_nothing_is_singled_out_where_no_place_is_known(turn: base.TurnContext) -> None:
    assert rltf.Reward(rltf.Settings()).score(turn).spans == []


def test_fine_feedback_can_be_turned_off() -> None:
    assert rltf.Reward(rltf.Settings(fine=False)).score(context(Outcome.TIMEOUT)).spans == []


@pytest.mark.parametrize("outcome", SCORED)
@pytest.mark.parametrize("line", [None, 1, 2, 3, 99])
def test_spans_stay_within_the_program_and_never_pay(outcome: Outcome, line: int | None) -> None:
    error = ErrorInfo(type="ValueError", message="was never closed", line=line)
    for truncated in (False, True):
        score = rltf.Reward(rltf.Settings()).score(context(outcome, error=error, truncated=truncated))
        for span in score.spans:
            assert 12 <= span.start < span.end <= 15
            assert span.value <= 0


LINT = rltf.Settings(linter=True, linter_value=-0.2)
# The program of `context` is "n = 1", "print(a[n])": tokens 12, and 13 with 14.
FIRST, SECOND, BOTH = Finding(1, 1, 1, 2, "F1"), Finding(2, 7, 2, 8, "F2"), Finding(1, 5, 2, 3, "F3")


def spans(settings: rltf.Settings, turn: base.TurnContext) -> list[tuple[int, int, float, str]]:
    return [(s.start, s.end, s.value, s.kind) for s in rltf.Reward(settings).score(turn).spans]


def test_a_finding_is_penalised_on_its_own_tokens() -> None:
    found = rltf.Reward(LINT).score(context(Outcome.FAILURE, findings=[FIRST, SECOND])).spans
    assert [(s.start, s.end, s.value, s.kind) for s in found] == [
        (12, 13, -0.2, "penalty"),
        (13, 14, -0.2, "penalty"),
    ]
    assert [s.reason for s in found] == ["F1 in line 1", "F2 in line 2"]


def test_no_token_is_penalised_twice() -> None:
    line_2 = ErrorInfo(type="NameError", line=2)
    both = [(13, 15, -0.3, "penalty"), (12, 13, -0.2, "penalty")]
    # What the run showed comes first: the linter's penalty falls on what is left.
    assert spans(LINT, context(Outcome.ERROR, error=line_2, findings=[SECOND])) == both[:1]
    assert spans(LINT, context(Outcome.ERROR, error=line_2, findings=[SECOND, BOTH])) == both
    assert spans(LINT, context(Outcome.TIMEOUT, findings=[FIRST, SECOND, BOTH])) == [(12, 15, -0.3, "penalty")]
    assert spans(LINT, context(Outcome.FAILURE, findings=[FIRST, FIRST, BOTH])) == [
        (12, 13, -0.2, "penalty"),
        (13, 14, -0.2, "penalty"),
    ]


@pytest.mark.parametrize(
    "settings, turn",
    [
        (LINT, context(Outcome.PASS, 20, findings=[FIRST])),
        (LINT, context(Outcome.NO_CODE, program_start=None, program_end=None, findings=[FIRST])),
        (LINT, context(Outcome.FAILURE)),
        (rltf.Settings(), context(Outcome.FAILURE, findings=[FIRST])),
        # Cut off in the program: what it lacks may define what the linter misses.
        (LINT, context(Outcome.FAILURE, findings=[FIRST], truncated=True, program_end=len(RESPONSE))),
    ],
)
def test_no_finding_is_penalised_where_it_says_nothing(settings: rltf.Settings, turn: base.TurnContext) -> None:
    assert spans(settings, turn) == []


def test_a_response_cut_off_after_its_program_is_linted() -> None:
    assert spans(LINT, context(Outcome.FAILURE, findings=[FIRST], truncated=True)) == [(12, 13, -0.2, "penalty")]


def ran(outcome: Outcome, unexecuted: list[tuple[int, int]] | None, **fields: Any) -> base.TurnContext:
    turn = context(outcome, **fields)
    return replace(turn, verdict=turn.verdict.model_copy(update={"unexecuted": unexecuted}))


EXECUTED = rltf.Settings(executed_lines=True)


@pytest.mark.parametrize("outcome", [o for o in SCORED if o not in (Outcome.NO_CODE, *LIMITS)])
def test_what_did_not_run_is_masked_whatever_the_outcome(outcome: Outcome) -> None:
    assert spans(EXECUTED, ran(outcome, [(2, 2)])) == [(13, 15, 0, "mask")]
    assert spans(EXECUTED, ran(outcome, [(1, 2)])) == [(12, 15, 0, "mask")]
    assert spans(EXECUTED, ran(outcome, [(1, 1), (2, 2)])) == [(12, 13, 0, "mask"), (13, 15, 0, "mask")]
    for nothing in (None, [], [(3, 9)], [(0, 1)], [(2, 1)]):
        assert spans(EXECUTED, ran(outcome, nothing)) == [], "not known, or no lines of the program"
    assert spans(rltf.Settings(), ran(outcome, [(2, 2)])) == []


@pytest.mark.parametrize("outcome", LIMITS)
def test_a_limit_is_the_whole_programs_fault_and_what_did_not_run_is_masked(outcome: Outcome) -> None:
    assert spans(EXECUTED, ran(outcome, [(2, 2)])) == [(12, 15, -0.3, "penalty"), (13, 15, 0, "mask")]


def test_what_the_linter_penalises_is_not_masked() -> None:
    both = LINT.model_copy(update={"executed_lines": True})
    assert spans(both, ran(Outcome.FAILURE, [(2, 2)], findings=[SECOND])) == [
        (13, 14, -0.2, "penalty"),
        (14, 15, 0, "mask"),
    ]
    assert spans(both, ran(Outcome.PASS, [(2, 2)], findings=[SECOND])) == [(13, 15, 0, "mask")]


def test_a_token_that_reaches_into_what_ran_is_not_masked() -> None:
    turn = ran(Outcome.FAILURE, [(2, 2)])
    at = turn.token_offsets[3][0]
    offsets = [*turn.token_offsets[:2], (turn.token_offsets[2][0], at - 1), (at - 1, turn.token_offsets[3][1])]
    wider = replace(turn, token_offsets=[*offsets, *turn.token_offsets[4:]])
    assert spans(EXECUTED, wider) == [(14, 15, 0, "mask")]


def test_supervision_pays_an_episode_for_its_last_program() -> None:
    reward = base.make("sft", {})
    cases = [(Outcome.PASS, True), (Outcome.PASS, False), (Outcome.FAILURE, True)]
    assert [reward.score(replace(ran(o, []), final=final)).reward for o, final in cases] == [1, 0, 0]


def test_a_reward_says_what_it_needs() -> None:
    def needs(name: str, **settings: Any) -> base.Needs:
        return base.needs(base.make(name, settings))

    assert needs("grpo") == needs("sft") == needs("rlef") == base.Needs()
    assert needs("rltf") == base.Needs(token_offsets=True)
    assert needs("rltf", linter=True) == base.Needs(linter_rules=("E9", "F63", "F7", "F82"), token_offsets=True)
    assert needs("rltf", linter=True, linter_rules=["F"]) == base.Needs(linter_rules=("F",), token_offsets=True)
    assert needs("rltf", executed_lines=True) == base.Needs(executed_lines=True, token_offsets=True)


def test_grpo_pays_for_a_pass_or_by_share() -> None:
    by_pass = grpo.Reward(grpo.Settings())
    assert [by_pass.score(context(o, 19)).reward for o in (Outcome.PASS, Outcome.FAILURE, Outcome.ERROR)] == [1, 0, 0]
    by_share = grpo.Reward(grpo.Settings(kind="share"))
    assert by_share.score(context(Outcome.FAILURE, 5)).reward == pytest.approx(0.25)
