"""All pictures of a folder in one format, holding no more than one large photograph at a time.

The first pass reads headers only and chooses the format; the second decodes file by file, takes the hash of
the full picture (so that exact duplicates are found whatever they are resized to) and keeps the small result.
Where a file that helped to choose the format turns out to be damaged, the choice is made again without it.

A map of each picture (`maps`) is brought to its size and kept as one channel more behind its own.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kuosan.errors import UserError
from kuosan.modalities.arrays import Block, read_arrays
from kuosan.modalities.base import Choice, Gathered, Skip, Unreadable
from kuosan.modalities.beside import UNKNOWN, Beside, Enlarging, Mapped
from kuosan.modalities.buckets import choose_shapes
from kuosan.modalities.folder import CLASS, Entry, Folder
from kuosan.modalities.image_format import ImageFormat, choose_format, usable_channels
from kuosan.modalities.loose import Loose
from kuosan.modalities.maps import Book, Labels, find_maps
from kuosan.modalities.picture_file import peek, read_picture
from kuosan.modalities.pixels import FULL, Header, Picture, Pixels, has_alpha
from kuosan.modalities.resize import nearest

if TYPE_CHECKING:
    from kuosan.modalities.image import ImageModality


@dataclass(frozen=True)
class _Source:
    """A picture file, or an array of pictures that was read already."""

    name: str
    header: Header
    entry: Entry | None = None
    block: Block | None = None


MOST_KEPT = 2**28  # values of pictures that are kept at their own size, all together


def gather_pictures(
    folder: Folder,
    kind: type[ImageModality],
    like: ImageModality | None = None,
    *,
    max_side: int = 64,
    size: int | tuple[int, int] | None = None,
    enlarge: int = 0,
    blur: float = 0.0,
    jpeg: int = 0,
    map: str = "none",
    aspect: str = "crop",
) -> Gathered:
    """Every picture of `folder` in one format: that of `like`, or one chosen from the data (`choose_format`).

    `enlarge` is how many times smaller a picture stands beside each, which is a crop of one at its own size, with at
    most that much `blur`, and compressed by that quality of `jpeg` at least (`beside.Enlarging`); `map` is the folder
    of maps (`maps.find_maps`); `aspect` says whether there may be several shapes (`buckets.choose_shapes`).

    Raises `UserError` where no picture can be read.
    """
    known = like.beside.folder if like and like.beside else ""
    found = find_maps(folder, known, False) if known else find_maps(folder, "none" if like else map)
    folder, book = found.folder, Book()
    sources, failed, left_out = _sources(folder)
    if found.name and (like is None or any(source.name in found.paths for source in sources)):
        sources, without = _with_maps(sources, found.paths)
        left_out += without
    while True:
        if like is None:
            sources, misfits = _without_misfits(sources)
            failed += misfits
        if not sources:
            raise UserError(_nothing_left(folder, failed + left_out))
        headers = [source.header for source in sources]
        form, choices = (like.format, []) if like else choose_format(headers, max_side, size)
        beside: Beside | None = None
        if enlarge:
            form, more = _whole_parts(form, enlarge, size)
            choices += more
            beside = Enlarging(enlarge, form.channels, blur, jpeg)
        elif found.name:
            beside = Mapped(found.name)
        shapes: list[tuple[int, int]] = []
        if like is None and not enlarge:
            shapes, more = choose_shapes(headers, (form.height, form.width), aspect)
            choices += more
            height, width = shapes[0] if shapes else (form.height, form.width)
            form = replace(form, height=height, width=width)
        reader = (
            like.like(format=form) if like else kind(form, beside=beside, crops=bool(enlarge), shapes=shapes)
        )
        filled = _Filled(sources, reader, found.paths, book)
        if not filled.failed:
            break
        failed += filled.failed
        bad = {name for name, _ in filled.failed}
        sources = [source for source in sources if source.name not in bad]
        if sources and (like or choose_format([s.header for s in sources], max_side, size)[0] == form):
            break
    if not filled.names:
        raise UserError(_nothing_left(folder, failed + left_out))
    parts = filled.parts
    if like is None:
        form, parts, more = _settle(form, parts)
        choices += more
    else:
        parts = [_clip(part, form) for part in parts]
    beside = reader.beside
    if beside:
        beside = beside.settled(form.channels, book.classes(folder.class_names))
    reader = reader.like(format=form, beside=beside)
    if beside and beside.planes:
        if found.name and not known:
            choices.append(
                ("map", found.name, f"stands beside each picture: {', '.join(beside.classes[:12])}")
            )
        table = book.table(beside.classes, folder.class_names)
        parts = [_planed(part, plane, table) for part, plane in zip(parts, filled.planes(), strict=True)]
    storage: Tensor | Loose = (
        torch.from_numpy(parts[0]) if filled.dense else Loose(tuple(torch.from_numpy(p) for p in parts))
    )
    return Gathered(
        reader, storage, filled.hashes, filled.names, filled.columns,
        frozenset({CLASS}), filled.sides, filled.captions, _histograms(sources), failed,
        left_out, choices,
    )  # fmt: skip


def picture_sides(folder: Folder) -> list[int]:
    """The longer side of every picture in `folder`, from headers alone; of those that cannot be read, none."""
    sources, _, _ = _sources(folder)
    return [max(s.header.height, s.header.width) for s in sources for _ in range(s.header.count)]


def _sources(folder: Folder) -> tuple[list[_Source], list[Skip], list[Skip]]:
    """All pictures by name, what cannot be read, and what was not meant to be."""
    blocks, failed, left_out = read_arrays([entry for entry in folder.entries if entry.is_array])
    sources = [_Source(b.name, _block_header(b), block=b) for b in blocks]
    for entry in folder.entries:
        if not entry.is_array:
            try:
                sources.append(_Source(entry.name, peek(entry.path), entry=entry))
            except Unreadable as error:
                failed.append((entry.name, error.reason))
    return sorted(sources, key=lambda source: source.name), failed, left_out


class _Filled:
    """The second pass: what is kept of each picture and known of it, without those that failed.

    `parts` is one array (n, c, h, w) where all are of one size (`dense`), else an array (c, h, w) of each.
    """

    def __init__(
        self, sources: list[_Source], reader: ImageModality, maps: dict[str, Path], book: Book
    ) -> None:
        form, total = reader.format, sum(source.header.count for source in sources)
        self.dense = not (reader.crops or reader.shapes)
        storage = np.empty((total * self.dense, form.channels, form.height, form.width), form.dtype)
        loose: list[Pixels] = []
        self.names: list[str] = []
        self.hashes: list[bytes] = []
        self.sides: list[str] = []
        self.captions: list[str] = []
        self.failed: list[Skip] = []
        self._labels: list[Labels | None] = []
        least = None if reader.crops else (form.height, form.width)
        room = math.isqrt(MOST_KEPT // max(1, total * form.channels))
        rows: list[dict[str, str | None]] = []
        n = 0
        for source in sources:
            try:
                for name, pixels, mode in _pictures(source, least):
                    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
                        raise Unreadable("it holds values that are not finite (NaN or infinity)")
                    labels = book.read(maps[name]) if name in maps else None
                    kept = reader.kept(Picture(pixels, mode), room)
                    if self.dense:
                        storage[n] = kept.transpose(2, 0, 1)
                    else:
                        loose.append(np.array(kept.transpose(2, 0, 1), order="C"))
                    self._labels.append(labels if labels is None else nearest(labels, *kept.shape[:2]))
                    self.names.append(name)
                    self.hashes.append(content_hash(pixels, mode, labels))
                    n += 1
            except Unreadable as error:
                self.failed.append((source.name, error.reason))
                n = len(self.sides)
                del self.names[n:], self.hashes[n:], self._labels[n:], loose[n:]
                continue
            block, entry = source.block, source.entry
            count = source.header.count
            if block is not None:
                self.sides += [block.side] * count
                self.captions += [""] * count
                rows += [dict(zip(block.columns, values, strict=True)) for values in _rows(block)]
            elif entry is not None:
                self.sides.append(entry.side)
                self.captions.append(entry.caption)
                rows.append(entry.columns)
        self.parts = [storage[:n]] if self.dense else loose
        keys = dict.fromkeys(key for row in rows for key in row)
        self.columns = {key: [row.get(key) for row in rows] for key in keys}

    def planes(self) -> list[list[Labels | None]]:
        """The maps of the pictures of each part."""
        return [self._labels] if self.dense else [[one] for one in self._labels]


def _planed(part: Pixels, labels: list[Labels | None], table: Pixels) -> Pixels:
    """A part with its maps behind its channels, in the numbers of the classes."""
    *_, height, width = part.shape
    unknown = np.full((height, width), UNKNOWN, part.dtype)
    planes = [unknown if one is None else table[one].astype(part.dtype) for one in labels]
    plane = np.stack(planes)[:, None] if part.ndim == 4 else planes[0][None]
    return np.concatenate([part, plane], -3)


def _with_maps(sources: list[_Source], maps: dict[str, Path]) -> tuple[list[_Source], list[Skip]]:
    """Pictures without a map are left out where others have one."""
    good = [source for source in sources if source.name in maps]
    return good, [(s.name, "it has no map, and others have one") for s in sources if s.name not in maps]


def _whole_parts(form: ImageFormat, factor: int, size: Any) -> tuple[ImageFormat, list[Choice]]:
    """Sides that are whole multiples of a factor.

    Raises:
        UserError: those that were asked for are not, or a picture so small has no sides.
    """
    height, width = (max(factor, side // factor * factor) for side in (form.height, form.width))
    if size is not None and (height, width) != (form.height, form.width):
        raise UserError(
            f"data.enlarge={factor} needs sides that are multiples of it, and data.size asks for "
            f"{form.height}×{form.width}: choose {height}×{width}"
        )
    why = f"parts of the pictures at their own size; {factor} times smaller they stand beside themselves"
    return replace(form, height=height, width=width), [("crops", f"{height}×{width}", why)]


def content_hash(pixels: Pixels, mode: str, labels: Labels | None = None) -> bytes:
    """sha256 of a picture's mode, shape, depth and values, and of its map: equal where these are."""
    digest = hashlib.sha256(f"{mode} {pixels.shape} {pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    digest.update(b"" if labels is None else np.ascontiguousarray(labels).data)
    return digest.digest()


def _pictures(source: _Source, least: tuple[int, int] | None) -> Iterator[tuple[str, Pixels, str]]:
    if source.block is not None:
        for name, pixels in zip(source.block.names, source.block.pixels, strict=True):
            yield name, pixels, source.block.mode
    elif source.entry is not None:
        picture = read_picture(source.entry.path, least)
        yield source.name, picture.pixels, picture.mode


def _rows(block: Block) -> Iterator[tuple[str | None, ...]]:
    if not block.columns:
        return iter([()] * len(block.pixels))
    return zip(*block.columns.values(), strict=True)


def _block_header(block: Block) -> Header:
    n, height, width, channels = block.pixels.shape
    return Header(height, width, channels, block.mode, str(block.pixels.dtype), n)


def _without_misfits(sources: list[_Source]) -> tuple[list[_Source], list[Skip]]:
    """Pictures whose channels have no common meaning with the others' are left out."""
    wanted = usable_channels([source.header for source in sources]) if sources else None
    if wanted is None:
        return sources, []
    good = [s for s in sources if (s.header.channels, s.header.mode) == wanted]
    bad = [s for s in sources if (s.header.channels, s.header.mode) != wanted]
    return good, [
        (s.name, f"it has {s.header.channels} channels ({s.header.mode}), most have {wanted[0]}") for s in bad
    ]


def _settle(form: ImageFormat, parts: list[Pixels]) -> tuple[ImageFormat, list[Pixels], list[Choice]]:
    """What only the decoded data can tell: an alpha that is never used, and the range of the values."""
    choices: list[Choice] = []
    if has_alpha(form.mode) and all(bool((p[..., -1, :, :] == FULL[form.dtype]).all()) for p in parts):
        mode = {"LA": "L", "RGBA": "RGB"}[form.mode]
        form = replace(form, mode=mode, channels=form.channels - 1)
        parts = [np.ascontiguousarray(p[..., :-1, :, :]) for p in parts]
        choices.append(("mode", mode, "the alpha channel is fully opaque in every picture and was dropped"))
    if form.mode == "1":
        return form, parts, choices
    low, high = min(float(p.min()) for p in parts), max(float(p.max()) for p in parts)
    if form.dtype == "float32":
        form = replace(form, low=low, high=high if high > low else low + 1)
        choices.append(
            ("value range", f"{form.low:g} … {form.high:g}", "observed in the floating-point data")
        )
    elif 0 < high < FULL[form.dtype] / 2:
        form = replace(form, high=high)
        choices.append(("value range", f"0 … {high:g}", f"the data uses less than half of {form.dtype}"))
    return form, parts, choices


def _clip(part: Pixels, form: ImageFormat) -> Pixels:
    """Foreign data in a fixed format: states stay within [-1, 1]."""
    return np.clip(part, np.array(form.low, form.dtype), np.array(form.high, form.dtype))


def _histograms(sources: list[_Source]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {"sizes": Counter(), "modes": Counter(), "dtypes": Counter()}
    for source in sources:
        header = source.header
        counts["sizes"][f"{header.height}×{header.width}"] += header.count
        counts["modes"][header.mode] += header.count
        counts["dtypes"][header.dtype] += header.count
    return {name: dict(counter.most_common()) for name, counter in counts.items()}


def _nothing_left(folder: Folder, failed: list[Skip]) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in failed[:3])
    return (
        f"No picture in {folder.source} can be read ({reasons or 'there is none'}); mend them and try again."
    )
