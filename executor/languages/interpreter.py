"""Which Python runs the programs: the binary that runs us, with its standard library within reach of a user who may
read nothing of ours.

Invariants: a virtual environment's packages are never on the programs' path; where the standard library lies below a
folder that is closed to others (a home folder, say), programs reach it through a descriptor that is opened for them,
and so nothing else beside it.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from executor.errors import UserError


@dataclass(frozen=True)
class Interpreter:
    """A binary, and the prefix that must be handed over as a descriptor (None where its path will do)."""

    binary: Path
    handed_prefix: Path | None

    @property
    def readable(self) -> list[Path]:
        """What a program has to read of this installation: the standard library and the interpreter's shared library."""
        paths = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), sysconfig.get_config_var("LIBDIR"))
        return sorted({Path(path).resolve() for path in paths if path})

    def open_prefix(self) -> int:
        """A descriptor of the handed prefix above those that a program uses; the caller closes it."""
        assert self.handed_prefix is not None
        low = os.open(self.handed_prefix, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 200)
        finally:
            os.close(low)


def _open_to_others(path: Path) -> bool:
    mode = path.stat().st_mode
    return bool(mode & stat.S_IXOTH) and bool(mode & stat.S_IROTH or not stat.S_ISDIR(mode))


def find(for_other_user: bool) -> Interpreter:
    """The interpreter that runs us, for ourselves or for a user of whom we know nothing.

    Raises UserError where another user cannot read its standard library by any way.
    """
    binary = Path(sys.executable).resolve()
    prefix = Path(sys.base_prefix).resolve()
    library = Path(sysconfig.get_path("stdlib")).resolve()
    if not for_other_user:
        return Interpreter(binary, None)
    below = [library, *(p for p in library.parents if p == prefix or prefix in p.parents)]
    if not all(_open_to_others(path) for path in below):
        raise UserError(
            f"executor: other users cannot read {library}; chmod -R o+rX {prefix}, or use another interpreter"
        )
    if all(path.stat().st_mode & stat.S_IXOTH for path in prefix.parents):
        return Interpreter(binary, None)
    return Interpreter(binary, prefix)
