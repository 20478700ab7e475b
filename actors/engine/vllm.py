"""vLLM behind the engine protocol; the only file that imports vllm.

Two parts live in two processes. `VllmEngine` is in the rollout actor: it holds an AsyncLLM, pauses it for the length of a weight update and
stamps tokens with policy versions. `SharedMemoryTransfer` and `WorkerExtension` are in vLLM's own worker process, which imports this
module by the name in `worker_extension_cls`: the transfer loads a safetensors file through vLLM's layerwise reload.

Invariants: the weights change only while the scheduler is paused and its caches are cleared; a token's version is decided by how many tokens its
request had when the pause took hold, counted in the worker, so no race with the output stream can mislabel one; a failed update ends
the engine (its layerwise buffers are poisoned), never leaves it paused.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import os
import signal
import tempfile
import time
from dataclasses import dataclass

# vLLM reads these when it is imported, here and in the processes it starts: one worker inside the engine's core process (a third process would
# only cost start-up and memory), threads left to the scheduler of the operating system, no telemetry, no hub. torch would compile its headers
# at every start, in the engine's own temporary folder, also where what they are for is compiled already.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS", "0")

from safetensors import safe_open
from vllm import SamplingParams
from vllm.config import WeightTransferConfig
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferInitRequest,
    WeightTransferUpdateInfo,
    WeightTransferUpdateRequest,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.loggers import StatLoggerFactory

from actors.engine.protocol import Completion, EngineError, EngineSettings, SamplingSettings
from actors.engine.versions import policy_versions
from executor.sandbox.scratch import Base
from executor.stacks import be_askable

BACKEND = "cupel_shared_memory"
GIB = 1 << 30
_BATCHED_TOKENS = 2048  # of a pass on a CPU


@dataclass
class SharedMemoryInitInfo(WeightTransferInitInfo):
    """Nothing to agree on before the first update."""


@dataclass
class SharedMemoryUpdateInfo(WeightTransferUpdateInfo):
    """A safetensors file of the whole model, in the names of its Hugging Face checkpoint."""

    path: str


class SharedMemoryTransfer(WeightTransferEngine[SharedMemoryInitInfo, SharedMemoryUpdateInfo]):
    """Loads weights from a file in shared memory, on a CPU or a GPU of the learner's machine."""

    init_info_cls = SharedMemoryInitInfo
    update_info_cls = SharedMemoryUpdateInfo

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        _live_as_long_as_the_actor()
        be_askable()

    def init_transfer_engine(self, init_info: SharedMemoryInitInfo) -> None:
        """No rendezvous is needed."""

    def start_weight_update(self) -> None:
        """Put the model's parameters aside and wait for new ones."""
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: SharedMemoryUpdateInfo) -> None:
        """Load every tensor of the file."""
        with safe_open(update_info.path, framework="pt") as tensors:
            weights = ((name, tensors.get_tensor(name)) for name in tensors.keys())  # noqa: SIM118
            self.model.load_weights(weights)  # type: ignore[operator]

    def finish_weight_update(self) -> None:
        """Put the new parameters in place, packed copies included."""
        finalize_layerwise_reload(self.model, self.model_config)
        if self.device.type != "cpu":
            return
        for module in self.model.modules():
            # The reload renews a layer's own packed weight, not the packed copy of an embedding that serves as a tied output
            # head: without this the logits come from the old head.
            if isinstance(module, VocabParallelEmbedding) and hasattr(module, "cpu_linear"):
                dispatch_cpu_unquantized_gemm(module, remove_weight=False)

    def shutdown(self) -> None:
        """Nothing is held between updates."""


WeightTransferEngineFactory.register_engine(BACKEND, SharedMemoryTransfer)


class WorkerExtension:
    """Methods that vLLM mixes into its worker."""

    def cupel_token_counts(self) -> dict[str, int]:
        """How many tokens each request has sampled so far."""
        requests = self.model_runner.requests  # type: ignore[attr-defined]
        return {request_id: len(state.output_token_ids) for request_id, state in requests.items()}


def _live_as_long_as_the_actor() -> None:
    """Have the kernel end this process when the one that started it is gone, and not before.

    In a process group of its own it is not reached by a terminal's Ctrl-C, which vLLM would take for the end.
    """
    os.setpgid(0, 0)
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _stat_loggers(settings: EngineSettings) -> list[StatLoggerFactory]:
    if settings.metrics_name is None:
        return []
    from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger  # imports Ray Serve, which takes a second

    return [RayPrometheusStatLogger]


class VllmEngine:
    """An AsyncLLM with policy versions; see actors/engine/protocol.py for what each method promises."""

    def __init__(self, settings: EngineSettings) -> None:
        if current_platform.is_cpu():
            os.environ["OMP_NUM_THREADS"] = str(settings.threads)
        # vLLM leaves its sockets and a rendezvous file in the temporary folder; what torch has compiled is worth keeping there.
        self._temporary = Base(None, for_other_user=False, prefix="cupel-engine-")
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_{os.getuid()}")
        os.environ["TMPDIR"] = os.environ["VLLM_RPC_BASE_PATH"] = self._temporary.path
        self._llm = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=settings.model_path,
                served_model_name=settings.metrics_name,  # the tag `model_name` of its metrics
                dtype=settings.dtype,  # type: ignore[arg-type]
                max_model_len=settings.max_model_tokens,
                max_num_seqs=settings.max_sequences,
                seed=settings.seed,
                enforce_eager=True,
                enable_prefix_caching=True,
                logprobs_mode="processed_logprobs",
                generation_config="vllm",
                disable_log_stats=True,
                enable_log_requests=False,
                worker_extension_cls="actors.engine.vllm.WorkerExtension",
                weight_transfer_config=WeightTransferConfig(backend=BACKEND),  # type: ignore[arg-type]
                tensor_parallel_size=settings.tensor_parallel,
                # Told, because inside a placement group vLLM would choose Ray.
                distributed_executor_backend="uni" if settings.tensor_parallel == 1 else "mp",
                **self._memory(settings),
            ),
            stat_loggers=_stat_loggers(settings),
        )
        self._version = settings.policy_version
        self._numbers = itertools.count()
        # For each request under way: how many of its tokens belong to versions before the given one.
        self._boundaries: dict[str, list[tuple[int, int]]] = {}
        self._update_lock = asyncio.Lock()
        self._asleep_since: float | None = None
        # 1: the weights go to the machine's memory, keys and values go. A CPU's engine has nowhere else to put them: it only stands still.
        self._sleep_level = 0 if current_platform.is_cpu() else 1
        self._generated_tokens = self._prompt_tokens = self._cached_tokens = 0
        self._paused_seconds = 0.0

    @staticmethod
    def _memory(settings: EngineSettings) -> dict:
        if current_platform.is_cpu():
            # Blocks of 128 tokens, the default, are longer than most prompts, which then share nothing.
            return {
                "kv_cache_memory_bytes": int(settings.kv_cache_gib * GIB),
                "block_size": 32,
                # A prompt computed in parts takes back a draw of its request's generator, which a CPU's cannot do.
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(_BATCHED_TOKENS, settings.max_model_tokens),
            }
        return {"gpu_memory_utilization": settings.gpu_memory_share, "enable_sleep_mode": settings.sleep_mode}

    @property
    def policy_version(self) -> int:
        return self._version

    async def generate(self, prompt_ids: list[int], sampling: SamplingSettings) -> Completion:
        request_id = f"r{next(self._numbers)}"
        boundaries = self._boundaries[request_id] = [(0, self._version)]
        parameters = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            logprobs=0,
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=False,
        )
        try:
            output = await self._final(prompt_ids, parameters, request_id)
        finally:
            del self._boundaries[request_id]
        (sample,) = output.outputs
        token_ids = list(sample.token_ids)
        if sample.logprobs is None or len(sample.logprobs) != len(token_ids):
            raise EngineError(f"the engine returned {len(token_ids)} tokens without their log-probabilities")
        log_probs = [
            entry[token].logprob for entry, token in zip(sample.logprobs, token_ids, strict=True) if entry is not None
        ]
        self._generated_tokens += len(token_ids)
        self._prompt_tokens += len(prompt_ids)
        self._cached_tokens += output.num_cached_tokens or 0
        return Completion(
            token_ids=token_ids,
            log_probs=log_probs,
            policy_versions=policy_versions(boundaries, len(token_ids)),
            finish_reason="stop" if sample.finish_reason == "stop" else "length",
        )

    async def score(self, token_ids: list[int]) -> list[float]:
        parameters = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
        output = await self._final(token_ids, parameters, f"p{next(self._numbers)}")
        if output.prompt_logprobs is None:
            raise EngineError("the engine returned no log-probabilities for a probe")
        rows = output.prompt_logprobs[1:]
        return [row[token].logprob for row, token in zip(rows, token_ids[1:], strict=True) if row is not None]

    async def _final(self, token_ids: list[int], parameters: SamplingParams, request_id: str) -> RequestOutput:
        """The finished output of one request."""
        last: RequestOutput | None = None
        try:
            async for output in self._llm.generate({"prompt_token_ids": token_ids}, parameters, request_id):
                last = output
        except Exception as error:
            raise EngineError(f"the engine failed on a request: {type(error).__name__}: {error}") from error
        if last is None or not last.finished:
            raise EngineError(f"the engine ended request {request_id} without a result")
        return last

    async def update_weights(self, source: dict[str, str], policy_version: int) -> float:
        async with self._update_lock:
            stopped = self._asleep_since or time.monotonic()
            try:
                if self._asleep_since is not None and self._sleep_level:
                    await self._llm.wake_up(["weights"])
                # "keep" freezes the requests under way; clearing the caches makes them compute their keys and values again.
                await self._llm.pause_generation(mode="keep", clear_cache=True)
                counts, *_ = await self._llm.collective_rpc("cupel_token_counts")
                await self._llm.start_weight_update()
                await self._llm.update_weights(WeightTransferUpdateRequest(update_info=dict(source)))
                await self._llm.finish_weight_update(weight_version=str(policy_version))
                self._stamp(counts, policy_version)
                await self._rouse(["kv_cache"])
            except Exception as error:
                raise EngineError(f"weights of policy version {policy_version} did not arrive: {error}") from error
            finally:
                await self._llm.resume_generation()
            seconds = time.monotonic() - stopped
            self._paused_seconds += seconds
            return seconds

    async def sleep(self) -> None:
        async with self._update_lock:
            if self._asleep_since is not None:
                return
            try:
                await self._llm.sleep(self._sleep_level, mode="keep")
            except Exception as error:
                raise EngineError(f"the engine could not sleep: {type(error).__name__}: {error}") from error
            self._asleep_since = time.monotonic()

    async def wake(self) -> None:
        async with self._update_lock:
            if self._asleep_since is None:
                return
            stopped = self._asleep_since
            try:
                await self._rouse(["weights", "kv_cache"])
                await self._llm.resume_generation()
            except Exception as error:
                raise EngineError(f"the engine could not wake up: {type(error).__name__}: {error}") from error
            self._paused_seconds += time.monotonic() - stopped

    async def _rouse(self, memory: list[str]) -> None:
        """Take the rest of a sleeping engine's memory again."""
        if self._asleep_since is not None and self._sleep_level:
            await self._llm.wake_up(memory)
        self._asleep_since = None

    def _stamp(self, counts: dict[str, int], policy_version: int) -> None:
        """Let every token sampled from now on count for `policy_version`."""
        # vLLM appends a dash and eight random characters to our request ids.
        sampled = {request_id.rsplit("-", 1)[0]: count for request_id, count in counts.items()}
        for request_id, boundaries in self._boundaries.items():
            boundaries.append((sampled.get(request_id, 0), policy_version))
        self._version = policy_version

    async def connect(self) -> None:
        """Set up weight transfer; once, after start."""
        await self._llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info={}))

    def gauges(self) -> dict[str, float]:
        return {
            "generated_tokens": float(self._generated_tokens),
            "prompt_tokens": float(self._prompt_tokens),
            "cached_prompt_tokens": float(self._cached_tokens),
            "running_requests": float(len(self._boundaries)),
            "paused_seconds": self._paused_seconds,
            "asleep": float(self._asleep_since is not None),
        }

    async def shutdown(self) -> None:
        self._llm.shutdown()
        # Its own finalizer shuts down again, which at the interpreter's end fails with a traceback.
        del self._llm
        gc.collect()
        self._temporary.close()


async def start(settings: EngineSettings) -> VllmEngine:
    """Start an engine and make it ready for weight updates. Raises EngineError with vLLM's reason."""
    try:
        engine = VllmEngine(settings)
        await engine.connect()
    except Exception as error:
        raise EngineError(f"vLLM could not start {settings.model_path}: {type(error).__name__}: {error}") from error
    return engine
