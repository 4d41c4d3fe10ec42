"""Made-up motions: a body with arms and legs that walks by a few sines."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from kuosan.modalities.motion_skeleton import POSITIONS, Motion, Skeleton

_JOINTS = (
    ("Hips", -1, (0.0, 0.0, 0.0)),
    ("Spine", 0, (0.0, 0.25, 0.0)),
    ("Neck", 1, (0.0, 0.3, 0.0)),
    ("LeftArm", 1, (0.2, 0.25, 0.0)),
    ("LeftForeArm", 3, (0.28, 0.0, 0.0)),
    ("RightArm", 1, (-0.2, 0.25, 0.0)),
    ("RightForeArm", 5, (-0.28, 0.0, 0.0)),
    ("LeftUpLeg", 0, (0.1, 0.0, 0.0)),
    ("LeftLeg", 7, (0.0, -0.42, 0.02)),
    ("LeftFoot", 8, (0.0, -0.42, -0.02)),
    ("RightUpLeg", 0, (-0.1, 0.0, 0.0)),
    ("RightLeg", 10, (0.0, -0.42, 0.02)),
    ("RightFoot", 11, (0.0, -0.42, -0.02)),
)
_ENDS = (
    (2, (0.0, 0.2, 0.0)), (4, (0.25, 0.0, 0.0)), (6, (-0.25, 0.0, 0.0)), (9, (0.0, -0.05, 0.15)),
    (12, (0.0, -0.05, 0.15)),
)  # fmt: skip


def body(scale: float = 1.0, order: str = "ZXY", prefix: str = "") -> Skeleton:
    """A body of 13 joints; `order` is that of its rotation channels."""
    names, parents, offsets = zip(*_JOINTS, strict=True)
    spins = tuple(f"{axis}rotation" for axis in order)
    channels = ((*POSITIONS, *spins), *((spins,) * (len(names) - 1)))

    def sized(offset: tuple[float, float, float]) -> tuple[float, float, float]:
        x, y, z = (scale * v for v in offset)
        return x, y, z

    ends = tuple((j, sized(o)) for j, o in _ENDS)
    return Skeleton(
        tuple(prefix + n for n in names), parents, tuple(sized(o) for o in offsets), ends, channels
    )


def walk(seed: int = 0, frames: int = 48, rate: float = 30.0, skeleton: Skeleton | None = None) -> Motion:
    """Steps of some pace, while the body turns a little."""
    skeleton = skeleton or body()
    rng = np.random.default_rng(seed)
    pace, swing, turn = rng.uniform(0.8, 1.2), rng.uniform(0.3, 0.6), rng.uniform(-0.5, 0.5)
    t = np.arange(frames) / rate
    phase = 2 * np.pi * pace * t + rng.uniform(0, 6)
    angles = {
        "Hips": np.stack([0.03 * np.sin(phase), turn * t + rng.uniform(-3, 3), 0.02 * np.cos(phase)], 1),
        "Spine": np.stack([0.05 * np.cos(phase), 0.1 * np.sin(phase), 0 * t], 1),
        "LeftUpLeg": np.stack([swing * np.sin(phase), 0 * t, 0 * t], 1),
        "RightUpLeg": np.stack([-swing * np.sin(phase), 0 * t, 0 * t], 1),
        "LeftLeg": np.stack([swing * (1.1 + np.sin(phase + 1)), 0 * t, 0 * t], 1),
        "RightLeg": np.stack([swing * (1.1 - np.sin(phase + 1)), 0 * t, 0 * t], 1),
        "LeftArm": np.stack([-swing * np.sin(phase), 0 * t, -1.2 + 0 * t], 1),
        "RightArm": np.stack([swing * np.sin(phase), 0 * t, 1.2 + 0 * t], 1),
    }
    turns = np.broadcast_to(np.eye(3), (frames, len(skeleton), 3, 3)).copy()
    for j, name in enumerate(skeleton.names):
        for part, values in angles.items():
            if name.endswith(part):
                turns[:, j] = Rotation.from_rotvec(values).as_matrix()
    heading = np.arctan2(turns[:, 0, 0, 2], turns[:, 0, 2, 2])
    move = 0.9 * pace / rate * np.stack([np.sin(heading), 0 * t, np.cos(heading)], 1)
    scale = skeleton.reach / body().reach
    place = np.cumsum(move, 0) * scale
    place[:, 1] = scale * (0.85 + 0.02 * np.cos(2 * phase))
    return Motion(skeleton, place, turns, rate)
