"""Which characters of a response each kept token wrote. Nothing is tokenised again: ids go to bytes, bytes to characters.

Invariants: there is one range a token, in order; together they cover the text; ranges of tokens that share a character (a split UTF-8 sequence) all
cover it; a token that decoding leaves out (a special one, an id without a token) has an empty range where it stood.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any, Protocol


class OffsetTokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    @property
    def all_special_ids(self) -> list[int]: ...

    def convert_ids_to_tokens(self, ids: list[int]) -> Any: ...

    def decode(self, token_ids: list[int], skip_special_tokens: bool = False) -> Any: ...


def byte_level_offsets(token_bytes: list[bytes]) -> tuple[str, list[tuple[int, int]]]:
    """The decoded text and each token's character range `[start, end)` in it; bytes that are no UTF-8 decode to U+FFFD."""
    data = b"".join(token_bytes)
    text = data.decode("utf-8", errors="replace")
    character_of = _characters(data)
    offsets: list[tuple[int, int]] = []
    at = 0
    for piece in token_bytes:
        end = at + len(piece)
        if piece:
            offsets.append((character_of[at], character_of[end - 1] + 1))
        else:
            place = character_of[at] if at < len(data) else len(text)
            offsets.append((place, place))
        at = end
    return text, offsets


def _characters(data: bytes) -> list[int]:
    """For each byte the index of the character that it is part of, as `errors="replace"` decodes."""
    result: list[int] = []
    index = 0
    while len(result) < len(data):
        result += [index] * _first_character(data[len(result) : len(result) + 4])
        index += 1
    return result


def _first_character(window: bytes) -> int:
    """Bytes of the first character; of ill-formed ones, those that become one U+FFFD. No character has more than four."""
    try:
        text = window.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start == 0:
            return error.end
        text = window[: error.start].decode("utf-8")
    return len(text[0].encode("utf-8"))


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest for code points from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    table.update({chr(256 + place): byte for place, byte in enumerate(others)})
    return table


def token_offsets(tokenizer: OffsetTokenizer, ids: list[int]) -> list[tuple[int, int]]:
    """Each token's character range in `tokenizer.decode(ids, skip_special_tokens=True)`.

    Byte-level BPE tokenizers go by bytes; others by what ever longer prefixes decode to, in time quadratic in the length.
    """
    special = set(tokenizer.all_special_ids)
    table = _byte_of_character()
    pieces: list[bytes] = []
    tokens: Sequence[str | None] = tokenizer.convert_ids_to_tokens(ids)
    for token_id, token in zip(ids, tokens, strict=True):
        # A model's output layer can be wider than the vocabulary: such an id has no token and decodes to nothing.
        if token is None or token_id in special:
            pieces.append(b"")
        elif all(character in table for character in token):
            pieces.append(bytes(table[character] for character in token))
        else:
            return _by_prefixes(tokenizer, ids, special)
    text, offsets = byte_level_offsets(pieces)
    return offsets if text == tokenizer.decode(ids, skip_special_tokens=True) else _by_prefixes(tokenizer, ids, special)


def _by_prefixes(tokenizer: OffsetTokenizer, ids: list[int], special: set[int]) -> list[tuple[int, int]]:
    text = tokenizer.decode(ids, skip_special_tokens=True)
    offsets: list[tuple[int, int]] = []
    settled = 0
    for count, token_id in enumerate(ids, start=1):
        start = settled
        if token_id in special:
            offsets.append((start, start))
            continue
        prefix = tokenizer.decode(ids[:count], skip_special_tokens=True)
        agreed = takewhile(lambda pair: pair[0] == pair[1], zip(prefix, text, strict=False))
        settled = max(start, sum(1 for _ in agreed))
        # Where the prefix differs from the text it ends within a character that later tokens complete.
        offsets.append((start, settled if text.startswith(prefix) else min(settled + 1, len(text))))
    return offsets
