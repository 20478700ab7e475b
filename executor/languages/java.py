"""Java: not judged in this version."""

from __future__ import annotations

from executor.errors import UserError
from executor.problem import Problem


def refuse(problem: Problem) -> None:
    """Raises UserError for a problem in Java."""
    if problem.language == "java":
        raise UserError(f"problem {problem.id!r}: language java: not in this version")
