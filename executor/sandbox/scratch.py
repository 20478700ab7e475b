"""Scratch folders: one fresh for every test, gone after it, whatever a program made of it.

Invariants: removal never follows a link, never leaves the folder, and neither recurses nor holds more than a few
descriptors, however deep a program nested; the folder that holds scratch folders belongs to us, others may only pass
through it, and it is removed by the next judge where its own was killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

from executor.errors import UserError

_PREFIX = "cupel-scratch-"


class Base:
    """A new folder to hold scratch folders, locked while its holder lives; what dead holders of the same prefix left is removed first."""

    def __init__(self, parent: str | None, for_other_user: bool, prefix: str = _PREFIX) -> None:
        """Raises UserError where the folder cannot be made, or lies where the programs' user could not go."""
        where = Path(parent or tempfile.gettempdir()).resolve()
        try:
            _remove_abandoned(where, prefix)
            while True:
                self.path = tempfile.mkdtemp(prefix=prefix, dir=where)
                self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                if os.path.exists(self.path):
                    break
                os.close(self._lock)  # somebody took it for abandoned before we had locked it
            os.chmod(self.path, 0o711)
        except OSError as error:
            raise UserError(f"executor.scratch_dir: {where}: {error.strerror or error}") from None
        closed = [p for p in (where, *where.parents) if not p.stat().st_mode & stat.S_IXOTH]
        if for_other_user and closed:
            self.close()
            raise UserError(
                f"executor.scratch_dir: {where} is out of reach of other users: chmod o+x {closed[0]}, "
                "or name another folder"
            )

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_abandoned(where: Path, prefix: str) -> None:
    for path in where.glob(f"{prefix}*"):
        try:
            if path.lstat().st_uid != os.geteuid():
                continue
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # gone meanwhile, or none of ours
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(str(path))
        except OSError:
            continue  # in use
        finally:
            os.close(lock)


def remove(path: str) -> None:
    """Remove a folder none of whose users lives any more. Raises OSError where something cannot be removed."""
    try:
        os.rmdir(path)
        return
    except FileNotFoundError:
        return
    except OSError:
        pass  # not empty
    if os.geteuid() != 0:
        os.chmod(path, 0o700)
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(path)


def _empty(top: int) -> None:
    """Empty a folder: files go, folders in folders are moved up until none holds another."""
    moved = 0
    while True:
        with os.scandir(top) as entries:
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        if not names:
            return
        for name, is_folder in names:
            if not is_folder:
                os.unlink(name, dir_fd=top)
                continue
            if os.geteuid() != 0:
                os.chmod(name, 0o700, dir_fd=top)
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
            try:
                with os.scandir(inner) as entries:
                    below = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
                for child, child_is_folder in below:
                    if child_is_folder:
                        moved = _move_up(child, inner, top, moved)
                    else:
                        os.unlink(child, dir_fd=inner)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _move_up(name: str, inner: int, top: int, moved: int) -> int:
    if os.geteuid() != 0:
        os.chmod(name, 0o700, dir_fd=inner)  # a folder that cannot be written cannot be moved
    while True:
        moved += 1
        try:
            os.rename(name, f".cupel-{moved}", src_dir_fd=inner, dst_dir_fd=top)
            return moved
        except OSError as error:
            if error.errno not in (17, 20, 39):  # the program made one of that name
                raise
