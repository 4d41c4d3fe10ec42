"""What a run counts, and what it tells of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from kuosan.training import spikes
from kuosan.training.validation import Validation


@dataclass
class Counters:
    """What a checkpoint keeps besides tensors. ``seconds`` is training time, over all parts of the run; ``micro`` what
    memory left of the size of micro-batches, 0 until it did not suffice; ``losses`` and ``norms`` are for `spikes`;
    ``best_each`` is the loss of every held-out item at the best step, ``kept`` are the files of averages
    (`averages.Kept`), and ``looks`` is how often some were written."""

    step: int = 0
    seconds: float = 0.0
    rate_scale: float = 1.0
    skipped: int = 0
    in_a_row: int = 0
    returns: int = 0
    validations: int = 0
    worse: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    finished: bool = False
    micro: int = 0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    best_each: list[float] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    looks: int = 0

    @property
    def high(self) -> int:
        """How many of the last steps are far above their range."""
        return max(spikes.row(self.losses), spikes.row(self.norms))


@dataclass(frozen=True)
class Progress:
    """One event of the loop: a step, and a validation where there was one."""

    step: int
    progress: float
    seconds: float
    loss: float
    grad_norm: float
    lr: float
    validation: Validation | None = None
    best: bool = False
