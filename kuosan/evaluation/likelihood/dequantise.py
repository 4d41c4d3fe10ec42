"""Data of whole levels as data with a density: a little noise that fills the gaps.

A continuous model has a density p and no probabilities. For data x of levels h apart and any law q(u) of noise within
half a level,

    -log P(x) ≤ E_q[ -log p(x + u) + log q(u) ]                                                   (1)

bounds the probability of x's own cell under the model (Theis et al. 2016; Ho et al. 2019, eq. 3). Uniform noise is the
oldest q, and the best where p is flat within a cell. A diffusion model, though, is asked for its density at a time
t0 > 0, of data behind Gaussian noise of ratio ρ = σ/α: if it has learned to tell levels apart there, p is a bump of
that very width, and a normal law of width ρ cut off at half a level (Zheng et al. 2023, sec. 4.2) follows it. Which of
the two, and at which ρ, is a matter of the model: `flow.choose_dequantisation` asks it, on training items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import Time, per_example


@dataclass(frozen=True)
class Dequantisation:
    """q of eq. 1.

    Args:
        law: ``normal``, cut off at half a level, or ``uniform``.
        ratio: ρ where the density is asked for, in levels; also the normal law's width.
    """

    law: str = "normal"
    ratio: float = 1 / 6  # three deviations within half a level

    def __str__(self) -> str:
        return f"{self.law} dequantisation at noise of {self.ratio:.2g} levels"

    def __call__(self, x: Tensor, level: float, seeds: Seeds) -> tuple[Tensor, Time]:
        """x + u in float64 on the CPU, and log q(u) in nats per example (b,)."""
        x = x.cpu().double()
        v = seeds.uniform(x)
        if self.law == "uniform":
            log_q = -math.log(level) * x[0].numel()
            return x + (v - 0.5) * level, torch.full((len(x),), log_q, dtype=torch.float64)
        width = self.ratio * level
        inside = math.erf(0.5 / self.ratio / math.sqrt(2))
        z = torch.special.ndtri((1 - inside) / 2 + v.clamp(1e-12, 1 - 1e-12) * inside)
        log_q = -z.square() / 2 - math.log(width * inside * math.sqrt(2 * math.pi))
        return x + width * z, per_example(log_q)


NORMAL = Dequantisation()
CANDIDATES = tuple(Dequantisation(law, ratio) for law in ("normal", "uniform") for ratio in (1 / 6, 1 / 2))
