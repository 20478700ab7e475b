"""Test code in the form of EvalPlus's data sets, with the head that compares answers."""

from __future__ import annotations

from typing import Any

COMPARING = """import numpy as np


def is_floats(x):
    return isinstance(x, float) or (isinstance(x, (list, tuple)) and all(isinstance(item, float) for item in x))


def assertion(out, exp, atol):
    exact_match = out == exp
    near = 1e-6 if atol == 0 and is_floats(exp) else atol
    assert exact_match or (near and np.allclose(out, exp, rtol=1e-07, atol=near))


"""


def check(inputs: list[Any], results: list[Any], tolerance: float = 0) -> str:
    """HumanEval+'s form."""
    return f"""{COMPARING}def check(candidate):
    inputs = {inputs!r}
    results = {results!r}
    for i, (inp, exp) in enumerate(zip(inputs, results)):
        assertion(candidate(*inp), exp, {tolerance!r})
"""


def check_with_solution(inputs: list[Any], solution: str) -> str:
    """HumanEval+'s form where what is expected would be too long; `solution` defines `ref_func`."""
    return f"""{COMPARING}{solution}

def check(candidate):
    inputs = {inputs!r}
    for i, inp in enumerate(inputs):
        assertion(candidate(*inp), ref_func(*inp), 0)
"""


def loop(name: str, inputs: list[Any], results: list[Any]) -> str:
    """MBPP+'s form."""
    return f"""{COMPARING}from math import inf

inputs = {inputs!r}
results = {results!r}
for i, (inp, exp) in enumerate(zip(inputs, results)):
    assertion({name}(*inp), exp, 0)
"""
