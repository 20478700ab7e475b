"""Memory of the learner's process on a CPU: what a step frees goes back to the operating system.

Every micro-batch has its own length, so the C library's heap fills with holes of the wrong size, and oneDNN keeps a compiled kernel for each
shape it has met. Left alone, both grow with the number of steps.
"""

from __future__ import annotations

import ctypes

# For the environment of a learner's process, which oneDNN reads as it starts.
ENVIRONMENT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own; other C libraries do without


def give_back() -> None:
    """Return free pages of the heap to the operating system."""
    if _trim is not None:
        _trim(0)
