"""What a zygote says to the judge, in fixed layouts: there is nothing in them that a zygote gone wrong could mislead with.

Invariant: anything but exactly what was asked for is a ValueError. Loaded by both ends; needs nothing but struct.
"""

from __future__ import annotations

import struct

_NUMBER = struct.Struct("=cq")
_ENDED = struct.Struct("=cd")
_END = struct.Struct("=qqdq?")
_READY, _SPAWNED, _FINISHED, _PURGED, _FAILED = b"r", b"s", b"f", b"p", b"e"

Ends = list[tuple[int, int, float, int, bool]]
"""Of each process: its id, its status as wait(2) gives it, CPU seconds, peak KiB, whether it had ended by itself."""


class Failed(Exception):
    """The zygote could not do it, and says why."""


def ready(space: int) -> bytes:
    """It can begin; bytes of its address space."""
    return _NUMBER.pack(_READY, space)


def spawned(pid: int) -> bytes:
    """A process was made."""
    return _NUMBER.pack(_SPAWNED, pid)


def finished(ends: Ends, rest_s: float) -> bytes:
    """All processes have ended; CPU seconds of those that they left behind."""
    return _ENDED.pack(_FINISHED, rest_s) + b"".join([_END.pack(*end) for end in ends])


def purged() -> bytes:
    """Nothing lives any more of what was to end."""
    return _PURGED


def failed(message: str) -> bytes:
    """It could not be done."""
    return _FAILED + message.encode("utf-8", "replace")


def read_ready(answer: bytes) -> int:
    """Of `ready`. Raises Failed and ValueError."""
    return _number(answer, _READY)


def read_spawned(answer: bytes) -> int:
    """Of `spawned`. Raises Failed and ValueError."""
    return _number(answer, _SPAWNED)


def read_finished(answer: bytes) -> tuple[Ends, float]:
    """Of `finished`. Raises Failed and ValueError."""
    _expect(answer, _FINISHED)
    if (len(answer) - _ENDED.size) % _END.size or len(answer) < _ENDED.size:
        raise ValueError("an answer of the wrong length")
    return list(_END.iter_unpack(answer[_ENDED.size :])), _ENDED.unpack_from(answer)[1]


def read_purged(answer: bytes) -> None:
    """Of `purged`. Raises Failed and ValueError."""
    _expect(answer, _PURGED)


def _number(answer: bytes, kind: bytes) -> int:
    _expect(answer, kind)
    if len(answer) != _NUMBER.size:
        raise ValueError("an answer of the wrong length")
    return _NUMBER.unpack(answer)[1]


def _expect(answer: bytes, kind: bytes) -> None:
    if answer[:1] == _FAILED:
        raise Failed(answer[1:].decode("utf-8", "replace"))
    if answer[:1] != kind:
        raise ValueError("an answer to something else" if answer else "no answer")
