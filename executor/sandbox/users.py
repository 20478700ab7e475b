"""Users of their own: every slot runs programs as one user and test code as another, whom nobody else is. Needs root.

Invariants: no two slots on a machine share a user, whatever process or container they belong to (an abstract socket by the user's
name is the claim, and the kernel drops it with its holder; such a socket is seen in one network namespace, so each of these has numbers of its own); `clean` removes what a user left outside its scratch
folder, in folders that anyone may write and in System V IPC.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import socket
import time

from executor.sandbox.scratch import remove

# Debian, systemd and useradd give these numbers to nobody. The first are also mapped in most user namespaces, whose users are other ones than those outside.
_FEW = range(60600, 61184)
_MANY, _BLOCKS, _BLOCK = 1 << 30, 1 << 20, 1 << 10
_ALL_USERS = (1 << 32) - 1
# Bits of CapEff: CHOWN, DAC_OVERRIDE, KILL, SETGID, SETUID.
_CAPABILITIES = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7
_OPEN_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/dev/mqueue")
# Kind, its number's column in /proc/sysvipc, and what removes it.
_IPC = (("shm", "shmid", "shmctl"), ("sem", "semid", "semctl"), ("msg", "msqid", "msgctl"))
_IPC_RMID = 0
_TICK_NS = 20_000_000
_libc = ctypes.CDLL(None, use_errno=True)


def users() -> range:
    """Numbers of the users that may be claimed here."""
    with open("/proc/self/uid_map", encoding="ascii") as mapped:
        if int(mapped.readline().split()[2]) < _ALL_USERS:
            return _FEW
    # A limit of processes counts a user's in all containers: two that share a number would take them from each other.
    first = _MANY + os.stat("/proc/self/ns/net").st_ino % _BLOCKS * _BLOCK
    return range(first, first + _BLOCK)


class OwnUsers:
    """The user of a slot's programs and the user of its test code."""

    def __init__(self) -> None:
        """Claim two users. Raises OSError where none is free or we lack the right to become them."""
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
        if effective & _CAPABILITIES != _CAPABILITIES:
            raise OSError(
                "no right to change users (root's CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_KILL, CAP_DAC_OVERRIDE)"
            )
        self._claims: list[socket.socket] = []
        self.program, self.tester = self._claim(), self._claim()
        self._seen: dict[str, int] = {}
        self.clean()

    def _claim(self) -> int:
        numbers = users()
        for uid in numbers:
            try:
                pwd.getpwuid(uid)
                continue  # somebody after all
            except KeyError:
                pass
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(f"\0cupel-user-{uid}")
            except OSError:
                claim.close()
                continue
            self._claims.append(claim)
            return uid
        raise OSError(f"no free user between {numbers[0]} and {numbers[-1]}")

    def limits(self) -> list[tuple[str, int]]:
        """Processes and threads of the user."""
        return [("RLIMIT_NPROC", 64)]

    def own(self, path: str) -> None:
        """Give a fresh scratch folder to the program. It lies in one of ours, so nobody can have put a link in its place."""
        os.chown(path, self.program, self.program, follow_symlinks=False)

    def own_pipe(self, fd: int) -> None:
        """Let the program open the pipe again by its name in /dev: a pipe is a file with an owner too."""
        os.fchown(fd, self.program, self.program)

    def clean(self) -> None:
        """Files and IPC objects of the two users, all of whose processes are dead."""
        for folder in _OPEN_FOLDERS:
            try:
                changed = os.stat(folder).st_mtime_ns
                if self._seen.get(folder) != changed:
                    self._sweep(folder)
                    changed = os.stat(folder).st_mtime_ns
                    # A change within the clock's tick would look like none: such a time is not remembered.
                    if time.time_ns() - changed > _TICK_NS:
                        self._seen[folder] = changed
            except FileNotFoundError:
                continue
        for kind, column, control in _IPC:
            self._sweep_ipc(kind, column, control)

    def _sweep(self, folder: str) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.stat(follow_symlinks=False).st_uid not in (self.program, self.tester):
                        continue
                except FileNotFoundError:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    remove(entry.path)
                else:
                    os.unlink(entry.path)

    def _sweep_ipc(self, kind: str, column: str, control: str) -> None:
        try:
            with open(f"/proc/sysvipc/{kind}", encoding="ascii") as file:
                header, *lines = file.read().splitlines()
        except OSError:
            return  # a kernel without System V IPC
        for line in lines:
            fields = dict(zip(header.split(), map(int, line.split()), strict=False))
            if {fields["uid"], fields["cuid"]} & {self.program, self.tester}:
                arguments = (fields[column], 0, _IPC_RMID) if kind == "sem" else (fields[column], _IPC_RMID, None)
                getattr(_libc, control)(*arguments)

    def close(self) -> None:
        """Give the users back."""
        for claim in self._claims:
            claim.close()
        self._claims = []
