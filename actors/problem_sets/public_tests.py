"""Which tests of a problem are public, where its data do not say so. Pure.

Invariants: no test is both public and private; public and private tests together say of a program what they said before;
at least one stays private. What cannot be divided, such as a single test on standard streams, is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.problem_sets.code_cases import CodeCases, shown_calls
from executor.problem import CodeTest, FunctionTest, Problem, StdioTest, Test

FEW = 3


def distinct(problem: Problem) -> Problem:
    """The problem without private tests that are public as well, or there twice: the same input counts as the same test."""
    seen = {_same(test) for test in problem.public_tests}
    private: list[Test] = []
    for test in problem.private_tests:
        if (name := _same(test)) not in seen:
            seen.add(name)
            private.append(test)
    return problem.model_copy(update={"private_tests": private})


def derive(problem: Problem) -> Problem:
    """The problem with a few of its private tests made public, if it has no public ones: those that its statement shows,
    else the first; at most three, and at most half.
    """
    private = problem.private_tests
    if problem.public_tests or not private:
        return problem
    if len(private) > 1:
        numbers = range(len(private))
        taken = [n for n in numbers if _is_shown(private[n], problem)] or numbers
        taken = taken[: min(FEW, len(private) // 2)]
        return _divided(problem, [private[n] for n in taken], [private[n] for n in numbers if n not in taken])
    (test,) = private
    if isinstance(test, CodeTest) and problem.entry_point:
        return _divide_code(problem, test, problem.entry_point)
    return problem


def _divide_code(problem: Problem, test: CodeTest, entry_point: str) -> Problem:
    cases = CodeCases(test.code, entry_point)
    shown = shown_calls(f"{problem.prompt}\n{problem.starter_code or ''}", entry_point)
    numbers = range(len(cases.arguments))
    chosen: dict[int, str] = {}
    for number in [n for n in numbers if cases.arguments[n] in shown] or numbers:
        code = cases.alone(number) or shown.get(cases.arguments[number], "")
        if len(chosen) < min(FEW, len(numbers) // 2) and code:
            chosen[number] = code
    if not chosen:
        return problem
    return _divided(problem, [CodeTest(code=code) for code in chosen.values()], [CodeTest(code=cases.without(chosen))])


def _divided(problem: Problem, public: Sequence[Test], private: Sequence[Test]) -> Problem:
    return problem.model_copy(update={"public_tests": list(public), "private_tests": list(private)})


def _is_shown(test: Test, problem: Problem) -> bool:
    """Whether the statement has the whole input of a test and after it the output, wherever their lines break."""
    if not isinstance(test, StdioTest) or not test.input.strip():
        return False
    statement, given, answer = (f" {' '.join(text.split())} " for text in (problem.prompt, test.input, test.output))
    return answer in f" {statement.partition(given)[2]}"


def _same(test: Test) -> str:
    if isinstance(test, StdioTest):
        return "\n".join(line.rstrip() for line in test.input.strip().splitlines())
    if isinstance(test, FunctionTest):
        return repr((test.args, test.kwargs))
    return test.code
