"""A variational autoencoder for a few minutes on a CPU: principal components, and what a network adds to them.

The best linear code of patches of f × f pixels is known without training. Probabilistic principal components
(Tipping & Bishop 1999, eqs. 6 – 9) of a patch p with covariance Σ_i λ_i u_i u_iᵀ and mean p̄ are, for c of them,

    p(z) = N(0, I),    p(p | z) = N(p̄ + Σ_{i≤c} √(λ_i − s²) u_i z_i, s² I),    s² = mean of λ_i over i > c       (1)
    p(z_i | p) = N(√(λ_i − s²)/λ_i · u_iᵀ(p − p̄), s²/λ_i)                                                        (2)

and (2) is the exact posterior: no encoder does better for this decoder (Lucas et al. 2019). A codec starts there
(`start`): 1 × 1 convolutions on unshuffled pixels that compute (1) and (2), and beside each a residual network whose
last layer is zero. The first step of training already has the reconstructions of a linear code, and the steps go to
what linear codes cannot do: see over the patch's border, and draw edges.

    x ─ unshuffle f/2 ─ conv, blocks (base) ─ unshuffle 2, conv, blocks (2·base) ─ conv ─┐
    x ─ unshuffle f ─ 1 × 1 conv (2) ────────────────────────────────────────────────────┴ mean, log-variance
    z ─ conv, blocks (2·base) ─ conv, shuffle 2 ─ blocks (base) ─ conv, shuffle f/2 ─┐
    z ─ 1 × 1 conv (1), shuffle f ───────────────────────────────────────────────────┴ x

There is no full-resolution layer, which is what makes it cheap: all work is done at f/2 and f. Nor is there a
normalisation: a group norm averages over the whole picture, which is not the crop that the network was trained
on, and did not pay for its time here. So the code is local: a patch's latents depend on its neighbourhood alone.

Of clips a patch has g frames too, halved where g is even. Its latents depend on these frames alone, so that frames can
be given; the decoder looks at those before and after too, so that what it draws does not flicker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kuosan.codecs.base import Codec, Spec
from kuosan.networks.sides import CONVOLUTIONS, depth_to_space, space_to_depth, times

QUIET = 1e-5  # least variance of a component: the rounding of 8-bit data is half of that


class Block(nn.Module):
    """h + conv(silu(conv(silu(h)))), the last one starting at zero."""

    def __init__(self, width: int, reach: Sequence[int]) -> None:
        super().__init__()
        self.first, self.last = (_convolution(width, width, reach) for _ in range(2))

    def forward(self, h: Float[Tensor, "b w *sides"]) -> Float[Tensor, "b w *sides"]:
        return h + self.last(F.silu(self.first(F.silu(h))))


class Merge(nn.Module):
    """`space_to_depth`."""

    def __init__(self, by: Sequence[int]) -> None:
        super().__init__()
        self.by = tuple(by)

    def forward(self, h: Float[Tensor, "b w *sides"]) -> Float[Tensor, "b k *fewer"]:
        return space_to_depth(h, self.by)


class Split(Merge):
    """`depth_to_space`."""

    def forward(self, h: Float[Tensor, "b k *fewer"]) -> Float[Tensor, "b w *sides"]:
        return depth_to_space(h, self.by)


class KLVAE(Codec):
    """See the module.

    Args:
        channels, sides, factor, latent: see `Codec`; the factors of height and width are even.
        base: width of the network at f/2; it is twice that at f.
        depth: residual blocks of the encoder at f/2 and at f, of the decoder at f and at f/2.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        channels: int,
        sides: Sequence[int],
        *,
        factor: int | Sequence[int] = 8,
        latent: int = 16,
        base: int = 64,
        depth: Sequence[int] = (1, 1, 1, 2),
        generator: torch.Generator,
    ) -> None:
        super().__init__(channels, sides, factor=factor, latent=latent)
        patch = channels * math.prod(self.factor)
        if min(self.factor) < 1 or any(f < 2 or f % 2 for f in self.factor[-2:]) or not 1 <= latent <= patch:
            raise ValueError(
                f"a codec needs even factors in space and 1 to {patch} latent channels, got the factor "
                f"{times(self.factor)} and {latent} channels"
            )
        self.base, self.depth = base, tuple(depth)
        twice = tuple(2 - f % 2 for f in self.factor)
        self.fine = tuple(f // by for f, by in zip(self.factor, twice, strict=True))
        more, fine = math.prod(twice), channels * math.prod(self.fine)
        one, near = [0] * len(self.sides), [0, 1, 1][-len(self.sides) :]
        around = [1] * len(self.sides)
        with torch.device("meta"):
            self.analysis = _convolution(patch, 2 * latent, one)
            self.synthesis = _convolution(latent, patch, one)
            self.encoder = nn.Sequential(
                Merge(self.fine),
                _convolution(fine, base, near),
                *(Block(base, near) for _ in range(depth[0])),
                Merge(twice),
                _convolution(more * base, 2 * base, one),
                *(Block(2 * base, near) for _ in range(depth[1])),
                nn.SiLU(),
            )
            self.encoder_out = _convolution(2 * base, 2 * latent, near)
            self.decoder = nn.Sequential(
                _convolution(latent, 2 * base, around),
                *(Block(2 * base, around) for _ in range(depth[2])),
                _convolution(2 * base, more * base, one),
                Split(twice),
                *(Block(base, around) for _ in range(depth[3])),
                nn.SiLU(),
            )
            self.decoder_out = _convolution(base, fine, around)
        for part in self.children():
            part.to_empty(device="cpu")
        self._draw(generator)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        """Uniform weights of variance 1/fan_in; zero for biases, and for what is added to something else."""
        added = ("last.weight", "encoder_out.weight", "decoder_out.weight")
        for name, p in self.named_parameters():
            if p.ndim > 1 and not name.endswith(added):
                bound = (3 / p[0].numel()) ** 0.5
                p.uniform_(-bound, bound, generator=generator)
            else:
                p.zero_()

    @torch.no_grad()
    def start(self, batches: Iterable[Float[Tensor, "b C *sides"]]) -> None:
        """Set the linear parts to eqs. (1) and (2) of these states, all of one kind."""
        c, size = self.latent, self.channels * math.prod(self.factor)
        total, square, count = torch.zeros(size).double(), torch.zeros(size, size).double(), 0
        for x in batches:
            patches = space_to_depth(self.padded(x).cpu().double(), self.factor).transpose(0, 1).flatten(1)
            total += patches.sum(1)
            square += patches @ patches.T
            count += patches.shape[1]
        if not count:
            raise ValueError("principal components need at least one state")
        mean = total / count
        values, vectors = torch.linalg.eigh(square / count - mean.outer(mean))
        values, vectors = values.flip(0).clamp_min(QUIET), vectors.flip(1)
        noise = values[c:].mean() if c < size else values[-1]
        values, u = values[:c], vectors[:, :c]
        gain = (values - noise).clamp_min(0).sqrt()
        w = (u * (gain / values)).T
        variance = (noise / values).log()
        _set(self.analysis, torch.cat([w, torch.zeros_like(w)]), torch.cat([-w @ mean, variance]))
        _set(self.synthesis, u * gain, mean)
        self.log_noise.fill_(float(noise.log()))

    def spec(self) -> Spec:
        return {
            "kind": "kl_vae",
            "channels": self.channels,
            "sides": list(self.sides),
            "factor": list(self.factor),
            "latent": self.latent,
            "base": self.base,
            "depth": list(self.depth),
        }

    def moments(self, x: Float[Tensor, "b C *sides"]) -> tuple[Tensor, Tensor]:
        both = self.analysis(space_to_depth(x, self.factor)) + self.encoder_out(self.encoder(x))
        mean, log_var = both.chunk(2, 1)
        return mean, log_var.clamp(-30, 20)

    def picture(self, m: Float[Tensor, "b c *fewer"]) -> Float[Tensor, "b C *sides"]:
        fine = depth_to_space(self.decoder_out(self.decoder(m)), self.fine)
        return depth_to_space(self.synthesis(m), self.factor) + fine


def _convolution(before: int, after: int, reach: Sequence[int]) -> nn.Module:
    """One that sees so many places around each, along each side."""
    convolution: Any = CONVOLUTIONS[len(reach) - 1]
    return convolution(before, after, [2 * n + 1 for n in reach], padding=list(reach))


def _set(conv: nn.Module, weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"]) -> None:
    ones = [1] * (conv.get_parameter("weight").ndim - 2)
    state = {"weight": weight.view(*weight.shape, *ones), "bias": bias}
    conv.load_state_dict(state)  # casts to the type and device of the layer
