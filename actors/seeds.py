"""Seeds of single responses: a function of what is asked, not of when it is; pure."""

from __future__ import annotations

import hashlib
import json

_BYTES = 6  # fits every engine's seed, and a number in JSON


def seed_of(seed: int, name: str, index: int, turn: int) -> int:
    """The seed of one response to what `name` names (a problem of an evaluation, a group of a run): whoever goes on after a stop draws the same one."""
    digest = hashlib.sha256(json.dumps([seed, name, index, turn]).encode()).digest()
    return int.from_bytes(digest[:_BYTES], "big")
