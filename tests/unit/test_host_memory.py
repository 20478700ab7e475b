"""What a learner step frees goes back to the operating system, holes in the heap included."""

from __future__ import annotations

import psutil

from learner.host_memory import give_back

BLOCK = 64 << 10
BLOCKS = 1600  # 100 MiB


def test_freed_memory_below_a_block_in_use_is_given_back() -> None:
    process = psutil.Process()
    blocks = [bytes(BLOCK) for _ in range(BLOCKS)]
    last = blocks[-1]  # without trimming, everything below it stays with the process
    blocks.clear()
    before = process.memory_info().rss
    give_back()
    assert before - process.memory_info().rss > BLOCKS * BLOCK / 2
    assert len(last) == BLOCK
