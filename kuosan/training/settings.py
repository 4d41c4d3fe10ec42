"""What a training run is told, and the learning rate that follows from its progress."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from kuosan.training.optimizer import Kind

Precision = Literal["float32", "tf32", "bfloat16"]
Layout = Literal["contiguous", "channels_last"]
Shard = Literal["auto", "none", "full"]


def casting(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which products are of that precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def rounding(precision: Precision) -> Iterator[None]:
    """A context, of a whole step, in which CUDA rounds the factors of float32 products to tf32's 10 bits, if that is
    the precision; what is sampled or measured between two steps is outside of it."""
    before = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass(frozen=True)
class Settings:
    """Everything that the loop needs besides the model, the data and the objective.

    Args:
        seed: of the order of the data, the noise, the times, the dropped conditions.
        batch: examples per step.
        lr: the highest learning rate.
        warmup: share of the run over which it rises.
        decay: share of the run over which it falls to zero at the end.
        weight_decay, betas: of AdamW.
        clip: largest norm of the gradient.
        ema: relative standard deviation of the averaged weights over the run; None: several are kept, and the length
            is chosen when the run has ended (`averages`).
        drop: probability that a condition is hidden, for guidance.
        steps, seconds: the end, one of them; ``seconds`` counts training time over all resumed parts.
        validations: how often in a run the held-out loss is measured.
        patience: validations in a row that are worse than the best by more than chance, after which training stops;
            0 never stops early.
        save_seconds: how much training a kill may cost.
        precision: of the network's products: float32, tf32 (CUDA alone), or bfloat16 (half the memory; several times
            the speed where the processor has units for it). Weights, averages, losses and the optimiser are in float32
            always.
        layout: of a convolution's weights in memory; channels_last has a pixel's channels side by side.
        compile: whether the network is compiled; see `kuosan.training.speed`.
        optimizer: adamw, or muon for the matrices of a network's blocks; see `kuosan.training.optimizer`.
        micro: examples that a process works on at a time, at most; None for its whole share of a batch.
        shard: whether several processes share the model's state out among themselves (full), each keep all of it
            (none), or do the former where the latter does not fit (auto); see `kuosan.training.sharding`.
    """

    seed: int = 0
    batch: int = 128
    lr: float = 1e-3
    warmup: float = 0.02
    decay: float = 0.5
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    ema: float | None = 0.08
    drop: float = 0.1
    steps: int | None = None
    seconds: float | None = None
    validations: int = 20
    patience: int = 6
    save_seconds: float = 30.0
    precision: Precision = "float32"
    layout: Layout = "contiguous"
    compile: bool = False
    optimizer: Kind = "adamw"
    micro: int | None = None
    shard: Shard = "auto"

    def progress(self, step: int, seconds: float) -> float:
        """How much of the budget is used up, from 0 to 1."""
        by_steps = step / self.steps if self.steps is not None else 0.0
        by_clock = seconds / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_steps, by_clock))

    def rate(self, progress: float, step: int) -> float:
        """The learning rate: a linear rise, level, and half a cosine down to zero at the end of the budget."""
        rise = min(1.0, progress / self.warmup if self.warmup else 1.0)
        # Ten steps at the least: AdamW's second moments are worthless before.
        rise = min(max(rise, 0.0), (step + 1) / 10) if step < 10 else max(rise, 1e-2)
        left = (1 - progress) / self.decay if self.decay else 1.0
        fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, left))
        return self.lr * rise * fall
