"""Calls between two sandboxed processes: the tester, which holds the test code, and the solution, which holds the
program.

Invariants: only values (languages/wire.py) and numbers of references cross; an object of the program stays in the
solution's process and the tester holds a Remote for it, whose equality is identity, so that no operator of a program
ever meets an expected value, be it in `f(x) == 2`, `abs(f(x) - 2) < 1e-6` or `2 in f(x)`; a container that the program
changes in place is changed in the tester too. Both sides
may call the other while they wait for an answer (a test may hand over a function), and answers come in the order of a
stack. Runs inside sandboxes: imports nothing of ours but wire, which the runner puts beside it.
"""

from __future__ import annotations

import builtins
import operator
from collections import deque
from typing import Any

import wire  # type: ignore[import-not-found]  # put there by the runner

PROGRAM = "<program>"  # the file name under which programs are compiled
TEST_MODULE = "__test__"
_MOST_REFERENCES = 100_000  # that one side may make the other hold
_OUTERMOST, _INNERMOST = 3, 5  # frames of a stack that are told

# What a test may do to an object of the program, besides calling it and reading its attributes.
_OPERATIONS = {
    "iter": iter,
    "next": next,
    "len": len,
    "str": str,
    "repr": repr,
    "getitem": operator.getitem,
    "setitem": operator.setitem,
    "delitem": operator.delitem,
    "isinstance": lambda cls, instance: isinstance(instance, cls),
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
}


class PeerLost(BaseException):
    """The other process is gone or spoke nonsense; not to be caught by test code's `except Exception`."""


class Ended(BaseException):
    """The program ended itself in a call (SystemExit and the like)."""


class Peer:
    """One end. `local` objects are handed out by number; `remote` ones stand for the other side's."""

    def __init__(self, fd_in: int, fd_out: int, names: dict[str, Any] | None, cap: int) -> None:
        self.fd_in, self.fd_out, self.cap = fd_in, fd_out, cap
        self.names = names  # the program's; None in the tester
        self.local: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.remote: dict[int, Remote] = {}
        self.error: BaseException | None = None  # the last one the other side raised, as it was raised here
        self.last: tuple[Any, ...] | None = None  # the last call that came back, for feedback
        # The same as it was told: class, built-in class, message, line, column, frames.
        self.shown: tuple[Any, ...] | None = None

    # Numbers: even for objects of the sender, odd for those of the receiver.
    def _number(self, value: Any) -> int:
        if type(value) is Remote and value._peer is self:
            return value._number * 2 + 1
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.local)
            self.local.append(value)
        return number * 2

    def _object(self, number: int) -> Any:
        if number % 2:
            index = number // 2
            if index >= len(self.local):
                raise wire.WireError("an unknown reference")
            return self.local[index]
        if number not in self.remote:
            if len(self.remote) >= _MOST_REFERENCES:
                raise wire.WireError("too many references")
            self.remote[number] = Remote(self, number // 2)
        return self.remote[number]

    def _send(self, message: Any) -> None:
        payload = wire.encode(message, self.cap, self._number)
        try:
            wire.write_frame(self.fd_out, payload)
        except OSError as error:
            raise PeerLost(str(error)) from None

    def _receive(self) -> Any:
        try:
            message = wire.decode(wire.read_frame(self.fd_in, self.cap), self._object)
        except (EOFError, OSError, wire.WireError, RecursionError) as error:
            raise PeerLost(str(error)) from None
        if type(message) is not tuple or not message or type(message[0]) is not str:
            raise PeerLost("no message")
        return message

    def ask(self, *message: Any) -> Any:
        """Send one request and serve the other side until its answer comes. Raises what the other side raised."""
        self._send(message)
        while True:
            answer = self._receive()
            if answer[0] == "value" and len(answer) == 3:
                return answer[1:]
            if answer[0] == "raised" and len(answer) == 7 and all(type(a) is str for a in answer[1:4]):
                self._raise(*answer[1:])
            self._serve(answer)

    def _raise(self, name: str, base: str, message: str, *place: Any) -> None:
        cls = getattr(builtins, base, None)
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            cls = Exception
        self.shown = (name, base, message, *place)
        if not issubclass(cls, Exception) or cls in (StopIteration, StopAsyncIteration):
            error: BaseException = Ended(f"{name}: {message}") if not issubclass(cls, Exception) else cls()
        else:
            try:
                error = cls(message)
            except TypeError:  # UnicodeDecodeError and the like want more
                error = Exception(f"{name}: {message}")
        self.error = error
        raise error

    def serve_forever(self) -> None:
        """Answer until the other side is gone."""
        while True:
            try:
                message = self._receive()
            except PeerLost:
                return
            self._serve(message)

    def _serve(self, message: tuple[Any, ...]) -> None:
        try:
            answer = ("value", *self._handle(message))
            payload = wire.encode(answer, self.cap, self._number)
        except PeerLost:
            raise
        except BaseException as error:
            payload = wire.encode(("raised", *named(error), *where(error)))
        try:
            wire.write_frame(self.fd_out, payload)
        except OSError as error:
            raise PeerLost(str(error)) from None

    def _handle(self, message: tuple[Any, ...]) -> tuple[Any, Any]:
        if message[0] == "names" and self.names is not None:
            return {name: self.names[name] for name in message[1] if name in self.names}, None
        if message[0] == "call":
            _, target, args, kwargs = message
            if self.names is None and not any(target is mine for mine in self.local):
                raise PeerLost("a call of nothing that was handed over")
            places = {**dict(enumerate(args)), **kwargs}
            before = {place: wire.encode(a, self.cap, self._number) for place, a in places.items()}
            value = target(*args, **kwargs)
            changed = {
                place: a for place, a in places.items() if wire.encode(a, self.cap, self._number) != before[place]
            }
            return value, changed or None
        if message[0] in ("getattr", "setattr") and type(message[2]) is str:
            if self.names is None and (type(message[1]).__module__ != TEST_MODULE or message[2].startswith("_")):
                raise PeerLost("a look into the tester")
            if message[0] == "getattr":
                return getattr(message[1], message[2]), None
            return setattr(message[1], message[2], message[3]), None
        if message[0] == "operate" and self.names is not None:
            return _OPERATIONS[message[1]](*message[2:]), None
        raise ValueError("an unknown request")

    def call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an object of the other side; in-place changes of the arguments are carried back."""
        self.last = (target, args, kwargs)
        value, changed = self.ask("call", target, args, kwargs)
        self.last = (target, args, kwargs, value)
        if type(changed) is dict:
            places = {**dict(enumerate(args)), **kwargs}
            for place, new in changed.items():
                if place in places:
                    assimilate(places[place], new)
        return value


class Remote:
    """An object of the other side. Opaque: equal to itself alone; what is read from it are values, or Remotes again.

    Arithmetic is between Remotes only: with a value of the test as its operand, the program would see what is expected.
    """

    __slots__ = ("_number", "_peer")
    _number: int
    _peer: Peer

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._peer.call(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self._peer.ask("getattr", self, name)[0]

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer.ask("setattr", self, name, value)

    def _operate(self, name: str, *rest: Any) -> Any:
        return self._peer.ask("operate", name, self, *rest)[0]

    def __iter__(self) -> Any:
        return self._operate("iter")

    def __next__(self) -> Any:
        return self._operate("next")

    def __len__(self) -> int:
        return self._operate("len")

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return self._operate("str")

    def __repr__(self) -> str:
        return self._operate("repr")

    def __getitem__(self, key: Any) -> Any:
        return self._operate("getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._operate("setitem", key, value)

    def __delitem__(self, key: Any) -> None:
        self._operate("delitem", key)

    def __contains__(self, key: Any) -> bool:
        return any(item is key or item == key for item in self)

    def __add__(self, other: Any) -> Any:
        return self._operate("add", other) if type(other) is Remote else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return self._operate("sub", other) if type(other) is Remote else NotImplemented

    def __mul__(self, other: Any) -> Any:
        return self._operate("mul", other) if type(other) is Remote else NotImplemented

    def __instancecheck__(self, instance: Any) -> bool:
        return type(instance) is Remote and self._operate("isinstance", instance) is True


def assimilate(old: Any, new: Any) -> None:
    """Make the container `old` hold what `new` holds, in place, and so for the containers in it."""
    if type(old) is not type(new):
        return
    if type(old) in (list, deque, bytearray):
        for i in range(min(len(old), len(new))):
            if type(old[i]) is type(new[i]) and type(old[i]) in (list, dict, set, bytearray, deque):
                assimilate(old[i], new[i])
            else:
                old[i] = new[i]
        while len(old) > len(new):
            old.pop()
        for i in range(len(old), len(new)):
            old.append(new[i])
    elif (isinstance(old, dict) and type(old).__module__ in ("builtins", "collections")) or type(old) is set:
        old.clear()
        old.update(new)


def named(error: BaseException) -> tuple[str, str, str]:
    """Class name, nearest built-in class and message of an exception of the program, whatever its `__str__` does."""
    cls = type(error)
    try:
        message = str(error)
    except BaseException:
        message = ""
    if type(message) is not str:
        message = ""
    return str(cls.__name__)[:100], wire.builtin_exception(cls), message[:2000]


def where(error: BaseException) -> tuple[int | None, int | None, tuple[tuple[int, str, int], ...]]:
    """Where in the program's own source it was raised: 1-based line and column of the deepest frame, None where there is none, and the frames,
    innermost last: line, name of the function, number of frames before it that are not told.
    """
    outermost: list[Any] = []
    innermost: deque[Any] = deque(maxlen=_INNERMOST)
    number = 0
    tb = error.__traceback__
    while tb is not None:
        if tb.tb_frame.f_code.co_filename == PROGRAM:
            number += 1
            (outermost if number <= _OUTERMOST else innermost).append(tb)
        tb = tb.tb_next
    told = [*outermost, *innermost]
    if not told:
        return None, None, ()
    # A name may be of a class of the program's own, a line may be unknown.
    frames = [(tb.tb_lineno or 0, str.__getitem__(tb.tb_frame.f_code.co_name, slice(100)), 0) for tb in told]
    if number > len(told):
        line, name, _ = frames[_OUTERMOST]
        frames[_OUTERMOST] = line, name, number - len(told)
    column = None
    for i, span in enumerate(told[-1].tb_frame.f_code.co_positions()):
        if 2 * i == told[-1].tb_lasti:
            column = None if span[2] is None else span[2] + 1
            break
    return told[-1].tb_lineno, column, tuple(frames)
