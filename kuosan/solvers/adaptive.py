"""An explicit Runge–Kutta pair of order 5(4) with a step length for every example.

Where a stated accuracy counts and not a number of calls (likelihoods, references), steps are chosen by their
estimated error. Every example walks at its own pace and leaves the batch when it arrives, so that no example's value
depends on its neighbours, and easy ones do not pay for hard ones. States are float64 on the CPU, whatever the field
computes in.

The pair is Dormand & Prince's (1980), whose last stage is the next step's first; the length follows the error's
history (Gustafsson 1991; Hairer, Nørsett & Wanner 1993, sec. IV.2).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

_NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
_SAFETY, _LEAST, _MOST = 0.9, 0.2, 5.0
_SHORTEST = 1e-9  # of the whole way

# dy/ds of the examples numbered by the last argument: (k, m), (k,), (k,) → (k, m)
Field = Callable[[Tensor, Tensor, Tensor], Tensor]
# How large an error (k, m) is beside the tolerance: (k,), 1 where it is just allowed. Also given the states (k, m).
Norm = Callable[[Tensor, Tensor], Tensor]


class Unreached(ArithmeticError):
    """The end was not reached: the tolerance asks for more steps, or a finer arithmetic, than there are."""


@torch.no_grad()
def integrate(
    field: Field,
    y: Float64[Tensor, "b m"],
    start: float,
    stop: float,
    norm: Norm,
    *,
    first: float = 0.02,
    most: int = 4000,
) -> tuple[Float64[Tensor, "b m"], Int64[Tensor, " b"]]:
    """y at ``stop`` and the number of calls that each example took.

    Args:
        start, stop: of s, rising.
        norm: of the estimated error of a step, see `Norm`.
        first: length of the first step, as a part of the way.
        most: calls of an example.

    Raises:
        Unreached: more than ``most`` calls, steps too short to matter, or a field that is not finite.
    """
    way, batch = stop - start, len(y)
    out, calls = y.clone(), torch.zeros(batch, dtype=torch.int64)
    index, s = torch.arange(batch), torch.full((batch,), start, dtype=torch.float64)
    y, h = y.clone(), torch.full((batch,), first * way, dtype=torch.float64)
    before = torch.ones(batch, dtype=torch.float64)
    k0 = field(y, s, index)
    calls += 1
    while len(index):
        h = torch.minimum(h, stop - s)
        ks = [k0]
        for node, row in zip(_NODES, _STAGES, strict=True):
            moved = sum(a * k for a, k in zip(row, ks, strict=True) if a)
            ahead = y + h[:, None] * moved
            ks.append(field(ahead, s + node * h, index))
        calls[index] += len(_NODES)
        error = norm(h[:, None] * sum(e * k for e, k in zip(_ERROR, ks, strict=True) if e), ahead)
        error = torch.where(torch.isfinite(error), error.clamp_min(1e-10), torch.inf)
        good = error <= 1
        y, k0 = torch.where(good[:, None], ahead, y), torch.where(good[:, None], ks[-1], k0)
        arrived = good & (h >= stop - s)
        s = torch.where(good, s + h, s)
        factor = _SAFETY * error ** (-0.7 / 5) * before ** (0.4 / 5)
        factor = torch.where(good, factor, (_SAFETY * error ** (-1 / 5)).clamp_max(1.0))
        h, before = h * factor.clamp(_LEAST, _MOST), torch.where(good, error, before)
        out[index[arrived]] = y[arrived]
        left = ~arrived
        if bool(((h < _SHORTEST * way) & left).any()):
            raise Unreached("steps became too short to matter")
        if bool((calls[index[left]] + len(_NODES) > most).any()):
            raise Unreached(f"the end was not reached in {most} calls")
        index, s, y, h, before, k0 = (v[left] for v in (index, s, y, h, before, k0))
    return out, calls
