"""Likelihood: bounds and exact values of -log p(x), in nats and in bits per dimension."""

from kuosan.evaluation.likelihood.bound import Terms, bound, finite_bound, plan, saving
from kuosan.evaluation.likelihood.effort import Effort
from kuosan.evaluation.likelihood.flow import Flow, flow_likelihood
from kuosan.evaluation.likelihood.latent import LatentTerms, latent_bound
from kuosan.evaluation.likelihood.latent_measure import measure_latent_likelihood
from kuosan.evaluation.likelihood.measure import Likelihood, measure_likelihood
from kuosan.evaluation.likelihood.times import Times

__all__ = [
    "Effort", "Flow", "LatentTerms", "Likelihood", "Terms", "Times", "bound", "finite_bound", "flow_likelihood",
    "latent_bound", "measure_latent_likelihood", "measure_likelihood", "plan", "saving",
]  # fmt: skip
