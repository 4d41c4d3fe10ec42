"""What held-out music costs under models that need no training: bits per token, by counting.

    voice_unigram          p(x_sv) of each voice v
    voice_bigram           p(x_sv | x_{s-1,v})
    voice_bigram_beat      p(x_sv | x_{s-1,v}, place of s in its cycle)                                     (1)

each smoothed by the one above it with weight c, p(x | y) = (n(y, x) + c p(x))/(n(y) + c), and the first by one count
for all tokens; c is the best of a few on a tenth of the training pieces. Two lines of counting are hard to beat where
most tokens hold a note: what does not beat them has not learned music.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

NAMES = ("voice_unigram", "voice_bigram", "voice_bigram_beat")
WEIGHTS = (0.5, 2.0, 8.0, 32.0)

Piece = tuple[Int64[Tensor, "s v"], int]  # tokens, and steps of a cycle


def music_baselines(train: Sequence[Piece], test: Sequence[Piece], size: int) -> dict[str, float]:
    """Bits per token of ``test`` under each; pieces are whole, and tokens below ``size``.

    Raises:
        ValueError: nothing to count or to measure.
    """
    if not train or not test:
        raise ValueError("baselines need training pieces and held-out ones")
    kept, tried = (
        (train[len(train) // 10 :], train[: len(train) // 10]) if len(train) >= 20 else (train, train)
    )
    best = min(WEIGHTS, key=lambda c: _bits(kept, tried, size, c)[NAMES[2]])
    return _bits(train, test, size, best)


def _bits(train: Sequence[Piece], test: Sequence[Piece], size: int, c: float) -> dict[str, float]:
    voices = train[0][0].shape[1]
    cycles = sorted({cycle for _, cycle in (*train, *test)})
    first = dict(zip(cycles, torch.tensor([0, *cycles]).cumsum(0).tolist(), strict=False))
    total, nats = 0, dict.fromkeys(NAMES, 0.0)
    for v in range(voices):
        uni = torch.zeros(size, dtype=torch.float64)
        bi = torch.zeros(size + 1, size, dtype=torch.float64)  # the last row: at the beginning
        beat = torch.zeros(sum(cycles), size + 1, size, dtype=torch.float64)
        for x, before, place in (_places(piece, v, size, first) for piece in train):
            uni += torch.bincount(x, minlength=size)
            bi.index_put_((before, x), torch.ones(1, dtype=torch.float64), accumulate=True)
            beat.index_put_((place, before, x), torch.ones(1, dtype=torch.float64), accumulate=True)
        p = (uni + 1) / (uni.sum() + size)
        q = (bi + c * p) / (bi.sum(1, keepdim=True) + c)
        r = (beat + c * q) / (beat.sum(2, keepdim=True) + c)
        for x, before, place in (_places(piece, v, size, first) for piece in test):
            nats[NAMES[0]] -= float(p[x].log().sum())
            nats[NAMES[1]] -= float(q[before, x].log().sum())
            nats[NAMES[2]] -= float(r[place, before, x].log().sum())
            total += len(x)
    return {name: value / total / math.log(2) for name, value in nats.items()}


def _places(piece: Piece, v: int, size: int, first: dict[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens of a voice, the one before each, and each one's place in its cycle."""
    x, cycle = piece[0][:, v], piece[1]
    before = torch.cat([torch.tensor([size]), x[:-1]])
    return x, before, first[cycle] + torch.arange(len(x)) % cycle
