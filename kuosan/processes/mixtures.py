"""Additive processes whose noise is a scale mixture of normals: their reverse step in closed form.

With ε = √W z (`processes.noises`, eq. 1) and one W for all times, the process given W is Gaussian of standard
deviation √W σ_t. Its coefficients a and b do not depend on W and its variance is proportional to it, so

    x_s | x_t, x:   x_s = a x_t + b x + √v √W z,   W ~ p(W | ε),   ε = (x_t - α_t x)/σ_t       (1)

with (a, b, v) of the Gaussian bridge. Averaging (1) over x_t gives back q(x_s | x): given W that is the Gaussian's own
law, and W given ε, averaged over ε, is W. For Student's noise (1) is again Student's,

    x_s | x_t, x ~ t_{ν+d}( a x_t + b x,  v c² (ν + ‖ε/c‖²)/(ν + d) )                          (2)

(Pandey et al. 2024, for a scale shared by d elements; for scales of their own, element by element with
d = 1); for Laplace's it is a draw of W and one of z.

The pair (x_t, x_s) has this law exactly, but the chain t → s → r is not t → r: what x_t and x_s tell of W together is
more than x_s alone. Each state's own law, which sampling is about, is unharmed. And the divergence of two laws (1) with
different x has no closed form (already between two Student's laws there is none): no bound, so this is no `Bridged`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kuosan.core.posteriors import Posterior
from kuosan.core.random import Seeds
from kuosan.core.shapes import Time, at
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.base import Reversible
from kuosan.processes.gaussian import bridge_terms
from kuosan.processes.noises import ScaleMixture


@dataclass(frozen=True)
class ScaleMixtureProcess(AdditiveProcess, Reversible):
    """Eq. 1."""

    noise: ScaleMixture

    def bridge(self, x_t: Tensor, q: Posterior, t: Time, s: Time, seeds: Seeds) -> Tensor:
        here = self.schedule.level(t)
        a, b, v = bridge_terms(here, self.schedule.level(s))
        x = q.sample(seeds.fold("x"))
        eps = (x_t - at(here.alpha, x_t) * x) / at(here.sigma, x_t)
        return at(a, x_t) * x_t + at(b, x_t) * x + at(v.sqrt(), x_t) * self.noise.again(eps, seeds)
