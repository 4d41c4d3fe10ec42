"""BVH (Biovision hierarchy): a tree of joints, and a line of numbers for every frame.

Read: any hierarchy and channel order, any number of channels of a joint, end sites, several roots' worth of white
space. A joint below the root that has places as well as rotations stands where these say on average, as bones do not
stretch here; how far it strays is told. Written: the hierarchy, offsets and channel order that were read, so that what
opened the first file opens the second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from kuosan.modalities.base import Unreadable
from kuosan.modalities.motion_skeleton import (
    POSITIONS,
    Array,
    Motion,
    Offset,
    Skeleton,
    default_channels,
    depth_first,
    euler_angles,
    euler_matrices,
)

LONGEST_FRAME, SHORTEST_FRAME = 2.0, 1e-4  # seconds that can be meant
MOST_JOINTS = 1_000
_MOTION = re.compile(r"^\s*MOTION\s*$", re.MULTILINE | re.IGNORECASE)
_FRAMES = re.compile(r"^\s*Frames\s*:\s*(\S+)", re.MULTILINE | re.IGNORECASE)
_TIME = re.compile(r"^\s*Frame\s+Time\s*:\s*(\S+)", re.MULTILINE | re.IGNORECASE)
Wrong = Callable[[str], NoReturn]


def read_bvh(path: Path) -> Motion:
    """The motion of a file.  Raises `Unreadable`."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})", path) from None
    return parse_bvh(text, path)


def parse_bvh(text: str, path: Path | None = None) -> Motion:
    """The motion that a BVH text says.  Raises `Unreadable`."""

    def wrong(reason: str) -> NoReturn:
        raise Unreadable(reason, path)

    if "HIERARCHY" not in text[:4096].upper():
        wrong("it does not begin with a HIERARCHY, so it is no BVH")
    mark = _MOTION.search(text)
    if mark is None:
        wrong("it ends before its MOTION")
    head, tail = text[: mark.start()], text[mark.end() :]
    skeleton = _hierarchy(iter(head.replace("{", " { ").replace("}", " } ").split()), wrong)
    frames, seconds, numbers = _head(tail, wrong)
    width = sum(map(len, skeleton.channels))
    try:
        values = np.array(numbers.split(), dtype=np.float64)
    except ValueError:
        wrong("its frames hold something that is no number")
    if frames == 0 or not len(values):
        wrong("it has no frames")
    if len(values) < frames * width:
        wrong(
            f"it ends after {len(values) // max(1, width):,} of {frames:,} frames, so something cut it short"
        )
    if len(values) > frames * width:
        wrong(f"a frame should have {width} numbers, and {len(values):,} stand there for {frames:,} frames")
    table = values.reshape(frames, width)
    if not np.isfinite(table).all():
        wrong("its frames hold numbers that are not finite")
    return _motion(skeleton, table, 1 / seconds)


def _hierarchy(words: Iterator[str], wrong: Wrong) -> Skeleton:
    """The skeleton of the words up to MOTION."""
    names: list[str] = []
    parents: list[int] = []
    offsets: list[Offset] = []
    channels: list[tuple[str, ...]] = []
    ends: list[tuple[int, Offset]] = []
    stack: list[int] = []  # joints that are open; -1 for an end site
    pending: list[str] = []
    try:
        for word in words:
            match word.upper():
                case "HIERARCHY":
                    continue
                case "ROOT" | "JOINT":
                    if word.upper() == "ROOT" and names:
                        wrong("it has several roots, and one body is read from a file")
                    pending = []
                    for name in words:
                        if name == "{":
                            break
                        pending.append(name)
                    names.append(" ".join(pending))
                    parents.append(stack[-1] if stack else -1)
                    offsets.append((0.0, 0.0, 0.0))
                    channels.append(())
                    stack.append(len(names) - 1)
                case "END":
                    while next(words) != "{":
                        pass
                    ends.append((stack[-1], (0.0, 0.0, 0.0)))
                    stack.append(-1)
                case "OFFSET":
                    x, y, z = (float(next(words)) for _ in range(3))
                    if not all(map(math.isfinite, (x, y, z))):
                        wrong("an offset is not finite")
                    if stack[-1] < 0:
                        ends[-1] = (ends[-1][0], (x, y, z))
                    else:
                        offsets[stack[-1]] = (x, y, z)
                case "CHANNELS":
                    found = tuple(_channel(next(words)) for _ in range(int(next(words))))
                    channels[stack[-1]] = found
                case "}":
                    stack.pop()
                case _:
                    wrong(f"its hierarchy says '{word[:30]}', which means nothing in BVH")
    except (StopIteration, ValueError, IndexError, KeyError):
        wrong("its hierarchy is damaged")
    if not names:
        wrong("its hierarchy has no joint")
    if stack:
        wrong("its hierarchy ends before all joints are closed")
    if len(names) > MOST_JOINTS:
        wrong(f"it has {len(names):,} joints, more than the {MOST_JOINTS:,} that are read")
    if -1 in parents[1:]:
        wrong("it has several roots, and one body is read from a file")
    tipped = {*parents, *(p for p, _ in ends)}
    ends += [(j, (0.0, 0.0, 0.0)) for j in range(len(names)) if j not in tipped]
    return Skeleton(tuple(names), tuple(parents), tuple(offsets), tuple(ends), tuple(channels))


_CHANNELS = {f"{axis}{what}".lower(): f"{axis}{what}" for axis in "XYZ" for what in ("position", "rotation")}


def _channel(word: str) -> str:
    return _CHANNELS[word.lower()]


def _head(tail: str, wrong: Wrong) -> tuple[int, float, str]:
    """Frames, seconds of a frame, and the numbers behind them."""
    count, time = _FRAMES.search(tail), _TIME.search(tail)
    try:
        if count is None or time is None:
            raise ValueError
        frames, seconds = int(count[1]), float(time[1])
    except ValueError:
        wrong("its MOTION does not say how many frames there are and how long each is")
    if frames < 0:
        wrong(f"it says that it has {frames} frames")
    if not SHORTEST_FRAME <= seconds <= LONGEST_FRAME:
        wrong(f"a frame of {seconds:g} seconds cannot be meant")
    return frames, seconds, tail[max(count.end(), time.end()) :]


def _motion(skeleton: Skeleton, table: Array, rate: float) -> Motion:
    turns = np.empty((len(table), len(skeleton), 3, 3))
    place = np.broadcast_to(np.array(skeleton.offsets[0]), (len(table), 3)).copy()
    offsets = list(skeleton.offsets)
    at = 0
    for j, channels in enumerate(skeleton.channels):
        mine = table[:, at : at + len(channels)]
        at += len(channels)
        spin = [k for k, c in enumerate(channels) if c.endswith("rotation")]
        turns[:, j] = _turned("".join(channels[k][0] for k in spin), mine[:, spin])
        where = {POSITIONS.index(c): mine[:, k] for k, c in enumerate(channels) if c in POSITIONS}
        if j == 0:
            for axis, values in where.items():
                place[:, axis] = values
        elif where:
            mean = [float(where[a].mean()) if a in where else offsets[j][a] for a in range(3)]
            offsets[j] = (mean[0], mean[1], mean[2])
    found = Skeleton(
        skeleton.names, skeleton.parents, tuple(offsets), skeleton.ends, skeleton.channels, skeleton.up
    )
    return Motion(found, place, turns, rate)


def _turned(order: str, degrees: Array) -> Array:
    """Rotations of any number of channels, one after another; neighbours about the same axis add up."""
    if len(order) <= 3 and all(a != b for a, b in zip(order, order[1:], strict=False)):
        return euler_matrices(order, degrees)
    out = euler_matrices(order[0], degrees[:, :1])
    for k in range(1, len(order)):
        out = out @ euler_matrices(order[k], degrees[:, k : k + 1])
    return out


def write_bvh(motion: Motion, path: Path) -> None:
    """Writes a motion in the channels of its skeleton."""
    path.write_text(bvh_text(motion), encoding="utf-8")


def bvh_text(motion: Motion) -> str:
    """A motion as BVH.

    A joint whose channels cannot say every rotation (one or two axes) is written with those that it has, which is exact
    where it never turned about another axis.
    """
    s = motion.skeleton
    channels = s.channels or default_channels(len(s))
    below: dict[int, list[int]] = {}
    for j, p in enumerate(s.parents):
        below.setdefault(p, []).append(j)
    tips: dict[int, list[Offset]] = {}
    for p, offset in s.ends:
        tips.setdefault(p, []).append(offset)
    lines = ["HIERARCHY"]

    def number(values: Offset) -> str:
        return " ".join(f"{v:.6f}" for v in values)

    stack: list[tuple[int, int]] = [(0, 0)]
    while stack:
        j, depth = stack.pop()
        tab = "\t" * depth
        if j < 0:
            lines.append(tab + "}")
            continue
        lines += [
            f"{tab}{'JOINT' if depth else 'ROOT'} {s.names[j]}", tab + "{", f"{tab}\tOFFSET {number(s.offsets[j])}",
            f"{tab}\tCHANNELS {len(channels[j])} {' '.join(channels[j])}".rstrip(),
        ]  # fmt: skip
        for offset in tips.get(j, ()):
            lines += [f"{tab}\tEnd Site", f"{tab}\t{{", f"{tab}\t\tOFFSET {number(offset)}", f"{tab}\t}}"]
        stack.append((-1, depth))
        stack += [(k, depth + 1) for k in below.get(j, [])[::-1]]
    lines += ["MOTION", f"Frames: {len(motion)}", f"Frame Time: {1 / motion.rate:.8g}"]
    table = np.concatenate([_columns(motion, j, channels[j]) for j in depth_first(s.parents)], axis=1)
    lines += [" ".join(f"{v:.6f}" for v in row) for row in table.tolist()]
    return "\n".join(lines) + "\n"


def _columns(motion: Motion, j: int, channels: tuple[str, ...]) -> Array:
    """The numbers of one joint, (F, channels)."""
    order = "".join(c[0] for c in channels if c.endswith("rotation"))
    full = (order + "".join(a for a in "ZXY" if a not in order))[:3]
    degrees = unwound(euler_angles(full, motion.turns[:, j]))
    found, k = [], 0
    for channel in channels:
        if channel in POSITIONS:
            axis = POSITIONS.index(channel)
            values = (
                motion.place[:, axis] if j == 0 else np.full(len(motion), motion.skeleton.offsets[j][axis])
            )
        else:
            values, k = degrees[:, k] if k < 3 else np.zeros(len(motion)), k + 1
        found.append(values)
    return np.stack(found, 1) if found else np.empty((len(motion), 0))


def unwound(degrees: Array) -> Array:
    """Angles that go on from one frame to the next instead of jumping by whole turns."""
    return np.rad2deg(np.unwrap(np.deg2rad(degrees), axis=0))
