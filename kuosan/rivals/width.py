"""As large as another model: the widths at which a rival has a wanted number of parameters.

Every level's width is the same multiple k of its share, rounded to whole groups of channels,

    width_l = g · max(1, round( k · share_l ))                                                    (1)

so that the count rises with k, and the k whose count comes closest is found by halving. Groups of g = 8 channels are
what processors multiply fastest; where none of those comes within `CLOSE` of the count, 4, 2 and 1 are tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

from kuosan.networks.residual_unet import SHORTEST

CLOSE = 0.05
MOST_LEVELS, MOST_SHARE = 5, 8
MOST = 1 << 14  # steps of k


def parameters(model: nn.Module) -> int:
    """Numbers that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def level_count(sides: Sequence[int]) -> int:
    """Levels until no side can be halved, five at most."""
    return min(MOST_LEVELS, 1 + max(0, math.ceil(math.log2((max(sides) + 1) / (2 * SHORTEST)))))


def shares(levels: int) -> list[int]:
    """1, 2, 4, 8, 8: what the levels' widths are to each other."""
    return [min(1 << level, MOST_SHARE) for level in range(levels)]


def solve_widths(count: Callable[[Sequence[int]], int], target: int, sides: Sequence[int]) -> list[int]:
    """Eq. 1: the widths whose ``count`` comes closest to ``target``."""
    share = shares(level_count(sides))

    def widths(k: int, group: int) -> list[int]:
        return [group * max(1, round(k * s / share[-1])) for s in share]

    def off(w: Sequence[int]) -> float:
        return abs(math.log(count(w) / target))

    best = widths(1, 1)
    for group in (8, 4, 2, 1):
        low, high = 1, 2
        while high < MOST and count(widths(high, group)) < target:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if count(widths(middle, group)) < target else (low, middle)
        best = min((best, widths(low, group), widths(high, group)), key=off)
        if off(best) < CLOSE:
            break
    return best
