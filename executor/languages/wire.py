"""Plain values as bytes, for pipes whose other end is hostile.

Invariants: `decode` accepts any bytes, and either returns a value made of the types below or raises WireError; it
never runs code, never recurses deeper than MAX_DEPTH and never uses memory out of proportion to its input. Types are
exact: an instance of a subclass does not pass for its base, so no method of a program's object is ever trusted or
called. This file runs inside sandboxes too, next to nothing but the standard library's C modules: it imports nothing
of ours.

One value is a tag byte and its payload; lengths and counts are 4 bytes, little-endian. Frames on a pipe are a length
and a payload.
"""

from __future__ import annotations

import builtins
import os
import struct
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 50
MAX_FRAME = 64 << 20

_U32 = struct.Struct("<I")
FRAME_HEAD = _U32.size
# A frame that begins with this byte, which no value does, is told on the side: it is no answer and counts as none.
ASIDE = b"\x01"
_F64 = struct.Struct("<d")
# Classes that a test may hand over by name, as in `remove_datatype((4, 7.7), int)`.
_CLASSES = {
    cls.__name__: cls
    for cls in (
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        bytearray,
        list,
        tuple,
        set,
        frozenset,
        dict,
        range,
        object,
        type(None),
    )
}
_CLASS_NAMES = {id(cls): name for name, cls in _CLASSES.items()}
# So many equal hashes in one container come of malice, and would make building it quadratic.
_MAX_COLLISIONS = 64
# Containers that take far more memory than the bytes that stand for them: bytes of an empty one, by tag. A value has room for some
# thousands of them, or for more where it is long.
_HEAVY = {b"q": 760, b"O": 432, b"C": 248, b"D": 248, b"S": 216, b"Z": 216}
_ROOM, _ROOM_A_BYTE = 4 << 20, 32


class WireError(ValueError):
    """Bytes that are no value, or a value that cannot be sent."""


class TooLarge(WireError):
    """A value whose bytes go beyond the cap."""


class Encoder:
    """Writes values; `foreign` may turn an object of any other type into the number of a reference."""

    def __init__(self, cap: int = MAX_FRAME, foreign: Callable[[Any], int] | None = None) -> None:
        self.out = bytearray()
        self.cap = cap
        self.foreign = foreign

    def value(self, v: Any, depth: int = 0) -> None:
        """Append one value. Raises TooLarge or WireError."""
        out = self.out
        if len(out) > self.cap:
            raise TooLarge(f"the value takes more than {self.cap} bytes")
        if depth > MAX_DEPTH:
            raise WireError(f"the value is nested deeper than {MAX_DEPTH}")
        t = type(v)
        if v is None:
            out += b"N"
        elif t is bool:
            out += b"T" if v else b"F"
        elif t is int:
            raw = v.to_bytes(v.bit_length() // 8 + 1, "little", signed=True)
            self._sized(b"i", raw)
        elif t is float:
            out += b"f"
            out += _F64.pack(v)
        elif t is str:
            self._sized(b"s", v.encode("utf-8", "surrogatepass"))
        elif t is list:
            self._items(b"l", v, depth)
        elif t is tuple:
            self._items(b"t", v, depth)
        elif t is dict:
            self._pairs(b"d", v, depth)
        elif t is set:
            self._items(b"S", v, depth)
        elif t is frozenset:
            self._items(b"Z", v, depth)
        elif t is bytes:
            self._sized(b"b", v)
        elif t is bytearray:
            self._sized(b"y", bytes(v))
        elif t is complex:
            out += b"c"
            out += _F64.pack(v.real)
            out += _F64.pack(v.imag)
        elif t is Counter:
            self._pairs(b"C", v, depth)
        elif t is defaultdict:
            self._pairs(b"D", v, depth)
        elif t is OrderedDict:
            self._pairs(b"O", v, depth)
        elif t is deque:
            self._items(b"q", v, depth)
        elif t is range:
            self._items(b"r", (v.start, v.stop, v.step), depth)
        elif id(v) in _CLASS_NAMES:
            self._sized(b"x", _CLASS_NAMES[id(v)].encode())
        elif (numpy := sys.modules.get("numpy")) is not None and isinstance(v, numpy.generic):
            self.value(v.item(), depth)  # a number that stands for the same in every comparison
        elif self.foreign is not None:
            out += b"R"
            out += _U32.pack(self.foreign(v))
        else:
            raise WireError(f"a value of type {t.__name__!r} cannot be judged")

    def _sized(self, tag: bytes, raw: bytes) -> None:
        if len(raw) + len(self.out) > self.cap:
            raise TooLarge(f"the value takes more than {self.cap} bytes")
        self.out += tag
        self.out += _U32.pack(len(raw))
        self.out += raw

    def _items(self, tag: bytes, items: Any, depth: int) -> None:
        self.out += tag
        self.out += _U32.pack(len(items))
        for item in items:
            self.value(item, depth + 1)

    def _pairs(self, tag: bytes, mapping: dict[Any, Any], depth: int) -> None:
        self.out += tag
        self.out += _U32.pack(len(mapping))
        for key, item in dict.items(mapping):
            self.value(key, depth + 1)
            self.value(item, depth + 1)


class Decoder:
    """Reads values from `raw`; references only where `foreign` says what they stand for."""

    def __init__(self, raw: bytes, foreign: Callable[[int], Any] | None = None) -> None:
        self.raw = raw
        self.at = 0
        self.foreign = foreign
        self.room = _ROOM + _ROOM_A_BYTE * len(raw)

    def value(self, depth: int = 0) -> Any:
        """The next value. Raises WireError."""
        if depth > MAX_DEPTH:
            raise WireError(f"nested deeper than {MAX_DEPTH}")
        tag = self._take(1)
        if tag in _HEAVY:
            self.room -= _HEAVY[tag]
            if self.room < 0:
                raise WireError("containers that take far more memory than they are long")
        if tag == b"N":
            return None
        if tag == b"T":
            return True
        if tag == b"F":
            return False
        if tag == b"i":
            return int.from_bytes(self._sized(), "little", signed=True)
        if tag == b"f":
            return _F64.unpack(self._take(8))[0]
        if tag == b"s":
            return self._text()
        if tag == b"l":
            return self._items(depth)
        if tag == b"t":
            return tuple(self._items(depth))
        if tag in (b"d", b"C", b"D", b"O"):
            return self._mapping(tag, depth)
        if tag == b"S":
            return self._set(depth)
        if tag == b"Z":
            return frozenset(self._set(depth))
        if tag == b"b":
            return self._sized()
        if tag == b"y":
            return bytearray(self._sized())
        if tag == b"c":
            return complex(_F64.unpack(self._take(8))[0], _F64.unpack(self._take(8))[0])
        if tag == b"q":
            return deque(self._items(depth))
        if tag == b"r":
            parts = self._items(depth)
            if len(parts) != 3 or any(type(p) is not int for p in parts) or parts[2] == 0:
                raise WireError("a broken range")
            return range(*parts)
        if tag == b"x":
            name = self._text()
            if name not in _CLASSES:
                raise WireError("an unknown class")
            return _CLASSES[name]
        if tag == b"R" and self.foreign is not None:
            return self.foreign(_U32.unpack(self._take(4))[0])
        raise WireError(f"unknown tag {tag!r}")

    def _take(self, n: int) -> bytes:
        piece = self.raw[self.at : self.at + n]
        if len(piece) != n:
            raise WireError("cut short")
        self.at += n
        return piece

    def _count(self) -> int:
        return _U32.unpack(self._take(4))[0]

    def _sized(self) -> bytes:
        return self._take(self._count())

    def _text(self) -> str:
        try:
            return self._sized().decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise WireError("text that is not UTF-8") from None

    def _items(self, depth: int) -> list[Any]:
        n = self._count()
        if n > len(self.raw) - self.at:  # every item takes a byte at least
            raise WireError("cut short")
        return [self.value(depth + 1) for _ in range(n)]

    def _set(self, depth: int) -> set[Any]:
        """A set in the order it was sent in, as near as that can be had: some programs let that order be seen."""
        items = self._hashable(self._items(depth))
        for order in (items, items[::-1]):
            built = set(order)
            for candidate in (built, set(built)):  # a copy has a table of another size, the one that literals get
                if list(candidate) == items:
                    return candidate
        return set(items)

    def _mapping(self, tag: bytes, depth: int) -> dict[Any, Any]:
        n = self._count()
        if 2 * n > len(self.raw) - self.at:
            raise WireError("cut short")
        pairs = [(self.value(depth + 1), self.value(depth + 1)) for _ in range(n)]
        self._hashable([key for key, _ in pairs])
        if tag == b"C":
            counter: Counter[Any] = Counter()
            for key, item in pairs:
                dict.__setitem__(counter, key, item)
            return counter
        if tag == b"D":
            return defaultdict(None, pairs)
        return OrderedDict(pairs) if tag == b"O" else dict(pairs)

    @staticmethod
    def _hashable(items: list[Any]) -> list[Any]:
        try:
            hashes = Counter(map(hash, items))
        except TypeError:
            raise WireError("an unhashable key") from None
        if len(items) > _MAX_COLLISIONS and max(hashes.values()) > _MAX_COLLISIONS:
            raise WireError("keys made to collide")
        return items


def encode(value: Any, cap: int = MAX_FRAME, foreign: Callable[[Any], int] | None = None) -> bytes:
    """The bytes of one value. Raises TooLarge beyond `cap` bytes, WireError for other types or deep nesting."""
    encoder = Encoder(cap, foreign)
    encoder.value(value)
    if len(encoder.out) > cap:
        raise TooLarge(f"the value takes more than {cap} bytes")
    return bytes(encoder.out)


def decode(raw: bytes, foreign: Callable[[int], Any] | None = None) -> Any:
    """The one value that `raw` is. Raises WireError for anything else."""
    decoder = Decoder(raw, foreign)
    value = decoder.value()
    if decoder.at != len(raw):
        raise WireError("bytes left over")
    return value


def frame(payload: bytes) -> bytes:
    """`payload` with its length before it."""
    return _U32.pack(len(payload)) + payload


def frame_size(raw: bytes | bytearray, at: int) -> int:
    """How many bytes the frame that begins at `at` says it has; 0 if it does not say yet."""
    return _U32.unpack_from(raw, at)[0] if at + FRAME_HEAD <= len(raw) else 0


def frame_end(raw: bytes | bytearray, at: int) -> int | None:
    """Where the whole frame that begins at `at` ends, None if it is not all there."""
    if at + FRAME_HEAD > len(raw):
        return None
    end = at + FRAME_HEAD + _U32.unpack_from(raw, at)[0]
    return end if end <= len(raw) else None


def frames(raw: bytes) -> list[bytes]:
    """The whole frames at the beginning of `raw`; what is cut short is left out."""
    found, at = [], 0
    while (end := frame_end(raw, at)) is not None:
        found.append(raw[at + FRAME_HEAD : end])
        at = end
    return found


def read_exactly(fd: int, n: int) -> bytes:
    """`n` bytes from a pipe. Raises EOFError where it ends before."""
    parts = []
    while n:
        part = os.read(fd, min(n, 1 << 20))
        if not part:
            raise EOFError("the other end is gone")
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def read_frame(fd: int, cap: int = MAX_FRAME) -> bytes:
    """One frame from a pipe. Raises EOFError, or TooLarge where it says it is longer than `cap`."""
    (n,) = _U32.unpack(read_exactly(fd, 4))
    if n > cap:
        raise TooLarge(f"a frame of {n} bytes")
    return read_exactly(fd, n)


def write_frame(fd: int, payload: bytes) -> None:
    """One frame to a pipe. Raises OSError."""
    view = memoryview(frame(payload))
    while view:
        view = view[os.write(fd, view) :]


def builtin_exception(cls: type[BaseException]) -> str:
    """Name of the nearest built-in class that `cls` is or comes from."""
    for base in cls.__mro__:
        if base.__module__ == "builtins" and getattr(builtins, base.__name__, None) is base:
            return base.__name__
    return "Exception"
