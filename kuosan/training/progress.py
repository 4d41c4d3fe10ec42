"""What a run counts, and what it tells of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from kuosan.training import spikes
from kuosan.training.validation import Validation, difference


@dataclass
class Counters:
    """What a checkpoint keeps besides tensors. ``seconds`` is training time, over all parts of the run; ``micro`` what
    memory left of the size of micro-batches, 0 until it did not suffice; ``losses`` and ``norms`` are for `spikes`;
    ``best_loss`` is the least held-out loss, ``best_each`` is it for every item, ``best_step`` is that whose weights
    are kept as the best, by that loss or by the least ``best_score``; ``kept`` are the files of averages
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
    best_score: float = math.inf
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

    def judged(
        self, result: Validation, score: float | None = None
    ) -> tuple[bool, tuple[float, float] | None]:
        """After a look at the held-out loss: whether this is the best step, by the ``score`` if any was ever taken, and
        how the loss has changed since its least."""
        change = difference(result.each, self.best_each) if self.best_each else None
        lower = result.loss < self.best_loss
        self.worse = self.worse + 1 if not lower and result.worse_than(self.best_each) else 0
        if lower:
            self.best_loss, self.best_each = result.loss, list(result.each)
        best = lower and math.isinf(self.best_score)
        if score is not None:
            best, self.best_score = score < self.best_score, min(score, self.best_score)
        self.best_step = self.step if best else self.best_step
        return best, change


@dataclass(frozen=True)
class Progress:
    """One event of the loop: a step, and a validation where there was one, with its ``change`` since the least loss
    before (a difference of pairs, and its standard error)."""

    step: int
    progress: float
    seconds: float
    loss: float
    grad_norm: float
    lr: float
    validation: Validation | None = None
    best: bool = False
    change: tuple[float, float] | None = None
