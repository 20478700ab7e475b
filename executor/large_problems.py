"""Problems whose tests are large travel once to each worker, however many programs are judged on them.

The client puts such a problem into Ray's object store and sends its digest and a reference; a worker fetches what it
does not hold yet. Invariants: both sides are bounded in bytes; what a digest names never changes. A client's problems
must not be changed after their first judgement, since they are known by identity.
"""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections import OrderedDict
from dataclasses import dataclass, fields
from typing import Any

from executor.judging import JudgeRequest, Tests
from executor.problem import Problem

LARGE_BYTES = 1 << 17
CLIENT_BYTES = 64 << 20
WORKER_BYTES = 256 << 20  # pickled; loaded they take about as much again
_KNOWN = 4096  # problems whose size a client remembers
_FETCH_S = 20.0


@dataclass(frozen=True)
class DistantRequest:
    """A request whose problem is told by its digest."""

    digest: str
    program: str
    tests: Tests
    stop_at_first_failure: bool
    index: int
    executed_lines: bool


@dataclass(frozen=True)
class _Put:
    problem: Problem
    digest: str = ""
    reference: Any = None
    """None for a small problem, which goes along with each request."""
    size: int = 0


class ProblemSender:
    """The client's side, used by one thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, _Put] = OrderedDict()  # by identity, kept alive so that it stays one
        self._bytes = 0

    def prepare(self, request: JudgeRequest) -> tuple[JudgeRequest | DistantRequest, dict[str, Any]]:
        """What to send, and the references that go with it."""
        put = self._known.get(id(request.problem)) or self._put(request.problem)
        self._known.move_to_end(id(request.problem))
        if put.reference is None:
            return request, {}
        rest = {field.name: getattr(request, field.name) for field in fields(request) if field.name != "problem"}
        distant = DistantRequest(put.digest, **rest)
        return distant, {put.digest: put.reference}

    def _put(self, problem: Problem) -> _Put:
        data = pickle.dumps(problem, protocol=pickle.HIGHEST_PROTOCOL)
        put = _Put(problem)
        if len(data) >= LARGE_BYTES:
            import ray

            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            put = _Put(problem, digest, ray.put(data), len(data))
        self._known[id(problem)] = put
        self._bytes += put.size
        while len(self._known) > 1 and (self._bytes > CLIENT_BYTES or len(self._known) > _KNOWN):
            _, oldest = self._known.popitem(last=False)
            self._bytes -= oldest.size
        return put


class ProblemReceiver:
    """A worker's side, used by many threads."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, tuple[Problem, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def resolve(self, request: JudgeRequest | DistantRequest, references: dict[str, Any]) -> JudgeRequest:
        """The request with its problem. Raises RayError where that cannot be fetched."""
        if isinstance(request, JudgeRequest):
            return request
        problem = self._problem(request.digest, references[request.digest])
        rest = {field.name: getattr(request, field.name) for field in fields(request) if field.name != "digest"}
        return JudgeRequest(problem, **rest)

    def _problem(self, digest: str, reference: Any) -> Problem:
        with self._lock:
            if digest in self._held:
                self._held.move_to_end(digest)
                return self._held[digest][0]
        import ray

        data: bytes = ray.get(reference, timeout=_FETCH_S)
        problem: Problem = pickle.loads(data)
        with self._lock:
            if digest not in self._held:
                self._held[digest] = (problem, len(data))
                self._bytes += len(data)
            while len(self._held) > 1 and self._bytes > WORKER_BYTES:
                _, (_, size) = self._held.popitem(last=False)
                self._bytes -= size
        return problem
