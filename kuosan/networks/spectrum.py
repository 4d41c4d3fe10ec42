"""What a network says of smooth data, shaped along each side like the data.

A network's errors are about as large at every frequency; data are not: motions have 0.4 % of their power in the upper
half of the frequencies (cmu_mocap at 30 frames per second), so an even error of a few per cent is seen as trembling.
With the orthonormal cosine transform D of a side, what a network says, F, is therefore taken as

    x̂ = Dᵀ diag(g) D F,      g_k = (p_k / mean p)^(γ/2),      p_k = E|D(x - E x)|²_k                        (1)

so that with γ = 1 a white F comes out with the spectrum p of the data, and γ = 0 leaves F as it is. It is what a
scalar does for the size of the output (c_out of Karras et al. 2022, table 1), for each frequency. The map can be
undone, so that a network can say all that it could. A state of n' instead of n places has the gains at the same
frequencies, g(k'/n'), between which log g is taken along straight lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

Gains = Sequence[float] | None  # of one side's frequencies 0 … n-1; None leaves it alone

LONGEST = 1024  # places of a side that is shaped: the map is a matrix
LEAST = 1e-3  # of the largest: with a gain of 0 nothing could be said there


def cosines(n: int) -> Float[Tensor, "n n"]:
    """D of eq. 1, orthonormal, a frequency a row."""
    from scipy.fft import dct  # most networks have no use for it

    return torch.from_numpy(dct(np.eye(n), norm="ortho", axis=0))


def gains_of(x: Float[Tensor, "b c *sides"], patch: Sequence[int], power: float) -> list[list[float] | None]:
    """g of eq. 1 along every side of the states, γ being ``power``; None for one that a single patch
    spans, or along which nothing changes."""
    away = x.double() - x.double().mean(0)
    found: list[list[float] | None] = []
    for side, p in enumerate(patch, 2):
        n, own = x.shape[side], None
        if p < n <= LONGEST:
            spectrum = (away.movedim(side, -1) @ cosines(n).T).square().flatten(0, -2).mean(0)
            if spectrum.max() > 0:
                g = (spectrum / spectrum.mean()).sqrt()
                own = [float(f"{v:.4g}") for v in (g.clamp_min(LEAST * g.max()) ** power).tolist()]
        found.append(own)
    return found


def kernel(gains: Sequence[float], n: int) -> Float[Tensor, "n n"]:
    """The symmetric matrix of eq. 1 for a side of n places."""
    own = len(gains)
    g = np.exp(np.interp(np.arange(n) / n, np.arange(own) / own, np.log(np.asarray(gains))))
    d = cosines(n)
    return d.T @ (torch.from_numpy(g)[:, None] * d)


class Shaping(nn.Module):
    """Eq. 1 along every side that has gains."""

    def __init__(self, gains: Sequence[Gains]) -> None:
        super().__init__()
        self.gains = tuple(gains)
        for side, own in enumerate(self.gains):
            if own is not None:
                self.register_buffer(f"kernel{side}", kernel(own, len(own)).float(), persistent=False)
        self._others: dict[tuple[int, int], Tensor] = {}  # of states of other sizes

    def forward(self, y: Float[Tensor, "b c *sides"]) -> Float[Tensor, "b c *sides"]:
        """In single precision at least, however coarse ``y``: the rounding of neighbours would be seen as trembling."""
        with torch.autocast(y.device.type, enabled=False):
            y = y.to(torch.promote_types(y.dtype, torch.float32))
            for side, gains in enumerate(self.gains):
                if gains is not None:
                    along = y.movedim(2 + side, -1)
                    y = (along @ self._kernel(side, gains, along.shape[-1]).to(y)).movedim(-1, 2 + side)
        return y

    def _kernel(self, side: int, gains: Sequence[float], n: int) -> Float[Tensor, "n n"]:
        if n == len(gains):
            return self.get_buffer(f"kernel{side}")
        if (side, n) not in self._others:
            self._others[side, n] = kernel(gains, n).float()
        return self._others[side, n]
