"""Given parts in training: which entries of an example are clean and told so, so that samplers may give parts later.

A share of the examples have some of their entries given (`networks.given`), and their loss counts only the others.
Which ones is drawn anew for each, from families that hold what people ask for later:

    prefix, suffix   what comes first, or last, along one side: continuation forwards and backwards
    ends             both: in-betweening
    gap              everything but a stretch of one side: repair
    hole, box        everything but a box over all sides, or nothing but one: inpainting, outpainting
    frames           single places of one side, here and there: keyframes
    groups           whole groups of channels, of modalities that have any: one part of a body, one voice

and a quarter are two of these together. The side is "time" where there is one, else any. Short parts are as likely as
long ones are rare: a length is 1 + ⌊n u²⌋, so that a lone first frame is among them. Every choice is a function of
the example's own key. (Mixed masks: Voleti et al. 2022, MCVD; Tashiro et al. 2021, CSDI, for series.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kuosan.core.random import Seeds

ALONG = ("prefix", "suffix", "ends", "gap", "frames")  # one side
OVER = ("hole", "box")  # all sides
TWICE = 0.25  # of the examples with given parts have parts of two families


class Drawn(NamedTuple):
    """Of a batch: which examples have given parts, and their masks (all false where there are none)."""

    some: Bool[Tensor, " b"]
    mask: Bool[Tensor, "b c *sides"]


@dataclass(frozen=True)
class Masks:
    """What is given.

    Args:
        share: of the examples that have given parts.
        time: which of the sides is time; None where none is.
        groups: channels that belong together.
    """

    share: float = 0.0
    time: int | None = None
    groups: tuple[tuple[int, ...], ...] = ()

    def draw(self, like: Float[Tensor, "b c *sides"], seeds: Seeds) -> Drawn:
        """Of states of this shape, on the CPU; never all of one."""
        channels, sides = like.shape[1], tuple(like.shape[2:])
        numbers = 2 + max(2 + max(sides), 2 * len(sides), 1 + len(self.groups))
        u = seeds.uniform(torch.empty(len(like), 2 + 2 * numbers, dtype=torch.float64))
        some, both = u[:, 0] < self.share, u[:, 1] < TWICE
        mask = torch.zeros(like.shape, dtype=torch.bool)
        index = some.nonzero()[:, 0]
        if len(index):
            once, twice = (self._parts(channels, sides, part) for part in u[index, 2:].chunk(2, dim=1))
            found = once | (twice & _over(both[index], once))
            # Two may be all there is together, which leaves nothing to learn.
            mask[index] = torch.where(_over(_whole(found), once), once, found)
            some = some & mask.flatten(1).any(1) & ~_whole(mask)
            mask &= _over(some, mask)
        return Drawn(some, mask)

    def _parts(
        self, channels: int, sides: tuple[int, ...], u: Float[Tensor, "b k"]
    ) -> Bool[Tensor, "b c *sides"]:
        """Parts of one family for each example, by uniform numbers."""
        kinds = [*ALONG, *OVER, *(("groups",) if len(self.groups) > 1 else ())]
        kind, side, u = (u[:, 0] * len(kinds)).long(), (u[:, 1] * len(sides)).long(), u[:, 2:]
        side = side if self.time is None else torch.full_like(side, self.time)
        out = torch.zeros(len(u), channels, *sides, dtype=torch.bool)
        for k, name in enumerate(kinds):
            for axis, n in enumerate(sides):
                rows = ((kind == k) & (side == axis)).nonzero()[:, 0]
                if name == "groups":
                    part = self._channels(channels, u[rows]).reshape(-1, channels, *(1,) * len(sides))
                elif name in OVER:
                    inside = _box(sides, u[rows])[:, None]
                    part = inside if name == "box" else ~inside
                else:
                    part = _along(name, n, u[rows]).reshape(-1, 1, *_ones(axis, sides))
                out[rows] = part.expand(-1, channels, *sides)
        return out

    def _channels(self, channels: int, u: Float[Tensor, "b k"]) -> Bool[Tensor, "b c"]:
        """Some of the groups, one or more, and not all."""
        n = len(self.groups)
        count = 1 + (u[:, 0] * (n - 1)).long()
        chosen = u[:, 1 : 1 + n].argsort(1).argsort(1) < count[:, None]
        of = torch.zeros(n, channels, dtype=torch.bool)
        for i, group in enumerate(self.groups):
            of[i, list(group)] = True
        return (chosen[:, :, None] & of).any(1)


NOTHING = Masks()


def _length(u: Tensor, n: int) -> Int64[Tensor, " b"]:
    """1 … n, short ones more often."""
    return 1 + (n * u.square()).long()


def _over(flags: Bool[Tensor, " b"], like: Tensor) -> Tensor:
    """A flag for each example, to be combined with masks."""
    return flags.reshape(-1, *(1,) * (like.ndim - 1))


def _whole(mask: Bool[Tensor, "b ..."]) -> Bool[Tensor, " b"]:
    return mask.flatten(1).all(1)


def _ones(axis: int, sides: tuple[int, ...]) -> list[int]:
    """The shape of what is told along one side alone."""
    return [n if k == axis else 1 for k, n in enumerate(sides)]


def _along(name: str, n: int, u: Float[Tensor, "b k"]) -> Bool[Tensor, "b n"]:
    """A family along one side of ``n`` places."""
    place, first, second = torch.arange(n), u[:, :1], u[:, 1:2]
    most = max(1, n - 1)
    match name:
        case "prefix":
            return place < _length(first, most)
        case "suffix":
            return place >= n - _length(first, most)
        case "ends":
            half = max(1, (n - 1) // 2)
            return (place < _length(first, half)) | (place >= n - _length(second, half))
        case "gap":
            gap = _length(first, most)
            start = ((n - gap + 1) * second).long()
            return (place < start) | (place >= start + gap)
        case _:  # frames: places with the share u², and one at least
            chosen = u[:, 2 : 2 + n]
            return (chosen < first.square()) | (chosen == chosen.amin(1, keepdim=True))


def _box(sides: tuple[int, ...], u: Float[Tensor, "b k"]) -> Bool[Tensor, "b *sides"]:
    """A box, from a quarter of each side to all but one place of it."""
    out = torch.ones(len(u), *sides, dtype=torch.bool)
    for k, n in enumerate(sides):
        least, most = max(1, n // 4), max(1, n - 1)
        size = least + ((most - least + 1) * u[:, 2 * k, None]).long()
        start = ((n - size + 1) * u[:, 2 * k + 1, None]).long()
        place = torch.arange(n)
        out &= ((place >= start) & (place < start + size)).reshape(-1, *_ones(k, sides))
    return out
