"""Real lines of metrics.jsonl: the last steps of an RLEF run (three turns, critic, reference policy) and of an RLTF run, of the studies in docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LINES: list[dict[str, Any]] = [
    json.loads(line) for line in Path(__file__).with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
]
