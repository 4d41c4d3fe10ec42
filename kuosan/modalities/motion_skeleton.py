"""Skeletons and their motions.

A skeleton is a tree of joints, parents before children; joint j stands at an offset o_j from its parent p(j) in the
parent's frame. A motion gives, frame by frame, the root's place and each joint's rotation L_j in its parent's frame.
Forward kinematics puts them into the world,

    R_j = R_p(j) L_j,        x_j = x_p(j) + R_p(j) o_j,        R_root = L_root, x_root = the root's place.       (1)

Files differ in which way is up. `points` turns the world of a skeleton whose third axis is up so that the second one
is, which is up everywhere in Kuosan; what is read and written stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

Array = NDArray[np.float64]
Offset = tuple[float, float, float]

Y_UP = np.eye(3)
Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # (x, y, z) of a world whose z is up becomes (x, z, -y)
POSITIONS = ("Xposition", "Yposition", "Zposition")
ROTATIONS = ("Zrotation", "Xrotation", "Yrotation")  # where no file says otherwise: the commonest in BVH


@dataclass(frozen=True)
class Skeleton:
    """A tree of joints.

    Args:
        names: of the joints, the root first and every parent before its children.
        parents: the number of each joint's parent, -1 for the root.
        offsets: of each joint from its parent in the file's unit; the root's own is a convention of the file.
        ends: tips of bones without a joint: the number of the joint that they hang on, and their offset.
        channels: what a BVH file says of each joint in one frame, in this order.
        up: the axis of the world that points up, 1 or 2.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: tuple[Offset, ...]
    ends: tuple[tuple[int, Offset], ...] = ()
    channels: tuple[tuple[str, ...], ...] = ()
    up: int = 1

    def __len__(self) -> int:
        return len(self.names)

    @property
    def tree(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """What two skeletons have in common that differ in the lengths of their bones alone."""
        return self.names, self.parents

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """Pairs of points (see `points`), a joint and what hangs on it."""
        own = [(p, j) for j, p in enumerate(self.parents) if p >= 0]
        return (*own, *((p, len(self) + e) for e, (p, _) in enumerate(self.ends)))

    @property
    def world(self) -> Array:
        """Turns the file's world so that the second axis is up."""
        return Y_UP if self.up == 1 else Z_UP

    def holder(self, point: int) -> int:
        """The joint that moves a point (see `Motion.points`): itself, or the one that a tip hangs on."""
        return point if point < len(self) else self.ends[point - len(self)][0]

    def point_name(self, point: int) -> str:
        return self.names[point] if point < len(self) else f"tip of {self.names[self.holder(point)]}"

    def chain(self, joint: int) -> list[int]:
        """A joint and all above it, up to the root."""
        found = [joint]
        while self.parents[found[-1]] >= 0:
            found.append(self.parents[found[-1]])
        return found

    @property
    def reach(self) -> float:
        """The longest way from the root to a tip along the bones, in the file's unit."""
        far = [0.0] * len(self)
        for j, p in enumerate(self.parents):
            far[j] = (far[p] if p >= 0 else 0.0) + (math.hypot(*self.offsets[j]) if p >= 0 else 0.0)
        return max([*far, *(far[p] + math.hypot(*o) for p, o in self.ends)])

    def to_json(self) -> dict[str, Any]:
        return {
            "names": list(self.names), "parents": list(self.parents), "offsets": [list(o) for o in self.offsets],
            "ends": [[p, *o] for p, o in self.ends], "channels": [" ".join(c) for c in self.channels], "up": self.up,
        }  # fmt: skip

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Skeleton:
        return cls(
            tuple(tree["names"]),
            tuple(int(p) for p in tree["parents"]),
            tuple((float(x), float(y), float(z)) for x, y, z in tree["offsets"]),
            tuple((int(p), (float(x), float(y), float(z))) for p, x, y, z in tree["ends"]),
            tuple(tuple(c.split()) for c in tree["channels"]),
            int(tree["up"]),
        )


@dataclass(frozen=True, eq=False)
class Motion:
    """F frames of a skeleton.

    Args:
        place: of the root, (F, 3), in the file's world and unit.
        turns: rotation matrices of all joints in their parents' frames, (F, J, 3, 3).
        rate: frames per second.
        contacts: which feet stand, (F, K), where somebody knows; None where it has to be found out.
        loops: its last frame goes over into its first.
    """

    skeleton: Skeleton
    place: Array
    turns: Array
    rate: float
    contacts: NDArray[np.bool_] | None = None
    loops: bool = False

    def __len__(self) -> int:
        return len(self.place)

    @property
    def seconds(self) -> float:
        return (len(self) - 1) / self.rate

    def part(self, begin: int, end: int) -> Motion:
        """Frames begin … end - 1."""
        contacts = None if self.contacts is None else self.contacts[begin:end]
        return replace(self, place=self.place[begin:end], turns=self.turns[begin:end], contacts=contacts)

    def points(self) -> Array:
        """Where all joints and then all ends are, (F, J + E, 3), by equation (1), the second axis up."""
        _, x = globals_of(self.skeleton, self.place, self.turns)
        return x


def globals_of(skeleton: Skeleton, place: Array, turns: Array) -> tuple[Array, Array]:
    """Rotations R (F, J, 3, 3) and points x (F, J + E, 3) of equation (1), the second axis up."""
    frames, joints = turns.shape[:2]
    rotation = np.empty((frames, joints, 3, 3))
    x = np.empty((frames, joints + len(skeleton.ends), 3))
    for j, p in enumerate(skeleton.parents):
        if p < 0:
            rotation[:, j] = skeleton.world @ turns[:, j]
            x[:, j] = place @ skeleton.world.T
        else:
            rotation[:, j] = rotation[:, p] @ turns[:, j]
            x[:, j] = x[:, p] + rotation[:, p] @ np.array(skeleton.offsets[j])
    for e, (p, offset) in enumerate(skeleton.ends):
        x[:, joints + e] = x[:, p] + rotation[:, p] @ np.array(offset)
    return rotation, x


def locals_of(skeleton: Skeleton, rotation: Array) -> Array:
    """Rotations in the parents' frames, (F, J, 3, 3), of those in the world: undoes `globals_of`."""
    turns = np.empty_like(rotation)
    for j, p in enumerate(skeleton.parents):
        above = np.broadcast_to(skeleton.world, rotation[:, j].shape) if p < 0 else rotation[:, p]
        turns[:, j] = np.swapaxes(above, 1, 2) @ rotation[:, j]
    return turns


def least_rotation(a: Array, b: Array) -> Array:
    """The least rotations (…, 3, 3) that take the directions a (…, 3) to those of b: with v = a × b and c = a · b of
    unit vectors, I + [v] + [v]²/(1 + c)."""
    a, b = (v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12) for v in (a, b))
    c = (a * b).sum(-1)
    # opposite: half a turn about anything that is square to both
    other = np.cross(a, np.eye(3)[np.argmin(np.abs(a), axis=-1)])
    half = c < -1 + 1e-9
    other /= np.maximum(np.linalg.norm(other, axis=-1, keepdims=True), 1e-12)
    turned = 2 * other[..., :, None] * other[..., None, :] - np.eye(3)
    v = np.cross(a, b)
    zero = np.zeros_like(c)
    k = np.stack([zero, -v[..., 2], v[..., 1], v[..., 2], zero, -v[..., 0], -v[..., 1], v[..., 0], zero], -1)
    k = k.reshape(*c.shape, 3, 3)
    found = np.eye(3) + k + k @ k / np.where(half, 1.0, 1 + c)[..., None, None]
    return np.where(half[..., None, None], turned, found)


def at_times(times: Array, place: Array, turns: Array, new: Array) -> tuple[Array, Array]:
    """A motion at other times: places in straight lines, rotations along great circles (Shoemake 1985)."""
    new = np.clip(new, times[0], times[-1])
    where = np.stack([np.interp(new, times, place[:, k]) for k in range(3)], 1)
    out = np.empty((len(new), *turns.shape[1:]))
    for j in range(turns.shape[1]):
        out[:, j] = Slerp(times, Rotation.from_matrix(turns[:, j]))(new).as_matrix()
    return where, out


def resampled(motion: Motion, rate: float) -> Motion:
    """The same motion at so many frames per second, from its first frame on."""
    if len(motion) < 2 or math.isclose(motion.rate, rate, rel_tol=1e-3):
        return replace(motion, rate=rate)
    step = motion.rate / rate
    if abs(step - round(step)) < 1e-3 * step:  # frames that are there already
        every = round(step)
        kept = None if motion.contacts is None else motion.contacts[::every]
        return replace(
            motion, place=motion.place[::every], turns=motion.turns[::every], rate=rate, contacts=kept
        )
    count = max(2, math.floor(motion.seconds * rate + 1e-6) + 1)
    times, new = np.arange(len(motion)) / motion.rate, np.arange(count) / rate
    place, turns = at_times(times, motion.place, motion.turns, new)
    contacts = motion.contacts
    if contacts is not None:
        contacts = contacts[np.clip(np.rint(new * motion.rate).astype(int), 0, len(contacts) - 1)]
    return replace(motion, place=place, turns=turns, rate=rate, contacts=contacts)


def euler_matrices(order: str, degrees: Array) -> Array:
    """Rotations (…, 3, 3) of angles (…, k) about the axes `order` (k of x, y, z), each in the frame that the ones
    before have turned: the order in which a BVH file writes them."""
    if not order:
        return np.broadcast_to(np.eye(3), (*degrees.shape[:-1], 3, 3)).copy()
    flat = degrees.reshape(-1, degrees.shape[-1])
    found = Rotation.from_euler(order.upper(), flat, degrees=True).as_matrix()
    return found.reshape(*degrees.shape[:-1], 3, 3)


def euler_angles(order: str, turns: Array) -> Array:
    """Angles in degrees (…, 3) that `euler_matrices` undoes."""
    flat = turns.reshape(-1, 3, 3)
    angles = Rotation.from_matrix(flat).as_euler(order.upper(), degrees=True, suppress_warnings=True)
    return angles.reshape(*turns.shape[:-2], 3)


def default_channels(count: int) -> tuple[tuple[str, ...], ...]:
    """Channels of a skeleton that no BVH file describes: the root has a place, and all have rotations."""
    return ((*POSITIONS, *ROTATIONS), *((ROTATIONS,) * (count - 1)))


def depth_first(parents: Sequence[int]) -> list[int]:
    """An order of joints in which each is followed by all below it, as a BVH file has them."""
    below: dict[int, list[int]] = {}
    for j, p in enumerate(parents):
        below.setdefault(p, []).append(j)
    order, stack = [], below.get(-1, [])[::-1]
    while stack:
        j = stack.pop()
        order.append(j)
        stack += below.get(j, [])[::-1]
    return order
