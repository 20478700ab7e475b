"""The prompt's text, and which part of a response counts as the program."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.prompts import extract_program, prompt_ids, question, reference_response
from actors.worked_examples import SOLVED_AT_ONCE, SOLVED_AT_THE_SECOND_TRY, WorkedExamples
from executor.feedback_templates import FeedbackTemplates
from executor.problem import CodeTest, FunctionTest, Problem, StdioTest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FUNCTION = Problem(
    id="f",
    prompt="Write `add(a, b)`.\n",
    kind="function",
    entry_point="add",
    public_tests=[FunctionTest(args=[1, 2], expected=3)],
)
STDIO = Problem(id="s", prompt="Read two numbers.", kind="stdio", public_tests=[StdioTest(input="1 2", output="3")])


@pytest.mark.parametrize(
    "response, program",
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("Sure:\n```py\nx = 1\n```\nDone.", "x = 1\n"),
        ("```Python3 \nx = 1\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1\ny = 2", "x = 1\ny = 2"),  # cut off
        ("```python\nx = 1\n```\n```python\ny = 2\n```", "x = 1\n"),
        ("```\ninput\n```\n```python\nx = 1\n```", "x = 1\n"),  # the mark counts more than the order
        ("```text\n3 4\n```\n```\nx = 1\n```", "x = 1\n"),
        ("1. So:\n   ```python\n   x = 1\n   ```\n", "   x = 1\n"),
        ("```python\n    x = 1\n```", "    x = 1\n"),
        ("```python\n\n```\n```\nx = 1\n```", "x = 1\n"),  # an empty block is none
        ('```python\ns = "```"\nx = 1\n```', 's = "```"\nx = 1\n'),
        ("```python\r\nx = 1\r\n```", "x = 1\r\n"),
        ("```python\ns = '\U0001f600'\n```", "s = '\U0001f600'\n"),
        ("x = 1", None),
        ("", None),
        ("```java\nint x;\n```", None),
        ("```python", None),
        ("```python\n   \n```", None),
    ],
)
def test_the_program_is_found_where_it_stands(response: str, program: str | None) -> None:
    found = extract_program(response)
    assert (found.text if found else None) == program
    if found:
        assert response[found.start : found.end] == found.text


@given(
    st.lists(
        st.sampled_from(["```", "python", "java", "\n", " ", "x = 1", "\u00e9", "```python\n", "```\n"]), max_size=14
    ).map("".join)
)
def test_the_program_is_always_that_slice_of_the_response(response: str) -> None:
    found = extract_program(response)
    if found:
        assert response[found.start : found.end] == found.text
        assert found.text.strip()


def test_another_languages_block_is_asked_for_by_its_name() -> None:
    found = extract_program("```python\nx = 1\n```\n```java\nint x;\n```", "java")
    assert found is not None and found.text == "int x;\n"


@pytest.mark.parametrize("problem", [FUNCTION, STDIO], ids=["function", "stdio"])
@pytest.mark.parametrize("examples", [0, 1, 2])
def test_with_a_chat_template_the_worked_examples_are_earlier_turns(
    tokenizer: PreTrainedTokenizerFast, problem: Problem, examples: int
) -> None:
    ids = prompt_ids(tokenizer, problem, WorkedExamples(examples).before(problem))
    start, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>"))
    assert isinstance(start, int) and isinstance(end, int)
    assert ids.count(start) == 2 * examples + 2  # a question and an answer each, the question, the answer to come
    assert ids.count(end) == 2 * examples + 1
    text = str(tokenizer.decode(ids))
    assert text.endswith(f"<|im_start|>user\n{question(problem)}<|im_end|>\n<|im_start|>assistant\n")
    answers = [turn.split("<|im_end|>")[0] for turn in text.split("<|im_start|>assistant\n")[1:-1]]
    assert len(answers) == examples
    for answer in answers:
        program = extract_program(answer)
        assert program is not None
        compile(program.text, "example", "exec")
        assert ("input()" in program.text) == (problem.kind == "stdio")


@pytest.mark.parametrize("examples", [0, 2])
def test_without_a_chat_template_the_prompt_is_plain_text(tokenizer: PreTrainedTokenizerFast, examples: int) -> None:
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    text = str(plain.decode(prompt_ids(plain, FUNCTION, WorkedExamples(examples).before(FUNCTION))))
    assert "<|im_start|>" not in text
    assert text.endswith(question(FUNCTION) + "\n\n")
    assert text.count("```python\n") == examples


def test_the_question_holds_the_statement_once_and_the_starter_code() -> None:
    assert question(FUNCTION) == "Write `add(a, b)`.\n\nAnswer with one Python code block and nothing else."
    started = FUNCTION.model_copy(update={"starter_code": "def add(a, b):\n"})
    assert "Start from this code:\n```python\ndef add(a, b):\n```\n\n" in question(started)


def test_starter_code_is_not_asked_of_the_worked_examples(tokenizer: PreTrainedTokenizerFast) -> None:
    started = FUNCTION.model_copy(update={"starter_code": "def add(a, b):\n"})
    assert (
        tokenizer.decode(prompt_ids(tokenizer, started, WorkedExamples(2).before(started))).count(
            "Start from this code"
        )
        == 1
    )


def test_no_worked_examples_for_another_language() -> None:
    java = FUNCTION.model_copy(update={"language": "java"})
    assert WorkedExamples(2, second_try=True).before(java) == []


def test_a_reference_is_said_as_a_program_is_found() -> None:
    found = extract_program(reference_response(FUNCTION, "\ndef add(a, b):\n    return a + b\n\n"))
    assert found is not None and found.text == "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize("problem", [FUNCTION, STDIO], ids=["function", "stdio"])
def test_the_second_try_is_shown_with_the_feedback_that_an_episode_gives(problem: Problem) -> None:
    shown = WorkedExamples(1, second_try=True).before(problem)
    assert [turn["role"] for turn in shown] == ["user", "assistant"] * 3
    _, wrong, told, right = (turn["content"] for turn in shown[2:])
    assert "Expected" in told and "Welcome back, Ann!" in told and "Hello Ann" in told
    assert wrong != right and "Welcome back" in right and "Welcome back" not in wrong
    without = WorkedExamples(0, second_try=True, mode="none").before(problem)
    assert "Welcome back" not in without[2]["content"] and len(without) == 4


def test_the_words_of_its_feedback_are_the_users_own() -> None:
    templates = FeedbackTemplates(header="These went wrong:")
    assert "These went wrong:" in WorkedExamples(0, True, "tests", templates).before(FUNCTION)[2]["content"]


def test_worked_examples_hold() -> None:
    """Answers do what they are shown to do, the first try of the last one included."""

    def given(problem: Problem, program: str) -> object:
        (test,) = problem.public_tests
        names: dict[str, Any] = {}
        if isinstance(test, StdioTest):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(program, {"input": lambda: test.input.rstrip("\n")})
            return out.getvalue()
        assert isinstance(test, FunctionTest) and problem.entry_point
        exec(program, names)
        return names[problem.entry_point](*test.args)

    def wanted(problem: Problem) -> object:
        (test,) = problem.public_tests
        assert not isinstance(test, CodeTest)
        return test.output if isinstance(test, StdioTest) else test.expected

    for problem in (*SOLVED_AT_ONCE, *(example.problem for example in SOLVED_AT_THE_SECOND_TRY)):
        assert given(problem, problem.references[0]) == wanted(problem)
    for example in SOLVED_AT_THE_SECOND_TRY:
        answer = given(example.problem, example.first)
        assert answer != wanted(example.problem)
        assert example.got == (answer if example.problem.kind == "stdio" else repr(answer))
