"""Captions as a network hears them: a small transformer over their tokens, and attention to what it makes of them.

A caption of n tokens, with a learned token 0 in front of it, comes out as n + 1 states s_i of length d,

    s = LN(blocks(E[tokens] + positions)),      pooled = P · mean_i s_i                                (1)

The pooled state joins the label's vector, beside the rows of classes, and says what the whole is about; in every block
(of a U-Net, wherever it attends) places look at the single states, which say what goes with what:

    h ← h + W · Attention(q = LN(h), k = s, v = s)                                                     (2)

(Rombach et al. 2022, section 3.3; Chen et al. 2024, PixArt-α, section 2.3, both with a pretrained encoder.) W starts at
zero.  A hidden caption has token 0 alone, so the unconditional model is part of the same network, and what is
left behind a text, END, is neither attended to nor counted: longer padding changes nothing.

With ``encoder``, E are the states of somebody else's text encoder, which stays as it is (`networks.frozen`).

The tokens come in beside the other conditions, (b, length), under the name of the column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from kuosan.networks.attention import attention
from kuosan.networks.frozen import Frozen

EPSILON = 1e-6  # in layer norms
SPREAD = 0.3  # of the initial embeddings: half of the positions'
GROUPS = (
    8  # of a batch by length, as a few long captions would leave the others mostly padding: 0.4 of the time
)


class Heard(NamedTuple):
    """Of a batch of captions: states, which of them there are, and the pooled state."""

    states: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b 1 1 n"]
    pooled: Float[Tensor, "b e"]


class CaptionEncoder(nn.Module):
    """Eq. (1).

    Args:
        out: length of the pooled state.
        name: of the condition. end: the token that is left behind a text.
        size: of the vocabulary. length: tokens of a caption at most.
        dim, depth, heads: of the blocks.
        encoder: what `Frozen` takes; without it, E is learned.
        generator: source of the initial weights.
    """

    positions: Tensor

    def __init__(
        self,
        out: int,
        *,
        name: str,
        end: int,
        size: int,
        length: int,
        dim: int,
        depth: int,
        heads: int,
        encoder: Mapping[str, Any] | None = None,
        generator: torch.Generator,
    ) -> None:
        from kuosan.networks.transformer import Block, positions  # which hears captions itself

        super().__init__()
        self.name, self.end, self.dim, self.heads = name, end, dim, heads
        self.frozen = Frozen(**encoder) if encoder else None
        with torch.device("meta"):  # no default initialisation: it would draw from the global generator
            blocks = [Block(dim, heads, 0.0) for _ in range(depth)]
            self.pool = nn.Linear(dim, out)
            self.widen = nn.Linear(self.frozen.width, dim) if self.frozen else None
        self.blocks = nn.ModuleList(blocks)
        self.to_empty(device="cpu")
        self.first = nn.Parameter(torch.zeros(dim))
        self.tokens = nn.Parameter(torch.empty(0 if self.frozen else size, dim))
        still = torch.zeros(6 * depth, dim)
        still[1::3] = 1  # scales of layer norms
        still[2::3] = (1 / (2 * depth)) ** 0.5  # gates: the sum of all branches has the input's size
        self.still = nn.Parameter(still)
        self.register_buffer("positions", positions((length + 1,), dim), persistent=False)
        self._initialise(generator)

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.normal_(0, layer.in_features**-0.5, generator=generator)
                layer.bias.zero_()
        self.tokens.normal_(0, SPREAD, generator=generator)

    def forward(self, tokens: Int64[Tensor, "b l"]) -> Heard:
        """What there is to hear of these captions."""
        if tokens.device.type != "cpu" or not len(
            tokens
        ):  # on an accelerator a look would wait for the device
            return self._heard(tokens)
        lengths = (tokens != self.end).sum(1)
        order = lengths.argsort()
        parts = []
        for group in order.chunk(GROUPS):
            parts.append(self._heard(tokens[group, : int(lengths[group[-1]])]))
        longest = parts[-1].states.shape[1]
        back = order.argsort()
        return Heard(
            torch.cat([F.pad(p.states, (0, 0, 0, longest - p.states.shape[1])) for p in parts])[back],
            torch.cat([F.pad(p.mask, (0, longest - p.mask.shape[-1])) for p in parts])[back],
            torch.cat([p.pooled for p in parts])[back],
        )

    def _heard(self, tokens: Int64[Tensor, "b l"]) -> Heard:
        """The same, all as long as the longest."""
        known = tokens != self.end
        if self.frozen is None:
            h = F.embedding(tokens, self.tokens)
        else:
            assert self.widen is not None
            h = self.widen(self.frozen(tokens, self.end))
        h = torch.cat([self.first.expand(len(h), 1, -1), h], 1) + self.positions[: h.shape[1] + 1]
        there = F.pad(known, (1, 0), value=True)
        mask = there[:, None, None]
        mods = self.still[:, None, None].unbind(0)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attention(q, k, v, mask)

        for k, block in enumerate(self.blocks):
            h = block(h, mods[6 * k : 6 * k + 6], attend)
        h = F.layer_norm(h, (self.dim,), eps=EPSILON)
        mean = (h * there[:, :, None]).sum(1) / there.sum(1, keepdim=True)
        return Heard(h, mask, self.pool(mean))

    def hear(self, cond: Mapping[str, Tensor], like: Tensor) -> tuple[Heard, dict[str, Tensor]]:
        """The caption among the conditions of a batch ``like`` this one, hidden where it is missing, and the others."""
        rest = {name: value for name, value in cond.items() if name != self.name}
        tokens = cond.get(self.name)
        if tokens is None:
            tokens = torch.full((len(like), 1), self.end, device=like.device)
        return self(tokens), rest


class Reading(nn.Module):
    """Eq. (2): what is added to h.

    Args:
        dim, heads: of the places. of: length of a caption's states.
    """

    def __init__(self, dim: int, heads: int, of: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(of, 2 * dim), nn.Linear(dim, dim)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        for layer in (self.q, self.kv):
            layer.weight.normal_(0, layer.in_features**-0.5, generator=generator)
            layer.bias.zero_()
        self.out.weight.zero_()
        self.out.bias.zero_()

    def forward(self, h: Float[Tensor, "b n d"], heard: Heard) -> Float[Tensor, "b n d"]:
        b, n, d = h.shape
        q = self.q(F.layer_norm(h, (d,), eps=EPSILON)).view(b, n, self.heads, -1).transpose(1, 2)
        k, v = (
            self.kv(heard.states).view(b, -1, 2, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        )
        return self.out(attention(q, k, v, heard.mask).transpose(1, 2).reshape(b, n, d))
