"""Test code as the cases it is made of, so that some can stand alone and the rest stay together. Pure; nothing is run.

Two forms are read: asserts one after another, at the top level or in `check(candidate)`, and EvalPlus's, a loop over the
lists `inputs` and `results`, or over `inputs` alone where a `ref_func` in the test computes what is expected.
Invariants: a case that stands alone judges as it does in the test (but for NumPy's stretching of a list of one float to the
length of another), and shows nothing of a `ref_func`, which is a solution; cases and the code without them make up the test;
code in neither form has no cases.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

_LONGEST = 500  # characters of the arguments or the answer of a case that is written out: it is there to be shown
_FLOAT_TOLERANCE = 1e-6  # EvalPlus's own, where a test gives none
_ANSWER = re.compile(r"\s*(?:==|=>|->|=|➞|➔|returns|should return)?\s*([^\n]*)")


@dataclass(frozen=True)
class _Edit:
    start: int
    end: int
    text: bytes = b""


class CodeCases:
    """The cases of some test code, in its order."""

    def __init__(self, code: str, entry_point: str) -> None:
        self.arguments: list[str] = []
        """What each case calls the function with: equal arguments are equal texts, and a tuple is as good as a list."""
        self._code = code.encode("utf-8", "surrogatepass")
        self._edits: list[list[_Edit]] = []  # what takes a case away
        self._write: Callable[[int], str] = lambda _: ""
        self._entry_point = entry_point
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return
        self._line_starts = [0, *(match.end() for match in re.finditer(rb"\n", self._code))]
        check = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "check"), None)
        body = check.body if check else tree.body
        inputs, results = _list(body, "inputs"), _list(body, "results")
        if inputs is None:
            self._read_asserts(body)
        elif results is None or len(results) == len(inputs):
            self._read_lists(tree, body, inputs, results)

    def alone(self, number: int) -> str:
        """A case as a test of its own; empty where it cannot be one, or is too long to be shown."""
        return self._write(number)

    def without(self, taken: Collection[int]) -> str:
        """The code without these cases, which must not be all of them."""
        code, until = bytearray(), 0
        for edit in sorted((e for i in taken for e in self._edits[i]), key=lambda e: (e.start, e.end)):
            if edit.end > until:
                code += self._code[until : edit.start] + edit.text  # nothing where edits of neighbours meet
                until = edit.end
        return (code + self._code[until:]).decode("utf-8", "surrogatepass")

    def _read_asserts(self, body: list[ast.stmt]) -> None:
        names = {"candidate", self._entry_point}
        written: list[str] = []
        for node in body:
            called = [n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in names]
            calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and n.func in called and not n.keywords]
            if not isinstance(node, ast.Assert) or not calls:
                continue
            if all(name in names or hasattr(builtins, name) for name in _loaded(node)):
                self.arguments.append(key(calls[0].args))
                self._edits.append([_Edit(*self._span(node), b"pass")])
                for name in called:
                    name.id = self._entry_point
                written.append(ast.unparse(node))
        self._write = lambda number: written[number] if len(written[number]) <= _LONGEST else ""

    def _read_lists(
        self, tree: ast.Module, body: list[ast.stmt], inputs: list[ast.expr], results: list[ast.expr] | None
    ) -> None:
        tolerance = _tolerance(tree, body)
        solves = any(isinstance(node, ast.FunctionDef) and node.name == "ref_func" for node in tree.body)
        lists = [inputs] if results is None else [inputs, results]
        self._edits = [[self._cut(items, i) for items in lists] for i in range(len(inputs))]
        self.arguments = [_plain(self._text(arguments)) for arguments in inputs]

        def write(number: int) -> str:
            arguments, code = inputs[number], ""
            if solves or any(len(self._text(items[number])) > _LONGEST for items in lists):
                return ""
            if (
                results
                and tolerance is not None
                and isinstance(arguments, ast.List | ast.Tuple)
                and _is_plain(arguments)
            ):
                call = f"{self._entry_point}({', '.join(map(self._text, arguments.elts))})"
                code = _assertion(call, results[number], self._text(results[number]), tolerance)
            return code or self.without([i for i in range(len(inputs)) if i != number])

        self._write = write

    def _span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return (
            self._line_starts[node.lineno - 1] + node.col_offset,
            self._line_starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def _text(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self._code[start:end].decode("utf-8", "surrogatepass")

    def _cut(self, items: list[ast.expr], number: int) -> _Edit:
        """Takes an item out of a list, with the comma after it, or before it if it is the last."""
        start, end = self._span(items[number])
        if number + 1 < len(items):
            return _Edit(start, self._span(items[number + 1])[0])
        return _Edit(self._span(items[number - 1])[1] if number else start, end)


def key(arguments: list[ast.expr]) -> str:
    """Arguments of a call, written as in `CodeCases.arguments`."""
    return _plain(f"[{', '.join(map(ast.unparse, arguments))}]")


def shown_calls(text: str, entry_point: str) -> dict[str, str]:
    """The calls of a function with plain arguments that a text shows, each as an assert of its answer, empty where that is
    unclear.
    """
    found: dict[str, str] = {}
    for match in re.finditer(rf"(?<!def )\b{re.escape(entry_point)}\(", text):
        for closing in re.finditer(r"\)", text[match.start() : match.start() + _LONGEST]):
            end = match.start() + closing.end()
            call = _parsed(text[match.start() : end])
            if isinstance(call, ast.Call):
                if not call.keywords and all(_is_plain(argument) for argument in call.args):
                    found.setdefault(key(call.args), _answered(ast.unparse(call), text[end:]))
                break
    return found


def _answered(call: str, rest: str) -> str:
    line = _ANSWER.match(rest)
    answer = line.group(1).strip().removesuffix(".") if line else ""
    parsed = _parsed(answer)
    return f"assert {call} == {answer}" if parsed is not None and _is_plain(parsed) else ""


def _list(body: list[ast.stmt], name: str) -> list[ast.expr] | None:
    """The items of the list that is given this name."""
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List) and ast.unparse(node.targets[0]) == name:
            return node.value.elts
    return None


def _plain(written: str) -> str:
    return re.sub(r",\s+", ",", written).translate({ord("("): "[", ord(")"): "]"}).replace(",]", "]")


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_plain(node: ast.expr) -> bool:
    return _value(node) is not _value


def _value(node: ast.expr) -> object:
    """The value of a literal; this function for anything else, as None is a value."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return _value


def _loaded(node: ast.AST) -> Iterator[str]:
    return (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))


def _tolerance(tree: ast.Module, body: list[ast.stmt]) -> float | None:
    """The tolerance of EvalPlus's usual comparison; None where a test compares in a way of its own."""
    usual = any(
        isinstance(node, ast.FunctionDef)
        and node.name == "assertion"
        and ast.unparse(node.body[0]) == "exact_match = out == exp"
        for node in tree.body
    )
    loop = next((node for node in body if isinstance(node, ast.For)), None)
    step = loop.body[0] if loop else None
    if not usual or not isinstance(step, ast.Expr) or not isinstance(step.value, ast.Call):
        return None
    arguments = step.value.args
    tolerance = _value(arguments[2]) if len(arguments) == 3 else None
    return float(tolerance) if isinstance(tolerance, int | float) else None


def _assertion(call: str, result: ast.expr, written: str, tolerance: float) -> str:
    """EvalPlus's comparison of one call in one line, empty where that would take more: equal, or for floats close."""
    value = _value(result)
    if value is _value or value in ([], ()):
        return ""
    items = value if isinstance(value, list | tuple) else [value]
    if tolerance == 0 and not all(isinstance(item, float) for item in items):
        return f"assert {call} == {written}"
    if not all(isinstance(item, int | float) for item in items):
        return f"assert {call} == {written}" if isinstance(value, str) else ""
    near = f"{tolerance or _FLOAT_TOLERANCE} + 1e-07"
    if value is items:
        return f"assert all(abs(a - b) <= {near} * abs(b) for a, b in zip({call}, {written}, strict=True))"
    return f"assert abs({call} - {written}) <= {near} * abs({written})"
