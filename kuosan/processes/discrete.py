"""Discrete processes: tokens that are masked, or replaced at random.

Each position keeps its token until time t with probability κ_t (`keep`), any curve from κ_0 = 1 to κ_1 = 0,
and otherwise holds a draw from a noise distribution π: the mask itself, or a uniform token. Where positions have
curves of their own (`processes.blocks`), κ and κ' below are those of the position.

    q(x_t | x) = κ_t [x_t = x] + (1 - κ_t) π(x_t)                                              (1)

Masked, given s < t: a masked position is revealed with probability (κ_s - κ_t)/(1 - κ_t), its value drawn
from q(x | x_t); a revealed one is carried over. The bound's rate is the sum over masked positions of -κ'/(1 - κ)
times the negative log-probability of the true token (Shi et al. 2024, eq. 4; Sahoo et al. 2024, eq. 10).

Uniform over K values: Bayes with κ_{t|s} = κ_t/κ_s, averaged over x ~ q(x | x_t):

    p(x_s | x_t) = q(x_t | x_s) Σ_x q(x | x_t) q(x_s | x) / q(x_t | x)                          (2)

and, as a continuous-time Markov chain with jump rate r = -κ'/κ to a uniform token, whose time reversal
given x jumps from x_t to y at the rate R(y | x) = (r/K) q(y | x)/q(x_t | x), the bound's rate is

    Σ_{y ≠ x_t} [ R̂(y) - R(y | x) + R(y | x) log( R(y | x)/R̂(y) ) ],   R̂(y) = E_{x ~ q} R(y | x)   (3)

(Campbell et al. 2022, prop. 2; Schiff et al. 2025). The expectation is taken of the ratio, which is exact
where the plug-in of probabilities into both parts of the ratio is not.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from kuosan.core.curves import Curve, derivative
from kuosan.core.posteriors import Categorical, Posterior, draw
from kuosan.core.random import Seeds
from kuosan.core.shapes import Time, at, per_example
from kuosan.processes.base import Bridged


@dataclass(frozen=True)
class DiscreteProcess(Bridged):
    """Tokens 0 … size - 1, each position on its own.

    Args:
        size: how many values a token has.
        keep: κ, falling from 1 at t = 0 to 0 at t = 1.
    """

    size: int
    keep: Curve

    @abstractmethod
    def noise(self, like: Int64[Tensor, "b ..."], seeds: Seeds) -> Int64[Tensor, "b ..."]:
        """A draw of the noise distribution π in the shape of ``like``."""

    def prior(self, like: Tensor, seeds: Seeds) -> Tensor:
        return self.noise(like, seeds)

    def corrupt(self, x: Tensor, t: Time, seeds: Seeds) -> Tensor:
        u = seeds.fold("keep").uniform(x.double())
        return torch.where(u < self.keep_at(t, u), x, self.noise(x, seeds.fold("noise")))

    def mix(self, x: Tensor, weights: Float[Tensor, "b n"]) -> Categorical:
        hot = F.one_hot(x, self.size).to(weights)
        return Categorical(torch.tensordot(weights, hot, 1).log())

    def rate(self, t: Time) -> Time:
        """-dκ/dt."""
        return -derivative(self.keep, t)

    def keep_at(self, t: Time, x: Tensor) -> Float[Tensor, "b ..."]:
        """κ of the positions of ``x`` (b, ...) at each example's time, in a shape that broadcasts to theirs."""
        return at(self.keep(t), x)


@dataclass(frozen=True)
class Masked(DiscreteProcess):
    """Absorbing: noise is the mask, written as token ``size``."""

    def noise(self, like: Int64[Tensor, "b ..."], seeds: Seeds) -> Int64[Tensor, "b ..."]:
        return torch.full_like(like, self.size)

    def rate_at(self, t: Time, x: Tensor) -> Float[Tensor, "b ..."]:
        """-dκ/dt, position by position as `keep_at`."""
        return at(self.rate(t), x)

    def hazard(self, t: Time, x: Tensor) -> Float[Tensor, "b ..."]:
        """-κ'/(1 - κ): masks lifted per mask and unit of time, going back; 0 where nothing is masked as yet."""
        gone = 1 - self.keep_at(t, x)
        return torch.where(gone > 0, self.rate_at(t, x) / gone.clamp_min(1e-300), torch.zeros_like(gone))

    def reveal(self, t: Time, s: Time, x: Tensor) -> Float[Tensor, "b ..."]:
        """(κ_s - κ_t)/(1 - κ_t): the probability that a mask at t is lifted by s < t.

        1 where nothing should be masked any more: states that others made, such as a text with gaps, are finished.
        """
        keep = self.keep_at(t, x)
        gone = 1 - keep
        lifted = (self.keep_at(s, x) - keep) / gone.clamp_min(1e-300)
        return torch.where(gone > 0, lifted, torch.ones_like(gone))

    def survival(self, like: Tensor) -> Callable[[Time], Time]:
        """The expected share of positions that survive, of states like ``like`` (b, ...): what the grids of
        `core.unmasking` are made of."""
        return lambda t: self.keep_at(t, like[:1].expand(len(t), *like.shape[1:])).flatten(1).mean(1)

    def bridge(self, x_t: Tensor, q: Posterior, t: Time, s: Time, seeds: Seeds) -> Tensor:
        u = seeds.fold("reveal").uniform(x_t.double())
        revealed = u < self.reveal(t, s, u)
        revealed &= x_t == self.size
        return torch.where(revealed, q.sample_at(seeds.fold("x"), revealed), x_t)

    def elbo_rate(self, x: Tensor, x_t: Tensor, q: Posterior, t: Time) -> Time:
        nats = self._hidden_nats(x, x_t, q)
        return per_example(self.hazard(t, x).to(nats) * nats)

    def step_divergence(self, x: Tensor, x_t: Tensor, q: Posterior, t: Time, s: Time) -> Time:
        # Both reveal equally often, so they differ only in what they reveal.
        nats = self._hidden_nats(x, x_t, q)
        return per_example(self.reveal(t, s, x).to(nats) * nats)

    def _hidden_nats(self, x: Tensor, x_t: Tensor, q: Posterior) -> Float[Tensor, "b ..."]:
        """-log q of the true tokens behind masks, 0 elsewhere."""
        nats = -q.mean.clamp_min(1e-30).log().gather(-1, x[..., None])[..., 0]
        return torch.where(x_t == self.size, nats, torch.zeros_like(nats))

    def prior_divergence(self, x: Tensor, t: Time) -> Time:
        there = per_example(self.keep_at(t, x)).to(t) > 0  # has no chance under a prior of masks alone
        return torch.where(there, torch.full_like(t, torch.inf), torch.zeros_like(t))

    def log_kernel(self, x: Tensor, x_t: Tensor, t: Time) -> Float[Tensor, "b n"]:
        seen, data = x_t.flatten(1)[:, None], x.flatten(1)[None]
        possible = ((seen == self.size) | (seen == data)).all(-1)
        return torch.where(possible, 0.0, -torch.inf).double()


@dataclass(frozen=True)
class UniformNoise(DiscreteProcess):
    """Noise is a uniformly drawn token."""

    def noise(self, like: Int64[Tensor, "b ..."], seeds: Seeds) -> Int64[Tensor, "b ..."]:
        return (seeds.uniform(like.double()) * self.size).long()

    def bridge(self, x_t: Tensor, q: Posterior, t: Time, s: Time, seeds: Seeds) -> Tensor:
        return draw(self._step(x_t, q.mean.double(), t, s), seeds)

    def _step(self, x_t: Tensor, p: Float[Tensor, "b ... k"], t: Time, s: Time) -> Float[Tensor, "b ... k"]:
        """Eq. 2 for every x_s, up to a factor per position, when x given x_t is ``p``."""
        hot = F.one_hot(x_t, self.size).to(p)
        stay_t, stay_s = at(self.keep(t), p), at(self.keep(s), p)
        stay = torch.where(stay_s > 0, stay_t / stay_s.clamp_min(1e-300), torch.zeros_like(stay_t))
        ratio = p / (stay_t * hot + (1 - stay_t) / self.size)  # q(x | x_t)/q(x_t | x), by x
        middle = stay_s * ratio + (1 - stay_s) / self.size * ratio.sum(-1, keepdim=True)
        return (stay * hot + (1 - stay) / self.size) * middle

    def step_divergence(self, x: Tensor, x_t: Tensor, q: Posterior, t: Time, s: Time) -> Time:
        p = q.mean.double()
        true, guess = self._step(x_t, F.one_hot(x, self.size).to(p), t, s), self._step(x_t, p, t, s)
        true, guess = true / true.sum(-1, keepdim=True), guess / guess.sum(-1, keepdim=True)
        return per_example(torch.xlogy(true, true) - torch.xlogy(true, guess.clamp_min(1e-300)))

    def prior_divergence(self, x: Tensor, t: Time) -> Time:
        keep, size = self.keep(t), self.size
        other = (1 - keep) / size
        one = torch.xlogy(keep + other, size * (keep + other)) + (size - 1) * torch.xlogy(other, size * other)
        return one * (x[0].numel() if x.ndim > 1 else 1)

    def elbo_rate(self, x: Tensor, x_t: Tensor, q: Posterior, t: Time) -> Time:
        p = q.mean.double()
        keep, here = at(self.keep(t), p), F.one_hot(x_t, self.size).to(p)
        other = (1 - keep) / self.size
        same = keep + other

        def ratios(p: Tensor) -> Tensor:
            """E_{x ~ p} q(y | x)/q(x_t | x) for every y: x = x_t divides by ``same``, any other by ``other``."""
            p_here = (p * here).sum(-1, keepdim=True)
            weight_elsewhere = 1 - p_here  # all of x ≠ x_t, where q(x_t | x) = other
            return p_here * other / same + (p * same + (weight_elsewhere - p).clamp_min(0) * other) / other

        true, guess = ratios(F.one_hot(x, self.size).to(p)), ratios(p)
        cost = (guess - true + true * (true / guess).log()) * (1 - here)
        jump = self.rate(t) / self.keep(t) / self.size
        return jump.to(p) * per_example(cost)

    def log_kernel(self, x: Tensor, x_t: Tensor, t: Time) -> Float[Tensor, "b n"]:
        agree = (x_t.flatten(1)[:, None] == x.flatten(1)[None]).sum(-1)
        other = (1 - self.keep(t)) / self.size
        same = self.keep(t) + other
        return agree * at(same.log() - other.clamp_min(1e-300).log(), agree.double())
