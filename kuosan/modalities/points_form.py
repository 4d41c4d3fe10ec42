"""The one form that clouds of points are brought to, and how it is chosen.

A state is (3, n): x, y and z of n points of a surface, in no order,

    position = centre + spread · x                                                                     (1)

with the mean of all positions as the centre and their standard deviation as the spread, so that states have about the
scale of the noise.  Positions stay as they are in the files where all shapes lie about the same place there: so a part
of a shape lies where it belongs.  Where they do not, every shape is made to stand with its middle on the origin.  Sizes
are chosen as of surfaces (`shape_form`): all on one scale, or each as long as most.

How many points there are is a choice: a cloud that has more is thinned, differently each time that training sees it,
and of one that has fewer some are there twice.  States are compared with each other by their `density`, which does not
know of an order either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from kuosan.errors import UserError
from kuosan.modalities.base import Choice
from kuosan.modalities.shape_form import SMALL, Seen
from kuosan.modalities.shape_frame import OF_GRID, Points

POINTS, FEWEST, MOST = 512, 32, 8192
KEPT = 4  # times as many points are kept of each shape as a state has, for views
FULL = 0.25  # of the clouds may have fewer points than a state
APART = 0.25  # of their length that shapes' middles may lie apart and still be in their places
Bounds = tuple[Points, Points]  # the lowest and the highest x, y and z
CELLS = 16  # of the longest side of what points are counted in


@dataclass(frozen=True)
class PointsForm:
    """`count` points, eq. 1; `standing` shapes on the origin, and where `longest` is not 0 each so long.  `low` and
    `high` are the ends of the data in states (x, y, z); `up` and `suffix` are about files, `mirror` names the axes
    (x, y) of views."""

    count: int
    centre: tuple[float, float, float]
    spread: float
    standing: bool
    longest: float
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    up: str = "auto"
    suffix: str = ".ply"
    mirror: str = ""

    def to_json(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def of_json(cls, tree: dict[str, Any]) -> PointsForm:
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in tree.items()}
        return cls(**known)

    def states(self, points: Points, bounds: Bounds) -> NDArray[np.float32]:
        """Points (n, 3) of a shape with these ends as a state (3, n): eq. 1."""
        placed = stood(points, bounds, self.longest) if self.standing else points
        return ((placed - np.array(self.centre)) / self.spread).T.astype(np.float32)

    def positions(self, x: Float[Tensor, "3 n"]) -> Points:
        """Undoes `states`, but for where a standing shape came from."""
        return x.double().numpy().T * self.spread + np.array(self.centre)

    def grid(self, cells: int = CELLS) -> tuple[tuple[int, int, int], float]:
        """Sides (depth, height, width) of a grid over the data, and how wide its cells are, in states."""
        size = np.array(self.high) - np.array(self.low)
        cell = float(size.max()) / cells
        sides = np.maximum(np.ceil(size / cell - 1e-6).astype(int), 1)[list(OF_GRID)]
        return (int(sides[0]), int(sides[1]), int(sides[2])), cell

    def density(self, x: Float[Tensor, "b 3 n"], cells: int = CELLS) -> Float[Tensor, "b 1 d h w"]:
        """Square roots of how many points there are in each cell, of n times as many points as cells on average 1.

        A point counts for the eight cells around it, by its distance from their centres along each axis; one beyond
        the grid for those at its edge.  The root makes what chance does to counts alike in full and in empty cells
        (Bartlett 1936).
        """
        sides, cell = self.grid(cells)
        shape = torch.tensor(sides)
        low = torch.tensor(self.low)[list(OF_GRID)]
        at = ((x.cpu().float()[:, list(OF_GRID)] - low[:, None]) / cell - 0.5).clamp_min(0)
        at = torch.minimum(at, (shape - 1)[:, None].float())
        first = at.floor().long()
        part = at - first
        total = torch.zeros(len(x), math.prod(sides))
        for corner in range(8):
            ends = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1])[:, None]
            place = torch.minimum(first + ends, (shape - 1)[:, None])
            weight = torch.where(ends > 0, part, 1 - part).prod(1)
            number = (place[:, 0] * sides[1] + place[:, 1]) * sides[2] + place[:, 2]
            total.scatter_add_(1, number, weight)
        return (total * (shape.prod() / x.shape[2])).sqrt().view(len(x), 1, *sides)


def stood(points: Points, bounds: Bounds, longest: float = 0.0) -> Points:
    """Points of a shape with these ends, with its middle above the origin and its lowest end at 0, and so long where
    that is asked."""
    low, high = bounds
    scale = longest / max(float((high - low).max()), 1e-12) if longest else 1.0
    return (points - [*((low + high) / 2)[:2], low[2]]) * scale


def points_of(seen: Sequence[Seen], asked: int | None, usual: int) -> tuple[int, int, Choice]:
    """How many points a state has, how many are kept of each shape, and why.

    Raises `UserError` for a number that cannot be.
    """
    if asked is not None and not FEWEST <= asked <= MOST:
        raise UserError(
            f"A cloud of {asked} points cannot be a shape here; give data.size from {FEWEST} to {MOST}."
        )
    clouds = [s.points for s in seen if s.kind == "points"]
    there = int(np.quantile(clouds, FULL, method="lower")) if clouds else KEPT * MOST
    count = asked or min(usual, there)
    few = sum(n < count for n in clouds)
    why = (
        "asked for"
        if asked
        else "what shapes need to be known by"
        if count == usual
        else "what three of four have"
    )
    why += (
        f"; {few:,} of {len(seen):,} clouds have fewer, and some of their points are there twice"
        if few
        else ""
    )
    return count, max(count, min(KEPT * count, there)), ("points", f"{count:,}", why)


def choose_form(
    clouds: Sequence[Points], bounds: Sequence[Bounds], count: int, *, scale: str = "auto", up: str = "auto"
) -> tuple[PointsForm, list[Choice]]:
    """The form of the shapes that these points are of, with these ends, and why."""
    lows, highs = (np.array(ends) for ends in zip(*bounds, strict=True))
    lengths = (highs - lows).max(1)
    largest = float(np.quantile(lengths, 0.98, method="higher"))
    small = float(np.quantile(lengths, 0.1)) < SMALL * largest
    each = scale == "each" or (scale == "auto" and small)
    longest = float(np.median(lengths)) if each else 0.0
    middles = np.concatenate([(lows + highs)[:, :2] / 2, lows[:, 2:]], 1)
    apart = float(np.abs(middles - np.median(middles, 0)).max()) / float(np.median(lengths))
    standing = each or apart > APART
    everything = np.concatenate(
        [
            stood(points, ends, longest) if standing else points
            for points, ends in zip(clouds, bounds, strict=True)
        ]
    )
    centre = everything.mean(0) * ([0, 0, 1] if standing else [1, 1, 1])
    spread = float(np.sqrt(((everything - centre) ** 2).mean()))
    low, high = ((end - centre) / spread for end in (everything.min(0), everything.max(0)))
    place = (
        f"on the origin: in the files they lie up to {apart:.2g} times their length apart"
        if apart > APART
        else "on the origin, to be made of one length"
        if each
        else "as in the files, where all lie about one place"
    )
    asked = "" if scale == "auto" else "asked for; "
    why = f"{asked}sizes differ too much for one scale" if each and small else f"{asked}sizes are "
    why += ("" if small else "made alike") if each else "kept"
    form = PointsForm(
        count, _three(centre), spread, standing, longest, _three(low), _three(high), up,
    )  # fmt: skip
    return form, [("place", "standing" if standing else "as it is", place),
                  ("scale", "each" if each else "common", why)]  # fmt: skip


def _three(numbers: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = numbers.tolist()
    return x, y, z
