"""What a model does and why: its law as an equation, and how far its score is from any diffusion's."""

from kuosan.explain.box import Box
from kuosan.explain.fokker_planck import Dynamics, Forward, Reverse, Terms, evolve
from kuosan.explain.residual import LevelResidual, residual_by_level, score_residual
from kuosan.explain.score import coefficients, score

__all__ = [
    "Box", "Dynamics", "Forward", "LevelResidual", "Reverse", "Terms", "coefficients", "evolve",
    "residual_by_level", "score", "score_residual",
]  # fmt: skip
