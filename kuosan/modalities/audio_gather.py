"""All sounds of a folder as windows of one form, decoded one after another, piece by piece.

The first pass reads headers and chooses the form; the second decodes (`audio_stream`), takes the hash of what there is
and keeps levels and samples at the form's rate on the disk (`audio_storage`).  A sound of at most T frames is one item.
A longer one is seen through ⌈length/T⌉ windows of T frames, spread evenly over it from its beginning to its end, and in
training they slide; windows of one file stay together on one side of the split.  Of fewer files than can be held out
whole, windows lie end to end instead, the last one shorter, so that the two sides share no frame.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from kuosan.errors import UserError
from kuosan.modalities.arrays import item_names
from kuosan.modalities.audio_arrays import read_packed
from kuosan.modalities.audio_file import SoundHeader, blocks_of, peek_sound
from kuosan.modalities.audio_form import AudioForm, choose_form
from kuosan.modalities.audio_storage import Sounds, Spool
from kuosan.modalities.audio_stream import Heard, Stream, framed
from kuosan.modalities.base import Choice, Gathered, Skip, Unreadable
from kuosan.modalities.folder import CLASS, Entry, Folder
from kuosan.modalities.name_columns import with_names, without_running
from kuosan.modalities.passages import powers, sections, spread
from kuosan.modalities.ragged import Ragged
from kuosan.modalities.tables import Row

if TYPE_CHECKING:
    from kuosan.modalities.audio import AudioModality

SILENT = 1.0 / 32_768  # a sound that never rises above the last of 16 bits
SHORTEST = 0.005  # seconds
LOOKED_AT = 24  # stereo files, to see whether their sides differ


@dataclass
class _Works:
    """What is known of each sound that was kept, in the order of names."""

    names: list[str] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    sides: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    loudest: float = -math.inf


def gather_sounds(
    folder: Folder,
    kind: type[AudioModality],
    like: AudioModality | None = None,
    *,
    length: str | float = "auto",
    rate: str | float = "auto",
    names: str = "auto",
) -> Gathered:
    """Every sound of ``folder`` in the form of ``like``, or in one chosen from the data.

    Args:
        length: of a window ("4s", "120frames"), rate: samples in a second; or "auto" (`audio_form`).
        names: what files' names say (`name_columns`).

    Raises `UserError` where no sound can be read, or an option cannot be.
    """
    folder, choices = with_names(folder, names)
    headers, failed, left_out = _headers(folder)
    if not headers:
        raise UserError(_nothing_left(folder, failed + left_out))
    if like is None:
        every = [header for several in headers.values() for header in several]
        form, reasons = choose_form(every, _is_stereo(folder, headers), length, rate)
        choices += reasons
    else:
        form = like.form
    works, spools = (
        _Works(),
        (Spool("<f2", (form.channels, form.bands)), Spool("<i2", (form.channels, form.hop))),
    )
    for entry in folder.entries:
        if entry.name in headers:
            _add(entry, form, works, spools, failed, left_out)
    if not works.names:
        raise UserError(_nothing_left(folder, failed + left_out))
    works.rows, running = without_running(works.rows)
    choices += running
    if like is None:
        form = replace(form, peak=round(works.loudest, 2))
    modality = kind(form) if like is None else like
    return _gathered(modality, works, spools, headers, failed, left_out, choices)


def is_packed(entry: Entry) -> bool:
    """Whether a file holds many sounds (`audio_arrays`)."""
    return entry.path.suffix.lower() == ".npz"


def _gathered(
    modality: AudioModality, works: _Works, spools: tuple[Spool, Spool], headers: dict[str, list[SoundHeader]],
    failed: list[Skip], left_out: list[Skip], choices: list[Choice],
) -> Gathered:  # fmt: skip
    form, every = modality.form, [header for several in headers.values() for header in several]
    frames = form.frames
    counts = [max(1, math.ceil(n / frames)) for n in works.lengths]
    section, together = sections(counts, "val" not in works.sides, "sound")
    groups, hashes, names = [], [], []
    for name, digest, count in zip(works.names, works.hashes, counts, strict=True):
        for k in range(count):
            part = b"" if section == 0 else (k // section).to_bytes(4, "big")
            groups.append(hashlib.sha256(digest + part).digest())
            hashes.append(digest if count == 1 else hashlib.sha256(digest + k.to_bytes(4, "big")).digest())
            names.append(name if count == 1 else f"{name}:{k}")
    columns = {
        key: spread([row.get(key) for row in works.rows], counts)
        for key in dict.fromkeys(key for row in works.rows for key in row)
    }
    levels = _windows(works.lengths, counts, frames, not section, spools[0])
    return Gathered(
        modality, Sounds(levels, spools[1].tensor()), hashes, names, columns,
        frozenset({CLASS}), spread(works.sides, counts), spread(works.captions, counts),
        {"lengths": {f"{k} frames": n for k, n in powers(works.lengths).items()},
         "dtypes": dict(Counter(h.depth for h in every).most_common()),
         "modes": dict(Counter(f"{h.rate:,} Hz, {h.channels} ch" for h in every).most_common())},
        failed, left_out, [*choices, *together], groups=groups, firsts=[0, *np.cumsum(counts)[:-1].tolist()],
        totals={"recordings": len(works.names), "seconds": round(works.seconds, 2), "rate": form.rate},
    )  # fmt: skip


def _headers(folder: Folder) -> tuple[dict[str, list[SoundHeader]], list[Skip], list[Skip]]:
    """The headers of the sounds of every file that has some, what failed, and what is something else."""
    found: dict[str, list[SoundHeader]] = {}
    failed: list[Skip] = []
    left_out: list[Skip] = []
    for entry in folder.entries:
        if entry.is_array:
            left_out.append((entry.name, "an array without a sample_rate is no sound"))
            continue
        try:
            found[entry.name] = (
                read_packed(entry.path).headers() if is_packed(entry) else [peek_sound(entry.path)]
            )
        except Unreadable as error:
            failed.append((entry.name, error.reason))
    return found, failed, left_out


def _is_stereo(folder: Folder, headers: dict[str, list[SoundHeader]]) -> bool:
    """True where most sounds have several channels and those of most that are looked at differ."""
    several = [e for e in folder.entries if e.name in headers and headers[e.name][0].channels > 1]
    if 2 * len(several) <= sum(map(len, headers.values())):
        return False
    looked = differ = 0
    for entry in several[:: max(1, len(several) // LOOKED_AT)][:LOOKED_AT]:
        try:
            blocks = blocks_of(entry.path)
            differ += any(np.abs(b[:, 0] - b[:, 1]).max(initial=0) > 4 * SILENT for b in blocks)
        except Unreadable:
            continue
        looked += 1
    return 2 * differ > looked


def _sounds(entry: Entry) -> Iterator[tuple[str, Stream, Row]]:
    """The sounds of a file, by name, with what only an array knows of them."""
    if not is_packed(entry):
        header = peek_sound(entry.path)
        blocks = partial(blocks_of, entry.path)
        yield entry.name, Stream(blocks, header.rate, header.channels, header.length), {}
        return
    packed = read_packed(entry.path)
    for name, sound, row in zip(item_names(entry.name, len(packed)), packed, packed.rows, strict=True):
        whole = sound.samples
        yield name, Stream(partial(iter, [whole]), sound.rate, whole.shape[1], len(whole)), row


def _add(
    entry: Entry, form: AudioForm, works: _Works, spools: tuple[Spool, Spool], failed: list[Skip], left_out: list[Skip]
) -> None:  # fmt: skip
    """Decode a file, and keep what can be learned from."""
    kept = spools[0].rows
    try:
        for name, stream, row in _sounds(entry):
            heard, loudest = Heard(stream), -math.inf
            for level, samples in framed(heard.blocks(), stream.rate, form):
                spools[0].add(level)
                spools[1].add(samples)
                loudest = max(loudest, float(level.max()))
            unfit = f"it has {heard.length:,} samples: too short to be a sound" * (heard.seconds < SHORTEST)
            if unfit or heard.peak <= SILENT:
                left_out.append((name, unfit or "it is silent from beginning to end"))
                for spool in spools:
                    spool.cut(kept)
                continue
            works.hashes.append(heard.digest())
            works.names.append(name)
            works.lengths.append(spools[0].rows - kept)
            works.sides.append(entry.side)
            works.captions.append(entry.caption)
            works.rows.append(dict(entry.columns) | row)
            works.seconds += heard.seconds
            works.loudest = max(works.loudest, loudest)
            kept = spools[0].rows
    except Unreadable as error:
        failed.append((entry.name, error.reason))
    finally:
        for spool in spools:
            spool.cut(kept)


def _windows(lengths: list[int], counts: list[int], frames: int, even: bool, spool: Spool) -> Ragged:
    """The place of every window in the stream of all sounds, spread evenly or end to end, and how far back it may
    slide."""
    ends = np.cumsum(lengths)
    start: list[int] = []
    stop: list[int] = []
    low: list[int] = []
    for end, n, count in zip(ends.tolist(), lengths, counts, strict=True):
        begin = end - n
        for k in range(count):
            at = begin + (round(k * (n - frames) / (count - 1)) if even and count > 1 else k * frames)
            low.append(at if k == 0 else start[-1] + 1)
            start.append(at)
            stop.append(min(at + frames, end))
    parts = [torch.tensor(part, dtype=torch.int64) for part in (start, stop, low, stop)]
    return Ragged(spool.tensor(), *parts)


def _nothing_left(folder: Folder, failed: list[Skip]) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in failed[:3])
    return f"No sound in {folder.source} can be read ({reasons or 'there is none'}); mend them and try again."
