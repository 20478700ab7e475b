"""What is known of each problem from earlier visits; RLTF's baselines come from here.

Pure. Invariant: `baselines` speaks of groups recorded before; the caller asks before it records a group, so that a
group is never compared with itself. A trajectory's components are those of its last turn, whose program counts.
"""

from __future__ import annotations

from typing import Any

from buffer.trajectory import Group


class ProblemHistory:
    """By problem: visits, share of samples passing at the last one, best and newest greedy reward components."""

    def __init__(self) -> None:
        self._visits: dict[str, int] = {}
        self.share_passing: dict[str, float] = {}
        self._best: dict[str, dict[str, float]] = {}
        self._best_reward: dict[str, float] = {}
        self._greedy: dict[str, dict[str, float]] = {}

    def begin_visit(self, problem_id: str) -> int:
        """Count a visit; returns how many there were before it."""
        before = self._visits.get(problem_id, 0)
        self._visits[problem_id] = before + 1
        return before

    def baselines(self, problem_id: str) -> dict[str, dict[str, float]]:
        """Reward components of earlier programs, by the name of the baseline; one that there is none of is absent."""
        found = {"best_so_far": self._best.get(problem_id), "latest_greedy": self._greedy.get(problem_id)}
        return {name: dict(parts) for name, parts in found.items() if parts is not None}

    def record(self, group: Group) -> None:
        """Take a finished group in."""
        name = group.problem_id
        if group.sampled:
            self.share_passing[name] = sum(t.passed for t in group.sampled) / len(group.sampled)
        for trajectory in group.trajectories:
            if trajectory.role == "reference" or not trajectory.turns:
                continue
            components = dict(trajectory.turns[-1].components)
            if trajectory.role == "greedy":
                self._greedy[name] = components
            elif name not in self._best or trajectory.reward > self._best_reward[name]:
                self._best[name], self._best_reward[name] = components, trajectory.reward

    def state_dict(self) -> dict[str, Any]:
        """The record as JSON."""
        return {
            "visits": dict(self._visits),
            "share_passing": dict(self.share_passing),
            "best": {name: dict(parts) for name, parts in self._best.items()},
            "best_reward": dict(self._best_reward),
            "greedy": {name: dict(parts) for name, parts in self._greedy.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a saved record back."""
        self._visits, self.share_passing = dict(state["visits"]), dict(state["share_passing"])
        self._best, self._best_reward = dict(state["best"]), dict(state["best_reward"])
        self._greedy = dict(state["greedy"])
