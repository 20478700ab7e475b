"""What is known of each problem from earlier visits: visits, share passing, the best and the newest greedy program's rewards."""

from __future__ import annotations

from typing import Any

from buffer.trajectory import Group


class ProblemHistory:
    """Pure record by problem; RLTF's baselines come from here."""

    def __init__(self) -> None:
        self._visits: dict[str, int] = {}
        self.share_passing: dict[str, float] = {}
        self._best: dict[str, dict[str, float]] = {}
        self._greedy: dict[str, dict[str, float]] = {}

    def visits(self, problem_id: str) -> int:
        """Groups recorded for the problem."""
        return self._visits.get(problem_id, 0)

    def baselines(self, problem_id: str) -> dict[str, dict[str, float]]:
        """Reward components of earlier programs, by the name of the baseline; empty on a first visit."""
        found = {"best_so_far": self._best.get(problem_id), "latest_greedy": self._greedy.get(problem_id)}
        return {name: dict(parts) for name, parts in found.items() if parts is not None}

    def record(self, group: Group) -> None:
        """Take a finished group in."""
        name = group.problem_id
        self._visits[name] = self._visits.get(name, 0) + 1
        if group.sampled:
            self.share_passing[name] = sum(t.passed for t in group.sampled) / len(group.sampled)
        for trajectory in group.trajectories:
            if trajectory.role == "reference" or not trajectory.turns:
                continue
            parts = trajectory.turns[-1].components
            if trajectory.role == "greedy":
                self._greedy[name] = dict(parts)
            elif name not in self._best or sum(parts.values()) > sum(self._best[name].values()):
                self._best[name] = dict(parts)

    def state_dict(self) -> dict[str, Any]:
        """The record as JSON."""
        return {"visits": self._visits, "share_passing": self.share_passing, "best": self._best, "greedy": self._greedy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a saved record back."""
        self._visits, self.share_passing = dict(state["visits"]), dict(state["share_passing"])
        self._best, self._greedy = dict(state["best"]), dict(state["greedy"])
