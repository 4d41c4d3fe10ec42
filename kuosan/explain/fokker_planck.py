"""The Fokker–Planck equation on a grid: the law of all samples at once, without drawing any.

A process dx = v dt + √(2D) dw carries its density q along by

    ∂q/∂t = -∇·J,   J = v q - D ∇q                                                                 (1)

Three such processes matter here, with a and g² of `score` and s = ∇ log q_t as the denoiser has it:

    corruption, t rising        v = a x,                     D = ½ g²                               (2)
    generation, t falling       v = -a x + ½ g² s            D = 0         the probability flow     (3)
                                  + ½ η² g² s,               D = ½ η² g²   and its churn            (4)

(3) + (4) is the reverse SDE that DDIM's η is the step of (Song et al. 2021): 1 is ancestral. When s is exact,
the flux of (4) is nothing, ½ η² g² (s q - ∇q) = 0, and every η has the same law; when it is not, laws differ.

Space is cut into cells of width h; all that leaves a cell enters its neighbour, and nothing leaves the box.

- v with D, (2) and (4): the flux of Scharfetter & Gummel (1969), which solves the stationary problem between
  two cells,
      J = D/h (B(-p) q_i - B(p) q_{i+1}),   p = v h/D,   B(p) = p/(eᵖ - 1)                          (5)
  Both weights are positive: q follows a Markov chain that jumps between cells, q' = G q. A one-step method of
  rational functions that keeps q ≥ 0 for every step length is of first order (Bolley & Crouzeix 1978), but
  exp(lG), over a length l of time, is not rational. With Λ ≥ |G_ii| and P = 1 + G/Λ ≥ 0 (uniformisation,
  Jensen 1953)
      exp(lG) q = Σ_k Poisson(k; Λl) Pᵏ q                                                           (6)
  a sum of positive terms: exact for a G that stands still, never negative, and mass is kept to rounding. The
  price is Λl ≈ 2 l D dims/h² products with P, so that halving h costs four times as many.
- v alone, (3): each cell holds a straight line of van Leer's (1977) slope, and Heun's step in its
  strong-stability form (Shu & Osher 1988) is short enough that no cell can give more than it has.

Coefficients are those of a step's middle, and the parts are composed symmetrically, ½ (3), (4), ½ (3): second
order in the step and, for smooth densities, in h.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import dia_array
from scipy.special import gammaln
from torch import Tensor

from kuosan.core.shapes import as_time, at
from kuosan.denoisers.base import Denoiser
from kuosan.explain.box import Array, Box
from kuosan.explain.score import coefficients, score
from kuosan.processes.gaussian import GaussianProcess

_COURANT = 0.45  # at ½ a cell may give all that it has; the rest is for rounding
_MOST_JUMPS = 256.0  # of one sum (6): its first weight is e^-256, still a normal number


class Terms(NamedTuple):
    """Velocities at given points per unit of time, in the direction in which time runs."""

    flow: Float[Tensor, "m d"] | None  # carried along as it is
    drift: Float[Tensor, "m d"] | None  # goes with the diffusion
    diffusion: float


class Dynamics(ABC):
    """A process for eq. 1. ``rising``: whether it runs towards larger t."""

    rising: ClassVar[bool]

    @abstractmethod
    def terms(self, x: Float[Tensor, "m d"], t: float) -> Terms:
        """Its velocities at the points ``x`` at time ``t``."""


@dataclass(frozen=True)
class Forward(Dynamics):
    """Corruption, eq. 2, under any schedule."""

    process: GaussianProcess
    rising: ClassVar[bool] = True

    @torch.no_grad()
    def terms(self, x: Tensor, t: float) -> Terms:
        a, g2 = coefficients(self.process.schedule, as_time(t, len(x)))
        return Terms(None, at(a, x) * x, float(g2[0]) / 2)


@dataclass(frozen=True)
class Reverse(Dynamics):
    """Generation by a denoiser of one- or two-dimensional states (b, d), eqs. 3 and 4.

    Args:
        eta: churn, 0 the probability flow, 1 the reverse SDE.
        cond: conditions of one example, (1, ...) each.
        dtype: of the states that the denoiser is asked about.
    """

    denoiser: Denoiser
    eta: float = 1.0
    cond: Mapping[str, Tensor] = field(default_factory=dict)
    dtype: torch.dtype = torch.float64
    rising: ClassVar[bool] = False

    @torch.no_grad()
    def terms(self, x: Tensor, t: float) -> Terms:
        time = as_time(t, len(x))
        a, g2 = coefficients(self.denoiser.process.schedule, time)  # type: ignore[attr-defined]
        cond = {name: c.expand(len(x), *c.shape[1:]) for name, c in self.cond.items()}
        s = at(g2 / 2, x) * score(self.denoiser, x.to(self.dtype), time, **cond).to(x)
        churn = self.eta**2
        return Terms(s - at(a, x) * x, churn * s if churn else None, churn * float(g2[0]) / 2)


def evolve(
    dynamics: Dynamics, box: Box, q: Float[Tensor, "..."], times: Float[Tensor, " n+1"]
) -> Iterator[Float[Tensor, "..."]]:
    """The density at each of ``times`` but the first, from ``q`` at the first; float64, in the box's shape.

    Args:
        q: a density at the centres of the cells, nowhere negative.
        times: rising or falling as the dynamics do, within (0, 1) or up to an end where it is regular.

    Raises:
        ValueError: times run the wrong way, or q is no density on this box.
    """
    if tuple(q.shape) != box.shape or bool((q < 0).any()):
        raise ValueError(f"a density on this box has the shape {box.shape} and is nowhere negative")
    if not bool(((times.diff() > 0) == dynamics.rising).all()):
        raise ValueError(f"time {'rises' if dynamics.rising else 'falls'} in {type(dynamics).__name__}")
    now = q.detach().double().numpy().copy()
    for t, s in pairwise(times.tolist()):
        length = abs(s - t)
        terms = [dynamics.terms(box.faces(axis), (t + s) / 2) for axis in range(box.dims)]
        speeds = [_normal(box, axis, part.flow) for axis, part in enumerate(terms)]
        drifts = [_normal(box, axis, part.drift) for axis, part in enumerate(terms)]
        if terms[0].drift is None:
            now = _carry(box, speeds, now, length)
        else:
            now = _carry(box, speeds, now, length / 2)
            now = _spread(box, drifts, terms[0].diffusion, now, length)
            now = _carry(box, speeds, now, length / 2)
        yield torch.from_numpy(now.copy())


def _normal(box: Box, axis: int, velocity: Tensor | None) -> Array | None:
    """The component across the faces of an axis, that axis first."""
    if velocity is None:
        return None
    faces = tuple(box.cells - (k == axis) for k in range(box.dims))
    return np.moveaxis(velocity[:, axis].numpy().reshape(faces), axis, 0)


def _carry(box: Box, speeds: list[Any], q: Array, length: float) -> Array:
    """Transport over ``length``, in as many parts as positivity asks for."""
    if speeds[0] is None:
        return q
    rate = sum(float(np.abs(u).max()) for u in speeds) / box.width
    parts = max(1, math.ceil(rate * length / _COURANT))
    step = length / parts
    for _ in range(parts):
        first = q + step * _influx(box, speeds, q)
        q = (q + first + step * _influx(box, speeds, first)) / 2
    return q


def _influx(box: Box, speeds: list[Array], q: Array) -> Array:
    """-∇·(v q) with a limited straight line in every cell."""
    out = np.zeros_like(q)
    for axis, u in enumerate(speeds):
        inside, change = np.moveaxis(q, axis, 0), np.moveaxis(out, axis, 0)
        rise = np.diff(inside, axis=0)
        before, after = rise[:-1], rise[1:]
        product, total = before * after, before + after
        half = np.zeros_like(inside)  # van Leer's harmonic mean: no face lies beyond both neighbours
        np.divide(product, total, out=half[1:-1], where=product > 0)
        flux = np.where(u > 0, inside[:-1] + half[:-1], inside[1:] - half[1:]) * u / box.width
        change[:-1] -= flux
        change[1:] += flux
    return out


def _spread(box: Box, drifts: list[Any], diffusion: float, q: Array, length: float) -> Array:
    """Drift and diffusion over ``length`` by eqs. 5 and 6."""
    rows, offsets = [], []
    for axis, v in enumerate(drifts):
        stride = box.cells ** (box.dims - 1 - axis)
        up, down = _jumps(v * box.width, diffusion)
        for rates, part, offset in ((up, slice(None, -1), -stride), (down, slice(1, None), stride)):
            out = np.zeros(box.shape)
            np.moveaxis(out, axis, 0)[part] = rates / box.width**2
            rows.append(out.ravel())
            offsets.append(offset)
    leaving = np.sum(rows, 0)
    fastest = float(leaving.max())
    stay = (1 - leaving / fastest).clip(0)
    # Row k of `dia_array` is indexed by column: by the cell that is left.
    chain = dia_array((np.stack([*(r / fastest for r in rows), stay]), [*offsets, 0]), shape=(q.size, q.size))
    parts = max(1, math.ceil(fastest * length / _MOST_JUMPS))
    weights = _poisson(fastest * length / parts)
    flat = q.ravel()
    for _ in range(parts):
        total = weights[0] * flat
        for weight in weights[1:]:
            flat = chain @ flat
            total += weight * flat
        flat = total
    return flat.reshape(q.shape)


def _jumps(vh: Array, diffusion: float) -> tuple[Array, Array]:
    """D B(-p) and D B(p) of eq. 5 from v h, each by itself: their difference would lose the smaller one."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        p = vh / diffusion  # may overflow: then what is left is upwind, v and 0
        small = np.abs(p) < 1e-8
        up = np.where(small, diffusion + vh / 2, -vh / np.expm1(-p))
        down = np.where(small, diffusion - vh / 2, vh / np.expm1(p))
    return up, down


def _poisson(mean: float) -> Array:
    """The probabilities of 0, 1, … up to where nothing is left in double precision, normalised."""
    k = np.arange(math.ceil(mean + 9 * math.sqrt(mean) + 30))
    w = np.exp(k * math.log(mean) - mean - gammaln(k + 1.0))
    return w / w.sum()
