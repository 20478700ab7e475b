"""The filter of system calls, run by an interpreter of its language, for both machines and every call."""

from __future__ import annotations

import errno

import pytest

from executor.sandbox import seccomp

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
COLUMN = {"x86_64": 0, "aarch64": 1}
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
OWN = 4711


def verdict(machine: str, scoped: bool, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the kernel would make of a call."""
    code = seccomp.code(machine, scoped)
    data = {0: number, 4: ARCHITECTURE[machine] if architecture is None else architecture}
    data |= {16 + 8 * i: argument & 0xFFFFFFFF for i, argument in enumerate([*arguments, 0, 0, 0, 0, 0, 0][:6])}
    at = accumulator = 0
    while True:
        kind, k, yes, no = code[at]
        assert yes < 256 and no < 256, "a jump is a byte"
        at += 1
        k = OWN if k == seccomp.PID and kind == 0x15 else k
        if kind == 0x06:
            return k
        if kind == 0x20:
            accumulator = data[k]
        elif kind == 0x54:
            accumulator &= k
        elif kind == 0x05:
            at += k
        else:
            holds = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[kind]
            at += yes if holds else no


@pytest.mark.parametrize("scoped", [True, False])
@pytest.mark.parametrize("machine", COLUMN)
def test_every_call_fares_as_the_lists_say(machine: str, scoped: bool) -> None:
    denied = {
        numbers[COLUMN[machine]]: ERRNO | error
        for error, calls in seccomp._DENIED.items()
        for numbers in calls.values()
    }
    conditional = seccomp._ALLOWED_IF | seccomp._DENIED_IF | seccomp._SIGNALS
    special = {numbers[COLUMN[machine]] for numbers, _, _ in conditional.values()}
    special |= {numbers[COLUMN[machine]] for numbers in (seccomp._CLONE, seccomp._SOCKETPAIR, seccomp._SETPRIORITY)}
    assert not special & set(denied)
    for number in range(600):
        if number in special:
            continue
        newer = ALLOW if number in seccomp._COMMON_ALLOWED else ERRNO | errno.ENOSYS
        expected = denied.get(number, ALLOW) if number < 424 else newer
        assert verdict(machine, scoped, number) == expected, number
    assert verdict(machine, scoped, 0x40000000 + 1) == ERRNO | errno.ENOSYS
    assert verdict(machine, scoped, 0, architecture=0x40000003) == KILL


@pytest.mark.parametrize("machine", COLUMN)
def test_calls_that_depend_on_their_arguments(machine: str) -> None:
    def fares(name: str, *arguments: int, scoped: bool = True) -> bool:
        tables = seccomp._ALLOWED_IF | seccomp._SIGNALS | seccomp._DENIED_IF
        others = {"clone": seccomp._CLONE, "socketpair": seccomp._SOCKETPAIR, "setpriority": seccomp._SETPRIORITY}
        numbers = others[name] if name in others else tables[name][0]
        answer = verdict(machine, scoped, numbers[COLUMN[machine]], *arguments)
        assert answer in (ALLOW, ERRNO | errno.EPERM)
        return answer == ALLOW

    thread, fork = 0x3D0F00, 0x1200011
    assert fares("clone", thread) and not fares("clone", fork)
    assert fares("socketpair", 1, 0x80001) and not fares("socketpair", 1, 2) and not fares("socketpair", 2, 1)
    assert fares("setpriority", 0, 0) and not fares("setpriority", 0, 1) and not fares("setpriority", 2, 0)
    assert fares("prlimit64", 0) and not fares("prlimit64", 1)
    assert fares("prctl", 15) and not fares("prctl", 1)
    assert fares("fcntl", 0, 3) and not fares("fcntl", 0, 8) and not fares("fcntl", 0, 15)
    assert fares("ioctl", 0, 0x5401) and not fares("ioctl", 0, 0x5412)
    assert not fares("kill", -1)
    for name in ("kill", "tkill", "tgkill"):
        assert fares(name, 1), "where Landlock keeps signals in, it is for it to refuse"
        assert fares(name, OWN, scoped=False)
        for other in (1, 0, -1, OWN + 1):
            assert not fares(name, other, scoped=False)


def test_a_machine_whose_calls_are_not_known_is_refused() -> None:
    with pytest.raises(OSError, match="no filter of system calls for vax"):
        seccomp.code("vax", scoped=True)
