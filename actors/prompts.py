"""What the model reads and which part of what it writes is the program.

Invariants: the prompt is tokenised once, here; the program's place in the response is known by characters, so that an error's line can be traced
back to the tokens that wrote it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.problem import LANGUAGE_NAMES, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FENCE = re.compile(r"```(?P<language>[^\n`]*)\n(?P<body>.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = {"python", "py", "python3"}

_INSTRUCTION = "Answer with one {language} code block and nothing else."

# Solved problems of the two kinds, shown as earlier turns of the chat. None of them is in a problem set of ours.
_FUNCTION_EXAMPLES = (
    (
        "Write a Python function `double(n)` that returns the integer n multiplied by two. Example: `double(4)` returns `8`.",
        "def double(n):\n    return n * 2",
    ),
    (
        "Write a Python function `count_positive(xs)` that returns how many numbers in the list xs are greater than zero, "
        "0 for an empty list. Example: `count_positive([1, -2, 3])` returns `2`.",
        "def count_positive(xs):\n    return sum(1 for x in xs if x > 0)",
    ),
)
_STDIO_EXAMPLES = (
    (
        "Write a Python program that reads an integer n from standard input and prints n plus one. Example: input `4` prints `5`.",
        "n = int(input())\nprint(n + 1)",
    ),
    (
        "Write a Python program that reads one line of text from standard input and prints it with every word beginning with a capital letter. "
        "Example: input `red apple` prints `Red Apple`.",
        "line = input()\nprint(line.title())",
    ),
)


@dataclass(frozen=True)
class Program:
    """A program found in a response; `text` is `response[start:end]`."""

    text: str
    start: int
    end: int


def question(problem: Problem) -> str:
    """The user's message for `problem`."""
    return _message(problem, problem.prompt)


def _message(problem: Problem, statement: str) -> str:
    parts = [statement.strip()]
    if problem.starter_code and statement is problem.prompt:
        parts.append(f"Start from this code:\n```{problem.language}\n{problem.starter_code.rstrip()}\n```")
    parts.append(_INSTRUCTION.format(language=LANGUAGE_NAMES[problem.language]))
    return "\n\n".join(parts)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, problem: Problem, worked_examples: int = 0) -> list[int]:
    """Token ids of the whole prompt, up to where the response begins.

    The first `worked_examples` solved problems of the same kind go before the question (Python only). A tokenizer without a chat template gets
    plain text.
    """
    examples = _STDIO_EXAMPLES if problem.kind == "stdio" else _FUNCTION_EXAMPLES
    conversation: list[dict[str, str]] = []
    for statement, solution in examples[:worked_examples] if problem.language == "python" else ():
        conversation.append({"role": "user", "content": _message(problem, statement)})
        conversation.append({"role": "assistant", "content": reference_response(problem, solution)})
    conversation.append({"role": "user", "content": question(problem)})
    if tokenizer.chat_template:
        ids = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
        return list(ids)  # type: ignore[arg-type]
    return tokenizer.encode("\n\n".join(message["content"] for message in conversation) + "\n\n")


def reference_response(problem: Problem, reference: str) -> str:
    """A reference program as the model would have to say it."""
    return f"```{problem.language}\n{reference.strip()}\n```"


def extract_program(response: str, language: str = "python") -> Program | None:
    """The first code block marked with the language, else the first block without a mark; None if there is neither.

    A block that is never closed (a response cut off at its length limit) reaches to the end.
    """
    names = _PYTHON if language == "python" else {language}
    blocks = list(_FENCE.finditer(response))
    marked = [b for b in blocks if b["language"].strip().lower() in names]
    bare = [b for b in blocks if not b["language"].strip()]
    for block in (*marked[:1], *bare[:1]):
        if block["body"].strip():
            return Program(block["body"], block.start("body"), block.end("body"))
    return None
