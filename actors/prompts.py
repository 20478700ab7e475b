"""What the model reads and which part of what it writes is the program.

Invariants: the prompt is tokenised once, here; the program's place in the response is known by characters, so that an error's line can be traced
back to the tokens that wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.problem import LANGUAGE_NAMES, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FENCE = re.compile(r"```(?P<language>[^\n`]*)\n(?P<body>.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = {"python", "py", "python3"}

_INSTRUCTION = "Answer with one {language} code block and nothing else."

Message = dict[str, str]
"""A turn of a chat: role and content."""


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
    parts.append(_INSTRUCTION.format(language=LANGUAGE_NAMES[problem.language]))
    return "\n\n".join(parts)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, problem: Problem, before: Sequence[Message] = ()) -> list[int]:
    """Token ids of the whole prompt, up to where the response begins; `before` are earlier turns of the chat.

    A tokenizer without a chat template gets plain text.
    """
    conversation = [*before, {"role": "user", "content": question(problem)}]
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
