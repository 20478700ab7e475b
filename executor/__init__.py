"""The judge: runs programs against the tests of problems. It needs neither Ray nor torch, and imports nothing of ours."""

from executor.judging import Judge, JudgeRequest
from executor.problem import Problem, Sample
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict

__all__ = ["ExecutorSettings", "Judge", "JudgeRequest", "Outcome", "Problem", "Sample", "Verdict"]
