"""How far two shapes are from each other: the Chamfer distance of points on their surfaces.

    CD(A, B) = mean_a min_b |a − b|² + mean_b min_a |a − b|²                                           (1)

(Yang et al. 2019, eq. 1, as means), of `POINTS` points spread evenly over each surface, with exact nearest neighbours.
Every shape has its own draw of points, so that a set does not depend on the order of its items; two draws from one
surface are a little apart, and so are real items from themselves: numbers here are to be read beside their floor.  Of
a cloud of more points so many are taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.modalities import Shape

POINTS = 512


def surface_points(
    shapes: Sequence[Shape], seeds: Seeds, cell: float, count: int = POINTS
) -> Float[Tensor, "n p 3"]:
    """Points on every surface, or of every cloud, in cells; of a shape without one, all at its place."""
    draws = seeds.fold("surface").uniform(torch.empty(len(shapes), 3, count, dtype=torch.float64)).numpy()
    found = np.zeros((len(shapes), count, 3))
    for place, shape, draw in zip(found, shapes, draws, strict=True):
        place[:] = shape.spread(draw) / cell
    return torch.from_numpy(found)


def chamfer(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Eq. (1) of points (p, 3) and (q, 3)."""
    return _apart(cKDTree(a), cKDTree(b))


def chamfer_matrix(
    x: Float[Tensor, "n p 3"], y: Float[Tensor, "m p 3"] | None = None
) -> Float[Tensor, "n m"]:
    """Eq. (1) of all pairs; of a set with itself, 0 on the diagonal."""
    left = [cKDTree(points) for points in x.numpy()]
    right = left if y is None else [cKDTree(points) for points in y.numpy()]
    out = torch.zeros(len(left), len(right), dtype=torch.float64)
    for i, one in enumerate(left):
        for j in range(i + 1 if y is None else 0, len(right)):
            out[i, j] = _apart(one, right[j])
    return out + out.T if y is None else out


def _apart(a: cKDTree, b: cKDTree) -> float:
    there, back = b.query(a.data)[0], a.query(b.data)[0]
    return float((there**2).mean() + (back**2).mean())
