"""Likelihood: bounds and exact values of -log p(x), in nats and in bits per dimension."""

from kuosan.evaluation.likelihood.bound import Terms, bound, finite_bound, plan, saving
from kuosan.evaluation.likelihood.times import Times

__all__ = ["Terms", "Times", "bound", "finite_bound", "plan", "saving"]
