"""A motion of one skeleton on another one, by the names of their joints.

Joint j of the new body turns in the world as its namesake s(j) does, but for a rotation that stands for how differently
they rest,

    R'_j = R_s(j) A_j,      A_j: the least rotation that takes the rest directions of j's bones to those of s(j),    (1)

so that a body that rests in a T moves like one that rests in an A. Joints without a namesake stay as they rest on
their parents. The root's way is scaled by the lengths of the legs (of all bones, where no names tell legs), and raised
so that the lowest points come as low. Two bodies that are named alike but built otherwise (a dog's legs hang from a
level back) do not match.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from kuosan.modalities.motion_names import parts_of
from kuosan.modalities.motion_skeleton import (
    Array,
    Motion,
    Skeleton,
    globals_of,
    least_rotation,
    locals_of,
)

NEEDED = ("thigh", "shin", "arm", "forearm")
NEAR = {"neck": "head", "head": "neck"}  # one stands for the other where there is one alone
ALIKE = 1e-3  # directions that differ by less are the same
WIDEST = 60.0  # degrees that the angle between back and legs may differ by

Match = dict[int, int]


def matched(target: Skeleton, source: Skeleton) -> Match | str:
    """The namesake of each joint of ``target`` in ``source``; a plain reason where they do not match."""
    if target.tree == source.tree:
        return {j: j for j in range(len(target))}
    by_name = {name.casefold(): j for j, name in enumerate(source.names)}
    mine, theirs = parts_of(target), parts_of(source)
    found: Match = {0: 0}
    for part in dict.fromkeys(p for p in mine[1:] if p[1]):
        here = [j for j, p in enumerate(mine) if p == part]
        there = [j for j, p in enumerate(theirs) if p == part]
        there = there or [j for j, p in enumerate(theirs) if p == ("", NEAR.get(part[1]))]
        for k, j in enumerate(here if there else []):
            found[j] = there[round(k * (len(there) - 1) / (len(here) - 1)) if len(here) > 1 else -1]
    for j, name in enumerate(target.names):
        if j not in found and name.casefold() in by_name:
            found[j] = by_name[name.casefold()]
    missing = [target.names[j] for j, p in enumerate(mine) if p[1] in NEEDED and j not in found]
    if missing:
        return f"its skeleton has nothing like {', '.join(missing[:3])}"
    if not any(p[1] in NEEDED for p in mine) and len(found) < len(target):
        return "its joints have other names, and they tell no body"
    bent = abs(_bend(target, mine) - _bend(source, theirs))
    if bent > WIDEST:
        return f"its body is built otherwise: its back and its legs meet at an angle {bent:.0f}° different"
    return found


def _rest(skeleton: Skeleton) -> Array:
    """Where the joints are at rest."""
    still = np.broadcast_to(np.eye(3), (1, len(skeleton), 3, 3))
    return np.asarray(globals_of(skeleton, np.zeros((1, 3)), still)[1][0])


def _bend(skeleton: Skeleton, parts: tuple[tuple[str, str], ...]) -> float:
    """Degrees between the back and the legs at rest; 180 where a part is missing."""
    x = _rest(skeleton)
    back = [j for j, p in enumerate(parts) if p[1] in ("neck", "head", "torso")]
    feet = [j for j, p in enumerate(parts) if p[1] in ("foot", "shin") and p[0]]
    thighs = [j for j, p in enumerate(parts) if p[1] == "thigh"]
    if not back or not feet or not thighs:
        return 180.0
    up, down = x[back].mean(0) - x[0], x[feet].mean(0) - x[thighs].mean(0)
    size = float(np.linalg.norm(up) * np.linalg.norm(down))
    return float(np.degrees(np.arccos(np.clip(up @ down / size, -1, 1)))) if size > 0 else 180.0


def retargeted(motion: Motion, target: Skeleton, match: Match) -> Motion:
    """The motion on another skeleton, by equation (1)."""
    source = motion.skeleton
    if source == target:
        return motion
    ours, theirs = _rest(target), _rest(source)
    rotation, _ = globals_of(source, motion.place, motion.turns)
    out = np.empty((len(motion), len(target), 3, 3))
    own = np.eye(3)
    corrections: dict[int, Array] = {}
    parts = parts_of(target)
    legs = [j for j in match if parts[j][1] in ("thigh", "shin")] or list(match)
    lengths = [0.0, 0.0]
    for j, p in enumerate(target.parents):
        if j not in match:
            out[:, j] = out[:, p]
            corrections[j] = corrections[p]
            continue
        bones = []
        for k in _below(target, j, match):
            pair = ours[k] - ours[j], theirs[match[k]] - theirs[match[j]]
            sizes = [float(np.linalg.norm(v)) for v in pair]
            if min(sizes) > 0:
                bones.append((pair[0] / sizes[0], pair[1] / sizes[1]))
                lengths = [total + (j in legs) * size for total, size in zip(lengths, sizes, strict=True)]
        corrections[j] = _between(bones) if bones else corrections.get(p, own)
        out[:, j] = rotation[:, match[j]] @ corrections[j]
    scale = lengths[0] / lengths[1] if min(lengths) > 0 else 1.0
    found = replace(
        motion,
        skeleton=target,
        place=motion.place @ source.world.T @ target.world * scale,
        turns=locals_of(target, out),
    )
    if target.tree == source.tree:
        return found
    rise = scale * _floor(motion) - _floor(found)
    return replace(found, place=found.place + rise * np.eye(3)[target.up])


def _floor(motion: Motion) -> float:
    return float(np.quantile(motion.points()[..., 1].min(1), 0.05))


def _below(target: Skeleton, joint: int, match: Match) -> list[int]:
    """The next joints below one that have a namesake, other than its own."""
    found, stack = [], [k for k, p in enumerate(target.parents) if p == joint]
    while stack:
        k = stack.pop(0)
        if k in match and match[k] != match[joint]:
            found.append(k)
        else:
            stack += [i for i, p in enumerate(target.parents) if p == k]
    return found


def _between(bones: list[tuple[Array, Array]]) -> Array:
    """The least rotation that takes the first direction of each pair to the second."""
    mine, theirs = (np.array(side) for side in zip(*bones, strict=True))
    if np.abs(mine - theirs).max() < ALIKE:
        return np.eye(3)
    if (
        np.linalg.matrix_rank(mine, tol=0.1) < 2 or np.linalg.matrix_rank(theirs, tol=0.1) < 2
    ):  # along one line
        return least_rotation(mine[0], theirs[0])
    found, _ = Rotation.align_vectors(theirs, mine)
    return np.asarray(found.as_matrix())
