"""Who this process is among those that a launcher started: what `torchrun` and `accelerate launch` say of it.

Only the environment is read, so that a command line may ask before it imports torch. All of the variables must
be there: a Kubernetes pod sets some of them for whole machines, and one of them alone is no process of a run.
"""

from __future__ import annotations

import os

_SET = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def processes() -> int:
    """How many work together; 1 where nothing was launched."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _SET) else 1


def rank() -> int:
    """The number of this one, from 0."""
    return int(os.environ["RANK"]) if processes() > 1 else 0


def place() -> int:
    """Its number on its own machine, which is that of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if processes() > 1 else 0
