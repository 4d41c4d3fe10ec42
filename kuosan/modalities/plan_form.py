"""Plans as tokens: a grid of its own for every plan, with room to spare.

A state is a lattice of (R + 1) × (C + 1) places with three tokens each, place by place,

    what       of place (i, j), i, j ≥ 1:  0 outside, or 1 + ℓ for the label ℓ: a category and which of its rooms
               of (0, j) and (i, 0):       0, or n + s where column j or row i is s steps wide, n the labels
    right      what stands in its right edge: nothing, a door (begin, middle, end), a window, an opening
    below      the same of its lower edge                                                          (1)

so that the first row and column hold the grid's lines and the edges of the outer walls. Rooms of one category are
numbered as one meets them row by row. Rows and columns that a plan does not need are 0. A step is so many metres where
the scale is known, else a share of each plan's longer side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from kuosan.modalities.plan_layout import Ints, Layout, of_plan, to_plan
from kuosan.modalities.plan_raw import Plan
from kuosan.modalities.plan_simplify import simplified
from kuosan.modalities.plan_tidy import Laws, raster_order, tidy
from kuosan.modalities.plan_words import ROOM

MARKS = 6
VOICES = ("what", "right", "below")


class NoPlace(ValueError):
    """A plan that a form cannot say, and why."""


@dataclass(frozen=True)
class Form:
    """How plans become tokens.

    Args:
        rows, columns: R and C. categories: with how many rooms there may be of each.
        widest: steps of a row or column at most. side: steps of a plan's longer side, where there is no scale.
        step: metres of a step; None where there is no scale. door: steps of a door.
        links: how often a door or an opening leads from a category to another (or "outside"), of those that touch.
    """

    rows: int
    columns: int
    categories: Mapping[str, int]
    widest: int
    side: int
    step: float | None
    door: int
    links: Mapping[tuple[str, str], float]

    kind = "rooms on a grid of walls"
    exact = True
    end = 0

    @cached_property
    def labels(self) -> list[tuple[str, int]]:
        """A category and a number from 0, of every label."""
        return [(name, k) for name, count in self.categories.items() for k in range(count)]

    @property
    def lanes(self) -> int:
        """Tokens of a place."""
        return len(VOICES)

    @property
    def size(self) -> int:
        """Values of a token."""
        return max(MARKS, 1 + len(self.labels) + self.widest)

    @property
    def length(self) -> int:
        """Tokens of a state."""
        return (self.rows + 1) * (self.columns + 1) * len(VOICES)

    @cached_property
    def laws(self) -> Laws:
        return Laws(self.door, self.widest, self.likely)

    def likely(self, a: str, b: str) -> float:
        """How often a door leads from one to the other, of those that touch."""
        return self.links.get((min(a, b), max(a, b)), 0.0)

    @property
    def values(self) -> list[list[list[int]]]:
        """Ranges of values: none but 0, of a cell, of a line, of an edge."""
        n = len(self.labels)
        return [[[0, 0]], [[0, n]], [[0, 0], [n + 1, n + self.widest]], [[0, MARKS - 1]]]

    areas = ((0, 0, 0), (2, 0, 3), (2, 3, 0), (1, 3, 3))
    """Which of `values` the three tokens have at the corner, in the first row, in the first column, and elsewhere."""

    @cached_property
    def possible(self) -> Bool[Tensor, "l k"]:
        """Which values a token may have at all, by its place."""
        table = torch.zeros(len(self.values), self.size, dtype=torch.bool)
        for line, ranges in zip(table, self.values, strict=True):
            for first, last in ranges:
                line[first : last + 1] = True
        area = torch.full((self.rows + 1, self.columns + 1), 3)
        area[0], area[:, 0], area[0, 0] = 1, 2, 0
        return table[torch.tensor(self.areas)[area].flatten()]

    # -- layouts ------------------------------------------------------------------------------------------

    def tokens(self, layout: Layout) -> Ints:
        """The state of a tidy layout.

        Raises:
            NoPlace: it has more lines, or more rooms of a category, than the form.
        """
        (r, c), n = layout.size, len(self.labels)
        if r > self.rows or c > self.columns:
            raise NoPlace(f"it needs a grid of {r}×{c} lines, and there are {self.rows}×{self.columns}")
        out = np.zeros((self.rows + 1, self.columns + 1, len(VOICES)), dtype=np.int64)
        number = self._numbers(layout)
        out[1 : r + 1, 1 : c + 1, 0] = number[layout.rooms]
        out[0, 1 : c + 1, 0], out[1 : r + 1, 0, 0] = n + np.diff(layout.xs), n + np.diff(layout.ys)
        out[1 : r + 1, : c + 1, 1], out[: r + 1, 1 : c + 1, 2] = layout.upright, layout.level
        return out.ravel()

    def _numbers(self, layout: Layout) -> Ints:
        """The token of every room."""
        place = {label: k + 1 for k, label in enumerate(self.labels)}
        found, seen = np.zeros(len(layout.categories) + 1, dtype=np.int64), Counter[str]()
        for room in raster_order(layout.rooms).tolist():
            name = layout.categories[room - 1]
            if name not in self.categories:
                name = ROOM
            label = name, seen[name]
            if label not in place:
                most = self.categories.get(name, 0)
                raise NoPlace(f"it has more than {most} rooms that are a {name.replace('_', ' ')}")
            found[room] = place[label]
            seen[name] += 1
        return found

    def layout(self, tokens: Ints) -> Layout:
        """The tidy layout of any state whatsoever; masks are 0."""
        return tidy(self.as_drawn(tokens), self.laws)

    def as_drawn(self, tokens: Ints) -> Layout:
        """What a state says, before anything is mended; a label is a room."""
        lattice = np.where((tokens < 0) | (tokens >= self.size), 0, tokens)
        lattice = lattice.reshape(self.rows + 1, self.columns + 1, len(VOICES))
        n = len(self.labels)
        columns, rows = (np.clip(side[1:, 0] - n, 0, self.widest) for side in (lattice[0], lattice[:, 0]))
        js, is_ = np.flatnonzero(columns), np.flatnonzero(rows)
        if not len(js) or not len(is_):
            return _nothing(self.labels[0][0])
        what = lattice[1:, 1:, 0][np.ix_(is_, js)]
        what = np.where(what > n, 0, what)
        right, below = (np.where(lattice[..., k] < MARKS, lattice[..., k], 0) for k in (1, 2))
        upright = right[np.ix_(is_ + 1, np.concatenate([[0], js + 1]))]
        level = below[np.ix_(np.concatenate([[0], is_ + 1]), js + 1)]
        xs, ys = (np.concatenate([[0], np.cumsum(w[w > 0])]) for w in (columns, rows))
        return Layout(xs, ys, what, tuple(name for name, _ in self.labels), upright, level)

    # -- plans --------------------------------------------------------------------------------------------

    def unit(self, plan: Plan) -> float:
        """A step, in the plan's own unit.

        Raises:
            NoPlace: the form has a scale, and the plan none.
        """
        x0, y0, x1, y1 = plan.bounds
        if self.step is None:
            return plan.step or max(x1 - x0, y1 - y0) / self.side
        if plan.metres is None:
            raise NoPlace("nothing says how long its unit is, and the others have a scale: set data.scale")
        return self.step / plan.metres

    def read(self, plan: Plan) -> Layout:
        """The tidy layout of a plan, with no more lines than there are.

        Raises:
            NoPlace: it cannot be said.
        """
        found, things = of_plan(plan, self.unit(plan), self.door)
        if not found.categories:
            raise NoPlace("its rooms are smaller than a step of the grid")
        return simplified(tidy(found, self.laws, things), self.rows, self.columns, self.laws)

    def plan(self, layout: Layout) -> Plan:
        """What is written of a layout: in metres where there is a scale, else in steps."""
        return to_plan(layout, self.door, self.step or 1.0, 1.0 if self.step else None)

    # -- views --------------------------------------------------------------------------------------------

    def turned(self, tokens: Ints, view: int) -> Ints:
        """One of the eight views of a state: its mirror images (1: left to right, 2: upside down), turned (4) where
        there is room; its rooms are numbered anew."""
        lattice = tokens.reshape(self.rows + 1, self.columns + 1, len(VOICES))
        c, r = int((lattice[0, 1:, 0] > 0).sum()), int((lattice[1:, 0, 0] > 0).sum())
        what, right, below = (lattice[: r + 1, : c + 1, k] for k in range(len(VOICES)))
        if view & 1:
            what, right, below = _mirrored(what, 1), right[:, ::-1], _mirrored(below, 1)
            right, below = right, _ends(below)
        if view & 2:
            what, right, below = _mirrored(what, 0), _mirrored(right, 0), below[::-1]
            right = _ends(right)
        if view & 4 and c <= self.rows and r <= self.columns:
            what, right, below = what.T, below.T, right.T
        out = np.zeros_like(lattice)
        out[: what.shape[0], : what.shape[1]] = np.stack([what, right, below], -1)
        return self._renumbered(out).ravel()

    def _renumbered(self, lattice: Ints) -> Ints:
        cells = lattice[1:, 1:, 0]
        found, seen = np.arange(self.size), Counter[str]()
        place = {label: k + 1 for k, label in enumerate(self.labels)}
        for token in raster_order(cells).tolist():
            name = self.labels[token - 1][0]
            found[token] = place[name, seen[name]]
            seen[name] += 1
        lattice[1:, 1:, 0] = found[cells]
        return lattice

    # -- JSON ---------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows, "columns": self.columns, "categories": dict(self.categories), "widest": self.widest,
            "side": self.side, "step": self.step, "door": self.door,
            "links": [[a, b, p] for (a, b), p in self.links.items()],
        }  # fmt: skip

    @classmethod
    def of_json(cls, tree: Mapping[str, Any]) -> Form:
        step = tree["step"]
        return cls(
            int(tree["rows"]), int(tree["columns"]), {str(k): int(v) for k, v in tree["categories"].items()},
            int(tree["widest"]), int(tree["side"]), None if step is None else float(step), int(tree["door"]),
            {(str(a), str(b)): float(p) for a, b, p in tree["links"]},
        )  # fmt: skip


def _mirrored(values: Ints, axis: int) -> Ints:
    """Cells in the opposite order, what is before them in its place."""
    first, rest = np.split(values, [1], axis)
    return np.concatenate([first, np.flip(rest, axis)], axis)


def _ends(marks: Ints) -> Ints:
    """Doors at the beginning of an edge that runs the other way are at its end."""
    return np.array([0, 3, 2, 1, 4, 5])[marks]


def _nothing(category: str) -> Layout:
    side: NDArray[np.int64] = np.array([0, 1])
    none = np.zeros((1, 2), dtype=np.int64)
    return Layout(side, side, np.zeros((1, 1), dtype=np.int64), (category,), none, none.T.copy())
