"""Couplings: which noise goes with which datum.

The paths x_t = α x + σ ε of independent pairs cross, and where they do a network can only learn their mean. Pairs that
lie closer together cross less:

    independent   ε as it is drawn
    nearest       of k draws for each example the one with the least ‖x - ε‖ (Immiscible Diffusion, Li et al. 2024; in
                  this form Li et al. 2025)
    transport     the draws of a batch are dealt out so that Σ ‖x_i - ε_π(i)‖² is least (Pooladian et al. 2023;
                  Tong et al. 2024), among examples with the same conditions alone: else the noise that a condition
                  goes with would no longer be normal, as samplers take it to be (Cheng & Schwing 2025)

The flow of any coupling carries the law of ε to that of the data, as long as the law of ε is what samplers draw from
(`processes.additive`, eq. 2). That holds for `transport`, which only permutes; not quite for `nearest`, whose noise
leans towards the data. With both, ε given x is not normal, so scores, bounds on the likelihood and reverse variances
are those of another process: the recipe refuses them as objectives. `transport` is over what is computed at once: the
batch, or a micro-batch of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import BESIDE, per_example
from kuosan.processes.noises import Noise


class Coupling(ABC):
    """A joint law of data and noise."""

    @abstractmethod
    def draw(self, x: Tensor, noise: Noise, seeds: Seeds, cond: Mapping[str, Tensor]) -> Tensor:
        """ε (b, ...) for the data ``x`` under the conditions ``cond`` (b,)."""


@dataclass(frozen=True)
class Independent(Coupling):
    """Noise that knows nothing of the data."""

    def draw(self, x: Tensor, noise: Noise, seeds: Seeds, cond: Mapping[str, Tensor]) -> Tensor:
        return noise.draw(x, seeds)


@dataclass(frozen=True)
class Nearest(Coupling):
    """The nearest of ``k`` draws, of which the first is that of `Independent`."""

    k: int = 4

    def draw(self, x: Tensor, noise: Noise, seeds: Seeds, cond: Mapping[str, Tensor]) -> Tensor:
        best = noise.draw(x, seeds)
        least = per_example((x - best).square())
        for j in range(1, self.k):
            eps = noise.draw(x, seeds.fold("candidate", j))
            distance = per_example((x - eps).square())
            nearer = distance < least
            best[nearer], least = eps[nearer], torch.minimum(distance, least)
        return best


@dataclass(frozen=True)
class Transport(Coupling):
    """The draws of `Independent`, dealt out at the least cost within each set of equal conditions."""

    def draw(self, x: Tensor, noise: Noise, seeds: Seeds, cond: Mapping[str, Tensor]) -> Tensor:
        eps = noise.draw(x, seeds)
        # ‖x_i - ε_j‖² but for what no permutation changes
        cost = (-x.flatten(1) @ eps.flatten(1).T).double().cpu()
        place = torch.arange(len(x))
        for group in _alike(cond, len(x)):
            _, columns = linear_sum_assignment(cost[group][:, group].numpy())
            place[group] = group[torch.from_numpy(columns)]
        return eps[place.to(eps.device)]


def _alike(cond: Mapping[str, Tensor], count: int) -> list[Tensor]:
    """The numbers of the examples of each combination of conditions."""
    values = [
        v.cpu().reshape(count, -1) for name, v in cond.items() if name != BESIDE
    ]  # which differs for all
    if not values:
        return [torch.arange(count)]
    rows = torch.cat(values, 1)
    _, which = rows.unique(dim=0, return_inverse=True)
    return [(which == k).nonzero()[:, 0] for k in range(int(which.max()) + 1)]


COUPLINGS: dict[str, Coupling] = {
    "independent": Independent(),
    "nearest": Nearest(),
    "transport": Transport(),
}


def cost(x: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."]) -> float:
    """Mean of ‖x - ε‖² over a batch: what a coupling is short or long by."""
    return float(per_example((x - eps).square()).mean())
