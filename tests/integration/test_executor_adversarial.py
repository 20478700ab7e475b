"""No adversarial program passes, honest ones do, and the host is as it was, at every level.

a15, a21, a25 and a31 attack the host itself: they run at L2 and above, which stop them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from executor.files import judge_files
from executor.languages.interpreter import find
from executor.sandbox.choosing import missing
from executor.sandbox.level import LEVELS, LevelName, at_least
from executor.sandbox.users import users
from executor.settings import ExecutorSettings

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "adversarial"
ATTACKS = ("a15_", "a21_", "a25_", "a31_")

pytestmark = pytest.mark.skipif(
    not CORPUS.is_dir(), reason="the adversarial corpus (../shared) is not beside this checkout"
)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("level", LEVELS)
def test_the_corpus(level: LevelName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = missing(level, find(os.geteuid() == 0 and level != "L0"))
    if reason is not None:
        pytest.skip(f"{level}: {reason}")
    if level == "L0" and os.geteuid() == 0:
        pytest.skip("at L0 root's programs are held by nothing")
    monkeypatch.setenv("CUPEL_CANARY", "canary-of-the-judge")
    expected = [json.loads(line) for line in (CORPUS / "expected.jsonl").read_text().splitlines()]
    samples = (CORPUS / "samples.jsonl").read_text().splitlines()
    kept = [e for e in expected if at_least(level, "L2") or not e["name"].startswith(ATTACKS)]
    (tmp_path / "samples.jsonl").write_text("".join(samples[e["index"]] + "\n" for e in kept))
    (tmp_path / "expected.jsonl").write_text("".join(json.dumps({**e, "index": i}) + "\n" for i, e in enumerate(kept)))
    open_folders = [Path(p) for p in ("/tmp", "/var/tmp", "/dev/shm") if Path(p).is_dir()]
    shm = Path("/proc/sysvipc/shm").read_text().count("\n")

    out = tmp_path / "verdicts.jsonl"
    judge_files(
        CORPUS / "problems.jsonl",
        tmp_path / "samples.jsonl",
        out,
        ExecutorSettings(min_level=level, max_level=level),
        2,
    )

    checked = subprocess.run(
        [sys.executable, str(CORPUS / "check.py"), str(out), str(tmp_path / "expected.jsonl")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "canary-of-the-judge" not in out.read_text()
    assert Path("/proc/sysvipc/shm").read_text().count("\n") == shm
    if os.geteuid() == 0:
        left = [p for folder in open_folders for p in folder.iterdir() if p.lstat().st_uid in users()]
        assert left == []
