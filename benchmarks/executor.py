"""What judging costs, as ratios within one run: against a bare fork of the same interpreter, a fresh interpreter per test, EvalPlus.

    .venv/bin/python benchmarks/executor.py                      all that can be had here
    .venv/bin/python benchmarks/executor.py --rounds 9 --mbpp mbpp.jsonl

The floor is fork, exit and wait of an interpreter with the modules that the executor's own warm one has loaded; the lower floor leaves out what
two of them hook into every fork, as the executor does. The ways take turns, round by round, and the medians over the rounds are compared, since
machines are noisy. A worker is a process with a core of its own. EvalPlus comes with the extra dev.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# This file has the name of the package that it measures, and its folder comes first where it is run.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from executor.errors import UserError  # noqa: E402
from executor.judging import Judge, JudgeRequest  # noqa: E402
from executor.languages.python_asserts import read  # noqa: E402
from executor.languages.python_tests import plan  # noqa: E402
from executor.problem import CodeTest, Problem, StdioTest  # noqa: E402
from executor.sandbox import process  # noqa: E402
from executor.sandbox.level import LEVELS  # noqa: E402
from executor.settings import ExecutorSettings  # noqa: E402

SAMPLES = 60  # of MBPP
PROGRAM = "print(int(input()) * 2)"
TRIVIAL = Problem(id="double", prompt="Double it.", kind="stdio", private_tests=[StdioTest(input="3\n", output="6\n")])
FLOOR = """
import gc, os, sys, time
if {lower}: os.register_at_fork = lambda **hooks: None
{imports}
gc.collect(); gc.freeze(); gc.disable()
for line in sys.stdin:
    start = time.perf_counter()
    for _ in range(int(line)):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    print(time.perf_counter() - start, flush=True)
"""

Way = Callable[[int], float]  # do it so many times; seconds


class Floor:
    """An interpreter that forks, exits and waits."""

    def __init__(self, lower: bool = False) -> None:
        zygote = Path(process.__file__).with_name("zygote.py").read_text(encoding="utf-8")
        nodes = [n for n in ast.parse(zygote).body if isinstance(n, ast.Import | ast.ImportFrom)]
        imports = "\n".join(ast.unparse(n) for n in nodes if "__future__" not in ast.unparse(n))
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-P", "-S", "-B", "-c", FLOOR.format(imports=imports, lower=lower)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, count: int) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(count, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


class Workers:
    """Judges in processes of their own, each on one core, that judge the same samples at the same time."""

    def __init__(self, number: int, path: Path) -> None:
        cores = sorted(os.sched_getaffinity(0))
        command = [sys.executable, __file__, "--mbpp", str(path), "--worker"]
        self._processes = [
            subprocess.Popen(
                [*command, str(cores[i % len(cores)])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for i in range(number)
        ]

    def __call__(self, count: int) -> float:
        for worker in self._processes:
            assert worker.stdin is not None
            print(count, file=worker.stdin, flush=True)
        return max(float(p.stdout.readline()) for p in self._processes if p.stdout) / len(self._processes)

    def close(self) -> None:
        for worker in self._processes:
            worker.communicate()


def work_on(core: int, path: Path) -> None:
    """One of `Workers`."""
    os.sched_setaffinity(0, {core})
    with Judge(ExecutorSettings()) as judge:
        way = judging(judge, [request for request, _ in passing(judge, path)])
        for line in sys.stdin:
            print(way(int(line)), flush=True)


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fresh_interpreter(count: int) -> float:
    def once() -> None:
        command = [sys.executable, "-I", "-S", "-c", PROGRAM]
        done = subprocess.run(command, input=b"3\n", capture_output=True, check=True)
        assert done.stdout == b"6\n"

    return timed(lambda: [once() for _ in range(count)])


def judging(judge: Judge, requests: list[JudgeRequest]) -> Way:
    """Judge the requests in turn."""

    def work(count: int) -> None:
        verdicts = [judge.judge(requests[i % len(requests)]) for i in range(count)]
        assert all(verdict.outcome == "pass" for verdict in verdicts)

    return lambda count: timed(lambda: work(count))


def compare(ways: dict[str, tuple[Way, int]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds a time of each way, round by round; the ways take turns."""
    for way, _ in ways.values():
        way(2)
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (way, count) in ways.items():
            seen[name].append(1000 * way(count) / count)
    return seen


def ratio(seen: dict[str, list[float]], over: str, under: str) -> float:
    """Median over the rounds of one way's time over another's in the same round."""
    return statistics.median(a / b for a, b in zip(seen[over], seen[under], strict=True))


def print_table(seen: dict[str, list[float]]) -> None:
    print(f"{'':42} {'median ms':>10} {'least':>8}")
    for name, times in seen.items():
        print(f"{name:42} {statistics.median(times):10.2f} {min(times):8.2f}")


def trivial_test(rounds: int) -> None:
    """One trivial test at each level, beside the floor and a fresh interpreter."""
    floors = {"floor: fork, exit, wait": Floor(), "lower floor: without hooks": Floor(lower=True)}
    judges: dict[str, Judge] = {}
    for level in LEVELS:
        try:
            judges[level] = Judge(ExecutorSettings(min_level=level, max_level=level))
        except UserError as error:
            print(f"{level}: {error}")
    try:
        ways: dict[str, tuple[Way, int]] = {name: (floor, 200) for name, floor in floors.items()}
        ways |= {
            f"one test at {level}": (judging(judge, [JudgeRequest(TRIVIAL, PROGRAM)]), 100)
            for level, judge in judges.items()
        }
        ways["python3 -I -S a test"] = (fresh_interpreter, 20)
        seen = compare(ways, rounds)
    finally:
        for judge in judges.values():
            judge.close()
        for floor in floors.values():
            floor.close()
    print_table(seen)
    for level in judges:
        print(
            f"{level}: {ratio(seen, f'one test at {level}', 'floor: fork, exit, wait'):.2f} x the floor "
            f"({ratio(seen, f'one test at {level}', 'lower floor: without hooks'):.2f} x the lower), "
            f"{ratio(seen, 'python3 -I -S a test', f'one test at {level}'):.1f} x as fast as python3 -I -S"
        )


def mbpp_requests(path: Path) -> list[tuple[JudgeRequest, dict[str, Any]]]:
    """Samples of MBPP (the hub's columns) with all their asserts that can be told as calls and values, for us and for EvalPlus."""
    requests = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["test_setup_code"]:
            continue
        tests = [CodeTest(code=code) for code in row["test_list"]]
        inputs, expected, names = [], [], set()
        for code in row["test_list"]:
            compared = ast.parse(code).body[0]
            assertions = read(code, frozenset(plan(code, None).names))
            if assertions is None or not isinstance(compared, ast.Assert) or not isinstance(compared.test, ast.Compare):
                break
            (call,) = assertions[0].calls[:1]
            names.add(call.name)
            try:
                expected.append(ast.literal_eval(compared.test.comparators[0]))
            except ValueError:
                break
            inputs.append(list(call.args))
        if len(expected) != len(tests) or len(names) != 1:
            continue
        problem = Problem(id=str(row["task_id"]), prompt=row["text"], kind="function", private_tests=list(tests))
        theirs = {"code": row["code"], "inputs": inputs, "entry_point": names.pop(), "expected": expected}
        requests.append((JudgeRequest(problem, row["code"]), theirs))
    return requests[:SAMPLES]


def passing(judge: Judge, path: Path) -> list[tuple[JudgeRequest, dict[str, Any]]]:
    """Those of the samples that pass."""
    return [(ours, theirs) for ours, theirs in mbpp_requests(path) if judge.judge(ours).outcome == "pass"]


def mbpp(path: Path, rounds: int) -> None:
    """MBPP samples with all their asserts: by us, by one worker and by two, and by EvalPlus."""
    one, two = Workers(1, path), Workers(2, path)
    with Judge(ExecutorSettings()) as judge:
        samples = passing(judge, path)
        count = len(samples)
        ours = f"MBPP sample ({judge.level})"
        ways: dict[str, tuple[Way, int]] = {
            ours: (judging(judge, [request for request, _ in samples]), count),
            "MBPP sample, one worker on one core": (one, count),
            "MBPP sample, two workers on two cores": (two, count),
        }
        try:
            from evalplus.eval import untrusted_check  # type: ignore[import-not-found]
        except ImportError as error:
            print(f"EvalPlus is left out: {error}")
        else:

            def theirs(count: int) -> float:
                return timed(lambda: [check(other) for _, other in samples[:count]])

            def check(other: dict[str, Any]) -> None:
                times = [0.1] * len(other["inputs"])
                untrusted_check("mbpp", atol=0, ref_time=times, **other)

            ways["MBPP sample, EvalPlus untrusted_check"] = (theirs, count)
        seen = compare(ways, rounds)
    one.close()
    two.close()
    print()
    print_table(seen)
    _, single, double, *evalplus = ways
    print(f"two workers: {ratio(seen, single, double):.2f} x as fast as one")
    if evalplus:
        print(f"{ratio(seen, evalplus[0], ours):.1f} x as fast as EvalPlus, {count} samples with all their asserts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="Times that each way has its turn.")
    parser.add_argument("--mbpp", type=Path, help="A JSONL file of MBPP with the hub's columns.")
    parser.add_argument("--worker", type=int, metavar="CORE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work_on(arguments.worker, arguments.mbpp)
        return
    trivial_test(arguments.rounds)
    if arguments.mbpp is not None:
        mbpp(arguments.mbpp, arguments.rounds)


if __name__ == "__main__":
    main()
