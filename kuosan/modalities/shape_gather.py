"""All shapes of a folder in one form, holding one at a time besides the grids.

The first pass reads every file and notes what the choice of a form needs (`shape_form.Seen`); the second reads again
and brings each shape into the form.  Points beside anything solid are left out, and so is what has no colour beside
mostly painted blocks: both are mostly the same things again, and would be learned as if they were others.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kuosan.errors import UserError
from kuosan.modalities.base import Choice, Gathered, Modality, Skip, Unreadable
from kuosan.modalities.folder import CLASS, Entry, Folder
from kuosan.modalities.shape_arrays import Item, read_items
from kuosan.modalities.shape_form import CELLS, Seen, ShapeForm, choose_form, packed
from kuosan.modalities.shape_mesh_file import UP, read_mesh
from kuosan.modalities.shape_raw import Blocks, Shape
from kuosan.modalities.shape_rays import TooDense
from kuosan.modalities.shape_vox import read_vox
from kuosan.modalities.tables import Row

if TYPE_CHECKING:
    from kuosan.modalities.shape import ShapeModality

ALIKE = 0.75  # shared volume of a shape and its mirror image, on average, from which mirrors are views
_SIDED = ("left", "right", "links", "rechts", "gauche", "droite", "左", "右")


@dataclass(frozen=True)
class Known:
    """A shape of the first pass: where it is and what is known of it, without itself."""

    name: str
    entry: Entry
    place: int
    seen: Seen
    digest: bytes
    mended: str
    columns: Row


def read_shapes(path: Path, up: str = "auto") -> Iterator[Item]:
    """The shapes of a file, one at a time.  Raises `Unreadable`."""
    suffix = path.suffix.lower()
    if suffix == ".vox":
        items = read_vox(path)
        digits = len(str(len(items) - 1))
        for i, (positions, colours) in enumerate(items):
            yield Item("" if len(items) == 1 else f"{i:0{digits}d}", Blocks.of(positions, colours))
    elif suffix in UP:
        yield Item("", read_mesh(path, up))
    else:
        yield from read_items(path, up)


def gather_shapes(
    folder: Folder,
    kind: type[ShapeModality],
    like: ShapeModality | None = None,
    *,
    side: int | None = None,
    cells: int = CELLS,
    scale: str = "auto",
    up: str = "auto",
    mirror: str = "auto",
    colours: int | None = None,
) -> Gathered:
    """Every shape of `folder` in the form of `like`, or in one chosen from the data.

    Args:
        side: most cells of a grid, and `cells` the same of surfaces where nobody says so.
        scale: common, each or auto (`shape_form`).
        up: the axis of meshes and arrays that is up, x, y or z, or auto: what their formats say.
        mirror: axes along which training mirrors shapes, x, y, xy, none or auto.
        colours: most colours of painted blocks; unless given, as many as `kind` has where nobody says so.

    Raises `UserError` where there is no shape, or an option cannot be.
    """
    check_options(scale, up, mirror)
    up = like.form.up if like else up
    known, paints, failed, left_out = survey(folder, up)
    if like is None:
        files = files_of(known)
        form, choices = choose_form(
            [k.seen for k in known], paints, files, side=side, cells=cells, scale=scale, up=up,
            most=colours or kind.colours,
        )  # fmt: skip
        choices += about_up(files, up)
    else:
        form, choices = like.form, []
    choices += [*about_meshes(known), *_about_clouds(known)]
    storage, known, more = _filled(known, form, kind, up)
    failed += more
    if not known:
        raise UserError(
            f"No shape in {folder.source} can be brought on a grid ({failed[0][1]}); mend it and try again."
        )
    if like is None:
        axes, why = choose_mirror(known, mirror, lambda: _shared(storage))
        form = replace(form, mirror=axes)
        choices.append(("mirror", axes or "none", why))
    return gathered(kind(form), torch.from_numpy(storage), known, failed, left_out, choices)


def check_options(scale: str, up: str, mirror: str) -> None:
    """UserError where one cannot be."""
    for name, value, able in (
        ("scale", scale, ("auto", "common", "each")), ("up", up, ("auto", "x", "y", "z")),
        ("mirror", mirror, ("auto", "none", "x", "y", "xy")),
    ):  # fmt: skip
        if value not in able:
            raise UserError(f"data.{name} cannot be {value!r}: choose one of {', '.join(able)}.")


def files_of(known: Sequence[Known]) -> Counter[str]:
    """How many shapes are in files of each kind."""
    return Counter(k.entry.path.suffix.lower() for k in known)


def gathered(
    modality: Modality[Any], storage: Tensor, known: Sequence[Known], failed: list[Skip], left_out: list[Skip],
    choices: list[Choice],
) -> Gathered:  # fmt: skip
    """What was found, with what is known of each shape."""
    keys = dict.fromkeys(key for k in known for key in k.columns)
    return Gathered(
        modality, storage, [k.digest for k in known], [k.name for k in known],
        {key: [k.columns.get(key) for k in known] for key in keys}, frozenset({CLASS}),
        [k.entry.side for k in known], [k.entry.caption for k in known], _histograms(known), failed, left_out, choices,
    )  # fmt: skip


def survey(folder: Folder, up: str) -> tuple[list[Known], Counter[int], list[Skip], list[Skip]]:
    """The shapes that go together, how often colours occur, what cannot be read and what was left out.

    Raises `UserError` where there is none.
    """
    everything, colours, failed = _survey(folder, up)
    known, left_out = _alike(everything)
    if not known:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in (failed + left_out)[:3])
        raise UserError(
            f"No shape in {folder.source} can be read ({reasons or 'there is none'}); mend it and try again."
        )
    return known, colours, failed, left_out


def _survey(folder: Folder, up: str) -> tuple[list[Known], Counter[int], list[Skip]]:
    """Every shape, how often colours occur, and what cannot be read."""
    known: list[Known] = []
    colours: Counter[int] = Counter()
    failed: list[Skip] = []
    for entry in folder.entries:
        try:
            for place, item in enumerate(read_shapes(entry.path, up)):
                shape, name = item.shape, f"{entry.name}#{item.name}" if item.name else entry.name
                x, y, z = (float(e) for e in shape.extents)
                if not max(x, y, z) > 0:
                    failed.append((name, "it is empty"))
                    continue
                paint = shape.painted
                seen = Seen(shape.kind, (x, y, z), shape.unit, paint is not None, shape.count)
                if paint is not None:
                    found, counts = np.unique(packed(paint), return_counts=True)
                    colours.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
                columns = dict(entry.columns) | item.columns
                known.append(Known(name, entry, place, seen, shape.digest(), shape.mended, columns))
        except Unreadable as error:
            failed.append((entry.name, error.reason))
    order = sorted(range(len(known)), key=lambda i: known[i].name)
    return [known[i] for i in order], colours, failed


def _alike(known: list[Known]) -> tuple[list[Known], list[Skip]]:
    """The shapes that go together, and the others by file with the reason."""
    solid = [k for k in known if k.seen.kind != "points"]
    kept, why = (
        (solid, "points beside shapes with a surface; give them alone to use them") if solid else (known, "")
    )
    out = [(k, why) for k in known if k.seen.kind == "points" and solid]
    painted = [k for k in kept if k.seen.painted]
    if 2 * len(painted) > len(kept):
        out += [
            (k, "no colours, beside painted blocks; give it alone to use it")
            for k in kept
            if not k.seen.painted
        ]
        kept = painted
    counts = Counter((k.entry.name, reason) for k, reason in out)
    return kept, [
        (f"{name}: {n:,} shapes" if n > 1 else name, reason) for (name, reason), n in counts.items()
    ]


def _filled(
    known: list[Known], form: ShapeForm, kind: type[ShapeModality], up: str
) -> tuple[NDArray[np.uint8], list[Known], list[Skip]]:
    """The second pass: storage (n, c, depth, height, width), without what cannot be brought on a grid."""
    modality = kind(form)
    storage = np.empty((len(known), form.channels, *form.sides), np.uint8)
    failed: list[Skip] = []
    bad: set[int] = set()
    for i, shape in again(known, up):
        try:
            storage[i] = modality.fit(shape)
        except TooDense as error:
            bad.add(i)
            failed.append((known[i].name, f"{error}; decimate it"))
    keep = [i for i in range(len(known)) if i not in bad]
    return storage[keep], [known[i] for i in keep], failed


def again(known: Sequence[Known], up: str) -> Iterator[tuple[int, Shape]]:
    """The shapes of the first pass with their places in it, one file after the other."""
    wanted: dict[Path, dict[int, int]] = {}
    for i, k in enumerate(known):
        wanted.setdefault(k.entry.path, {})[k.place] = i
    for path, places in wanted.items():
        for place, item in enumerate(read_shapes(path, up)):
            if place in places:
                yield places[place], item.shape


def about_up(files: Counter[str], up: str) -> list[Choice]:
    if up != "auto":
        return [("up", up, "asked for")]
    found = {suffix: UP.get(suffix, "z") for suffix in files}
    said = {axis: ", ".join(s for s in found if found[s] == axis) for axis in sorted(set(found.values()))}
    return [
        ("up", axis, f"the convention of {kinds}; change it with data.up") for axis, kinds in said.items()
    ]


def about_meshes(known: Sequence[Known]) -> list[Choice]:
    """How many meshes were not sound, and what became of them."""
    meshes = [k for k in known if k.seen.kind == "surface"]
    words = {
        "holes filled": "small holes were filled",
        "open": "they have holes: what most rays, and then a flood from outside, find inside counts as solid",
        "turned": "faces that looked inwards were turned",
    }
    found = []
    for what, why in words.items():
        count = sum(what in k.mended.split(", ") for k in meshes)
        if count:
            found.append((f"meshes: {what}", f"{count:,} of {len(meshes):,}", why))
    return found


def _about_clouds(known: Sequence[Known]) -> list[Choice]:
    clouds = sum(k.seen.kind == "points" for k in known)
    why = (
        "they have no surface: each point becomes a small ball, and what the balls enclose is solid; data.form=points "
        "keeps them as they are"
    )
    return [("points", f"{clouds:,} clouds", why)] if clouds else []


def choose_mirror(
    known: Sequence[Known], asked: str, shares: Callable[[], dict[str, float]]
) -> tuple[str, str]:
    """The axes along which views are mirrored, and why; ``shares`` says what shapes share with their mirror images."""
    words = {value for k in known for value in k.columns.values() if value}
    if asked != "auto":
        return ("" if asked == "none" else asked), "asked for"
    if any(side in word.lower().replace("_", " ").split() for word in words for side in _SIDED):
        return "", "conditions speak of left and right"
    shared = shares()
    axes = "".join(axis for axis, value in shared.items() if value >= ALIKE)
    told = ", ".join(f"{value:.0%} along {axis}" for axis, value in shared.items())
    return axes, f"what shapes share with their mirror images: {told}"


def _shared(storage: NDArray[np.uint8]) -> dict[str, float]:
    inside = storage[:, 0] < 128
    shared = {}
    for axis, place in (("x", 3), ("y", 1)):
        other = np.flip(inside, place)
        either = (inside | other).sum((1, 2, 3))
        shared[axis] = float(((inside & other).sum((1, 2, 3)) / np.maximum(either, 1)).mean())
    return shared


def _histograms(known: Sequence[Known]) -> dict[str, dict[str, int]]:
    halvings = [math.floor(math.log2(max(k.seen.extents))) for k in known]
    sizes = {f"{2.0**h:.4g}–{2.0 ** (h + 1):.4g}": halvings.count(h) for h in sorted(set(halvings))}
    kinds = Counter("painted blocks" if k.seen.painted else k.seen.kind for k in known)
    files = Counter(k.entry.path.suffix.lower() for k in known)
    return {
        "sizes": sizes,
        "modes": dict(kinds.most_common()),
        "dtypes": dict(files.most_common()),
    }
