"""Nothing outlives a test, nor the process that judges."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.errors import UserError
from executor.judging import Judge, JudgeRequest
from executor.languages.interpreter import find
from executor.problem import Problem, StdioTest
from executor.sandbox.choosing import missing
from executor.sandbox.level import LEVELS, LevelName
from executor.settings import ExecutorSettings
from executor.verdict import Outcome

REPOSITORY = Path(__file__).resolve().parents[2]
# A tree: children that leave the group and the session, one of them orphaned, all of them asleep.
TREE = """
import os, time
for new_session in (False, True):
    if os.fork() == 0:
        if new_session:
            os.setsid()
            if os.fork():
                os._exit(0)
        time.sleep(1000)
"""


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that other users may pass through, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)
        yield Path(folder)


def at(level: LevelName, **settings: Any) -> ExecutorSettings:
    """Settings for just that level; skips where it cannot be had."""
    try:
        interpreter = find(os.geteuid() == 0 and level != "L0")
        if (reason := missing(level, interpreter)) is not None:
            pytest.skip(f"{level}: {reason}")
    except UserError as error:
        pytest.skip(f"{level}: {error}")
    return ExecutorSettings(min_level=level, max_level=level, **settings)


def problem(seconds: float = 2.0) -> Problem:
    return Problem(
        id="p", prompt="?", kind="stdio", time_limit_s=seconds, public_tests=[StdioTest(input="", output="5\n")]
    )


def alive() -> dict[int, str]:
    """Every process that is no kernel thread nor zombie, by id, with its command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if words and state != "Z":
                found[int(entry.name)] = words
    return found


def wait_until(true: object, seconds: float = 10.0) -> None:
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "not within the time allowed"
        time.sleep(0.02)


def of_us(marker: str) -> list[int]:
    """Zygotes and their forks: they all share the zygote's command line, which names the judge's process."""
    return [pid for pid, words in alive().items() if "zygote.py" in words and f" {marker} " in words]


@pytest.mark.parametrize("ending", ["print(5)", "os.kill(os.getpid(), 9)", "while True: pass", "time.sleep(60)"])
def test_a_tree_is_killed_whole(ending: str) -> None:
    with Judge(ExecutorSettings(wall_factor=1, wall_extra_s=0.3, max_level="L1")) as judge:
        judge.judge(JudgeRequest(problem(), "print(5)"))
        before = of_us(str(os.getpid()))
        judge.judge(JudgeRequest(problem(0.3), TREE + ending))
        assert of_us(str(os.getpid())) == before
        assert judge.judge(JudgeRequest(problem(), "print(5)")).outcome is Outcome.PASS
    assert of_us(str(os.getpid())) == []


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_left_after_many_tests(scratch: Path, level: LevelName) -> None:
    programs = [
        "print(5)",
        "(",
        "1/0",
        "open('a', 'w').write('x')",
        "import os\nfor i in range(300):\n    os.mkdir('d')\n    os.chdir('d')\nopen('f', 'w').close()",
        "import os\nos.mkdir('closed')\nopen('closed/f', 'w').close()\nos.chmod('closed', 0)",
        "import os\nos.symlink('/etc/passwd', 'link')\nos.symlink('/', 'root')",
        "import os\nfor fd in range(3, 40):\n    try: os.close(fd)\n    except OSError: pass\nprint(5)",
        "import sys\nwhile True: sys.stdout.write('x' * 4096)",
        TREE,
    ]
    with Judge(at(level, scratch_dir=str(scratch))) as judge:
        for program in programs:
            assert judge.judge(JudgeRequest(problem(), program)).outcome is not Outcome.INFRASTRUCTURE
        descriptors = len(os.listdir("/proc/self/fd"))
        for program in programs:
            judge.judge(JudgeRequest(problem(), program))
        assert len(os.listdir("/proc/self/fd")) == descriptors
        (base,) = scratch.iterdir()
        assert not [file for file in base.rglob("*") if not file.is_dir()]
        assert {folder.name for folder in base.rglob("*")} <= {"s0", "scratch"}
    assert list(scratch.iterdir()) == []
    assert Path("/etc/passwd").exists()


@pytest.mark.parametrize("level", LEVELS)
def test_a_killed_zygote_costs_a_retry_and_no_verdict(level: LevelName) -> None:
    with Judge(at(level)) as judge:
        for turn in range(4):
            # At L3 there are two: the one that serves, and the one outside its namespaces.
            for zygote in sorted(of_us(str(os.getpid())))[turn % 2 :][:1]:
                os.kill(zygote, signal.SIGKILL)
            assert judge.judge(JudgeRequest(problem(), "print(5)")).outcome is Outcome.PASS


def test_machinery_that_stays_broken_is_infrastructure(scratch: Path) -> None:
    with Judge(ExecutorSettings(retries=1, scratch_dir=str(scratch))) as judge:
        (base,) = scratch.iterdir()
        base.rmdir()
        verdict = judge.judge(JudgeRequest(problem(), "print(5)"))
        assert verdict.outcome is Outcome.INFRASTRUCTURE and judge.infrastructure_failures == 2
        base.mkdir()
        base.chmod(0o711)
        assert judge.judge(JudgeRequest(problem(), "print(5)")).outcome is Outcome.PASS


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("level", ["L1", "L2", "L3"])
def test_a_full_disk_is_infrastructure(scratch: Path, level: LevelName) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=8,mode=0711", "tmpfs", str(scratch)], check=True)
    try:
        with Judge(at(level, scratch_dir=str(scratch), retries=1)) as judge:
            fill = [scratch / f"fill{i}" for i in range(16)]
            try:
                for file in fill:
                    file.touch()
            except OSError:
                pass
            verdict = judge.judge(JudgeRequest(problem(), "print(5)"))
            assert verdict.outcome is Outcome.INFRASTRUCTURE, verdict
            for file in fill:
                file.unlink(missing_ok=True)
            assert judge.judge(JudgeRequest(problem(), "print(5)")).outcome is Outcome.PASS
    finally:
        subprocess.run(["umount", str(scratch)], check=True)


def test_no_more_processes_is_infrastructure_and_passes_with_its_cause() -> None:
    with Judge(at("L3", retries=1)) as judge:
        assert judge.judge(JudgeRequest(problem(), "print(5)")).outcome is Outcome.PASS
        bounds = list(Path("/sys/fs/cgroup").glob(f"**/cupel-{os.getpid()}-*/pids.max"))
        if not bounds:
            pytest.skip("no control groups can be made here")
        for bound in bounds:
            bound.write_text("1")
        verdict = judge.judge(JudgeRequest(problem(), "print(5)"))
        assert verdict.outcome is Outcome.INFRASTRUCTURE, verdict
        for bound in bounds:
            bound.write_text("256")
        assert judge.judge(JudgeRequest(problem(), "print(5)")).outcome is Outcome.PASS


def test_memory_of_a_slot_is_bounded_where_control_groups_are() -> None:
    with Judge(at("L3")) as judge:
        judge.judge(JudgeRequest(problem(), "print(5)"))
        if not list(Path("/sys/fs/cgroup").glob(f"**/cupel-{os.getpid()}-*")):
            pytest.skip("no control groups can be made here")
        # What no limit of a process counts: files in memory, filled to the brim of the folder, and pipes.
        hoard = "import os\nends = [os.pipe() for _ in range(100)]\nopen('f', 'wb').write(bytes(60 << 20))\nprint(5)"
        assert judge.judge(JudgeRequest(problem(), hoard)).outcome in (Outcome.PASS, Outcome.MEMORY, Outcome.ERROR)
        assert (
            judge.judge(JudgeRequest(problem(), "import os\nprint(5 if not os.listdir() else 6)")).outcome
            is Outcome.PASS
        )
    assert not list(Path("/sys/fs/cgroup").glob(f"**/cupel-{os.getpid()}-*"))


def test_a_kill_for_memory_is_told_as_such() -> None:
    with Judge(at("L3")) as judge:
        judge.judge(JudgeRequest(problem(), "print(5)"))
        groups = Path("/sys/fs/cgroup").glob(f"**/cupel-{os.getpid()}-*/memory.*")
        limits = [path for path in groups if path.name in ("memory.limit_in_bytes", "memory.max")]
        if not limits:
            pytest.skip("no control groups can be made here")
        for limit in limits:
            limit.write_text(str(64 << 20))
        hoard = "x = bytearray(200 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nprint(5)"
        assert judge.judge(JudgeRequest(problem(), hoard)).outcome is Outcome.MEMORY
        assert judge.judge(JudgeRequest(problem(), "print(5)")).outcome is Outcome.PASS


def test_a_killed_judge_leaves_no_process_and_no_files_for_long(scratch: Path) -> None:
    program = TREE + "time.sleep(60)"  # processes of its own are to be had up to L1
    script = f"""
        import sys
        sys.path.insert(0, {str(REPOSITORY)!r})
        from executor.judging import Judge, JudgeRequest
        from executor.problem import Problem, StdioTest
        from executor.settings import ExecutorSettings
        p = Problem(id="p", prompt="?", kind="stdio", time_limit_s=30, public_tests=[StdioTest(input="", output="5")])
        settings = ExecutorSettings(scratch_dir={str(scratch)!r}, max_level="L1")
        Judge(settings).judge(JudgeRequest(p, {program!r}))
    """
    judging = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        wait_until(lambda: len(of_us(str(judging.pid))) >= 4)  # the zygote, the program, its sleepers
    finally:
        judging.kill()
        judging.wait()
    wait_until(lambda: of_us(str(judging.pid)) == [])
    assert len(list(scratch.iterdir())) == 1
    with Judge(ExecutorSettings(scratch_dir=str(scratch))):
        assert len(list(scratch.iterdir())) == 1  # its own; what the dead one left is gone
    assert list(scratch.iterdir()) == []


def test_a_scratch_folder_out_of_the_programs_reach_is_refused(scratch: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("there is no other user without root")
    scratch.chmod(0o700)
    with pytest.raises(UserError, match=r"scratch_dir: .* is out of reach of other users"):
        Judge(ExecutorSettings(scratch_dir=str(scratch)))
    with pytest.raises(UserError, match=r"scratch_dir: .*No such file"):
        Judge(ExecutorSettings(scratch_dir=str(scratch / "none")))
