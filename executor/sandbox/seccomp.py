"""A filter of system calls: what a tested program may not ask of the kernel. Runs in the sandbox's own process.

Invariants: a program may not make processes (threads it may), execute files, signal or look into other processes, open sockets, make memory that
no limit counts, or change what outlives it; a call newer than this list is answered as one that the kernel does not have; a call of
another architecture ends the process. Where Landlock keeps signals within the sandbox, the filter is the same for every process; else it
holds the process's own number, the only one that it may signal.

`socketpair` of streams stays, since asyncio's event loop is built on it; `chmod` and the like succeed and do nothing, since copying a file with the
standard library calls them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

_SET_SECCOMP, _MODE_FILTER = 22, 2
_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]

_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_LEAST, _JUMP_ANY_BIT, _AND, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000  # the bit that marks x86-64's other set of calls
_CLONE_THREAD = 0x10000
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPES = 1, 1, 0xF
_PRIO_PROCESS = 0

# Machine: its number in struct seccomp_data, and its column below.
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Numbers from here on are the same on every machine. These few of them are allowed: close_range, openat2, faccessat2, epoll_pwait2,
# the three of Landlock, futex_waitv, cachestat, futex_wake, futex_wait, futex_requeue.
_COMMON = 424
_COMMON_ALLOWED = (436, 437, 439, 441, 444, 445, 446, 449, 451, 454, 455, 456)

# By answer: the calls denied whatever their arguments, with their numbers on x86-64 and on aarch64 (-1: there is none).
_DENIED: dict[int, dict[str, tuple[int, int]]] = {
    errno.EPERM: {
        # processes: made, executed, signalled, looked into, slowed down
        "fork": (57, -1),
        "vfork": (58, -1),
        "execve": (59, 221),
        "execveat": (322, 281),
        "rt_sigqueueinfo": (129, 138),
        "rt_tgsigqueueinfo": (297, 240),
        "ptrace": (101, 117),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
        "kcmp": (312, 272),
        "sched_setscheduler": (144, 119),
        "sched_setparam": (142, 118),
        "sched_setattr": (314, 274),
        "ioprio_set": (251, 30),
        "migrate_pages": (256, 238),
        "move_pages": (279, 239),
        # network
        "socket": (41, 198),
        "bind": (49, 200),
        "connect": (42, 203),
        "listen": (50, 201),
        "accept": (43, 202),
        "accept4": (288, 242),
        # memory that no limit counts, and what outlives its maker
        "memfd_create": (319, 279),
        "shmget": (29, 194),
        "shmat": (30, 196),
        "shmctl": (31, 195),
        "semget": (64, 190),
        "semop": (65, 193),
        "semctl": (66, 191),
        "semtimedop": (220, 192),
        "msgget": (68, 186),
        "msgsnd": (69, 189),
        "msgrcv": (70, 188),
        "msgctl": (71, 187),
        "mq_open": (240, 180),
        "mq_unlink": (241, 181),
        "add_key": (248, 217),
        "request_key": (249, 218),
        "keyctl": (250, 219),
        # namespaces and mounts
        "unshare": (272, 97),
        "setns": (308, 268),
        "mount": (165, 40),
        "umount2": (166, 39),
        "pivot_root": (155, 41),
        "chroot": (161, 51),
        "mknod": (133, -1),
        "mknodat": (259, 33),
        # the kernel itself
        "bpf": (321, 280),
        "perf_event_open": (298, 241),
        "userfaultfd": (323, 282),
        "init_module": (175, 105),
        "finit_module": (313, 273),
        "delete_module": (176, 106),
        "kexec_load": (246, 104),
        "kexec_file_load": (320, 294),
        "reboot": (169, 142),
        "swapon": (167, 224),
        "swapoff": (168, 225),
        "settimeofday": (164, 170),
        "clock_settime": (227, 112),
        "clock_adjtime": (305, 266),
        "adjtimex": (159, 171),
        "sethostname": (170, 161),
        "setdomainname": (171, 162),
        "acct": (163, 89),
        "quotactl": (179, 60),
        "iopl": (172, -1),
        "ioperm": (173, -1),
        "modify_ldt": (154, -1),
        "personality": (135, 92),
        "syslog": (103, 116),
        "vhangup": (153, 58),
        # files beyond what Landlock rules
        "name_to_handle_at": (303, 264),
        "open_by_handle_at": (304, 265),
        "fanotify_init": (300, 262),
        "fanotify_mark": (301, 263),
        "inotify_init": (253, -1),
        "inotify_init1": (294, 26),
        "inotify_add_watch": (254, 27),
        "chown": (92, -1),
        "fchown": (93, 55),
        "lchown": (94, -1),
        "fchownat": (260, 54),
    },
    errno.ENOTSUP: {
        "setxattr": (188, 5),
        "lsetxattr": (189, 6),
        "fsetxattr": (190, 7),
        "removexattr": (197, 14),
        "lremovexattr": (198, 15),
        "fremovexattr": (199, 16),
    },
    0: {
        "chmod": (90, -1),
        "fchmod": (91, 52),
        "fchmodat": (268, 53),
        "utime": (132, -1),
        "utimes": (235, -1),
        "futimesat": (261, -1),
        "utimensat": (280, 88),
    },
}

PID = -1  # stands for the process's own number
# Calls that are allowed where one argument is one of these values, and denied else; the first three only where Landlock does not see to them.
_SIGNALS: dict[str, tuple[tuple[int, int], int, tuple[int, ...]]] = {
    "kill": ((62, 129), 0, (PID,)),
    "tkill": ((200, 130), 0, (PID,)),
    "tgkill": ((234, 131), 0, (PID,)),
}
_ALLOWED_IF: dict[str, tuple[tuple[int, int], int, tuple[int, ...]]] = {
    "prlimit64": ((302, 261), 0, (0,)),
    "sched_setaffinity": ((203, 122), 0, (0,)),
}
# Calls that are denied where one argument is one of these values, and allowed else.
_DENIED_IF: dict[str, tuple[tuple[int, int], int, tuple[int, ...]]] = {
    "kill": ((62, 129), 0, (0xFFFFFFFF,)),  # of everybody: Landlock refuses each, and the call says that it went well
    "prctl": ((157, 167), 0, (1,)),  # PR_SET_PDEATHSIG, by which it dies with its maker
    "fcntl": ((72, 25), 1, (8, 15)),  # F_SETOWN, F_SETOWN_EX: signals to others
    "ioctl": ((16, 29), 1, (0x5412, 0x541C, 0x8901, 0x8902)),  # TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP
}
_CLONE, _SOCKETPAIR, _SETPRIORITY = (56, 220), (53, 199), (141, 140)


_ALLOWED = (_RETURN, _ALLOW, 0, 0)
_Code = list[tuple[int, int, int, int]]  # instruction, operand, jump if true, jump if false


def _argument(index: int) -> tuple[int, int, int, int]:
    """Load the lower half of an argument; both machines are little-endian, and the kernel reads no more of these."""
    return (_LOAD, _ARGUMENTS + 8 * index, 0, 0)


def _choice(index: int, values: tuple[int, ...], found: int, otherwise: int) -> _Code:
    """Return `found` where the argument is one of `values`, else `otherwise`."""
    tests = [(_JUMP_EQUAL, value, len(values) - i, 0) for i, value in enumerate(values)]
    return [_argument(index), *tests, (_RETURN, otherwise, 0, 0), (_RETURN, found, 0, 0)]


def _bodies(column: int, scoped: bool) -> dict[int, _Code]:
    """By call: what becomes of it. Every body returns."""
    denied = _ERRNO | errno.EPERM
    bodies: dict[int, _Code] = {}
    for error, calls in _DENIED.items():
        bodies |= {numbers[column]: [(_RETURN, _ERRNO | error, 0, 0)] for numbers in calls.values()}
    for numbers, index, values in _DENIED_IF.values():
        bodies[numbers[column]] = _choice(index, values, denied, _ALLOW)
    for numbers, index, values in (_ALLOWED_IF if scoped else _ALLOWED_IF | _SIGNALS).values():
        bodies[numbers[column]] = _choice(index, values, _ALLOW, denied)
    answers: _Code = [(_RETURN, denied, 0, 0), (_RETURN, _ALLOW, 0, 0)]
    bodies[_CLONE[column]] = [_argument(0), (_JUMP_ANY_BIT, _CLONE_THREAD, 1, 0), *answers]
    bodies[_SOCKETPAIR[column]] = [
        _argument(0),
        (_JUMP_EQUAL, _AF_UNIX, 0, 3),
        _argument(1),
        (_AND, _SOCK_TYPES, 0, 0),
        (_JUMP_EQUAL, _SOCK_STREAM, 1, 0),
        *answers,
    ]
    bodies[_SETPRIORITY[column]] = [
        _argument(0),
        (_JUMP_EQUAL, _PRIO_PROCESS, 0, 2),
        _argument(1),
        (_JUMP_EQUAL, 0, 1, 0),
        *answers,
    ]
    bodies.pop(-1, None)
    return bodies


def _ranges(bodies: dict[int, _Code]) -> list[tuple[int, int, _Code]]:
    """Calls with their bodies, neighbours that fare alike as one: first, last, body."""
    ranges: list[tuple[int, int, _Code]] = []
    for number, body in sorted(bodies.items()):
        if ranges and ranges[-1][1] == number - 1 and ranges[-1][2] == body:
            ranges[-1] = (ranges[-1][0], number, body)
        else:
            ranges.append((number, number, body))
    return ranges


def _search(ranges: list[tuple[int, int, _Code]]) -> _Code:
    """Find a call's body by halving: the kernel walks and compiles the filter anew for every process that loads it."""
    if len(ranges) == 1:
        first, last, body = ranges[0]
        if first == last:
            return [(_JUMP_EQUAL, first, 0, len(body)), *body, _ALLOWED]
        return [(_JUMP_LEAST, first, 0, len(body) + 1), (_JUMP_LEAST, last + 1, len(body), 0), *body, _ALLOWED]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    if len(below) < 256:
        return [(_JUMP_LEAST, ranges[middle][0], len(below), 0), *below, *above]
    return [(_JUMP_LEAST, ranges[middle][0], 0, 1), (_JUMP, len(below), 0, 0), *below, *above]


def code(machine: str, scoped: bool) -> _Code:
    """The filter's instructions. Raises OSError for a machine whose calls are not known."""
    if machine not in _MACHINES:
        raise OSError(f"no filter of system calls for {machine}")
    architecture, column = _MACHINES[machine]
    common = [(_JUMP_EQUAL, n, len(_COMMON_ALLOWED) - i, 0) for i, n in enumerate(_COMMON_ALLOWED)]
    return [
        (_LOAD, _ARCHITECTURE, 0, 0),
        (_JUMP_EQUAL, architecture, 1, 0),
        (_RETURN, _KILL_PROCESS, 0, 0),
        (_LOAD, _NUMBER, 0, 0),
        (_JUMP_LEAST, _X32, 0, 1),
        (_RETURN, _ERRNO | errno.ENOSYS, 0, 0),
        (_JUMP_LEAST, _COMMON, 0, len(common) + 2),
        *common,
        (_RETURN, _ERRNO | errno.ENOSYS, 0, 0),
        _ALLOWED,
        *_search(_ranges(_bodies(column, scoped))),
    ]


class Filter:
    """The filter of this machine, laid out for the kernel, so that a forked process has only to say where it lies."""

    def __init__(self, scoped: bool) -> None:
        """`scoped`: Landlock keeps signals within the sandbox. Raises OSError."""
        instructions = code(platform.machine(), scoped)
        self._pid_at = [i for i, (kind, k, _, _) in enumerate(instructions) if kind == _JUMP_EQUAL and k == PID]
        packed = b"".join(struct.pack("<HBBI", kind, yes, no, k & 0xFFFFFFFF) for kind, k, yes, no in instructions)
        self._instructions = ctypes.create_string_buffer(packed, len(packed))
        where = struct.pack("@HP", len(instructions), ctypes.addressof(self._instructions))
        self._program = ctypes.create_string_buffer(where, len(where))
        self._address = ctypes.addressof(self._program)

    def install(self) -> None:
        """Hold this process to the filter for good. Raises OSError."""
        for instruction in self._pid_at:
            struct.pack_into("<I", self._instructions, 8 * instruction + 4, os.getpid())
        if _libc.prctl(_SET_SECCOMP, _MODE_FILTER, self._address, 0, 0):
            raise OSError(ctypes.get_errno(), "seccomp")
