"""ASF/AMC (Acclaim): a skeleton in one file, motions of it in others.

A bone b has a direction and a length in the world of the rest pose, and an axis: the Euler angles of a frame C_b in
which the motion's angles are told. A frame of an AMC file gives M_b, and the bone turns by

    L_b = C_b M_b C_b^-1                                                                                  (1)

in its parent's frame; angles are about fixed axes, x first (Acclaim's own description, "Acclaim file formats"). Here a
bone is the joint at its beginning, so that its offset is the whole bone of its parent. An ASF tells lengths in units of
1/length inches; they are turned into metres.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from kuosan.modalities.base import Unreadable
from kuosan.modalities.motion_skeleton import Array, Motion, Offset, Skeleton, default_channels

INCH = 0.0254
RATE = 120.0  # AMC files do not say theirs; the CMU database's
ROOT = "root"


@dataclass(frozen=True)
class Acclaim:
    """What an ASF file says: a skeleton in metres, its frames C, and the channels of every bone."""

    skeleton: Skeleton
    frames: Mapping[str, Array]
    channels: Mapping[str, tuple[str, ...]]
    unit: float
    degrees: bool
    order: str = "xyz"

    def motion(self, channels: Mapping[str, Array], degrees: bool, rate: float) -> Motion:
        """A motion of angles (F, k) of each bone, in the order of `channels`; bones that are missing stand still.

        Raises ValueError where there are others, or other counts.
        """
        counts = {len(values) for values in channels.values()}
        if len(counts) != 1:
            raise ValueError("its bones have different numbers of frames")
        (n,) = counts
        turns = np.broadcast_to(np.eye(3), (n, len(self.skeleton), 3, 3)).copy()
        place = np.zeros((n, 3))
        for name, values in channels.items():
            if name not in self.channels:
                raise ValueError(f"its bone '{name}' is not in the skeleton")
            known = self.channels[name]
            if values.shape[1] != len(known):
                raise ValueError(
                    f"its bone '{name}' has {values.shape[1]} numbers, and the skeleton's {len(known)}"
                )
            angles = np.zeros((n, 3))
            for k, what in enumerate(known):
                axis = "xyz".find(what[-1])
                if what[0] == "t" and name == ROOT:
                    place[:, axis] = values[:, k] * self.unit
                elif what[0] == "r":
                    angles[:, self.order.index("xyz"[axis])] = values[:, k]
            c = self.frames[name]
            m = Rotation.from_euler(self.order, angles, degrees=degrees).as_matrix()
            turns[:, self.skeleton.names.index(name)] = c @ m @ c.T
        return Motion(self.skeleton, place, turns, rate)


def read_asf(path: Path) -> Acclaim:
    """The skeleton of an ASF file.  Raises `Unreadable`."""
    try:
        parts = _sections(path.read_text(encoding="utf-8", errors="replace"))
        return _acclaim(parts)
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})", path) from None
    except (KeyError, ValueError, IndexError) as error:
        raise Unreadable(f"its skeleton is damaged ({error})", path) from None


def _sections(text: str) -> dict[str, list[list[str]]]:
    """Lines of words behind each keyword."""
    found: dict[str, list[list[str]]] = {}
    here: list[list[str]] = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0].startswith(":"):
            here = found.setdefault(words[0][1:].lower(), [])
            words = words[1:]
        if words:
            here.append(words)
    return found


def _acclaim(parts: Mapping[str, list[list[str]]]) -> Acclaim:
    units = {line[0].lower(): line[1] for line in parts.get("units", []) if len(line) > 1}
    degrees = units.get("angle", "deg").lower().startswith("deg")
    unit = INCH / float(units.get("length", 1.0))
    root = {line[0].lower(): line[1:] for line in parts["root"]}
    order = root.get("axis", ["XYZ"])[0].lower()
    if sorted(order) != ["x", "y", "z"]:
        raise ValueError(f"an axis order {order}")
    channels = {ROOT: tuple(w.lower() for w in root["order"])}
    frames = {ROOT: _frame([*root.get("orientation", ["0"] * 3), order], degrees)}
    bones: dict[str, Offset] = {ROOT: (0.0, 0.0, 0.0)}
    for bone in _bones(parts["bonedata"]):
        name = bone["name"][0]
        direction = np.array([float(v) for v in bone["direction"][:3]])
        size = float(np.linalg.norm(direction))
        way = direction * (float(bone["length"][0]) * unit / size if size > 0 else 0.0)
        bones[name] = (float(way[0]), float(way[1]), float(way[2]))
        channels[name] = tuple(w.lower() for w in bone.get("dof", []))
        frames[name] = _frame(bone["axis"], degrees)
    parent: dict[str, str] = {}
    for line in parts["hierarchy"]:
        for child in line[1:] if line[0] in bones else ():
            if child not in bones:
                raise ValueError(f"a bone '{child}' without data")
            parent[child] = line[0]
    names = _ordered(parent)
    place = {name: j for j, name in enumerate(names)}
    offsets = tuple(bones[parent[name]] if name in parent else (0.0, 0.0, 0.0) for name in names)
    parents = tuple(place[parent[name]] if name in parent else -1 for name in names)
    ends = tuple((j, bones[name]) for j, name in enumerate(names) if j not in parents)
    skeleton = Skeleton(names, parents, offsets, ends, default_channels(len(names)))
    if not all(math.isfinite(v) for o in offsets for v in o):
        raise ValueError("a length that is not finite")
    return Acclaim(skeleton, frames, channels, unit, degrees, order)


def _bones(lines: Sequence[list[str]]) -> list[dict[str, list[str]]]:
    found: list[dict[str, list[str]]] = []
    for line in lines:
        word = line[0].lower()
        if word == "begin":
            found.append({})
        elif word != "end" and found:
            found[-1].setdefault(word, line[1:])
    return found


def _frame(words: Sequence[str], degrees: bool) -> Array:
    """C of three angles and an order: fixed axes, the first letter's first."""
    order = words[3].lower() if len(words) > 3 else "xyz"
    axes = [float(w) for w in words[:3]]
    return np.asarray(Rotation.from_euler(order, axes, degrees=degrees).as_matrix())


def _ordered(parent: Mapping[str, str]) -> tuple[str, ...]:
    """Names, each followed by all below it; what does not hang on the root is left out."""
    below: dict[str, list[str]] = {}
    for child, above in parent.items():
        below.setdefault(above, []).append(child)
    names, stack = [], [ROOT]
    while stack:
        names.append(stack.pop())
        if len(names) > len(parent) + 1:
            raise ValueError("a hierarchy that runs in a circle")
        stack += below.get(names[-1], [])[::-1]
    return tuple(names)


def read_amc(path: Path, skeleton: Acclaim, rate: float = RATE) -> Motion:
    """The motion of an AMC file.  Raises `Unreadable`."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})", path) from None
    try:
        channels, degrees = parse_amc(text)
        found = skeleton.motion(channels, skeleton.degrees if degrees is None else degrees, rate)
    except ValueError as error:
        raise Unreadable(str(error), path) from None
    return found


def parse_amc(text: str) -> tuple[dict[str, Array], bool | None]:
    """Numbers (F, k) of each bone, and whether angles are degrees, None where the file does not say.

    Raises ValueError where something is not as AMC has it.
    """
    degrees: bool | None = None
    frames = 0
    rows: dict[str, list[list[float]]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0].startswith(":"):
            degrees = {":degrees": True, ":radians": False}.get(words[0].lower(), degrees)
        elif len(words) == 1 and words[0].isdecimal():
            frames += 1
        else:
            try:
                values = [float(w) for w in words[1:]]
            except ValueError:
                raise ValueError(f"line {number} holds something that is no number") from None
            if not all(map(math.isfinite, values)):
                raise ValueError(f"line {number} holds numbers that are not finite")
            rows.setdefault(words[0], []).append(values)
    if not frames or not rows:
        raise ValueError("it has no frames")
    if any(len(values) != frames or len({*map(len, values)}) != 1 for values in rows.values()):
        raise ValueError(f"its {frames:,} frames are not complete, so something cut it short")
    return {name: np.array(values) for name, values in rows.items()}, degrees
