"""A transformer over tokens: bidirectional, causal, or causal between blocks.

The trunk is that of `transformer`, with rotary positions (Su et al. 2021) in place of fixed ones, so that what is
learned at one place of a window holds at any other, and windows of other lengths can be read. Every block has six
vectors (shift, scale and gate of attention and of the MLP) that are parameters; conditions, and the time where the
process needs it, add to them (adaLN-Zero, Peebles & Xie 2023). A network of masked tokens needs no time: how many
are masked says it (Ou et al. 2025; Sahoo et al. 2024).

Which positions a token sees is the network's *order*:

    block None   all of them: masked or uniform noise, in any order
    block 1      those before it, with what they are: the input is shifted by one (autoregressive)
    block b      all earlier blocks as they are, and its own block as it is at the time (Arriola et al. 2025)

In training a network with blocks of b > 1 reads two copies of a text at once, the noisy and the clean one: noisy
blocks look at themselves and at earlier clean blocks, clean ones at themselves and at earlier clean ones. So one pass
trains all blocks, as if everything before each were known.

The embedding of the tokens is also the output layer (Press & Wolf 2017), with a bias, and one more row for the mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from kuosan.networks.attention import attention, widened
from kuosan.networks.conditions import ConditionTable
from kuosan.networks.dropout import Dropout, reseed
from kuosan.networks.transformer import EPSILON, LABEL_FEATURES, Attend, Block, label_frequencies

ROTARY_BASE = 10_000.0
PIECE = 256  # positions that scores are asked for are filled up to a multiple of this


@lru_cache(8)
def rotations(length: int, dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos (n, d) of the angles p · base^(-2i/d), of positions p and channels i and i + d/2; and their sin, negative in
    the first half."""
    with torch.inference_mode(False):
        omega = ROTARY_BASE ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
        angle = torch.arange(length, dtype=torch.float64)[:, None] * omega
        cos, sin = angle.cos().float().to(device), angle.sin().float().to(device)
        return torch.cat([cos, cos], 1), torch.cat([-sin, sin], 1)


def rotate(x: Float[Tensor, "b h n d"], cos: Tensor, sin: Tensor) -> Float[Tensor, "b h n d"]:
    """Each pair of channels turned by its position's angle: products of two tokens depend on their distance alone."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


@lru_cache(8)
def axial(counts: tuple[int, ...], dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """`rotations` of the places of a grid, line by line: an equal part of the pairs of channels turns by each side."""
    pairs, axes = dim // 2, len(counts)
    halves = []
    with torch.inference_mode(False):
        for k in (0, 1):  # cos, sin
            parts = []
            for axis, n in enumerate(counts):
                own = pairs // axes + (axis < pairs % axes)
                part = rotations(n, 2 * own, device)[k][:, :own]
                line = [1] * axes
                line[axis] = n
                parts.append(part.view(*line, own).expand(*counts, own))
            half = torch.cat(parts, -1).flatten(0, axes - 1)
            halves.append(torch.cat([half, half if k == 0 else -half], 1))
    return halves[0], halves[1]


@lru_cache(8)
def block_mask(length: int, block: int, two: bool, device: torch.device) -> Bool[Tensor, "n n"]:
    """Who sees whom: of one text, or of a noisy and a clean copy, one after the other."""
    with torch.inference_mode(False):
        of = torch.arange(length, device=device) // block
        until = of[:, None] >= of[None, :]
        if not two:
            return until
        own, before = of[:, None] == of[None, :], of[:, None] > of[None, :]
        return torch.cat([torch.cat([own, before], 1), torch.cat([torch.zeros_like(own), until], 1)])


def turning(
    cos: Float[Tensor, "n d"],
    sin: Float[Tensor, "n d"],
    mask: Bool[Tensor, "n n"] | None = None,
    causal: bool = False,
) -> Attend:
    """Attention between queries and keys that are turned by their places, see `rotations` and `axial`."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = widened(q, k, v)
        q, k = (rotate(part, cos.to(q), sin.to(q)) for part in (q, k))
        return attention(q, k, v, mask, causal)

    return attend


class TokenBlock(Block):
    """A block of the trunk."""

    def activate(self, u: Tensor) -> Tensor:
        """Squared ReLU (So et al. 2021): no worse than GELU, which on a CPU is a fifth of a step."""
        return F.relu(u).square()


class TokenTransformer(nn.Module):
    """Scores of every value of every token.

    Args:
        size: values of a token; ``size`` itself is the mask (or, for block 1, what comes before the first token).
        dim, depth, heads: of the trunk; dim a multiple of twice the heads.
        block: the order, see the module; 0 stands for None.
        timed: whether the time is an input.
        places: how many positions have a learned vector of their own besides the rotary one, 0 for none: where items
            are whole documents, position says something.
        conditions: column → number of values n; index n means null.
        dropout: rate after attention and inside the MLP, in training mode.
        generator: source of the initial weights.
    """

    frequencies: Tensor

    def __init__(
        self,
        size: int,
        *,
        dim: int,
        depth: int,
        heads: int,
        block: int = 0,
        timed: bool = False,
        places: int = 0,
        conditions: Mapping[str, int] | None = None,
        dropout: float = 0.0,
        length: int = 0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if dim % (2 * heads):
            raise ValueError(f"dim must be a multiple of twice the heads, got dim={dim}, heads={heads}")
        if min(size, depth, heads) < 1 or block < 0:
            raise ValueError("size, depth and heads must be at least 1, and block not negative")
        self.size, self.dim, self.depth, self.heads = size, dim, depth, heads
        self.block, self.timed, self.length = block, timed, length
        self.tokens = nn.Parameter(torch.empty(size + 1, dim))
        self.bias = nn.Parameter(torch.zeros(size))
        self.places = nn.Parameter(torch.empty(places, dim)) if places else None
        still = torch.zeros(6 * depth + 2, dim)
        still[1::3] = 1  # scales of layer norms
        still[2 : 6 * depth : 3] = (
            1 / (2 * depth) ** 0.5
        )  # gates: the sum of all branches has the input's size
        self.still = nn.Parameter(still)
        with torch.device("meta"):  # no default initialisation: it would draw from the global generator
            blocks = [TokenBlock(dim, heads, dropout) for _ in range(depth)]
            self.label1 = nn.Linear(LABEL_FEATURES, dim) if timed else None
            self.modulation = nn.Linear(dim, (6 * depth + 2) * dim) if timed or conditions else None
        self.blocks = nn.ModuleList(blocks)
        for layer in (*blocks, self.label1, self.modulation):
            if layer is not None:
                layer.to_empty(device="cpu")
        self.table = ConditionTable(conditions or {}, dim)
        self.register_buffer("frequencies", label_frequencies(), persistent=False)
        self.drops = [m for m in self.modules() if isinstance(m, Dropout) and m.rate > 0]
        self._initialise(blocks, generator)

    @torch.no_grad()
    def _initialise(self, blocks: list[TokenBlock], generator: torch.Generator) -> None:
        for block in blocks:
            for layer in (block.qkv, block.proj, block.fc1, block.fc2):
                layer.weight.normal_(0, layer.in_features**-0.5, generator=generator)
                layer.bias.zero_()
        self.tokens.normal_(0, 0.02, generator=generator)
        self.table.rows.normal_(0, 0.02, generator=generator)
        if self.places is not None:
            self.places.normal_(0, 0.02, generator=generator)
        if self.label1 is not None:
            self.label1.weight.normal_(0, 0.02, generator=generator)
            self.label1.bias.zero_()
        if self.modulation is not None:
            self.modulation.weight.zero_()
            self.modulation.bias.zero_()

    @torch.no_grad()
    def begin_with(self, counts: Float[Tensor, " k"]) -> None:
        """Start from how often each token occurs: a network that knows nothing else says that."""
        self.bias.copy_((counts + 1e-3 * counts.sum() / len(counts)).log() - counts.sum().log())

    def forward(
        self,
        x: Int64[Tensor, "b n"],
        t: Float[Tensor, "b"],
        clean: Int64[Tensor, "b n"] | None = None,
        only: Bool[Tensor, "b n"] | None = None,
        **cond: Int64[Tensor, "b"],
    ) -> Float[Tensor, "... k"]:
        """Unnormalised log-probabilities.

        Args:
            x: tokens, masks included.
            t: time per text; seen where the network is timed, and the seed of dropout.
            clean: the text itself, in training with blocks of more than one.
            only: positions that are asked for; the scores of these alone come back, (m, size), row by row.
            cond: one index per text and column; a missing column is null.
        """
        n = x.shape[1]
        if self.block == 1:
            x = torch.cat([torch.full_like(x[:, :1], self.size), x[:, :-1]], 1)
        two = clean is not None and self.block > 1
        if two:
            assert clean is not None
            x = torch.cat([x, clean], 1)
        h = F.embedding(x, self.tokens)
        if self.places is not None:
            known = self.places[: min(n, len(self.places))]
            known = F.pad(known, (0, 0, 0, n - len(known)))
            h = h + (known.repeat(2, 1) if two else known)
        # from the embedding's scale to that of a layer's output
        h, shift, scale = self._trunk(h * self.dim**0.5 * 0.25, t, cond, self._attention(n, two, h.device))
        if two:
            h = h[:, :n]
        if only is None:
            return self._scores(h, shift, scale)
        places = only.flatten().nonzero()[:, 0]
        # Few lengths: for each one that is new, matrix libraries prepare, and keep, code of its own.
        padded = F.pad(places, (0, -len(places) % PIECE))
        if len(shift) > 1:
            shift, scale = (m[padded // n, 0] for m in (shift, scale))
        else:
            shift, scale = shift[0], scale[0]
        return self._scores(h.flatten(0, 1)[padded], shift, scale)[: len(places)]

    def _trunk(
        self, h: Float[Tensor, "b n d"], t: Float[Tensor, "b"], cond: Mapping[str, Tensor], attend: Attend
    ) -> tuple[Float[Tensor, "b n d"], Tensor, Tensor]:
        """What the blocks make of ``h``, and the shift and scale of the last norm."""
        if self.drops and self.training:
            reseed(self.drops, t)
        mods = self._modulations(t, cond)
        for k, block in enumerate(self.blocks):
            h = block(h, mods[6 * k : 6 * k + 6], attend)
        shift, scale = (m.to(h.dtype) for m in mods[-2:])
        return h, shift, scale

    def _scores(self, h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        h = torch.addcmul(shift, F.layer_norm(h, (self.dim,), eps=EPSILON), scale)
        return F.linear(h, self.tokens[: self.size], self.bias)

    def _modulations(self, t: Tensor, cond: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Six vectors per block and two for the output, (1 or b, 1, d) each."""
        if self.modulation is None:
            return self.still[:, None, None].unbind(0)
        c = self.table(cond, len(t))
        if self.label1 is not None:
            angle = 1000 * t[:, None].to(self.frequencies) * self.frequencies
            c = c + self.label1(torch.cat([angle.cos(), angle.sin()], 1))
        m = self.modulation(F.silu(c)).view(len(t), -1, self.dim)
        return (m + self.still).unsqueeze(2).unbind(1)

    def _attention(self, n: int, two: bool, device: torch.device) -> Attend:
        cos, sin = rotations(n, self.dim // self.heads, device)
        if two:
            cos, sin = torch.cat([cos, cos]), torch.cat([sin, sin])
        mask = block_mask(n, self.block, two, device) if self.block > 1 else None
        return turning(cos, sin, mask, self.block == 1)
