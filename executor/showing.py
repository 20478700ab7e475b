"""Values and tests as text for people and models. Pure."""

from __future__ import annotations

from typing import Any

from executor.problem import CodeTest, FunctionTest, StdioTest, Test

_SHOWN = 600


def written(value: Any) -> str:
    """A plain value as Python writes it."""
    try:
        return repr(value)
    except ValueError:  # an int of too many digits
        return f"<{type(value).__name__}>"


def arguments(test: FunctionTest) -> str:
    """What a test hands over, as it stands in a call."""
    return ", ".join([*map(written, test.args), *(f"{name}={written(value)}" for name, value in test.kwargs.items())])


def shown(test: Test) -> tuple[str, str | None]:
    """Input and expected answer of a test, shortened."""
    if isinstance(test, StdioTest):
        return shorten(test.input), shorten(test.output)
    if isinstance(test, FunctionTest):
        return shorten(arguments(test)), shorten(written(test.expected))
    assert isinstance(test, CodeTest)
    return shorten(test.code), None


def shorten(text: str) -> str:
    """At most a few hundred characters, the middle left out."""
    if len(text) <= _SHOWN:
        return text
    half = _SHOWN // 2
    return f"{text[:half]} ... [{len(text) - 2 * half} characters] ... {text[-half:]}"
