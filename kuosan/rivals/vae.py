"""A convolutional variational autoencoder whose noise is learned (Kingma & Welling 2014; Rybkin et al. 2021).

    p(x | z, c) = N( D(z, c), σ² ),      q(z | x, c) = N( m, diag s² ),    (m, log s) = E(x, c)               (1)
    -log p(x | c) ≤ E_q[ -log p(x | z, c) ] + β KL( q(z | x, c) ‖ N(0, 1) ),     β rising to 1            (2)

In training σ is one number for all, at the value that makes (2) smallest for each batch, σ² = mean (x - D)², which
sets the weight of the reconstruction against the KL term without a dial (Rybkin et al., eq. 5). Once it is over every
place has its own, as on training items, times a factor for all that held-out items ask for. β rises to 1 over the first
`WARM` of the budget, so that latents are used before they are paid for, and stays there: the bound that is reported is
that of β = 1.

Samples begin at latents of the *aggregated* posterior (`prior`), not of N(0, 1). The likelihood is that of the same
model, by K latents from q (Burda et al. 2016, eq. 8),

    -log p(x | c) ≤ -E log (1/K) Σ_k p(x | z_k, c) p(z_k | c) / q(z_k | x, c)                                 (3)

What is shown as a sample is D, without the noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.core.shapes import per_example
from kuosan.rivals.base import Cond, Rival
from kuosan.rivals.blocks import Decoder, Encoder
from kuosan.rivals.prior import LOG_2PI, Aggregated
from kuosan.training.data import Items

WARM = 0.2
FITTED, JUDGED = 8000, 1000  # items
LIKE = 100  # of the mean of all places, what is added to a place's square: some never vary among few items


class VAE(Rival):
    """See the module.

    Args:
        shape: channels and sides of the states.
        widths, conditions: see `Decoder`.
        level: distance of two levels of the data, whose gaps noise fills in training; None where there are none.
    """

    name: ClassVar[str] = "vae"
    batch: ClassVar[int] = 64
    rate: ClassVar[float] = 2e-3

    log_sigma: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        widths: Sequence[int],
        conditions: Mapping[str, int],
        generator: torch.Generator,
        *,
        level: float | None = None,
        latent: int | None = None,
    ) -> None:
        super().__init__()
        channels, *sides = shape
        self.level = level
        self.latent = latent or max(2, min(64, math.prod(shape) // 8))
        self.encoder = Encoder(channels, sides, 2 * self.latent, widths, conditions, generator)
        self.decoder = Decoder(channels, sides, self.latent, widths, conditions, generator)
        self.register_buffer("log_sigma", torch.zeros(channels, *sides))
        self.prior = Aggregated(self.latent, conditions)

    def posterior(self, x: Tensor, cond: Cond) -> tuple[Float[Tensor, "b z"], Float[Tensor, "b z"]]:
        """m and log s of eq. 1."""
        m, log_s = self.encoder(x, cond).chunk(2, 1)
        return m, log_s.clamp(-8, 4)

    @property
    def sampler(self) -> nn.Module:
        return self.decoder

    def loss(self, turn: int, x: Tensor, cond: Cond, seeds: Seeds, progress: float) -> Tensor:
        """Eq. 2, in nats per number of a state."""
        if self.level is not None:
            x = x + (seeds.fold("level").uniform(x) - 0.5) * self.level
        m, log_s = self.posterior(x, cond)
        z = m + log_s.exp() * seeds.fold("z").normal(m)
        square = (x - self.decoder(z, cond)).square()
        log_sigma = 0.5 * square.mean().clamp_min(1e-8).log()
        misfit = 0.5 * square / (2 * log_sigma).exp() + log_sigma + 0.5 * LOG_2PI
        kl = 0.5 * (m.square() + (2 * log_s).exp() - 1) - log_s
        beta = min(1.0, progress / WARM)
        return (per_example(misfit) + beta * kl.sum(1)).mean() / x[0].numel()

    @torch.no_grad()
    def settle(self, items: Items, held_out: Items, seed: int) -> None:
        """Fit the prior and the noise; what held-out items are asked for, training items are where those are few."""
        z, cond, square = self._latents(items, FITTED, seed)
        judged, others, other = self._latents(held_out if len(held_out) >= 32 else items, JUDGED, seed)
        own = square + square.mean() / LIKE
        scale = other.mean() / own.mean()
        self.log_sigma.copy_(0.5 * (scale * own).clamp_min(1e-8).log())
        self.prior.fit(z, cond, judged, others, seed)

    def _latents(self, items: Items, most: int, seed: int) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Latents of up to ``most`` items, drawn from q, their conditions, and the mean square of what they do not
        explain, by place."""
        found, conds, squares = [], [], []
        generator = torch.Generator().manual_seed(seed)
        for index in torch.randperm(len(items), generator=generator)[:most].split(256):
            x, cond = items.batch(index)
            x, cond = x.to(self.device), {k: v.to(self.device) for k, v in cond.items()}
            seeds = Seeds.of(seed, index.tolist()).fold("latents")
            if self.level is not None:
                x = x + (seeds.fold("level").uniform(x) - 0.5) * self.level
            m, log_s = self.posterior(x, cond)
            z = m + log_s.exp() * seeds.normal(m)
            found.append(z)
            conds.append(cond)
            squares.append((x - self.decoder(z, cond)).square().sum(0))
        every = {k: torch.cat([c[k] for c in conds]) for k in conds[0]}
        return torch.cat(found), every, torch.stack(squares).sum(0) / sum(map(len, found))

    @torch.no_grad()
    def bound(self, x: Tensor, cond: Cond, seeds: Seeds, draws: int = 32) -> Float[Tensor, "b"]:
        """Eq. 3 with its sign turned: a lower bound, on average, of log p(x | c) in nats."""
        m, log_s = self.posterior(x, cond)
        logs = []
        for k in range(draws):
            eps = seeds.fold("bound", k).normal(m)
            z = m + log_s.exp() * eps
            misfit = 0.5 * (x - self.decoder(z, cond)).square() / (2 * self.log_sigma).exp()
            log_x = -per_example(misfit + self.log_sigma + 0.5 * LOG_2PI)
            log_q = (-0.5 * eps.square() - log_s - 0.5 * LOG_2PI).sum(1)
            logs.append(log_x.double() + self.prior.log_prob(z, cond).double() - log_q.double())
        return torch.logsumexp(torch.stack(logs), 0) - math.log(draws)

    @torch.no_grad()
    def sample(self, cond: Cond, seeds: Seeds) -> Tensor:
        """D at latents of the prior."""
        return self.decoder(self.prior.draw(cond, seeds), cond)
