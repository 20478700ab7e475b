"""A process that judges, one program at a time: started by process_pool.py, never imported by it.

Invariants: one answer a request, in order; the first answer says which level of isolation there is, or why there is
none; where the requests end this process ends, and soon, even in the middle of a test: then whoever asked is gone.

argv: the settings as JSON. Standard input is a socket; a request is (problem, None for the one before; the rest of a
JudgeRequest), an answer a tuple whose first part says what it is.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from executor.errors import UserError
from executor.judging import Judge, JudgeRequest
from executor.problem import Problem
from executor.settings import ExecutorSettings
from executor.verdict import as_line

_GRACE_S = 1.0  # for a test that runs when the requests end, so that it leaves no scratch folder


def main() -> None:
    """Answer requests until there are no more."""
    asker = Connection(os.dup(0))
    requests: queue.SimpleQueue[tuple[Problem | None, dict[str, Any]] | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(asker, requests), daemon=True).start()
    try:
        with Judge(ExecutorSettings.model_validate_json(sys.argv[1])) as judge:
            asker.send(("ready", judge.level))
            problem: Problem | None = None
            while (request := requests.get()) is not None:
                problem = request[0] or problem
                assert problem is not None
                verdict = judge.judge(JudgeRequest(problem, **request[1]))
                asker.send(("judged", verdict.outcome.value, as_line(verdict)))
    except UserError as error:
        asker.send(("refused", str(error)))
    except BrokenPipeError:
        pass  # whoever asked is gone


def _receive(asker: Connection, requests: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            requests.put(asker.recv())
    except (EOFError, ConnectionResetError):
        requests.put(None)
    end = threading.Timer(_GRACE_S, os._exit, [1])  # the sandbox's processes are killed with this one
    end.daemon = True
    end.start()


if __name__ == "__main__":
    main()
