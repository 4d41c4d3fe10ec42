"""Posteriors: what a denoiser knows of the clean data, q(x | x_t).

A network that was trained on squared error knows the mean; an exact or a calibrated one knows a variance
too; a network over tokens knows a distribution per position. Solvers read ``mean`` alone where that is all
they need, and a process's bridge takes whatever more there is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import State


class Posterior(ABC):
    """A distribution of the clean data given a noisy state.

    ``mean`` is E[x | x_t]; for tokens the probabilities of every value, on a last axis.
    """

    mean: Any  # a State; a field where it is stored, a property where it is worked out

    @abstractmethod
    def sample(self, seeds: Seeds) -> State:
        """A draw of x."""

    def sample_at(self, seeds: Seeds, where: Bool[Tensor, "b ..."]) -> State:
        """The draw of `sample` at the positions ``where``; what stands elsewhere means nothing. Cheaper where positions
        are drawn one by one."""
        return self.sample(seeds)


@dataclass(frozen=True)
class Point(Posterior):
    """The mean alone, all mass on it."""

    mean: Tensor

    def sample(self, seeds: Seeds) -> Tensor:
        return self.mean


@dataclass(frozen=True)
class Gaussian(Posterior):
    """Mean and variance of every element."""

    mean: Tensor
    variance: Tensor

    def sample(self, seeds: Seeds) -> Tensor:
        return self.mean + self.variance.sqrt() * seeds.normal(self.mean)


@dataclass(frozen=True)
class Categorical(Posterior):
    """Unnormalised log-probabilities (b, ..., k) of every position's value, positions independent."""

    logits: Float[Tensor, "b ... k"]

    @property
    def mean(self) -> Float[Tensor, "b ... k"]:
        return self.logits.softmax(-1)

    def sample(self, seeds: Seeds) -> Tensor:
        return draw(self.mean, seeds)

    def sample_at(self, seeds: Seeds, where: Bool[Tensor, "b ..."]) -> Tensor:
        u = seeds.uniform(self.logits[..., 0].double())
        out = torch.zeros(where.shape, dtype=torch.int64, device=where.device)
        out[where] = invert(self.logits[where].softmax(-1), u[where])
        return out


@dataclass(frozen=True)
class Joint(Posterior):
    """One posterior per part of a joint state."""

    parts: Mapping[str, Posterior]

    @property
    def mean(self) -> Mapping[str, Tensor]:
        return {name: part.mean for name, part in self.parts.items()}

    def sample(self, seeds: Seeds) -> Mapping[str, Tensor]:
        return {name: part.sample(seeds.fold(name)) for name, part in self.parts.items()}


def draw(probabilities: Float[Tensor, "b ... k"], seeds: Seeds) -> Int64[Tensor, "b ..."]:
    """A value per position, by inversion in float64."""
    return invert(probabilities, seeds.uniform(probabilities[..., 0].double()))


def invert(probabilities: Float[Tensor, "... k"], u: Float[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """The values that uniform numbers ``u`` stand for.

    Single precision rounds small probabilities away, an accidental low temperature that flatters
    perplexity (Zheng et al. 2024), so the cumulative sums are in double precision.
    """
    total = probabilities.double().cumsum(-1)
    u = u * total[..., -1]
    return (total <= u[..., None]).sum(-1).clamp_max(probabilities.shape[-1] - 1)
