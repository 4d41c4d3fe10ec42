"""Codecs: pictures and clips as fewer numbers, and back.

A codec maps states x (b, C, H, W) to latents z (b, c, ⌈H/f⌉, ⌈W/f⌉) and back, so that a diffusion model has f²C/c
times fewer numbers to make; of clips (b, C, T, H, W) it makes (b, c, ⌈(T − 1)/g⌉ + 1, ⌈H/f⌉, ⌈W/f⌉), g frames in one.
Its encoder is a distribution q(z | x), a Gaussian with independent elements (a point, where a codec is deterministic),
its decoder the mean of another, p(x | z) = N(x; decode(z), s² I) with one s.

Every codec works on whole patches of f × f, or g × f × f. Other sides are padded at their ends (right, bottom, last
frame) by repeating the edge, and cropped at the end. Clips begin with g − 1 more of their first frame: it has latents
of its own, which say nothing of what follows, and so can be given (Yu et al. 2024, MAGVIT-v2, sec. 3.2). What its
network calls m and v (the mean and variance of q), its users see as

    z = (m − shift) / scale,    variance v / scale²                                                            (1)

with one shift and one scale per channel, measured so that z has mean 0 and variance 1 over the training data:
a diffusion process counts its noise in that unit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kuosan.core.posteriors import Gaussian, Point
from kuosan.core.random import Seeds
from kuosan.core.shapes import PICTURE
from kuosan.networks.sides import counts_of, cropped, each, padded

Spec = dict[str, Any]


class Codec(nn.Module, ABC):
    """States to latents and back.

    Args:
        channels: of the states.
        sides: of the states: (height, width), or (frames, height, width).
        factor: places of a patch along each side, or one number for all of them.
        latent: channels of the latents, c.

    ``log_noise`` is log s², the variance of the decoder's Gaussian; ``shift`` and ``scale`` are those of eq. (1).
    """

    shift: Float[Tensor, " c"]
    scale: Float[Tensor, " c"]

    def __init__(
        self, channels: int, sides: Sequence[int], *, factor: int | Sequence[int], latent: int
    ) -> None:
        super().__init__()
        self.channels, self.sides = channels, tuple(sides)
        self.factor, self.latent = each(factor, len(self.sides)), latent
        self.register_buffer("shift", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))
        self.log_noise = nn.Parameter(torch.zeros(()))

    @abstractmethod
    def moments(self, x: Float[Tensor, "b C *sides"]) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance (none: a point) of the network's own latents, of states of any size in whole
        patches."""

    @abstractmethod
    def picture(self, m: Float[Tensor, "b c *fewer"]) -> Float[Tensor, "b C *sides"]:
        """The state, in whole patches, of the network's own latents."""

    @abstractmethod
    def spec(self) -> Spec:
        """All that `build_codec` needs besides the weights, JSON-able."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one state."""
        return self.channels, *self.sides

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of one latent."""
        return self.latent, *self.counts(self.sides)

    @property
    def lead(self) -> tuple[int, ...]:
        """How often the first place along each side is repeated before it."""
        return tuple(f - 1 if i < len(self.sides) - len(PICTURE) else 0 for i, f in enumerate(self.factor))

    def counts(self, sides: Sequence[int]) -> tuple[int, ...]:
        """Sides of the latents of states with these sides."""
        return counts_of([n + more for n, more in zip(sides, self.lead, strict=True)], self.factor)

    def posterior(self, x: Float[Tensor, "b C *sides"]) -> Gaussian | Point:
        """q(z | x)."""
        self._check(x, self.channels, "states")
        mean, log_var = self.moments(self.padded(x))
        shift, scale = self._of(self.shift), self._of(self.scale)
        mean = (mean - shift) / scale
        return Point(mean) if log_var is None else Gaussian(mean, log_var.exp() / scale**2)

    def encode(
        self, x: Float[Tensor, "b C *sides"], seeds: Seeds | None = None
    ) -> Float[Tensor, "b c *fewer"]:
        """The mean of q(z | x), or with seeds a draw from it."""
        q = self.posterior(x)
        return q.mean if seeds is None else q.sample(seeds)

    def decode(self, z: Float[Tensor, "b c *fewer"]) -> Float[Tensor, "b C *sides"]:
        """The mean of p(x | z), in whole patches where these are no latents of states of its own size."""
        self._check(z, self.latent, "latents")
        x = self.picture(z * self._of(self.scale) + self._of(self.shift))
        x = x[(slice(None), slice(None), *(slice(more, None) for more in self.lead))]
        return cropped(x, self.sides) if tuple(z.shape[1:]) == self.latent_shape else x

    def padded(self, x: Float[Tensor, "b C *sides"]) -> Float[Tensor, "b C *larger"]:
        """In whole patches, the edge repeated."""
        if any(self.lead):
            ends = [k for more in reversed(self.lead) for k in (more, 0)]
            x = F.pad(x, ends, mode="replicate")
        return padded(
            x, [n * f for n, f in zip(counts_of(x.shape[2:], self.factor), self.factor, strict=True)]
        )

    def known(self, mask: Bool[Tensor, "m C *sides"]) -> Bool[Tensor, "m c *fewer"]:
        """Which latents are made of known places alone, of states whose known places are true: the whole of their
        patches, and in space of those around them."""
        free = self.padded((~mask).any(1, keepdim=True).float())
        pool = {2: F.max_pool2d, 3: F.max_pool3d}[len(self.sides)]
        around = [int(i >= len(self.sides) - len(PICTURE)) for i in range(len(self.sides))]
        free = pool(free, self.factor)
        free = pool(free, [1 + 2 * n for n in around], stride=1, padding=around)
        return (free == 0).expand(-1, self.latent, *free.shape[2:])

    def _of(self, channels: Float[Tensor, " c"]) -> Float[Tensor, "c *ones"]:
        """One number per channel of the latents, at every place."""
        return channels.view(-1, *(1,) * len(self.sides))

    def _check(self, x: Tensor, channels: int, what: str) -> None:
        if x.ndim != 2 + len(self.sides) or x.shape[1] != channels:
            names = ", ".join(("frames", "height", "width")[-len(self.sides) :])
            raise ValueError(f"expected {what} of shape (b, {channels}, {names}), got {tuple(x.shape)}")
