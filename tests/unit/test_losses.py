"""A loss turns credit into a direction: golden numbers, gradients that point the right way, micro-batches that add up."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from golden_cases import golden
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from trajectories import group, reference, sampled

import actors.rewards.base
import learner.losses
from actors.rewards import rltf as rltf_reward
from buffer.trajectory import CreditSpan, Group, Trajectory, Turn
from executor.verdict import Outcome
from learner.losses import base, grpo, rltf, sft

LOG_PROBS = [-0.1, -0.5, -1.2, -0.3, -2.0]
CRITIC = [0.9, 0.8, 0.7, 0.6, 0.5]
SPAN = [(2, 4, -0.3)]
UNCAPPED = 100.0


def tokens(
    log_probs: Sequence[float] | torch.Tensor,
    advantages: Sequence[float],
    *,
    old: Sequence[float] | None = None,
    behaviour: Sequence[float] | None = None,
    supervised: Sequence[bool] | None = None,
    lengths: Sequence[float] | None = None,
    batch_tokens: float | None = None,
    batch_trajectories: float = 1.0,
) -> base.TokenBatch:
    """Tokens of one trajectory, on policy unless told otherwise."""
    now = torch.as_tensor(log_probs, dtype=torch.float64)
    before = now.detach() if old is None else torch.tensor(old, dtype=torch.float64)
    count = len(advantages)
    return base.TokenBatch(
        log_probs=now,
        old_log_probs=before,
        behaviour_log_probs=before if behaviour is None else torch.tensor(behaviour, dtype=torch.float64),
        advantages=torch.tensor(advantages, dtype=torch.float64),
        supervised=torch.tensor(supervised or [False] * count),
        trajectory_length=torch.tensor(lengths or [float(count)] * count, dtype=torch.float64),
        batch_tokens=float(count) if batch_tokens is None else batch_tokens,
        batch_trajectories=batch_trajectories,
    )


def rltf_loss(credit: Sequence[float], *, total: bool) -> float:
    """RLTF's loss of the golden log-probabilities: summed as the paper writes it, or the mean over tokens."""
    batch = tokens(LOG_PROBS, credit, batch_tokens=1.0 if total else None)
    return float(rltf.Loss(rltf.Settings()).loss(batch).loss)


def test_the_losses_are_the_folders_files_and_have_rewards() -> None:
    files = {path.stem for path in Path(learner.losses.__path__[0]).glob("*.py")} - {"__init__", "base"}
    assert set(base.names()) == files
    assert base.names() == actors.rewards.base.names()
    for name in files:
        module = base.load(name)
        module.Loss(module.Settings())
    with pytest.raises(ValueError, match=r"'ppo'.*grpo.*rltf"):
        base.load("ppo")


def test_algorithms_load_without_torch() -> None:
    # The configuration checks an algorithm's settings, on machines where nothing heavy is installed or wanted.
    code = (
        "import sys; from actors.rewards import base as a; from learner.losses import base as b\n"
        "[a.load(n) for n in a.names()]; [b.load(n) for n in b.names()]\n"
        "sys.exit(bool({'torch', 'ray', 'vllm', 'transformers'} & set(sys.modules)))"
    )
    root = Path(learner.losses.__path__[0]).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60).returncode == 0


# RLTF: golden A05 to A09.


def test_code_credit_a05_a06() -> None:
    relative = -0.6 - -0.3
    expected = {1: [-0.27, -0.24, -0.42, -0.36, -0.15], 0: [-0.27, -0.24, -0.51, -0.48, -0.15]}
    assert rltf.code_credit(relative, 5, SPAN, CRITIC, 1) == pytest.approx(expected[1], abs=1e-6)
    assert rltf.code_credit(relative, 5, SPAN, CRITIC, 0) == pytest.approx(expected[0], abs=1e-6)


def test_code_loss_a07() -> None:
    assert rltf_loss([-0.27, -0.24, -0.42, -0.36, -0.15], total=False) == pytest.approx(-0.2118, abs=1e-6)


def test_paper_loss_a08() -> None:
    assert rltf.alpha(5, 2, 4, UNCAPPED) == 2.5
    coarse = rltf.paper_credit(-0.6 - -0.3, 5, [], UNCAPPED)
    fine = rltf.paper_credit(0.0, 5, SPAN, UNCAPPED)
    both = rltf.paper_credit(-0.6 - -0.3, 5, SPAN, UNCAPPED)
    assert rltf_loss(coarse, total=True) == pytest.approx(-1.23, abs=1e-6)
    assert rltf_loss(fine, total=True) == pytest.approx(-1.125, abs=1e-6)
    assert rltf_loss(both, total=True) == pytest.approx(-2.355, abs=1e-6)


def test_paper_loss_a09() -> None:
    relative = rltf_reward.adaptive(Outcome.FAILURE, 0.35) - rltf_reward.adaptive(Outcome.FAILURE, 0.1)
    assert rltf_loss(rltf.paper_credit(relative, 5, [], UNCAPPED), total=True) == pytest.approx(1.3325, abs=1e-6)


def test_the_golden_file_says_the_same_of_rltf() -> None:
    inputs, expected = golden("A05")
    marked = [(i, i + 1, -inputs["w"]) for i, m in enumerate(inputs["mask"]) if m]
    for fine_type, name in ((1, "A05"), (0, "A06")):
        credit = rltf.code_credit(-0.3, 5, marked, inputs["p_critic"], fine_type)  # type: ignore[arg-type]
        assert credit == pytest.approx(golden(name)[1], abs=1e-6)
    inputs, expected = golden("A07")
    assert inputs["logp"] == LOG_PROBS
    assert rltf_loss(inputs["rewards"], total=False) == pytest.approx(expected, abs=1e-6)
    inputs, expected = golden("A08")
    span = (*inputs["span"], inputs["R_fine"])
    credit = rltf.paper_credit(inputs["R"] - inputs["R_base"], inputs["T"], [span], UNCAPPED)
    assert rltf_loss(credit, total=True) == pytest.approx(expected["sum"], abs=1e-6)


@given(st.integers(1, 400), st.integers(1, 400), st.floats(1, 20))
def test_alpha_is_capped_and_at_least_one(span: int, rest: int, cap: float) -> None:
    weight = rltf.alpha(span + rest, 0, span, cap)
    assert 1 <= weight <= cap


# RLTF: from a group to credit.


def components(outcome: Outcome, share: float = 0.0) -> dict[str, float]:
    return rltf_reward.components(outcome, 1.0 if outcome is Outcome.PASS else share, rltf_reward.Settings())


def one(outcome: Outcome, share: float = 0.0, role: str = "sampled", **turn: Any) -> Trajectory:
    """A prompt of two tokens and a response of four."""
    return sampled([1, 2], [3, 4, 5, 6], components(outcome, share), outcome=outcome, role=role, **turn)


def credits(settings: rltf.Settings, *members: Trajectory, **fields: Any) -> list[list[float]]:
    return rltf.Loss(settings).advantages(group(*members, **fields))


LADDER = [Outcome.PASS, Outcome.FAILURE, Outcome.ERROR, Outcome.SYNTAX_ERROR]


@pytest.mark.parametrize("baseline", ["group_mean", "best_so_far", "latest_greedy", "none"])
@pytest.mark.parametrize("passing", [1, 6])
def test_a_better_program_gets_more_credit_whatever_the_baseline(baseline: Any, passing: int) -> None:
    members = [one(o) for o in (*[Outcome.PASS] * passing, *LADDER[1:])]
    known = {name: components(Outcome.PASS, 1.0) for name in ("best_so_far", "latest_greedy")}
    worth = [c[-1] for c in credits(rltf.Settings(baseline=baseline), *members, baselines=known)[passing - 1 :]]
    assert worth == sorted(worth, reverse=True) and len(set(worth)) == len(worth)


def test_group_mean_credit_adds_up_to_nothing() -> None:
    found = credits(rltf.Settings(), one(Outcome.PASS, 1.0), one(Outcome.FAILURE, 0.25), one(Outcome.ERROR))
    assert sum(c[-1] for c in found) == pytest.approx(0)
    assert all(c[:2] == [0, 0] for c in found)


def test_each_baseline_is_what_its_name_says() -> None:
    passed, failed, greedy = one(Outcome.PASS, 1.0), one(Outcome.FAILURE, 0.0), one(Outcome.ERROR, role="greedy")
    known = {"best_so_far": components(Outcome.FAILURE, 0.5), "latest_greedy": components(Outcome.SYNTAX_ERROR)}

    def of_passed(baseline: Any, *members: Trajectory, **fields: Any) -> float:
        return credits(rltf.Settings(baseline=baseline), *members, **fields)[0][-1]

    total = {
        name: sum(components(*key).values())
        for name, key in {"pass": (Outcome.PASS, 1.0), "error": (Outcome.ERROR, 0.0)}.items()
    }
    assert of_passed("none", passed, failed, baselines=known) == pytest.approx(total["pass"])
    assert of_passed("best_so_far", passed, failed, baselines=known) == pytest.approx(total["pass"] - (-0.3 + 0.35))
    assert of_passed("latest_greedy", passed, failed, baselines=known) == pytest.approx(total["pass"] + 2.0)
    # The group's own greedy program is newer than any that is on record.
    assert of_passed("latest_greedy", passed, failed, greedy, baselines=known) == pytest.approx(
        total["pass"] - total["error"]
    )
    # Nothing on record: the group's mean.
    for baseline in ("best_so_far", "latest_greedy"):
        assert of_passed(baseline, passed, failed) == of_passed("group_mean", passed, failed)


def test_a_span_is_weighed_by_its_share_of_the_response() -> None:
    span = CreditSpan(start=3, end=4, value=-0.3)
    plain, marked = one(Outcome.ERROR), one(Outcome.ERROR, spans=[span])
    for chosen, weight in (
        (rltf.Settings(), 4.0),
        (rltf.Settings(alpha_cap=2), 2.0),
        (rltf.Settings(mode="code"), 1.0),
    ):
        found = credits(chosen, plain, marked)
        difference = [b - a for a, b in zip(*found, strict=True)]
        assert difference == pytest.approx([0, 0, 0, -0.3 * weight, 0, 0])


@pytest.mark.parametrize("mode", ["paper", "code"])
@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.ERROR])
def test_a_masked_token_has_no_credit_and_changes_no_other_tokens(mode: Any, outcome: Outcome) -> None:
    penalty = CreditSpan(start=2, end=5, value=-0.3)
    mask = CreditSpan(start=3, end=5, value=0, kind="mask")
    chosen = rltf.Settings(mode=mode, baseline="none")
    (plain,) = credits(chosen, one(outcome, spans=[penalty]))
    for spans in ([penalty, mask], [mask, penalty]):
        masked = one(outcome, spans=spans)
        (found,) = credits(chosen, masked)
        assert found == [*plain[:3], 0, 0, plain[5]] and all(plain[2:])
        # It stays among the tokens that totals count: the others' share of the step is what it was.
        assert sum(masked.loss_mask) == sum(one(outcome).loss_mask) == 4


def test_masking_takes_as_much_from_a_good_program_as_from_a_bad_one() -> None:
    mask = [CreditSpan(start=3, end=6, value=0, kind="mask")]
    good, bad = credits(rltf.Settings(), one(Outcome.PASS, spans=mask), one(Outcome.FAILURE, spans=mask))
    assert good[3:] == bad[3:] == [0, 0, 0]
    assert good[2] == pytest.approx(-bad[2]) and good[2] > 0, "and what a program is worth beside others stays"


def test_every_turn_is_credited_for_its_own_program() -> None:
    turns = [
        Turn(start=1, end=3, response="", finish_reason="stop", components={"coarse": -0.6}),
        Turn(start=4, end=6, response="", finish_reason="stop", components={"coarse": 1.0}),
    ]
    episode = Trajectory(
        problem_id="p",
        token_ids=[1] * 6,
        log_probs=[0.0] * 6,
        policy_versions=[-1, 0, 0, -1, 0, 0],
        loss_mask=[0, 1, 1, 0, 1, 1],
        turns=turns,
    )
    assert credits(rltf.Settings(baseline="none"), episode) == [[0, -0.6, -0.6, 0, 1.0, 1.0]]


def learns_from_samples(name: str) -> bool:
    module = base.load(name)
    return module.Loss(module.Settings()).trains(1, "sampled")


SAMPLING = [name for name in base.names() if learns_from_samples(name)]
CORRECTED = [name for name in SAMPLING if name != "rlef"]  # whose truncated importance sampling is a choice


def advantages(module: base.LossModule, members: Group) -> list[list[float]]:
    """Of every token, at the loss's defaults, with a critic that expects nothing."""
    nothing = [[0.0] * len(t.token_ids) for t in members.trajectories]
    scored = [base.Scored(t, zeros, zeros) for t, zeros in zip(members.trajectories, nothing, strict=True)]
    credits, _ = module.Loss(module.Settings()).credits([(members, scored)])
    return [credit.advantages for credit in credits[0]]


@pytest.mark.parametrize("name", SAMPLING)
def test_only_trained_tokens_have_credit(name: str) -> None:
    module = base.load(name)
    members = [one(Outcome.PASS, 1.0), one(Outcome.PASS, role="greedy"), one(Outcome.ERROR), reference([1, 2], [3])]
    found = advantages(module, group(*members))
    for credit, trajectory in zip(found, members, strict=True):
        assert len(credit) == len(trajectory.token_ids)
        assert all(m or not c for c, m in zip(credit, trajectory.loss_mask, strict=True))
    assert found[0][-1] > 0 > found[2][-1]


@pytest.mark.parametrize("name", SAMPLING)
def test_a_token_that_is_masked_out_has_no_credit_even_in_a_response(name: str) -> None:
    module = base.load(name)
    masked = one(Outcome.PASS).model_copy(update={"loss_mask": [0, 0, 1, 0, 1, 1]})
    found = advantages(module, group(masked, one(Outcome.ERROR)))
    assert [bool(credit) for credit in found[0]] == [False, False, True, False, True, True]


def test_references_are_wanted_and_weighed_where_supervised() -> None:
    quiet, taught = rltf.Loss(rltf.Settings()), rltf.Loss(rltf.Settings(supervised_weight=0.5))
    assert not quiet.supervised and taught.supervised
    assert taught.advantages(group(one(Outcome.PASS), reference([1, 2], [3, 4])))[1] == [0, 0, 0.5, 0.5]
    assert not quiet.baseline_needs_greedy
    assert rltf.Loss(rltf.Settings(baseline="latest_greedy")).baseline_needs_greedy


def test_the_supervised_term_is_cross_entropy() -> None:
    # What the engine would have said of a reference's tokens is unknown and must not weigh them.
    batch = tokens(LOG_PROBS, [1.0] * 5, behaviour=[0.0] * 5, supervised=[True] * 5)
    assert float(rltf.Loss(rltf.Settings()).loss(batch).loss) == pytest.approx(-sum(LOG_PROBS) / 5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha_cap": 0.5},
        {"importance_cap": -1},
        {"baseline": "mean"},
        {"supervised_weight": -1},
        {"alpha": 1},
        {"objective": "ppo"},
        {"clip_low": 1.0},
    ],
)
def test_rltf_settings_refuse_nonsense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        rltf.Settings.model_validate(wrong)


def clipped_loss(ratio: float, credit: float, supervised: bool = False, **fields: Any) -> tuple[float, float]:
    """RLTF's loss with a clipped ratio to who sampled the token, and its gradient by the token's log-probability."""
    log_probs = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    behaviour = [-float(torch.tensor(ratio).double().log())]
    batch = tokens(log_probs, [credit], behaviour=behaviour, supervised=[supervised])
    output = rltf.Loss(rltf.Settings(objective="clipped", **fields)).loss(batch)
    output.loss.backward()
    assert log_probs.grad is not None
    return float(output.loss.detach()), float(log_probs.grad[0])


def test_the_clipped_objective_is_ppos_against_the_policy_that_sampled() -> None:
    for ratio, credit in RATIOS:  # where nothing is capped
        wanted = E03[0.2][RATIOS.index((ratio, credit))]
        assert clipped_loss(ratio, credit, importance_cap=0)[0] == pytest.approx(wanted, abs=1e-6)
    assert clipped_loss(1.0, 2.0) == pytest.approx((-2.0, -2.0)), "on policy it is REINFORCE's gradient"
    assert clipped_loss(1.5, 1.0)[1] == clipped_loss(0.5, -1.0)[1] == 0.0, "it has moved far enough"
    assert clipped_loss(1.5, -1.0)[1] == pytest.approx(1.5) and clipped_loss(0.5, 1.0)[1] == pytest.approx(-0.5)
    # What the policy has come to like a thousand times better than its sampler did pulls no harder than the cap, that is not at all.
    assert clipped_loss(1000.0, -1.0, importance_cap=3.0) == pytest.approx((3.0, 0.0))
    assert clipped_loss(1000.0, 1.0, supervised=True) == pytest.approx((-1.0, -1.0)), "nobody sampled a reference"


def test_the_supervised_term_is_summed_or_alternates() -> None:
    both = rltf.Loss(rltf.Settings(supervised_weight=1.0))
    turns = rltf.Loss(rltf.Settings(supervised_weight=1.0, supervised_mode="alternate"))
    without = rltf.Loss(rltf.Settings(supervised_mode="alternate"))
    roles = ("sampled", "reference")
    assert [[loss.trains(step, role) for role in roles] for loss in (both, turns) for step in (1, 2, 3)] == [
        *[[True, True]] * 3,
        [True, False],
        [False, True],
        [True, False],
    ]
    assert without.trains(2, "sampled")


def test_fine_tuning_learns_from_references_alone() -> None:
    loss = sft.Loss(sft.Settings())
    found = loss.advantages(group(one(Outcome.PASS, 1.0), reference([1, 2], [3, 4])))
    assert found == [[0.0] * 6, [0.0, 0.0, 1.0, 1.0]]
    assert loss.trains(1, "reference") and not loss.trains(1, "sampled")
    batch = tokens(LOG_PROBS, [1.0] * 5, supervised=[True] * 5)
    assert float(loss.loss(batch).loss) == pytest.approx(-sum(LOG_PROBS) / 5)


# GRPO: golden E03 and E07.

RATIOS = [(1.5, 1.0), (1.5, -1.0), (0.5, 1.0), (0.5, -1.0), (1.25, 1.0), (4.0, -1.0)]
E03 = {0.2: [-1.2, 1.5, -0.5, 0.8, -1.2, 4.0], 0.28: [-1.28, 1.5, -0.5, 0.8, -1.25, 4.0]}


def test_leave_one_out_compares_with_the_mean_of_the_others() -> None:
    settings = grpo.Settings(baseline="leave_one_out", std="none")
    members = [sampled([1], [2], {"pass": reward}) for reward in (1.0, 0.0, 0.0)]
    found = grpo.Loss(settings).advantages(group(*members))
    assert [credit[-1] for credit in found] == pytest.approx([1.0, -0.5, -0.5])
    assert grpo.Loss(settings).advantages(group(members[0])) == [[0.0, 0.0]]
    with pytest.raises(ValidationError, match="set std=none"):
        grpo.Settings(baseline="leave_one_out")


def grpo_loss(ratio: float, advantage: float, clip_high: float) -> float:
    batch = tokens([math.log(ratio)], [advantage], old=[0.0])
    return float(grpo.Loss(grpo.Settings(clip_high=clip_high)).loss(batch).loss)


@pytest.mark.parametrize("clip_high", [0.2, 0.28])
def test_clipping_e03(clip_high: float) -> None:
    assert [grpo_loss(r, a, clip_high) for r, a in RATIOS] == pytest.approx(E03[clip_high], abs=1e-6)


def test_the_golden_file_says_the_same_of_clipping() -> None:
    inputs, expected = golden("E03")
    for row, numbers in zip(inputs["rows"], expected, strict=True):
        assert grpo_loss(row["ratio"], row["A"], 0.2) == pytest.approx(numbers["ppo"], abs=1e-6)
        assert grpo_loss(row["ratio"], row["A"], 0.28) == pytest.approx(numbers["dapo"], abs=1e-6)


def test_normalisation_e07() -> None:
    per_token = torch.tensor([1.0, 2, 3, 4, 1, 1, 1, 1, 1], dtype=torch.float64)
    batch = tokens([0.0] * 9, [0.0] * 9, lengths=[3.0] * 3 + [1.0] + [5.0] * 5, batch_trajectories=3.0)
    found = [float(base.normalise(per_token, batch, how, 5)) for how in ("token", "sequence", "constant")]
    assert found == pytest.approx([1.666667, 2.333333, 1.0], abs=1e-6)


def test_the_golden_file_says_the_same_of_normalisation() -> None:
    inputs, expected = golden("E07")
    rows = [[x for x, m in zip(*pair, strict=True) if m] for pair in zip(inputs["loss"], inputs["mask"], strict=True)]
    flat = torch.tensor([x for row in rows for x in row], dtype=torch.float64)
    lengths = [float(len(row)) for row in rows for _ in row]
    batch = tokens([0.0] * len(flat), [0.0] * len(flat), lengths=lengths, batch_trajectories=float(len(rows)))
    for how, name in (
        ("token", "token_mean_DAPO"),
        ("sequence", "seq_mean_token_mean_GRPO"),
        ("constant", "seq_mean_over_constant_DrGRPO_paper"),
    ):
        assert float(base.normalise(flat, batch, how, inputs["Lmax"])) == pytest.approx(expected[name], abs=1e-6)  # type: ignore[arg-type]


# Truncated importance sampling: golden E06.


def test_importance_weights_e06() -> None:
    ratios = [0.5, 1.0, 2.5, 0.01, 30.0]
    batch = tokens([0.0] * 5, [1.0] * 5, behaviour=[-float(torch.tensor(r).double().log()) for r in ratios])
    weights, metrics = base.importance_weights(batch, 2.0)
    assert weights.tolist() == pytest.approx([0.5, 1.0, 2.0, 0.01, 2.0], abs=1e-6)
    assert float(metrics["importance_capped_sum"]) == 2
    assert float(metrics["importance_ratio_sum"]) == pytest.approx(sum(ratios), rel=1e-6)


@given(st.lists(st.tuples(st.floats(-20, 0), st.floats(-20, 0)), min_size=1, max_size=8), st.floats(0.1, 10))
def test_importance_weights_are_bounded_and_have_no_gradient(pairs: list[tuple[float, float]], cap: float) -> None:
    old = torch.tensor([o for o, _ in pairs], dtype=torch.float64, requires_grad=True)
    batch = tokens(old, [1.0] * len(pairs), behaviour=[b for _, b in pairs])
    batch.old_log_probs = old
    weights, metrics = base.importance_weights(batch, cap)
    assert not weights.requires_grad and not any(m.requires_grad for m in metrics.values())
    assert bool((weights > 0).all()) and float(weights.max()) <= cap + 1e-9
    for weight, (o, b) in zip(weights.tolist(), pairs, strict=True):
        assert weight == pytest.approx(min(float(torch.tensor(o - b).double().exp()), cap))


@pytest.mark.parametrize("name", CORRECTED)
def test_importance_sampling_can_be_turned_off(name: str) -> None:
    module = base.load(name)
    loss = module.Loss(module.Settings.model_validate({"importance_cap": 0}))
    stale = loss.loss(tokens(LOG_PROBS, [1.0] * 5, behaviour=[-3.0] * 5))
    assert float(stale.loss) == pytest.approx(float(loss.loss(tokens(LOG_PROBS, [1.0] * 5)).loss))
    assert float(stale.metrics["importance_capped_sum"]) == 0


@pytest.mark.parametrize("name", SAMPLING)
def test_on_policy_tokens_are_not_reweighted(name: str) -> None:
    module = base.load(name)
    metrics = module.Loss(module.Settings()).loss(tokens(LOG_PROBS, [1.0] * 5)).metrics
    assert float(metrics["log_prob_mismatch_sum"]) == 0
    assert float(metrics["importance_ratio_sum"]) == 5


# What every loss promises.

NORMALISATIONS = [
    ("sft", "token"),
    ("sft", "sequence"),
    ("rltf", "token"),
    ("rltf", "sequence"),
    ("grpo", "token"),
    ("grpo", "sequence"),
    ("grpo", "constant"),
]


def made(name: str, how: str) -> Any:
    module = base.load(name)
    return module.Loss(module.Settings.model_validate({"normalise": how}))


@pytest.mark.parametrize("name, how", NORMALISATIONS)
def test_the_gradient_raises_what_was_good_and_lowers_what_was_bad(name: str, how: str) -> None:
    log_probs = torch.tensor(LOG_PROBS, dtype=torch.float64, requires_grad=True)
    made(name, how).loss(tokens(log_probs, [1.0, -1.0, 0.0, 2.0, -2.0])).loss.backward()
    assert log_probs.grad is not None
    assert (-log_probs.grad).sign().tolist() == [1, -1, 0, 1, -1]
    assert float(log_probs.grad[3]) == pytest.approx(2 * float(log_probs.grad[0]))


def test_a_clipped_token_pulls_no_further() -> None:
    log_probs = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    # Ratios 1.5, 1.5, 0.5, 0.5: beyond the clip in the direction of the advantage only the first and the last are.
    old = (-torch.tensor([1.5, 1.5, 0.5, 0.5], dtype=torch.float64).log()).tolist()
    output = grpo.Loss(grpo.Settings()).loss(tokens(log_probs, [1.0, -1.0, 1.0, -1.0], old=old))
    output.loss.backward()
    assert log_probs.grad is not None
    assert [bool(g) for g in log_probs.grad] == [False, True, True, False]
    assert float(output.metrics["clipped_sum"]) == 4


@pytest.mark.parametrize("name, how", NORMALISATIONS)
@given(data=st.data())
def test_micro_batches_add_up_to_the_batch(name: str, how: Literal["token"], data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=5))
    cut = data.draw(st.integers(1, len(sizes) - 1))
    count = sum(sizes)
    numbers = st.lists(st.floats(-4, 0), min_size=count, max_size=count)
    now, old, behaviour = data.draw(numbers), data.draw(numbers), data.draw(numbers)
    worth = [x + 2 for x in data.draw(numbers)]
    lengths = [float(size) for size in sizes for _ in range(size)]
    loss = made(name, how)

    def part(start: int, end: int) -> base.LossOutput:
        return loss.loss(
            tokens(
                now[start:end],
                worth[start:end],
                old=old[start:end],
                behaviour=behaviour[start:end],
                lengths=lengths[start:end],
                batch_tokens=float(count),
                batch_trajectories=float(len(sizes)),
            )
        )

    middle = sum(sizes[:cut])
    whole, parts = part(0, count), [part(0, middle), part(middle, count)]
    assert float(sum(p.loss for p in parts)) == pytest.approx(float(whole.loss), abs=1e-9)
    for metric, value in whole.metrics.items():
        assert metric.endswith("_sum")
        assert float(sum(p.metrics[metric] for p in parts)) == pytest.approx(float(value), rel=1e-9, abs=1e-9)
