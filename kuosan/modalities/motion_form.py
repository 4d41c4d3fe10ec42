"""The one form in which all motions of a run are: numbers of every frame, and what they are taken back to.

A frame is told in the frame of the body's heading θ, the direction in the plane of that axis of the root which stays
the most level in the data:

    v_t = Y(-θ_t) (x_t+1 - x_t) r      the root's velocity in the plane, two numbers                        (1)
    h_t                                the root's height
    w_t = (θ_t+1 - θ_t) r              how fast it turns
    Y(-θ_t) R_root, L_j                rotations, as the first two columns of their matrices                (2)
    c_tk in {0, 1}                     which feet stand

where r is the frame rate and Y(θ) a rotation about the vertical; (2) is continuous, unlike angles or quaternions (Zhou
et al. 2019, eq. 14 and 15). The last frame's v and w are those of the frame before. Where a motion begins in the plane
and which way is forgotten: all begin at the origin, and head along the third axis. Each number is centred, and each
group of (1) and (2) scaled to unit variance as one, so that joints that hardly move stay unimportant.

A foot stands where it is near the height at which it usually is lowest, and slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kuosan.modalities.motion_names import FEET, parts_of
from kuosan.modalities.motion_skeleton import Array, Motion, Skeleton, globals_of

ROOT = 4  # numbers of (1)
LOW, SLOW = 0.05, 0.5  # metres above the usual height, metres per second
LEVEL_FEET = 0.08  # tips of limbs whose usual height is within this part of the reach of the floor are feet
HUMAN_REACH = 1.15  # metres from the hips to the finger tips
UNITS = {"metres": 1.0, "centimetres": 0.01, "inches": 0.0254, "millimetres": 0.001}


@dataclass(frozen=True)
class Form:
    """A skeleton, a rate, and what numbers of frames are centred and scaled by.

    Args:
        axis: of the root, whose direction in the plane is the heading.
        feet: points that stand (see `Motion.points`). floors: how high each is when it does, in the file's unit.
        metre: metres of the file's unit.
        mean, scale: of each number of a frame.
    """

    skeleton: Skeleton
    rate: float
    axis: int
    feet: tuple[int, ...]
    floors: tuple[float, ...]
    metre: float
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def channels(self) -> int:
        return ROOT + 6 * len(self.skeleton) + len(self.feet)

    @property
    def groups(self) -> dict[str, range]:
        """Which numbers of a frame are of what, by name."""
        turns = ROOT + 6 * len(self.skeleton)
        return {
            "velocity": range(2),
            "height": range(2, 3),
            "heading": range(3, 4),
            "posture": range(ROOT, ROOT + 6),
            "joints": range(ROOT + 6, turns),
            "contacts": range(turns, self.channels),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "skeleton": self.skeleton.to_json(), "rate": self.rate, "axis": self.axis, "feet": list(self.feet),
            "floors": list(self.floors), "metre": self.metre, "mean": list(self.mean), "scale": list(self.scale),
        }  # fmt: skip

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Form:
        lists = {k: tuple(float(v) for v in tree[k]) for k in ("floors", "mean", "scale")}
        feet = tuple(int(j) for j in tree["feet"])
        return cls(Skeleton.from_json(tree["skeleton"]), float(tree["rate"]), int(tree["axis"]), feet,
                   lists["floors"], float(tree["metre"]), lists["mean"], lists["scale"])  # fmt: skip

    def rows(self, motion: Motion) -> NDArray[np.float32]:
        """Numbers of every frame, (F, C), of a motion of this skeleton at this rate."""
        return ((self.plain(motion) - self.mean) / self.scale).astype(np.float32)

    def plain(self, motion: Motion) -> Array:
        """`rows` before they are centred and scaled."""
        rotation, x = globals_of(motion.skeleton, motion.place, motion.turns)
        heading = headings(rotation[:, 0], self.axis)
        back = about_vertical(-heading)
        move = np.diff(x[:, 0], axis=0) * self.rate
        move = np.einsum("fij,fj->fi", back[:-1], move)[:, [0, 2]]
        spin = (np.diff(heading) + np.pi) % (2 * np.pi) - np.pi
        turns = np.concatenate([(back @ rotation[:, 0])[:, None], motion.turns[:, 1:]], 1)
        contacts = self.standing(x) if motion.contacts is None else motion.contacts
        return np.concatenate(
            [
                _last_again(move, (len(x), 2)),
                x[:, 0, 1:2],
                _last_again(spin[:, None] * self.rate, (len(x), 1)),
                np.swapaxes(turns[..., :2], 2, 3).reshape(len(x), -1),
                contacts.astype(np.float64),
            ],
            1,
        )

    def motion(self, rows: Array) -> Motion:
        """The motion that rows (F, C) tell: undoes `rows`, up to where it begins and heads."""
        plain = np.asarray(rows, dtype=np.float64) * self.scale + self.mean
        frames = len(plain)
        heading = np.concatenate([[0.0], np.cumsum(plain[:-1, 3]) / self.rate])
        forth = about_vertical(heading)
        move = np.stack([plain[:, 0], np.zeros(frames), plain[:, 1]], 1)
        move = np.einsum("fij,fj->fi", forth, move) / self.rate
        x = np.concatenate([np.zeros((1, 3)), np.cumsum(move[:-1], 0)])
        x[:, 1] = plain[:, 2]
        columns = plain[:, ROOT : ROOT + 6 * len(self.skeleton)].reshape(frames, -1, 2, 3)
        turns = orthonormal(columns)
        world = self.skeleton.world
        turns[:, 0] = world.T @ forth @ turns[:, 0]
        contacts = plain[:, self.channels - len(self.feet) :] > 0.5
        return Motion(self.skeleton, x @ world, turns, self.rate, contacts)

    def standing(self, x: Array) -> NDArray[np.bool_]:
        """Which feet stand, (F, K), by where all points are."""
        feet = x[:, list(self.feet)] * self.metre
        speed = np.linalg.norm(np.diff(feet, axis=0), axis=2) * self.rate
        low = feet[..., 1] < np.array(self.floors) * self.metre + LOW
        return np.asarray(low & (_last_again(speed, low.shape) < SLOW))


def headings(rotation: Array, axis: int) -> Array:
    """The direction in the plane of an axis of rotations (F, 3, 3), as the angle about the vertical."""
    along = rotation[:, :, axis]
    return np.arctan2(-along[:, 2], along[:, 0]) if axis == 0 else np.arctan2(along[:, 0], along[:, 2])


def about_vertical(angle: Array) -> Array:
    """Rotations (F, 3, 3) about the second axis."""
    c, s, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([c, zero, s, zero, one, zero, -s, zero, c], -1).reshape(-1, 3, 3)


def orthonormal(columns: Array) -> Array:
    """Rotation matrices (…, 3, 3) of two columns (…, 2, 3) that need not be square to each other (Zhou et al. 2019,
    eq. 15)."""
    a, b = columns[..., 0, :], columns[..., 1, :]
    a = a / np.maximum(np.linalg.norm(a, axis=-1, keepdims=True), 1e-8)
    b = b - (a * b).sum(-1, keepdims=True) * a
    b = b / np.maximum(np.linalg.norm(b, axis=-1, keepdims=True), 1e-8)
    return np.stack([a, b, np.cross(a, b)], -1)


def _last_again(steps: Array, shape: tuple[int, ...]) -> Array:
    """One more row, the last one's; zeros where there is none."""
    return np.concatenate([steps, steps[-1:]]) if len(steps) else np.zeros(shape)


def fitted(motions: Sequence[Motion]) -> Form:
    """The form that suits motions of one skeleton and one rate."""
    skeleton, rate = motions[0].skeleton, motions[0].rate
    roots = np.concatenate([skeleton.world @ m.turns[:, 0] for m in motions])
    axis = int(np.argmin(np.abs(roots[:, 1, :]).mean(0)))
    heights = np.concatenate([m.points()[..., 1] for m in motions])
    feet = choose_feet(skeleton, heights)
    floors = tuple(_short(float(np.quantile(heights[:, j], 0.05))) for j in feet)
    metre = unit_of(skeleton)[1]
    width = ROOT + 6 * len(skeleton) + len(feet)
    form = Form(skeleton, rate, axis, feet, floors, metre, (0.0,) * width, (1.0,) * width)
    plain = np.concatenate([form.plain(m) for m in motions])
    mean = plain.mean(0)
    scale = np.ones(width)
    for group in form.groups.values():
        if len(group):
            spread = float(np.sqrt(((plain[:, group] - mean[group]) ** 2).mean()))
            scale[group] = spread if spread > 1e-6 else 1.0
    return replace(form, mean=tuple(map(_short, mean.tolist())), scale=tuple(map(_short, scale.tolist())))


def choose_feet(skeleton: Skeleton, heights: Array) -> tuple[int, ...]:
    """Points that stand: joints whose names say so, and tips of other limbs that are usually as low as anything is (a
    dog's front paws)."""
    if len(skeleton) < 2:
        return ()
    named = [j for j, part in enumerate(parts_of(skeleton)) if part[1] in FEET]
    tips = [
        j for j in range(1, len(skeleton)) if j not in {*skeleton.parents, *(p for p, _ in skeleton.ends)}
    ]
    tips += range(len(skeleton), heights.shape[1])
    usual = np.median(heights, 0)
    near = usual.min() + LEVEL_FEET * skeleton.reach
    low = [k for k in tips if usual[k] <= near and not {*skeleton.chain(skeleton.holder(k))} & {*named}]
    return (*named, *low)


def unit_of(skeleton: Skeleton) -> tuple[str, float]:
    """The unit in which the body is nearest to a human one, and metres of it."""
    reach = max(skeleton.reach, 1e-9)
    return min(UNITS.items(), key=lambda unit: abs(np.log(reach * unit[1] / HUMAN_REACH)))


def _short(value: float) -> float:
    return float(f"{value:.7g}")
