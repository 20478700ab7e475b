"""Tokenizers of the two kinds that models have, trained on the spot, and responses that hold a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

KINDS = ["byte-level BPE", "sentencepiece"]
TEXT = "Naïve idea → fine 😀.\n"


def trained(kind: str, corpus: Sequence[str], all_texts: Sequence[str]) -> Any:
    """A tokenizer trained on `corpus` that loses nothing of `all_texts`, whose tokens it does not all know."""
    from tokenizers import ByteLevelBPETokenizer, SentencePieceBPETokenizer
    from transformers import PreTrainedTokenizerFast

    if kind == "byte-level BPE":
        made = ByteLevelBPETokenizer()
        made.train_from_iterator(corpus, vocab_size=420, show_progress=False)
    else:
        made = SentencePieceBPETokenizer(add_prefix_space=False)
        alphabet = sorted({character for text in (*all_texts, TEXT, "`") for character in text})
        made.train_from_iterator([*corpus, "".join(alphabet)], vocab_size=320, show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=made._tokenizer, clean_up_tokenization_spaces=False)


def response_with(program: str, truncated: bool = False) -> str:
    """The program in a block with text around it."""
    end = "" if program.endswith(("\n", "\r")) else "\n"
    return f"{TEXT}```python\n{program}" + ("" if truncated else f"{end}```\nThat is all.")


def encoded(tokenizer: Any, response: str) -> list[int]:
    """The response's token ids."""
    ids = tokenizer.encode(response, add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == response, "the tokenizer of this test loses nothing"
    return ids
