"""Denoisers: (x_t, t, condition) → q(x | x_t).

All that solvers, guidance, evaluation, audits and explanations ever see of a model. Guidance, constraints,
adapters and students are denoisers that wrap denoisers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from kuosan.core.posteriors import Posterior
from kuosan.core.shapes import State, Time
from kuosan.processes.base import Process


class Denoiser(nn.Module, ABC):
    """A model of the data behind a noisy state, for one process."""

    process: Process
    alone: bool = False
    """What is said of an example depends on that example alone, and so may be asked of any batch."""

    @abstractmethod
    def forward(self, x_t: State, t: Time, **cond: Tensor) -> Posterior:
        """q(x | x_t) of each example at its own time ``t`` (b,), given its conditions (b, ...)."""

    def curves(self) -> list[nn.Parameter]:
        """Parameters that are control sequences along time, such as a learned schedule's."""
        return []

    def along(self, times: tuple[Time, ...], like: State) -> Denoiser:
        """The same denoiser, free to work out ahead what only ``times`` decide, for states like ``like``.

        `trajectory` asks once per grid; whatever comes back answers at any other time too.
        """
        return self
