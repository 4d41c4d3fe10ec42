"""The one form that all shapes of a data set are brought to, and how it is chosen.

A state is (c, depth, height, width) in [−1, 1].  Its first channel is the signed distance in cells, negative inside,
over `reach`; of painted blocks three more are red, green and blue, which go on outside as the nearest inside has them.

    value = round((x + 1) · 127.5) of 255                                                              (1)

is how a number is kept: a distance to within reach/255 cells, a colour exactly.

Blocks are kept block by block, in a box that 95 % of them fit (of at most `BLOCKS` a side unless told); what is larger
is shrunk, block by block.  Surfaces stand in at most `CELLS` cells a side, with `MARGIN` cells around them: all on one
scale, so that a table stays larger than a cup, where nine of ten are at least `SMALL` times as long as the longest;
else each as large as fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kuosan.errors import UserError
from kuosan.modalities.base import Choice
from kuosan.modalities.shape_frame import OF_GRID, Frame
from kuosan.modalities.shape_vox import COLOURS

CELLS, BLOCKS, MOST_CELLS = 24, 32, 128
MARGIN, STEP, FEWEST_CELLS = 2, 4, 8
SMALL = 0.4
REACH, BLOCK_REACH = 3.0, 1.5
SUFFIX = {True: ".vox", False: ".glb"}


@dataclass(frozen=True)
class Seen:
    """What the choice of a form needs to know of one shape."""

    kind: str
    extents: tuple[float, float, float]  # x, y, z
    cell: float = 1.0  # of blocks
    painted: bool = False
    points: int = 0  # of a cloud


@dataclass(frozen=True)
class ShapeForm:
    """Grids of `sides` (depth, height, width) cells, `cell` units wide; `each` says that shapes were scaled to fit, and
    `cell` is the usual one.  `up` and `suffix` are about files; `mirror` names the axes (x, y) of views."""

    sides: tuple[int, int, int]
    cell: float
    blocks: bool = False
    each: bool = False
    palette: tuple[tuple[int, int, int], ...] = ()
    up: str = "auto"
    suffix: str = ".glb"
    mirror: str = ""

    @property
    def frame(self) -> Frame:
        """Where shapes stand."""
        return Frame(self.sides, self.cell, 0.0 if self.blocks else float(MARGIN))

    @property
    def reach(self) -> float:
        """The distance in cells that is 1 in a state."""
        return BLOCK_REACH if self.blocks else REACH

    @property
    def channels(self) -> int:
        return 4 if self.palette else 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "sides": list(self.sides),
            "palette": [list(colour) for colour in self.palette],
        }

    @classmethod
    def of_json(cls, tree: dict[str, Any]) -> ShapeForm:
        palette = tuple((int(r), int(g), int(b)) for r, g, b in tree["palette"])
        depth, height, width = (int(side) for side in tree["sides"])
        return cls(**{**tree, "sides": (depth, height, width), "palette": palette})

    def nearest(self, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Colours (n, 3) as the nearest of the palette."""
        table = np.array(self.palette, np.int64)
        found, place = np.unique(packed(colours), return_inverse=True)
        apart = ((unpacked(found)[:, None] - table[None]) ** 2).sum(2)
        return table[apart.argmin(1)].astype(np.uint8)[place.ravel()]


def choose_form(
    seen: Sequence[Seen],
    colours: Counter[int],
    suffixes: Counter[str],
    *,
    side: int | None = None,
    cells: int = CELLS,
    scale: str = "auto",
    up: str = "auto",
    most: int = COLOURS,
) -> tuple[ShapeForm, list[Choice]]:
    """The form of these shapes, and why; `colours` counts what `packed` numbers, of which `most` are kept.

    Raises `UserError` for a side that cannot be.
    """
    if side is not None and not FEWEST_CELLS <= side <= MOST_CELLS:
        raise UserError(
            f"A grid of {side} cells a side cannot be; give data.size from {FEWEST_CELLS} to {MOST_CELLS}."
        )
    blocks = 2 * sum(s.kind == "blocks" for s in seen) > len(seen)
    if blocks:
        form, choices = _of_blocks(seen, side)
        if all(s.painted for s in seen):
            form, more = _painted(form, colours, most)
            choices += more
    else:
        form, choices = _of_surfaces(seen, side or cells, scale)
    suffix = ".stl" if suffixes and suffixes.most_common(1)[0][0] == ".stl" else SUFFIX[bool(form.palette)]
    return ShapeForm(**{**asdict(form), "palette": form.palette, "up": up, "suffix": suffix}), choices


def packed(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Colours as whole numbers."""
    return colours.astype(np.int64) @ np.array([65536, 256, 1])


def unpacked(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The colours (n, 3) of `packed`."""
    return numbers[:, None] // np.array([65536, 256, 1]) % 256


def _of_blocks(seen: Sequence[Seen], side: int | None) -> tuple[ShapeForm, list[Choice]]:
    cell = Counter(s.cell for s in seen if s.kind == "blocks").most_common(1)[0][0]
    sizes = np.array([s.extents for s in seen]) / cell
    limit = side or BLOCKS
    most = np.minimum(np.ceil(np.quantile(sizes, 0.95, axis=0) - 1e-6), limit)
    sides = _sides(np.maximum(most, 1))
    shrunk = int((np.round(sizes) > [sides[OF_GRID.index(a)] for a in range(3)]).any(1).sum())
    why = "one cell for one voxel" + (
        f"; {shrunk:,} of {len(seen):,} models are larger, and shrunk" if shrunk else ""
    )
    return ShapeForm(sides, cell, blocks=True), [("grid", _size(sides), why)]


def _of_surfaces(seen: Sequence[Seen], side: int, scale: str) -> tuple[ShapeForm, list[Choice]]:
    extents = np.array([s.extents for s in seen])
    longest = extents.max(1)
    room = side - 2 * MARGIN
    largest = float(np.quantile(longest, 0.98, method="higher"))
    small = float(np.quantile(longest, 0.1)) < SMALL * largest
    each = scale == "each" or (scale == "auto" and small)
    cells = extents / (longest[:, None] if each else np.maximum(largest, longest[:, None])) * room
    sides = _sides(np.ceil(cells.max(0) - 1e-6) + 2 * MARGIN)
    cell = float(np.median(longest)) / room if each else largest / room
    asked = "" if scale == "auto" else "asked for; "
    why = (
        f"{asked}sizes differ too much for one scale (a tenth would be less than {SMALL * room:.0f} cells long): all "
        "are made as large as fits, and written in the usual size"
        if each
        else f"{asked}sizes are kept: a cell is {cell:.4g} units of the files wide"
    )
    grid = f"surfaces in at most {room + 2 * MARGIN} cells a side, {MARGIN} of them free on each"
    return ShapeForm(sides, cell, each=each), [
        ("grid", _size(sides), grid), ("scale", "each" if each else "common", why)
    ]  # fmt: skip


def _painted(form: ShapeForm, colours: Counter[int], most: int) -> tuple[ShapeForm, list[Choice]]:
    """With all colours, or with those that stand best for them."""
    table = unpacked(np.array(sorted(colours)))
    why = "all that occur"
    if len(table) > most:
        from PIL import Image

        counts = np.array([colours[c] for c in sorted(colours)], np.float64)
        repeats = np.maximum(1, np.rint(counts / counts.sum() * 65536)).astype(np.int64)
        row = np.repeat(table, repeats, 0).astype(np.uint8)[None]
        small = Image.fromarray(row).quantize(most, Image.Quantize.MEDIANCUT).getpalette() or []
        table = np.unique(np.array(small).reshape(-1, 3)[:most], axis=0)
        limit = f"a .vox file holds {COLOURS}" if most == COLOURS else "each is a value to learn"
        why = f"of {len(colours):,} that occur: {limit}"
    palette = tuple((int(r), int(g), int(b)) for r, g, b in table)
    return ShapeForm(form.sides, form.cell, True, palette=palette), [("colours", f"{len(palette)}", why)]


def _sides(sizes: NDArray[np.float64]) -> tuple[int, int, int]:
    """Sizes along x, y, z as whole patches (depth, height, width)."""
    whole = (-(-sizes.astype(np.int64) // STEP) * STEP)[list(OF_GRID)]
    return int(whole[0]), int(whole[1]), int(whole[2])


def _size(sides: tuple[int, int, int]) -> str:
    return f"{sides[2]}×{sides[0]}×{sides[1]}"
