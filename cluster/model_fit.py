"""Whether a model can do what the configuration asks of it, told before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

from actors.engine.choose import choose
from cluster.config import Config
from executor.errors import UserError
from learner.losses.base import make as make_loss

_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")


def check(config: Config, model: Path) -> None:
    """Raises UserError where no engine runs the model folder as asked, an encoder-decoder is to have turns, a critic or a reference policy, or an
    episode is longer than the model reads."""
    choose(model, config.engine.backend)
    told = json.loads((model / "config.json").read_text(encoding="utf-8"))
    loss = make_loss(config.algorithm.name, config.algorithm.loss)
    if told.get("is_encoder_decoder"):
        for asked, setting in (
            (config.rollout.max_turns > 1, f"rollout.max_turns={config.rollout.max_turns}: set 1"),
            (loss.critic is not None, "a critic: set algorithm.loss.value=group"),
            (loss.reference_policy, "a reference policy: set algorithm.loss.reference_penalty=0"),
        ):
            if asked:
                raise UserError(f"{model.name} is an encoder-decoder, which cannot be trained with {setting}")
        return
    positions = next((told[name] for name in _POSITIONS if isinstance(told.get(name), int)), None)
    if positions is not None and config.rollout.episode_tokens > positions:
        raise UserError(
            f"an episode may have {config.rollout.episode_tokens} tokens and {model.name} reads {positions}: "
            f"set less in rollout.max_prompt_tokens or rollout.max_response_tokens, or for turns rollout.max_context_tokens={positions}"
        )
