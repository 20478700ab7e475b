"""The samples of an evaluation: a file that gains a line as soon as one is judged, and that a killed evaluation leaves fit
to be gone on with.

Beside it lies what it was made with. Invariants: a line is written whole, a line that was cut off is taken away; no sample
(problem, index) is there twice; a sample that our own machinery failed to judge is not there, so the next call tries it
again; samples made with other settings are never mixed; one process at a time writes.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from cluster.evaluation_tallies import JudgedSample, Sampled
from cluster.run_folder import read_json, write_atomically
from executor.errors import UserError
from executor.verdict_file import write_whole

FRESH = "--fresh starts anew, another --out keeps both"


class SampleFile:
    """The growing file. A context manager; what is written stays for the next time."""

    def __init__(self, path: Path, made_with: dict[str, Any], sampled: Sampled, fresh: bool = False) -> None:
        """Open it where it was left and count its samples into `sampled`, or anew.

        Raises UserError where it cannot be written, is being written by another process, was made with something else or is damaged.
        """
        self.path = path
        self._settings = path.with_name(path.name.removesuffix(".jsonl") + ".settings.json")
        self._file = -1
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if fresh:
                os.truncate(self._file, 0)
            if os.fstat(self._file).st_size:
                self._check(made_with)
                os.truncate(self._file, self._read(sampled))
            else:
                write_atomically(self._settings, json.dumps(made_with, indent=1) + "\n")
        except BlockingIOError:
            self.close()
            raise UserError(f"{path}: another process is writing these samples") from None
        except OSError as error:
            self.close()
            raise UserError(f"{path}: {error.strerror or error}") from None
        except UserError:
            self.close()
            raise

    def _check(self, made_with: dict[str, Any]) -> None:
        before = read_json(self._settings)
        before = before if isinstance(before, dict) else {}
        if other := differences(before, made_with):
            raise UserError(f"{self.path} holds samples made with other settings: {other}; {FRESH}")

    def _read(self, sampled: Sampled) -> int:
        """Count the samples that are there; bytes of the lines that are whole."""
        size = 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    sampled.add(JudgedSample.model_validate(json.loads(line)))
                except (ValueError, KeyError):
                    raise UserError(f"{self.path}:{number}: not a sample of this evaluation; {FRESH}") from None
                size += len(line)
        return size

    def add(self, sample: JudgedSample) -> None:
        """Write a sample. Raises UserError where that fails."""
        try:
            write_whole(self._file, json.dumps(sample.model_dump(mode="json")).encode() + b"\n")
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}; what is judged is kept: call again to go on") from None

    def close(self) -> None:
        """Let another process have it."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __enter__(self) -> SampleFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What is set otherwise, in words; empty if nothing is. Digests and whole sections are only named."""
    told = []
    for name in now:
        was, is_now = before.get(name), now[name]
        if was != is_now:
            plain = all(isinstance(value, int | float) for value in (was, is_now))
            told.append(f"{name} ({was}, now {is_now})" if plain else name)
    return ", ".join(told)
