"""A generative adversarial network that trains stably: relativistic pairs and two gradient penalties.

A critic D scores real x and made G(z) under the same conditions, and it is the difference that counts,

    L_D = E softplus( D(G(z)) - D(x) ) + γ/2 ( E |∇D(x)|² + E |∇D(G(z))|² )                           (1)
    L_G = E softplus( D(x) - D(G(z)) )                                                                (2)

(Huang et al. 2024, eq. 4 and algorithm 1; the pairing is Jolicoeur-Martineau 2019). Every made item is held against a
real one, so that none can be traded for another and modes are not dropped; the penalties on either side, R1 (Mescheder
et al. 2018, eq. 9) and R2, make the game converge. γ falls to a tenth over the budget, as there.

Where there are few items the critic learns them by heart, so all that it sees, real and made, is shifted by up to an
eighth along every side (Zhao et al. 2020), but not in what the generator makes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.rivals.base import Cond, Rival
from kuosan.rivals.blocks import Critic, Decoder

GAMMA, FALL = 0.5, 0.1  # of eq. 1 at the start, and its share at the end
LATENT = 64
FARTHEST = 1 / 8
FEW = 5000  # items below which what the critic sees is shifted


def relativistic(better: Float[Tensor, "b"], worse: Float[Tensor, "b"]) -> Tensor:
    """E softplus(worse - better): small where the first scores are higher, whatever is added to both."""
    return F.softplus(worse - better).mean()


def penalty(critic: nn.Module, x: Tensor, cond: Cond) -> tuple[Float[Tensor, "b"], Tensor]:
    """The critic's scores of x, and the mean square of their gradient in x."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        scores = critic(x, cond)
        (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return scores, slope.square().flatten(1).sum(1).mean()


def shifted(x: Float[Tensor, "b c *sides"], seeds: Seeds) -> Float[Tensor, "b c *sides"]:
    """Each item moved by up to `FARTHEST` along every side, what comes in at an edge being 0."""
    u = seeds.fold("shift").uniform(torch.empty(len(x), x.ndim - 2, dtype=torch.float64))
    for k, side in enumerate(x.shape[2:]):
        most = round(FARTHEST * side)
        by = ((2 * most + 1) * u[:, k]).long().clamp_max(2 * most) - most
        at = torch.arange(side)[None] - by[:, None]
        inside = ((at >= 0) & (at < side)).to(x.device)
        shape = [len(x), 1, *(side if j == k else 1 for j in range(x.ndim - 2))]
        index = at.clamp(0, side - 1).to(x.device).view(shape).expand_as(x)
        x = x.gather(2 + k, index) * inside.view(shape)
    return x


class GAN(Rival):
    """See the module.

    Args:
        shape, widths, conditions: see `Decoder`; the critic has the same widths.
        items: to train on; few of them are shifted.
    """

    name: ClassVar[str] = "gan"
    batch: ClassVar[int] = 32
    rate: ClassVar[float] = 2e-3
    betas: ClassVar[tuple[float, float]] = (0.0, 0.99)
    bounded: ClassVar[bool] = False

    def __init__(
        self,
        shape: Sequence[int],
        widths: Sequence[int],
        conditions: Mapping[str, int],
        generator: torch.Generator,
        *,
        items: int = FEW,
    ) -> None:
        super().__init__()
        channels, *sides = shape
        self.few = items < FEW and math.prod(sides) > 1
        self.generator = Decoder(channels, sides, LATENT, widths, conditions, generator)
        self.critic = Critic(channels, sides, widths, conditions, generator)

    def players(self) -> list[nn.Module]:
        return [self.critic, self.generator]

    def _seen(self, x: Tensor, seeds: Seeds) -> Tensor:
        return shifted(x, seeds) if self.few else x

    @property
    def sampler(self) -> nn.Module:
        return self.generator

    def loss(self, turn: int, x: Tensor, cond: Cond, seeds: Seeds, progress: float) -> Tensor:
        """Eq. 1 on the critic's turn, eq. 2 on the generator's."""
        seeds = seeds.fold(turn)
        z = seeds.fold("z").normal(torch.empty(len(x), LATENT, device=x.device))
        real = self._seen(x, seeds.fold("real"))
        if turn == 0:
            with torch.no_grad():
                made = self._seen(self.generator(z, cond), seeds.fold("made"))
            a, r1 = penalty(self.critic, real, cond)
            b, r2 = penalty(self.critic, made, cond)
            gamma = GAMMA * (FALL + (1 - FALL) * (0.5 + 0.5 * math.cos(math.pi * progress)))
            return relativistic(a, b) + 0.5 * gamma * (r1 + r2)
        made = self._seen(self.generator(z, cond), seeds.fold("made"))
        return relativistic(self.critic(made, cond), self.critic(real, cond))

    @torch.no_grad()
    def sample(self, cond: Cond, seeds: Seeds) -> Tensor:
        return self.generator(
            seeds.fold("z").normal(torch.empty(len(seeds), LATENT, device=self.device)), cond
        )
