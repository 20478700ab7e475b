"""Which statements did not run, by real programs: every line of a row marked `# -` is one of them, and no other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from executor.errors import UserError
from executor.judging import Judge, JudgeRequest
from executor.problem import CodeTest, FunctionTest, Problem, StdioTest, Test
from executor.sandbox.level import LEVELS, LevelName
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict

ONCE = sys.version_info >= (3, 12)  # the interpreter can tell of a line once, and then no more

STDIO: dict[str, str] = {
    "branches": """\
n = int(input())
if n > 99:
    print('a')  # -
elif n == 2:
    # no statement of its own: goes with the next
    print('b')
else:  # -
    print('c')  # -
    # -
    print('d')  # -
print('e')
# at the end
""",
    "functions": '''\
"""Of the module."""
import functools
def used(x: int,
         y=1,
):
    """Of the function."""
    if x > 9:
        return [  # -
            x,  # -
        ]  # -
    return y

@functools.cache
# about it
def unused(
    a,
):
    """Goes with the header,

    as it is set when that runs."""
    global n

    # so does this
    return a  # -
    # -
    print(a)  # -

n = used(1)
''',
    "after the return": "def f():\n    return 1\n    print(2)  # -\n    return 3  # -\nf()\n",
    "nothing dead": "n = int(input())\nfor i in range(n):\n    if i % 2:\n        continue\n    print(i)\n",
    "exceptions": """\
try:
    x = 1 // 0
    print(x)  # -
except KeyError:
    print(1)  # -
except (ValueError,
        ZeroDivisionError) as e:
    print(2)
else:  # -
    print(3)  # -
finally:
    print(4)
try:
    y = 1
except ValueError:  # -
    print(y)  # -
finally:
    del y
""",
    "loops": """\
while True:
    for i in range(3):
        if i == 1:
            break
        continue
    else:  # -
        print(0)  # -
    for i in []:
        print(i)  # -
    else:
        print(1)
    break
    print(2)  # -
while False:
    print(3)  # -
while i < 9:
    i += 3
else:
    pass
""",
    "match": """\
match int(input()):
    case 1:
        print(1)  # -
    case 2 | 3:
        print(2)
    case 4:  # -
        print(4)  # -
    case _:  # -
        print(5)  # -
""",
    "classes": """\
class A:
    x: int
    y = 1

    def used(self):
        return self.y

    @property
    def unused(self):
        return self.x  # -

    class B:
        def unused(self): return 1
A().used()
""",
    "blocks in statements": """\
with open('/dev/null') as a, \\
     open('/dev/null') as b:
    x = [i
         for i in range(3)
         if i > 5]
f = lambda: (
    1 +
    2)
if x:
    f = lambda: 1  # -
def outer():
    def inner():
        return 1  # -
    def called():
        return 2
    return called()
outer()
""",
    "one line": "if 1: print(1)\nif 0: print(2)\nx = 1; y = 2\nif x > 1:\n    y = 3; x = 1  # -\ndef f(): return 1\n",
    "generators": """\
import asyncio
def g():
    yield 1
    yield 2  # -
next(g())
async def a():
    await asyncio.sleep(0)  # -
    async with b():  # -
        pass  # -
async def c():
    async for i in d():
        print(i)
    return 1
async def d():
    if 0:
        yield 2  # -
    yield 1
asyncio.run(c())
""",
    "threads": """\
import threading
def run():
    x = 1
    if x == 2:
        print(x)  # -
t = threading.Thread(target=run)
t.start()
t.join()
from concurrent.futures import ThreadPoolExecutor
def more(x):
    return x
with ThreadPoolExecutor(2) as pool:
    list(pool.map(more, range(4)))
""",
    "the end of the interpreter": """\
import atexit
@atexit.register
def last():
    print(1)
class A:
    def __del__(self):
        print(2)
a = A()
""",
    "an exit": "import sys\nprint(1)\nsys.exit(0)\nprint(2)  # -\n",
    "an end without an end": "import os\nprint(1)\nos._exit(0)\nprint(2)  # -\n",
    "an error": "def f():\n    g()\n    print(1)  # -\ndef g():\n    raise KeyError(1)\n    print(2)  # -\nf()\nprint(3)  # -\n",
    "a signal": "import os\nprint(1)\nos.abort()\nprint(2)  # -\n",
    "memory": "x = bytearray(1 << 40)\nprint(2)  # -\n",
    "time": "import time\ntime.sleep(60)\nprint(2)  # -\n",
    "tabs": "if 0:\n\tprint(1)  # -\n\tif 1:  # -\n\t\tprint(2)  # -\nprint(3)\n",
    "Windows": "if 0:\r\n    print(1)  # -\r\nx = '''\r\n'''\r\nif 0:\r\n    print(2)  # -\r\n",
    "old Macintosh": "if 0:\r    print(1)  # -\rx = 1",
    "non-ASCII": "π = '😀'; ñ = 'é'\nif π == 'é':\n    print('→ 😀')  # -\n    print(ñ)  # -\nprint('é' if π else '😀')\n",
    "form feed and other separators": "x = '\u2028\x0b'\n\x0cif not x:\n    print(1)  # -\nprint(2)\n",
    "a byte order mark": "\ufeffif 0:\n    print(1)  # -\n",
    "numbers": "n = int(input())\ntotal = (n +\n         1)\nif total > 50: print(\n    1)\nassert n, (\n    'no')\n",
    "a main guard": "def main():\n    return 1\nif __name__ == '__main__':\n    main()\nelse:  # -\n    print(1)  # -\n",
}


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(ExecutorSettings(slots=2, wall_factor=1, wall_extra_s=0.5)) as judge:
        yield judge


def problem(kind: Any, tests: list[Test], **fields: Any) -> Problem:
    limits = {"time_limit_s": 1, "memory_limit_mb": 128}
    return Problem(id="p", prompt="?", kind=kind, public_tests=tests, **{**limits, **fields})


def stdio(judge: Judge, program: str, *inputs: str, **fields: Any) -> Verdict:
    tests: list[Test] = [StdioTest(input=f"{given}\n", output="") for given in inputs or ("2",)]
    return judge.judge(JudgeRequest(problem("stdio", tests, **fields), program, executed_lines=True))


def dead(verdict: Verdict) -> list[int]:
    assert verdict.unexecuted is not None
    ranges = verdict.unexecuted
    assert all(first <= last for first, last in ranges)
    assert all(a[1] + 1 < b[0] for a, b in zip(ranges, ranges[1:], strict=False)), "neighbours are one range"
    return [line for first, last in ranges for line in range(first, last + 1)]


def marked(program: str) -> list[int]:
    lines = program.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [number for number, line in enumerate(lines, start=1) if line.endswith("# -")]


@pytest.mark.parametrize("name", STDIO)
def test_what_did_not_run_is_told(judge: Judge, name: str) -> None:
    verdict = stdio(judge, STDIO[name])
    assert verdict.outcome is not Outcome.INFRASTRUCTURE
    assert dead(verdict) == marked(STDIO[name])


@pytest.mark.parametrize("level", LEVELS)
def test_it_is_told_at_every_level_of_isolation(level: LevelName) -> None:
    try:
        judge = Judge(ExecutorSettings(min_level=level, max_level=level))
    except UserError as error:
        pytest.skip(str(error))
    with judge:
        for name in ("branches", "threads", "an end without an end"):
            verdict = stdio(judge, STDIO[name])
            assert verdict.level == level
            assert dead(verdict) == marked(STDIO[name])


def test_a_line_that_any_test_runs_has_run(judge: Judge) -> None:
    program = "n = int(input())\nif n == 1:\n    print(1)\nelif n == 2:\n    print(2)\nelse:\n    print(3)\n"
    assert dead(stdio(judge, program, "1")) == [4, 5, 6, 7]
    assert dead(stdio(judge, program, "1", "2")) == [6, 7]
    assert dead(stdio(judge, program, "3", "2")) == [3]
    assert dead(stdio(judge, program, "3", "2", "1")) == []


PROGRAM = """\
def f(x):
    if x == 3:
        raise KeyError(x)
    elif x == 4:
        import os
        os._exit(1)
    elif x == 5:
        return object()
    elif x == 6:
        return 'a' * (1 << 21)
    return [x]
"""
EVERYWHERE, ELSE = {1, 2, 11}, {4, 7, 9}


@pytest.mark.parametrize(
    "arguments, ran",
    [
        ([1], {11, *ELSE}),
        ([3, 1], {3, 11, *ELSE}),
        ([3, 4, 1, 5], {3, 4, 5, 6, 7, 8, 9, 11}),
        ([6, 6, 1], {10, 11, *ELSE}),
        ([4], {4, 5, 6}),
    ],
)
def test_calls_share_a_process_and_all_of_them_count(judge: Judge, arguments: list[int], ran: set[int]) -> None:
    tests: list[Test] = [FunctionTest(args=[argument], expected=[argument]) for argument in arguments]
    asked = problem("function", tests, entry_point="f")
    verdict = judge.judge(JudgeRequest(asked, PROGRAM, executed_lines=True))
    assert set(dead(verdict)) == set(range(1, 12)) - {1, 2} - ran
    plain = judge.judge(JudgeRequest(asked, PROGRAM))
    assert plain.unexecuted is None
    assert [(t.outcome, t.message) for t in plain.tests] == [(t.outcome, t.message) for t in verdict.tests]


@pytest.mark.parametrize(
    "code",
    ["assert f(1) == [1]", "x = f(1)\nassert x == [1]", "def check(f):\n    assert f(1) == [1]", "import math\nf(1)"],
)
def test_test_code_counts_whatever_runs_it(judge: Judge, code: str) -> None:
    asked = problem("function", [CodeTest(code=code)], entry_point="f")
    verdict = judge.judge(JudgeRequest(asked, PROGRAM, executed_lines=True))
    assert verdict.outcome is Outcome.PASS
    assert dead(verdict) == [3, 5, 6, 8, 10]


@pytest.mark.parametrize("program", ["x = (1\n", "return 1\n", "x = '\0'"])
def test_what_does_not_compile_has_run_nothing_and_is_not_known(judge: Judge, program: str) -> None:
    verdict = stdio(judge, program)
    assert verdict.outcome is Outcome.SYNTAX_ERROR
    assert verdict.unexecuted is None


# A program that lies, or that stops what tells of it: the verdict is as without, and nothing is said of its lines.
FORGE = "import os, struct\ndef say(b): os.write(4, struct.pack('<I', len(b)) + b)\n"
LIARS: dict[str, str] = {
    "tracing turned off": "import sys\nsys.settrace(None)\nprint(1)\nif 0: print(2)\n",
    "tracing put in another's hands": "import sys\nsys.settrace(lambda *_: None)\nprint(1)\n",
    "malformed": FORGE + "say(b'\\x01x')\nprint(1)\n",
    "an empty one": FORGE + "say(b'\\x01')\nprint(1)\n",
    "a line that there is not": FORGE + "say(b'\\x01t\\2\\0\\0\\0s\\3\\0\\0\\0rani\\2\\0\\0\\0\\xff\\x00')\nprint(1)\n",
    "statements of its own": FORGE + "say(b'\\x01t\\2\\0\\0\\0s\\x0a\\0\\0\\0statementsl\\0\\0\\0\\0')\nprint(1)\n",
    "more lines than there are": FORGE
    + "for _ in range(99): say(b'\\x01t\\2\\0\\0\\0s\\3\\0\\0\\0rani\\1\\0\\0\\0\\1')\nprint(1)\n",
    "a frame that never ends": "import os\nos.write(4, b'\\xff\\xff\\xff\\x7f')\nprint(1)\n",
}
if ONCE:
    LIARS = {name: program for name, program in LIARS.items() if not name.startswith("tracing")} | {
        "monitoring turned off": "import sys\nsys.monitoring.free_tool_id(1)\nprint(1)\n",
        "monitoring of other things": "import sys\nsys.monitoring.register_callback(1, 32, None)\nprint(1)\n",
    }


@pytest.mark.parametrize("name", LIARS)
def test_a_liar_changes_no_verdict_and_hides_no_line(judge: Judge, name: str) -> None:
    asked = problem("stdio", [StdioTest(input="", output="1\n")])
    plain = judge.judge(JudgeRequest(asked, LIARS[name]))
    told = judge.judge(JudgeRequest(asked, LIARS[name], executed_lines=True))
    assert (plain.outcome, plain.error) == (told.outcome, told.error)
    assert plain.outcome is Outcome.PASS
    assert told.unexecuted is None


def test_a_closed_channel_is_the_programs_own_loss(judge: Judge) -> None:
    verdict = stdio(judge, "import os\nos.close(4)\nprint(1)\n")
    assert verdict.outcome is Outcome.FAILURE


@pytest.mark.parametrize("depth", ["1000", "5000"])
def test_a_program_at_its_limit_of_depth_ends_as_it_would(judge: Judge, depth: str) -> None:
    program = f"import sys\nsys.setrecursionlimit({depth})\ndef f(n):\n    return f(n + 1)\ntry:\n    f(0)\nexcept RecursionError:\n    print(1)\n"
    asked = problem("stdio", [StdioTest(input="", output="1\n")])
    verdict = judge.judge(JudgeRequest(asked, program, executed_lines=True))
    assert verdict.outcome is Outcome.PASS
    assert verdict.unexecuted == ([] if ONCE else None), "Python 3.11 ends tracing at the limit"


def test_a_program_of_many_events_is_not_slowed_down_for_long(judge: Judge) -> None:
    program = "def unused():\n    return 1\nn = 0\nwhile n < 3_000_000:\n    n += 1\nprint(n)\n"
    asked = problem("stdio", [StdioTest(input="", output="3000000\n")], time_limit_s=4)
    verdict = judge.judge(JudgeRequest(asked, program, executed_lines=True))
    assert verdict.outcome is Outcome.PASS
    assert verdict.unexecuted == ([(2, 2)] if ONCE else None), "Python 3.11 tells of so many lines and then of no more"
