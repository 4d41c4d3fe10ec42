"""Every sampler that calls the network k times, as one triangle of numbers.

A linear multistep solver adds multiples of states and estimates. Each state is itself a sum of multiples of the noise
z that it all began with and of earlier estimates, so any such solver on any grid is

    y_n = A_n z + Σ_{j<n} B_nj m_j,      m_n = x̂(y_n, ρ_n),      n = 0 … k                     (1)

and its sample is y_k. A_0 is ρ_0: the state that the first call sees is noise alone. Solver and grid are gone; what
remains is where the network is asked (ρ_n) and what is made of its answers (A, B). Bespoke solvers (Shaul et al.
2024), times and decoupled times (Tong et al. 2025) and additive corrections to a solver's coefficients
(Oganov et al. 2025) are all parts of this set, and stock solvers are points in it: learning starts from one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from kuosan.core.schedules import EDM, Level, Schedule
from kuosan.solvers.multistep import Multistep, Table


@dataclass(frozen=True)
class Controls:
    """Eq. 1, in float64.

    Args:
        log_rho: of the calls (k,). state: A (k+1,). terms: B (k+1, k), zero from the diagonal on.
        w: the guidance weight of each call (k,), where it is a control too.
        far: the first call is at noise alone, and one that samples share (`solvers.far`): not one of the ``calls``.
    """

    log_rho: Float64[Tensor, " k"]
    state: Float64[Tensor, " k+1"]
    terms: Float64[Tensor, "k+1 k"]
    w: Float64[Tensor, " k"] | None = None
    far: bool = False

    @property
    def calls(self) -> int:
        """Of the network, for each sample."""
        return len(self) - self.far

    def __len__(self) -> int:
        return len(self.log_rho)

    def flat(self) -> Float64[Tensor, " p"]:
        """The numbers that are free, in a row: ρ, A but A_0, B's triangle, w."""
        parts = [self.log_rho, self.state[1:], self.terms[_triangle(len(self))]]
        return torch.cat(parts if self.w is None else [*parts, self.w])

    def of(self, flat: Float64[Tensor, " p"]) -> Controls:
        """Controls of this kind with other numbers."""
        k = len(self)
        count = k * (k + 1) // 2
        log_rho, state, triangle, w = flat.split([k, k, count, len(flat) - 2 * k - count])
        terms = flat.new_zeros(k + 1, k)
        terms[_triangle(k)] = triangle
        state = torch.cat([log_rho[:1].exp(), state])
        return Controls(log_rho, state, terms, None if self.w is None else w, self.far)

    def gradient(self, log_rho: Tensor, state: Tensor, terms: Tensor, w: Tensor) -> Float64[Tensor, "b p"]:
        """Gradients (b, …) with respect to each part as one with respect to `flat`."""
        log_rho = log_rho.clone()
        log_rho[:, 0] += state[:, 0] * self.log_rho[0].exp()
        parts = [log_rho, state[:, 1:], terms[(slice(None), *_triangle(len(self)))]]
        return torch.cat(parts if self.w is None else [*parts, w], 1)

    def guided(self, w: float) -> Controls:
        """The same with a guidance weight for each call."""
        return replace(self, w=torch.full_like(self.log_rho, w))

    def after_far(self, rho: float) -> Controls:
        """The same after a call that is shared, at ``rho``: its answer, the data's mean, is what the walk begins with
        beside noise, y_0 = m + ρ_0 z, and goes the way of y_0 from there."""
        start = self.log_rho.new_tensor([rho])
        terms = torch.cat([(self.state / self.state[0])[:, None], self.terms], 1)
        terms = torch.cat([terms.new_zeros(1, terms.shape[1]), terms])
        return Controls(
            torch.cat([start.log(), self.log_rho]), torch.cat([start, self.state]), terms, far=True
        )

    def table(self, schedule: Schedule, times: Float64[Tensor, " k+1"]) -> Table:
        """Eq. 1 as coefficients of x_t on a schedule, for calls at ``times``; the last is where the sample is.

        The noise z is eliminated: A_n z is y_n less the estimates in it.
        """
        alpha = schedule.alpha(times)
        ratio = self.state[1:] / self.state[:-1]
        terms = self.terms[1:] - ratio[:, None] * self.terms[:-1]
        newest_first = torch.zeros_like(terms)
        for n in range(len(self)):
            newest_first[n, : n + 1] = terms[n, : n + 1].flip(0)
        return Table(ratio * alpha[1:] / alpha[:-1], alpha[1:, None] * newest_first)


def _triangle(k: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.tril_indices(k + 1, k, -1)
    return rows, columns


def of_solver(solver: Multistep, rho: Float64[Tensor, " k+1"]) -> Controls:
    """A solver's controls on the noise levels ``rho``, falling; the last may be 0. Differentiable in them."""
    k = len(rho) - 1
    levels = Level(rho, torch.ones_like(rho), rho, -2 * rho.log())
    table = solver.table(EDM(), levels)
    assert table.noise is None
    state, terms = [rho[0]], [rho.new_zeros(k)]
    unit = torch.eye(k, dtype=rho.dtype)
    for n in range(k):
        a, b = table.state[n] * state[n], table.state[n] * terms[n]
        for c, i in zip(table.terms[n], range(n, -1, -1), strict=False):
            if solver.estimates == "data":
                b = b + c * unit[i]
            else:  # of the noise, (y_i - m_i)/ρ_i
                c = c / rho[i]
                a, b = a + c * state[i], b + c * (terms[i] - unit[i])
        state.append(a)
        terms.append(b)
    return Controls(rho[:-1].log(), torch.stack(state), torch.stack(terms))
