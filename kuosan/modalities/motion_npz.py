"""Many motions in one .npz: channels of an AMC file for all of them, one after another.

    dof, dof_names      numbers of every frame (F, k), and what each is: bone_rx, root_tz …
    offsets             where each motion begins, and the end (n + 1); one motion unless given
    clips               their names; fps (30 unless given); root_position in metres, where it is more exact than `dof`
    actions             what each is (or `labels`, `classes`), which becomes its class

The skeleton stands beside them as an ASF file (`motion_asf`). Where `relative_positions` of `joints` (the ends of
bones) are there too, the bones have the lengths that these say: each person's own.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kuosan.modalities.base import Unreadable
from kuosan.modalities.motion_asf import Acclaim
from kuosan.modalities.motion_skeleton import Motion, Offset, Skeleton

LABELS = ("actions", "labels", "classes", "class", "action", "y")


@dataclass(frozen=True)
class Clip:
    """A motion of a file: its name in a container and what it is ("" where nothing says so), and a digest of what was
    read."""

    name: str
    label: str
    motion: Motion
    digest: bytes


def read_npz(path: Path, skeleton: Acclaim | None) -> list[Clip]:
    """The motions of a container.  Raises `Unreadable`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise Unreadable(f"it is no .npz that can be read ({error})", path) from None
    if "dof" not in arrays or "dof_names" not in arrays:
        raise Unreadable(
            f"its arrays ({', '.join(sorted(arrays)) or 'none'}) are not dof and dof_names", path
        )
    if skeleton is None:
        raise Unreadable("no .asf file beside it tells its skeleton", path)
    try:
        return _clips(arrays, skeleton)
    except (ValueError, IndexError, TypeError) as error:
        raise Unreadable(str(error), path) from None


def _clips(arrays: dict[str, Any], acclaim: Acclaim) -> list[Clip]:
    dof = np.asarray(arrays["dof"], dtype=np.float64)
    names = [str(name) for name in arrays["dof_names"]]
    if dof.ndim != 2 or dof.shape[1] != len(names):
        raise ValueError(f"dof is {dof.shape} where dof_names has {len(names)}")
    edges = np.asarray(arrays.get("offsets", [0, len(dof)]), dtype=np.int64)
    if edges[0] != 0 or edges[-1] != len(dof) or (np.diff(edges) <= 0).any():
        raise ValueError("its offsets do not divide its frames")
    if not np.isfinite(dof).all():
        raise ValueError("its frames hold numbers that are not finite")
    rate = float(np.asarray(arrays.get("fps", 30.0)))
    if not 0.5 <= rate <= 1e4:
        raise ValueError(f"{rate:g} frames per second cannot be meant")
    columns: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        columns.setdefault(name.rpartition("_")[0], []).append(k)
    for bone, known in acclaim.channels.items():
        if bone in columns:  # in the order of the skeleton
            place = {names[k].rpartition("_")[2].lower(): k for k in columns[bone]}
            columns[bone] = [place[what] for what in known if what in place]
    titles = [str(c) for c in arrays.get("clips", range(len(edges) - 1))]
    key = next((key for key in LABELS if key in arrays and len(arrays[key]) == len(titles)), None)
    labels = [str(v) for v in arrays[key]] if key else [""] * len(titles)
    found = []
    for i, (begin, end) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        motion = acclaim.motion({b: dof[begin:end, at] for b, at in columns.items()}, True, rate)
        if "root_position" in arrays:
            motion = replace(motion, place=np.asarray(arrays["root_position"][begin:end], dtype=np.float64))
        if "relative_positions" in arrays and "joints" in arrays:
            points = np.asarray(arrays["relative_positions"][begin:end], dtype=np.float64)
            lengths = _lengths(points, [str(j) for j in arrays["joints"]], acclaim.skeleton)
            motion = replace(motion, skeleton=lengths)
        if not np.isfinite(motion.place).all():
            raise ValueError("its places hold numbers that are not finite")
        digest = hashlib.sha256(np.ascontiguousarray(dof[begin:end], "<f8").tobytes()).digest()
        found.append(Clip(titles[i], labels[i], motion, digest))
    return found


def _lengths(points: Any, joints: list[str], skeleton: Skeleton) -> Skeleton:
    """The skeleton with the lengths of bones that places (F, J, 3) of their ends have."""
    number = {name: k for k, name in enumerate(joints)}

    def scaled(bone: int, offset: Offset) -> Offset:
        """An offset along the whole of this bone."""
        above = skeleton.parents[bone]
        one = number.get(skeleton.names[bone])
        other = number.get(skeleton.names[above]) if above >= 0 else None
        size = float(np.linalg.norm(offset))
        if one is None or other is None or size == 0:
            return offset
        length = round(float(np.linalg.norm(points[:, one] - points[:, other], axis=1).mean()), 3)
        x, y, z = (v * length / size for v in offset)
        return (x, y, z)

    offsets = tuple(
        scaled(p, o) if p > 0 else o for p, o in zip(skeleton.parents, skeleton.offsets, strict=True)
    )
    return replace(skeleton, offsets=offsets, ends=tuple((p, scaled(p, o)) for p, o in skeleton.ends))
