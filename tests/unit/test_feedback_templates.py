"""The words of feedback, and those of the user's own."""

from __future__ import annotations

from pathlib import Path
from string import Formatter

import pytest

from executor.errors import UserError
from executor.feedback import feedback
from executor.feedback_templates import DEFAULT, FeedbackTemplates, load_templates
from executor.problem import Problem, StdioTest
from executor.verdict import Outcome, TestResult, Verdict, no_code

PROBLEM = Problem(id="p", prompt="?", kind="stdio", public_tests=[StdioTest(input="1", output="2")])


def test_the_default_holds_what_it_asks_of_others() -> None:
    assert load_templates(None) is DEFAULT
    assert FeedbackTemplates.model_validate(DEFAULT.model_dump()) == DEFAULT
    assert {name for _, name, _, _ in Formatter().parse(DEFAULT.wrong_output) if name} == {"test", "expected", "got"}


def test_a_file_replaces_the_texts_that_it_names(tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text('header: "Nein! {{}}"\nwrong_output: |-\n  {got}\n  statt\n  {expected}\n  bei\n  {test}\n')
    templates = load_templates(str(file))
    failed = TestResult(outcome=Outcome.FAILURE, public=True, got="{3}")
    text = feedback(PROBLEM, "", Verdict(problem_id="p", outcome=Outcome.FAILURE, tests=[failed]), templates)
    assert text.startswith("Nein! {}\n    {3}\nstatt\n    2\nbei\n    1\n\nTry again")
    assert feedback(PROBLEM, None, no_code("p", 1), templates).startswith(DEFAULT.no_code)
    file.write_text("")
    assert load_templates(str(file)) == DEFAULT


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("retry: 'Again, {name}'", "retry='Again, {name}': unknown placeholder {name}; those known here: {language}"),
        ("retry: Again", "retry='Again': placeholder {language} is missing; those wanted here: {language}"),
        ("header: 'No {}'", "header='No {}': unknown placeholder {}; those known here: none"),
        ("left_out: '{count:>10}'", "left_out='{count:>10}': unknown placeholder {count:>10}; those known here: {count}"),
        ("left_out: '{count.real}'", "unknown placeholder {count.real}"),
        ("header: 'a } b'", "header='a } b': Single '}' encountered in format string; a brace that is no placeholder is written twice"),
        ("header: 3", "header=3: Input should be a valid string"),
        ("greeting: Hello", "greeting: unknown text; known: header, wrong_output,"),
        ("- a\n- b", "it holds a list; give names of texts with the texts"),
        ("a: [", "not YAML: "),
        ("header: '" + "x" * 999 + " {y}'", "xx...: unknown placeholder {y}"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as raised:
        load_templates(str(file))
    line = str(raised.value)
    assert line.startswith(f"rollout.feedback_templates={file}: ") and said in line
    assert "\n" not in line and len(line) < 700


def test_every_mistake_is_told(tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text("retry: Again\nno_code: '{x}'\n")
    with pytest.raises(UserError) as raised:
        load_templates(str(file))
    assert [line.split("=")[1].rpartition(" ")[2] for line in str(raised.value).splitlines()] == ["no_code", "retry"]


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        UserError, match=r"rollout.feedback_templates=.*(No such file|Is a directory).*; give a YAML file"
    ):
        load_templates(str(tmp_path / name))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"codec|YAML"):
        load_templates(str(tmp_path / "binary"))
