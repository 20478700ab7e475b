"""For all tests: an interrupt is heeded, by us and by what we start, also where the tests run in the background, which would have it ignored."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
