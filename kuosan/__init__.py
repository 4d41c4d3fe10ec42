"""Kuosan (扩散): from a folder of your own files to a diffusion model that you can trust."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

STARTED = time.monotonic()  # of the process, for the command line: a budget of time counts from here
__version__ = "0.1.0"

if TYPE_CHECKING:
    from kuosan.errors import UserError
    from kuosan.recipes.run import Run, load
    from kuosan.recipes.train import train

__all__ = ["Run", "UserError", "load", "train"]

_HOME = {
    "Run": "kuosan.recipes.run",
    "load": "kuosan.recipes.run",
    "train": "kuosan.recipes.train",
    "UserError": "kuosan.errors",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and `kuosan --help` needs none of it.
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'kuosan' has no attribute {name!r}")
