"""Averaged weights.

    θ̂_k = β_k θ̂_{k-1} + (1 - β_k) θ_k,   β_k = (1 - 1/k)^(γ+1)                               (1)

A power-function average (Karras et al. 2024, eq. 121 ff.): its memory is a fixed fraction of the run so far, so
no start-up correction and no half-life to choose for a budget. The fraction is given as the standard
deviation of the weights over the run, σ_rel = √((γ+1)/((γ+2)²(γ+3))).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


def gamma_of(std: float) -> float:
    """γ of a relative standard deviation, the positive root of (γ+2)²(γ+3) = (γ+1)/std²."""
    roots = np.roots([1, 7, 16 - std**-2, 12 - std**-2])
    return float(roots.real.max())


def decay(step: int, gamma: float) -> float:
    """β of eq. 1 at the ``step``-th update, counted from 1."""
    return (1 - 1 / step) ** (gamma + 1)


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, step: int, gamma: float) -> None:
    """Eq. 1 on all parameters in place; buffers are copied."""
    theirs = [p.detach() for p in model.parameters()]
    torch._foreach_lerp_([p.detach() for p in average.parameters()], theirs, 1 - decay(step, gamma))
    for mine, other in zip(average.buffers(), model.buffers(), strict=True):
        mine.copy_(other)
