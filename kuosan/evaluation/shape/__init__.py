"""Shapes: are sets of them alike, are they closed, and are they copies?"""

from kuosan.evaluation.shape.chamfer import chamfer, chamfer_matrix, surface_points
from kuosan.evaluation.shape.evaluate import evaluate_shapes
from kuosan.evaluation.shape.sets import coverage, mmd, nna
from kuosan.evaluation.shape.solids import Gap, Solids, solids, spacings

__all__ = [
    "Gap",
    "Solids",
    "chamfer",
    "chamfer_matrix",
    "coverage",
    "evaluate_shapes",
    "mmd",
    "nna",
    "solids",
    "spacings",
    "surface_points",
]
