"""All motions of a folder as windows of one form.

The skeleton that most files have is everybody's; of those that differ in the lengths of bones alone, the commonest.
Motions of other skeletons are brought to it by the names of their joints (`motion_retarget`), or are left out and
named. All are resampled to one rate. A motion of T frames or more is divided into parts of equal length, at least T
each, which windows slide over in training; a motion that goes on from its end is repeated until it fills a window,
another one that is too short ends in its last pose, held.

The rules of ``auto``: the rate is the commonest, at most 30 frames a second; T the largest power of two of frames that
lasts at most `SECONDS`, that two thirds of the motions fill, and of which there are four in all, but at least 16.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from kuosan.errors import UserError
from kuosan.modalities.base import Choice, Gathered, Skip, Unreadable
from kuosan.modalities.folder import CLASS, Folder
from kuosan.modalities.motion_files import read_clips
from kuosan.modalities.motion_form import Form, fitted, unit_of
from kuosan.modalities.motion_labels import labels_of
from kuosan.modalities.motion_project import Limits
from kuosan.modalities.motion_retarget import matched, retargeted
from kuosan.modalities.motion_skeleton import Motion, Skeleton, resampled
from kuosan.modalities.passages import powers, sections, spread
from kuosan.modalities.ragged import Ragged

if TYPE_CHECKING:
    from kuosan.modalities.motion import MotionModality

SECONDS = 4.0  # of the automatic window at most
SHORTEST, MOST_RATE = 16, 30.0
MANY_LABELS = 64  # of names of files: more are conditions where they repeat
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class _Work:
    name: str
    stem: str
    motion: Motion
    digest: bytes
    side: str
    columns: dict[str, str | None]
    caption: str = ""


def gather_motions(
    folder: Folder,
    kind: type[MotionModality],
    like: MotionModality | None = None,
    *,
    length: str | int = "auto",
    rate: str | float = "auto",
) -> Gathered:
    """Every motion of `folder` as windows in the form of `like`, or in one chosen from the data.

    Args:
        length: of a window: frames, "120frames", "4s", or "auto". rate: frames per second, or "auto".

    Raises `UserError` where there is no motion, or an option cannot be.
    """
    works, failed, left_out = _works(folder)
    works, choices = _of_one_skeleton(works, like.form.skeleton if like else None, left_out)
    pace, why = (like.form.rate, "the model's") if like else _rate(rate, [w.motion for w in works])
    works = [replace(w, motion=resampled(w.motion, pace)) for w in works]
    left_out += [
        (w.name, "it has a single frame, which is a pose and no motion") for w in works if len(w.motion) < 2
    ]
    works = [w for w in works if len(w.motion) > 1]
    if not works:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in (failed + left_out)[:3])
        raise UserError(
            f"No motion in {folder.source} can be read ({reasons or 'there is none'}); mend it and try again."
        )
    motions = [w.motion for w in works]
    if like is None:
        frames, because = _length(length, motions)
        modality = kind(fitted(motions), frames, Limits.of(motions))
        choices += [("rate", f"{pace:g} frames per second", why), ("window", _told(frames, pace), because)]
        choices += _said(modality.form)
    else:
        modality = like
    rows = [modality.form.rows(m) for m in motions]
    digests = [w.digest for w in works]
    lengths = powers([len(r) for r in rows])
    rows, more = _filled(rows, [m.loops for m in motions], modality)
    choices += more

    counts = [max(1, len(r) // modality.length) for r in rows]
    section, together = sections(counts, not any(w.side == "val" for w in works), "motion")
    choices += together
    groups, hashes, names = [], [], []
    for work, digest, count in zip(works, digests, counts, strict=True):
        for k in range(count):
            part = b"" if section == 0 else (k * math.ceil(count / section) // count).to_bytes(4, "big")
            groups.append(hashlib.sha256(digest + part).digest())
            hashes.append(hashlib.sha256(digest + k.to_bytes(4, "big")).digest())
            names.append(work.name if count == 1 else f"{work.name}:{k}")
    columns, declared = _columns(works)
    totals: dict[str, float] = {
        "motions": len(works), "minutes": round(sum(m.seconds for m in motions) / 60, 2),
        "joints": len(modality.form.skeleton), "numbers of a frame": modality.form.channels,
    }  # fmt: skip
    return Gathered(
        modality, _storage(rows, counts, modality.length), hashes, names,
        {key: spread(values, counts) for key, values in columns.items()}, declared,
        spread([w.side for w in works], counts), spread([w.caption for w in works], counts), {"lengths": lengths},
        failed, left_out, choices, groups=groups, firsts=[0, *np.cumsum(counts)[:-1].tolist()], totals=totals,
        duplicates={"motions_repeated": len(digests) - len(set(digests))},
    )  # fmt: skip


def _works(folder: Folder) -> tuple[list[_Work], list[Skip], list[Skip]]:
    """Every motion of a folder, what failed and what was left out."""
    works: list[_Work] = []
    failed: list[Skip] = []
    left_out: list[Skip] = []
    single = {PurePosixPath(e.name).stem for e in folder.entries if not e.is_array}
    labels: dict[str, str] = {}
    for entry in folder.entries:
        try:
            clips = read_clips(entry.path)
        except Unreadable as error:
            (left_out if entry.is_array else failed).append((entry.name, error.reason))
            continue
        for clip in clips:
            if clip.name and clip.label:
                labels[clip.name] = clip.label
            name = f"{entry.name}#{clip.name}" if clip.name else entry.name
            if clip.name in single:
                left_out.append((name, "a file of its own has the same motion"))
                continue
            columns = dict(entry.columns) | ({CLASS: clip.label} if clip.label else {})
            stem = clip.name or PurePosixPath(entry.name).stem
            works.append(_Work(name, stem, clip.motion, clip.digest, entry.side, columns, entry.caption))
    named = [
        replace(w, columns={CLASS: labels[w.stem], **w.columns}) if w.stem in labels else w for w in works
    ]
    return named, failed, left_out


def _of_one_skeleton(
    works: list[_Work], known: Skeleton | None, left_out: list[Skip]
) -> tuple[list[_Work], list[Choice]]:
    """The works on one skeleton; others are brought to it, or left out."""
    if not works:
        return [], []
    skeleton = known or _commonest([w.motion.skeleton for w in works])
    kept: list[_Work] = []
    brought: Counter[str] = Counter()
    for work in works:
        match = matched(skeleton, work.motion.skeleton)
        if isinstance(match, str):
            left_out.append((work.name, match))
            continue
        if work.motion.skeleton.tree != skeleton.tree:
            brought[f"{len(work.motion.skeleton)} joints"] += 1
        kept.append(replace(work, motion=retargeted(work.motion, skeleton, match)))
    same = sum(w.motion.skeleton == skeleton for w in works)
    first = next((w.name for w in works if w.motion.skeleton == skeleton), "the model")
    choices: list[Choice] = [
        ("skeleton", f"{len(skeleton)} joints, as in {first}", f"{same:,} of {len(works):,} have it")
    ]
    if lengths := sum(w.motion.skeleton.tree == skeleton.tree for w in works) - same:
        choices.append(
            ("other lengths of bones", f"{lengths:,} motions", "the same joints: brought to this skeleton")
        )
    if brought:
        told = ", ".join(f"{n:,} of {what}" for what, n in brought.most_common(3))
        choices.append(("other skeletons", told, "brought to this skeleton by the names of their joints"))
    return kept, choices


def _commonest(skeletons: Sequence[Skeleton]) -> Skeleton:
    """The commonest of the commonest tree; the first of several."""
    tree = Counter(s.tree for s in skeletons).most_common(1)[0][0]
    return Counter(s for s in skeletons if s.tree == tree).most_common(1)[0][0]


def _rate(rate: str | float, motions: Sequence[Motion]) -> tuple[float, str]:
    if rate != "auto":
        try:
            value = float(rate)
        except ValueError:
            value = 0.0
        if not 1 <= value <= 1000:
            raise UserError(
                f"A rate of {rate} frames per second cannot be; give a number from 1 on, or auto."
            )
        return value, "as asked for"
    rates = Counter(float(round(m.rate)) if abs(m.rate - round(m.rate)) < 0.01 * m.rate else round(m.rate, 3)
                    for m in motions)  # fmt: skip
    usual = rates.most_common(1)[0][0] if rates else MOST_RATE
    if usual > MOST_RATE:
        return MOST_RATE, f"enough for bodies; most are at {usual:g}"
    return usual, "the commonest"


def parse_length(length: str | int, rate: float) -> int | None:
    """Frames of a length: 120, "120", "120frames", "4s"; None for "auto".

    Raises `UserError` for anything else, or fewer than two frames.
    """
    if length == "auto":
        return None
    told = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|sec|seconds|f|frames|)", str(length).strip().lower())
    frames = round(float(told[1]) * (rate if told[2].startswith("s") else 1)) if told else 0
    if frames < 2:
        raise UserError(
            f"A length of {length} cannot be; give frames (120frames) or seconds (4s), from two frames on, or auto."
        )
    return frames


def _length(length: str | int, motions: Sequence[Motion]) -> tuple[int, str]:
    rate = motions[0].rate
    if (frames := parse_length(length, rate)) is not None:
        return frames, "as asked for"
    most = frames = 2 ** int(math.log2(max(SHORTEST, SECONDS * rate)))
    lengths = [math.inf if m.loops else len(m) for m in motions]
    while frames > SHORTEST and (
        3 * sum(n < frames for n in lengths) > len(motions) or 4 * frames > sum(map(len, motions))
    ):
        frames //= 2
    why = (
        f"the largest power of two within {SECONDS:g} s"
        if frames == most
        else "short enough for these motions"
    )
    return frames, why


def _told(frames: int, rate: float) -> str:
    return f"{frames} frames, {frames / rate:.2f} s"


def _said(form: Form) -> list[Choice]:
    unit, metre = unit_of(form.skeleton)
    reach = form.skeleton.reach * metre
    feet = ", ".join(map(form.skeleton.point_name, form.feet)) or "none"
    return [
        (
            "unit",
            unit,
            f"a body of {reach:.2f} m from the root to its farthest tip; only measures depend on it",
        ),
        ("feet", feet, "by their names, and tips of limbs that are usually as low"),
    ]


def _filled(rows: list[Rows], loops: list[bool], modality: MotionModality) -> tuple[list[Rows], list[Choice]]:
    """Rows of at least a window."""
    length = modality.length
    choices: list[Choice] = []
    short = [len(r) < length for r in rows]
    if round_ := sum(s and again for s, again in zip(short, loops, strict=True)):
        choices.append(
            ("repeated", f"{round_:,} motions", "they go on from their end, and are shorter than a window")
        )
    if held := sum(short) - round_:
        choices.append(
            ("held at the end", f"{held:,} motions", "shorter than a window: their last pose is held")
        )
    out = []
    for r, again in zip(rows, loops, strict=True):
        if len(r) < length and again:
            cycle = r[:-1]  # the last frame is the first of the next round
            r = np.tile(cycle, (-(-length // len(cycle)) + 1, 1))
        out.append(modality.held(r))
    return out, choices


def _columns(works: Sequence[_Work]) -> tuple[dict[str, list[str | None]], frozenset[str]]:
    """What is known of each work; where nothing tells classes, the names of files do."""
    columns: dict[str, list[str | None]] = {
        key: [w.columns.get(key) for w in works] for key in dict.fromkeys(k for w in works for k in w.columns)
    }
    if CLASS not in columns:
        labels = labels_of([w.stem for w in works])
        if len(set(labels)) <= MANY_LABELS:
            columns[CLASS] = labels
    return columns, frozenset({CLASS})


def _storage(rows: list[Rows], counts: list[int], length: int) -> Ragged:
    """The stream of all frames, and the part of each window; windows of training slide over all of a motion's
    frames."""
    stream = torch.from_numpy(np.concatenate(rows))
    start, stop, low, high = [], [], [], []
    begin = 0
    for r, count in zip(rows, counts, strict=True):
        edges = [begin + len(r) * k // count for k in range(count + 1)]
        for first, last in zip(edges[:-1], edges[1:], strict=True):
            start.append(first)
            stop.append(last)
            low.append(max(begin, first - length + 1))
            high.append(last)
        begin += len(r)
    parts = (torch.tensor(values, dtype=torch.int64) for values in (start, stop, low, high))
    return Ragged(stream, *parts)
