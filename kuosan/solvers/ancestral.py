"""Ancestral sampling: draw x_s from the process's own reverse conditional, with x drawn from q(x | x_t).

For Gaussian states and a point posterior this is DDPM's sampler (Ho et al. 2020, alg. 2); for tokens it
unmasks or redraws (Austin et al. 2021); joint states do both; noise that is a scale mixture of normals draws its
scale first (`processes.mixtures`). With the exact posterior of one element it
is exact for any step length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from kuosan.core.posteriors import Posterior
from kuosan.core.random import Seeds
from kuosan.core.shapes import State, Time
from kuosan.denoisers.base import Denoiser
from kuosan.processes.base import Process, Reversible
from kuosan.solvers.base import Solver


@dataclass(frozen=True)
class Ancestral(Solver[None]):
    """For any `Reversible` process."""

    needs: ClassVar[type[Process]] = Reversible  # type: ignore[type-abstract]
    draws: ClassVar[bool] = True
    spread: ClassVar[bool] = True
    carries: ClassVar[bool] = True

    def step(
        self, denoiser: Denoiser, x_t: State, t: Time, s: Time, memory: None, seeds: Seeds, **cond: Tensor
    ) -> tuple[State, Posterior, None]:
        q = denoiser(x_t, t, **cond)
        process = denoiser.process
        assert isinstance(process, Reversible)
        return process.bridge(x_t, q, t, s, seeds), q, None
