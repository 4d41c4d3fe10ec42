"""A language of all 81 words of four letters out of three, and what the laws of its samplers share."""

from __future__ import annotations

import torch
from torch import Tensor

from kuosan.core.curves import LinearSurvival
from kuosan.core.posteriors import Categorical, Posterior
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import TableDenoiser
from kuosan.processes.base import Process
from kuosan.processes.discrete import Masked
from kuosan.solvers import SOLVERS

F64 = torch.float64
K, L, N = 3, 4, 12_000
MASK = K
WORDS = torch.cartesian_prod(*(torch.arange(K) for _ in range(L)))
P = torch.rand(K**L, generator=torch.Generator().manual_seed(4), dtype=F64).square() + 0.002
P /= P.sum()
PROCESS = Masked(K, LinearSurvival())
DENOISER = TableDenoiser(PROCESS, WORDS, P)
TOKENS = sorted(name for name, make in SOLVERS.items() if make().needs is Masked)


def prior(n: int, length: int = L) -> Tensor:
    return torch.full((n, length), MASK)


def even(steps: int) -> Tensor:
    return torch.linspace(1, 0, steps + 1, dtype=F64)


def law_of(x: Tensor) -> Tensor:
    """How often each of the words occurs."""
    return (x * K ** torch.arange(L - 1, -1, -1)).sum(1).bincount(minlength=K**L).double()


class Fixed(Denoiser):
    """The same law of every position in every state."""

    def __init__(self, process: Process, logits: Tensor) -> None:
        super().__init__()
        self.process, self.logits = process, logits

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Posterior:
        return Categorical(self.logits.expand(len(x_t), *x_t.shape[1:], K))
