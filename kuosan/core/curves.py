"""Control sequences (控制序列): functions of time that shape a diffusion.

The noise schedule, the density of training times, the loss weight, the guidance weight, the churn: each
is a `Curve`, a map from times (b,) to numbers (b,). A curve is fixed, learned (its parameters belong to an
optimiser) or found by a search, and whatever uses it need not know which. A fixed curve is written in a
recipe as a number or as a list of [t, value] pairs, see `curve`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kuosan.core.shapes import Time


class Curve(nn.Module, ABC):
    """A function of time, t in [0, 1] (0 data, 1 noise)."""

    @abstractmethod
    def forward(self, t: Time) -> Time:
        """The values at ``t`` (b,)."""


class Constant(Curve):
    """The same value at all times."""

    def __init__(self, value: float):
        super().__init__()
        self.value = float(value)

    def forward(self, t: Time) -> Time:
        return torch.full_like(t, self.value)


class Piecewise(Curve):
    """Linear between knots, constant beyond them.

    Args:
        points: (t, value) pairs with rising t; two at one t make a jump.
    """

    def __init__(self, points: Sequence[tuple[float, float]]):
        super().__init__()
        knots = torch.tensor([[float(t), float(value)] for t, value in points], dtype=torch.float64)
        if len(knots) < 2 or bool((knots[1:, 0] < knots[:-1, 0]).any()):
            raise ValueError("a piecewise curve needs two points or more, with t rising")
        self.register_buffer("knots", knots, persistent=False)
        self.knots: Tensor

    def forward(self, t: Time) -> Time:
        knots = self.knots.to(t)
        right = torch.searchsorted(knots[:, 0].contiguous(), t.contiguous()).clamp(1, len(knots) - 1)
        (t0, v0), (t1, v1) = knots[right - 1].unbind(-1), knots[right].unbind(-1)
        part = ((t - t0) / (t1 - t0).clamp_min(torch.finfo(t.dtype).tiny)).clamp(0, 1)
        return v0 + part * (v1 - v0)


class Interval(Curve):
    """One value within [low, high], another outside (guidance in an interval: Kynkäänniemi et al. 2024)."""

    def __init__(self, low: float, high: float, inside: float, outside: float = 1.0):
        super().__init__()
        self.low, self.high, self.inside, self.outside = low, high, inside, outside

    def forward(self, t: Time) -> Time:
        within = (t >= self.low) & (t <= self.high)
        return torch.where(within, torch.full_like(t, self.inside), torch.full_like(t, self.outside))


class Monotone(Curve):
    """A learned rise from (0, 0) to (1, 1), continuously differentiable.

    The integral of a positive piecewise-linear density over ``pieces`` equal parts; the logarithms of the
    density at the knots are the parameters. At zero it is the identity.
    """

    def __init__(self, pieces: int = 32):
        super().__init__()
        self.log_density = nn.Parameter(torch.zeros(pieces + 1, dtype=torch.float64))

    def forward(self, t: Time) -> Time:
        density = (self.log_density - self.log_density.mean()).exp().to(t)
        pieces = len(density) - 1
        areas = torch.cat([density.new_zeros(1), ((density[1:] + density[:-1]) / 2).cumsum(0)])
        place = t * pieces
        i = place.detach().floor().clamp(0, pieces - 1).long()
        u = place - i
        return (areas[i] + u * density[i] + u.square() * (density[i + 1] - density[i]) / 2) / areas[-1]


class CosineSurvival(Curve):
    """1 - cos(π(1 - t)/2): tokens vanish late, a good default for masks (MaskGIT, Chang et al. 2022)."""

    def forward(self, t: Time) -> Time:
        return 1 - torch.cos((1 - t) * (torch.pi / 2))


class LinearSurvival(Curve):
    """1 - t: as many tokens vanish at every time."""

    def forward(self, t: Time) -> Time:
        return 1 - t


class PolynomialSurvival(Curve):
    """1 - t^power: above 1 tokens vanish late, below 1 early (Shi et al. 2024, sec. 3)."""

    def __init__(self, power: float):
        super().__init__()
        if not (math.isfinite(power) and power > 0):
            raise ValueError(f"the power of a survival curve is a positive number, not {power!r}")
        self.power = float(power)

    def forward(self, t: Time) -> Time:
        return 1 - t**self.power


def survival(name: str) -> Curve:
    """A survival curve κ by its name in a recipe: ``linear`` (log-linear noise), ``cosine`` or ``poly:POWER``.

    Raises:
        ValueError: there is no such curve.
    """
    kind, _, power = name.partition(":")
    if kind == "poly" and power:
        return PolynomialSurvival(float(power))
    if name in ("linear", "cosine"):
        return LinearSurvival() if name == "linear" else CosineSurvival()
    raise ValueError(f"there is no survival curve {name!r}: choose linear, cosine or poly:POWER")


def curve(spec: float | Sequence[Sequence[float]] | Curve) -> Curve:
    """A curve from a recipe: a number, or a list of [t, value] pairs."""
    if isinstance(spec, Curve):
        return spec
    if isinstance(spec, int | float):
        return Constant(spec)
    return Piecewise([(float(t), float(value)) for t, value in spec])


def derivative(f: Callable[[Time], Time], t: Time) -> Time:
    """df/dt at each time, by automatic differentiation; keeps the graph when gradients are on, that of ``t`` too."""
    keep = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        t = t if keep and t.requires_grad else t.detach().clone().requires_grad_()
        value = f(t)
        if not value.requires_grad:  # f does not look at t
            return torch.zeros_like(value)
        (slope,) = torch.autograd.grad(value.sum(), t, create_graph=keep, materialize_grads=True)
    return slope
