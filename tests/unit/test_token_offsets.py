"""Every token knows which characters it wrote, and nothing is tokenised again to find out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.token_offsets import byte_level_offsets, token_offsets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SMILE = "\U0001f600"
REAL_TOKENIZER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def byte_fallback() -> PreTrainedTokenizerFast:
    """A tokenizer as sentencepiece makes them: a mark for blanks, and bytes for what it does not know."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "</s>", "\u2581a", "b", "\u2581return", "\n", *(f"<0x{byte:02X}>" for byte in range(256))]
    bpe = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True))
    bpe.decoder = decoders.Sequence(  # type: ignore[assignment]
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>", eos_token="</s>")


def check(text: Any, offsets: list[tuple[int, int]]) -> None:
    """In order, within the text, and no character left out."""
    reached = 0
    last_start = 0
    for start, end in offsets:
        assert last_start <= start <= reached
        assert start <= end <= len(text)
        last_start, reached = start, max(reached, end)
    assert reached == len(text)


@given(st.lists(st.binary(max_size=5), max_size=12))
def test_any_bytes_cover_the_text_that_they_decode_to(pieces: list[bytes]) -> None:
    text, offsets = byte_level_offsets(pieces)
    assert text == b"".join(pieces).decode("utf-8", errors="replace")
    check(text, offsets)
    for piece, (start, end) in zip(pieces, offsets, strict=True):
        assert (start == end) == (piece == b"")
        if "\ufffd" not in text:
            assert piece in text[start:end].encode()


@given(st.text(max_size=8), st.data())
def test_tokens_that_split_a_character_all_cover_it(text: str, data: st.DataObject) -> None:
    raw = text.encode("utf-8", errors="ignore")
    decoded, offsets = byte_level_offsets([bytes([byte]) for byte in raw])
    expected = [(i, i + 1) for i, character in enumerate(decoded) for _ in character.encode()]
    assert offsets == expected


@REAL_TOKENIZER
@given(st.lists(st.integers(min_value=0, max_value=330), max_size=20))
def test_a_byte_level_tokenizer_agrees_with_its_decoder(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> None:
    # Ids from len(tokenizer) on have no token, as in a model whose output layer is wider than its vocabulary.
    text = tokenizer.decode(ids, skip_special_tokens=True)
    offsets = token_offsets(tokenizer, ids)
    assert len(offsets) == len(ids)
    check(text, offsets)
    for token_id, (start, end) in zip(ids, offsets, strict=True):
        silent = token_id in tokenizer.all_special_ids or token_id >= len(tokenizer)
        assert (start == end) == silent
        own = tokenizer.decode([token_id], skip_special_tokens=True)
        if "\ufffd" not in own:
            assert own == text[start:end]


@REAL_TOKENIZER
@given(st.lists(st.integers(min_value=1, max_value=261), max_size=16))
def test_a_byte_fallback_tokenizer_agrees_with_its_decoder(
    byte_fallback: PreTrainedTokenizerFast, ids: list[int]
) -> None:
    offsets = token_offsets(byte_fallback, ids)
    assert len(offsets) == len(ids)
    check(byte_fallback.decode(ids, skip_special_tokens=True), offsets)


def test_offsets_hold_after_a_character_that_several_tokens_spell(byte_fallback: PreTrainedTokenizerFast) -> None:
    spelled = [byte_fallback.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in SMILE.encode()]
    ids = [2, *spelled, 3, 4, 1]
    assert byte_fallback.decode(ids, skip_special_tokens=True) == f"a{SMILE}b return"
    assert token_offsets(byte_fallback, ids) == [(0, 1), *[(1, 2)] * 4, (2, 3), (3, 10), (10, 10)]


def test_a_response_is_found_word_by_word(tokenizer: PreTrainedTokenizerFast) -> None:
    text = f"def f():\n    return '{SMILE}'\n"
    ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    offsets = token_offsets(tokenizer, ids)
    check(text, offsets)
    assert offsets[-1] == (len(text), len(text))
