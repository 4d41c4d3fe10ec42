"""A transformer over music: one position per step of time, in which all voices sound.

Step p of a window holds one token of each of V voices, x_p1 … x_pV. They are read together and written together,

    h_p = Σ_v E_v[x_pv] + B[p mod c],        scores of voice v at p = E_v · LN(h'_p) + b_v                     (1)

with the trunk of `tokens` between h and h': attention along time alone, which is V² times cheaper than one position
per token, so that a wider trunk fits the same time. All hidden tokens are predicted independently anyway; that a
chord's voices agree is the work of the steps of sampling.

B is the *beat*: where in a cycle of c steps (a bar, or a beat where no bar is known) a step lies. Windows begin at the
beginning of a cycle. Where items have metres of their own, a condition, the *clock*, tells which cycle is theirs; an
unknown one has a vector of its own for all steps.

Values of a token are silence (0), what is after the end (1), and for each pitch a pair: the note begins (2, 4, …), or
is held (3, 5, …). What follows from that for one token, given those just before and after it in its voice, need not be
learned and never goes wrong: nothing is held that does not sound before, what is held after begins or is held here, and
after the end comes nothing. Where no note of the data is struck again while it sounds (grids of pitches cannot say so),
none begins where its pitch sounds just before. Scores of what contradicts its neighbours are -inf (all of them stay
where both neighbours contradict each other).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from kuosan.networks.tokens import TokenTransformer


class VoiceTransformer(TokenTransformer):
    """Scores of every value of every voice's token.

    Args:
        size: values of a token, of any voice; ``size`` itself is the mask.
        voices: V. States are (b, T·V), step by step.
        cycles: steps of a cycle, of every value of the condition ``clock``; of all items where that is "".
        strict: whether scores of what contradicts its neighbours are -inf.
        repeats: whether a note may begin where the same pitch sounds just before.
        length: T·V.
        trunk: dim, depth, heads, conditions, dropout and generator, as of `TokenTransformer`.
    """

    after: Tensor
    before: Tensor

    def __init__(
        self,
        size: int,
        *,
        voices: int,
        cycles: Sequence[int],
        clock: str = "",
        strict: bool = True,
        repeats: bool = True,
        length: int,
        **trunk: Any,
    ) -> None:
        if min(size, voices, *cycles) < 1:
            raise ValueError("size, voices and cycles must be at least 1")
        if len(cycles) != (trunk.get("conditions") or {}).get(clock, 1):
            raise ValueError(f"there must be one cycle for each value of {clock or 'no clock'}, got {cycles}")
        super().__init__(voices * (size + 1) - 1, length=length // voices, **trunk)
        self.size, self.voices, self.clock, self.strict = size, voices, clock, strict
        self.cycles = (*cycles, 1) if clock else tuple(cycles)  # the last is that of an unknown metre
        self.bias = nn.Parameter(torch.zeros(voices, size))
        self.beats = nn.Parameter(torch.empty(sum(self.cycles), self.dim))
        after, before = neighbours(size, repeats)
        self.register_buffer("after", after, persistent=False)
        self.register_buffer("before", before, persistent=False)
        with torch.no_grad():
            self.beats.normal_(0, 0.02, generator=trunk["generator"])

    @torch.no_grad()
    def begin_with(self, counts: Float[Tensor, " k"]) -> None:
        """Start from how often each token occurs, in all voices alike."""
        self.bias.copy_((counts + 1e-3 * counts.sum() / len(counts)).log() - counts.sum().log())

    def beat(self, steps: int, clock: Int64[Tensor, " b"] | None) -> Int64[Tensor, "b p"]:
        """The row of ``beats`` of every step, of each item or of all, (1 or b, steps)."""
        cycles = torch.tensor(self.cycles, device=self.beats.device)
        which = cycles.new_full((1,), len(self.cycles) - 1) if clock is None else clock
        step = torch.arange(steps, device=cycles.device)
        return (cycles.cumsum(0) - cycles)[which][:, None] + step % cycles[which][:, None]

    def forward(
        self,
        x: Int64[Tensor, "b n"],
        t: Float[Tensor, "b"],
        clean: Int64[Tensor, "b n"] | None = None,
        only: Bool[Tensor, "b n"] | None = None,
        **cond: Int64[Tensor, "b"],
    ) -> Float[Tensor, "... k"]:
        """Unnormalised log-probabilities, see `TokenTransformer.forward`."""
        first = torch.arange(self.voices, device=x.device) * (self.size + 1)
        places = x.view(len(x), -1, self.voices) + first
        h = F.embedding(places, self.tokens).sum(2)
        h = h + F.embedding(self.beat(h.shape[1], cond.get(self.clock)), self.beats)
        attend = self._attention(h.shape[1], False, h.device)
        h, shift, scale = self._trunk(h * (self.dim / self.voices) ** 0.5 * 0.25, t, cond, attend)
        scores = self._scores(h, shift, scale).view(*x.shape, self.size)
        if self.strict:
            possible = self.possible(x.view(len(x), -1, self.voices)).view(*scores.shape)
            scores = scores.masked_fill(~possible, -torch.inf)
        return scores if only is None else scores[only]

    def possible(self, x: Int64[Tensor, "b p v"]) -> Bool[Tensor, "b p v k"]:
        """Which values do not contradict the tokens before and after; see the module."""
        edge = torch.full_like(x[:, :1], self.size)  # unknown
        left, right = torch.cat([edge, x[:, :-1]], 1), torch.cat([x[:, 1:], edge], 1)
        fits = self.after[left] & self.before[right]
        return fits | ~fits.any(-1, keepdim=True)

    def _scores(self, h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        h = torch.addcmul(shift, F.layer_norm(h, (self.dim,)), scale)
        table = self.tokens.view(self.voices, self.size + 1, self.dim)[:, : self.size]
        return F.linear(h, table.flatten(0, 1), self.bias.flatten())


def neighbours(size: int, repeats: bool = True) -> tuple[Bool[Tensor, "m k"], Bool[Tensor, "m k"]]:
    """Which values (k = size) may follow each, and which may stand before it; all of what is unknown, the last row."""
    value, other = torch.arange(size), torch.arange(size + 1)[:, None]
    pitch, held, end = (value - 2) // 2, (value >= 2) & (value % 2 == 1), value == 1
    same = (other >= 2) & (value >= 2) & ((other - 2) // 2 == pitch)
    after = ~((held & ~same) | ((other == 1) & ~end))
    before = ~(((other >= 2) & (other % 2 == 1) & ~same) | ((other != 1) & end))
    if not repeats:
        after &= ~((value % 2 == 0) & same)
        before &= ~((other % 2 == 0) & same)
    after[-1] = before[-1] = True
    return after, before
