"""RLEF: golden numbers B01 to B04, and what each way to compare a return gives to which token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden_cases import golden
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from trajectories import dialogue, group, reference, verdict

from actors.rewards import rlef as rlef_reward
from actors.rewards.base import TurnContext
from executor.problem import Problem, StdioTest
from executor.verdict import Outcome
from learner.losses import base, rlef
from learner.losses.rlef import Loss, Settings, clipped_value_loss, ratio, turn_returns

PROBLEM = Problem(id="p", prompt="?", kind="stdio", public_tests=[StdioTest(input="", output="")])
PROMPT = [5, 6]


def context(outcome: Outcome, *, final: bool, truncated: bool = False) -> TurnContext:
    return TurnContext(
        problem=PROBLEM,
        verdict=verdict(outcome),
        response="",
        token_ids=[],
        token_offsets=[],
        token_start=0,
        program_start=None,
        program_end=None,
        truncated=truncated,
        turn=0,
        final=final,
    )


def worth(outcome: Outcome, *, final: bool, truncated: bool = False, **settings: Any) -> float:
    seen = context(outcome, final=final, truncated=truncated)
    return rlef_reward.Reward(rlef_reward.Settings(**settings)).score(seen).reward


def test_b02_what_a_turn_is_worth() -> None:
    _, expected = golden("B02")
    cases = [
        (Outcome.PASS, True),
        (Outcome.FAILURE, True),
        (Outcome.FAILURE, False),
        (Outcome.NO_CODE, False),
        (Outcome.NO_CODE, True),
    ]
    assert [worth(outcome, final=final) for outcome, final in cases] == expected


def test_a_response_that_is_cut_off_may_cost_in_any_turn() -> None:
    assert worth(Outcome.PASS, final=True, truncated=True) == 1
    assert worth(Outcome.PASS, final=True, truncated=True, cut_off=-0.3) == pytest.approx(0.7)
    assert worth(Outcome.FAILURE, final=False, truncated=True, cut_off=-0.3) == pytest.approx(-0.3)
    assert worth(Outcome.NO_CODE, final=False, truncated=True, cut_off=-0.3) == pytest.approx(-0.5)
    assert worth(Outcome.PASS, final=True, cut_off=-0.3) == 1


def test_valid_code_may_mean_that_it_compiles() -> None:
    assert worth(Outcome.SYNTAX_ERROR, final=False) == 0
    assert worth(Outcome.SYNTAX_ERROR, final=False, invalid_is="does_not_compile") == -0.2
    assert worth(Outcome.SYNTAX_ERROR, final=True, invalid_is="does_not_compile") == -1
    assert worth(Outcome.PASS, final=False) == 0, "public tests alone are worth nothing"
    with pytest.raises(ValueError, match="never scored"):
        worth(Outcome.INFRASTRUCTURE, final=True)


def scored(trajectory: Any, reference: list[list[float]], values: list[float]) -> base.Scored:
    """With log-probabilities of the reference policy by turn, and the value before each turn."""
    log_probs, estimates = [0.0] * len(trajectory.token_ids), [0.0] * len(trajectory.token_ids)
    for turn, row, value in zip(trajectory.turns, reference, values, strict=True):
        log_probs[turn.start : turn.end] = row
        estimates[turn.start : turn.end] = [value] * (turn.end - turn.start)
    return base.Scored(trajectory, log_probs, estimates)


def test_b01_returns_and_advantages_of_turns() -> None:
    inputs, expected = golden("B01")
    policy, reference = inputs["logp_policy"], inputs["logp_ref"]
    trajectory = dialogue(PROMPT, [([], [1, 2, 3]), ([8, 9], [4, 5])], inputs["r"], log_probs=policy)
    known = scored(trajectory, reference, inputs["V_last_prompt_token"])
    loss = Loss(Settings(normalise_advantages="none"))
    [[credit]], metrics = loss.credits([(group(trajectory), [known])])
    first, second = expected["A"]
    assert credit.advantages == pytest.approx([0, 0, first, first, first, 0, 0, second, second], abs=1e-6)
    assert credit.returns is not None and credit.value_mask == [0, 0, 1, 0, 0, 0, 0, 1, 0]
    assert [credit.returns[2], credit.returns[7]] == pytest.approx(expected["G"], abs=1e-6)
    assert metrics["reference_divergence"] == pytest.approx(sum(expected["kl_geo"]) / 2, abs=1e-6)
    assert turn_returns(inputs["r"], expected["kl_geo"], inputs["beta"], 1.0) == pytest.approx(expected["G"], abs=1e-6)


@pytest.mark.parametrize("scope", ["step", "group"])
def test_advantages_are_normalised_over_the_turns_of_a_step_or_of_each_problem(scope: Any) -> None:
    def episode(*rewards: float) -> Any:
        return dialogue(PROMPT, [([8] * (number > 0), [1, 2]) for number in range(len(rewards))], list(rewards))

    easy, hard = [episode(1.0), episode(1.0), episode(0.0, -1.0)], [episode(-1.0), episode(-1.0)]
    groups = [
        (group(*members), [scored(m, [[0.0, 0.0]] * len(m.turns), [0.0] * len(m.turns)) for m in members])
        for members in (easy, hard)
    ]
    loss = Loss(Settings(normalise_advantages=scope, reference_penalty=0))
    credits, _ = loss.credits(groups)
    turns = [
        [credit.advantages[turn.start] for credit, m in zip(row, members, strict=True) for turn in m.turns]
        for row, members in zip(credits, (easy, hard), strict=True)
    ]
    every = [a for row in turns for a in row]
    assert sum(every) == pytest.approx(0, abs=1e-6)
    assert sum(a * a for a in every) / len(every) == pytest.approx(1, abs=1e-4)
    if scope == "group":
        assert sum(turns[0]) == pytest.approx(0, abs=1e-6)
        assert turns[1] == pytest.approx([0, 0], abs=1e-6), "nobody learns that a problem is hard"
    else:
        assert all(a < 0 for a in turns[1])
    assert turns[0][0] > 0 > turns[0][-1]


def test_a_later_reward_is_discounted_by_the_turn() -> None:
    assert turn_returns([0.0, 0.0, 1.0], [0.0, 2.0, 0.0], 0.1, 0.5) == pytest.approx([0.15, 0.3, 1.0])


def test_b03_the_truncated_weight_is_inside_the_clip_and_without_gradient() -> None:
    inputs, expected = golden("B03")
    for row, want in zip(inputs["rows"], expected, strict=True):
        now = torch.tensor([row["logp"]], dtype=torch.float64, requires_grad=True)
        old, behaviour = (torch.tensor([row[name]], dtype=torch.float64) for name in ("logp_old", "logp_behav"))
        found = ratio(now, old, behaviour)
        assert float(found.detach()) == pytest.approx(want["r"], abs=1e-6)
        found.sum().backward()
        assert now.grad is not None and float(now.grad) == pytest.approx(want["r"], abs=1e-6), "d r / d log pi = r"
        batch = tokens(now.detach(), [row["A"]], old, behaviour)
        assert float(Loss(Settings(value="group")).loss(batch).loss) == pytest.approx(want["loss"], abs=1e-6)


def test_b04_the_value_loss_is_clipped() -> None:
    inputs, expected = golden("B04")
    rows = [[float(row[name]) for row in inputs["rows"]] for name in ("v", "v_old", "ret")]
    found = clipped_value_loss(*(torch.tensor(row, dtype=torch.float64) for row in rows), clip=0.2)
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    plain = clipped_value_loss(*(torch.tensor(row, dtype=torch.float64) for row in rows), clip=0)
    assert plain.tolist() == pytest.approx([(v - g) ** 2 / 2 for v, g in zip(rows[0], rows[2], strict=True)])


def tokens(now: torch.Tensor, advantages: list[float], old: Any, behaviour: Any, **more: Any) -> base.TokenBatch:
    count = len(advantages)
    return base.TokenBatch(
        log_probs=now,
        old_log_probs=old,
        behaviour_log_probs=behaviour,
        advantages=torch.tensor(advantages, dtype=torch.float64),
        supervised=torch.zeros(count, dtype=torch.bool),
        trajectory_length=torch.full((count,), float(count)),
        batch_tokens=float(count),
        batch_trajectories=1.0,
        **more,
    )


def test_the_value_loss_counts_where_the_critic_learns_and_nowhere_else() -> None:
    zeros = torch.zeros(3, dtype=torch.float64)
    values = torch.tensor([0.5, 7.0, 0.1], requires_grad=True)
    batch = tokens(
        zeros,
        [0.0] * 3,
        zeros,
        zeros,
        values=values,
        old_values=torch.tensor([0.1, 0.0, 0.5]),
        returns=torch.tensor([1.0, 0.0, 1.0]),
        value_mask=torch.tensor([1.0, 0.0, 1.0]),
        batch_values=2.0,
    )
    output = Loss(Settings(value_weight=3.0)).loss(batch)
    assert float(output.metrics["value_loss"]) == pytest.approx((0.245 + 0.405) / 2)
    assert float(output.loss.detach()) == pytest.approx(3 * (0.245 + 0.405) / 2)
    output.loss.backward()
    assert values.grad is not None and values.grad.tolist()[:2] == [0, 0] and values.grad[2] != 0


def test_values_by_the_token_give_each_token_its_own_advantage() -> None:
    trajectory = dialogue(PROMPT, [([], [1, 2]), ([8], [3])], [0.0, 1.0])
    known = base.Scored(trajectory, None, [0, 0, 0.1, 0.2, 0, 0.7])
    loss = Loss(Settings(value="token", reference_penalty=0, normalise_advantages="none"))
    [[credit]], metrics = loss.credits([(group(trajectory), [known])])
    assert credit.advantages == pytest.approx([0, 0, 0.9, 0.8, 0, 0.3])
    assert credit.value_mask == [0, 0, 1, 1, 0, 1]
    assert metrics == {}


def test_without_a_critic_episodes_are_compared_with_those_of_their_group() -> None:
    loss = Loss(Settings(value="group", reference_penalty=0.5))
    assert loss.critic is None and loss.reference_policy
    good = dialogue(PROMPT, [([], [1, 2]), ([8], [3])], [-0.2, 1.0])
    bad = dialogue(PROMPT, [([], [4, 5])], [-1.0])
    known = [scored(good, [[-1, -1], [-2.0]], [0, 0]), scored(bad, [[-1, -1]], [0])]
    [[first, second]], _ = loss.credits([(group(good, bad), known)])
    # Returns 0.8 - 0.5 * (0 + 1) = 0.3 and -1: 0.65 from their mean, sample deviation 0.919.
    assert first.advantages == pytest.approx([0, 0, 0.70711, 0.70711, 0, 0.70711], abs=1e-4)
    assert second.advantages == pytest.approx([0, 0, -0.70711, -0.70711], abs=1e-4)
    assert first.returns is None


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 5), st.floats(-1, 1), st.floats(-2, 2)), min_size=1, max_size=3),
        min_size=2,
        max_size=6,
    )
)
def test_normalised_advantages_have_mean_0_over_turns_and_one_value_a_turn(
    episodes: list[list[tuple[int, float, float]]],
) -> None:
    made = []
    for turns in episodes:
        trajectory = dialogue(PROMPT, [([9], [7] * length) for length, _, _ in turns], [r for _, r, _ in turns])
        reference = [[-1.0] * length for length, _, _ in turns]
        made.append(scored(trajectory, reference, [value for _, _, value in turns]))
    [credits], _ = Loss(Settings()).credits([(group(*[s.trajectory for s in made]), made)])
    firsts = []
    for known, credit in zip(made, credits, strict=True):
        trained = [a for a, m in zip(credit.advantages, known.trajectory.loss_mask, strict=True) if not m]
        assert not any(trained), "prompt and feedback have no credit"
        for turn in known.trajectory.turns:
            assert len(set(credit.advantages[turn.start : turn.end])) == 1
            firsts.append(credit.advantages[turn.start])
    assert sum(firsts) / len(firsts) == pytest.approx(0, abs=1e-6)
    spread = sum(a * a for a in firsts) / len(firsts)
    assert spread == pytest.approx(1, abs=1e-3) or spread < 1, "1, or less where there is next to no spread"


@pytest.mark.parametrize("value", ["turn", "token", "group"])
def test_references_are_learnt_with_their_weight_and_change_nobody_elses_credit(value: Any) -> None:
    def credits(*more: Any, **settings: Any) -> list[base.Credit]:
        loss = Loss(Settings(value=value, supervised_weight=0.5, **settings))
        assert loss.supervised and loss.trains(1, "reference") and loss.trains(1, "sampled")
        members = [*episodes, *more]
        return loss.credits([(group(*[m.trajectory for m in members]), members)])[0][0]

    good, bad = dialogue(PROMPT, [([], [1, 2]), ([8], [3])], [0.0, 1.0]), dialogue(PROMPT, [([], [4])], [-1.0])
    episodes = [scored(good, [[-1, -1], [-2.0]], [0.1, 0.2]), scored(bad, [[-1]], [0.3])]
    taught = reference([5, 6, 1], [7, 7])
    *others, credit = credits(base.Scored(taught, [0.0] * 5, [0.4] * 5))
    assert others == credits()
    assert credit.advantages == [0, 0, 0, 0.5, 0.5], "whatever the others' are divided by"
    assert credit.value_mask == (None if value == "group" else [0] * 5), (
        "the critic knows nothing of a reference's worth"
    )
    assert not Loss(Settings(value=value)).supervised and not Loss(Settings(value=value)).trains(1, "reference")


def test_the_supervised_term_is_cross_entropy_and_never_clipped() -> None:
    now = torch.tensor([-0.1, -9.0, -1.0], dtype=torch.float64, requires_grad=True)
    before = torch.tensor([-0.1, -3.0, -1.0], dtype=torch.float64)
    batch = tokens(now, [0.5, 0.5, 0.5], before, torch.zeros(3, dtype=torch.float64))
    batch.supervised = torch.tensor([True, True, True])
    output = Loss(Settings(value="group")).loss(batch)
    output.loss.backward()
    assert now.grad is not None and now.grad.tolist() == pytest.approx([-0.5 / 3] * 3)
    assert float(output.metrics["log_prob_mismatch_sum"]) == 0 and float(output.metrics["clipped_sum"]) == 0


def test_settings_say_what_the_learner_has_to_hold() -> None:
    assert Loss(Settings()).critic == base.CriticSettings("own", 2e-5)
    assert not Loss(Settings(reference_penalty=0)).reference_policy
    with pytest.raises(ValidationError):
        Settings(clip_low=1.5)
    assert rlef.Settings.model_validate({"value": "token"}).value == "token"
