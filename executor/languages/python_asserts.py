"""Asserts that are nothing but calls of the program compared with constants, as most of MBPP's and many others are: read into calls and conditions.

Such a test needs no process of its own: the calls are made in the program's, and the condition is evaluated here, on plain values. Pure.
Invariants: what a condition may do is on a list, and nothing on it runs a method of the program, loops or grows beyond its operands; any other
test code is left to a process of its own (None).
"""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

from executor.languages.python_tests import PARSING

_ANSWER = "_answer_"
_MAX_COLLISIONS = 64
_LONGEST_RANGE = 1_000_000


def _hashed(make: Callable[[Any], Any]) -> Callable[..., Any]:
    """`make` (set or frozenset) for items of an answer, unless they were made to collide, which would take for ever."""

    def made(items: Any = ()) -> Any:
        crowded = {number for number, count in Counter(map(hash, items)).items() if count > _MAX_COLLISIONS}
        if crowded and len({repr(i) for i in items if hash(i) in crowded}) > _MAX_COLLISIONS * len(crowded):
            raise ValueError("items made to collide")
        return make(items)

    return made


def _bounded(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make` for operands whose items are there already: a range holds as many as it likes in no space."""

    def made(*operands: Any, **named: Any) -> Any:
        if any(type(operand) is range and len(operand) > _LONGEST_RANGE for operand in operands):
            raise ValueError("a range too long")
        return make(*operands, **named)

    return made


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "bool": bool,
    "float": float,
    "frozenset": _bounded(_hashed(frozenset)),
    "int": int,
    "len": len,
    "list": _bounded(list),
    "max": _bounded(max),
    "min": _bounded(min),
    "round": round,
    "set": _bounded(_hashed(set)),
    "sorted": _bounded(sorted),
    "str": str,
    "tuple": _bounded(tuple),
}
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Is, ast.IsNot, ast.In, ast.NotIn)


@dataclass(frozen=True)
class Call:
    """A call of one of the program's functions with constants."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Assertion:
    """Calls, in order, and the condition that their answers have to meet."""

    calls: tuple[Call, ...]
    condition: CodeType
    message: str
    line: int
    """Of the test's code."""

    def holds(self, answers: list[Any]) -> bool:
        """Whether the condition is true of the calls' answers, which are plain values; one that cannot be evaluated is not."""
        names: dict[str, Any] = {f"{_ANSWER}{i}": answer for i, answer in enumerate(answers)}
        try:
            return bool(eval(self.condition, {"__builtins__": {}, "math": _Math, **_FUNCTIONS}, names))
        except (TypeError, ValueError, OverflowError, KeyError, AttributeError, ZeroDivisionError):
            return False


class _Math:
    isclose = staticmethod(math.isclose)


def read(code: str, functions: frozenset[str]) -> tuple[Assertion, ...] | None:
    """The assertions of a test that is made of nothing else, where all calls are of `functions`; None for any other."""
    with PARSING:
        return _read(code, functions)


@lru_cache(maxsize=4096)
def _read(code: str, functions: frozenset[str]) -> tuple[Assertion, ...] | None:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return None
    assertions = []
    for statement in tree.body:
        if not isinstance(statement, ast.Assert):
            return None
        if statement.msg is not None and not isinstance(statement.msg, ast.Constant):
            return None
        reader = _Reader(functions)
        condition = reader.visit(statement.test)
        if condition is None or not reader.calls:
            return None
        expression = ast.fix_missing_locations(ast.Expression(condition))
        message = str(statement.msg.value) if isinstance(statement.msg, ast.Constant) else ""
        assertions.append(
            Assertion(tuple(reader.calls), compile(expression, "<test>", "eval"), message, statement.lineno)
        )
    return tuple(assertions) or None


class _Reader:
    """Copies an expression with calls of the program replaced by names, as far as all of it is on the list."""

    def __init__(self, functions: frozenset[str]) -> None:
        self._functions = functions
        self.calls: list[Call] = []

    def visit(self, node: ast.expr) -> ast.expr | None:
        """The copy, None where something is not on the list."""
        if (constant := _constant(node)) is not None:
            return node if constant else None
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Compare) and all(isinstance(operator, _COMPARISONS) for operator in node.ops):
            parts = self._all([node.left, *node.comparators])
            return None if parts is None else ast.Compare(parts[0], node.ops, parts[1:])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            operand = self.visit(node.operand)
            return None if operand is None else ast.UnaryOp(node.op, operand)
        if isinstance(node, ast.List | ast.Tuple):
            parts = self._all(node.elts)
            return None if parts is None else type(node)(parts, ast.Load())
        return None

    def _all(self, nodes: list[ast.expr]) -> list[ast.expr] | None:
        parts = [self.visit(node) for node in nodes]
        return None if None in parts else [part for part in parts if part is not None]

    def _call(self, node: ast.Call) -> ast.expr | None:
        if isinstance(node.func, ast.Name) and node.func.id in self._functions:
            return self._program_call(node, node.func.id)
        close = isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "math.isclose"
        if not close and not (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS):
            return None
        parts = self._all(node.args)
        named = [(k.arg, self.visit(k.value)) for k in node.keywords]
        if parts is None or any(name is None or value is None or name == "key" for name, value in named):
            return None
        keywords = [ast.keyword(name, value) for name, value in named if value is not None]
        return ast.Call(node.func, parts, keywords)

    def _program_call(self, node: ast.Call, name: str) -> ast.expr | None:
        try:
            args = tuple(_evaluated(arg) for arg in node.args)
            kwargs = {keyword.arg: _evaluated(keyword.value) for keyword in node.keywords}
        except (ValueError, TypeError, SyntaxError, RecursionError):
            return None
        if None in kwargs:  # **something
            return None
        self.calls.append(Call(name, args, {str(key): value for key, value in kwargs.items()}))
        return ast.Name(f"{_ANSWER}{len(self.calls) - 1}", ast.Load())


def _evaluated(node: ast.expr) -> Any:
    """A constant as the interpreter makes it: literal_eval would build a set in another order, which some programs let be seen."""
    ast.literal_eval(node)
    return eval(compile(ast.Expression(node), "<test>", "eval"), {"__builtins__": {}, "set": set})


def _constant(node: ast.expr) -> bool | None:
    """Whether the node is a constant that can be evaluated; None if it is no constant at all."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return True
