"""`cupel problems`: a known problem set as a file in Cupel's own form, and its references run against their own tests.

Invariants: the file appears whole or not at all; what the check finds is told as it is found, in the order of the set,
and no more than a few references a core are held at a time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

from actors.problem_sets import jsonl
from actors.problem_sets.base import load
from cluster.run_folder import write_atomically
from executor.errors import UserError
from executor.judging import JudgeRequest
from executor.languages.base import refuse
from executor.problem import Problem
from executor.process_pool import Judged, ProcessPool, cores
from executor.progress import progress
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict

_AHEAD = 16  # references held a core
_MESSAGE = 160


def write_problems(
    name: str, out: Path | None, *, check: bool, limit: int | None = None, references: int | None = None
) -> int:
    """Write the set `name` to `out`, if given, and `check` at most so many references of each problem. Returns 1 if one
    does not pass, else 0. Raises UserError.
    """
    if out is None and not check:
        raise UserError("give --out FILE.jsonl to write the problems, --check to run their references, or both")
    if references is not None and not check:
        raise UserError(f"--references {references}: says how many references of a problem --check runs; add --check")
    problems = load(name, limit)
    tests = sum(len(p.public_tests) + len(p.private_tests) for p in problems)
    if out is not None:
        write_atomically(out, jsonl.dump(problems))
    print(f"{len(problems)} problems, {tests} tests" + (f" -> {out}" if out else ""), flush=True)
    return _check(problems, references) if check else 0


def _check(problems: Sequence[Problem], most: int | None) -> int:
    """Tell which references disagree with their tests, then the counts."""
    for problem in problems:
        refuse(problem)
    requests = [
        JudgeRequest(problem, reference, index=index)
        for problem in problems
        for index, reference in enumerate(problem.references[:most])
    ]
    outcomes: Counter[Outcome] = Counter()
    solved: set[str] = set()
    with (
        ProcessPool(ExecutorSettings(), min(cores(), max(1, len(requests)))) as pool,
        progress(len(requests), 0) as show,
    ):
        for request, judged in _in_order(pool, requests):
            outcomes[judged.outcome] += 1
            if judged.outcome is Outcome.PASS:
                solved.add(request.problem.id)
            else:
                print(_disagreement(Verdict.model_validate_json(judged.line)), flush=True)
            show(outcomes.total(), outcomes)
    without = sum(not p.references for p in problems)
    told = ", ".join(f"{outcomes[outcome]} {outcome.value}" for outcome in Outcome if outcome in outcomes)
    print(f"{outcomes.total()} references run at {pool.level}: {told or 'none'}")
    print(
        f"{len(problems)} problems: {len(solved)} with a reference that passes, "
        f"{len(problems) - len(solved) - without} with none that passes, {without} without a reference"
    )
    return 0 if outcomes.total() == outcomes[Outcome.PASS] else 1


def _in_order(pool: ProcessPool, requests: Iterable[JudgeRequest]) -> Iterator[tuple[JudgeRequest, Judged]]:
    """Each request with its verdict, as they come, in order."""
    ahead: deque[tuple[JudgeRequest, Future[Judged]]] = deque()
    for request in requests:
        ahead.append((request, pool.submit(request)))
        if len(ahead) > _AHEAD * cores():
            request, future = ahead.popleft()
            yield request, future.result()
    for request, future in ahead:
        yield request, future.result()


def _disagreement(verdict: Verdict) -> str:
    """One line on a reference that does not pass: the outcome, and what the first of its tests that is not passed shows."""
    place = f"{verdict.problem_id}: reference {verdict.index}"
    line = f"{place}: {verdict.outcome.value}, {verdict.passed} of {verdict.total} tests"
    for number, test in enumerate(verdict.tests, 1):
        if test.outcome is verdict.outcome:
            error = verdict.error if verdict.outcome in (Outcome.ERROR, Outcome.SYNTAX_ERROR) else None
            message = f"{error.type}: {error.message}" if error else test.message
            line += f"; test {number}: {message}"
            break
    line = " ".join(line.split())
    return line if len(line) <= _MESSAGE else line[: _MESSAGE - 4] + " ..."
