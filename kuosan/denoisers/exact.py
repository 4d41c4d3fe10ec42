"""Closed-form denoisers: the ground truth of the tests.

When the data's law is known, so is q(x | x_t), and with it every quantity of the theory: scores, optimal
samples, likelihoods. Solvers, bounds and guidance are tested against these in double precision.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.posteriors import Gaussian, Posterior
from kuosan.core.shapes import State, Time, at
from kuosan.denoisers.base import Denoiser
from kuosan.processes.base import Explicit
from kuosan.processes.gaussian import GaussianProcess


class MixtureDenoiser(Denoiser):
    """Data from a mixture of Gaussians with independent elements; one component is a plain Gaussian.

    Component k has mean m_k and variances v_k, so x_t | k ~ N(α m_k, α² v_k + σ²), and given k

        E[x | x_t, k] = m_k + α v_k (x_t - α m_k)/(α² v_k + σ²),   Var = v_k σ²/(α² v_k + σ²)

    Args:
        means, variances: (k, ...) in the shape of one datum.
        weights: (k,), positive; normalised here.
    """

    process: GaussianProcess
    alone = True

    def __init__(
        self,
        process: GaussianProcess,
        means: Float[Tensor, "k ..."],
        variances: Float[Tensor, "k ..."],
        weights: Float[Tensor, " k"] | None = None,
    ):
        super().__init__()
        self.process = process
        self.means, self.variances = torch.broadcast_tensors(means, variances)
        weights = torch.ones(len(means), dtype=means.dtype) if weights is None else weights
        self.log_weights = (weights / weights.sum()).log()

    def _components(self, x_t: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Per component (b, k, ...): the log density of x_t (b, k), posterior mean and variance."""
        level = self.process.schedule.level(t)
        x_t = x_t[:, None]
        alpha, noise = at(level.alpha, x_t), at(level.sigma, x_t).square()
        total = alpha.square() * self.variances + noise
        off = x_t - alpha * self.means
        log_p = -0.5 * (off.square() / total + total.log() + math.log(2 * math.pi))
        mean = self.means + alpha * self.variances * off / total
        return log_p.flatten(2).sum(-1) + self.log_weights, mean, self.variances * noise / total

    def log_density(self, x_t: Tensor, t: Time) -> Time:
        """log p_t(x_t), exact, in nats."""
        return self._components(x_t, t)[0].logsumexp(1)

    def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Gaussian:
        log_p, means, variances = self._components(x_t, t)
        w = log_p.softmax(1).reshape(*log_p.shape, *(1,) * (x_t.ndim - 1))
        mean = (w * means).sum(1)
        spread = (w * (variances + means.square())).sum(1) - mean.square()
        return Gaussian(mean, spread.clamp_min(0))


class CorrelatedDenoiser(Denoiser):
    """Data from a mixture of Gaussians whose elements depend on each other.

    `MixtureDenoiser` along the axes of each component's covariance C_k = U_k diag(v_k) U_kᵀ.

    Args:
        means: (k, ...) in the shape of one datum, of d elements.
        covariances: (k, d, d), of the flattened datum; no eigenvalue below 0.
        weights: (k,), positive; normalised here.
    """

    process: GaussianProcess
    alone = True

    def __init__(
        self,
        process: GaussianProcess,
        means: Float[Tensor, "k ..."],
        covariances: Float[Tensor, "k d d"],
        weights: Float[Tensor, " k"] | None = None,
    ):
        super().__init__()
        self.process, self.means, self.covariances = process, means, covariances
        spectrum, self.axes = torch.linalg.eigh(covariances)
        self.spectrum = spectrum.clamp_min(0)
        weights = torch.ones(len(means), dtype=means.dtype) if weights is None else weights
        self.log_weights = (weights / weights.sum()).log()

    def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Gaussian:
        level, centres = self.process.schedule.level(t), self.means.flatten(1)
        flat = x_t.flatten(1)[:, None]
        alpha, noise = at(level.alpha, flat), at(level.sigma, flat).square()
        off = torch.einsum("kij,bki->bkj", self.axes, flat - alpha * centres)
        total = alpha.square() * self.spectrum + noise
        log_p = -0.5 * (off.square() / total + total.log()).sum(-1) + self.log_weights
        w = log_p.softmax(1)[..., None]
        means = centres + torch.einsum("kij,bkj->bki", self.axes, alpha * self.spectrum * off / total)
        variances = torch.einsum("kij,bkj->bki", self.axes.square(), self.spectrum * noise / total)
        mean = (w * means).sum(1)
        spread = (w * (variances + means.square())).sum(1) - mean.square()
        return Gaussian(mean.reshape(x_t.shape), spread.clamp_min(0).reshape(x_t.shape))

    def given(self, known: Tensor, mask: Tensor) -> CorrelatedDenoiser:
        """The denoiser of the same data where its elements that ``mask`` names are ``known`` (both in the shape of one
        datum): the components' conditional laws, weighed by how likely they make what is known."""
        y, m = known.flatten(), mask.flatten()
        means, covariances, log_w = [], [], []
        for centre, c, log_weight in zip(
            self.means.flatten(1), self.covariances, self.log_weights, strict=True
        ):
            law = torch.distributions.MultivariateNormal(centre[m], c[m][:, m])
            gain = torch.linalg.solve(c[m][:, m], c[m]).T
            means.append(centre + gain @ (y - centre)[m])
            covariances.append(c - gain @ c[m])
            log_w.append(log_weight + law.log_prob(y[m]))
        # What is known has no variance, which the differences above leave at rounding.
        rest = (~m).to(y)
        weights = torch.stack(log_w).softmax(0)
        return CorrelatedDenoiser(
            self.process,
            torch.stack(means).reshape(self.means.shape),
            torch.stack(covariances) * rest[:, None] * rest,
            weights,
        )


class TableDenoiser(Denoiser):
    """Data that is one of finitely many items, under any `Explicit` process: additive, discrete or joint.

    Args:
        items: a state of n items.
        weights: their probabilities (n,); equal ones unless given.
    """

    process: Explicit

    def __init__(self, process: Explicit, items: State, weights: Float[Tensor, " n"] | None = None):
        super().__init__()
        self.process, self.items = process, items
        self.log_weights = torch.zeros(1) if weights is None else (weights / weights.sum()).log()

    def forward(self, x_t: State, t: Time, **cond: Tensor) -> Posterior:
        log_p = self.process.log_kernel(self.items, x_t, t) + self.log_weights
        return self.process.mix(self.items, log_p.softmax(1))
