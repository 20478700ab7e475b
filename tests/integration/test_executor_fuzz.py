"""Whatever a hostile process says, the judge neither breaks nor believes it.

`Hostile` stands for a slot whose processes wrote these bytes and ended so; all that reads them is the real thing.
"""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from executor.comparing import close, text_equal, value_equal
from executor.languages import wire
from executor.languages.base import Finding
from executor.languages.python import PythonProgram
from executor.languages.python_findings import raised_in
from executor.problem import Checker, CodeTest, FunctionTest, Problem, StdioTest, Test
from executor.sandbox.process import End, SandboxLost
from executor.sandbox.running import Limits, Part, Ran, Run
from executor.sandbox.slot import Slot
from executor.sandbox.supervise import Reason
from executor.verdict import PRECEDENCE, Outcome, TestResult, Verdict, aggregate, jsonable

LIMITS = Limits(cpu_s=1.0, wall_s=2.0, memory_bytes=64 << 20, output_bytes=1 << 16)
EXACT, FLOAT, TOKENS = Checker(), Checker(type="float"), Checker(type="tokens")
RIGHT = "the right answer"
BEGUN = [wire.frame(wire.encode((report,))) for report in ("compiled", "loaded")]
fuzz = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])

# --- values of every type that can cross

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.integers(14_300, 20_000).map(lambda bits: 1 << bits),  # more digits than may be written
    st.sampled_from([-1.0, 0.0, -0.0, 1.0, 2.0]),
    st.floats(),
    st.text(st.characters(), max_size=6),  # lone surrogates too
    st.binary(max_size=6),
    st.complex_numbers(),
    st.builds(range, st.integers(-3, 3), st.integers(-3, 1 << 70), st.sampled_from([1, -1, 3])),
    st.sampled_from([int, str, type(None)]),
)
hashables = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
mappings = st.dictionaries(hashables, scalars, max_size=3)
values = st.recursive(
    hashables | st.binary(max_size=6).map(bytearray),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(deque),
        st.sets(hashables, max_size=3),
        st.dictionaries(hashables, inner, max_size=3),
        mappings.map(lambda d: cast(Any, Counter(d))),
        mappings.map(lambda d: defaultdict(None, d)),
        mappings.map(OrderedDict),
    ),
    max_leaves=8,
)


def inside(value: Any) -> list[Any]:
    """The values right in a container, keys before items."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list | tuple | set | frozenset | deque) else []


def has_nan(value: Any) -> bool:
    return (type(value) in (float, complex) and value != value) or any(map(has_nan, inside(value)))


def form(value: Any) -> Any:
    """What makes two answers the same, written another way than the comparison is: type and content at every depth."""
    if isinstance(value, dict):
        return dict, frozenset((form(key), form(item)) for key, item in value.items())
    if isinstance(value, set | frozenset):
        return type(value), frozenset(map(form, value))
    if isinstance(value, list | tuple | deque):
        return type(value), tuple(map(form, value))
    return type(value), bytes(value) if type(value) is bytearray else value


def exact_form(value: Any) -> Any:
    """As `form`, and the kind of dict, the order of its keys and every bit of a float besides."""
    if isinstance(value, dict):
        return type(value), tuple((exact_form(key), exact_form(item)) for key, item in value.items())
    if isinstance(value, set | frozenset):
        return type(value), frozenset(Counter(map(exact_form, value)).items())
    if isinstance(value, list | tuple | deque):
        return type(value), tuple(map(exact_form, value))
    return type(value), wire.encode(value)


def copy(value: Any) -> Any:
    return wire.decode(wire.encode(value))


@st.composite
def disguised(draw: st.DrawFn, value: Any) -> Any:
    """A value that is another in type somewhere, and that `==` alone would often take for the same."""
    if type(value) in (list, tuple) and value and draw(st.booleans()):
        place = draw(st.integers(0, len(value) - 1))
        return type(value)(draw(disguised(item)) if i == place else item for i, item in enumerate(value))
    if type(value) is dict and value and draw(st.booleans()):
        place = draw(st.sampled_from([*value]))
        return {key: draw(disguised(item)) if key is place else item for key, item in value.items()}
    number = cast(Any, value)
    if type(number) in (bool, int):
        other = float(number) if abs(number) < 1 << 50 else str(number % 10)
        return draw(st.sampled_from([other, bool(number) if type(number) is int else int(number)]))
    if type(number) is float:
        return int(number) if number == number and abs(number) < 1e15 else str(number)
    others = {str: bytes, list: tuple, tuple: list, set: frozenset, frozenset: set, bytes: bytearray, bytearray: bytes}
    other = others.get(type(value), list)
    if other is bytes and type(value) is str:
        return value.encode("utf-8", "surrogatepass")
    return other(value) if type(value) in others else [value]


# --- the wire


@fuzz
@given(values)
def test_values_come_back_with_their_types_and_bits(value: Any) -> None:
    assert exact_form(copy(value)) == exact_form(value)


class CountingDecoder(wire.Decoder):
    calls = 0

    def value(self, depth: int = 0) -> Any:
        self.calls += 1
        return super().value(depth)


tags = st.sampled_from([bytes([tag]) for tag in b"NTFifsltdCDOSZbycqrxR"])
counts = st.sampled_from([0, 1, 2, 3, 5, 255, 1 << 16, (1 << 32) - 1]).map(lambda n: n.to_bytes(4, "little"))
wirelike = st.lists(tags | counts | st.binary(max_size=8), max_size=30).map(b"".join)


@fuzz
@given(wirelike | st.binary(max_size=300))
def test_decoding_takes_no_more_steps_than_bytes(raw: bytes) -> None:
    decoder = CountingDecoder(raw)
    try:
        decoder.value()
    except wire.WireError:
        pass
    assert decoder.calls <= len(raw) + 1


@fuzz
@given(values, st.data())
def test_a_value_cut_short_or_continued_is_none(value: Any, data: st.DataObject) -> None:
    raw = wire.encode(value)
    with pytest.raises(wire.WireError):
        wire.decode(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(wire.WireError):
        wire.decode(raw + data.draw(st.binary(min_size=1, max_size=5)))


@pytest.mark.parametrize("item", [b"N", b"l\0\0\0\0", b"q\0\0\0\0", b"S\0\0\0\0", b"O\0\0\0\0", b"C\0\0\0\0"])
def test_memory_is_in_proportion(item: bytes) -> None:
    number = (1 << 20) // len(item)
    raw = b"l" + number.to_bytes(4, "little") + item * number
    tracemalloc.start()
    try:
        with contextlib.suppress(wire.WireError):
            wire.decode(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 * len(raw)


# --- comparing


@fuzz
@given(values, st.data())
def test_exact_values_are_equal_just_where_type_and_content_are(value: Any, data: st.DataObject) -> None:
    for other in (copy(value), data.draw(disguised(value)), data.draw(values)):
        same = form(value) == form(other) and not has_nan(value)
        assert value_equal(value, other, EXACT) is same
        assert value_equal(other, value, EXACT) is same


@fuzz
@given(values, st.data())
def test_the_float_checker_mixes_ints_and_floats_and_nothing_else(value: Any, data: st.DataObject) -> None:
    def numbers(value: Any) -> Any:
        if isinstance(value, dict):
            return dict, frozenset((form(key), numbers(item)) for key, item in value.items())
        if isinstance(value, list | tuple | deque):
            return type(value), tuple(map(numbers, value))
        return "number" if type(value) in (int, float) else form(value)

    for other in (copy(value), data.draw(disguised(value)), data.draw(values)):
        if value_equal(value, other, FLOAT):
            assert numbers(value) == numbers(other) and not has_nan(value) and not has_nan(other)
        assert value_equal(value, other, TOKENS) in (True, False)
    assert has_nan(value) or value_equal(value, copy(value), FLOAT)


@fuzz
@given(st.floats() | st.integers(), st.floats() | st.integers())
def test_close_is_within_a_tolerance_or_equal(a: float, b: float) -> None:
    assert close(a, a, FLOAT) is (a == a)
    if close(a, b, FLOAT) and a != b:
        assert abs(float(a) - float(b)) <= max(FLOAT.abs, FLOAT.rel * abs(float(a))) < float("inf")


@fuzz
@given(st.text(st.characters(), max_size=20), st.binary(max_size=20))
def test_text_is_compared_without_error(expected: str, got: bytes) -> None:
    raw = expected.encode("utf-8", "surrogatepass")
    for checker in (EXACT, TOKENS, FLOAT):
        assert text_equal(expected, raw, checker)
        if text_equal(expected, got, checker):
            assert len(raw.split()) == len(got.split())
            assert checker is FLOAT or raw.split() == got.split()


# --- reports


@dataclass
class Hostile:
    """A slot, and the processes in it, of which all is said to have been done already, whatever is asked of them."""

    did: Run
    cpu_s: float = 0.0
    peak_bytes: int = 0

    def run(self, program: Part, tester: Part | None, limits: Limits) -> Run:
        return self.did

    def start(self, program: Part, tester: Part | None, limits: Limits, calls: int = 0) -> Hostile:
        return self

    def ask(self, request: bytes, answers: int, cpu_s: float, wall_s: float) -> Reason:
        return self.did.reason

    @property
    def reports(self) -> list[bytes]:
        return wire.frames(self.did.program.report)

    @property
    def reported_bytes(self) -> int:
        return sum(wire.FRAME_HEAD + len(report) for report in self.reports)

    def end(self) -> Run:
        return self.did


KINDS = [
    "compiled",
    "syntax",
    "raised",
    "value",
    "unjudgeable",
    "too_large",
    "passed",
    "failed",
    "solution",
    "broken",
    "",
]
words = st.sampled_from(["raised", "MemoryError", "bad name", "\ud800", None, 3, 10**9, -1]) | values
messages = st.builds(lambda kind, rest: (kind, *rest), st.sampled_from(KINDS), st.lists(words, max_size=7))
stacks = st.integers(0, 10**9).map(lambda n: b'(most recent call first):\n  File "<program>", line %d in f\n' % n)
reports = st.lists(
    st.one_of(
        messages.map(lambda message: wire.frame(wire.encode(message))),
        values.map(lambda value: wire.frame(wire.encode(value))),
        wirelike.map(wire.frame),
        st.binary(max_size=20),
        stacks,
    ),
    max_size=3,
).map(b"".join)


def often(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """Mostly the first."""
    return st.sampled_from([usual] * 5 * len(others) + [*others])


@st.composite
def rans(draw: st.DrawFn, report: bytes) -> Ran:
    end = End(
        status=draw(often(0, 256, 97 << 8, 9, 11, 64 | 128)),
        cpu_s=draw(often(0.0, 0.5, 2.0)),
        peak_bytes=draw(often(0, 1 << 30)),
        by_itself=draw(st.booleans()),
    )
    return Ran(end, draw(st.binary(max_size=40)), draw(st.binary(max_size=9)), report)


@st.composite
def runs(draw: st.DrawFn, report: bytes, test: Test) -> Run:
    asked = test in TESTS[1:3]
    return Run(
        reason=draw(often("answered" if asked else "exited", "exited", "cpu", "wall", "output")),
        program=draw(rans(report)),
        tester=draw(rans(draw(reports))) if isinstance(test, CodeTest) else None,
        rest_cpu_s=draw(often(0.0, 2.0)),
        out_of_memory=draw(often(False, True)),
    )


def found(run: Run, test: Test) -> Finding:
    """What is found of a run; whatever it is can be told."""
    kind = "stdio" if isinstance(test, StdioTest) else "function"
    problem = Problem(id="p", prompt="?", kind=kind, entry_point="f", public_tests=[test])
    program = PythonProgram(cast(Slot, Hostile(run)), problem, "", LIMITS, 1)
    finding = program.run(test)
    program.close()
    result = TestResult(outcome=finding.outcome, public=True, seconds=finding.seconds, message=finding.message)
    result.got = finding.got
    result.error = finding.error
    if finding.error is not None:  # the source has one line
        frames = finding.error.frames
        assert len(frames) <= 8 and all(frame.line == 1 and len(frame.function) <= 100 for frame in frames)
    verdict = Verdict(problem_id="p", outcome=finding.outcome, tests=[result], error=finding.error)
    json.dumps(jsonable(verdict), ensure_ascii=False).encode()
    return finding


TESTS: list[Test] = [
    StdioTest(input="", output=RIGHT),
    FunctionTest(args=[], expected=RIGHT),
    CodeTest(code=f"assert f() == {RIGHT!r}"),  # calls and constants
    CodeTest(code=f"answer = f()\nassert answer == {RIGHT!r}"),  # a process of its own
]


@settings(fuzz, max_examples=250)
@given(st.sampled_from(TESTS), often(2, 1, 0), reports, st.data())
def test_no_report_breaks_the_judge_or_makes_a_wrong_answer_right(
    test: Test, began: int, report: bytes, data: st.DataObject
) -> None:
    run = data.draw(runs(b"".join(BEGUN[:began]) + report, test))
    assume(RIGHT.encode() not in run.program.report + run.program.stdout)
    try:
        finding = found(run, test)
    except SandboxLost:
        assert not began or isinstance(test, CodeTest)  # a program that began cannot have its end blamed on us
    else:
        assert finding.outcome is not Outcome.PASS and finding.outcome is not Outcome.INFRASTRUCTURE


@fuzz
@given(st.sampled_from(TESTS), st.sampled_from(["syntax", "broken", "raised"]), st.lists(words, max_size=6), st.data())
def test_a_first_report_that_is_none_is_no_verdict_but_on_us(
    test: Test, kind: str, rest: list[Any], data: st.DataObject
) -> None:
    run = data.draw(runs(wire.frame(wire.encode((kind, *rest))), test))
    try:
        assert found(run, test).outcome is not Outcome.PASS
    except SandboxLost:
        pass


numbers = st.integers(-1, 9) | st.just(10**30)
names = st.sampled_from(["f", "<module>", "a b", "x" * 200, "", "\ud800", "<b>\n"])
frames_told = st.integers(0, 10).flatmap(lambda n: st.tuples(*[st.tuples(numbers, names, numbers)] * n))
stacks_told = frames_told | st.lists(st.tuples(*[words] * 3), max_size=3).map(tuple) | words


@fuzz
@given(stacks_told)
@example(((1, "f", 0),) * 9)
def test_no_stack_that_is_told_is_taken_for_more_than_it_can_be(told: Any) -> None:
    error = raised_in([("raised", "KeyError", "KeyError", "x", 1, 1, told)])
    assert error is not None and error.line == 1 and len(error.frames) <= 8
    for frame in error.frames:
        assert frame.line >= 1 and frame.left_out >= 0
        assert frame.function in ("?", "<module>") or (frame.function.isidentifier() and len(frame.function) <= 100)
    Verdict.model_validate_json(Verdict(problem_id="p", outcome=Outcome.ERROR, error=error).model_dump_json())


@fuzz
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_a_right_answer_among_noise_is_right_only_whole(noise: bytes, at: int, byte: int) -> None:
    def outcome(report: bytes) -> Outcome:
        return found(Run("answered", Ran(End(0, 0.0, 0, False), b"", b"", report), None, 0.0, False), TESTS[1]).outcome

    begun = b"".join(BEGUN)
    right = begun + wire.frame(wire.encode(("value", RIGHT)))
    assert outcome(right + noise) is Outcome.PASS
    assert outcome(begun + noise + right[len(begun) :]) is not Outcome.PASS or not noise
    broken = bytearray(right)
    broken[len(begun) + at % (len(right) - len(begun))] = byte
    assert outcome(bytes(broken)) is not Outcome.PASS or bytes(broken) == right


# --- summing up


@fuzz
@given(st.lists(st.sampled_from([*Outcome]), max_size=6), st.integers(0, 3), st.randoms())
def test_a_pass_takes_every_test_and_nothing_worse(outcomes: list[Outcome], missing: int, random: Any) -> None:
    total = len(outcomes) + missing
    if outcomes and set(outcomes) == {Outcome.PASS} and missing:
        with pytest.raises(ValueError, match="the rest decides"):
            aggregate(outcomes, total)
        return
    outcome = aggregate(outcomes, total)
    assert outcome is (next(o for o in PRECEDENCE if o in outcomes) if outcomes else Outcome.INFRASTRUCTURE)
    assert (outcome is Outcome.PASS) == (bool(outcomes) and set(outcomes) == {Outcome.PASS} and not missing)
    assert aggregate(random.sample(outcomes, len(outcomes)), total) is outcome
