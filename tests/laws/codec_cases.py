"""Pictures and small codecs that the laws of codecs are tried on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from kuosan.codecs import (
    KLVAE,
)
from kuosan.codecs.likelihood import distortion, entropy
from kuosan.core.random import Seeds

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(seed: int, *shape: int) -> Tensor:
    return Seeds.of(seed, shape[0]).normal(torch.empty(shape, dtype=F64))


@dataclass(frozen=True)
class Pictures:
    """Items of the training loop."""

    x: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.x[index], {}


def edges(n: int, side: int = 16, seed: int = 0) -> Tensor:
    """Half-planes at random places and angles in two grey levels, float32: easy for eyes, hard for linear codes."""
    angle, where, low, high = torch.rand(4, n, 1, 1, generator=generator(seed))
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    distance = (6.3 * angle).cos() * x + (6.3 * angle).sin() * y - where + 0.5
    return (torch.where(distance > 0, high, -low) * 0.9)[:, None]


def lively(channels: int = 2, height: int = 8, width: int = 12, seed: int = 3, **leaves: int) -> KLVAE:
    """A float64 codec none of whose weights is zero, as after training."""
    codec = KLVAE(
        channels,
        (height, width),
        **{"factor": 4, "latent": 3, "base": 8, **leaves},
        generator=generator(seed),
    ).double()
    source = generator(seed + 1)
    with torch.no_grad():
        for p in codec.parameters():
            p += 0.1 * torch.randn(p.shape, generator=source, dtype=F64)
        codec.shift += torch.randn(codec.latent, generator=source, dtype=F64)
        codec.scale *= 1 + torch.rand(codec.latent, generator=source, dtype=F64)
    return codec.requires_grad_(False)


# -- the linear code: everything is known -------------------------------------------------------------------


def correlated(n: int) -> Tensor:
    """Pictures (n, 1, 4, 4) of independent 2×2 patches whose four pixels are correlated and not of mean 0."""
    mix = noise(7, 4, 4) * torch.tensor([1.0, 0.5, 0.3, 0.2], dtype=F64)
    patches = noise(8, n * 4, 4) @ mix.T + noise(9, 1, 4)
    return F.pixel_shuffle(patches.view(n, 2, 2, 4).permute(0, 3, 1, 2), 2)


def linear() -> tuple[KLVAE, Tensor]:
    x = correlated(200)
    codec = KLVAE(1, (4, 4), factor=2, latent=2, base=4, generator=generator()).double().requires_grad_(False)
    codec.start(x.split(37))
    return codec, x


def patches_of(x: Tensor) -> Tensor:
    """(n, patches, D)."""
    return F.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)


def exact_nats(codec: KLVAE, x: Tensor) -> Tensor:
    """−log p(x) of the linear codec's decoder under z ~ N(0, I), by its marginal's covariance."""
    w = codec.synthesis.weight[:, :, 0, 0]
    model = MultivariateNormal(
        codec.synthesis.bias, w @ w.T + codec.log_noise.exp() * torch.eye(4, dtype=F64)
    )
    return -model.log_prob(patches_of(x)).sum(1)


def normal_nats(codec: KLVAE, z: Tensor) -> Tensor:
    """−log density of scaled latents that are N(0, I) before they are scaled."""
    raw = z * codec.scale.view(-1, 1, 1) + codec.shift.view(-1, 1, 1)
    logs = Normal(0.0, 1.0).log_prob(raw) + codec.scale.log().view(-1, 1, 1)
    return -logs.flatten(1).sum(1)


def exact_sum(codec: KLVAE, x: Tensor) -> Tensor:
    """The right side of eq. (1) with its expectations exact: both integrands are quadratic in z, and the 2n
    points mean ± √n · deviation_i integrate those exactly."""
    q = codec.posterior(x)
    n = q.mean[0].numel()
    total = torch.zeros(len(x), dtype=F64)
    for i in range(n):
        for sign in (-1, 1):
            e = torch.zeros(n, dtype=F64)
            e[i] = sign * n**0.5
            z = q.mean + q.variance.sqrt() * e.view(1, *q.mean.shape[1:])
            total += distortion(x, codec.decode(z), codec.log_noise) + normal_nats(codec, z)
    return total / (2 * n) - entropy(q.variance)
