"""What a client and an executor worker say to one another: a call hands requests over and brings back what is done.

They are pickled here and travel as bytes: Ray's own pickler takes 15 times as long for a small request.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from executor.judging import JudgeRequest
from executor.large_problems import DistantRequest
from executor.verdict import Verdict

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One call of a client."""

    session: str
    """Names the client as long as it trusts this worker; after a loss it comes under another name."""
    process: str | None
    """The process of the worker that was talked to before, None at first: a restarted one knows nothing of us."""
    timeout_s: float
    """Answer after so long, with nothing if there is nothing."""
    requests: Sequence[tuple[int, JudgeRequest | DistantRequest]] = ()
    """New requests, each with its ticket."""


@dataclass(frozen=True)
class Answer:
    """What a call brings back."""

    process: str
    known: bool = True
    """False if the call meant a process that is gone: nothing that it had will be answered."""
    verdicts: list[tuple[int, Verdict]] = field(default_factory=list)
    """What is done, by ticket; it is told once."""
    refused: list[int] = field(default_factory=list)
    """Tickets of this call that are not taken: the worker is draining."""


def pack(message: Call | Answer) -> bytes:
    """As bytes."""
    return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)


def unpack(kind: type[T], data: bytes) -> T:
    """From bytes, which come from our own processes only. Raises TypeError if it is something else."""
    message: Any = pickle.loads(data)
    if not isinstance(message, kind):
        raise TypeError(f"a {kind.__name__} was expected, not a {type(message).__name__}")
    return message
