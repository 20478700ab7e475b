"""How much of a program is left in the next one: chrF, the character n-gram F-score of Popovic (2015); pure.

Invariants: white space does not count; 1 for texts that are the same but for it, 0 for texts that share no character.
"""

from __future__ import annotations

from collections import Counter
from statistics import fmean

ORDER = 6  # longest n-gram
BETA = 2.0  # recall counts so many times as much as precision


def chrf(text: str, reference: str) -> float:
    """How much of `reference` there is in `text`, in [0, 1].

    Precision and recall are means over the n-gram lengths that both texts have, as in the common tools.
    """
    text, reference = "".join(text.split()), "".join(reference.split())
    if text == reference:
        return 1.0
    precisions, recalls = list[float](), list[float]()
    for length in range(1, min(ORDER, len(text), len(reference)) + 1):
        ours, theirs = _n_grams(text, length), _n_grams(reference, length)
        shared = (ours & theirs).total()
        precisions.append(shared / ours.total())
        recalls.append(shared / theirs.total())
    if not precisions or not (precisions[0] and recalls[0]):
        return 0.0
    precision, recall = fmean(precisions), fmean(recalls)
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def _n_grams(text: str, length: int) -> Counter[str]:
    return Counter(text[start : start + length] for start in range(len(text) - length + 1))
