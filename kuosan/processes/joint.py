"""Joint processes: the parts of a state are corrupted side by side, each by its own process.

Given the data the parts are independent, so every closed form is a sum over parts; it is the denoiser, which
sees all parts at once, that ties them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from jaxtyping import Float
from torch import Tensor

from kuosan.core.posteriors import Joint, Posterior
from kuosan.core.random import Seeds
from kuosan.core.shapes import State, Time
from kuosan.processes.base import Bridged


@dataclass(frozen=True)
class JointProcess(Bridged):
    """One process per named part; all parts share the time t."""

    parts: Mapping[str, Bridged]

    def prior(self, like: State, seeds: Seeds) -> State:
        return {n: p.prior(like[n], seeds.fold(n)) for n, p in self.parts.items()}

    def corrupt(self, x: State, t: Time, seeds: Seeds) -> State:
        return {n: p.corrupt(x[n], t, seeds.fold(n)) for n, p in self.parts.items()}

    def bridge(self, x_t: State, q: Posterior, t: Time, s: Time, seeds: Seeds) -> State:
        assert isinstance(q, Joint)
        parts = q.parts
        return {n: p.bridge(x_t[n], parts[n], t, s, seeds.fold(n)) for n, p in self.parts.items()}

    def elbo_rate(self, x: State, x_t: State, q: Posterior, t: Time) -> Time:
        assert isinstance(q, Joint)
        parts = q.parts
        return reduce(Tensor.add, (p.elbo_rate(x[n], x_t[n], parts[n], t) for n, p in self.parts.items()))

    def step_divergence(self, x: State, x_t: State, q: Posterior, t: Time, s: Time) -> Time:
        assert isinstance(q, Joint)
        parts = q.parts
        each = (p.step_divergence(x[n], x_t[n], parts[n], t, s) for n, p in self.parts.items())
        return reduce(Tensor.add, each)

    def prior_divergence(self, x: State, t: Time) -> Time:
        return reduce(Tensor.add, (p.prior_divergence(x[n], t) for n, p in self.parts.items()))

    def log_kernel(self, x: State, x_t: State, t: Time) -> Float[Tensor, "b n"]:
        each = (p.log_kernel(x[n], x_t[n], t) for n, p in self.parts.items())
        return reduce(Tensor.add, each)

    def mix(self, x: State, weights: Float[Tensor, "b n"]) -> Posterior:
        return Joint({n: p.mix(x[n], weights) for n, p in self.parts.items()})
