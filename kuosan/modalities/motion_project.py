"""What makes motions keep to rules that a network only nearly keeps: feet that stand do not slide, joints do not bend
further than those of the data.

**Foot lock.** While foot k stands, from frame a to frame b, it is held where it was on average. Between standings the
correction fades in a straight line over `FADE` seconds, so that nothing jumps:

    δ_tk = mean_a..b x_sk - x_tk  while it stands,      the leg's ankle goes to x_t + δ_t                    (1)

in the plane alone; height stays as it is. Ankle and toes of one leg share the mean of their corrections. The leg
reaches the place by turning hip and knee in the plane in which the leg is bent (two-bone inverse kinematics, by the
law of cosines), the knee about its axis alone; the foot keeps its direction in the world, the body its way. A place
that is out of reach is approached as far as the leg goes.

**Joint limits.** Of each joint the rotation vector about its mean rotation over the data, component by component, has a
range that 99.8 % of the frames keep to; what is outside is taken to the nearest inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from kuosan.modalities.motion_form import Form
from kuosan.modalities.motion_skeleton import Array, Motion, Skeleton, globals_of, least_rotation

FADE = 0.2  # seconds
STRAIGHT = 0.9995  # of a leg's length: it never locks
NEARLY = 0.05  # sine of a bend below which a leg's usual axis counts for more than this one
ROUNDS = 3  # where ankle and toes are held at once
OUTSIDE = 0.001  # of the frames, at either end
SLACK = np.deg2rad(2.0)
ROUNDING = 1e-4  # radians, of what is kept as single floats: what is at its limit is not beyond it


@dataclass(frozen=True)
class Limits:
    """How far joints turn: mean rotations as vectors (J, 3), and the lowest and highest vectors about these (J, 3)."""

    mean: tuple[tuple[float, ...], ...]
    low: tuple[tuple[float, ...], ...]
    high: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, motions: Sequence[Motion]) -> Limits:
        """The limits that these keep to; the root has none."""
        turns = np.concatenate([m.turns for m in motions])
        rows = []
        for j in range(turns.shape[1]):
            if j == 0:
                rows.append((np.zeros(3), np.full(3, -np.pi), np.full(3, np.pi)))
                continue
            mean = Rotation.from_matrix(turns[:, j]).mean()
            vector = (mean.inv() * Rotation.from_matrix(turns[:, j])).as_rotvec()
            low, high = np.quantile(vector, [OUTSIDE, 1 - OUTSIDE], axis=0)
            rows.append((mean.as_rotvec(), low - SLACK, high + SLACK))
        mean, low, high = (tuple(_numbers(r[k]) for r in rows) for k in range(3))
        return cls(mean, low, high)

    def to_json(self) -> dict[str, Any]:
        return {k: [list(v) for v in getattr(self, k)] for k in ("mean", "low", "high")}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Limits:
        return cls(*(tuple(tuple(float(x) for x in v) for v in tree[k]) for k in ("mean", "low", "high")))

    def excess(self, turns: Array) -> Array:
        """How far, in radians, joints (F, J, 3, 3) are outside, (F, J)."""
        vector, _ = self._vectors(turns)
        over = np.maximum(np.array(self.low) - vector, vector - np.array(self.high))
        return np.asarray(np.maximum(over, 0).max(-1))

    def clamped(self, motion: Motion) -> Motion:
        """The motion within the limits; joints that are inside stay as they are."""
        vector, mean = self._vectors(motion.turns)
        kept = np.clip(vector, np.array(self.low), np.array(self.high))
        there = mean @ Rotation.from_rotvec(kept.reshape(-1, 3)).as_matrix().reshape(*vector.shape, 3)
        outside = (np.abs(kept - vector).max(-1) > 0)[..., None, None]
        outside[:, 0] = False
        return replace(motion, turns=np.where(outside, there, motion.turns))

    def _vectors(self, turns: Array) -> tuple[Array, Array]:
        mean = Rotation.from_rotvec(np.array(self.mean)).as_matrix()
        flat = (np.swapaxes(mean, 1, 2) @ turns).reshape(-1, 3, 3)
        return Rotation.from_matrix(flat).as_rotvec().reshape(*turns.shape[:2], 3), mean


def _numbers(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{v:.6g}") for v in values)


@dataclass(frozen=True)
class Leg:
    """Joints of a leg, and which columns of a motion's contacts are on it: of the ankle and of what it moves."""

    hip: int
    knee: int
    ankle: int
    feet: tuple[int, ...]


def legs_of(skeleton: Skeleton, feet: Sequence[int]) -> list[Leg]:
    """The legs that feet are on: of each limb the topmost foot is the ankle, and the two joints above it that are some
    way off bend; feet without these are on none."""
    found: dict[int, list[int]] = {}
    for k, foot in enumerate(feet):
        holder = skeleton.holder(foot)
        top = [holder, *(j for j in skeleton.chain(holder) if j in feet)][-1]
        found.setdefault(top, []).append(k)
    legs = []
    for ankle, columns in found.items():
        bend = [j for j, below in _above(skeleton, ankle) if np.linalg.norm(skeleton.offsets[below]) > 0]
        if len(bend) >= 2 and bend[1] != 0:
            legs.append(Leg(bend[1], bend[0], ankle, tuple(columns)))
    return legs


def _above(skeleton: Skeleton, joint: int) -> list[tuple[int, int]]:
    """Joints above one, each with the one that it leads to."""
    chain = skeleton.chain(joint)
    return list(zip(chain[1:], chain[:-1], strict=True))


def foot_locked(motion: Motion, form: Form) -> Motion:
    """The motion whose standing feet do not slide, by equation (1); which stand is the motion's own word."""
    if len(motion) < 2:
        return motion
    _, x = globals_of(motion.skeleton, motion.place, motion.turns)
    contacts = form.standing(x) if motion.contacts is None else motion.contacts
    found = motion
    for leg in legs_of(motion.skeleton, form.feet):
        for _ in range(ROUNDS if len(leg.feet) > 1 else 1):
            _, x = globals_of(found.skeleton, found.place, found.turns)
            moves = [correction(x[:, form.feet[k]], contacts[:, k], motion.rate) for k in leg.feet]
            weight = np.stack([w for _, w in moves])
            weight = np.where(
                (weight == 1).any(0), weight == 1, weight
            )  # what stands is not moved by what does not
            total = np.maximum(weight.sum(0), 1e-9)[:, None]
            delta = (
                sum(w[:, None] * d for (d, _), w in zip(moves, weight, strict=True))
                / total
                * np.minimum(total, 1)
            )
            found = reached(found, leg, x[:, leg.ankle] + delta)
    return found


def correction(x: Array, stands: NDArray[np.bool_], rate: float) -> tuple[Array, Array]:
    """δ of equation (1) for a foot at x (F, 3) and how much it counts, (F, 3) and (F,): 1 while the foot stands, and
    less the longer before or after."""
    frames = len(x)
    delta, weight = np.zeros((frames, 3)), np.zeros(frames)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], stands, [False]]).astype(int)))
    fade = max(1, round(FADE * rate))
    held = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        delta[begin:end, [0, 2]] = (x[begin:end].mean(0) - x[begin:end])[:, [0, 2]]
        weight[begin:end] = 1
        held.append((begin, end))
    for t in np.flatnonzero(~stands):
        before = max((e - 1 for _, e in held if e <= t), default=None)
        after = min((b for b, _ in held if b > t), default=None)
        near = [(n, t - n if n < t else n - t) for n in (before, after) if n is not None]
        parts = [(delta[n], 1 - d / (fade + 1)) for n, d in near if d <= fade]
        if parts:
            total = sum(w for _, w in parts)
            weight[t] = min(1.0, max(w for _, w in parts))
            delta[t] = sum(w * d for d, w in parts) / total
    return delta, weight


def reached(motion: Motion, leg: Leg, target: Array) -> Motion:
    """The motion whose ankle of a leg is at target (F, 3), second axis up, turned in the world as before."""
    skeleton = motion.skeleton
    rotation, x = globals_of(skeleton, motion.place, motion.turns)
    hip, knee, ankle = (x[:, j] for j in (leg.hip, leg.knee, leg.ankle))
    upper, lower = np.linalg.norm(knee - hip, axis=1), np.linalg.norm(ankle - knee, axis=1)
    thigh, shin = _unit(knee - hip), _unit(ankle - knee)
    about = _hinge(rotation[:, leg.hip], thigh, shin)
    way = target - hip
    far = np.linalg.norm(way, axis=1)
    length = np.clip(far, np.abs(upper - lower) * 1.0005 + 1e-9, (upper + lower) * STRAIGHT)[:, None]
    ahead = _unit(way)
    across = _unit(about - (about * ahead).sum(1, keepdims=True) * ahead)
    cosine = np.clip((upper**2 + length[:, 0] ** 2 - lower**2) / (2 * upper * length[:, 0]), -1, 1)[:, None]
    bent = cosine * ahead + np.sqrt(1 - cosine**2) * np.cross(ahead, across)  # where the thigh goes
    goal = _unit(length * ahead - upper[:, None] * bent)
    first = _frame(bent, across) @ np.swapaxes(_frame(thigh, about), 1, 2)
    second = least_rotation(np.einsum("fij,fj->fi", first, shin), goal) @ first
    chain = skeleton.chain(leg.ankle)
    at = chain.index(leg.knee), chain.index(leg.hip)
    new = {leg.ankle: rotation[:, leg.ankle]}
    new |= {j: second @ rotation[:, j] for j in chain[1 : at[0] + 1]}
    new |= {j: first @ rotation[:, j] for j in chain[at[0] + 1 : at[1] + 1]}
    turns = motion.turns.copy()
    for j, turned in new.items():  # what else hangs on them turns along
        above = new.get(skeleton.parents[j], rotation[:, skeleton.parents[j]])
        turns[:, j] = np.swapaxes(above, 1, 2) @ turned
    return replace(motion, turns=turns)


def _hinge(rotation: Array, thigh: Array, shin: Array) -> Array:
    """The axes (F, 3) about which knees bend: square to thigh and shin where these are bent, and towards where a leg is
    straight what it is over the motion, as the thigh turns (F, 3, 3)."""
    bend = np.cross(thigh, shin)
    own = np.einsum("fji,fj->fi", rotation, bend)
    usual = own[np.argmax(np.linalg.norm(own, axis=1))]
    sign = np.sign((own * usual).sum(1, keepdims=True))  # a knee that bends both ways has one axis
    mean = _unit((np.where(sign == 0, 1, sign) * own).sum(0))
    if not mean.any():  # it never bends: any axis will do
        mean = rotation[0].T @ np.cross(thigh[0], np.eye(3)[np.argmin(np.abs(thigh[0]))])
    there = np.einsum("fij,j->fi", rotation, mean)
    axis = bend + NEARLY * np.where((bend * there).sum(1, keepdims=True) < 0, -1, 1) * there
    return _unit(axis - (axis * thigh).sum(1, keepdims=True) * thigh)


def _frame(first: Array, second: Array) -> Array:
    """Rotations (F, 3, 3) whose first two columns are these, which are square to each other or nearly."""
    second = _unit(second - (second * first).sum(1, keepdims=True) * first)
    return np.stack([first, second, np.cross(first, second)], -1)


def _unit(v: Array) -> Array:
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9))
