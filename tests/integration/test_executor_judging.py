"""Real programs, judged: what passes, what does not, and why."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from executor.judging import Judge, JudgeRequest
from executor.languages import python_findings as findings
from executor.problem import Checker, CodeTest, FunctionTest, Problem, StdioTest, Test
from executor.sandbox.level import at_least
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict, aggregate


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(ExecutorSettings(slots=2, wall_factor=1, wall_extra_s=0.5)) as judge:
        yield judge


@pytest.fixture(scope="module")
def low() -> Iterator[Judge]:
    """Below the level from which on programs cannot make processes."""
    with Judge(ExecutorSettings(wall_factor=1, wall_extra_s=0.5, max_level="L1")) as judge:
        yield judge


def stdio(judge: Judge, program: str, input: str = "2 3\n", output: str = "5\n", **limits: Any) -> Verdict:
    problem = Problem(
        id="p",
        prompt="?",
        kind="stdio",
        public_tests=[StdioTest(input=input, output=output)],
        **{"time_limit_s": 2, **limits},
    )
    return judge.judge(JudgeRequest(problem, program))


def called(judge: Judge, program: str, tests: list[Test], entry_point: str | None = "f", **fields: Any) -> Verdict:
    problem = Problem(
        id="p", prompt="?", kind="function", entry_point=entry_point, time_limit_s=2, public_tests=tests, **fields
    )
    return judge.judge(JudgeRequest(problem, program))


def function(
    judge: Judge, program: str, args: list[Any], expected: Any, entry_point: str = "f", **fields: Any
) -> Verdict:
    return called(judge, program, [FunctionTest(args=args, expected=expected)], entry_point, **fields)


def code(judge: Judge, program: str, *tests: str, entry_point: str | None = "f") -> Verdict:
    return called(judge, program, [CodeTest(code=test) for test in tests], entry_point)


@pytest.mark.parametrize(
    "program",
    [
        "print(sum(map(int, input().split())))",
        "import sys\nprint(sum(map(int, open('/dev/stdin').read().split())))",
        "print(sum(map(int, open(0).read().split())))",
        "import os\nout = open(1, 'w', closefd=False)\nout.write('5')  # never closed nor flushed",
        "import atexit\natexit.register(print, 5)",
        "import threading\nthreading.Timer(0.05, print, (5,)).start()",
        "import os\nos.write(1, b'5')\nos._exit(0)",
        "print(5)\nraise SystemExit",
        "import sys\nprint(5)\nsys.exit(None)",
        "if __name__ == '__main__':\n    print(5)",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nprint(A(5).x)",
        "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return 0 if n == 0 else f(n - 1)\nprint(5 + f(20000))",
        (  # Python 3.12 and 3.13 have a limit for what goes through C, which no program can raise
            "import functools, sys\nsys.setrecursionlimit(10**6)\n@functools.lru_cache(None)\n"
            f"def f(n): return 0 if n == 0 else f(n - 1)\nprint(5 + f({20000 if sys.version_info < (3, 12) else 300}))"
        ),
        "import fractions, json, decimal, datetime, statistics\nprint(5)",
        "open('a', 'w').write('5')\nprint(open('a').read())",
        "import tempfile\nwith tempfile.TemporaryFile() as f: print(5)",
        "import asyncio\nasync def main(): return 5\nprint(asyncio.run(main()))",
        "# -*- coding: latin-1 -*-\nprint(5) # \u00e9",
    ],
)
def test_honest_programs_pass(judge: Judge, program: str) -> None:
    verdict = stdio(judge, program)
    assert verdict.outcome is Outcome.PASS, verdict


@pytest.mark.parametrize(
    ("program", "outcome", "error", "line"),
    [
        ("print(6)", Outcome.FAILURE, None, None),
        ("", Outcome.FAILURE, None, None),
        ("print(5)\nexit(3)", Outcome.ERROR, "SystemExit", None),
        ("print(5)\nimport sys\nsys.exit('no')", Outcome.ERROR, "SystemExit", None),
        ("print(5)\n\n1/0", Outcome.ERROR, "ZeroDivisionError", 3),
        ("def f():\n    return {}['k']\nf()", Outcome.ERROR, "KeyError", 2),
        ("class Mine(Exception): pass\nraise Mine('x')", Outcome.ERROR, "Mine", 2),
        ("import os\nprint(5, flush=True)\nos.kill(os.getpid(), 11)", Outcome.ERROR, "SIGSEGV", None),
        ("print(5", Outcome.SYNTAX_ERROR, "SyntaxError", 1),
        ("\n\tx\n  y", Outcome.SYNTAX_ERROR, "IndentationError", 2),
        ("x = '\x00'", Outcome.SYNTAX_ERROR, None, None),
        ("\ud800", Outcome.SYNTAX_ERROR, None, None),
        ("(" * 5000, Outcome.SYNTAX_ERROR, None, None),
        ("x = [0] * (1 << 29)", Outcome.MEMORY, "MemoryError", 1),
        ("while True: print('x' * 1000)", Outcome.OUTPUT_LIMIT, None, None),
        ("import time\ntime.sleep(60)", Outcome.TIMEOUT, None, None),
    ],
)
def test_what_is_wrong_is_named(
    judge: Judge, program: str, outcome: Outcome, error: str | None, line: int | None
) -> None:
    verdict = stdio(judge, program, time_limit_s=0.5)
    assert verdict.outcome is outcome, verdict
    if error:
        assert verdict.error is not None and (verdict.error.type, verdict.error.line) == (error, line)


@pytest.mark.parametrize(
    "program",
    [
        "import subprocess\nprint(subprocess.run(['/bin/echo', '5'], capture_output=True, text=True).stdout)",
        "import os\nif os.fork() == 0:\n    os._exit(0)\nos.wait()\nprint(5)",
    ],
)
def test_programs_can_make_processes_up_to_l1(judge: Judge, low: Judge, program: str) -> None:
    assert stdio(low, program).outcome is Outcome.PASS
    if at_least(judge.level, "L2"):
        verdict = stdio(judge, program)
        assert verdict.outcome is Outcome.ERROR and verdict.error is not None
        assert verdict.error.type == "PermissionError"


def test_a_fork_bomb_ends_with_its_test(low: Judge) -> None:
    if low.level == "L0":
        pytest.skip("nothing bounds the number of processes at L0")
    bomb = "import os\nwhile os.fork(): pass\nwhile True: pass"
    assert stdio(low, bomb, time_limit_s=0.5).outcome in (Outcome.ERROR, Outcome.TIMEOUT)
    assert stdio(low, "print(5)").outcome is Outcome.PASS


def test_cpu_time_of_processes_left_behind_counts(low: Judge) -> None:
    program = "import os, time\nif os.fork() == 0:\n    while True: pass\ntime.sleep(1.2)\nprint(5)"
    assert stdio(low, program, time_limit_s=0.2, memory_limit_mb=64).outcome is Outcome.TIMEOUT


def test_a_detached_child_that_holds_the_pipe_is_not_waited_for(low: Judge) -> None:
    program = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        time.sleep(60)\n    os._exit(0)\nprint(5)"
    )
    verdict = stdio(low, program)
    assert verdict.outcome is Outcome.PASS and verdict.seconds < 1


def test_large_input_and_output_do_not_lock(judge: Judge) -> None:
    text = "x" * 600_000 + "\n"
    assert stdio(judge, "import sys\nsys.stdout.write(sys.stdin.read())", text, text).outcome is Outcome.PASS
    assert stdio(judge, "print(5)", text).outcome is Outcome.PASS  # input that nobody reads


def test_function_values(judge: Judge) -> None:
    assert function(judge, "def f(x): return sorted(x)", [[3, 1]], [1, 3]).outcome is Outcome.PASS
    assert function(judge, "def f(x): return tuple(sorted(x))", [[3, 1]], [1, 3]).outcome is Outcome.FAILURE
    assert function(judge, "class S:\n  def m(self, x): return x + 1", [1], 2, "S().m").outcome is Outcome.PASS
    assert function(judge, "f = lambda x: {1: 'a'}", [1], {"1": "a"}).outcome is Outcome.FAILURE
    failed = function(judge, "def f(x): return x", [7], 8).tests[0]
    assert (failed.input, failed.expected, failed.got) == ("7", "8", "7")


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("def g(x): return x", "NameError"),
        ("def f(): return 1", "TypeError"),
        ("def f(x): exit()", "SystemExit"),
        ("import os\ndef f(x): os._exit(0)", "SystemExit"),
        ("import sys\nsys.exit(0)", "SystemExit"),
        ("def f(x): return object()", "TypeError"),
        ("class I(int): pass\ndef f(x): return I(1)", "TypeError"),
        ("def f(x): return f(x)", "RecursionError"),
    ],
)
def test_functions_that_give_no_answer_are_errors(judge: Judge, program: str, error: str) -> None:
    verdict = function(judge, program, [1], 1)
    assert verdict.outcome is Outcome.ERROR and verdict.error is not None and verdict.error.type == error


def test_an_answer_beyond_the_cap_is_output(judge: Judge) -> None:
    assert function(judge, "def f(x): return 'x' * (2 << 20)", [1], 1).outcome is Outcome.OUTPUT_LIMIT


def test_forged_reports_cannot_pass(judge: Judge) -> None:
    forge = (
        "import os\nfor fd in range(3, 64):\n"
        "  try: os.write(fd, b'\\x07\\0\\0\\0t\\1\\0\\0\\0N' * 3)\n  except OSError: pass\n"
    )
    assert function(judge, forge + "def f(x): return 2", [1], 1).outcome in (Outcome.ERROR, Outcome.FAILURE)
    assert code(judge, forge + "def f(x): return 2", "assert f(1) == 1").outcome in (Outcome.ERROR, Outcome.FAILURE)


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("def f(x): return x + 1", "assert f(1) == 2"),
        (
            "def f(x): return x + 1",
            "def check(candidate):\n    for i in range(50):\n        assert candidate(i) == i + 1\n",
        ),
        ("def f(x): return x + 1", "import math\nassert math.isclose(candidate(1), 2.0)"),
        (
            "def f(x): x.append(1); x[0].sort(); return None",
            "a = [[2, 1]]\nb = a[0]\nf(a)\nassert a == [[1, 2], 1] and b == [1, 2] and a[0] is b",
        ),
        ("def f(d): d['k'] = 1", "d = {}\nf(d)\nassert d == {'k': 1}"),
        (
            "def f(x): raise ValueError('bad')",
            "try:\n    f(1)\nexcept ValueError as e:\n    assert str(e) == 'bad'\nelse:\n    assert False",
        ),
        ("def f(g, x): return g(g(x))", "assert f(lambda v: v * 2, 3) == 12"),
        ("def f(n):\n  for i in range(n): yield i", "assert list(f(3)) == [0, 1, 2]"),
        ("def f(n):\n  while True:\n    n += 1\n    yield n", "g = f(1)\nassert next(g) == 2 and next(g) == 3"),
        (
            (
                "from collections import namedtuple\nPair = namedtuple('Pair', 'a b')\n"
                "def f(ps): return max(p.b for p in ps)"
            ),
            "assert f([Pair(1, 2), Pair(3, 1)]) == 2",
        ),
        (
            (
                "class Stack:\n  def __init__(self): self.x = []\n  def push(self, v): self.x.append(v)\n"
                "  def __len__(self): return len(self.x)"
            ),
            "s = Stack()\ns.push(4)\nassert len(s) == 1 and s.x == [4] and isinstance(s, Stack)",
        ),
        ("class S:\n  def f(self, x): return x", "assert S().f(3) == 3"),
        ("def f(x): return x == 3", "assert f(3) is True"),
        ("def f(x): return {1: ('a',), (2, 3): {4}}", "assert f(0) == {1: ('a',), (2, 3): {4}}"),
        ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}"),
        ("def f(x, t): return [v for v in x if type(v) is t]", "assert f([1, 'a'], int) == [1]"),
        (
            "def f(node): return node.value + node.next.value",
            (
                "class Node:\n    def __init__(self, v, n=None): self.value, self.next = v, n\n"
                "assert f(Node(1, Node(2))) == 3"
            ),
        ),
        ("print('x' * 5000)\ndef f(x): print(x); return x", "assert f(1) == 1"),
    ],
)
def test_test_code_passes_on_right_programs(judge: Judge, program: str, test: str) -> None:
    verdict = code(judge, program, test, entry_point=None if "Pair" in test or "S" in test else "f")
    assert verdict.outcome is Outcome.PASS, verdict


@pytest.mark.parametrize(
    ("program", "test", "outcome"),
    [
        ("def f(x): return x", "assert f(1) == 2", Outcome.FAILURE),
        ("def f(x): return None", "assert len(f(1)) == 2", Outcome.FAILURE),
        ("def f(x): return 1/0", "assert f(1) == 2", Outcome.ERROR),
        ("def f(x): assert False", "assert f(1) == 2", Outcome.ERROR),
        ("def g(x): return 2", "assert f(1) == 2", Outcome.ERROR),
        ("def f(x) return 2", "assert f(1) == 2", Outcome.SYNTAX_ERROR),
        ("def f(x):\n  while True: pass", "assert f(1) == 2", Outcome.TIMEOUT),
        ("def f(x): return [0] * (1 << 30)", "assert f(1) == 2", Outcome.MEMORY),
        ("import os\ndef f(x): os._exit(0)", "assert f(1) == 2", Outcome.ERROR),
        ("import sys\ndef f(x): sys.exit(0)", "assert f(1) == 2", Outcome.ERROR),
        ("import os\nos._exit(0)", "assert f(1) == 2", Outcome.ERROR),
        (
            "class E:\n  def __eq__(self, o): return True\n  def __ne__(self, o): return False\ndef f(x): return E()",
            "assert f(1) == 2",
            Outcome.FAILURE,
        ),
        (
            "class E:\n  def __eq__(self, o): return True\ndef f(x): return E()\nP = f",
            "assert f(1) == P(1)",
            Outcome.FAILURE,
        ),
        ("def set(x): return 1\nmath = f = lambda x: 0\n", "assert set(f(1)) == set([2])", Outcome.FAILURE),
        (
            "class math:\n  isclose = lambda *a: True\ndef f(x): return 0",
            "assert math.isclose(f(1), 2)",
            Outcome.FAILURE,
        ),
        (
            "import builtins\nbuiltins.AssertionError = ValueError\ndef f(x): return 1",
            "assert f(1) == 2",
            Outcome.FAILURE,
        ),
        ("def f(g): return g.__globals__", "secret = 5\ndef g(): pass\nassert f(g)['secret'] == 5", Outcome.ERROR),
    ],
)
def test_test_code_fails_on_wrong_ones(judge: Judge, program: str, test: str, outcome: Outcome) -> None:
    verdict = code(judge, program, test)
    assert verdict.outcome is outcome, verdict


def test_broken_test_code_is_not_the_programs_fault(judge: Judge) -> None:
    assert code(judge, "def f(x): return x", "assert f(").outcome is Outcome.INFRASTRUCTURE


def test_which_tests_run(judge: Judge) -> None:
    tests: list[Test] = [StdioTest(input=f"{i}\n", output=f"{i % 2}\n") for i in range(4)]
    problem = Problem(id="p", prompt="?", kind="stdio", public_tests=tests[:1], private_tests=tests[1:])
    zero, parity = "print(0)", "print(int(input()) % 2)"
    everything = judge.judge(JudgeRequest(problem, zero, index=7))
    assert (everything.outcome, everything.passed, everything.total, len(everything.tests), everything.index) == (
        Outcome.FAILURE,
        2,
        4,
        4,
        7,
    )
    assert [t.public for t in everything.tests] == [True, False, False, False]
    assert all(t.input is None and t.expected is None and t.got is None for t in everything.tests[1:])
    first = judge.judge(JudgeRequest(problem, zero, stop_at_first_failure=True))
    assert (first.passed, first.total, len(first.tests)) == (1, 4, 2)
    assert judge.judge(JudgeRequest(problem, zero, tests="public")).outcome is Outcome.PASS
    assert judge.judge(JudgeRequest(problem, zero, tests="private")).total == 3
    assert judge.judge(JudgeRequest(problem, parity)).passed == 4
    broken = judge.judge(JudgeRequest(problem, "("))
    assert (broken.outcome, broken.total, len(broken.tests)) == (Outcome.SYNTAX_ERROR, 4, 1)


def test_many_threads_share_the_slots(judge: Judge) -> None:
    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(lambda i: stdio(judge, "print(input())", f"{i}\n", f"{i}\n"), range(40)))
    assert all(v.outcome is Outcome.PASS for v in verdicts) and judge.busy_slots == 0


def test_tests_leave_nothing_for_the_next(judge: Judge) -> None:
    mark = Path(f"/dev/shm/cupel-mark-{os.getpid()}")
    leave = (
        "import os, builtins\nopen('mark', 'w').close()\nbuiltins.mark = 1\nos.environ['MARK'] = '1'\n"
        f"try: open('{mark}', 'w').close()\nexcept OSError: pass\nprint(5)"
    )
    look = "import os, builtins\nprint(os.listdir('.'), hasattr(builtins, 'mark'), 'MARK' in os.environ)"
    try:
        for _ in range(3):
            assert stdio(judge, leave).outcome is Outcome.PASS
            assert stdio(judge, look, output="[] False False").outcome is Outcome.PASS
            assert judge.level == "L0" or not mark.exists()
    finally:
        mark.unlink(missing_ok=True)


def test_random_numbers_start_alike_for_programs_and_not_for_test_code(judge: Judge, low: Judge) -> None:
    draw = "import random; print(random.random(), random.sample(range(99), 3))"
    drawn = [stdio(one, draw, output="").tests[0].got for one in (judge, judge, judge, low)]
    assert drawn[0] and len(set(drawn)) == 1
    guess = "import random\ndef f(): return random.random()"
    assert code(judge, guess, "import random\nfor _ in range(3): assert f() != random.random()").outcome == "pass"
    # A program that may fork has children that draw other numbers than it does, as anywhere.
    forks = """
import os, random
reading, writing = os.pipe()
if not os.fork():
    os.write(writing, str(random.random()).encode())
    os._exit(0)
os.wait()
print(os.read(reading, 99).decode() != str(random.random()))
"""
    assert stdio(low, forks, output="True\n").outcome == "pass"


def test_threads_are_joined_and_exit_functions_run_at_the_end(judge: Judge) -> None:
    program = """
import atexit, threading, time
from concurrent.futures import ThreadPoolExecutor
atexit.register(print, "exit")
threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
"""
    assert stdio(judge, program, output="thread\nexit\n").outcome == "pass"
    assert (
        stdio(judge, program + "ThreadPoolExecutor(1).submit(time.sleep, 0.1)", output="thread\nexit\n").outcome
        == "pass"
    )


def test_many_tests_cost_each_the_same(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    report_of = findings.report_of
    monkeypatch.setattr(findings, "report_of", lambda frame: read.append(frame) or report_of(frame))
    tests: list[Test] = [FunctionTest(args=[i], expected=i) for i in range(200)]
    assert called(judge, "def f(x): return x", tests).passed == len(read) == 200


def test_programs_are_nobody_we_know(judge: Judge) -> None:
    if judge.level == "L0":
        pytest.skip("there is no other user at L0")
    look = (
        "import os\n"
        "print(os.getuid() > 60000, os.getuid() == os.geteuid(), os.getgroups(), sorted(set(os.environ) - {'LC_ALL'}))"
    )
    seen = "True True [] ['HOME', 'LANG', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'PATH', 'TMPDIR']"
    verdict = stdio(judge, look, output=seen)
    assert verdict.outcome is Outcome.PASS, verdict


def test_a_missing_test_cannot_make_a_pass() -> None:
    assert aggregate([Outcome.PASS, Outcome.FAILURE], 3) is Outcome.FAILURE
    assert (
        aggregate([Outcome.FAILURE, Outcome.ERROR, Outcome.TIMEOUT, Outcome.INFRASTRUCTURE], 4)
        is Outcome.INFRASTRUCTURE
    )
    with pytest.raises(ValueError, match="2 of 3"):
        aggregate([Outcome.PASS, Outcome.PASS], 3)


@pytest.mark.parametrize(
    "program, line",
    [
        ("x = 0\nwhile True:\n    x += 1", (2, 3)),
        ("import re\ndef f():\n    re.match('(a+)+b', 'a' * 40)\nf()", (3,)),
        ("import time\ntime.sleep(60)", (2,)),
        ("import signal, time\nsignal.pthread_sigmask(0, range(1, 65))\nwhile True: pass", (None,)),
        (
            "import os\nos.write(4, b'(most recent call first):\\n  File \"<program>\", line 9999999 in x')\nwhile 1: 0",
            (3,),
        ),
    ],
)
def test_a_timeout_says_where_the_program_was(judge: Judge, program: str, line: tuple[int | None, ...]) -> None:
    verdict = stdio(judge, program, time_limit_s=0.3)
    assert verdict.outcome is Outcome.TIMEOUT
    assert (verdict.error.line if verdict.error else None) in line


def test_packages_that_are_named_can_be_imported_and_no_others(judge: Judge) -> None:
    numpy = "import numpy as np\nprint(int(np.linalg.det(np.eye(3)) * 5 + np.fft.fft([0.0]).real[0]))"
    verdict = stdio(judge, numpy)
    assert verdict.outcome is Outcome.PASS, verdict
    assert function(judge, "import numpy\ndef f(n): return numpy.arange(n).tolist()", [3], [0, 1, 2]).outcome == "pass"
    verdict = stdio(judge, "import pydantic")
    assert verdict.error is not None and verdict.error.type == "ModuleNotFoundError"
    with Judge(ExecutorSettings(packages=[])) as bare:
        verdict = stdio(bare, numpy)
        assert verdict.error is not None and verdict.error.type == "ModuleNotFoundError"


def test_an_installation_below_the_temporary_folder_is_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded late is found there too, also at L3, where programs have no /tmp but their own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        Path(folder, "nearby").mkdir()
        Path(folder, "nearby", "__init__.py").write_text("")
        Path(folder, "nearby", "late.py").write_text("answer = 5\n")
        monkeypatch.syspath_prepend(folder)
        with Judge(ExecutorSettings(packages=["nearby"])) as judge, Judge(ExecutorSettings()) as plain:
            assert stdio(judge, "from nearby.late import answer; print(answer)").outcome == "pass"
            assert judge.level == plain.level


def test_test_code_may_import_packages_as_well(judge: Judge) -> None:
    test = "import numpy as np\n\ndef check(candidate):\n    assert np.isclose(candidate(3), 1.5)\n"
    assert code(judge, "def f(n): return n / 2", test).outcome is Outcome.PASS
    assert code(judge, "def f(n): return n", test).outcome is Outcome.FAILURE


@pytest.mark.skipif(sys.prefix.startswith("/tmp/"), reason="this installation lies where programs have their own /tmp")
def test_a_program_writes_to_tmp_where_that_is_its_own(judge: Judge) -> None:
    verdict = stdio(judge, "open('/tmp/cupel-test', 'w').write('x')\nprint(5)")
    assert (verdict.outcome is Outcome.PASS) == (judge.level != "L2")


def test_numbers_of_numpy_count_as_numbers(judge: Judge) -> None:
    assert (
        function(judge, "import numpy\ndef f(): return [numpy.int64(3), numpy.float64(0.5)]", [], [3, 0.5]).outcome
        == "pass"
    )
    assert function(judge, "import numpy\ndef f(): return numpy.zeros(2)", [], [0.0, 0.0]).outcome == "error"


CLOSE = "def check(given, expected, answer):\n    return sorted(answer.split()) == sorted(expected.split())"


def test_a_problems_own_checker_decides(judge: Judge) -> None:
    checker = Checker(type="code", code=CLOSE)
    assert stdio(judge, "print(3, 2)", output="2 3\n", checker=checker).outcome is Outcome.PASS
    wrong = stdio(judge, "print(3, 4)", output="2 3\n", checker=checker)
    assert wrong.outcome is Outcome.FAILURE and wrong.tests[0].got == "3 4\n"
    assert stdio(judge, "1/0", output="2 3\n", checker=checker).outcome is Outcome.ERROR
    even = Checker(type="code", code="def check(args, expected, answer): return answer % 2 == 0 and answer > args[0]")
    assert function(judge, "def f(n): return 2 * n", [3], None, checker=even).outcome is Outcome.PASS
    assert function(judge, "def f(n): return 2 * n + 1", [3], None, checker=even).outcome is Outcome.FAILURE


@pytest.mark.parametrize(
    "code",
    ["def check(a, b, c): 1/0", "def check(a, b, c):\n    while True: pass", "(", "x = 1", "import os\nos._exit(0)"],
)
def test_a_broken_checker_is_no_fault_of_the_program(judge: Judge, code: str) -> None:
    verdict = stdio(judge, "print(5)", time_limit_s=0.3, checker=Checker(type="code", code=code))
    assert verdict.outcome is Outcome.INFRASTRUCTURE and "checker" in verdict.tests[0].message
