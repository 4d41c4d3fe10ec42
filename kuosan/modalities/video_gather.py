"""All clips of a folder in one form, holding one frame of full size at a time.

The first pass opens every source and decodes one frame: size, mode, rate, about how many. The second decodes file by
file, keeps the small frames of the common rate, and writes them to a temporary file without a name, which is mapped
into memory: what is not in use costs none, and it is gone with the process. A file that turns out to be damaged leaves
nothing behind. Windows are chosen last, when all lengths are known (`video_time`, eq. 2).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kuosan.errors import UserError
from kuosan.modalities.arrays import Block, read_arrays
from kuosan.modalities.base import Choice, Gathered, Skip, Unreadable
from kuosan.modalities.folder import CLASS, Entry, Folder
from kuosan.modalities.image_format import ImageFormat, choose_size, usable_channels
from kuosan.modalities.passages import powers, sections, spread
from kuosan.modalities.pixels import CHANNELS, Header, Picture, Pixels, convert, has_alpha, join_modes
from kuosan.modalities.tables import Row
from kuosan.modalities.video_arrays import CLIPS, RATES
from kuosan.modalities.video_clip import VideoFormat
from kuosan.modalities.video_file import Footage, footage
from kuosan.modalities.video_form import choose_length, choose_rate
from kuosan.modalities.video_sheet import COLUMNS, ROWS, sheet
from kuosan.modalities.video_time import Shown, evenly, resampled, windows

if TYPE_CHECKING:
    from kuosan.modalities.video import VideoModality

LARGEST = 32  # pixels of the longer side, unless asked for: what a small machine can train on in minutes
LARGEST_CODED = 64  # where the diffusion is of latents
FEW = (
    10,
    20,
    320,
)  # works that allow to hold out whole ones: so many, and where there are so many windows more


@dataclass(frozen=True, eq=False)
class _Source:
    """A clip before it is decoded, and what is known about it."""

    name: str
    footage: Footage
    side: str = ""
    columns: Row = field(default_factory=dict)
    caption: str = ""


@dataclass(frozen=True, eq=False)
class _Kept:
    """A clip after: how many frames it has at the common rate, and the digest of what was decoded."""

    source: _Source
    length: int
    digest: bytes


def gather_clips(
    folder: Folder,
    kind: type[VideoModality],
    like: VideoModality | None = None,
    *,
    max_side: int | str = "auto",
    size: int | tuple[int, int] | None = None,
    rate: float | str = "auto",
    length: int | str = "auto",
    latents: bool = False,
) -> Gathered:
    """Every clip of `folder` in the form of `like`, or in one chosen from the data (`video_form`).

    Args:
        length: of a window: frames, "16frames", "2s" or "auto". rate: frames a second, or "auto".
        latents: clips may be larger, as a codec makes fewer numbers of them.

    Raises `UserError` where no clip can be read, or an option cannot be.
    """
    sources, failed, left_out = _sources(folder)
    choices: list[Choice] = []
    if like is None:
        sources, misfits = _without_misfits(sources)
        failed += misfits
    if not sources:
        raise UserError(_nothing_left(folder, failed + left_out))
    if like is None:
        headers = [replace(s.footage.header, count=1) for s in sources]
        most = LARGEST_CODED if latents else LARGEST
        side = most if max_side == "auto" else int(max_side)
        height, width, choices = choose_size(headers, side, size, "clips")
        if max_side == "auto" and size is None and max(max(h.height, h.width) for h in headers) > most:
            minutes = (
                f"what a small machine learns in minutes; data.max_side={2 * most} is for more time, or a GPU"
            )
            choices.append(("longest side", str(most), minutes))
        mode = join_modes("L" if h.mode == "1" else h.mode for h in headers)
        mode = "RGB" if mode == "CMYK" else mode
        fps, why = choose_rate([s.footage for s in sources], rate)
        choices.append(why)
        channels = CHANNELS.get(mode, headers[0].channels)
        form = VideoFormat(0, fps, ImageFormat(height, width, channels, mode, "uint8", 0.0, 255.0))
    else:
        form = like.format
    kept, stream, seen = _decode(sources, form, failed, left_out)
    if not kept:
        raise UserError(_nothing_left(folder, failed + left_out))
    lengths = [one.length for one in kept]
    if like is None:
        form, stream, more = _settle(form, stream, seen)
        numbers = form.frame.channels * form.frame.height * form.frame.width
        frames, reasons = choose_length(lengths, numbers, form.rate, length, latents)
        form, choices = replace(form, frames=frames), [*choices, *more, *reasons]
    storage, counts = windows(stream, lengths, form.frames)
    few = FEW[0] if len(storage) < FEW[2] else FEW[1]
    section, together = sections(counts, not any(o.source.side == "val" for o in kept), "clip", few)
    names, hashes, groups = [], [], []
    for one, count in zip(kept, counts, strict=True):
        for k in range(count):
            part = b"" if section == 0 else (k // section).to_bytes(4, "big")
            names.append(one.source.name if count == 1 else f"{one.source.name}:{k}")
            hashes.append(hashlib.sha256(one.digest + k.to_bytes(4, "big")).digest())
            groups.append(hashlib.sha256(one.digest + part).digest())
    keys = dict.fromkeys(key for one in kept for key in one.source.columns)
    return Gathered(
        kind(form), storage, hashes, names,
        {key: spread([o.source.columns.get(key) for o in kept], counts) for key in keys}, frozenset({CLASS}),
        spread([o.source.side for o in kept], counts), spread([o.source.caption for o in kept], counts),
        _histograms([o.source for o in kept]) | {"lengths": powers(lengths)}, failed, left_out,
        [*choices, *together], groups=groups, firsts=[0, *np.cumsum(counts)[:-1].tolist()],
        totals={"clips": len(kept), "frames": sum(lengths), "seconds": round(sum(lengths) / form.rate, 1)},
    )  # fmt: skip


def _sources(folder: Folder) -> tuple[list[_Source], list[Skip], list[Skip]]:
    """All clips by name, what cannot be read, and what was not meant to be."""
    arrays = [e for e in folder.entries if e.path.suffix.lower() in (".npy", ".npz") or e.is_array]
    blocks, failed, left_out = read_arrays(arrays, CLIPS)
    told = len(blocks) > 1 and all(len(b.names) > 1 and CLASS not in b.columns for b in blocks)
    sources = [source for block in blocks for source in _of_block(block, told)]
    for entry in folder.entries:
        if entry in arrays:
            continue
        try:
            sources += _of_file(entry)
        except Unreadable as error:
            failed.append((entry.name, error.reason))
    alone = [
        (s.name, "it holds one frame, and a clip has two or more") for s in sources if s.footage.count < 2
    ]
    sources = [source for source in sources if source.footage.count > 1]
    return sorted(sources, key=lambda source: source.name), failed, left_out + alone


def _of_file(entry: Entry) -> Iterator[_Source]:
    row = dict(entry.columns)
    if not row.get(COLUMNS) or entry.path.is_dir():
        yield _Source(entry.name, footage(entry.path), entry.side, entry.columns, entry.caption)
        return
    clips = list(sheet(entry.path, row))
    known = {key: value for key, value in row.items() if key not in (COLUMNS, ROWS, "frames", "fps")}
    digits = len(str(clips[-1][0])) if clips else 1
    for i, one in clips:
        columns = known | {"row": str(i)} if len(clips) > 1 else known
        yield _Source(f"{entry.name}#{i:0{digits}d}", one, entry.side, columns, entry.caption)


def _of_block(block: Block, told: bool) -> Iterator[_Source]:
    """The clips of an array; of several arrays without classes that hold many clips each, the file's name is one."""
    rate = next((block.facts[name] for name in RATES if block.facts.get(name, 0) > 0), None)
    pixels, mode = _bytes(block.pixels), block.mode
    n, t, h, w, c = pixels.shape
    header = Header(h, w, c, mode, "uint8")
    stem = block.name.rpartition("/")[2].partition(".")[0]
    for i in range(n):
        columns: Row = {key: values[i] for key, values in block.columns.items()}
        if told:
            columns[CLASS] = stem
        shown = Footage(header, t, rate, partial(_frames, pixels[i], mode, rate))
        yield _Source(block.names[i], shown, block.side, columns)


def _frames(clip: Pixels, mode: str, rate: float | None) -> Iterator[Shown]:
    return evenly((Picture(frame, mode) for frame in clip), rate)


def _bytes(pixels: Pixels) -> Pixels:
    """An array as bytes: numbers within 0 … 1, -1 … 1 or 0 … 255 mean that, others their own range."""
    if pixels.dtype != np.float32:
        return convert(pixels, "L", "L", "uint8") if pixels.dtype == np.uint16 else pixels
    values = pixels.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    span = next(((a, b) for a, b in ((0, 1), (-1, 1), (0, 255)) if a <= low and high <= b), (low, high))
    return np.rint((values - span[0]) * (255 / ((span[1] - span[0]) or 1))).astype(np.uint8)


def _without_misfits(sources: list[_Source]) -> tuple[list[_Source], list[Skip]]:
    """Clips whose channels have no common meaning with the others' are left out."""
    wanted = usable_channels([s.footage.header for s in sources]) if sources else None
    if wanted is None:
        return sources, []
    good = [s for s in sources if (s.footage.header.channels, s.footage.header.mode) == wanted]
    bad = [s for s in sources if s not in good]
    return good, [
        (s.name, f"its channels ({s.footage.header.mode}) are not those of most clips") for s in bad
    ]


@dataclass
class _Seen:
    """What only decoded frames can tell."""

    colour: bool = False
    alpha: bool = False

    def note(self, pixels: Pixels, mode: str) -> None:
        if has_alpha(mode):
            self.alpha = self.alpha or bool((pixels[..., -1] != 255).any())
        if mode in ("RGB", "RGBA") and not self.colour:
            self.colour = bool(
                (pixels[..., 0] != pixels[..., 1]).any() or (pixels[..., 1] != pixels[..., 2]).any()
            )


def _decode(
    sources: list[_Source], form: VideoFormat, failed: list[Skip], left_out: list[Skip]
) -> tuple[list[_Kept], Tensor, _Seen]:
    """Every clip at the common rate and size; the frames of all as one stream (N, c, h, w)."""
    kept: list[_Kept] = []
    seen = _Seen()
    with tempfile.TemporaryFile(prefix="kuosan-") as file:
        for source in sources:
            begin = file.tell()
            digest, count = hashlib.sha256(), 0
            rate = source.footage.rate
            shown = resampled(source.footage.frames(), form.rate if rate else 1.0, 1 / (rate or 1.0))
            try:
                for picture in shown:
                    digest.update(f"{picture.mode} {picture.pixels.shape}".encode())
                    digest.update(np.ascontiguousarray(picture.pixels).data)
                    pixels = form.fit(picture).pixels
                    seen.note(pixels, form.frame.mode)
                    _put(file, np.ascontiguousarray(pixels.transpose(2, 0, 1)))
                    count += 1
                if count < 2:
                    left_out.append((source.name, f"it is shorter than two frames at {form.rate:g} a second"))
            except Unreadable as error:
                failed.append((source.name, error.reason))
                count = 0
            if count < 2:
                file.seek(begin)
                file.truncate()
                continue
            kept.append(_Kept(source, count, digest.digest()))
        file.flush()
        f = form.frame
        shape = (sum(one.length for one in kept), f.channels, f.height, f.width)
        stream: Any = np.memmap(file, np.uint8, "r+", shape=shape) if kept else np.empty(shape, np.uint8)
    return kept, torch.from_numpy(stream), seen


def _put(file: IO[bytes], pixels: Pixels) -> None:
    try:
        file.write(pixels.data)
    except OSError as error:
        raise UserError(
            f"the frames do not fit into {tempfile.gettempdir()} ({error.strerror}): make room there, or set TMPDIR to "
            "a folder with more"
        ) from error


def _settle(form: VideoFormat, stream: Tensor, seen: _Seen) -> tuple[VideoFormat, Tensor, list[Choice]]:
    """Without an alpha that is never used, and one channel where every frame is grey."""
    f, choices = form.frame, []
    if has_alpha(f.mode) and not seen.alpha:
        f = replace(f, mode={"LA": "L", "RGBA": "RGB"}[f.mode], channels=f.channels - 1)
        stream = stream[:, :-1]
        choices.append(("mode", f.mode, "the alpha channel is fully opaque in every frame and was dropped"))
    if f.mode == "RGB" and not seen.colour:
        f, stream = replace(f, mode="L", channels=1), stream[:, :1]
        choices.append(("mode", "L", "every frame is grey"))
    return replace(form, frame=f), stream, choices


def _histograms(sources: list[_Source]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {"sizes": Counter(), "modes": Counter(), "dtypes": Counter()}
    for source in sources:
        header = source.footage.header
        counts["sizes"][f"{header.height}×{header.width}"] += 1
        counts["modes"][header.mode] += 1
        counts["dtypes"][header.dtype] += 1
    return {name: dict(counter.most_common()) for name, counter in counts.items()}


def _nothing_left(folder: Folder, failed: list[Skip]) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in failed[:3])
    return f"No clip in {folder.source} can be read ({reasons or 'there is none'}); mend them and try again."
