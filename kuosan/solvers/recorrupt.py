"""Iterative re-corruption: estimate the data, then corrupt the estimate again, a little less.

Where no reverse step is known, or none is wanted, two ways from t to s remain (Bansal et al. 2022), which differ in
the noise that they put back:

    held:    x_s = x_t - D(x̂, t) + D(x̂, s),   D(x̂, r) = α_r x̂ + σ_r ε̂,   ε̂ = (x_t - α_t x̂)/σ_t   (1)
    redrawn: x_s ~ q(x_s | x),   x ~ q(x | x_t)                                                (2)

(1) is their algorithm 2 for x_t = α_t x + σ_t ε with the noise estimated from the state: D(x̂, t) is then x_t itself,
and the step α_s x̂ + σ_s ε̂ is DDIM's, for any law of the noise. Small steps follow the probability flow
(`processes.additive`, eq. 2), so the samples' law is right in their limit.

(2) is their algorithm 1, and, with a consistency model, the multistep sampler of Song et al. 2023 (alg. 1). It asks of
a process nothing but to corrupt: tokens, joint states and any noise. If q is exact a step of any length keeps the law
of x_s; if q is a point short of the truth, no number of steps mends that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from kuosan.core.posteriors import Posterior
from kuosan.core.random import Seeds
from kuosan.core.shapes import State, Time, at
from kuosan.denoisers.base import Denoiser
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.base import Process
from kuosan.solvers.base import Solver


@dataclass(frozen=True)
class Cold(Solver[None]):
    """Eq. 1."""

    needs: ClassVar[type[Process]] = AdditiveProcess

    def step(
        self, denoiser: Denoiser, x_t: Tensor, t: Time, s: Time, memory: None, seeds: Seeds, **cond: Tensor
    ) -> tuple[Tensor, Posterior, None]:
        process = denoiser.process
        assert isinstance(process, AdditiveProcess)
        now, then = process.schedule.level(t), process.schedule.level(s)
        q = denoiser(x_t, t, **cond)
        x = q.mean
        eps = (x_t - at(now.alpha, x) * x) / at(now.sigma, x)
        # x_t less its two parts, plus them anew: nothing that does not change is added and taken away
        return x_t + at(then.alpha - now.alpha, x) * x + at(then.sigma - now.sigma, x) * eps, q, None


@dataclass(frozen=True)
class Redraw(Solver[None]):
    """Eq. 2, for any process."""

    needs: ClassVar[type[Process]] = Process  # type: ignore[type-abstract]
    draws: ClassVar[bool] = True
    spread: ClassVar[bool] = True

    def step(
        self, denoiser: Denoiser, x_t: State, t: Time, s: Time, memory: None, seeds: Seeds, **cond: Tensor
    ) -> tuple[State, Posterior, None]:
        q = denoiser(x_t, t, **cond)
        return denoiser.process.corrupt(q.sample(seeds.fold("x")), s, seeds.fold("noise")), q, None
