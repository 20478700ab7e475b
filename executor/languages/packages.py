"""Packages beyond the standard library that programs may import: those named in the settings, as far as they are installed beside us.

They are loaded once, in a warm interpreter of their own, and only programs that name one of them run there. Invariant: nothing else of
the environment that Cupel is installed in is on a program's path.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Packages:
    """Packages to load, the folders that they are found in, and what may be read of those."""

    names: tuple[str, ...]
    folders: tuple[str, ...]
    readable: tuple[str, ...]

    def mentioned_in(self, source: str) -> bool:
        """Whether a program might import one; a name in a comment costs a little time and no more."""
        return re.search(rf"\b({'|'.join(map(re.escape, self.names))})\b", source) is not None


def find(names: tuple[str, ...]) -> Packages | None:
    """Those of `names` that are installed, None if none is."""
    found: list[str] = []
    folders: list[Path] = []
    readable: list[Path] = []
    for name in names:
        try:
            spec = importlib.util.find_spec(name)
        except ImportError:
            continue
        if spec is None or spec.origin is None:
            continue
        place = Path(spec.origin)
        package = place.parent if place.name == "__init__.py" else place
        found.append(name)
        folders.append(package.parent)
        readable += [package, package.parent / f"{name}.libs"]  # where wheels keep their shared libraries
    if not found:
        return None
    return Packages(tuple(found), tuple(dict.fromkeys(map(str, folders))), tuple(map(str, readable)))
