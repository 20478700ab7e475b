"""A byte-level BPE tokenizer and models of two layers, made here in a second: real ones, small enough for every test.

The heavy libraries are imported inside the fixtures, so tests that need neither do not pay for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [
    "def add(a, b):\n    return a + b\n",
    "for x in range(10):\n    print(x)\n",
    "na\u00efve caf\u00e9 \u2192 \u4f60\u597d \U0001f600 \u4f60\u597d \U0001f600",
]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with merges that end in the middle of characters, two special tokens and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    bpe.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = CHAT_TEMPLATE
    return made


def _llama(tokenizer: PreTrainedTokenizerFast, folder: Path, **sizes: int) -> Path:
    """A random Llama with a tied head, saved in bfloat16 with its tokenizer as a Hugging Face folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)  # more only stand in each other's way in a model this small
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            # Far from uniform: what a token sees must show in what it predicts.
            initializer_range=0.3,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
            **sizes,  # type: ignore[arg-type]
        )
    )
    model.to(dtype=torch.bfloat16).save_pretrained(folder)  # type: ignore[call-arg]
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest."""
    return _llama(tokenizer, tmp_path_factory.mktemp("model") / "tiny", max_position_embeddings=512)


@pytest.fixture(scope="session")
def vllm_model_folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest that vLLM runs on a CPU, and that reads the starter problems in so small a vocabulary."""
    return _llama(tokenizer, tmp_path_factory.mktemp("model") / "tiny", head_dim=32, max_position_embeddings=2048)


@pytest.fixture(scope="session")
def t5_folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random T5, an encoder-decoder, with dropout as T5 has it."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.set_num_threads(1)
    torch.manual_seed(1)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.1,
        eos_token_id=1,
        pad_token_id=1,
    )
    config.decoder_start_token_id = 0
    return _saved(T5ForConditionalGeneration(config), tokenizer, tmp_path_factory.mktemp("t5") / "tiny-t5")


@pytest.fixture(scope="session")
def codegen_folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CodeGen, a decoder-only model that vLLM does not run."""
    import torch
    from transformers import CodeGenConfig, CodeGenForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(2)
    config = CodeGenConfig(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=1024,
        rotary_dim=4,
        resid_pdrop=0.1,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
    )
    return _saved(CodeGenForCausalLM(config), tokenizer, tmp_path_factory.mktemp("codegen") / "tiny-codegen")


@pytest.fixture(params=["t5", "codegen"])
def other_model_folder(request: pytest.FixtureRequest) -> Path:
    """A model that vLLM does not run: each of the two kinds in turn."""
    return request.getfixturevalue(f"{request.param}_folder")


def _saved(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
