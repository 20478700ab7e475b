"""Which characters of a response each kept token wrote. Nothing is tokenised again: ids go to bytes, bytes to characters.

Invariants: there is one range a token, in order; ranges of tokens that share a character (a split UTF-8 sequence) all cover it; a special token that
decoding leaves out has an empty range where it stood.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol


class OffsetTokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    all_special_ids: list[int]

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]: ...

    def decode(self, token_ids: list[int], **options) -> str: ...


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
    index = at = 0
    while at < len(data):
        length = 1
        try:
            data[at : at + 4].decode("utf-8")
            length = len(data[at : at + 4].decode("utf-8")[0].encode("utf-8"))
        except UnicodeDecodeError as error:
            if error.start:
                length = len(data[at : at + error.start].decode("utf-8")[0].encode("utf-8"))
            else:
                length = error.end if at + 4 < len(data) or error.end < len(data) - at else len(data) - at
        result += [index] * length
        index += 1
        at += length
    return result


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

    Byte-level BPE tokenizers go by bytes; others by the length of what ever longer prefixes decode to.
    """
    special = set(tokenizer.all_special_ids)
    table = _byte_of_character()
    pieces: list[bytes] = []
    for token_id, token in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        if token_id in special:
            pieces.append(b"")
        elif all(character in table for character in token):
            pieces.append(bytes(table[character] for character in token))
        else:
            return _by_prefixes(tokenizer, ids)
    text, offsets = byte_level_offsets(pieces)
    return offsets if text == tokenizer.decode(ids, skip_special_tokens=True) else _by_prefixes(tokenizer, ids)


def _by_prefixes(tokenizer: OffsetTokenizer, ids: list[int]) -> list[tuple[int, int]]:
    offsets = []
    before = 0
    for count in range(1, len(ids) + 1):
        after = max(before, len(tokenizer.decode(ids[:count], skip_special_tokens=True)))
        offsets.append((before, after))
        before = after
    return offsets
