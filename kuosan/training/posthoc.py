"""Averages of any length, from a few that were kept (Karras et al. 2024, section 3.2 and appendix C).

After n steps the average of `ema` with exponent γ weighs the weights θ_i of step i by what a power function has in
the interval of that step, so it is an average along τ ∈ [0, n] of weights that stay θ_i for τ ∈ (i - 1, i]:

    θ̂ = ∫ p(τ) θ(τ) dτ,   p(τ; γ, n) = (γ+1) τ^γ / n^(γ+1) up to n, 0 after it                     (1)

Of the averages kept at steps n_i with exponents γ_i, the combination Σ x_i θ̂_i has the profile Σ x_i p_i; that
which comes closest to the wanted p solves a least-squares problem whose products are known in closed form,

    ⟨p_a, p_b⟩ = (γ_a+1)(γ_b+1)/(γ_a+γ_b+1) · (n_a/n_b)^γ_b / n_b,   n_a ≤ n_b                      (2)

Beyond the paper, its weights are made to sum to 1, as those of every average do: what stays the same all along comes
back as it was. Weights drift slowly beside their size, so this divides the error by about fifty (of a random walk,
16 averages of each of two lengths, relative to how far the average is from the walk's end):

| length wanted           | 0.02 | 0.03  | 0.07   | 0.15   | 0.20  | 0.25 |
|-------------------------|------|-------|--------|--------|-------|------|
| with Σ x = 1            | 6 %  | 1.3 % | 0.06 % | 0.06 % | 0.3 % | 2 %  |
| without                 | 15 % | 3.8 % | 0.25 % | 0.84 % | 4.5 % | 22 % |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from kuosan.training.ema import gamma_of


@dataclass(frozen=True)
class Profile:
    """Which weights an average holds: of relative standard deviation ``std`` at ``step``, eq. 1."""

    std: float
    step: int


def products(a: Sequence[Profile], b: Sequence[Profile]) -> Float64[np.ndarray, "a b"]:
    """Eq. 2 of every pair."""
    (g, n), (h, m) = _numbers(a), _numbers(b)
    g, n = g[:, None], n[:, None]
    late = np.where(n <= m, h, g)
    first, last = np.minimum(n, m), np.maximum(n, m)
    return (g + 1) * (h + 1) / (g + h + 1) * (first / last) ** late / last


def _numbers(profiles: Sequence[Profile]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([gamma_of(p.std) for p in profiles]), np.array([p.step for p in profiles], dtype=float)


def coefficients(kept: Sequence[Profile], wanted: Profile) -> Float64[np.ndarray, " k"]:
    """x of the combination that is nearest to ``wanted`` and sums to 1; of one that is kept, that one alone."""
    scale = max(p.step for p in (*kept, wanted))  # steps in thousands would make small numbers of eq. 2
    gram, right = scale * products(kept, kept), scale * products(kept, [wanted])[:, 0]
    one = np.ones(len(kept))
    bordered = np.block([[gram, one[:, None]], [one[None], np.zeros((1, 1))]])
    x = np.linalg.lstsq(bordered, np.append(right, 1.0), rcond=None)[0][:-1]
    return x.round(10) + 0.0  # what is left beyond is rounding


def thinned(steps: Sequence[int], most: int) -> list[int]:
    """At most ``most`` of rising steps, the first and the last among them: of the others goes, one by one, whichever
    leaves the smallest gap."""
    left = list(steps)
    while len(left) > max(most, 2):
        gaps = [after - before for before, after in zip(left, left[2:], strict=False)]
        del left[1 + gaps.index(min(gaps))]
    return left
