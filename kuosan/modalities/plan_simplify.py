"""Fewer lines where a plan has more than there is room for: what is lost is the area that changes hands.

Dropping a column gives its width to a neighbour; its cost is the area of its cells that then belong to another room,

    cost(j) = min over the neighbours k of  Σ_i h_i w_j [room(i, j) ≠ room(i, k)]                  (1)

and the cheapest is dropped until there are few enough.
"""

from __future__ import annotations

import numpy as np

from kuosan.modalities.plan_layout import Layout, placed
from kuosan.modalities.plan_tidy import Laws, tidy


def simplified(layout: Layout, rows: int, columns: int, laws: Laws) -> Layout:
    """The tidy layout of at most so many rows and columns that keeps most of the area."""
    for _ in range(sum(layout.size)):
        if layout.size[0] <= rows and layout.size[1] <= columns:
            break
        layout = tidy(_dropped(layout, layout.size[1] > columns), laws)
    return layout


def _dropped(layout: Layout, upright: bool) -> Layout:
    """Without its cheapest column (row)."""
    rooms = layout.rooms if upright else layout.rooms.T
    across, along = (layout.xs, layout.ys) if upright else (layout.ys, layout.xs)
    widths, heights = np.diff(across), np.diff(along)
    padded = np.pad(rooms, ((0, 0), (1, 1)))
    costs = np.stack([
        (heights[:, None] * widths * (rooms != near)).sum(0) for near in (padded[:, :-2], padded[:, 2:])
    ])  # fmt: skip
    side, j = np.unravel_index(int(costs.argmin()), costs.shape)
    line = int(j) + int(side)  # the line that goes: to the neighbour on that side
    kept = np.delete(np.arange(len(across)), line)
    others = np.delete(np.arange(rooms.shape[1]), int(j))
    along_edges, across_edges = (
        (layout.level, layout.upright) if upright else (layout.upright.T, layout.level.T)
    )
    parts = across[kept], rooms[:, others], across_edges[:, kept], along_edges[:, others]
    xs, grid, lines, edges = parts
    if upright:
        return Layout(xs, layout.ys, grid, layout.categories, lines, edges)
    return Layout(layout.xs, xs, grid.T, layout.categories, edges.T, lines.T)


def area_kept(plan_area: float, layout: Layout, unit: float) -> float:
    """Share of a plan's area that its layout has, never above 1."""
    mine = float(layout.areas()[1:].sum()) * unit**2
    return min(mine, plan_area) / max(mine, plan_area, 1e-12)


def doors_kept(before: int, layout: Layout, width: int) -> float:
    """Doors and windows of a layout, of those that there were."""
    return len(placed(layout, width)) / max(1, before)
