"""A model that cannot do what is asked of it is told before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config import load_config
from cluster.model_fit import check
from executor.errors import UserError

LONG = ("rollout.max_prompt_tokens=100000", "learner.micro_batch_tokens=200000")


def test_an_episode_longer_than_the_model_reads(model_folder: Path) -> None:
    check(load_config(None, ("rollout.max_prompt_tokens=256",)), model_folder)
    with pytest.raises(UserError, match=r"may have 100096 tokens and .* reads 512: .*rollout\.max_context_tokens=512"):
        check(load_config(None, LONG), model_folder)


@pytest.mark.parametrize(
    "overrides, would_do",
    [
        (("algorithm.name=grpo", "rollout.max_turns=2"), r"rollout\.max_turns=2: set 1"),
        (("algorithm.name=rlef",), r"algorithm\.loss\.value=group"),
        (("algorithm.name=rlef", "algorithm.loss.value=group"), r"algorithm\.loss\.reference_penalty=0"),
    ],
)
def test_an_encoder_decoder_has_neither_turns_nor_critic_nor_reference(
    t5_folder: Path, overrides: tuple[str, ...], would_do: str
) -> None:
    check(load_config(None, ("algorithm.name=grpo",)), t5_folder)
    with pytest.raises(UserError, match=f"encoder-decoder.*{would_do}"):
        check(load_config(None, (*overrides, "learner.micro_batch_tokens=2048")), t5_folder)
