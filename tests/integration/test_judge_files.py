"""`cupel judge` as it is used: killed and gone on with, interrupted, fed by a pipe, its processes lost."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
ADD = {"id": "add", "prompt": "Add.", "kind": "stdio", "public_tests": [{"input": "2 3\n", "output": "5\n"}]}
SUB = {**ADD, "id": "sub", "private_tests": [{"input": "2 3\n", "output": "-1\n"}], "public_tests": []}
PROGRAMS = ["print(sum(map(int, input().split())))", "print(-1)", "1 / 0", "(", "print(5)"]
SLOW = "import time; time.sleep(0.5)"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write(tmp_path / "p.jsonl", [ADD, SUB])


def rows(count: int) -> list[dict[str, Any]]:
    """Samples, no two alike; now and then a slow one, so that a judging does not end before it is broken off."""
    return [
        {
            "problem_id": ("add", "sub")[number % 3 == 2],
            "program": f"# {number}\n{SLOW if number % 20 == 13 else PROGRAMS[number % len(PROGRAMS)]}",
        }
        for number in range(count)
    ]


def judge(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cluster", "judge", *map(str, arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **{**pipes, **options})


def end(process: subprocess.Popen[str], text: str | None = None) -> tuple[int, str, str]:
    out, err = process.communicate(text, timeout=120)
    return process.returncode, out, err


def verdicts(path: Path) -> list[dict[str, Any]]:
    """What is in a file of verdicts, but for the seconds."""

    def without_seconds(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_seconds(item) for key, item in value.items() if key != "seconds"}
        return [without_seconds(item) for item in value] if isinstance(value, list) else value

    return [without_seconds(json.loads(line)) for line in path.read_text().splitlines()]


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "not within the time allowed"
        time.sleep(0.005)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Every process below this one."""
    return psutil.Process(process.pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> bool:
    def state(process: psutil.Process) -> str:
        try:
            return process.status()
        except psutil.NoSuchProcess:
            return psutil.STATUS_DEAD

    return all(state(process) in (psutil.STATUS_DEAD, psutil.STATUS_ZOMBIE) for process in processes)


@pytest.mark.parametrize("by_pipe", [False, True])
def test_a_killed_judging_is_gone_on_with(by_pipe: bool, problems: Path, tmp_path: Path) -> None:
    samples, out, part = write(tmp_path / "s.jsonl", rows(60)), tmp_path / "v.jsonl", tmp_path / "v.jsonl.part"
    assert end(judge(problems, samples, "--out", tmp_path / "whole.jsonl"))[0] == 0
    arguments = [problems, "-" if by_pipe else samples, "--out", out, "--workers", 2]
    for upto in (5, 25):  # twice: going on is no special case the second time
        with samples.open() as stdin:
            process = judge(*arguments, stdin=stdin)
            wait_until(lambda upto=upto: lines(part) >= upto)
            started = below(process)
            process.kill()
            end(process)
        assert not out.exists()
        wait_until(lambda started=started: gone(started))
        with part.open("ab") as file:
            file.write(b'{"problem_id": "add", "ind')  # as a kill in the middle of a write would leave it
    kept = part.read_bytes().rpartition(b"\n")[0].splitlines()
    with samples.open() as stdin:
        code, told, err = end(judge(*arguments, stdin=stdin))
    assert code == 0, err
    assert f"60 samples judged ({len(kept)} of them before)" in told
    assert out.read_bytes().splitlines()[: len(kept)] == kept  # not judged again
    assert verdicts(out) == verdicts(tmp_path / "whole.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.jsonl", "s.jsonl", "v.jsonl", "whole.jsonl"]


def test_nothing_of_a_killed_judging_goes_on(tmp_path: Path) -> None:
    problems = write(tmp_path / "p.jsonl", [{**ADD, "time_limit_s": 500}])
    samples = write(tmp_path / "s.jsonl", [{"problem_id": "add", "program": "while True: pass"}] * 2)
    process = judge(problems, samples, "--workers", 2)
    # Two judging processes, the interpreter of each, and the program that it runs.
    wait_until(lambda: len(below(process)) >= 6)
    started = below(process)
    process.kill()
    end(process)
    wait_until(lambda: gone(started))


@pytest.fixture
def broken_off(problems: Path, tmp_path: Path) -> list[Any]:
    """Arguments of a judging that was interrupted after some verdicts; it has said how to go on."""
    samples = write(tmp_path / "s.jsonl", [*rows(12), *({"problem_id": "add", "program": "while True: pass"},) * 40])
    arguments = [problems, samples, "--out", tmp_path / "v.jsonl", "--workers", 2]
    process = judge(*arguments, start_new_session=True)
    wait_until(lambda: lines(tmp_path / "v.jsonl.part") >= 12)
    started = below(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    code, _, err = end(process)
    assert code == 130
    assert re.fullmatch(
        r"cupel: interrupted: verdicts kept in \S+v\.jsonl\.part: \d+; the same command goes on .*\n", err
    )
    wait_until(lambda: gone(started))
    return arguments


def test_an_interrupted_judging_is_gone_on_with(broken_off: list[Any], tmp_path: Path) -> None:
    # Samples may be added; those that have a verdict must be the same.
    write(tmp_path / "s.jsonl", rows(14))
    part = tmp_path / "v.jsonl.part"
    part.write_text("".join(part.read_text().splitlines(keepends=True)[:12]))
    code, told, err = end(judge(*broken_off))
    assert code == 0, err
    assert "14 samples judged (12 of them before)" in told
    assert [verdict["index"] for verdict in verdicts(tmp_path / "v.jsonl")] == list(range(14))


def test_verdicts_on_other_things_are_never_mixed(broken_off: list[Any], tmp_path: Path) -> None:
    kept = (tmp_path / "v.jsonl.part").read_bytes()
    code, _, err = end(judge(*broken_off, "--stop-at-first-failure"))
    assert code == 2 and "with other stop_at_first_failure" in err and "--fresh" in err
    other = rows(12)
    other[7]["program"] = "print()"
    write(tmp_path / "s.jsonl", other)
    code, _, err = end(judge(*broken_off))
    assert code == 2 and re.search(r"s\.jsonl:8: not the sample that \S+ has a verdict on; --fresh starts anew", err)
    code, _, err = end(
        judge(broken_off[0], "-", *broken_off[2:], stdin=subprocess.PIPE), (tmp_path / "s.jsonl").read_text()
    )
    assert code == 2 and "-:8: not the sample" in err
    write(tmp_path / "s.jsonl", rows(3))
    code, _, err = end(judge(*broken_off))
    assert code == 2 and "has 3 samples; --fresh starts anew" in err
    assert (tmp_path / "v.jsonl.part").read_bytes() == kept and not (tmp_path / "v.jsonl").exists()
    assert end(judge(*broken_off, "--fresh"))[0] == 0
    assert len(verdicts(tmp_path / "v.jsonl")) == 3


def test_verdicts_do_not_wait_for_samples_that_are_slow_to_come(problems: Path) -> None:
    process = judge(problems, "-", stdin=subprocess.PIPE, bufsize=1)
    assert process.stdin is not None and process.stdout is not None
    for index, row in enumerate(rows(3)):
        process.stdin.write(json.dumps(row) + "\n")
        assert json.loads(process.stdout.readline())["index"] == index
    process.stdin.write("nonsense\n")
    assert end(process)[0] == 2


def test_an_interrupt_ends_the_wait_for_samples(problems: Path, tmp_path: Path) -> None:
    process = judge(problems, "-", "--out", tmp_path / "v.jsonl", stdin=subprocess.PIPE, bufsize=1)
    assert process.stdin is not None
    process.stdin.write(json.dumps(rows(1)[0]) + "\n")
    wait_until(lambda: lines(tmp_path / "v.jsonl.part") == 1)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr is not None
    assert "v.jsonl.part: 1; the same command goes on" in process.stderr.read()
    process.communicate()


def test_a_broken_line_of_a_pipe_is_told_after_the_verdicts_before_it(problems: Path, tmp_path: Path) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows(7)) + "nonsense\n"
    code, told, err = end(judge(problems, "-", stdin=subprocess.PIPE), text)
    assert code == 2 and err == "cupel: -:8: not JSON: Expecting value (column 1)\n"
    assert [json.loads(line)["index"] for line in told.splitlines()] == list(range(7))


def test_packed_samples(problems: Path, tmp_path: Path) -> None:
    packed = tmp_path / "s.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows(3)).encode()))
    code, told, err = end(judge(problems, packed))
    assert code == 0, err
    assert len(told.splitlines()) == 3
    packed.write_bytes(packed.read_bytes()[:-12])
    code, told, err = end(judge(problems, packed))
    assert (code, told) == (2, "") and err.startswith(f"cupel: {packed}: ") and err.count("\n") == 1


def test_the_tests_that_are_asked_for(problems: Path, tmp_path: Path) -> None:
    samples = write(tmp_path / "s.jsonl", [{"problem_id": "add", "program": PROGRAMS[0]}])
    code, told, _ = end(judge(problems, samples, "--tests", "public"))
    assert code == 0 and json.loads(told)["tests"][0]["public"] is True
    code, _, err = end(judge(problems, samples, "--tests", "private"))
    assert code == 2 and "s.jsonl:1: problem 'add' has no private tests" in err


def test_levels_that_are_asked_for(problems: Path, tmp_path: Path) -> None:
    samples = write(tmp_path / "s.jsonl", rows(1))
    code, told, err = end(judge(problems, samples, "--min-level", "L0", "--max-level", "L0"))
    assert code == 0, err
    assert json.loads(told)["level"] == "L0"
    code, _, err = end(judge(problems, samples, "--min-level", "L1", "--max-level", "L0"))
    assert (code, err) == (2, "cupel: max_level=L0 is below min_level=L1\n")


def test_a_lost_judging_process_is_replaced(problems: Path, tmp_path: Path) -> None:
    samples = write(tmp_path / "s.jsonl", rows(60))
    assert end(judge(problems, samples, "--out", tmp_path / "whole.jsonl"))[0] == 0
    process = judge(problems, samples, "--out", tmp_path / "v.jsonl", "--workers", 2)
    for upto in (5, 20, 35):
        wait_until(lambda upto=upto: lines(tmp_path / "v.jsonl.part") >= upto)
        psutil.Process(process.pid).children()[0].kill()
    code, _, err = end(process)
    assert code == 0, err
    assert verdicts(tmp_path / "v.jsonl") == verdicts(tmp_path / "whole.jsonl")


def test_a_bar_on_a_terminal(problems: Path, tmp_path: Path) -> None:
    samples = write(tmp_path / "s.jsonl", rows(30))
    ours, theirs = pty.openpty()
    process = judge(
        problems, samples, "--out", tmp_path / "v.jsonl", stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            shown += chunk
    except OSError:  # how a terminal without a writer ends
        pass
    os.close(ours)
    code, told, _ = end(process)
    assert code == 0 and "30 samples judged" in told
    assert b"/30" in shown and b"samples/s" in shown and b" pass" in shown
