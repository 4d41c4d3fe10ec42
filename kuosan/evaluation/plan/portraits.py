"""What is measured of one plan: its rooms and their areas, who is joined to whom, and a small picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from kuosan.evaluation.plan.graphs import Graph
from kuosan.modalities.plan_form import Form
from kuosan.modalities.plan_layout import Ints, Layout
from kuosan.modalities.plan_tidy import OUTSIDE, flaws, links
from kuosan.modalities.plan_words import SHAFT

PIXELS = 24  # of a side of the small picture


@dataclass(frozen=True)
class Portrait:
    """Of one plan: areas in squares of a step; `picture` is (24, 24) categories by number, 0 outside."""

    rooms: tuple[str, ...]
    areas: tuple[float, ...]
    graph: Graph
    picture: NDArray[np.uint8]
    flaws: frozenset[str]

    @property
    def area(self) -> float:
        return sum(self.areas)


def portrait(form: Form, tokens: Ints) -> Portrait:
    """Of a state."""
    drawn = form.as_drawn(tokens)
    layout = form.layout(tokens)
    rooms = [(k, name) for k, name in enumerate(layout.categories, 1) if name != SHAFT]
    place = {0: 0} | {k: i for i, (k, _) in enumerate(rooms, 1)}
    pairs = {
        (min(place[a], place[b]), max(place[a], place[b]))
        for a, b in links(layout, form.door) if a in place and b in place
    }  # fmt: skip
    graph = Graph((OUTSIDE, *(name for _, name in rooms)), frozenset(pairs))
    areas = layout.areas()
    names = list(form.categories)
    return Portrait(
        tuple(name for _, name in rooms), tuple(float(areas[k]) for k, _ in rooms), graph,
        picture(layout, names), frozenset(flaws(drawn, form.door)),
    )  # fmt: skip


def picture(layout: Layout, names: Sequence[str]) -> NDArray[np.uint8]:
    """A square picture whose side is the plan's longer one, with the plan in its middle; categories by place in
    ``names``."""
    wide, high = int(layout.xs[-1]), int(layout.ys[-1])
    side = max(wide, high)
    at = (np.arange(PIXELS) + 0.5) * side / PIXELS
    columns, rows = at - (side - wide) / 2, at - (side - high) / 2
    j = np.searchsorted(layout.xs, columns, side="right") - 1
    i = np.searchsorted(layout.ys, rows, side="right") - 1
    inside = ((j >= 0) & (j < layout.size[1]))[None] & ((i >= 0) & (i < layout.size[0]))[:, None]
    number = np.array(
        [0, *(1 + names.index(n) if n in names else 0 for n in layout.categories)], dtype=np.uint8
    )
    grid = number[layout.rooms][np.clip(i, 0, layout.size[0] - 1)][:, np.clip(j, 0, layout.size[1] - 1)]
    return np.where(inside, grid, 0).astype(np.uint8)


def views(grid: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """All eight, (8, 24, 24)."""
    turned = [grid, grid.T]
    return np.stack([v for g in turned for v in (g, g[::-1], g[:, ::-1], g[::-1, ::-1])])


def nearest_pictures(
    samples: Sequence[Portrait], train: Sequence[Portrait]
) -> tuple[Tensor, Float[Tensor, " n"]]:
    """The nearest training plan of each, and the share of what either covers that differs, in the best of 8 views."""
    theirs = np.stack([p.picture for p in train]).reshape(len(train), -1)
    index, distance = [], []
    for one in samples:
        best, where = np.inf, 0
        for view in views(one.picture).reshape(8, -1):
            differ = (theirs != view).sum(1)
            either = np.maximum(1, ((theirs > 0) | (view > 0)).sum(1))
            share = differ / either
            k = int(share.argmin())
            if share[k] < best:
                best, where = float(share[k]), k
        index.append(where)
        distance.append(best)
    return torch.tensor(index, dtype=torch.int64), torch.tensor(distance, dtype=torch.float64)
