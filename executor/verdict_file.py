"""A file of verdicts that grows in the order of the samples, and that a killed judging leaves fit to be gone on with.

While it grows it is `OUT.part`, and `OUT.resume` beside it says what it was made with: a line of JSON, then a digest
of each sample judged. Invariants: OUT is whole or absent; a verdict is written whole at once, its sample's digest
before it, so that whatever is cut off belongs to the last of them; one process at a time writes; verdicts of other
problems, samples or settings are never mixed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from executor.errors import UserError
from executor.problem import Sample
from executor.verdict import Outcome

_DIGEST = 16  # hexadecimal digits; a line of them ends with a newline
_DIGESTS = re.compile(rb"(?:[0-9a-f]{%d}\n)*+" % _DIGEST)


def digest(sample: Sample, index: int) -> bytes:
    """Tells one sample from another, and from itself on another line."""
    text = json.dumps([index, sample.problem_id, sample.program])
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST].encode() + b"\n"


class VerdictFile:
    """The growing file. A context manager; leaving it keeps what is written for the next time."""

    def __init__(self, out: Path, made_with: dict[str, Any], fresh: bool = False) -> None:
        """Open it where it was left, or anew. Raises UserError where it cannot be written, is being written by
        another process, or was begun with something else.
        """
        if out.exists() and not out.is_file():
            raise UserError(f"{out}: not a regular file")
        self.out = out
        self.part = out.with_name(f"{out.name}.part")
        self._resume = out.with_name(f"{out.name}.resume")
        self.outcomes: Counter[Outcome] = Counter()
        """Of all verdicts that it holds."""
        self._file = self._digests = -1
        try:
            self._digests = _lock(self._resume)
            self._file = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._earlier = b"" if fresh else self._read(made_with)
            if not self._earlier:
                os.truncate(self._digests, 0)
                os.truncate(self._file, 0)
                write_whole(self._digests, json.dumps(made_with).encode() + b"\n")
        except OSError as error:
            self.close()
            raise UserError(f"{error.filename or out}: {error.strerror or error}") from None
        except UserError:
            self.close()
            raise

    def _read(self, made_with: dict[str, Any]) -> bytes:
        """The digests of the samples whose verdicts are there; all else is cut off."""
        with open(self._resume, "rb") as file:
            header, digests = file.readline(), file.read()
        whole = _DIGESTS.match(digests)
        assert whole is not None  # none is a match too
        most, size = whole.end() // (_DIGEST + 1), 0
        with open(self.part, "rb") as file:
            for line in file:
                outcome = _outcome(line)
                if outcome is None or self.outcomes.total() == most:
                    break
                self.outcomes[outcome] += 1
                size += len(line)
        count = self.outcomes.total()
        if not count:
            return b""
        try:
            before = json.loads(header)
        except ValueError:
            before = {}
        if before != made_with:
            other = [name for name in made_with if before.get(name) != made_with[name]] or ["version of Cupel"]
            raise UserError(
                f"{self.part} holds {count} verdicts of a judging that was broken off, with other {', '.join(other)};\n"
                "go on with those, give another --out, or start anew with --fresh"
            )
        os.truncate(self._file, size)
        os.lseek(self._file, 0, os.SEEK_END)
        os.truncate(self._digests, len(header) + count * (_DIGEST + 1))
        os.lseek(self._digests, 0, os.SEEK_END)
        return digests[: count * (_DIGEST + 1)]

    @property
    def count(self) -> int:
        """Verdicts that it holds."""
        return self.outcomes.total()

    @property
    def earlier(self) -> int:
        """Verdicts that it held when it was opened."""
        return len(self._earlier) // (_DIGEST + 1)

    def earlier_is(self, number: int, sample: bytes) -> bool:
        """Whether the verdict `number`, one that was there at the beginning, is on the sample of this digest."""
        return self._earlier[number * (_DIGEST + 1) : (number + 1) * (_DIGEST + 1)] == sample

    def add(self, sample: bytes, line: str, outcome: Outcome) -> None:
        """Write the verdict on the sample of this digest. Raises UserError where that fails."""
        try:
            write_whole(self._digests, sample)
            write_whole(self._file, line.encode() + b"\n")
        except OSError as error:
            raise UserError(f"{self.part}: {error.strerror}; what is judged is kept: call again to go on") from None
        self.outcomes[outcome] += 1

    def finish(self) -> None:
        """Give it its name. Raises UserError where that fails."""
        try:
            os.fsync(self._file)
            os.replace(self.part, self.out)
            os.unlink(self._resume)
        except OSError as error:
            raise UserError(f"{self.out}: {error.strerror}") from None
        self._release()

    def close(self) -> None:
        """Leave it as it is; where it holds nothing, take it away."""
        if self._file >= 0 and not self.count:
            self.part.unlink(missing_ok=True)
            self._resume.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        for descriptor in (self._file, self._digests):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._digests = -1

    def __enter__(self) -> VerdictFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lock(path: Path) -> int:
    """Open `path` for this process alone."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(f"{path}: another process is writing these verdicts") from None
        os.close(descriptor)  # its holder has finished and taken it away meanwhile


def _outcome(line: bytes) -> Outcome | None:
    """The outcome in a line of verdicts, None if the line is not whole."""
    try:
        return Outcome(json.loads(line)["outcome"]) if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of it. Raises OSError where that fails, with a part of it written."""
    while data:
        data = data[os.write(descriptor, data) :]
