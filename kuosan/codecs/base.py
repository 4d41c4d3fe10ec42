"""Codecs: pictures as fewer numbers, and back.

A codec maps states x (b, C, H, W) to latents z (b, c, ⌈H/f⌉, ⌈W/f⌉) and back, so that a diffusion model has f²C/c
times fewer numbers to make. Its encoder is a distribution q(z | x), a Gaussian with independent elements (a point,
where a codec is deterministic), its decoder the mean of another, p(x | z) = N(x; decode(z), s² I) with one s.

Every codec works on whole patches of f × f. Other sides are padded at the right and the bottom by repeating the edge,
and cropped at the end. What its network calls m and v (the mean and variance of q), its users see as

    z = (m − shift) / scale,    variance v / scale²                                                            (1)

with one shift and one scale per channel, measured so that z has mean 0 and variance 1 over the training data:
a diffusion process counts its noise in that unit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kuosan.core.posteriors import Gaussian, Point
from kuosan.core.random import Seeds

Spec = dict[str, Any]


class Codec(nn.Module, ABC):
    """States to latents and back.

    Args:
        channels, height, width: of the states.
        factor: side of a patch, f.
        latent: channels of the latents, c.

    ``log_noise`` is log s², the variance of the decoder's Gaussian; ``shift`` and ``scale`` are those of eq. (1).
    """

    shift: Float[Tensor, " c"]
    scale: Float[Tensor, " c"]

    def __init__(self, channels: int, height: int, width: int, *, factor: int, latent: int) -> None:
        super().__init__()
        self.channels, self.height, self.width = channels, height, width
        self.factor, self.latent = factor, latent
        self.register_buffer("shift", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))
        self.log_noise = nn.Parameter(torch.zeros(()))

    @abstractmethod
    def moments(self, x: Float[Tensor, "b C H W"]) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance (none: a point) of the network's own latents (b, c, H/f, W/f), of states of any
        size in whole patches."""

    @abstractmethod
    def picture(self, m: Float[Tensor, "b c h w"]) -> Float[Tensor, "b C H W"]:
        """The state, f times as high and wide, of the network's own latents."""

    @abstractmethod
    def spec(self) -> Spec:
        """All that `build_codec` needs besides the weights, JSON-able."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one state."""
        return self.channels, self.height, self.width

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Of one latent."""
        return self.latent, -(-self.height // self.factor), -(-self.width // self.factor)

    def posterior(self, x: Float[Tensor, "b C H W"]) -> Gaussian | Point:
        """q(z | x)."""
        _check(x, self.channels, "states")
        mean, log_var = self.moments(self.padded(x))
        shift, scale = self.shift.view(-1, 1, 1), self.scale.view(-1, 1, 1)
        mean = (mean - shift) / scale
        return Point(mean) if log_var is None else Gaussian(mean, log_var.exp() / scale**2)

    def encode(self, x: Float[Tensor, "b C H W"], seeds: Seeds | None = None) -> Float[Tensor, "b c h w"]:
        """The mean of q(z | x), or with seeds a draw from it."""
        q = self.posterior(x)
        return q.mean if seeds is None else q.sample(seeds)

    def decode(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b C H W"]:
        """The mean of p(x | z), in whole patches where these are no latents of states of its own size."""
        _check(z, self.latent, "latents")
        x = self.picture(z * self.scale.view(-1, 1, 1) + self.shift.view(-1, 1, 1))
        return x[..., : self.height, : self.width] if tuple(z.shape[1:]) == self.latent_shape else x

    def padded(self, x: Float[Tensor, "b C H W"]) -> Float[Tensor, "b C Hf Wf"]:
        """In whole patches, the edge repeated at the right and the bottom."""
        down, right = -x.shape[-2] % self.factor, -x.shape[-1] % self.factor
        return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x


def _check(x: Tensor, channels: int, what: str) -> None:
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"expected {what} of shape (b, {channels}, height, width), got {tuple(x.shape)}")
