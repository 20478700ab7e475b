"""What judging costs, as ratios within one run: against a bare fork of the same interpreter, a fresh interpreter per test, EvalPlus.

    .venv/bin/python benchmarks/executor.py                      all that can be had here
    .venv/bin/python benchmarks/executor.py --rounds 9 --mbpp mbpp.jsonl

The floor is fork, exit and wait of an interpreter with the modules that the executor's own warm one has loaded. The ways take turns, round by
round, and the medians over the rounds are compared, since machines are noisy. EvalPlus is an extra: pip install evalplus.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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

PROGRAM = "print(int(input()) * 2)"
TRIVIAL = Problem(id="double", prompt="Double it.", kind="stdio", private_tests=[StdioTest(input="3\n", output="6\n")])
FLOOR = """
import gc, os, sys, time
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

    def __init__(self) -> None:
        zygote = Path(process.__file__).with_name("zygote.py").read_text(encoding="utf-8")
        nodes = [n for n in ast.parse(zygote).body if isinstance(n, ast.Import | ast.ImportFrom)]
        imports = "\n".join(ast.unparse(n) for n in nodes if "__future__" not in ast.unparse(n))
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-P", "-S", "-B", "-c", FLOOR.format(imports=imports)],
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


def judging(judge: Judge, requests: list[JudgeRequest], threads: int = 1) -> Way:
    """Judge the requests in turn, by so many threads."""

    def work(count: int) -> None:
        chosen = [requests[i % len(requests)] for i in range(count)]
        if threads == 1:
            verdicts = [judge.judge(request) for request in chosen]
        else:
            with ThreadPoolExecutor(threads) as pool:
                verdicts = list(pool.map(judge.judge, chosen))
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
    floor = Floor()
    judges: dict[str, Judge] = {}
    for level in LEVELS:
        try:
            judges[level] = Judge(ExecutorSettings(min_level=level, max_level=level))
        except UserError as error:
            print(f"{level}: {error}")
    try:
        ways: dict[str, tuple[Way, int]] = {"floor: fork, exit, wait": (floor, 200)}
        ways |= {
            f"one test at {level}": (judging(judge, [JudgeRequest(TRIVIAL, PROGRAM)]), 100)
            for level, judge in judges.items()
        }
        ways["python3 -I -S a test"] = (fresh_interpreter, 20)
        seen = compare(ways, rounds)
    finally:
        for judge in judges.values():
            judge.close()
        floor.close()
    print_table(seen)
    for level in judges:
        print(
            f"{level}: {ratio(seen, f'one test at {level}', 'floor: fork, exit, wait'):.2f} x the floor, "
            f"{ratio(seen, 'python3 -I -S a test', f'one test at {level}'):.1f} x as fast as python3 -I -S"
        )


def mbpp_requests(path: Path, limit: int) -> tuple[list[JudgeRequest], list[dict[str, Any]]]:
    """Samples of MBPP (the hub's columns) with all their asserts that can be told as calls and values, for us and for EvalPlus."""
    requests, others = [], []
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
        requests.append(JudgeRequest(problem, row["code"]))
        others.append({"code": row["code"], "inputs": inputs, "entry_point": names.pop(), "expected": expected})
    return requests[:limit], others[:limit]


def mbpp(path: Path, rounds: int) -> None:
    """MBPP samples with all their asserts: by us, with one slot and with two, and by EvalPlus."""
    requests, others = mbpp_requests(path, 60)
    with Judge(ExecutorSettings()) as judge:
        kept = [i for i, request in enumerate(requests) if judge.judge(request).outcome == "pass"]
    requests, others = [requests[i] for i in kept], [others[i] for i in kept]
    count = len(requests)
    with Judge(ExecutorSettings()) as one, Judge(ExecutorSettings(slots=2)) as two:
        ways: dict[str, tuple[Way, int]] = {
            f"MBPP sample, one slot ({one.level})": (judging(one, requests), count),
            "MBPP sample, two slots": (judging(two, requests, threads=2), count),
        }
        try:
            from evalplus.eval import untrusted_check  # type: ignore[import-not-found]
        except ImportError as error:
            print(f"EvalPlus is left out: {error}")
        else:

            def theirs(count: int) -> float:
                return timed(lambda: [check(other) for other in others[:count]])

            def check(other: dict[str, Any]) -> None:
                times = [0.1] * len(other["inputs"])
                untrusted_check("mbpp", atol=0, ref_time=times, **other)

            ways["MBPP sample, EvalPlus untrusted_check"] = (theirs, count)
        seen = compare(ways, rounds)
        print()
        print_table(seen)
        ours = next(iter(ways))
        print(f"two slots: {ratio(seen, ours, 'MBPP sample, two slots'):.2f} x as fast as one")
        if len(ways) > 2:
            print(
                f"{ratio(seen, list(ways)[2], ours):.1f} x as fast as EvalPlus, {count} samples with all their asserts"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="Times that each way has its turn.")
    parser.add_argument("--mbpp", type=Path, help="A JSONL file of MBPP with the hub's columns.")
    arguments = parser.parse_args()
    trivial_test(arguments.rounds)
    if arguments.mbpp is not None:
        mbpp(arguments.mbpp, arguments.rounds)


if __name__ == "__main__":
    main()
