"""One episode as a pure state machine: prompt, response, verdict, and feedback that opens the next turn.

Turns go respond -> score -> (observe -> respond -> score)*. Invariants: token ids are appended and never changed; only response tokens are trained on; the
trajectory can be taken whenever the last response has been scored.
"""

from __future__ import annotations

from buffer.trajectory import NOT_SAMPLED, CreditSpan, Trajectory, Turn
from executor.verdict import Verdict


class Episode:
    """The tokens and turns of one attempt at one problem."""

    def __init__(self, problem_id: str, prompt_ids: list[int]) -> None:
        self._problem_id = problem_id
        self._token_ids = list(prompt_ids)
        self._log_probs = [0.0] * len(prompt_ids)
        self._versions = [NOT_SAMPLED] * len(prompt_ids)
        self._mask = [0] * len(prompt_ids)
        self._turns: list[Turn] = []
        self._open = False

    @property
    def token_ids(self) -> list[int]:
        """What the engine continues from."""
        return list(self._token_ids)

    @property
    def turns(self) -> int:
        """Responses so far."""
        return len(self._turns)

    def respond(
        self, token_ids: list[int], log_probs: list[float], versions: list[int], response: str, finish_reason: str
    ) -> int:
        """Append a response and return the position of its first token. Raises ValueError if one is still unscored."""
        if self._open:
            raise ValueError("the last response has no verdict yet")
        start = len(self._token_ids)
        self._token_ids += token_ids
        self._log_probs += log_probs
        self._versions += versions
        self._mask += [1] * len(token_ids)
        self._turns.append(
            Turn(start=start, end=len(self._token_ids), response=response, finish_reason=finish_reason)  # type: ignore[arg-type]
        )
        self._open = True
        return start

    def score(self, verdict: Verdict, reward: float, components: dict[str, float], spans: list[CreditSpan]) -> None:
        """Record what became of the last response. Raises ValueError if there is none waiting."""
        if not self._open:
            raise ValueError("no response waits for a verdict")
        self._turns[-1] = self._turns[-1].model_copy(
            update={"verdict": verdict, "reward": reward, "components": components, "spans": spans}
        )
        self._open = False

    def observe(self, token_ids: list[int]) -> None:
        """Append feedback that the next response answers. Raises ValueError before the last response is scored."""
        if self._open or not self._turns:
            raise ValueError("feedback follows a scored response")
        self._token_ids += token_ids
        self._log_probs += [0.0] * len(token_ids)
        self._versions += [NOT_SAMPLED] * len(token_ids)
        self._mask += [0] * len(token_ids)

    def trajectory(self, role: str = "sampled") -> Trajectory:
        """The episode as it travels. Raises ValueError while a response is unscored; only `sampled` ones are trained on."""
        if self._open or not self._turns:
            raise ValueError("the episode is not finished")
        return Trajectory(
            problem_id=self._problem_id,
            role=role,  # type: ignore[arg-type]
            token_ids=self._token_ids,
            log_probs=self._log_probs,
            policy_versions=self._versions,
            loss_mask=self._mask if role == "sampled" else [0] * len(self._mask),
            turns=self._turns,
        )


def reference_trajectory(problem_id: str, prompt_ids: list[int], response_ids: list[int]) -> Trajectory:
    """A solution to learn from under supervision; no policy sampled it."""
    length = len(prompt_ids) + len(response_ids)
    return Trajectory(
        problem_id=problem_id,
        role="reference",
        token_ids=[*prompt_ids, *response_ids],
        log_probs=[0.0] * length,
        policy_versions=[NOT_SAMPLED] * length,
        loss_mask=[0] * len(prompt_ids) + [1] * len(response_ids),
    )
