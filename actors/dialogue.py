"""Further turns of a chat as token ids, without tokenising again what was sampled.

A chat template writes, after an assistant's message, the end of that message, the next user's message and the header of the next response. Rendered
once around a marker, what stands behind the marker is these three; its tokens are appended to the sampled ones as they are. Invariants: what is
appended does not depend on what was sampled but for its last token; an end token that was sampled is not said twice, and one that was not
(a response cut off at its limit) is said; feedback quotes what programs print, and none of it becomes a special token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "the response stands here"
_OPENING = "the question stands here"


def feedback_ids(tokenizer: PreTrainedTokenizerBase, feedback: str, last_token: int | None) -> list[int]:
    """Token ids that follow a response which ended with `last_token`, up to where the next response begins.

    A tokenizer without a chat template gets plain text. Raises UserError for a template that does not take a second question.
    """
    feedback = _harmless(tokenizer, feedback)
    if not tokenizer.chat_template:
        return tokenizer.encode(f"\n\n{feedback}\n\n", add_special_tokens=False)
    conversation = [
        {"role": "user", "content": _OPENING},
        {"role": "assistant", "content": _MARK},
        {"role": "user", "content": feedback},
    ]
    try:
        text = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # templates raise what they like
        raise UserError(f"the model's chat template takes no second question: {error}") from error
    _, mark, behind = str(text).partition(_MARK)
    if not mark:
        raise UserError(
            "the model's chat template leaves earlier answers out: it cannot hold episodes of several turns"
        )
    ids = tokenizer.encode(behind, add_special_tokens=False)
    return ids[1:] if ids and ids[0] == last_token else ids


def _harmless(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with a blank in what would be read as a special token: a program must not speak as the user or end a message."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    for special in {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}:
        text = text.replace(special, f"{special[0]} {special[1:]}")
    return text
