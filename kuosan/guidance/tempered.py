"""Temperature and nucleus: bolder or more careful draws of tokens.

Of what the network says of a position, q(x_i), is left

    q'(x_i = k) ∝ q(x_i = k)^(1/T) [k ∈ N_p],                                                     (1)

N_p being the likeliest values that together have at least the probability p (Holtzman et al. 2020, eqs. 2 and 3). T = 1
with p = 1 is the model; below it, samples are more typical and less varied than the data, and their own entropy says by
how much. Neither is a law of the data any more: a bound on the likelihood is always of the model as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kuosan.core.curves import Curve, curve
from kuosan.core.posteriors import Categorical
from kuosan.core.shapes import State, Time, at, is_shared
from kuosan.denoisers.base import Denoiser


class Tempered(Denoiser):
    """Eq. 1 around a denoiser of tokens.

    Args:
        temperature: T > 0, a number or a curve of it along time.
        nucleus: p, above 0 and up to 1, which is everything.

    Raises:
        ValueError: p is none.
    """

    def __init__(self, denoiser: Denoiser, temperature: float | Curve, nucleus: float = 1.0):
        super().__init__()
        if not 0 < nucleus <= 1:
            raise ValueError(f"a nucleus has a probability above 0 and up to 1, not {nucleus}")
        self.denoiser, self.temperature, self.nucleus = denoiser, curve(temperature), nucleus
        self.process = denoiser.process

    def along(self, times: tuple[Time, ...], like: State) -> Denoiser:
        return Tempered(self.denoiser.along(times, like), self.temperature, self.nucleus)

    def forward(self, x_t: State, t: Time, **cond: Tensor) -> Categorical:
        q = self.denoiser(x_t, t, **cond)
        if not isinstance(q, Categorical):
            raise TypeError(f"a temperature bends probabilities of tokens, not a {type(q).__name__}")
        heat = self.temperature(t[:1] if is_shared(t) else t)
        if bool((heat <= 0).any()):
            raise ValueError(f"a temperature is above 0, not {float(heat.min())}")
        logits = q.logits if bool((heat == 1).all()) else q.logits / at(heat, q.logits)
        return Categorical(logits if self.nucleus == 1 else nucleus(logits, self.nucleus))


def nucleus(logits: Tensor, p: float) -> Tensor:
    """Logits (…, k) of the likeliest values with together at least the probability p; the others have none."""
    value, order = logits.sort(-1, descending=True)
    mass = value.double().softmax(-1)
    beyond = mass.cumsum(-1) - mass >= p  # what stands before a value is enough
    return logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)
