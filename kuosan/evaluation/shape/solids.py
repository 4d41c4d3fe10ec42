"""What shapes are as things: closed, of how many pieces, how large.

    watertight    the share whose surface is closed: every edge belongs to two faces that pass it in opposite directions
    one_piece     the share whose surface is of one piece
    volume_gap    the mean difference of volumes, largest with largest, over the mean of real ones    (1)
    area_gap      the same of surfaces
    spacing_gap   of clouds: the same of how far points lie apart, each from its nearest, at the median

(1) is the first Wasserstein distance of the two laws (Vallender 1974), relative to the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree
from torch import Tensor

from kuosan.evaluation.base import Better, Estimate, Metric
from kuosan.evaluation.estimates import jackknife
from kuosan.evaluation.shape.chamfer import POINTS
from kuosan.modalities import Shape
from kuosan.modalities.shape_surface import area, volume

GROUPS = 6


@dataclass(frozen=True)
class Solids:
    """Of each shape whether it is closed and whether it is of one piece, its volume in cells and its area."""

    closed: Bool[Tensor, " n"]
    whole: Bool[Tensor, " n"]
    volume: Float[Tensor, " n"]
    area: Float[Tensor, " n"]


def solids(shapes: Sequence[Shape], cell: float) -> Solids:
    """Of the surfaces that would be written."""
    from trimesh import Trimesh

    rows = []
    for shape in shapes:
        surface = shape.solid()
        if not len(surface.faces):
            rows.append((False, False, 0.0, 0.0))
            continue
        mesh = Trimesh(surface.vertices, surface.faces, process=True)  # joined as readers of files join
        closed = bool(mesh.is_watertight and mesh.is_winding_consistent)
        size = volume(surface.vertices, surface.faces) / cell**3
        rows.append((closed, mesh.body_count == 1, size, area(surface.vertices, surface.faces) / cell**2))
    table = np.array(rows, np.float64).reshape(-1, 4)
    columns = [torch.from_numpy(column.copy()) for column in table.T]
    return Solids(columns[0].bool(), columns[1].bool(), columns[2], columns[3])


def spacings(shapes: Sequence[Shape], unit: float) -> Float[Tensor, " n"]:
    """Of clouds: the median of their points' distances to the nearest other."""
    found = []
    for shape in shapes:
        points = shape.points_of(POINTS)
        found.append(float(np.median(cKDTree(points).query(points, 2)[0][:, 1])) / unit)
    return torch.tensor(found, dtype=torch.float64)


class Gap(Metric):
    """Eq. (1) of rows of one number each."""

    name: ClassVar[str] = "gap"
    better: ClassVar[Better] = "lower"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("dropped modes",)

    def value(self, samples: Float[Tensor, "n 1"], reference: Float[Tensor, "m 1"], **needs: Tensor) -> float:
        from scipy.stats import wasserstein_distance

        apart = wasserstein_distance(samples[:, 0].numpy(), reference[:, 0].numpy())
        return float(apart) / max(float(reference.mean()), 1e-12)

    def estimate(
        self, samples: Float[Tensor, "n 1"], reference: Float[Tensor, "m 1"], **needs: Tensor
    ) -> Estimate:
        stderr = jackknife(lambda a, b: self.value(samples[a], reference[b]), samples, reference, GROUPS)
        return Estimate(self.value(samples, reference), stderr)
