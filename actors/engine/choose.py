"""Which engine runs a model: vLLM where it lists the model's architecture, else transformers.

Invariant: choosing imports neither vLLM nor torch, and starting one engine does not import the other.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from typing import Literal

from actors.engine.protocol import Backend, Engine, EngineSettings
from executor.errors import UserError

_REGISTRY = Path("model_executor", "models", "registry.py")
_TABLES = {"_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS"}


async def start(settings: EngineSettings) -> Engine:
    """Start the engine that the settings and the model call for. Raises EngineError or UserError with the reason."""
    if choose(Path(settings.model_path), settings.backend) == "vllm":
        from actors.engine.vllm import start as start_vllm

        return await start_vllm(settings)
    from actors.engine.transformers import start as start_transformers

    return await start_transformers(settings)


def choose(model: Path, backend: Backend) -> Literal["vllm", "transformers"]:
    """The engine for the model folder `model`. Raises UserError if it is told to be vLLM and that cannot be."""
    if backend == "transformers":
        return backend
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    encoder_decoder = bool(config.get("is_encoder_decoder"))
    if backend == "vllm":
        if encoder_decoder:
            raise UserError(
                f"engine.backend=vllm: {model.name} is an encoder-decoder ({config.get('model_type')}), "
                "which vLLM does not run; engine.backend=transformers does"
            )
        return backend
    listed = not encoder_decoder and not vllm_architectures().isdisjoint(config.get("architectures") or ())
    return "vllm" if listed else "transformers"


def vllm_architectures() -> set[str]:
    """The architectures that the installed vLLM has code for, read from its source; none if it is not installed.

    Raises UserError if its source does not say so where it did when this was written.
    """
    vllm = importlib.util.find_spec("vllm")
    if vllm is None or not vllm.submodule_search_locations:
        return set()
    registry = Path(vllm.submodule_search_locations[0]) / _REGISTRY
    names: set[str] = set()
    if registry.exists():
        for statement in ast.parse(registry.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
                tables = {target.id for target in statement.targets if isinstance(target, ast.Name)}
                if tables & _TABLES:
                    names |= {str(key.value) for key in statement.value.keys if isinstance(key, ast.Constant)}
    if not names:
        raise UserError(
            "this vLLM does not tell which models it runs: set engine.backend=vllm or engine.backend=transformers"
        )
    return names
