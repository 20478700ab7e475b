"""The command line as a person meets it: real processes, their output and exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "train",
    "submit",
    "judge",
    "eval",
    "compare",
    "study",
    "problems",
    "report",
    "status",
    "stop",
    "dashboard",
    "doctor",
)
HEAVY = ("ray", "torch", "vllm", "transformers", "tensorboard")


def cupel(*arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `cupel` for real."""
    return subprocess.run(
        [sys.executable, "-m", "cluster", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Problems and samples: one that passes, one that does not."""
    problem = {"id": "add", "prompt": "Add.", "kind": "function", "entry_point": "add"}
    problem |= {"private_tests": [{"args": [1, 2], "expected": 3}], "references": ["def add(a, b):\n    return a + b"]}
    problems, samples = tmp_path / "problems.jsonl", tmp_path / "samples.jsonl"
    problems.write_text(json.dumps(problem) + "\n")
    rows = [{"problem_id": "add", "program": f"def add(a, b):\n    return a {sign} b"} for sign in "+-"]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return problems, samples


def test_help_names_every_command_and_is_quick() -> None:
    cupel("--help")
    started = time.monotonic()
    done = cupel("--help")
    assert time.monotonic() - started < 1.0 + os.getloadavg()[0]  # machines that run tests are busy
    assert done.returncode == 0
    assert all(f"  {command} " in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    done = cupel(command, "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout and f"cupel {command}" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--dry-run"], ["status", "nowhere"], ["report", "nowhere"]]
)
def test_nothing_heavy_is_imported_where_it_is_not_needed(arguments: list[str]) -> None:
    code = f"""
        import atexit, sys
        atexit.register(lambda: print("HEAVY", [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr))
        from cluster.cli import main
        sys.argv = ["cupel", *{arguments!r}]
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "HEAVY []" in done.stderr


def test_an_unknown_command_suggests_one() -> None:
    done = cupel("trian")
    assert done.returncode == 2
    assert "train" in done.stderr and "Traceback" not in done.stderr


def test_dry_run_prints_what_would_run_and_starts_nothing(tmp_path: Path) -> None:
    import yaml

    (tmp_path / "c.yaml").write_text("run: {seed: 9}\n")
    done = cupel("train", "c.yaml", "run.steps=2", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert (config["run"]["seed"], config["run"]["steps"]) == (9, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def test_judge_writes_a_verdict_a_sample(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    done = cupel("judge", *files, "--out", out, "--workers", "2")
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(v["index"], v["outcome"], v["passed"], v["total"]) for v in verdicts] == [
        (0, "pass", 1, 1),
        (1, "failure", 0, 1),
    ]


def test_judge_without_a_file_prints_only_verdicts(files: tuple[Path, Path]) -> None:
    done = cupel("judge", *files)
    assert [json.loads(line)["outcome"] for line in done.stdout.splitlines()] == ["pass", "failure"]


def test_a_reader_that_has_enough_gets_no_traceback(files: tuple[Path, Path]) -> None:
    problems, samples = files
    samples.write_text(samples.read_text() * 20)
    command = f"{sys.executable} -m cluster judge {problems} {samples} | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_problems_are_turned_and_checked(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = cupel("problems", files[0], "--out", out, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^1 references run at L\d: 1 pass$", done.stdout, re.MULTILINE)
    problem = json.loads(out.read_text())
    problem["references"] = ["def add(a, b):\n    return 4"]
    files[0].write_text(json.dumps(problem) + "\n")
    done = cupel("problems", files[0], "--out", out, "--check")
    assert done.returncode == 1
    assert "add: reference 0: failure, 0 of 1 tests" in done.stdout


def test_report_prints_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    done = cupel("report", tmp_path, "--out", tmp_path / "page.html")
    assert done.stdout.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_doctor_tells_every_part_and_its_exit_code_says_whether_the_default_run_can_run() -> None:
    done = cupel("doctor")
    for what in (
        "Python",
        "ray",
        "torch",
        "transformers",
        "vllm",
        "default model",
        "isolation",
        "memory",
        "/dev/shm",
        "GPU",
        "Java",
    ):
        assert what in done.stdout
    assert done.returncode == (0 if "The default run can run" in done.stdout else 1)


def running(folder: Path) -> subprocess.Popen[str]:
    """A process that holds a run folder and ends, as a run does, when it is interrupted."""
    code = f"""
        import signal, threading
        from cluster.run_folder import RunFolder
        folder = RunFolder.create({str(folder.parent)!r}, {folder.name!r})
        folder.write_text("config.yaml", "run: {{}}")
        asked = threading.Event()
        signal.signal(signal.SIGINT, lambda *_: asked.set())
        with folder.locked():
            folder._last_heartbeat = 0
            folder.heartbeat({{"controller": "groups from the buffer (3 s)", "step": 4, "steps": 24, "seconds": 65.0}})
            print("running", flush=True)
            asked.wait(60)
        folder.write_json("summary.json", {{"status": "stopped", "steps": 4, "seconds": 66.0}})
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


def test_status_and_stop_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    process = running(folder)
    try:
        done = cupel("status", cwd=tmp_path)
        for words in (f"running (process {process.pid})", "4 of 24", "1 min 05 s", "groups from the buffer (3 s)"):
            assert words in done.stdout
        assert process.poll() is None
        import threading

        threading.Thread(target=process.wait).start()  # so that its end is seen
        done = cupel("stop", folder, "--wait", "30")
        assert done.returncode == 0, done.stdout + done.stderr
        assert process.wait(10) == 0
    finally:
        process.kill()
    assert "stopped" in cupel("status", folder).stdout
    done = cupel("stop", folder)
    assert done.returncode == 2 and "is not running: stopped" in done.stderr


def test_stop_never_signals_a_later_process_with_the_same_number(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "config.yaml").write_text("{}")
        (tmp_path / "status.json").write_text(json.dumps({"pid": bystander.pid, "pid_started": 1.0, "written": 1.0}))
        done = cupel("stop", tmp_path)
        assert done.returncode == 2 and "not running: broken off" in done.stderr
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_interrupt_is_one_line(files: tuple[Path, Path]) -> None:
    problems, samples = files
    problems.write_text(json.dumps({**json.loads(problems.read_text()), "time_limit_s": 0.5}) + "\n")
    row = {"problem_id": "add", "program": "while True: pass"}
    samples.write_text((json.dumps(row) + "\n") * 20)
    process = subprocess.Popen(
        [sys.executable, "-m", "cluster", "judge", problems, samples], cwd=ROOT, text=True, stderr=subprocess.PIPE
    )
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "cupel: interrupted"
