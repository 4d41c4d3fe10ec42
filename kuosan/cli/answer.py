"""What a verb returns, and how it is written: for people, or as one JSON object."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any


@dataclass(frozen=True)
class Answer:
    """``data`` is printed with ``--json``, ``text`` without."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


def plain(value: Any) -> Any:
    """Only what JSON has words for: paths become texts, numbers that are not finite null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, PurePath):
        return str(value)
    return plain(value.item()) if hasattr(value, "item") else str(value)


def to_json(data: Mapping[str, Any]) -> str:
    """One object, in ASCII: names that are no text survive any terminal."""
    return json.dumps(plain(data), indent=1, allow_nan=False)
