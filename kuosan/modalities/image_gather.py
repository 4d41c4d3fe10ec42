"""All pictures of a folder in one format, holding no more than one large photograph at a time.

The first pass reads headers only and chooses the format; the second decodes file by file, takes the hash of
the full picture (so that exact duplicates are found whatever they are resized to) and keeps the small result.
Where a file that helped to choose the format turns out to be damaged, the choice is made again without it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from kuosan.errors import UserError
from kuosan.modalities.arrays import Block, read_arrays
from kuosan.modalities.base import Choice, Gathered, Skip, Unreadable
from kuosan.modalities.folder import CLASS, Entry, Folder
from kuosan.modalities.image_format import ImageFormat, choose_format, usable_channels
from kuosan.modalities.picture_file import peek, read_picture
from kuosan.modalities.pixels import FULL, Header, Picture, Pixels, has_alpha

if TYPE_CHECKING:
    from kuosan.modalities.image import ImageModality


@dataclass(frozen=True)
class _Source:
    """A picture file, or an array of pictures that was read already."""

    name: str
    header: Header
    entry: Entry | None = None
    block: Block | None = None


def gather_pictures(
    folder: Folder,
    modality: type[ImageModality],
    fixed: ImageFormat | None = None,
    *,
    max_side: int = 64,
    size: int | tuple[int, int] | None = None,
) -> Gathered:
    """Every picture of `folder` in one format: `fixed`, or one chosen from the data (`choose_format`).

    Raises `UserError` where no picture can be read.
    """
    sources, failed, left_out = _sources(folder)
    while True:
        if fixed is None:
            sources, misfits = _without_misfits(sources)
            failed += misfits
        if not sources:
            raise UserError(_nothing_left(folder, failed + left_out))
        form, choices = (fixed, []) if fixed else choose_format([s.header for s in sources], max_side, size)
        filled = _Filled(sources, form, modality(form))
        if not filled.failed:
            break
        failed += filled.failed
        bad = {name for name, _ in filled.failed}
        sources = [source for source in sources if source.name not in bad]
        if sources and (fixed or choose_format([s.header for s in sources], max_side, size)[0] == form):
            break
    if not filled.names:
        raise UserError(_nothing_left(folder, failed + left_out))
    storage = filled.storage
    if fixed is None:
        form, storage, more = _settle(form, storage)
        choices += more
    else:
        storage = _clip(storage, form)
    return Gathered(
        modality(form), torch.from_numpy(storage), filled.hashes, filled.names, filled.columns,
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
    """The second pass: storage (n, c, h, w) and what is known of each picture, without those that failed."""

    def __init__(self, sources: list[_Source], form: ImageFormat, modality: ImageModality) -> None:
        total = sum(source.header.count for source in sources)
        storage = np.empty((total, form.channels, form.height, form.width), form.dtype)
        self.names: list[str] = []
        self.hashes: list[bytes] = []
        self.sides: list[str] = []
        self.captions: list[str] = []
        self.failed: list[Skip] = []
        rows: list[dict[str, str | None]] = []
        n = 0
        for source in sources:
            try:
                for name, pixels, mode in _pictures(source):
                    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
                        raise Unreadable("it holds values that are not finite (NaN or infinity)")
                    fitted = modality.fit(Picture(pixels, mode)).pixels
                    storage[n] = fitted.transpose(2, 0, 1)
                    self.names.append(name)
                    self.hashes.append(content_hash(pixels, mode))
                    n += 1
            except Unreadable as error:
                self.failed.append((source.name, error.reason))
                n = len(self.sides)
                del self.names[n:], self.hashes[n:]
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
        self.storage = storage[:n]
        keys = dict.fromkeys(key for row in rows for key in row)
        self.columns = {key: [row.get(key) for row in rows] for key in keys}


def content_hash(pixels: Pixels, mode: str) -> bytes:
    """sha256 of a picture's mode, shape, depth and values: equal where the pictures are equal."""
    digest = hashlib.sha256(f"{mode} {pixels.shape} {pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _pictures(source: _Source) -> Iterator[tuple[str, Pixels, str]]:
    if source.block is not None:
        for name, pixels in zip(source.block.names, source.block.pixels, strict=True):
            yield name, pixels, source.block.mode
    elif source.entry is not None:
        picture = read_picture(source.entry.path)
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


def _settle(form: ImageFormat, storage: Pixels) -> tuple[ImageFormat, Pixels, list[Choice]]:
    """What only the decoded data can tell: an alpha that is never used, and the range of the values."""
    choices: list[Choice] = []
    if has_alpha(form.mode) and bool((storage[:, -1] == FULL[form.dtype]).all()):
        mode = {"LA": "L", "RGBA": "RGB"}[form.mode]
        form = replace(form, mode=mode, channels=form.channels - 1)
        storage = np.ascontiguousarray(storage[:, :-1])
        choices.append(("mode", mode, "the alpha channel is fully opaque in every picture and was dropped"))
    if form.mode == "1":
        return form, storage, choices
    low, high = float(storage.min()), float(storage.max())
    if form.dtype == "float32":
        form = replace(form, low=low, high=high if high > low else low + 1)
        choices.append(
            ("value range", f"{form.low:g} … {form.high:g}", "observed in the floating-point data")
        )
    elif 0 < high < FULL[form.dtype] / 2:
        form = replace(form, high=high)
        choices.append(("value range", f"0 … {high:g}", f"the data uses less than half of {form.dtype}"))
    return form, storage, choices


def _clip(storage: Pixels, form: ImageFormat) -> Pixels:
    """Foreign data in a fixed format: states stay within [-1, 1]."""
    return np.clip(storage, np.array(form.low, form.dtype), np.array(form.high, form.dtype))


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
    return f"No picture in {folder.root} can be read ({reasons or 'there is none'}); mend them and try again."
