"""What the model reads and which part of what it writes is the program.

Invariants: the prompt is tokenised once, here; the program's place in the response is known by characters, so that an error's line can be traced
back to the tokens that wrote it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from executor.problem import Problem

_FENCE = re.compile(r"```(?P<language>[^\n`]*)\n(?P<body>.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = {"python", "py", "python3"}

_INSTRUCTION = "Answer with the whole program in one ```{language} code block and nothing else."


class ChatTokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    chat_template: str | None

    def apply_chat_template(self, conversation: list[dict[str, str]], **options) -> list[int]: ...

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Program:
    """A program found in a response; `text` is `response[start:end]`."""

    text: str
    start: int
    end: int


def question(problem: Problem) -> str:
    """The user's message for `problem`."""
    parts = [problem.prompt.strip()]
    if problem.starter_code:
        parts.append(f"Start from this code:\n```{problem.language}\n{problem.starter_code.rstrip()}\n```")
    parts.append(_INSTRUCTION.format(language=problem.language))
    return "\n\n".join(parts)


def prompt_ids(tokenizer: ChatTokenizer, problem: Problem) -> list[int]:
    """Token ids of the whole prompt, up to where the response begins. A tokenizer without a chat template gets plain text."""
    if tokenizer.chat_template:
        conversation = [{"role": "user", "content": question(problem)}]
        return list(tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False))
    return tokenizer.encode(question(problem) + "\n\n")


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
