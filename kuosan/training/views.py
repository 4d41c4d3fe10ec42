"""Views: what a step of training shows of each picture, to learn as much in less time.

Two ways, apart or together, each for any network that knows what it was shown (`networks.View`):

    crops    A share of the examples, those with the least noise, are crops, of half the side (two of three) or a
             quarter (the least noise of all), anywhere in the picture; the network is told where. What it learns of
             textures and parts from a crop costs 4 or 16 times less than from the whole (Patch Diffusion, Wang et al.
             2023, sec. 3, who draw them at all times alike). Where there is little noise, what lies near a pixel says
             nearly all that can be said of it; under much noise only the whole does, and the whole is shown.
    route    A share of the tokens of a transformer skip all blocks but the first and the last and come back beside the
             others as they were, so that every token is still predicted: no mask, no second network (TREAD, Krause et
             al. 2025).

Both end before the training does (`until`), so that what samplers will ask, the whole picture by all tokens, is what
is learned last (SPRINT, Park et al. 2025). Every choice is a function of the example's own key and time: neither the
batch nor its order changes what an example shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import Time
from kuosan.networks.sides import counts_of
from kuosan.networks.view import WHOLE, View

SIDES = (1 / 4, 1 / 2, 1.0)  # of what is shown, over the whole's, from the least noise on
SMALLEST = 1 / 3  # of the crops


class Part(NamedTuple):
    """Examples of one size: their numbers in the batch, and what they show."""

    numbers: Int64[Tensor, " n"]
    x: Float[Tensor, "n c *sides"]
    view: View


@dataclass(frozen=True)
class Views:
    """What is shown.

    Args:
        crops: share of the examples that are crops.
        route: share of the tokens that skip the inner blocks.
        until: progress from which on everything is shown.
    """

    crops: float = 0.0
    route: float = 0.0
    until: float = 1.0

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return not (self.crops or self.route)

    def at(self, progress: float) -> Views:
        """The views at this share of the training."""
        return self if progress < self.until or self.everything else EVERYTHING

    def parts(self, x: Float[Tensor, "b c *sides"], u: Time, seeds: Seeds, network: Any) -> Iterator[Part]:
        """The batch in views, by size; each example once.

        Args:
            u: quantiles (b,) of their times, 0 without noise.
            network: shown them; `Transformer` and `UNet` say their ``grain``.
        """
        grain, sides = network.grain, tuple(x.shape[2:])
        edges = self.crops * torch.tensor([SMALLEST, 1.0], dtype=u.dtype)
        sizes = torch.bucketize(u.cpu(), edges, right=True)
        for i, part in enumerate(SIDES):
            index = (sizes == i).nonzero()[:, 0]
            if not len(index):
                continue
            mine = seeds.take(index.tolist())
            size = tuple(side_of(side, part, g) for side, g in zip(sides, grain, strict=True))
            shown, view = x[index.to(x.device)], WHOLE
            if size != sides:
                corner = _corners(mine, sides, size, grain)
                shown = torch.stack(
                    [
                        one[(slice(None), *(slice(i, i + n) for i, n in zip(at, size, strict=True)))]
                        for one, at in zip(shown, corner.tolist(), strict=True)
                    ]
                )
                view = view._replace(corner=corner.to(x.device))
            if self.route:
                tokens = math.prod(counts_of(size, grain))
                view = view._replace(through=kept(mine, tokens, self.route).to(x.device))
            yield Part(index, shown, view)


EVERYTHING = Views()


def side_of(side: int, part: float, grain: int) -> int:
    """The side of a crop: about ``part`` of the whole side, in multiples of the network's grain."""
    return side if part == 1 else min(side, max(1, round(side * part / grain)) * grain)


def kept(seeds: Seeds, tokens: int, route: float) -> Int64[Tensor, "b k"]:
    """For each example, the tokens that go through every block: at least one, each as likely as any other."""
    k = max(1, round((1 - route) * tokens))
    order = seeds.fold("route").uniform(torch.empty(len(seeds), tokens, dtype=torch.float64)).argsort(1)
    return order[:, :k].sort(1).values


def _corners(
    seeds: Seeds, whole: Sequence[int], size: Sequence[int], grain: Sequence[int]
) -> Int64[Tensor, "b s"]:
    """Any place on the grain, each as likely as any other."""
    places = torch.tensor([(n - m) // g + 1 for n, m, g in zip(whole, size, grain, strict=True)])
    u = seeds.fold("corner").uniform(torch.empty(len(seeds), len(places), dtype=torch.float64))
    return (u * places).floor().long().clamp_max(places - 1) * torch.tensor(grain)
