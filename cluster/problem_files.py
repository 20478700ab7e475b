"""`cupel problems`: a known problem set as a file in Cupel's own form, with its references checked where asked for.

Invariants: the file appears whole or not at all; what --check finds is told problem by problem.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from actors.problem_sets import jsonl
from actors.problem_sets.base import load
from cluster.run_folder import write_atomically
from executor.judging import Judge, JudgeRequest
from executor.problem import Problem
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict


def write_problems(name: str, out: Path, *, check: bool, limit: int | None = None) -> int:
    """Write the set `name` to `out`. Returns 1 if `check` found a reference that does not pass, else 0. Raises
    UserError.
    """
    problems = load(name, limit)
    write_atomically(out, jsonl.dump(problems))
    tests = sum(len(p.public_tests) + len(p.private_tests) for p in problems)
    print(f"{len(problems)} problems, {tests} tests -> {out}")
    return _report(problems) if check else 0


def _report(problems: Sequence[Problem]) -> int:
    requests = [JudgeRequest(p, reference, index=i) for p in problems for i, reference in enumerate(p.references)]
    without = sum(not p.references for p in problems)
    bad = [v for v in judge_all(requests) if v.outcome is not Outcome.PASS]
    for verdict in bad:
        why = f": {verdict.error.type}: {verdict.error.message}" if verdict.error else ""
        print(
            f"{verdict.problem_id}: reference {verdict.index}: {verdict.outcome.value}, {verdict.passed} of {verdict.total} tests{why}"
        )
    print(
        f"{len(requests) - len(bad)} of {len(requests)} references pass"
        + (f"; {without} problems have none" if without else "")
    )
    return 1 if bad else 0


def judge_all(requests: Sequence[JudgeRequest]) -> list[Verdict]:
    """The verdicts in order, judged side by side on this machine's cores."""
    workers = max(1, min(8, os.cpu_count() or 1))
    verdicts: list[Verdict] = []
    with Judge(ExecutorSettings(slots=workers)) as judge, ThreadPoolExecutor(workers) as threads:
        for verdict in threads.map(judge.judge, requests):
            verdicts.append(verdict)
            if sys.stderr.isatty() and len(verdicts) % 20 == 0:
                print(f"\r{len(verdicts)} of {len(requests)} references", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return verdicts
