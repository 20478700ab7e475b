"""chrF: values as sacrebleu 2 gives them (char_order 6, word_order 0, beta 2), and what must hold for any texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.similarity import chrf

CASES = [
    ("def double(n):\n    return n * 2", "def double(n):\n    return 2 * n", 0.8676851442331318),
    ("def f(a): return a", "def f(a):\n    return a + 1\n", 0.8848653420605932),
    ("ab", "abc", 0.6363636363636362),
    ("abc", "ab", 0.8749999999999999),
    ("hello world", "the cat sat", 0.05655743003037941),
    ("ab", "ba", 0.5),
    ("print(1)", "x", 0.0),
]
TEXTS = st.text("ab(c \n\t", max_size=30)


@pytest.mark.parametrize("text, reference, expected", CASES)
def test_known_values(text: str, reference: str, expected: float) -> None:
    assert chrf(text, reference) == pytest.approx(expected, abs=1e-12)


@given(TEXTS, TEXTS)
def test_it_is_a_share_and_1_only_for_what_is_the_same_but_for_white_space(text: str, reference: str) -> None:
    likeness = chrf(text, reference)
    assert 0.0 <= likeness <= 1.0
    assert chrf(text, text.replace(" ", "\n\n")) == 1.0
    if not set(text.split()) and set(reference.split()):
        assert likeness == 0.0
    if sorted("".join(text.split())) != sorted("".join(reference.split())):
        assert likeness < 1.0
