"""What a piece of trusted Python test code needs from the program. Pure.

Invariants: a name that the test code binds itself, a builtin or a module of the standard library never comes from the
program, so a program cannot replace `set`, `sorted` or `math.isclose` under a test; the entry point always does,
unless the test code rebinds it.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import sys
import textwrap
import threading
from dataclasses import dataclass
from functools import lru_cache

from executor.languages.base import BrokenTest, TestAssertion
from executor.showing import written

_ENTRY = re.compile(r"\s*([^\W\d]\w*)(\(\)\.[^\W\d]\w*)?\s*\Z")


@dataclass(frozen=True)
class TestPlan:
    """The code to run, the modules to import for it, the program's names that it uses, and the entry point's name."""

    __test__ = False  # not a pytest class

    code: str
    modules: tuple[str, ...]
    names: tuple[str, ...]
    entry_point: str | None


# The parser of Python 3.11 counts its recursion in one place for all threads, and fails where two of them parse at once.
PARSING = threading.RLock()


def plan(code: str, entry_point: str | None) -> TestPlan:
    """Read test code, from any thread. A `check` that is defined and never called is called with the entry point. Raises BrokenTest."""
    with PARSING:
        return _plan(code, entry_point)


@lru_cache(maxsize=4096)
def _plan(code: str, entry_point: str | None) -> TestPlan:
    base = None
    if entry_point is not None:
        match = _ENTRY.match(entry_point)
        if match is None:
            raise BrokenTest(f"the entry point {entry_point!r} is neither a name nor Class().method")
        base = match.group(1)
    try:
        tree = ast.parse(code)
        if entry_point is not None and _defines_check(tree) and not _calls_check(tree):
            code = f"{code}\n\ncheck({entry_point})\n"
            tree = ast.parse(code)
        wanted = _free_names(symtable.symtable(code, "<test>", "exec"))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise BrokenTest(f"the test code does not compile: {error}") from None
    if "candidate" in wanted and entry_point is not None:
        code = f"candidate = {entry_point}\n{code}" if base != "candidate" else code
        wanted.discard("candidate")
    prefixes = {
        node.value.id for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    modules = sorted(name for name in wanted if name != base and name in prefixes and name in sys.stdlib_module_names)
    names = sorted(name for name in wanted if name != base and name not in modules and not hasattr(builtins, name))
    if base is None and not names:
        base = _called_builtin(tree)
    return TestPlan(code, tuple(modules), tuple(names), base)


def assertions(code: str) -> tuple[TestAssertion, ...]:
    """The assertions of test code, in order; none of code that does not compile."""
    found = _by_line(code)
    return tuple(dict.fromkeys(found[line] for line in sorted(found)))


def assertion_at(code: str, line: int | None) -> TestAssertion | None:
    """The assertion of test code, as a plan has it, that is at this line; None where there is none."""
    return None if line is None else _by_line(code).get(line)


def _by_line(code: str) -> dict[int, TestAssertion]:
    with PARSING:
        return _read_assertions(code)


@lru_cache(maxsize=4096)
def _read_assertions(code: str) -> dict[int, TestAssertion]:
    """By each of their lines."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    found = {}
    lines = code.splitlines()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            last = node.end_lineno or node.lineno
            text = textwrap.dedent("\n".join(lines[node.lineno - 1 : last]))
            found.update(dict.fromkeys(range(node.lineno, last + 1), TestAssertion(text, _expected(node.test))))
    return found


def _expected(condition: ast.expr) -> str | None:
    """`6` in `f(1, 2) == 6`; None for a condition of another form."""
    if not (isinstance(condition, ast.Compare) and len(condition.ops) == 1 and isinstance(condition.ops[0], ast.Eq)):
        return None
    call = condition.left
    if not isinstance(call, ast.Call) or (isinstance(call.func, ast.Name) and hasattr(builtins, call.func.id)):
        return None
    try:
        return written(ast.literal_eval(condition.comparators[0]))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _called_builtin(tree: ast.Module) -> str | None:
    """`sum` in `assert sum(10, 15) == 6`: the program's function, if the test calls no other."""
    for statement in tree.body:
        if isinstance(statement, ast.Assert):
            test = statement.test.left if isinstance(statement.test, ast.Compare) else statement.test
            if isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and hasattr(builtins, test.func.id):
                return test.func.id
    return None


def _defines_check(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in tree.body)


def _calls_check(tree: ast.Module) -> bool:
    outside = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return any(
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "check"
        for node in outside
        for call in ast.walk(node)
    )


def _free_names(table: symtable.SymbolTable) -> set[str]:
    """Names that the code reads and never binds at its top level."""
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    read = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
    rest = list(table.get_children())
    while rest:
        inner = rest.pop()
        rest.extend(inner.get_children())
        read |= {s.get_name() for s in inner.get_symbols() if s.is_global() and s.is_referenced()}
        bound |= {s.get_name() for s in inner.get_symbols() if s.is_declared_global() and s.is_assigned()}
    return {name for name in read - bound if not (name.startswith("__") and name.endswith("__"))}
