"""Networks of rivals, for states of one, two or three sides: from a latent vector to a state, and from a state to
features.

Both walk the levels of `networks.residual_unet`: a level halves the sides that are long enough, and has one residual
block. The way up ends, and the way down begins, at full resolution; the widest level is the smallest one, so that most
parameters work where a place costs least. Conditions are one row per column, added up, as in the denoisers. What they
answer is in float32, whatever their products are in.

A critic has no normalisation, whose blocks would not let it see how strong anything is, and starts as a linear map
(`Plain`), as Huang et al. 2024 (section 3.3) have it; gradients of its gradients exist and are cheap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kuosan.networks.conditions import ConditionTable
from kuosan.networks.residual_unet import _POOLS as POOLS
from kuosan.networks.residual_unet import CONVOLUTIONS, Residual, halvings
from kuosan.networks.residual_unet import _norm as norm
from kuosan.networks.sides import counts_of, cropped, padded
from kuosan.rivals.base import Cond

SLOPE = 0.2  # of the critic's leaky rectifier


def initialise(module: nn.Module, generator: torch.Generator, zero: Iterable[nn.Module]) -> None:
    """Weights of both fans' scale (Glorot & Bengio 2010, eq. 16) from ``generator``, those of ``zero`` at 0."""
    still = {id(m) for m in zero}
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.GroupNorm):
                layer.weight.fill_(1)
                layer.bias.zero_()
            elif isinstance(layer, (nn.Linear, *CONVOLUTIONS)):
                limit = math.sqrt(6 / (sum(layer.weight.shape[:2]) * max(1, layer.weight[0, 0].numel())))
                layer.weight.uniform_(-limit, limit, generator=generator)
                if id(layer) in still:
                    layer.weight.zero_()
                if layer.bias is not None:
                    layer.bias.zero_()
            elif isinstance(layer, ConditionTable):
                layer.rows.normal_(0, 0.1, generator=generator)


def levels_of(sides: Sequence[int], widths: Sequence[int]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """By what each level divides the sides, and what is left of them at the last."""
    by, left = halvings(sides, len(widths)), tuple(sides)
    for factors in by:
        left = counts_of(left, factors)
    return by, left


class Decoder(nn.Module):
    """From a latent vector to a state (or to what ``out_channels`` of one there are).

    Args:
        channels, sides: of the states.
        latent: numbers of a latent.
        widths: channels of each level, full resolution first.
        conditions: column → number of values.
    """

    def __init__(
        self,
        channels: int,
        sides: Sequence[int],
        latent: int,
        widths: Sequence[int],
        conditions: Mapping[str, int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        s, label = len(sides), max(16, 2 * widths[0])
        self.by, self.least = levels_of(sides, widths)
        self.sides, self.deepest = tuple(sides), widths[-1]
        with torch.device("meta"):  # no default initialisation: it would draw from the global generator
            self.start = nn.Linear(latent, widths[-1] * math.prod(self.least))
            self.style = nn.Linear(latent, label)
            befores = [*widths[1:], widths[-1]]
            self.blocks = nn.ModuleList(
                Residual(s, before, width, label, 0.0, False)
                for before, width in zip(befores, widths, strict=True)
            )
            self.norm, self.last = norm(widths[0]), CONVOLUTIONS[s - 1](widths[0], channels, 3, padding=1)
        self.to_empty(device="cpu")
        self.table = ConditionTable(conditions, label)
        initialise(self, generator, [b.conv2 for b in self.blocks if isinstance(b, Residual)])

    def forward(self, z: Float[Tensor, "b z"], cond: Cond) -> Float[Tensor, "b c *sides"]:
        return self.read(self.last, self.features(z, cond))

    def read(self, layer: nn.Module, features: Tensor) -> Tensor:
        """What a last layer makes of the features, as long as states are."""
        return cropped(layer(features), self.sides).float()

    def features(self, z: Float[Tensor, "b z"], cond: Cond) -> Float[Tensor, "b w *whole"]:
        """What the last layer reads."""
        e = self.style(z) + self.table(cond, len(z))
        h = self.start(z).view(len(z), self.deepest, *self.least)
        for level in reversed(range(len(self.blocks))):
            h = self.blocks[level](h, e)
            if level:
                h = F.interpolate(h, scale_factor=[float(n) for n in self.by[level - 1]], mode="nearest")
        return F.silu(self.norm(h))


class Encoder(nn.Module):
    """From a state to ``outputs`` numbers, with normalisation; arguments as for `Decoder`."""

    def __init__(
        self,
        channels: int,
        sides: Sequence[int],
        outputs: int,
        widths: Sequence[int],
        conditions: Mapping[str, int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        s, label = len(sides), max(16, 2 * widths[0])
        self.by, least = levels_of(sides, widths)
        self.whole = whole_of(sides, self.by)
        with torch.device("meta"):
            self.first = CONVOLUTIONS[s - 1](channels, widths[0], 3, padding=1)
            befores = [widths[0], *widths[:-1]]
            self.blocks = nn.ModuleList(
                Residual(s, before, width, label, 0.0, False)
                for before, width in zip(befores, widths, strict=True)
            )
            self.norm, self.last = norm(widths[-1]), nn.Linear(widths[-1] * math.prod(least), outputs)
        self.to_empty(device="cpu")
        self.table = ConditionTable(conditions, label)
        initialise(self, generator, [b.conv2 for b in self.blocks if isinstance(b, Residual)])

    def forward(self, x: Float[Tensor, "b c *sides"], cond: Cond) -> Float[Tensor, "b o"]:
        e = self.table(cond, len(x))
        h = self.first(padded(x, self.whole))
        for level, block in enumerate(self.blocks):
            h = block(h, e)
            if level < len(self.by):
                h = POOLS[x.ndim - 3](h, self.by[level])
        return self.last(F.silu(self.norm(h)).flatten(1)).float()


class Plain(nn.Module):
    """h ← skip(h) + conv(lrelu(conv(lrelu(h)))), the last convolution at zero to begin with."""

    def __init__(self, sides: int, before: int, after: int) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[sides - 1]
        self.conv1, self.conv2 = (
            convolution(before, after, 3, padding=1),
            convolution(after, after, 3, padding=1),
        )
        self.skip = convolution(before, after, 1) if before != after else nn.Identity()

    def forward(self, h: Float[Tensor, "b c *sides"]) -> Float[Tensor, "b o *sides"]:
        u = self.conv1(F.leaky_relu(h, SLOPE))
        return self.skip(h) + self.conv2(F.leaky_relu(u, SLOPE))


class Critic(nn.Module):
    """A score per state, plus how well its features fit its conditions (Miyato & Koyama 2018, eq. 4)."""

    FEATURES = 64

    def __init__(
        self,
        channels: int,
        sides: Sequence[int],
        widths: Sequence[int],
        conditions: Mapping[str, int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        s = len(sides)
        self.by, least = levels_of(sides, widths)
        self.whole = whole_of(sides, self.by)
        with torch.device("meta"):
            self.first = CONVOLUTIONS[s - 1](channels, widths[0], 3, padding=1)
            befores = [widths[0], *widths[:-1]]
            self.blocks = nn.ModuleList(
                Plain(s, before, width) for before, width in zip(befores, widths, strict=True)
            )
            self.features = nn.Linear(widths[-1] * math.prod(least), self.FEATURES)
            self.score = nn.Linear(self.FEATURES, 1)
        self.to_empty(device="cpu")
        self.table = ConditionTable(conditions, self.FEATURES)
        initialise(self, generator, [b.conv2 for b in self.blocks if isinstance(b, Plain)])

    def forward(self, x: Float[Tensor, "b c *sides"], cond: Cond) -> Float[Tensor, "b"]:
        h = self.first(padded(x, self.whole))
        for level, block in enumerate(self.blocks):
            h = block(h)
            if level < len(self.by):
                h = POOLS[x.ndim - 3](h, self.by[level])
        f = F.leaky_relu(self.features(F.leaky_relu(h.flatten(1), SLOPE)), SLOPE)
        fit = (self.table(cond, len(x)) * f).sum(1) / math.sqrt(self.FEATURES)
        return (self.score(f)[:, 0] + fit).float()


def whole_of(sides: Sequence[int], by: Sequence[Sequence[int]]) -> list[int]:
    """The sides that can be divided at every level, at least as long as these."""
    factors = [math.prod(level[k] for level in by) for k in range(len(sides))]
    return [n + -n % f for n, f in zip(sides, factors, strict=True)]
