"""A judge at one level, in a process of its own that may belong to another user: programs in, outcomes out, as JSON lines.

Run as a script by test_executor_levels.py; not a test. Arguments: level, user id to become (-1: none), folder of packages. First line out: what
became of the judge.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.append(sys.argv[3])


def main() -> None:
    from executor.errors import UserError
    from executor.judging import Judge, JudgeRequest
    from executor.problem import Problem, StdioTest
    from executor.settings import ExecutorSettings

    level, user = sys.argv[1], int(sys.argv[2])
    # What may only be imported while the files can still be read.
    import executor.sandbox.choosing  # noqa: F401

    if user >= 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    problem = Problem(
        id="p", prompt="?", kind="stdio", time_limit_s=2, public_tests=[StdioTest(input="", output="reached\n")]
    )
    try:
        settings = ExecutorSettings.model_validate({"min_level": level, "max_level": level, "wall_factor": 1})
        judge = Judge(settings)
    except UserError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        return
    with judge:
        print(json.dumps({"level": judge.level, "pid": os.getpid()}), flush=True)
        for line in sys.stdin:
            verdict = judge.judge(JudgeRequest(problem, json.loads(line)))
            print(json.dumps({"outcome": verdict.outcome.value, "got": verdict.tests[0].got}), flush=True)


if __name__ == "__main__":
    main()
