"""For all tests: the tiny models; properties have no deadline, as machines are busy; and an interrupt is heeded, by us and by what we start, also where the tests run in the background, which would have it ignored."""

from __future__ import annotations

import gc
import signal

from hypothesis import settings
from tiny_models import codegen_folder, model_folder, other_model_folder, t5_folder, tokenizer, vllm_model_folder

__all__ = ["codegen_folder", "model_folder", "other_model_folder", "t5_folder", "tokenizer", "vllm_model_folder"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("cupel", deadline=None)
settings.load_profile("cupel")

# What is imported stays until the end, some half a million objects: that collections pass them over saves a tenth of the unit tests' time.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
