"""Each level stops what it claims to stop, for root and for a user without any rights; what a level does not claim is tried at the one below."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.sandbox.level import LEVELS, LevelName, at_least
from executor.sandbox.users import users

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sysconfig.get_path("purelib")
SCRIPT = Path(__file__).with_name("levels.py")
NOBODY = 65534
USERS = [-1, NOBODY] if os.geteuid() == 0 else [-1]


def interpreter(user: int) -> str:
    """A Python like ours that the user can run."""
    for path in (Path(sys.executable).resolve(), Path(f"/usr/bin/python3.{sys.version_info.minor}")):
        if user < 0 or (path.exists() and all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))):
            return str(path)
    pytest.skip("there is no interpreter of this version that other users can run")


class Judging:
    """A judge in a process of its own."""

    def __init__(self, level: LevelName, user: int) -> None:
        self._process = subprocess.Popen(
            [interpreter(user), str(SCRIPT), level, str(user), PACKAGES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        self.unprivileged = user >= 0 or os.geteuid() != 0
        self.hello = self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def __call__(self, program: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(json.dumps(textwrap.dedent(program)), file=self._process.stdin, flush=True)
        return self._read()

    def reaches(self, program: str) -> bool:
        """Whether the program gets as far as printing `reached`; a refusal by the kernel is an answer, a defect of ours is not."""
        answer = self(program + "\nprint('reached')")
        assert answer["outcome"] in ("pass", "error", "memory"), answer
        return answer["outcome"] == "pass"

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0


@pytest.fixture(scope="module")
def judgings() -> Iterator[Callable[[LevelName, int], Judging]]:
    opened: dict[tuple[LevelName, int], Judging] = {}

    def get(level: LevelName, user: int) -> Judging:
        if (level, user) not in opened:
            opened[level, user] = Judging(level, user)
        judging = opened[level, user]
        if "refused" in judging.hello:
            pytest.skip(judging.hello["refused"])
        return judging

    yield get
    for judging in opened.values():
        judging.close()


# What is tried, and the lowest level that stops it (for root, for others; None: none does).
ATTEMPTS: dict[str, tuple[str, LevelName | None, LevelName | None]] = {
    "nothing": ("", None, None),
    "its own scratch folder": (
        """
        import os, shutil, tempfile
        os.makedirs('a/b')
        with tempfile.NamedTemporaryFile() as f: f.write(b'x')
        open('a/c', 'w').write('1')
        os.rename('a/c', 'a/b/c')
        shutil.copy('a/b/c', 'd')
        os.truncate('d', 0)
        os.symlink('d', 'e')
        shutil.rmtree('a')
        """,
        None,
        None,
    ),
    "the standard library and the time zones": (
        "import decimal, zoneinfo, sqlite3, ssl, unicodedata; zoneinfo.ZoneInfo('Europe/Berlin')"
        if Path("/usr/share/zoneinfo/Europe/Berlin").exists()
        else "import decimal, sqlite3, ssl, unicodedata",
        None,
        None,
    ),
    "standard input by its name": ("open('/dev/stdin').read(); open('/dev/null', 'w').write('x')", None, None),
    "threads": (
        """
        import threading
        threads = [threading.Thread(target=len, args=('x',)) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
        None,
        None,
    ),
    "another file": ("open('/etc/passwd').read()", "L2", "L2"),
    "another folder": ("import os; os.listdir('/')", "L2", "L2"),
    "root's files": ("import os; os.listdir('/root')", "L1", "L0"),
    "writing elsewhere": ("import os; p = '/var/tmp/cupel-%d' % os.getpid(); open(p, 'w').close(); os.remove(p)", "L2", "L2"),
    "a changed mode elsewhere": ("import os; os.chmod('{owned}', 0o777); assert os.stat('{owned}').st_mode & 2", "L1", "L2"),
    "processes of others": ("import os; assert len([n for n in os.listdir('/proc') if n.isdigit()]) > 1", "L2", "L2"),
    "another's environment": ("import os; open('/proc/%d/environ' % os.getppid()).read()", "L0", "L0"),
    "fork": ("import os\nif os.fork() == 0: os._exit(0)\nos.wait()", "L2", "L2"),
    "another program": ("import subprocess; subprocess.run(['/bin/true'], check=True)", "L2", "L2"),
    "exec": ("import os\nr = os.fork() if 0 else 0\nos.execv('/bin/echo', ['echo', 'reached'])", "L2", "L2"),
    "the judge killed": ("import os; os.kill({judge}, 0)", "L1", "L2"),
    "its maker killed": ("import os; os.kill(os.getppid(), 0)", "L1", "L2"),
    "all killed": ("import os; os.kill(-1, 0)", "L2", "L2"),
    "ptrace": ("import ctypes; l = ctypes.CDLL(None, use_errno=True)\nif l.ptrace(16, __import__('os').getppid(), 0, 0): raise OSError(ctypes.get_errno())", "L0", "L0"),
    "ptrace of itself": ("import ctypes; l = ctypes.CDLL(None, use_errno=True)\nif l.ptrace(0, 0, 0, 0): raise OSError(ctypes.get_errno())", "L2", "L2"),
    "a socket": ("import socket; socket.socket()", "L2", "L2"),
    "a datagram": ("import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))", "L2", "L2"),
    "an abstract socket": ("import socket; socket.socket(socket.AF_UNIX).connect(b'\\0{abstract}')", "L2", "L2"),
    "asyncio": ("import asyncio; asyncio.run(asyncio.sleep(0))", None, None),
    "memory in a file": ("import os; os.memfd_create('x')", "L2", "L2"),
    "shared memory": ("import os; p = '/dev/shm/cupel-%d' % os.getpid(); open(p, 'w').close(); os.remove(p)", "L2", "L2"),
    "System V memory": ("import ctypes; l = ctypes.CDLL(None); i = l.shmget(0, 4096, 0o1600)\nif i < 0: raise OSError\nl.shmctl(i, 0, None)", "L2", "L2"),
    "a namespace": ("import ctypes\nif ctypes.CDLL(None).unshare(0x10000000): raise OSError", "L2", "L2"),
    "a mount": ("import ctypes\nif ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None): raise OSError", "L1", "L0"),
    "root again": ("import os; os.setuid(0)", "L1", "L0"),
    "higher limits": ("import resource; resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)", "L0", "L0"),
    "another's limits": ("import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)", "L1", "L2"),
    "another's priority": ("import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)", "L1", "L2"),
    "living on": ("import ctypes\nif ctypes.CDLL(None).prctl(1, 0, 0, 0, 0): raise OSError", "L2", "L2"),
    "signals to others by a file's owner": ("import fcntl, os; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())", "L2", "L2"),
    "the name of the machine": ("import os; assert os.uname().nodename != 'cupel'", "L3", "L3"),
    "network devices": ("import os; assert 'eth0' in os.listdir('/sys/class/net')", "L2", "L2"),
}  # fmt: skip


@pytest.fixture
def owned() -> Iterator[Path]:
    """A file of the user who judges, in a folder that is open to all."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp", prefix="cupel-owned-") as file:
        yield Path(file.name)


@pytest.fixture(scope="module")
def abstract() -> Iterator[str]:
    """A socket of ours that listens under an abstract name."""
    name = f"cupel-level-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name}")
        listening.listen()
        yield name


@pytest.mark.parametrize("user", USERS, ids=lambda user: "nobody" if user == NOBODY else "me")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_level_stops_what_it_claims_and_no_more(
    judgings: Callable[[LevelName, int], Judging], abstract: str, owned: Path, level: LevelName, user: int, attempt: str
) -> None:
    judging = judgings(level, user)
    os.chown(owned, user, user)
    owned.chmod(0o600)
    program, for_root, for_others = ATTEMPTS[attempt]
    stopped_from = for_others if judging.unprivileged else for_root
    if level == "L0" and not judging.unprivileged:
        pytest.skip("at L0 root's programs are held by nothing")
    if attempt == "network devices" and not Path("/sys/class/net/eth0").exists():
        pytest.skip("there is no eth0 here")
    if attempt == "all killed" and level in ("L0", "L1") and judging.unprivileged:
        pytest.skip("it would reach every process of this user")
    program = textwrap.dedent(program)
    program = (
        program.replace("{judge}", str(judging.hello["pid"]))
        .replace("{abstract}", abstract)
        .replace("{owned}", str(owned))
    )
    stopped = stopped_from is not None and at_least(level, stopped_from)
    assert judging.reaches(program) is not stopped


@pytest.mark.parametrize("user", USERS, ids=lambda user: "nobody" if user == NOBODY else "me")
@pytest.mark.parametrize("level", LEVELS)
def test_the_judge_outlives_what_is_tried(
    judgings: Callable[[LevelName, int], Judging], level: LevelName, user: int
) -> None:
    judging = judgings(level, user)
    if level == "L0":
        pytest.skip("at L0 a program may kill the judge")
    kill_all = "import os, signal\nfor pid in [os.getppid(), *range(2, 400)]:\n    try: os.kill(pid, 0)\n    except OSError: pass"
    judging(kill_all)
    assert judging.reaches("")


def test_a_level_that_cannot_be_had_is_refused_with_what_it_needs() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become a user without rights and keep the files readable")
    refused = Judging("L1", NOBODY)
    assert "executor.min_level: L1 cannot be had here: L1 (it needs root" in refused.hello["refused"]
    refused.close()


def test_a_container_on_the_same_machine_claims_other_users() -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    code = "from executor.sandbox.users import users; print(*users())"
    told = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    theirs = {int(uid) for uid in told.stdout.split()}
    assert len(theirs) > 500 and theirs.isdisjoint(users())
