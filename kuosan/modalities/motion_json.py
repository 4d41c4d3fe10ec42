"""Motions in JSON as DeepMimic has them (Peng et al. 2018): rows of numbers, of skeletons that the format fixes.

A row is: seconds to the next one, the root's place, its rotation (w, x, y, z), and joint by joint in their order a
rotation (w, x, y, z), or one angle about the z axis. How many numbers a row has tells which body it is: 44 the human,
84 the dog. Attachments are those of DeepMimic's characters humanoid3d and dog3d: metres, y up, x forwards.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from kuosan.modalities.base import Unreadable
from kuosan.modalities.motion_skeleton import Motion, Offset, Skeleton, at_times, default_channels

# name, parent, offset, numbers in a row (4: a quaternion, 1: an angle about z, 0: fixed)
Joint = tuple[str, int, Offset, int]

_LEG = (0.0, -0.421546, 0.0)
_HUMAN: tuple[Joint, ...] = (
    ("root", -1, (0.0, 0.0, 0.0), 4),
    ("chest", 0, (0.0, 0.236151, 0.0), 4),
    ("neck", 1, (0.0, 0.223894, 0.0), 4),
    ("right_hip", 0, (0.0, 0.0, 0.084887), 4),
    ("right_knee", 3, _LEG, 1),
    ("right_ankle", 4, (0.0, -0.409870, 0.0), 4),
    ("right_shoulder", 1, (-0.02405, 0.24350, 0.18311), 4),
    ("right_elbow", 6, (0.0, -0.274788, 0.0), 1),
    ("right_wrist", 7, (0.0, -0.258947, 0.0), 0),
    ("left_hip", 0, (0.0, 0.0, -0.084887), 4),
    ("left_knee", 9, _LEG, 1),
    ("left_ankle", 10, (0.0, -0.409870, 0.0), 4),
    ("left_shoulder", 1, (-0.02405, 0.24350, -0.18311), 4),
    ("left_elbow", 12, (0.0, -0.274788, 0.0), 1),
    ("left_wrist", 13, (0.0, -0.258947, 0.0), 0),
)
_HUMAN_TIPS: dict[str, Offset] = {
    "neck": (0.0, 0.25, 0.0),
    "right_ankle": (0.13, -0.03, 0.0),
    "left_ankle": (0.13, -0.03, 0.0),
}


def _limb(side: str, front: bool, first: int) -> tuple[Joint, ...]:
    z = -1.0 if side == "left" else 1.0
    names = ("shoulder", "forearm", "hand", "finger") if front else ("upper_leg", "leg", "foot", "toe")
    lengths = (0.19, 0.2225, 0.09) if front else (0.2, 0.225, 0.135)
    start = (0.304074, -0.109983, z * 0.106071) if front else (-0.074803, -0.095825, z * 0.059860)
    return (
        (f"{side}_{names[0]}", 2 if front else 0, start, 4),
        *(
            (f"{side}_{names[k + 1]}", first + k, (0.0, -length, 0.0), 1 if k == 0 else 4)
            for k, length in enumerate(lengths)
        ),
    )


_DOG: tuple[Joint, ...] = (
    ("root", -1, (0.0, 0.0, 0.0), 4),
    ("spine0", 0, (0.0, 0.0, 0.0), 4),
    ("spine1", 1, (0.2375, 0.0, 0.0), 4),
    ("neck", 2, (0.28135, 0.0, 0.0), 4),
    ("head", 3, (0.175, 0.0, 0.0), 4),
    *_limb("left", True, 5),
    *_limb("right", True, 9),
    *_limb("left", False, 13),
    *_limb("right", False, 17),
    ("tail0", 0, (-0.086, 0.0, 0.0), 4),
    ("tail1", 21, (-0.2, 0.0, 0.0), 4),
)
_DOG_TIPS: dict[str, Offset] = {
    "head": (0.16, -0.04, 0.0),
    "tail1": (-0.2, 0.0, 0.0),
}


def _body(joints: tuple[Joint, ...], tips: dict[str, Offset]) -> Skeleton:
    """A skeleton whose joints follow their parents depth first, which both lists do."""
    names, parents, offsets, _ = zip(*joints, strict=True)
    leaves = [j for j in range(len(names)) if j not in parents]
    ends = tuple((j, tips.get(names[j], (0.0, 0.0, 0.0))) for j in leaves)
    return Skeleton(names, parents, offsets, ends, default_channels(len(names)))


BODIES = {1 + 3 + sum(j[3] for j in body): (body, _body(body, tips))
          for body, tips in ((_HUMAN, _HUMAN_TIPS), (_DOG, _DOG_TIPS))}  # fmt: skip
HEAD = (b'"Loop"', b'"Frames"')


def is_motion_json(head: bytes) -> bool:
    """Whether a JSON file that begins so holds a motion."""
    return head.lstrip()[:1] == b"{" and all(word in head for word in HEAD)


def read_motion_json(path: Path) -> Motion:
    """The motion of a file.  Raises `Unreadable`."""
    try:
        tree: Any = json.loads(path.read_text(encoding="utf-8-sig", errors="replace"))
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})", path) from None
    except (ValueError, RecursionError):
        raise Unreadable("it is not valid JSON", path) from None
    rows = tree.get("Frames") if isinstance(tree, dict) else None
    if not isinstance(rows, list):
        raise Unreadable("it has no list of Frames", path)
    if not rows:
        raise Unreadable("it has no frames", path)
    try:
        table = np.array(rows, dtype=np.float64)
    except (ValueError, TypeError):
        raise Unreadable("its frames are not rows of numbers of one length", path) from None
    if table.ndim != 2 or table.shape[1] not in BODIES:
        known = " or ".join(f"{width}" for width in BODIES)
        raise Unreadable(f"its frames have not {known} numbers, those of the bodies that are known", path)
    if not np.isfinite(table).all():
        raise Unreadable("its frames hold numbers that are not finite", path)
    joints, skeleton = BODIES[table.shape[1]]
    turns = np.broadcast_to(np.eye(3), (len(table), len(joints), 3, 3)).copy()
    at = 4
    for j, (_, _, _, count) in enumerate(joints):
        values = table[:, at : at + count]
        at += count
        if count == 4:
            if (np.linalg.norm(values, axis=1) < 1e-6).any():
                raise Unreadable("a rotation of it is zero, which is none", path)
            turns[:, j] = Rotation.from_quat(values, scalar_first=True).as_matrix()
        elif count == 1:
            turns[:, j] = Rotation.from_euler("z", values).as_matrix()
    steps = table[:-1, 0]
    if len(table) > 1 and not (steps > 1e-4).all() or (steps > 2.0).any():
        raise Unreadable("the time between two of its frames is none that can be meant", path)
    loops = str(tree.get("Loop", "none")).lower() == "wrap"
    if len(table) == 1:
        return Motion(skeleton, table[:, 1:4], turns, 30.0)
    rate = 1 / float(np.median(steps))
    times = np.concatenate([[0.0], np.cumsum(steps)])
    new = np.arange(int(np.floor(times[-1] * rate + 0.5)) + 1) / rate
    place, turns = at_times(times, table[:, 1:4], turns, new)
    return Motion(skeleton, place, turns, round(rate, 3), loops=loops)
