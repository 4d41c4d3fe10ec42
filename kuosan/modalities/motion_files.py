"""Files of motions: what is read, and what is written.

An AMC file and a container of channels (.npz) need a skeleton that stands in an ASF file: of those beside it the one
whose name the file's begins with, else the only one; else one further up or down in the folder.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from kuosan.errors import UserError
from kuosan.modalities.base import Unreadable
from kuosan.modalities.motion_asf import Acclaim, read_amc, read_asf
from kuosan.modalities.motion_bvh import read_bvh, write_bvh
from kuosan.modalities.motion_draw import gif_bytes, strip, write_mp4
from kuosan.modalities.motion_glb import write_glb
from kuosan.modalities.motion_json import read_motion_json
from kuosan.modalities.motion_names import parts_of
from kuosan.modalities.motion_npz import Clip, read_npz
from kuosan.modalities.motion_skeleton import Motion

WRITTEN = ("bvh", "glb", "gif", "mp4", "png")


def read_clips(path: Path) -> list[Clip]:
    """All motions of a file; a skeleton alone has none.  Raises `Unreadable`."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return read_npz(path, skeleton_for(path))
    if suffix == ".asf":
        return []
    if suffix == ".bvh":
        motion = upright(read_bvh(path))
    elif suffix == ".json":
        motion = read_motion_json(path)
    elif suffix == ".amc":
        skeleton = skeleton_for(path)
        if skeleton is None:
            raise Unreadable("no .asf file beside it tells its skeleton", path)
        motion = read_amc(path, skeleton)
    else:
        raise Unreadable(f"motions are not read from {suffix or 'files without suffix'}", path)
    return [Clip("", "", motion, hashlib.sha256(path.read_bytes()).digest())]


def skeleton_for(path: Path) -> Acclaim | None:
    """The skeleton that stands beside a file; None where there is none.  Raises `Unreadable`."""
    near = sorted(path.parent.glob("*.[aA][sS][fF]"))
    fitting = [p for p in near if path.stem.startswith(p.stem)]
    for choice in (fitting[-1:], near, sorted(path.parent.parent.glob("*.[aA][sS][fF]")),
                   sorted(path.parent.glob("*/*.[aA][sS][fF]"))):  # fmt: skip
        if choice:
            return _skeleton(choice[0], choice[0].stat().st_mtime_ns)
    return None


@lru_cache(32)
def _skeleton(path: Path, changed: int) -> Acclaim:
    try:
        return read_asf(path)
    except Unreadable as error:
        raise Unreadable(f"its skeleton {path.name} cannot be read ({error.reason})") from None


def upright(motion: Motion) -> Motion:
    """A motion whose skeleton knows which axis of its world is up: the one along which its legs go down, where their
    names tell, else the second."""
    parts = parts_of(motion.skeleton)
    pairs = [
        (j, k)
        for j, part in enumerate(parts) if part[1] == "foot"
        for k in motion.skeleton.chain(j) if parts[k][1] == "thigh"
    ]  # fmt: skip
    if not pairs:
        return motion
    x = motion.points()
    legs = np.median(np.concatenate([x[:, k] - x[:, j] for j, k in pairs]), axis=0)
    if legs[2] < 2 * abs(legs[1]):
        return motion
    return replace(motion, skeleton=replace(motion.skeleton, up=2))


def write_motion(motion: Motion, path: Path) -> Path:
    """Writes BVH, or what the suffix says: .glb, .gif, .mp4 or .png (a strip of poses).

    Raises:
        UserError: another suffix, or .mp4 without PyAV.
    """
    path = path if path.suffix else path.with_suffix(".bvh")
    match path.suffix.lower():
        case ".bvh":
            write_bvh(motion, path)
        case ".glb":
            write_glb(motion, path)
        case ".gif":
            path.write_bytes(gif_bytes(motion))
        case ".mp4":
            write_mp4(motion, path)
        case ".png":
            strip(motion).save(path)
        case suffix:
            raise UserError(f"{path.name}: motions are not written as {suffix}; name it one of "
                            f"{', '.join('.' + kind for kind in WRITTEN)}.")  # fmt: skip
    return path
