"""Noise distributions: what ε can be in x_t = α_t x + σ_t ε.

All are symmetric, with the variance 1 in every element wherever there is one, so that log-SNR, schedules, grids and
preconditioning mean what they mean for the Gaussian. Categorical noise, which replaces tokens, is in `discrete`.

| noise               | density of an element                          | excess kurtosis              |
|---------------------|------------------------------------------------|------------------------------|
| `Normal`            | ∝ exp(-ε²/2)                                   | 0                            |
| `Uniform`           | 1/(2√3) on [-√3, √3]                           | -1.2                         |
| `Laplace`           | ∝ exp(-√2 |ε|)                                 | 3                            |
| `GeneralisedNormal` | ∝ exp(-|ε/c|^p), c² = Γ(1/p)/Γ(3/p)            | Γ(5/p)Γ(1/p)/Γ(3/p)² - 3     |
| `Student`           | ∝ (1 + ε²/(c²ν))^(-(ν+1)/2), c² = (ν - 2)/ν    | 6/(ν - 4), ∞ for ν ≤ 4       |
| `Binary`            | ½ at -1 and at 1                               | -2                           |

Three of them are *scale mixtures of normals*,

    ε = √W z,      z ~ N(0, 1) independent of W > 0                                            (1)

W = 1 for the normal law, W ~ Exp(1) for Laplace's (Andrews & Mallows 1974), W = c²ν/χ²_ν for Student's. Given W all is
Gaussian, so their reverse step is known as soon as W can be drawn given ε (`processes.mixtures`). Bayes' rule on (1):

    Laplace:  p(W | ε) ∝ W^(-1/2) exp(-ε²/(2W) - W), the reciprocal of an inverse Gaussian variable: in law
              W = Y + χ²_1/2,   Y ~ IG(mean m, shape 2m²),   m = |ε|/√2   (Park & Casella 2008)  (2)
    Student:  W = c²(ν + ‖ε/c‖²)/χ²_{ν+d}                                                      (3)

with d the number of elements that share W. An element with a kurtosis below the normal law's is no such mixture
(Jensen: E ε⁴ = 3 E W² ≥ 3), which excludes `Uniform` and `Binary`; `GeneralisedNormal` is one for p ≤ 2, with a W whose
law given ε has no closed form.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from scipy import special
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import per_example

_LEAST = 2.0**-53  # of a probability: half of what uniform numbers are apart
_EDGE = 1e-3  # how far rounding may carry ε off a bounded law, in single precision at little noise


def _wide(like: Tensor) -> Float64[Tensor, "b ..."]:
    """Draws are made in float64 on the CPU whatever they are for."""
    return torch.empty(like.shape, dtype=torch.float64)


class Noise(ABC):
    """A law of ε, with examples independent."""

    @property
    def variance(self) -> float:
        """Of an element: 1, or infinite."""
        return 1.0

    @abstractmethod
    def draw(self, like: Tensor, seeds: Seeds) -> Tensor:
        """ε in the shape, type and device of ``like`` (b, ...), drawn in float64."""

    @abstractmethod
    def log_density(self, eps: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
        """log p(ε) of each example, in nats; -inf where it cannot be.

        For `Binary`, the logarithm of a probability.
        """

    @abstractmethod
    def __str__(self) -> str:
        """Its name, for messages to people."""


class ScaleMixture(Noise):
    """Eq. 1."""

    @abstractmethod
    def scale(self, eps: Tensor, seeds: Seeds) -> Float64[Tensor, "b ..."]:
        """A draw of W given ε, which it multiplies."""

    def again(self, eps: Tensor, seeds: Seeds) -> Tensor:
        """√W z with a new z and W from its law given ε, like ``eps``."""
        w = self.scale(eps.detach().cpu().double(), seeds.fold("scale"))
        return (w.sqrt() * seeds.normal(_wide(eps))).to(eps)


@dataclass(frozen=True)
class Normal(Noise):
    """The standard normal law."""

    def draw(self, like: Tensor, seeds: Seeds) -> Tensor:
        return seeds.normal(like)

    def log_density(self, eps: Tensor) -> Tensor:
        return per_example(-eps.square() / 2 - math.log(2 * math.pi) / 2)

    def __str__(self) -> str:
        return "Gaussian"


class Independent(Noise):
    """Elements independent, drawn by inversion of their tail."""

    @abstractmethod
    def tail(self, q: Float64[Tensor, "b ..."]) -> Float64[Tensor, "b ..."]:
        """The magnitude that |ε| exceeds with probability ``q`` in (0, 1]."""

    @abstractmethod
    def log_prob(self, eps: Tensor) -> Tensor:
        """log p of each element."""

    def draw(self, like: Tensor, seeds: Seeds) -> Tensor:
        u = seeds.uniform(_wide(like))
        # Both tails are counted from their own end: near 1 float64 knows a probability to 1e-16 only.
        size = self.tail((2 * torch.minimum(u, 1 - u)).clamp_min(_LEAST))
        return torch.where(u < 0.5, -size, size).to(like)

    def log_density(self, eps: Tensor) -> Tensor:
        return per_example(self.log_prob(eps))


@dataclass(frozen=True)
class Uniform(Independent):
    """Even on [-√3, √3]."""

    def tail(self, q: Tensor) -> Tensor:
        return math.sqrt(3) * (1 - q)

    def log_prob(self, eps: Tensor) -> Tensor:
        outside = eps.abs() > math.sqrt(3) + _EDGE
        return torch.full_like(eps, -math.log(2 * math.sqrt(3))).masked_fill(outside, -torch.inf)

    def __str__(self) -> str:
        return "uniform"


@dataclass(frozen=True)
class Binary(Independent):
    """-1 or 1, as a coin falls."""

    def tail(self, q: Tensor) -> Tensor:
        return torch.ones_like(q)

    def log_prob(self, eps: Tensor) -> Tensor:
        off = (eps.abs() - 1).abs() > _EDGE
        return torch.full_like(eps, -math.log(2)).masked_fill(off, -torch.inf)

    def __str__(self) -> str:
        return "binary"


@dataclass(frozen=True)
class Laplace(Independent, ScaleMixture):
    """Two exponentials back to back."""

    def tail(self, q: Tensor) -> Tensor:
        return -q.log() / math.sqrt(2)

    def log_prob(self, eps: Tensor) -> Tensor:
        return -math.sqrt(2) * eps.abs() - math.log(2) / 2

    def scale(self, eps: Tensor, seeds: Seeds) -> Tensor:
        """Eq. 2; the inverse Gaussian by Michael, Schucany & Haas (1976), whose smaller root is written without a
        difference."""
        m = eps.abs().clamp_min(1e-30) / math.sqrt(2)
        k = seeds.fold("root").normal(eps).square() / (4 * m)
        ratio = 1 / (1 + k + (k * (k + 2)).sqrt())  # of the smaller root to the mean
        smaller = seeds.fold("choice").uniform(eps) < 1 / (1 + ratio)
        y = torch.where(smaller, m * ratio, m / ratio)
        return y + seeds.fold("rest").normal(eps).square() / 2

    def __str__(self) -> str:
        return "Laplace"


@dataclass(frozen=True)
class GeneralisedNormal(Independent):
    """|ε|^p instead of a square: 1 is Laplace's law, 2 the normal one, and ∞ the uniform one.

    Args:
        power: p, from 0.5 to 64.
    """

    power: float = 1.5

    def __post_init__(self) -> None:
        if not 0.5 <= self.power <= 64:
            raise ValueError(f"the power of generalised Gaussian noise is 0.5 to 64, not {self.power}")

    @property
    def _c(self) -> float:
        return math.exp((math.lgamma(1 / self.power) - math.lgamma(3 / self.power)) / 2)

    def tail(self, q: Tensor) -> Tensor:
        # |ε/c|^p is a gamma variable of shape 1/p
        gamma = torch.from_numpy(special.gammainccinv(1 / self.power, q.numpy()))
        return self._c * gamma ** (1 / self.power)

    def log_prob(self, eps: Tensor) -> Tensor:
        norm = math.log(self.power / (2 * self._c)) - math.lgamma(1 / self.power)
        return norm - (eps.abs() / self._c) ** self.power

    def __str__(self) -> str:
        return f"generalised Gaussian (power {self.power:g})"


@dataclass(frozen=True)
class Student(ScaleMixture):
    """Student's t: tails that fall like a power, P(|ε| > r) ~ r^(-ν).

    Args:
        df: ν ≥ 1, degrees of freedom. Up to 2 there is no variance, and c = 1 in place of c² = (ν - 2)/ν.
        shared: all elements of an example share W: the multivariate law, whose extremes come together (Pandey et al.
            2024). Otherwise each has its own, and elements are independent.
    """

    df: float = 5.0
    shared: bool = True

    def __post_init__(self) -> None:
        if not self.df >= 1:
            raise ValueError(f"Student's noise takes degrees of freedom of 1 or more, not {self.df}")

    @property
    def variance(self) -> float:
        return 1.0 if self.df > 2 else math.inf

    @property
    def _c2(self) -> float:
        return (self.df - 2) / self.df if self.df > 2 else 1.0

    def _squares(self, eps: Tensor) -> tuple[Tensor, int]:
        """‖ε/c‖² over the elements that share W, with their axes kept, and how many they are."""
        squares = eps.square() / self._c2
        if not self.shared or eps.ndim == 1:
            return squares, 1
        return squares.sum(tuple(range(1, eps.ndim)), keepdim=True), eps[0].numel()

    def _chi_square(self, df: float, like: Tensor, seeds: Seeds) -> Tensor:
        """χ² variables in the shape of ``like``; a probability of exactly zero would make an infinite ε."""
        u = seeds.uniform(_wide(like)).clamp_min(_LEAST)
        return torch.from_numpy(2 * special.gammaincinv(df / 2, u.numpy()))

    def draw(self, like: Tensor, seeds: Seeds) -> Tensor:
        z = seeds.normal(_wide(like))
        g = self._chi_square(self.df, self._squares(z)[0], seeds.fold("scale"))
        return (z * (self._c2 * self.df / g).sqrt()).to(like)

    def log_density(self, eps: Tensor) -> Tensor:
        squares, d = self._squares(eps)
        half = (self.df + d) / 2
        norm = math.lgamma(half) - math.lgamma(self.df / 2) - d / 2 * math.log(self.df * math.pi * self._c2)
        return per_example(norm - half * (squares / self.df).log1p())

    def scale(self, eps: Tensor, seeds: Seeds) -> Tensor:
        """Eq. 3."""
        squares, d = self._squares(eps)
        return self._c2 * (self.df + squares) / self._chi_square(self.df + d, squares, seeds)

    def __str__(self) -> str:
        return f"Student's (ν = {self.df:g}, {'shared' if self.shared else 'independent'} scales)"
