"""How far music is from the nearest in training, in whatever key that stands.

The distance of two windows is the share of their tokens that differ,

    d(x, y) = min_k (1/TV) Σ [x_sv ≠ turn_k(y)_sv],        k = -6 … 6 semitones,                        (1)

so that a copy in another key is a copy; 0 is one, and of two pieces that have nothing to do with each other much still
agrees, as most tokens hold notes and hold them on the same beats.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

TURNS = range(-6, 7)
CELLS = 2**26  # comparisons at a time


def nearest_windows(
    x: Int64[Tensor, "n l"], training: Int64[Tensor, "m l"], notes: int, turns: range = TURNS
) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """The training window that is nearest to each window, and eq. 1.

    Args:
        notes: the first token that is a note; a semitone is two tokens.
        turns: transpositions of training that are tried.
    """
    best = torch.full((len(x),), 2.0)
    where = torch.zeros(len(x), dtype=torch.int64)
    x16, y16 = x.to(torch.int16), training.to(torch.int16)
    for k in turns:
        turned = torch.where(y16 >= notes, y16 + 2 * k, y16)
        rows = max(1, CELLS // max(1, turned.numel()))
        for begin in range(0, len(x), rows):
            part = x16[begin : begin + rows]
            differ = (part[:, None] != turned[None]).sum(2).double() / x.shape[1]
            least, at = differ.min(1)
            here = slice(begin, begin + len(part))
            nearer = least < best[here]
            where[here] = torch.where(nearer, at, where[here])
            best[here] = torch.where(nearer, least.to(best), best[here])
    return where, best.double()
