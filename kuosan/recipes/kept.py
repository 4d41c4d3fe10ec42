"""Small files of JSON beside a run: what the end of its training measured and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kuosan.errors import UserError

T = TypeVar("T")


def read_kept(file: Path, what: str, of: Callable[[Any], T]) -> T | None:
    """What ``of`` makes of a file that holds ``what``; None where there is no such file.

    Raises:
        UserError: it cannot be read, or ``of`` cannot make anything of it.
    """
    if not file.is_file():
        return None
    try:
        return of(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{file} holds no {what} ({e}): restore it from a copy, or remove it") from e
