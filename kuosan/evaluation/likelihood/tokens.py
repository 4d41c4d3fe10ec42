"""How surprised a model of texts is by texts: its bound, in bits per character and per token.

Of text x with c(x) characters in windows of L tokens, at K times of a stratified set,

    b̂ = Σ_x (1/K) Σ_k r(x, t_k) / (log 2 · Σ_x c(x))                                             (1)

where r is the rate of the bound (`training.tokens`, eq. 1) or, of an autoregressive network, the negative
log-likelihood itself, which needs no times. Both sums run over the same held-out texts: per character, so that
tokenisers can be compared, what follows a text within its window included, as that is how its end is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.denoisers.base import Denoiser
from kuosan.evaluation.base import Measurement
from kuosan.training.data import Items
from kuosan.training.objective import Objective
from kuosan.training.tokens import GOLDEN

BATCH = 32


@dataclass(frozen=True)
class TokenBound:
    """Nats of every text (n,), its characters and its tokens, the last one's end included."""

    nats: Float[Tensor, " n"]
    characters: Float[Tensor, " n"]
    tokens: Float[Tensor, " n"]

    def measurements(
        self, exact: bool, side: str = "", unit: str = "character", noun: str = "texts"
    ) -> dict[str, Measurement]:
        """Bits per character (or another unit that was counted) and per token, with the standard error of a ratio over
        texts."""
        note = "exact" if exact else "an upper bound"
        return {
            f"bits_per_{each}{side}": _ratio(f"bits_per_{each}{side}", self.nats, counts, note, noun)
            for each, counts in ((unit, self.characters), ("token", self.tokens))
        }


def _ratio(name: str, nats: Tensor, counts: Tensor, note: str, noun: str) -> Measurement:
    n, total = len(nats), float(counts.sum())
    value = float(nats.sum()) / total
    residual = nats - value * counts
    stderr = float(residual.square().sum().sqrt()) / total * math.sqrt(n / (n - 1)) if n > 1 else None
    bits = math.log(2)
    return Measurement(
        name=name, value=value / bits, stderr=None if stderr is None else stderr / bits, n=n,
        space=f"{'training' if name.endswith('train') else 'held-out'} {noun}", better="lower", note=note,
    )  # fmt: skip


@torch.no_grad()
def token_bound(
    denoiser: Denoiser,
    objective: Objective,
    items: Items,
    characters: Float[Tensor, " n"],
    end: int,
    *,
    times: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> TokenBound:
    """Eq. 1 of all ``items``, the k-th of whose times lie in the k-th of ``times`` equal parts.

    Args:
        objective: whose value, per token, is the bound; see `Objective.judged`.
        characters: of every item. end: the token that ends a text.
    """
    nats, tokens = [], []
    for index in torch.arange(len(items)).split(BATCH):
        x, cond = items.batch(index)
        x, cond = x.to(device), {k: v.to(device) for k, v in cond.items()}
        seeds = Seeds.of(seed, index.tolist()).fold("bound")
        total = torch.zeros(len(x), dtype=torch.float64)
        for k in range(times):
            u = (k + (index.double() * GOLDEN + seeds.fold("time").uniforms()) % 1) / times
            rate = objective.at_quantiles(denoiser, x, u.clamp(1e-9, 1 - 1e-9), seeds.fold(k), **cond)
            total += rate.double().cpu() * x.shape[1]
        nats.append(total / times)
        tokens.append(((x != end).sum(1) + 1).clamp_max(x.shape[1]).double().cpu())
    return TokenBound(torch.cat(nats), characters, torch.cat(tokens))
