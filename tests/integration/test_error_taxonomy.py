"""The error taxonomy by real programs: what the executor finds out of a program ends on the right tokens of the response.

Every row is a program that is judged; its line at fault is marked by «these»; no mark and WHOLE is the whole program, no mark
and IGNORE nothing. Where Pythons differ, a row has one such line for each version from which on it is so. The response has text and a fence around
the program, and two kinds of tokenizers cut it up.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tokenizing import KINDS, encoded, response_with, trained

from actors.error_spans import Blame
from actors.prompts import extract_program
from actors.rewards import rltf
from actors.rewards.base import TurnContext
from actors.token_offsets import token_offsets
from executor.judging import Judge, JudgeRequest
from executor.problem import Problem, StdioTest
from executor.settings import ExecutorSettings
from executor.verdict import Outcome

LINE, WHOLE, IGNORE = Blame.LINE, Blame.WHOLE, Blame.IGNORE
E, S, PASS = Outcome.ERROR, Outcome.SYNTAX_ERROR, Outcome.PASS
Row = tuple[Outcome, Blame, bool, str]
DEEP = (
    "import functools, sys\nsys.setrecursionlimit(10**6)\n@functools.cache\n"
    "def f(n): return n and 1 + f(n - 1)\nprint(f(20000) // 4000)"
)

# Outcome, blame, whether the response was cut off at its length limit, program; or such by the Python from which on it is so.
ROWS: dict[str, Row | dict[tuple[int, int], Row]] = {
    "IndexError": (E, LINE, False, "a = [1]\nn = 5\n«print(a[n])»\n"),
    "KeyError": (E, LINE, False, "d = {}\nfor k in 'ab':\n    «d[k] += 1»\n"),
    "NameError": (E, LINE, False, "x = 1\n«print(y)»"),
    "TypeError": (E, LINE, False, "«n = input() + 1»\nprint(n)"),
    "ValueError": (E, LINE, False, "input()\n«print(int('x'))»"),
    "AttributeError": (E, LINE, False, "x = []\n«x.push(1)»"),
    "ZeroDivisionError in a function": (E, LINE, False, "def f(n):\n    «return 1 // n»\nf(0)"),
    "UnboundLocalError": (E, LINE, False, "def f():\n    «x += 1»\n    x = 0\nf()"),
    "EOFError": (E, LINE, False, "input()\n«b = input()»\nprint(b)"),
    "ModuleNotFoundError": (E, LINE, False, "import os\n«import nothing_of_that_name»\n"),
    "ImportError": (E, LINE, False, "«from math import nothing»\nprint(1)"),
    "OverflowError": (E, LINE, False, "import math\n«math.exp(1000)»"),
    "AssertionError": (E, LINE, False, "x = 1\n«assert x == 2, 'no'»"),
    "StopIteration": (E, LINE, False, "«next(iter([]))»"),
    "RuntimeError": (E, LINE, False, "d = {1: 1}\n«for k in d:»\n    d[k + 1] = 0"),
    "an exception of the program's own": (E, LINE, False, "class Bad(Exception): pass\n«raise Bad('x')»"),
    "UnicodeEncodeError": (E, LINE, False, "«print('\\ud800'.encode())»"),
    "the deepest line of the program, below the library's": (E, LINE, False, "import re\n«re.compile('(')»\n"),
    "a line that is there twice": (E, LINE, False, "x = 1\ny = 1 // x\nx = 0\n«y = 1 // x»\nprint(y)"),
    "a decorated function": (
        E,
        LINE,
        False,
        "import functools\n@functools.cache\ndef f(n):\n    «return [][n]»\nprint(f(1))",
    ),
    "a statement of several lines": (E, LINE, False, "x = 0\ny = [\n    1,\n    «2 // x,»\n]"),
    "an expression of several lines": (E, LINE, False, "x = (\n    ''\n    .strip()\n    «.nothing()»\n)"),
    "a condition of several lines": (E, LINE, False, "x = 1\nassert (\n    «x ==»\n    2\n)"),
    "a call of several lines": (E, LINE, False, "import math\n«math.sqrt(»\n    -1\n)"),
    "an f-string of several lines": (E, LINE, False, "x = None\ns = f'''a\n«{x +»\n1}'''"),
    "a comprehension of several lines": (E, LINE, False, "x = [\n    «1 // i»\n    for i in range(2)\n]"),
    "what a loop goes through, on a line of its own": {
        (3, 11): (E, LINE, False, "«for i in (»\n    None\n):\n    pass"),
        (3, 12): (E, LINE, False, "for i in (\n    «None»\n):\n    pass"),
    },
    "what a comprehension goes through, on a line of its own": {
        (3, 11): (E, LINE, False, "«x = [»\n    i for i in\n    None\n]"),
        (3, 12): (E, LINE, False, "x = [\n    i for i in\n    «None»\n]"),
    },
    "an exception that came of another": (
        E,
        LINE,
        False,
        "try:\n    1 // 0\nexcept ZeroDivisionError as error:\n    «raise ValueError('x') from error»",
    ),
    "a group of exceptions": (E, LINE, False, "x = 1\n«raise ExceptionGroup('x', [ValueError(1)])»"),
    "a module that is gone": {
        (3, 11): (PASS, IGNORE, False, "import imp\nprint(5)"),
        (3, 12): (E, LINE, False, "«import imp»\nprint(5)"),
    },
    "names that exec binds in a function": {
        (3, 11): (PASS, IGNORE, False, "def f():\n    exec('x = 5')\n    return locals()['x']\nprint(f())"),
        (3, 13): (E, LINE, False, "def f():\n    exec('x = 5')\n    «return locals()['x']»\nprint(f())"),
    },
    "tabs": (E, LINE, False, "def f():\n\tif 1:\n\t\t«return [][0]»\nf()"),
    "line ends of Windows": (E, LINE, False, "x = 1\r\n«y = x + 'a'»\r\nprint(y)\r\n"),
    "non-ASCII": (E, LINE, False, "π = 3  # 你好 😀\n«print(π + '→ naïve 😀')  # ✓»"),
    "form feed": (E, LINE, False, "x = 1\n\x0c«y = x + 'a'»\nprint(y)\n"),
    "RecursionError": (E, WHOLE, False, "def f(n):\n    return f(n + 1)\nf(0)"),
    "recursion through C, beyond a limit that no program can raise": {
        (3, 11): (PASS, IGNORE, False, DEEP),
        (3, 12): (E, WHOLE, False, DEEP),
    },
    "timeout": (Outcome.TIMEOUT, WHOLE, False, "while True:\n    pass"),
    "memory": (Outcome.MEMORY, WHOLE, False, "x = bytearray(1 << 34)"),
    "output": (Outcome.OUTPUT_LIMIT, WHOLE, False, "while True:\n    print('x' * 10000)"),
    "invalid syntax": (S, LINE, False, "x = 1\n«y = = 2»\nprint(y)"),
    "return outside of a function": (S, LINE, False, "x = 1\n«return x»"),
    "no binding for nonlocal": (S, LINE, False, "def f():\n    «nonlocal x»\n"),
    "cannot assign": (S, LINE, False, "x = 1\n«f(x) = 2»"),
    "never closed": (S, LINE, False, "x = 1\n«print((x»\ny = 2"),
    "unterminated string": (S, LINE, False, "«s = 'abc»\nprint(s)"),
    "unterminated f-string": (S, LINE, False, "x = 1\n«s = f'abc»\nprint(s)"),
    "a brace never closed in an f-string": (S, LINE, False, "x = 1\n«print(f'{x')»\nprint(x)"),
    "nothing in an f-string's braces": (S, LINE, False, "x = 1\n«print(f'{}')»\nprint(x)"),
    "the same quotes within an f-string": {
        (3, 11): (S, LINE, False, "a = {'b': 5}\n«print(f'{a['b']}')»\n"),
        (3, 12): (PASS, IGNORE, False, "a = {'b': 5}\nprint(f'{a['b']}')\n"),
    },
    "a line break in an f-string's braces": {
        (3, 11): (S, LINE, False, "x = 5\n«print(f'{»\nx}')"),
        (3, 12): (PASS, IGNORE, False, "x = 5\nprint(f'{\nx}')"),
    },
    "a type alias": {
        (3, 11): (S, LINE, False, "x = 5\n«type X = int»\nprint(x)"),
        (3, 12): (PASS, IGNORE, False, "x = 5\ntype X = int\nprint(x)"),
    },
    "a type parameter": {
        (3, 11): (S, LINE, False, "«def f[T](x: T) -> T:»\n    return x\nprint(f(5))"),
        (3, 12): (PASS, IGNORE, False, "def f[T](x: T) -> T:\n    return x\nprint(f(5))"),
    },
    "a type parameter with a default": {
        (3, 11): (S, LINE, False, "«def f[T = int](x: T) -> T:»\n    return x\nprint(f(5))"),
        (3, 13): (PASS, IGNORE, False, "def f[T = int](x: T) -> T:\n    return x\nprint(f(5))"),
    },
    "a loop without its `in`": (S, LINE, False, "x = 1\n«for i range(3):»\n    print(i)"),
    "a comprehension without its `in`": {
        (3, 11): (S, LINE, False, "x = [\n    «i for i»\n    range(3)\n]"),
        (3, 13): (S, LINE, False, "x = [\n    i for i\n    «range(3)»\n]"),
    },
    "an import of nothing": (S, LINE, False, "x = 1\n«from math import»\nprint(x)"),
    "in the last line, complete": (S, LINE, False, "x = 1\ny = 2\n«print(x,,»"),
    "in the last line, cut off": (S, WHOLE, True, "x = 1\ny = 2\nprint(x,,"),
    "bracket open where it was cut off": (S, WHOLE, True, "x = 1\nprint((x"),
    "string open where it was cut off": (S, WHOLE, True, "x = 1\ns = 'ab"),
    "colon missing where it was cut off": (S, WHOLE, True, "x = 1\nwhile x"),
    "bracket open of a function where it was cut off": (S, WHOLE, True, "x = 1\ndef f"),
    "else missing where it was cut off": (S, WHOLE, True, "x = 1\ny = 2 if x"),
    "except missing where it was cut off": (S, WHOLE, True, "try:\n    x = 1"),
    "in missing where it was cut off": (S, WHOLE, True, "x = 1\ny = [i for i"),
    "names missing where it was cut off": (S, WHOLE, True, "x = 1\nfrom math import"),
    "comparison begun where it was cut off": (S, WHOLE, True, "x = 1\ny = max(x.y ="),
    "f-string open where it was cut off": (S, WHOLE, True, "x = 1\ns = f'a {x} b"),
    "f-string's brace open where it was cut off": (S, WHOLE, True, "x = 1\ns = f'a {x"),
    "f-string's format open where it was cut off": (S, WHOLE, True, "x = 1\ns = f'a {x:"),
    "a wrong meaning in the last line of what was cut off": (S, LINE, True, "x = 1\n«return x»"),
    "an earlier mistake in what was cut off": (S, LINE, True, "x = 1\n«if x»\nprint(x)\nprint((x"),
    "triple quotes": (S, IGNORE, False, "s = '''abc\nprint(s)"),
    "triple quotes of an f-string": (S, IGNORE, False, "x = 1\ns = f'''abc {x}\nprint(s)"),
    "triple quotes of an f-string, in a brace": {
        (3, 11): (S, IGNORE, False, "x = 1\ns = f'''abc {x\nprint(s)"),
        (3, 12): (S, LINE, False, "x = 1\n«s = f'''abc {x»\nprint(s)"),
    },
    "unindent": (S, IGNORE, False, "if 1:\n    x = 1\n  y = 2"),
    "unexpected indent": (S, IGNORE, False, "x = 1\n    y = 2"),
    "expected an indented block": (S, IGNORE, False, "if 1:\nx = 2"),
    "tabs and spaces": (S, IGNORE, False, "if 1:\n        x = 1\n\ty = 2"),
    "duplicate argument": (S, IGNORE, False, "def f(a, a):\n    pass"),
    "import * in a function": (S, IGNORE, False, "def f():\n    from os import *"),
    "SystemExit": (E, IGNORE, False, "import sys\nsys.exit(3)"),
    "killed by a signal": (E, IGNORE, False, "import os\nos.abort()"),
    "a wrong answer": (Outcome.FAILURE, IGNORE, False, "print(6)"),
    "a right one": (PASS, IGNORE, False, "print(5)"),
}


def row(name: str) -> Row:
    """The row as it is for the Python that runs this."""
    found = ROWS[name]
    return found[max(since for since in found if since <= sys.version_info)] if isinstance(found, dict) else found


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(ExecutorSettings(wall_extra_s=0.5)) as judge:
        yield judge


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """Trained on half of the rows, so that the others meet tokens they do not know."""
    programs = [plain(row(name)[3]) for name in ROWS]
    return trained(request.param, programs[::2], programs)


def plain(program: str) -> str:
    return program.replace("«", "").replace("»", "")


@pytest.mark.parametrize("name", ROWS)
def test_an_error_ends_on_its_tokens(judge: Judge, tokenizer: Any, name: str) -> None:
    outcome, kind, truncated, marked = row(name)
    source = plain(marked)
    response = response_with(source, truncated)
    ids = encoded(tokenizer, response)
    found = extract_program(response, "python")
    assert found is not None
    problem = Problem(
        id="p",
        prompt="?",
        kind="stdio",
        time_limit_s=0.5,
        memory_limit_mb=128,
        public_tests=[StdioTest(input="2\n", output="5\n")],
    )
    verdict = judge.judge(JudgeRequest(problem, found.text))
    assert verdict.outcome == outcome
    offsets = token_offsets(tokenizer, ids)
    context = TurnContext(
        problem, verdict, response, ids, offsets, 0, found.start, found.end, truncated, turn=0, final=True
    )
    spans = rltf.Reward(rltf.Settings()).score(context).spans
    if kind is IGNORE:
        assert spans == []
        return
    (span,) = spans
    if kind is WHOLE:
        start, end = found.start, found.end
    else:
        start = response.index(source) + marked.index("«")
        end = start + len(marked[marked.index("«") + 1 : marked.index("»")])
    first, last = offsets[span.start], offsets[span.end - 1]
    assert first[0] <= start < first[1], "it begins with the token that the line begins in"
    assert last[0] < end <= last[1], "and ends with the one that it ends in"
