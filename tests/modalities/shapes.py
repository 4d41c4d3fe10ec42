"""Shapes whose measures are known, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from kuosan.modalities.shape_frame import Frame
from kuosan.modalities.shape_raw import Surface


def box(size: tuple[float, float, float], at: tuple[float, float, float] = (0, 0, 0)) -> trimesh.Trimesh:
    """A box from corner `at`, that many units along x, y and z."""
    mesh = trimesh.creation.box(size)
    mesh.apply_translation(np.array(at) + np.array(size) / 2)
    return mesh


def chair() -> trimesh.Trimesh:
    """A seat and a back that overlap, and no symmetry but left to right: 8 wide, 10 deep, 14 high, z up."""
    return trimesh.util.concatenate([box((8, 10, 6)), box((8, 3, 14), (0, 7, 0))])


def surface(mesh: trimesh.Trimesh, **facts: bool) -> Surface:
    return Surface(np.array(mesh.vertices), np.array(mesh.faces, np.int64), None, **facts)


def places(frame: Frame) -> np.ndarray:
    """x, y and z of every cell's centre, (depth, height, width, 3), in units."""
    depth, height, width = np.indices(frame.sides)
    return frame.places(np.stack([width, depth, height], -1).reshape(-1, 3).astype(float)).reshape(
        *frame.sides, 3
    )


def box_distance(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The signed distance of a box, in closed form."""
    beyond = np.maximum(low - points, points - high)
    return np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(-1), 0)


def save(mesh: trimesh.Trimesh, path: Path) -> Path:
    """Written by trimesh alone: none of our own code."""
    mesh.export(path)
    return path
