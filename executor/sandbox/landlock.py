"""Landlock: which files a tested program may read, and the one folder that it may change. Runs in the sandbox's own process.

Invariants: what no rule names cannot be opened, listed, made or removed; nothing can be executed; where the kernel can, the program can neither
reach other processes' abstract sockets and signals nor use TCP. Metadata of a path that is known can still be read (stat).
"""

from __future__ import annotations

import ctypes
import os
import struct

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 11
_FIRST_RIGHTS = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15  # since version 2, 3 and 5
_TCP = 0b11  # bind and connect, since version 4
_SCOPES = 0b11  # abstract sockets and signals, since version 6

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def version() -> int:
    """The version of Landlock that the kernel has, 0 if none."""
    return max(0, _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG))


def _call(*arguments: object) -> int:
    result = _syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"landlock: {os.strerror(ctypes.get_errno())}")
    return result


class Rules:
    """What programs of one sandbox may reach, with descriptors held open."""

    def __init__(self, readable: list[str], devices: list[str]) -> None:
        """`readable` folders and files as far as they exist, `devices` to be read and written. Raises OSError without Landlock."""
        known = version()
        if known < 1:
            raise OSError("the kernel has no Landlock, or it is not switched on")
        self.scoped = known >= 6
        """Whether the kernel keeps signals within this sandbox."""
        handled = _FIRST_RIGHTS
        for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
            handled |= right if known >= since else 0
        attributes = struct.pack("<Q", handled)
        attributes += struct.pack("<Q", _TCP) if known >= 4 else b""
        attributes += struct.pack("<Q", _SCOPES) if known >= 6 else b""
        self._attributes = ctypes.create_string_buffer(attributes, len(attributes))
        self._size = ctypes.c_size_t(len(attributes))
        self._scratch_rights = handled & ~(_EXECUTE | _MAKE_CHAR | _MAKE_SOCK | _MAKE_BLOCK | _IOCTL_DEV)
        device_rights = handled & (_READ_FILE | _WRITE_FILE | _TRUNCATE)
        self._rules: list[tuple[int, int]] = []
        for paths, rights in ((readable, _READ_FILE | _READ_DIR), (devices, device_rights)):
            for path in paths:
                try:
                    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
                self._rules.append((fd, rights if os.path.isdir(path) else rights & ~_READ_DIR))

        self._ruleset = self._held = -1
        self._scratch: tuple[int, int] | None = None

    def prepare(self, scratch: str | None) -> None:
        """Make the rules of the next process, with `scratch` as the folder that it may change; those for the same folder serve again."""
        folder = None
        if scratch is not None:
            status = os.stat(scratch)
            folder = (status.st_dev, status.st_ino)
        if self._ruleset >= 0 and folder == self._scratch:
            return
        for fd in (self._ruleset, self._held):
            if fd >= 0:
                os.close(fd)
        self._ruleset = _call(_CREATE_RULESET, self._attributes, self._size, 0)
        for fd, rights in self._rules:
            self._allow(self._ruleset, fd, rights)
        self._scratch, self._held = folder, -1
        if scratch is not None:
            # Held open, so that no other folder can get the same number as long as these rules serve.
            self._held = os.open(scratch, os.O_PATH | os.O_CLOEXEC)
            self._allow(self._ruleset, self._held, self._scratch_rights)

    def restrict(self) -> None:
        """Hold this process to the rules that were prepared, for good. Raises OSError."""
        _call(_RESTRICT_SELF, self._ruleset, 0)

    @staticmethod
    def _allow(ruleset: int, fd: int, rights: int) -> None:
        rule = ctypes.create_string_buffer(struct.pack("<Qi", rights, fd), 12)
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
