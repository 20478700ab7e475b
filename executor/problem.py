"""What a program is asked to do and how it is tested: the problem, its tests and its limits.

These are wire forms: one problem is one line of JSONL. Invariants: a problem has at least one test; its tests fit its
kind; a function problem that is tested by arguments names its entry point. Expected values live here and never enter
a tested program's process.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Language = Literal["python", "java"]
Kind = Literal["stdio", "function", "script"]
LANGUAGE_NAMES: dict[Language, str] = {"python": "Python", "java": "Java"}  # as people and models read them


class StdioTest(BaseModel):
    """Feed `input` to the program's standard input; its standard output must equal `output`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str = Field(description="Text given on standard input.")
    output: str = Field(description="Text that standard output must equal, as the checker compares.")


class FunctionTest(BaseModel):
    """Call the entry point with plain values; what it returns must equal `expected`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    args: list[Any] = Field(default_factory=list, description="Positional arguments.")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments.")
    expected: Any = Field(description="The value that the call must return.")


class CodeTest(BaseModel):
    """Trusted test code (asserts, or HumanEval's `check(candidate)`) that is run against the program."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str = Field(description="Test code; it passes if it raises nothing.", min_length=1)


Test = StdioTest | FunctionTest | CodeTest


class Checker(BaseModel):
    """How an answer is compared with the expected one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["exact", "tokens", "float", "code"] = Field(
        default="exact",
        description="exact: equal values (text: trailing white space of lines and end is ignored); tokens: equal after "
        "splitting at white space; float: numbers within abs or rel, everything else exact; code: what `code` says.",
    )
    abs: float = Field(default=1e-9, ge=0, description="Absolute tolerance of the float checker.")
    rel: float = Field(default=1e-9, ge=0, description="Relative tolerance of the float checker.")
    code: str | None = Field(
        default=None,
        description="Trusted Python that defines `check(given, expected, answer) -> bool`: input text and output texts, or a "
        "list of arguments and values.",
    )

    @model_validator(mode="after")
    def _code_where_it_is_asked_for(self) -> Checker:
        if (self.type == "code") != (self.code is not None):
            raise ValueError("a checker of type code needs code, and no other takes any")
        return self


class Problem(BaseModel):
    """One programming problem: a statement, public tests that feedback may show, private tests that decide."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, description="Name of the problem, unique in its file.")
    prompt: str = Field(min_length=1, description="The statement that the model reads.")
    language: Language = Field(default="python", description="Language of the programs.")
    kind: Kind = Field(
        description="stdio: a program on standard input and output; function: an entry point; script: test code."
    )
    entry_point: str | None = Field(
        default=None, description="Name of the function or `Class().method` that tests call."
    )
    starter_code: str | None = Field(default=None, description="Code that the answer must go on from.")
    public_tests: list[Test] = Field(default_factory=list, description="Tests whose content feedback may show.")
    private_tests: list[Test] = Field(default_factory=list, description="Tests that only decide.")
    time_limit_s: float = Field(default=4.0, gt=0, le=600, description="CPU seconds a test may take.")
    memory_limit_mb: int = Field(default=512, ge=16, le=65536, description="Memory a test may take, in MiB.")
    references: list[str] = Field(default_factory=list, description="Programs that solve the problem.")
    checker: Checker = Field(default_factory=Checker, description="How answers are compared.")
    difficulty: int | None = Field(default=None, ge=1, le=5, description="1 (easiest) to 5, where it is known.")
    topics: list[str] = Field(default_factory=list, description="What the problem is about.")

    @model_validator(mode="after")
    def _tests_fit_kind(self) -> Problem:
        tests = [*self.public_tests, *self.private_tests]
        if not tests:
            raise ValueError(f"problem {self.id!r} has no tests: give public_tests or private_tests")
        allowed: dict[str, tuple[type, ...]] = {
            "stdio": (StdioTest,),
            "function": (FunctionTest, CodeTest),
            "script": (CodeTest,),
        }
        for test in tests:
            if not isinstance(test, allowed[self.kind]):
                names = " or ".join(t.__name__ for t in allowed[self.kind])
                raise ValueError(
                    f"problem {self.id!r} is of kind {self.kind!r} and has a {type(test).__name__}: it takes {names}"
                )
            if isinstance(test, FunctionTest) and not self.entry_point:
                raise ValueError(f"problem {self.id!r} has tests with arguments and no entry_point")
        return self


class Sample(BaseModel):
    """One program written for one problem; a line of a samples file."""

    model_config = ConfigDict(extra="ignore")

    problem_id: str = Field(description="The problem that the program answers.")
    program: str = Field(description="The whole source text.")
