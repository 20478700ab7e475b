"""A transformers model behind the engine protocol: encoder-decoders, and what else vLLM does not run.

One thread of this process holds the model. It takes requests from a bounded queue, admits them in cohorts (so a request waits for a part of the engine to
become free, not for all of it), and goes round the cohorts token by token. Invariants: whatever is not a forward pass (an update, a score, a new
request) happens between two tokens and in that thread alone, so a token's version is the version of the weights that drew it; after an
update or a sleep all keys and values are computed again; whatever goes wrong in the thread ends the engine, and then every request fails with EngineError.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel

from actors.engine import decoding
from actors.engine.protocol import Completion, EngineError, EngineSettings, SamplingSettings

log = logging.getLogger("cupel")
T = TypeVar("T")

GIB = 1 << 30
COHORTS = 4  # that run at a time: fewer make a request wait longer, more make batches smaller
COHORT_TOKENS = 16384  # that a cohort may come to: after an update all of them are read in one pass, whose memory nothing else bounds
QUEUED = 4  # requests taken for each sequence that can run; further ones wait in the event loop
IDLE_S = 1.0
STOP_S = 30.0
THREAD_NAME = "cupel-transformers-engine"


@dataclass(eq=False)
class _Request:
    """A response under way, or waiting for its turn."""

    prompt_ids: list[int]
    sampling: SamplingSettings
    limit: int  # tokens after which it is cut off
    future: Future[Completion] = field(default_factory=Future)
    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    policy_versions: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """The most tokens it can come to."""
        return len(self.prompt_ids) + self.limit


@dataclass(eq=False)
class _Call:
    """Something else to do between two tokens."""

    what: str
    function: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)


@dataclass(eq=False)
class _Running:
    """A cohort with the requests that its rows answer, in the same order."""

    cohort: decoding.Cohort
    requests: list[_Request]
    columns: int  # tokens that a row may come to, padding included

    def keep(self, rows: list[int]) -> None:
        if len(rows) < len(self.requests):
            self.cohort.keep(rows)
            self.requests = [self.requests[row] for row in rows]


class TransformersEngine:
    """See actors/engine/protocol.py for what each method promises."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        if self._device == "cpu":
            torch.set_num_threads(settings.threads)
        self._model = _load(settings, self._device)
        self._end_tokens = _end_tokens(settings, self._model)
        self._room = self._tokens_that_fit()
        self._generator = torch.Generator(self._device).manual_seed(settings.seed)
        self._version = settings.policy_version
        # Of the thread alone.
        self._waiting: deque[_Request] = deque()
        self._running: list[_Running] = []
        self._asleep = False
        # Between the thread and the event loop.
        places = QUEUED * settings.max_sequences
        self._places = asyncio.Semaphore(places)
        self._calls = asyncio.Lock()
        self._inbox: queue.Queue[_Request | _Call | None] = queue.Queue(2 * places + 2)
        self._ended: Future[None] = Future()
        self._reason: str | None = None  # why the engine is of no use any more
        self._unanswered = 0
        self._generated_tokens = self._prompt_tokens = 0
        self._paused_seconds = 0.0
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def _tokens_that_fit(self) -> int:
        """Tokens whose keys and values fit into the memory set aside. Raises EngineError if not even one sequence does."""
        with torch.inference_mode():
            each = decoding.bytes_per_token(self._model)
        if self._device == "cpu":
            share, setting = self._settings.kv_cache_gib * GIB, f"engine.kv_cache_gib={self._settings.kv_cache_gib:g}"
        else:
            memory = torch.cuda.get_device_properties(self._device).total_memory * self._settings.gpu_memory_share
            share = memory - torch.cuda.memory_allocated(self._device)
            setting = f"engine.gpu_memory_share={self._settings.gpu_memory_share:g}"
        fit = int(share / each)
        if fit < self._settings.max_model_tokens:
            raise EngineError(
                f"{setting} holds the keys and values of {max(0, fit)} tokens, one sequence may take {self._settings.max_model_tokens}"
            )
        return fit

    # In the event loop ----------------------------------------------------------------------------------------------

    @property
    def policy_version(self) -> int:
        return self._version

    async def generate(self, prompt_ids: list[int], sampling: SamplingSettings) -> Completion:
        room = self._settings.max_model_tokens - len(prompt_ids)
        if not prompt_ids or room < 1:
            raise EngineError(
                f"a prompt of {len(prompt_ids)} tokens cannot be answered within {self._settings.max_model_tokens}"
            )
        async with self._places:
            request = _Request(list(prompt_ids), sampling, min(sampling.max_tokens, room))
            self._unanswered += 1
            try:
                completion = await self._submit(request, request.future)
            finally:
                self._unanswered -= 1
        self._generated_tokens += len(completion.token_ids)
        self._prompt_tokens += len(prompt_ids)
        return completion

    async def score(self, token_ids: list[int]) -> list[float]:
        if len(token_ids) < 2:
            raise EngineError(f"{len(token_ids)} tokens cannot be scored: the first one is never")
        return await self._call("a score", lambda: decoding.score(self._model, token_ids))

    async def update_weights(self, source: dict[str, str], policy_version: int) -> float:
        what = f"the weights of policy version {policy_version}"
        seconds = await self._call(what, lambda: self._take_weights(source["path"], policy_version))
        self._paused_seconds += seconds
        return seconds

    async def sleep(self) -> None:
        await self._call("sleep", self._lie_down)

    async def wake(self) -> None:
        await self._call("waking", self._get_up)

    async def _call(self, what: str, function: Callable[[], T]) -> T:
        """Have the thread do something between two tokens, one thing at a time."""
        async with self._calls:
            call = _Call(what, function)
            return await self._submit(call, call.future)

    async def _submit(self, job: _Request | _Call, future: Future[T]) -> T:
        if self._reason is None:
            try:
                self._inbox.put_nowait(job)
            except queue.Full:
                raise EngineError(f"{self._inbox.maxsize} requests wait and none is taken up") from None
        # Asked again: a thread that ended meanwhile has emptied the queue, maybe before this came into it.
        if self._reason is not None and not future.done():
            raise EngineError(self._reason)
        return await asyncio.wrap_future(future)

    def gauges(self) -> dict[str, float]:
        return {
            "generated_tokens": float(self._generated_tokens),
            "prompt_tokens": float(self._prompt_tokens),
            "running_requests": float(self._unanswered),
            "paused_seconds": self._paused_seconds,
            "asleep": float(self._asleep),
        }

    async def shutdown(self) -> None:
        try:
            self._inbox.put_nowait(None)
        except queue.Full:
            self._reason = self._reason or "the engine is shutting down"  # which the thread sees as well
        done, _ = await asyncio.wait([asyncio.wrap_future(self._ended)], timeout=STOP_S)
        if done:
            self._thread.join(timeout=STOP_S)  # its last act is behind it
        else:
            log.warning("the engine's thread is still in a forward pass after %.0f s", STOP_S)

    # In the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        reason = "the engine has been shut down"
        try:
            with torch.inference_mode():
                while self._take_in():
                    if self._asleep:
                        continue
                    self._admit()
                    for running in self._running:
                        self._step(running)
                    self._running = [running for running in self._running if running.requests]
        except BaseException as error:  # told to everyone who waits for it
            reason = f"the engine failed: {type(error).__name__}: {error}"
        self._end(reason)

    def _take_in(self) -> bool:
        """Take what has arrived, and do at once what is not a request. False when the engine is to end."""
        idle = self._asleep or not (self._running or self._waiting)
        while self._reason is None:
            try:
                job = self._inbox.get(block=idle, timeout=IDLE_S)
            except queue.Empty:
                return True
            idle = False
            if job is None:
                return False
            if isinstance(job, _Request):
                self._waiting.append(job)
            elif job.future.set_running_or_notify_cancel():
                try:
                    job.future.set_result(job.function())
                except BaseException as error:
                    job.future.set_exception(EngineError(f"{job.what} failed: {type(error).__name__}: {error}"))
                    raise
        return False

    def _admit(self) -> None:
        """Begin a cohort if it would be worth while: all that wait, or as many as a cohort's part of the engine."""
        self._waiting = deque(request for request in self._waiting if not request.future.cancelled())
        sequences = self._settings.max_sequences
        free = sequences - sum(len(running.requests) for running in self._running)
        part = max(1, sequences // COHORTS)
        if not self._waiting or len(self._running) >= COHORTS or free < min(len(self._waiting), part):
            return
        room = self._room - sum(len(running.requests) * running.columns for running in self._running)
        chosen: list[_Request] = []
        columns = 0
        while self._waiting and len(chosen) < free:
            request = self._waiting[0]
            wider = max(len(r.prompt_ids) for r in (*chosen, request)) + max(r.limit for r in (*chosen, request))
            tokens = wider * (len(chosen) + 1)
            if tokens > room or (chosen and tokens > COHORT_TOKENS):
                break
            columns = wider
            chosen.append(self._waiting.popleft())
        if chosen:
            cohort = decoding.Cohort(self._model, [r.prompt_ids for r in chosen], [r.sampling for r in chosen])
            self._running.append(_Running(cohort, chosen, columns))

    def _step(self, running: _Running) -> None:
        """One token for each request of a cohort."""
        running.keep([row for row, request in enumerate(running.requests) if not request.future.cancelled()])
        if not running.requests:
            return
        tokens, log_probs = running.cohort.step(self._generator)
        unfinished = []
        for row, (request, token, log_prob) in enumerate(zip(running.requests, tokens, log_probs, strict=True)):
            request.token_ids.append(token)
            request.log_probs.append(log_prob)
            request.policy_versions.append(self._version)
            stopped = token in self._end_tokens
            if not stopped and len(request.token_ids) < request.limit:
                unfinished.append(row)
            elif request.future.set_running_or_notify_cancel():
                request.future.set_result(
                    Completion(
                        token_ids=request.token_ids,
                        log_probs=request.log_probs,
                        policy_versions=request.policy_versions,
                        finish_reason="stop" if stopped else "length",
                    )
                )
        running.keep(unfinished)

    def _take_weights(self, path: str, policy_version: int) -> float:
        """Copy the weights of a safetensors file over the model's. Raises ValueError unless it holds them all and no others."""
        started = time.monotonic()
        tied = set(self._model.all_tied_weights_keys)
        held = {name: tensor for name, tensor in self._model.state_dict().items() if name not in tied}
        with safe_open(path, framework="pt", device=self._device) as tensors:
            if odd := set(tensors.keys()) ^ held.keys():
                raise ValueError(
                    f"{len(odd)} tensors are in the file or in the model but not in both, {min(odd)} is one"
                )
            for name, tensor in held.items():
                new = tensors.get_tensor(name)
                if new.shape != tensor.shape:
                    raise ValueError(f"{name} has the shape {list(new.shape)} and not {list(tensor.shape)}")
                tensor.copy_(new)
        for running in self._running:
            running.cohort.forget()
        self._version = policy_version
        self._get_up()
        return time.monotonic() - started

    def _lie_down(self) -> None:
        if self._asleep:
            return
        for running in self._running:
            running.cohort.forget()
        self._model.to("cpu")  # type: ignore[arg-type]
        if self._device == "cuda":
            torch.cuda.empty_cache()
        self._asleep = True

    def _get_up(self) -> None:
        self._model.to(self._device)  # type: ignore[arg-type]
        self._asleep = False

    def _end(self, reason: str) -> None:
        """Say so to everyone who waits, and to everyone who will ask."""
        self._reason = self._reason or reason
        jobs: list[_Request | _Call | None] = [
            *self._waiting,
            *(r for running in self._running for r in running.requests),
        ]
        self._waiting.clear()
        self._running.clear()
        while not self._inbox.empty():
            jobs.append(self._inbox.get_nowait())
        for job in jobs:
            if job is not None and not job.future.done() and job.future.set_running_or_notify_cancel():
                job.future.set_exception(EngineError(self._reason))
        self._ended.set_result(None)


def _load(settings: EngineSettings, device: str) -> PreTrainedModel:
    """The model, ready to run. Raises EngineError if it cannot hold sequences of the length that is asked for."""
    config = AutoConfig.from_pretrained(settings.model_path, local_files_only=True)
    positions = getattr(config, "max_position_embeddings", None)
    # T5 has relative positions and names a length that does not bind it.
    if positions is not None and not config.is_encoder_decoder and positions < settings.max_model_tokens:
        raise EngineError(
            f"the model has {positions} positions, a prompt and its response may take {settings.max_model_tokens}"
        )
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model: PreTrainedModel = kind.from_pretrained(
        settings.model_path, dtype=getattr(torch, settings.dtype), local_files_only=True
    )
    model.to(device)  # type: ignore[arg-type]
    return model.eval()


def _end_tokens(settings: EngineSettings, model: PreTrainedModel) -> set[int]:
    """The tokens that end a response: the tokenizer's, and the model's own."""
    tokenizer = AutoTokenizer.from_pretrained(settings.model_path, local_files_only=True)
    own = model.generation_config.eos_token_id if model.generation_config is not None else None
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    if not ends:
        raise EngineError(f"{settings.model_path} names no token that ends a response")
    return ends


async def start(settings: EngineSettings) -> TransformersEngine:
    """Start an engine. Raises EngineError with the reason."""
    try:
        return TransformersEngine(settings)
    except EngineError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise EngineError(f"transformers could not start {settings.model_path}: {reason}") from error
