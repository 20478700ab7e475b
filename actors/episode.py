"""One episode as a pure state machine: response, public tests, feedback, and so on until the last program meets all tests (RLEF section 2).

GENERATE -> JUDGE_PUBLIC -> OBSERVE -> GENERATE ... -> JUDGE_ALL -> DONE. A response that is the last by the number of turns goes to JUDGE_ALL at
once, one that passes the public tests as soon as it does. Invariants: token ids are appended and never changed; only response tokens are trained
on; private tests run once, on the last program, when nothing can be said any more; an episode ends after `max_turns` responses at
most, and no response is begun that the context has no room for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from buffer.trajectory import NOT_SAMPLED, CreditSpan, Ending, Trajectory, Turn
from executor.verdict import Outcome, Verdict


class Phase(Enum):
    """What an episode waits for."""

    GENERATE = "a response"
    JUDGE_PUBLIC = "the verdict of the public tests"
    OBSERVE = "the tokens of the feedback"
    JUDGE_ALL = "the verdict of all tests"
    DONE = "nothing"


@dataclass(frozen=True)
class Rules:
    """When an episode ends."""

    max_turns: int
    max_tokens: int
    """Of the whole episode, prompt and feedback included."""
    max_response_tokens: int
    """Of one response."""
    stop_on_public: bool = True
    """An answer that passes the public tests is the last; without feedback there is nobody to say so."""


class Episode:
    """The tokens and turns of one attempt at one problem."""

    def __init__(self, problem_id: str, prompt_ids: list[int], rules: Rules, has_public_tests: bool = True) -> None:
        """Without public tests there is no feedback, and the first response is the last."""
        self._problem_id = problem_id
        self._rules = rules
        self._most_turns = rules.max_turns if has_public_tests else 1
        self._token_ids = list(prompt_ids)
        self._log_probs = [0.0] * len(prompt_ids)
        self._versions = [NOT_SAMPLED] * len(prompt_ids)
        self._mask = [0] * len(prompt_ids)
        self._turns: list[Turn] = []
        self.ending: Ending = "turns"
        self.phase = Phase.GENERATE

    @property
    def token_ids(self) -> list[int]:
        """What the engine continues from."""
        return list(self._token_ids)

    @property
    def turns(self) -> list[Turn]:
        """The responses so far; all but the last are judged on public tests alone."""
        return list(self._turns)

    def _expect(self, phase: Phase) -> None:
        if self.phase is not phase:
            raise ValueError(f"the episode waits for {self.phase.value}, not for {phase.value}")

    def respond(
        self, token_ids: list[int], log_probs: list[float], versions: list[int], response: str, finish_reason: str
    ) -> None:
        """Append a response. Raises ValueError if none is waited for."""
        self._expect(Phase.GENERATE)
        start = len(self._token_ids)
        self._token_ids += token_ids
        self._log_probs += log_probs
        self._versions += versions
        self._mask += [1] * len(token_ids)
        self._turns.append(
            Turn(start=start, end=len(self._token_ids), response=response, finish_reason=finish_reason)  # type: ignore[arg-type]
        )
        self.phase = Phase.JUDGE_PUBLIC if len(self._turns) < self._most_turns else Phase.JUDGE_ALL

    def judge(self, verdict: Verdict) -> None:
        """Take the verdict on the last response, of public or of all tests as the phase says. Raises ValueError out of order."""
        public = self.phase is Phase.JUDGE_PUBLIC
        if not public:
            self._expect(Phase.JUDGE_ALL)
        self._turns[-1] = self._turns[-1].model_copy(update={"verdict": verdict})
        if not public:
            self.phase = Phase.DONE
        elif verdict.outcome is Outcome.PASS and self._rules.stop_on_public:
            self.ending = "public_tests"
            self.phase = Phase.JUDGE_ALL
        else:
            self.phase = Phase.OBSERVE

    def observe(self, token_ids: list[int]) -> None:
        """Append feedback that the next response answers; if that has no room, the episode ends without. Raises ValueError out of order."""
        self._expect(Phase.OBSERVE)
        if len(self._token_ids) + len(token_ids) + self._rules.max_response_tokens > self._rules.max_tokens:
            self.ending = "context"
            self.phase = Phase.JUDGE_ALL
            return
        self._token_ids += token_ids
        self._log_probs += [0.0] * len(token_ids)
        self._versions += [NOT_SAMPLED] * len(token_ids)
        self._mask += [0] * len(token_ids)
        self.phase = Phase.GENERATE

    def score(self, turn: int, reward: float, components: dict[str, float], spans: list[CreditSpan]) -> None:
        """Record what a turn is worth. Raises ValueError before the episode's end: only then is known which turn is the last."""
        self._expect(Phase.DONE)
        worth = {"reward": reward, "components": components, "spans": spans}
        self._turns[turn] = self._turns[turn].model_copy(update=worth)

    def trajectory(self, role: str = "sampled") -> Trajectory:
        """The episode as it travels. Raises ValueError before its end; only `sampled` ones are trained on."""
        self._expect(Phase.DONE)
        return Trajectory(
            problem_id=self._problem_id,
            role=role,  # type: ignore[arg-type]
            token_ids=self._token_ids,
            log_probs=self._log_probs,
            policy_versions=self._versions,
            loss_mask=self._mask if role == "sampled" else [0] * len(self._mask),
            turns=self._turns,
            ending=self.ending,
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
