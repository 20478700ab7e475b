"""The choice of a level: the highest that works here, shown by running a program that tries what the level claims to stop.

Invariants: a level is chosen only after its trial has succeeded in this process; each is tried once; one below the level asked for is refused with
what is missing and how to get it.
"""

from __future__ import annotations

import marshal
import os
from functools import lru_cache

from executor.errors import UserError
from executor.languages.interpreter import Interpreter
from executor.sandbox.level import HOW_TO_GET, LEVELS, Isolation, LevelName, at_least
from executor.sandbox.process import SandboxLost
from executor.sandbox.running import Limits, Part
from executor.sandbox.scratch import Base
from executor.sandbox.slot import Slot

_LIMITS = Limits(cpu_s=10.0, wall_s=20.0, memory_bytes=512 << 20, output_bytes=1 << 16)

# What a level adds, as conditions that a program inside finds true.
_CLAIMS: dict[LevelName, str] = {
    "L0": "",
    "L1": f"claim(os.getuid() != {os.geteuid()})",
    "L2": """
claim(refused(lambda: os.open('/etc/passwd', os.O_RDONLY)))
claim(refused(lambda: os.close(os.open('../cupel-trial', os.O_CREAT | os.O_WRONLY))))
claim(refused(lambda: os.fork() or os._exit(0)))
claim(refused(lambda: os.kill(os.getppid(), 0)))
claim(refused(lambda: os.execv('/bin/true', ['true'])))
claim(refused(_socket.socket))
open('written', 'w').close()
""",
    "L3": "claim(os.getppid() == 1 and os.getcwd() == '/scratch' and os.uname().nodename == 'cupel')",
}
_TRIAL = """
import os, _socket
def claim(held):
    if not held: raise SystemExit(3)
def refused(act):
    try: act()
    except OSError: return True
"""


def choose(
    min_level: LevelName, max_level: LevelName, interpreter: Interpreter, scratch_dir: str | None = None
) -> LevelName:
    """The highest level from `min_level` to `max_level` that works here. Raises UserError if there is none."""
    reasons: list[str] = []
    for level in reversed(LEVELS):
        if at_least(level, min_level) and at_least(max_level, level):
            reason = missing(level, interpreter, scratch_dir)
            if reason is None:
                return level
            reasons.append(f"{level} ({reason}; it needs: {HOW_TO_GET[level]})")
    raise UserError(f"executor.min_level: {min_level} cannot be had here: {reasons[-1]}")


@lru_cache(maxsize=64)
def missing(level: LevelName, interpreter: Interpreter, scratch_dir: str | None = None) -> str | None:
    """Why a level cannot be had here, None if it can. Raises UserError where `scratch_dir` cannot be used."""
    try:
        isolation = Isolation(level, interpreter, "trial")
    except OSError as error:
        return str(error)
    try:
        base = Base(scratch_dir, isolation.users is not None)
    except UserError:
        isolation.close()
        raise
    slot = Slot(interpreter, isolation, base.path, 0)
    try:
        run = slot.run(Part(marshal.dumps({"role": "stdio", "source": _program(level)})), None, _LIMITS)
    except SandboxLost as error:
        return str(error)
    finally:
        slot.close()
        base.close()
    if run.program.end.status != 0:
        return f"a trial program was not held (status {run.program.end.status})"
    return None


def _program(level: LevelName) -> str:
    claims = [_CLAIMS[name] for name in LEVELS if at_least(level, name)]
    if os.geteuid() != 0:
        claims.remove(_CLAIMS["L1"]) if level != "L0" else None
    return _TRIAL + "\n".join(claims)
