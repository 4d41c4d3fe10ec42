"""A convolutional variational autoencoder whose noise is learned (Kingma & Welling 2014; Rybkin et al. 2021).

    p(x | z, c) = Logistic( D(z, c), S(z, c) ),   q(z | x, c) = N( m, diag s² ),   (m, log s) = E(x, c)        (1)
    -log p(x | c) ≤ E_q[ -log p(x | z, c) ] + β KL( q(z | x, c) ‖ N(0, 1) ),     β rising to 1            (2)

D and E learn from (2) with a Gaussian in the place of the logistic, whose σ is one number for all, at the value that
makes (2) smallest for each batch, σ² = mean (x - D)²: that sets the weight of the reconstruction against the KL term
without a dial (Rybkin et al., eq. 5). S, how sure the decoder is of every place, learns from (1) what D and the
features are left alone by, so that samples do not pay for likelihood; where states have levels, (1) is the probability
of a level's interval, the outermost ones open (Salimans et al. 2017, eq. 2). Once training is over S is taken times a
factor for all that held-out items ask for. β rises to 1 over the first `WARM` of the budget, so that latents are used
before they are paid for, and stays there: the bound that is reported is that of β = 1.

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
from torch.nn import functional as F

from kuosan.core.random import Seeds
from kuosan.core.shapes import per_example
from kuosan.networks.residual_unet import CONVOLUTIONS
from kuosan.rivals.base import Cond, Rival
from kuosan.rivals.blocks import Decoder, Encoder, initialise
from kuosan.rivals.prior import LOG_2PI, Aggregated
from kuosan.training.data import Items

WARM = 0.2
FITTED, JUDGED = 8000, 1000  # items
FIRST = -2.0  # log S to begin with
FACTORS = tuple(2 ** (k / 4) for k in range(-4, 13))  # of S, that held-out items choose from


class VAE(Rival):
    """See the module.

    Args:
        shape: channels and sides of the states.
        widths, conditions: see `Decoder`.
        level: distance of two levels of the data, which are from -1 to 1; None where there are none.
    """

    name: ClassVar[str] = "vae"
    batch: ClassVar[int] = 64
    rate: ClassVar[float] = 2e-3

    log_factor: Tensor

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
        with torch.device("meta"):  # no default initialisation: it would draw from the global generator
            self.spread = CONVOLUTIONS[len(sides) - 1](widths[0], channels, 3, padding=1)
        initialise(self.spread.to_empty(device="cpu"), generator, [self.spread])
        self.register_buffer("log_factor", torch.zeros(()))
        self.prior = Aggregated(self.latent, conditions)

    def posterior(self, x: Tensor, cond: Cond) -> tuple[Float[Tensor, "b z"], Float[Tensor, "b z"]]:
        """m and log s of eq. 1."""
        m, log_s = self.encoder(x, cond).chunk(2, 1)
        return m, log_s.clamp(-8, 4)

    @property
    def sampler(self) -> nn.Module:
        return self.decoder

    def told(self, z: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """D and log S of eq. 1."""
        features = self.decoder.features(z, cond)
        log_s = self.decoder.read(self.spread, features.detach()) + FIRST
        return self.decoder.read(self.decoder.last, features), log_s.clamp(-9, 3)

    def surprise(self, x: Tensor, mean: Tensor, log_s: Tensor) -> Tensor:
        """-log of the logistic of eq. 1, in nats, number by number: of a level's probability, or a density."""
        log_s = log_s + self.log_factor
        if self.level is None:
            r = (x - mean) / log_s.exp()
            return r + 2 * F.softplus(-r) + log_s
        above, below = ((x - mean + h) / log_s.exp() for h in (self.level / 2, -self.level / 2))
        # σ(a) - σ(b) = σ(a) σ(-b) (1 - exp(b - a))
        within = torch.log(-torch.expm1(-self.level / log_s.exp()))
        first, last = x < self.level / 4 - 1, x > 1 - self.level / 4
        log_p = torch.where(first, 0, F.logsigmoid(-below)) + torch.where(last, 0, F.logsigmoid(above))
        return -(log_p + torch.where(first | last, 0, within))

    def loss(self, turn: int, x: Tensor, cond: Cond, seeds: Seeds, progress: float) -> Tensor:
        """Eq. 2 as D and E have it, in nats per number of a state, and (1) as S has it."""
        m, log_s = self.posterior(x, cond)
        mean, spread = self.told(m + log_s.exp() * seeds.fold("z").normal(m), cond)
        square = (x - mean).square()
        log_sigma = 0.5 * square.mean().clamp_min(1e-8).log()
        misfit = 0.5 * square / (2 * log_sigma).exp() + log_sigma + 0.5 * LOG_2PI
        kl = 0.5 * (m.square() + (2 * log_s).exp() - 1) - log_s
        beta = min(1.0, progress / WARM)
        sure = self.surprise(x, mean.detach(), spread).mean()
        return (per_example(misfit) + beta * kl.sum(1)).mean() / x[0].numel() + sure

    @torch.no_grad()
    def settle(self, items: Items, held_out: Items, seed: int) -> None:
        """Fit the prior and the factor of S; what held-out items are asked for, training items are where those are
        few."""
        self.log_factor.zero_()
        z, cond, _ = self._latents(items, FITTED, seed)
        judged, others, surprises = self._latents(held_out if len(held_out) >= 32 else items, JUDGED, seed)
        self.log_factor.fill_(math.log(FACTORS[int(surprises.argmin())]))
        self.prior.fit(z, cond, judged, others, seed)

    def _latents(self, items: Items, most: int, seed: int) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Latents of up to ``most`` items, drawn from q, their conditions, and how surprising the items are in all by
        each of `FACTORS`."""
        found, conds, surprises = [], [], []
        generator = torch.Generator().manual_seed(seed)
        for index in torch.randperm(len(items), generator=generator)[:most].split(256):
            x, cond = items.batch(index)
            x, cond = x.to(self.device), {k: v.to(self.device) for k, v in cond.items()}
            m, log_s = self.posterior(x, cond)
            z = m + log_s.exp() * Seeds.of(seed, index.tolist()).fold("latents").normal(m)
            mean, spread = self.told(z, cond)
            found.append(z)
            conds.append(cond)
            surprises.append(
                torch.stack([self.surprise(x, mean, spread + math.log(f)).double().sum() for f in FACTORS])
            )
        every = {k: torch.cat([c[k] for c in conds]) for k in conds[0]}
        return torch.cat(found), every, torch.stack(surprises).sum(0)

    @torch.no_grad()
    def bound(self, x: Tensor, cond: Cond, seeds: Seeds, draws: int = 32) -> Float[Tensor, "b"]:
        """Eq. 3 with its sign turned: a lower bound, on average, of log p(x | c) in nats, of levels where states have
        them."""
        m, log_s = self.posterior(x, cond)
        logs = []
        for k in range(draws):
            eps = seeds.fold("bound", k).normal(m)
            z = m + log_s.exp() * eps
            log_x = -per_example(self.surprise(x, *self.told(z, cond)))
            log_q = (-0.5 * eps.square() - log_s - 0.5 * LOG_2PI).sum(1)
            logs.append(log_x.double() + self.prior.log_prob(z, cond).double() - log_q.double())
        return torch.logsumexp(torch.stack(logs), 0) - math.log(draws)

    @torch.no_grad()
    def sample(self, cond: Cond, seeds: Seeds) -> Tensor:
        """D at latents of the prior."""
        return self.decoder(self.prior.draw(cond, seeds), cond)
