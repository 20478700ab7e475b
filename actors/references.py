"""Reference programs as a model should learn to write them.

Published solutions are full of tabs, carriage returns and blanks at line ends. To a tokenizer these are rare tokens, which a small model finds next to
impossible, so that they outweigh all that is to be learnt from the program. Pure. Invariant: what a program means is never changed.
"""

from __future__ import annotations

import ast
import re
import warnings
from functools import lru_cache

_ODD = re.compile(r"[^\S\n ]| $|^(?: {4})* {1,3}(?! )", re.MULTILINE)  # white space that a tidy program does not have


@lru_cache(maxsize=4096)
def tidy(program: str) -> str:
    """The program as Python itself would write it, without its comments, where its white space is odd; else as it is, and also
    where it is no Python of today.
    """
    if not _ODD.search(program):
        return program
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape that is none is not ours to complain of
            tree = ast.parse(program)
            written = ast.unparse(tree)
            same = ast.dump(ast.parse(written)) == ast.dump(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return program
    return written if same else program
