"""A diffusion transformer, lean enough for two CPU cores.

The mathematics is DiT (Peebles & Xie 2023, section 3.2, "adaLN-Zero"), for states of any number of sides: pictures
(height, width), sounds and motions (time), clips (time, height, width), volumes. A state is cut into patches (p×p of
a picture), each a token of length D; a condition vector

    c = MLP(sinusoids(label)) + Σ_columns row(column, value)                                        (1)

gives every block six vectors (shift, scale, gate for attention; shift, scale, gate for the MLP) and

    h ← h + gate₁ · Attention((1 + scale₁) · LN(h) + shift₁)                                        (2)
    h ← h + gate₂ · MLP((1 + scale₂) · LN(h) + shift₂)                                              (3)

with LN free of parameters. All modulations and the output layer start at zero, so each block starts as the
identity and the network as the constant 0. Positions are fixed sinusoids, an equal part of the token for each side.

Three things differ in form, none in value. (a) The modulations of all blocks and of the output are one
matrix product; a batch of one spends its time in kernel launches, not in arithmetic. (b) q, k and v are one
product. (c) The patch embedding is a reshape and a product instead of a strided convolution. Each has an
exact counterpart in the DiT of `diffusers` (`kuosan.denoisers.diffusers_export` copies the weights across):
same order of modulations, [cos, sin] of the label with frequencies 10000^(−i/127), i = 0…127, first half of
the position vector for the column and second for the row. Captions are read in front of each block (`captions`).

States whose sides are no multiple of the patch's are padded at the end of each by repeating the edge, and cropped
at the end. Of what is ``unordered``, such as points of a surface, no token has a position: what is said of each depends
on it and on which others there are, not on the order in which they come (as in Point-E, Nichol et al. 2022). A crop
(`View.corner`) gets the positions of its place in the whole. Tokens that a view lets pass skip all blocks but the first
and the last, and come back beside the others, as they were (TREAD, Krause et al. 2025).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from kuosan.networks.attention import attention
from kuosan.networks.captions import CaptionEncoder, Heard, Reading
from kuosan.networks.conditions import ConditionTable
from kuosan.networks.detailer import Detailer
from kuosan.networks.dropout import Dropout, reseed
from kuosan.networks.given import channels_in, seen
from kuosan.networks.sides import counts_of, cropped, each, padded, times
from kuosan.networks.spectrum import Gains, Shaping
from kuosan.networks.view import WHOLE, View

LABEL_FEATURES = 256  # sinusoids of the noise label, as in DiT
EPSILON = 1e-6  # in every layer norm, as in DiT


def label_frequencies() -> Float[Tensor, "h"]:
    """10000^(−i/(h−1)), i = 0…h−1, h = 128: radians per unit of the noise label."""
    half = LABEL_FEATURES // 2
    return torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / (half - 1))


def positions(
    counts: Sequence[int], dim: int, reach: Sequence[int] | None = None, within: Sequence[int] | None = None
) -> Float[Tensor, "n d"]:
    """Fixed sinusoids of a patch's place along every side, in patches, the last side first; patches row-major.

    With ``reach``, the counts of another state, the patches are laid over that one, middle on middle; with ``within``
    as those of a state with these counts are, on the same middle and as far from each other.
    """
    grids = torch.meshgrid(
        *(
            (torch.arange(count, dtype=torch.float64) + (own - count + 1) / 2) * (of / own) - 0.5
            for count, own, of in zip(counts, within or counts, reach or within or counts, strict=True)
        ),
        indexing="ij",
    )
    waves = []
    for k, place in enumerate(reversed(grids)):
        # What does not divide goes to the last sides.
        n = dim // 2 // len(counts) + (k < dim // 2 % len(counts))
        omega = 10_000.0 ** (-torch.arange(n, dtype=torch.float64) / n)
        angle = place.reshape(-1, 1) * omega
        waves += [angle.sin(), angle.cos()]
    return torch.cat(waves, dim=1).float()


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
APPROXIMATE = "gelu-approximate"
ACTIVATIONS = {"gelu": "none", APPROXIMATE: "tanh"}  # by diffusers' names; torch's


class Block(nn.Module):
    """One transformer block, eqs. (2) and (3)."""

    def __init__(self, dim: int, heads: int, dropout: float, activation: str = APPROXIMATE) -> None:
        super().__init__()
        self.approximate = ACTIVATIONS[activation]
        self.dim, self.heads = dim, heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)
        self.drop1, self.drop2 = Dropout(dropout), Dropout(dropout)

    def forward(
        self,
        h: Float[Tensor, "b n d"],
        m: tuple[Float[Tensor, "b 1 d"], ...],
        attend: Attend = attention,
    ) -> Float[Tensor, "b n d"]:
        """`m` is shift₁, 1 + scale₁, gate₁, shift₂, 1 + scale₂, gate₂; `attend` is what queries, keys and values
        (b, heads, n, d/heads) come to."""
        b, n, d = h.shape
        shape = (self.dim,)
        u = torch.addcmul(m[0], F.layer_norm(h, shape, eps=EPSILON), m[1])
        qkv = self.qkv(u).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        u = attend(q, k, v).transpose(1, 2).reshape(b, n, d)
        u = self.proj(u)
        h = torch.addcmul(h, m[2], self.drop1(u) if self.drop1.rate else u)
        u = torch.addcmul(m[3], F.layer_norm(h, shape, eps=EPSILON), m[4])
        u = self.activate(self.fc1(u))
        u = self.fc2(self.drop2(u) if self.drop2.rate else u)
        return torch.addcmul(h, m[5], u)

    def activate(self, u: Tensor) -> Tensor:
        """Of the MLP."""
        return F.gelu(u, approximate=self.approximate)


class Transformer(nn.Module):
    """DiT with adaLN-Zero for states of one shape.

    Args:
        channels, sides: of the states, in and out.
        out_channels: where more is said of each place than one value a channel.
        patch: sides of a patch, or one number for all; the cost of attention falls with the square of its size.
        dim: length of a token; a multiple of 4 (positions) and of `heads`.
        depth: number of blocks.
        heads: attention heads.
        conditions: column → number of values n; index n means null.
        augment: see `ConditionTable`.
        reach: patches along each side of the states that it was first trained on, where those were of another
            size: it takes the new ones for the same at another resolution.
        given: it is told of given parts, in as many channels more: see `networks.given`.
        beside: channels that stand beside the state: see there.
        free: it takes states of other sides too, whose patches lie about the same middle.
        unordered: tokens have no positions.
        waves: octaves of sines and cosines of the states' values, from a period of 4 on, that tokens are made of too:
            they tell apart what lies close (Tancik et al. 2020, "Fourier features"); none with 0.
        gains: of the frequencies along each side with which what it says of the states is shaped: see
            `networks.spectrum`.
        shaped: the first channel that is, and the first behind that is not; all unless given.
        captions: how it hears captions: the arguments of `networks.captions.CaptionEncoder`.
        detail: channels of the convolutions behind the patches (`networks.detailer`); none with 0.
        activation: of the MLPs, ``gelu`` or, as in DiT, ``gelu-approximate``, which differs from it by at most 0.0005
            and takes three to six times as long on a CPU: a fifth of a small network's whole step.
        dropout: rate after attention and inside the MLP, in training mode.
        generator: source of the initial weights; the global random state is neither read nor changed.
    """

    pos: Tensor
    frequencies: Tensor
    one: Tensor

    def __init__(
        self,
        channels: int,
        sides: Sequence[int],
        *,
        patch: int | Sequence[int],
        dim: int,
        depth: int,
        heads: int,
        out_channels: int | None = None,
        conditions: Mapping[str, int] | None = None,
        augment: int = 0,
        reach: Sequence[int] | None = None,
        given: bool = False,
        beside: int = 0,
        free: bool = False,
        unordered: bool = False,
        waves: int = 0,
        gains: Sequence[Gains] | None = None,
        shaped: Sequence[int] | None = None,
        captions: Mapping[str, Any] | None = None,
        detail: int = 0,
        activation: str = APPROXIMATE,
        dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        self.activation = activation
        self.channels, self.sides, self.patch = channels, tuple(sides), each(patch, len(sides))
        if dim % 4 or dim % heads:
            raise ValueError(f"dim must be a multiple of 4 and of heads, got dim={dim}, heads={heads}")
        if min(channels, *self.sides, *self.patch, depth) < 1:
            raise ValueError("channels, sides, patch and depth must be at least 1")
        self.out_channels, self.given, self.beside = out_channels or channels, given, beside
        self.dim, self.depth, self.heads, self.free = dim, depth, heads, free
        self.unordered, self.waves = unordered, waves
        self.counts = counts_of(self.sides, self.patch)
        self.reach = tuple(reach) if reach else self.counts
        values = math.prod(self.patch)
        with torch.device("meta"):  # no default initialisation: it would draw from the global generator
            self.embed = nn.Linear(channels_in(channels, given, beside, waves) * values, dim)
            self.label1 = nn.Linear(LABEL_FEATURES, dim)
            self.label2 = nn.Linear(dim, dim)
            blocks = [Block(dim, heads, dropout, activation) for _ in range(depth)]
            self.modulation = nn.Linear(dim, (6 * depth + 2) * dim)
            self.out = nn.Linear(dim, self.out_channels * values)
            reads = [Reading(dim, heads, captions["dim"]) for _ in range(depth)] if captions else []
        self.blocks, self.reads = nn.ModuleList(blocks), nn.ModuleList(reads)
        self.to_empty(device="cpu")
        self.shaping = Shaping(gains) if gains else None
        self.shaped = slice(*shaped) if shaped else slice(0, channels)
        self.table = ConditionTable(conditions or {}, dim, augment)
        self.register_buffer("pos", positions(self.counts, dim, self.reach), persistent=False)
        self._others: dict[tuple[int, ...], Tensor] = {}  # positions of other states
        self.register_buffer("frequencies", label_frequencies(), persistent=False)
        # Adds the 1 of (1 + scale) for all blocks at once; the output's pair is (shift, scale) too.
        one = torch.zeros(6 * depth + 2, dim)
        one[1::3] = 1  # rows 1, 4, 7, … of the blocks; 6·depth + 1 is ≡ 1 (mod 3) as well
        self.register_buffer("one", one, persistent=False)
        self.drops = [m for m in self.modules() if isinstance(m, Dropout) and m.rate > 0]
        self._initialise(blocks, generator)
        self.captions = CaptionEncoder(dim, **captions, generator=generator) if captions else None
        for read in reads:
            read.initialise(generator)
        self.detailer = (
            Detailer(
                channels_in(channels, given, beside), self.out_channels, len(self.sides),
                width=detail, dim=dim, generator=generator,
            ) if detail else None
        )  # fmt: skip

    @torch.no_grad()
    def _initialise(self, blocks: list[Block], generator: torch.Generator) -> None:
        for block in blocks:
            for layer in (block.qkv, block.proj, block.fc1, block.fc2):
                # q, k and v are three square matrices, so their common limit is that of one of them.
                fan_out = self.dim if layer is block.qkv else layer.out_features
                _uniform(layer, layer.in_features + fan_out, generator)
        _uniform(self.embed, self.embed.in_features + self.dim, generator)
        for layer in (self.label1, self.label2):
            layer.weight.normal_(0, 0.02, generator=generator)
            layer.bias.zero_()
        self.table.rows.normal_(0, 0.02, generator=generator)
        for layer in (self.modulation, self.out):
            layer.weight.zero_()
            layer.bias.zero_()

    def condition(
        self, label: Float[Tensor, "b"], cond: Mapping[str, Int64[Tensor, "b"]], heard: Heard | None = None
    ) -> Float[Tensor, "b d"]:
        """The vector c of eq. (1), with what a caption is about."""
        angle = label[:, None].to(self.frequencies.dtype) * self.frequencies
        waves = torch.cat([angle.cos(), angle.sin()], dim=1).to(self.label1.weight.dtype)
        c = self.label2(F.silu(self.label1(waves)))
        if self.table.conditions or cond:
            c = c + self.table(cond, len(label))
        return c if heard is None else c + heard.pooled

    @property
    def grain(self) -> tuple[int, ...]:
        """What a crop's sides and corner are multiples of: a token's sides."""
        return self.patch

    def places(
        self, corner: Int64[Tensor, "b s"] | None, counts: Sequence[int]
    ) -> Float[Tensor, "n d"] | Float[Tensor, "b n d"]:
        """The positions of a crop of so many tokens along each side, or of all."""
        if corner is None:
            return self.pos if tuple(counts) == self.counts else self._other(tuple(counts))
        index = torch.zeros(len(corner), 1, dtype=torch.int64, device=corner.device)
        for k, count in enumerate(counts):
            along = corner[:, k, None] // self.patch[k] + torch.arange(count, device=corner.device)
            index = (index[:, :, None] * self.counts[k] + along[:, None]).flatten(1)
        return self.pos[index]

    def _other(self, counts: tuple[int, ...]) -> Float[Tensor, "n d"]:
        """The positions of a state with other counts."""
        found = self._others.get(counts)
        if found is None or found.device != self.pos.device:
            made = positions(counts, self.dim, self.reach, self.counts)
            found = self._others[counts] = made.to(self.pos.device)
        return found.to(self.pos.dtype)

    def forward(
        self,
        x: Float[Tensor, "b c *sides"],
        label: Float[Tensor, "b"],
        view: View = WHOLE,
        /,
        **cond: Int64[Tensor, "b"],
    ) -> Float[Tensor, "b o *sides"]:
        """Any real-valued map of the state; what it means is the caller's affair.

        Args:
            x: states of the shape given at construction, or the crops of a view.
            label: noise label per state, about 0…1000.
            view: what training shows of the states.
            cond: one index per state and column, and the tokens of a caption; a missing one is null.
        """
        b, p, sides = len(x), self.patch, tuple(x.shape[2:])
        if view.corner is None and sides != self.sides and not self.free:
            raise ValueError(f"built for states of {times(self.sides)}, got {times(sides)}")
        counts = counts_of(sides, p)
        x, cond = seen(x, cond, self.given, self.beside)
        if self.drops and self.training:
            reseed(self.drops, label)
        heard = None
        if self.captions is not None:
            heard, cond = self.captions.hear(cond, x)
        c = F.silu(self.condition(label, cond, heard))
        m = self.modulation(c)
        mods = (m.view(b, -1, self.dim) + self.one).unsqueeze(2).unbind(1)

        whole = x
        if self.waves:
            angles = [math.pi / 2 * 2**k * x[:, : self.channels] for k in range(self.waves)]
            x = torch.cat([x, *(f(angle) for angle in angles for f in (torch.sin, torch.cos))], 1)
        x = padded(x, [n * q for n, q in zip(counts, p, strict=True)])
        h = x.reshape(b, x.shape[1], *(n for pair in zip(counts, p, strict=True) for n in pair))
        s = len(sides)
        outer, inner = range(2, 2 * s + 2, 2), range(3, 2 * s + 2, 2)
        h = self.embed(h.permute(0, *outer, 1, *inner).reshape(b, math.prod(counts), -1))
        h = h if self.unordered else h + self.places(view.corner, counts)
        h = self._through(h, mods, view.through, heard)
        h = torch.addcmul(mods[-2], F.layer_norm(h, (self.dim,), eps=EPSILON), mods[-1])
        h = self.out(h).view(b, *counts, *p, self.out_channels)
        pairs = [k for pair in zip(range(1, s + 1), range(s + 1, 2 * s + 1), strict=True) for k in pair]
        y = h.permute(0, 2 * s + 1, *pairs).reshape(b, self.out_channels, *x.shape[2:])
        y = cropped(y, sides)
        if self.detailer is not None:
            y = self.detailer(whole, y, c)
        if self.shaping is not None:
            parts = y[:, : self.shaped.start], self.shaping(y[:, self.shaped]), y[:, self.shaped.stop :]
            y = torch.cat([part.to(x.dtype) for part in parts], 1)
        return y

    def _through(
        self,
        h: Float[Tensor, "b n d"],
        mods: tuple[Tensor, ...],
        through: Int64[Tensor, "b k"] | None,
        heard: Heard | None,
    ) -> Float[Tensor, "b n d"]:
        """All blocks; those between the first and the last, if there are any, on the tokens ``through`` alone."""
        index = None if through is None else through[:, :, None].expand(-1, -1, self.dim)
        around, last = h, self.depth - 1
        for k, block in enumerate(self.blocks):
            if index is not None and k == 1 < last:
                around, h = h, h.gather(1, index)
            if index is not None and k == last > 1:
                h = around.scatter(1, index, h)
            if heard is not None:
                h = h + self.reads[k](h, heard)
            h = block(h, mods[6 * k : 6 * k + 6])
        return h


def _uniform(layer: nn.Linear, fans: int, generator: torch.Generator) -> None:
    """Glorot & Bengio 2010, eq. 16, with a zero bias."""
    limit = math.sqrt(6 / fans)
    layer.weight.uniform_(-limit, limit, generator=generator)
    layer.bias.zero_()
