"""The words of feedback: a sentence a field, replaceable by a file of the user's own.

Invariants: every text holds the placeholders of its field and no others, so that filling one in cannot fail; what is filled in is never read as a
template again.
"""

from __future__ import annotations

from string import Formatter
from typing import Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from executor.errors import UserError

_SETTING = "rollout.feedback_templates"
_SHOWN = 60


def _with(*names: str) -> AfterValidator:
    """Text with just these placeholders."""
    known = ", ".join(f"{{{name}}}" for name in names) or "none"

    def check(text: str) -> str:
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"{error}; a brace that is no placeholder is written twice") from None
        found = set()
        for _, name, form, conversion in parts:
            if name is None:
                continue
            if name not in names or form or conversion:
                written = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
                raise ValueError(f"unknown placeholder {{{written}}}; those known here: {known}")
            found.add(name)
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(f"placeholder {{{missing[0]}}} is missing; those wanted here: {known}")
        return text

    return AfterValidator(check)


class FeedbackTemplates(BaseModel):
    """Texts with {named} placeholders. Of these, test, expected, got and traceback bring their indentation along: they go on lines of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    header: Annotated[str, _with()] = Field(
        default="Your program does not solve the task yet. It failed these tests:",
        description="Before the tests that failed.",
    )
    wrong_output: Annotated[str, _with("test", "expected", "got")] = Field(
        default="- Wrong answer. Input:\n{test}\n  Expected output:\n{expected}\n  Output of your program:\n{got}",
        description="A program that printed something else.",
    )
    wrong_value: Annotated[str, _with("test", "expected", "got")] = Field(
        default="- Wrong answer. Test:\n{test}\n  Expected value:\n{expected}\n  Value that your program gave:\n{got}",
        description="A call, or an assertion on a call, that gave something else.",
    )
    assertion: Annotated[str, _with("test", "got")] = Field(
        default="- This check does not hold:\n{test}\n  The last call of your program in it gave:\n{got}",
        description="An assertion of any other form that was not met.",
    )
    check: Annotated[str, _with("test")] = Field(
        default="- This check does not hold:\n{test}",
        description="A check that was not met, where no value is known.",
    )
    exception: Annotated[str, _with("test", "traceback")] = Field(
        default="- Your program ended with an error. Test:\n{test}\n  Error:\n{traceback}",
        description="An exception, or an end by a signal or with an exit status.",
    )
    timeout: Annotated[str, _with("test", "seconds", "place")] = Field(
        default="- Your program took too long and was stopped (limit: {seconds} s). Test:\n{test}{place}",
        description="A program that was stopped at its time limit.",
    )
    memory: Annotated[str, _with("test", "megabytes", "place")] = Field(
        default="- Your program ran out of memory (limit: {megabytes} MiB). Test:\n{test}{place}",
        description="A program that wanted more memory than its limit.",
    )
    output_limit: Annotated[str, _with("test")] = Field(
        default="- Your program gave far too much output and was stopped. Test:\n{test}",
        description="A program that wrote, or gave back, more than the executor takes.",
    )
    stopped_at: Annotated[str, _with("place")] = Field(
        default="\n  It was here then:\n{place}",
        description="Where the program was when time or memory was used up; left out where that is not known.",
    )
    left_out: Annotated[str, _with("count")] = Field(
        default="- Failed as well, not shown here: {count}",
        description="How many tests failed of which there is no room to tell.",
    )
    frame: Annotated[str, _with("line", "function", "source")] = Field(
        default="line {line}, in {function}\n    {source}",
        description="A place on the stack of an exception, with the line of the program.",
    )
    place: Annotated[str, _with("line", "source")] = Field(
        default="line {line}\n    {source}",
        description="A line of the program.",
    )
    frames_left_out: Annotated[str, _with("count")] = Field(
        default="... {count} more calls ...",
        description="The middle of a deep stack.",
    )
    nothing: Annotated[str, _with()] = Field(default="(nothing)", description="An empty input or output.")
    beginning_cut: Annotated[str, _with()] = Field(
        default="[the beginning is cut]", description="In place of the beginning of what is too long."
    )
    rest_cut: Annotated[str, _with()] = Field(
        default="[the rest is cut]", description="In place of the end of what is too long."
    )
    syntax_error: Annotated[str, _with("traceback")] = Field(
        default="Your program is not valid code, so no test was run:\n{traceback}",
        description="A program that does not compile.",
    )
    no_code: Annotated[str, _with()] = Field(
        default="There is no code block in your answer, so there was nothing to run.",
        description="An answer without a program.",
    )
    not_solved: Annotated[str, _with()] = Field(
        default="Your program does not solve the task yet.",
        description="All that is told where nothing may be told of tests, or no test that failed may be shown.",
    )
    retry: Annotated[str, _with("language")] = Field(
        default="Try again: write the whole program anew, with the mistakes mended. Answer with one {language} code block and nothing else.",
        description="At the end of every feedback: what to do now, and in which form.",
    )


DEFAULT = FeedbackTemplates()


def load_templates(path: str | None) -> FeedbackTemplates:
    """The texts of a YAML file, those that it does not name as they are by default; None: all of them.

    Raises UserError, one line a mistake.
    """
    if path is None:
        return DEFAULT
    what = f"{_SETTING}={path}"
    try:
        with open(path, encoding="utf-8") as file:
            loaded = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{what}: {getattr(error, 'strerror', None) or error}; give a YAML file, or null") from None
    except yaml.YAMLError as error:
        raise UserError(f"{what}: not YAML: {' '.join(str(error).split())}") from None
    if loaded is not None and not isinstance(loaded, dict):
        raise UserError(f"{what}: it holds a {type(loaded).__name__}; give names of texts with the texts")
    try:
        return FeedbackTemplates.model_validate(loaded or {})
    except ValidationError as error:
        raise UserError("\n".join(f"{what}: {line}" for line in _mistakes(error))) from None


def _mistakes(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors():
        key = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown text; known: {', '.join(FeedbackTemplates.model_fields)}")
            continue
        value = repr(item["input"])
        value = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
        lines.append(f"{key}={value}: {item['msg'].removeprefix('Value error, ')}")
    return lines
