"""Linear multistep solvers: a table of coefficients is all there is to them.

Every solver of the probability-flow ODE (or of a reverse SDE) that calls the network once per step is

    x_s = c x_t + Σ_j b_j m_j + ν z                                                            (1)

with m_0 the newest estimate (of the data, or of the noise), m_1, m_2 … the earlier ones and z fresh noise.
Predictor-corrector pairs are no exception, see `exponential.UniPC`. The numbers c, b, ν depend on the
schedule and the grid alone, so a whole trajectory's table is worked out at once, ahead of the first call: a
solver is a control sequence, which can be drawn, saved and learned. Inside the loop nothing is left but
eq. 1, hence the small overhead.

All weights b of order two and more are integrals of a Lagrange basis against the kernel of the variation
of constants; `lagrange_weights` computes them by Gauss–Legendre quadrature, to rounding, for any variable
of interpolation and any unequal steps (where textbook expressions lose digits by cancellation).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from kuosan.core.posteriors import Posterior
from kuosan.core.random import Seeds
from kuosan.core.schedules import Level, Schedule
from kuosan.core.shapes import Time, at
from kuosan.denoisers.base import Denoiser
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.base import Process
from kuosan.solvers.base import Solver

Number = Any  # a float for the whole batch, or a tensor (b, 1, …) of one number per example


@dataclass(frozen=True)
class Table:
    """The coefficients of n steps, in float64.

    Args:
        state: c. terms: b_j, newest first. noise: ν, or None.
    """

    state: Float64[Tensor, " n"]
    terms: Float64[Tensor, "n k"]
    noise: Float64[Tensor, " n"] | None = None


class Row(NamedTuple):
    """One step's numbers, ready to multiply; ``alpha`` is α_t, for estimates of the noise."""

    state: Number
    terms: tuple[Number, ...]
    noise: Number
    alpha: Number


class History(NamedTuple):
    """What a multistep solver carries from step to step."""

    times: tuple[Tensor, ...] = ()
    rows: tuple[Row, ...] = ()
    place: int = 0  # of the next step in ``rows``
    past: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Multistep(Solver[History]):
    """Eq. 1 with the table of a subclass.

    Args (of most subclasses):
        steps_back: how many estimates a step uses at most.
    """

    needs: ClassVar[type[Process]] = AdditiveProcess
    estimates: ClassVar[Literal["data", "noise"]] = "data"
    most_back: ClassVar[int] = 4  # estimates that a table uses at most
    steps_back: int = field(default=1, init=False)

    @abstractmethod
    def table(self, schedule: Schedule, levels: Level) -> Table:
        """The coefficients between consecutive ``levels``, each (n+1,)."""

    def rows(self, schedule: Schedule, grid: Tensor) -> tuple[Row, ...]:
        """The table of a grid (n+1,), or of one grid per example (n+1, b), a row per step."""
        if grid.ndim == 2:  # each example's own table: what one example's order is depends on its own grid
            each = [self.rows(schedule, column) for column in grid.unbind(1)]
            return tuple(_stack(rows) for rows in zip(*each, strict=True))
        kept = _kept_rows(self, schedule, tuple(grid.tolist()))
        return self._rows(schedule, grid) if kept is None else kept

    def _rows(self, schedule: Schedule, grid: Tensor) -> tuple[Row, ...]:
        levels = schedule.level(grid)
        table = self.table(schedule, levels)
        count, k = table.terms.shape
        terms = table.terms
        if self.estimates == "noise":
            # The loop keeps x_t - α x̂, one operation, which is σ ε̂ with the σ of the estimate's own time.
            own = (torch.arange(count)[:, None] - torch.arange(k)).clamp_min(0)
            terms = terms / levels.sigma[own]
        noise = torch.zeros_like(table.state) if table.noise is None else table.noise
        columns: tuple[Any, ...] = (table.state, terms, noise, levels.alpha[:-1])
        # Plain floats spare the loop a launch for every look-up; what is being learned stays a tensor.
        if not any(x.requires_grad for x in columns):
            columns = tuple(x.tolist() for x in columns)
        state, terms, noise, alpha = columns
        return tuple(
            Row(state[i], tuple(terms[i][: min(k, i + 1)]), noise[i], alpha[i]) for i in range(count)
        )

    def begin(self, process: AdditiveProcess, grid: Tensor) -> History:
        return History(rows=self.rows(process.schedule, grid))

    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Time,
        s: Time,
        memory: History | None,
        seeds: Seeds,
        **cond: Tensor,
    ) -> tuple[Tensor, Posterior, History]:
        times, rows, place, past = memory or History()
        if place < len(rows):
            row = rows[place]
        else:  # off any prepared grid: work the row out from the times so far
            assert isinstance(denoiser.process, AdditiveProcess)
            times = (*times, t)[-self.most_back - 1 :]
            row = self.rows(denoiser.process.schedule, torch.stack([*times, s]))[-1]
        q = denoiser(x_t, t, **cond)
        m: Tensor = q.mean
        if self.estimates == "noise":
            m = x_t.sub(m, alpha=row.alpha) if type(row.alpha) is float else x_t - _number(row.alpha, m) * m
        known = (m, *past)
        if type(row.state) is float:
            x_s = x_t * row.state
            for b, m in zip(row.terms, known, strict=False):
                if b:
                    x_s.add_(m, alpha=b)
        else:
            x_s = _number(row.state, x_t) * x_t
            for b, m in zip(row.terms, known, strict=False):
                x_s = x_s + _number(b, m) * m
        if self.draws:
            z = seeds.normal(x_s)
            x_s = x_s + z * (row.noise if isinstance(row.noise, float) else _number(row.noise, z))
        return x_s, q, History(times, rows, place + 1, known[: self.most_back])


@lru_cache(64)
def _kept_rows(solver: Multistep, schedule: Schedule, grid: tuple[float, ...]) -> tuple[Row, ...] | None:
    """The rows of grids that are walked again and again, one batch after the other; None where a coefficient is
    being learned."""
    curves = [value for value in vars(solver).values() if isinstance(value, nn.Module)]
    if any(True for module in (schedule, *curves) for _ in module.parameters()):
        return None
    with torch.inference_mode(False), torch.no_grad():
        return solver._rows(schedule, torch.tensor(grid, dtype=torch.float64))


def _number(c: Tensor, x: Tensor) -> Tensor:
    return at(c, x) if c.ndim else c.to(x)


def _stack(rows: tuple[Row, ...]) -> Row:
    """One row with a number per example, of the examples' rows."""

    def join(numbers: Any) -> Tensor:
        return torch.stack([torch.as_tensor(n, dtype=torch.float64) for n in numbers])

    return Row(
        join(row.state for row in rows),
        tuple(join(terms) for terms in zip(*(row.terms for row in rows), strict=True)),
        join(row.noise for row in rows),
        join(row.alpha for row in rows),
    )


@cache
def _legendre(nodes: int = 24) -> tuple[Tensor, Tensor]:
    """Nodes in [0, 1] and weights that sum to one."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return torch.from_numpy((x + 1) / 2)[:, None], torch.from_numpy(w / 2)[:, None]


def lagrange_weights(
    points: Tensor,
    start: Tensor,
    stop: Tensor,
    *,
    kernel: Callable[[Tensor], Tensor] = torch.ones_like,
    abscissa: Callable[[Tensor], Tensor] = lambda u: u,
) -> Tensor:
    """∫ kernel(u) L_j(abscissa(u)) du from ``start`` to ``stop`` (n,), for every member L_j of the Lagrange
    basis of ``points`` (n, k): (n, k). Both functions get u (g, n)."""
    nodes, weights = _legendre()
    u = start + nodes * (stop - start)
    measure, v = weights * (stop - start) * kernel(u), abscissa(u)
    p = points.unbind(1)
    out = []
    for j, here in enumerate(p):
        basis = measure
        for i, other in enumerate(p):
            if i != j:
                basis = basis * ((v - other) / (here - other))
        out.append(basis.sum(0))
    return torch.stack(out, 1)


def orders_of(order: int, abscissa: Tensor, *, taper: bool = False) -> list[int]:
    """The order of each step: as much history as there is, and one where the abscissa (n+1,) of a point in
    use is infinite (pure noise, or no noise). ``taper`` lowers it one by one towards such an end."""
    finite = torch.isfinite(abscissa).tolist()
    count, out, known = len(finite) - 1, [], 0
    for i in range(count):
        known = known + 1 if finite[i] else 0
        k = min(order, known) if finite[i + 1] else 1
        out.append(max(1, min(k, count - i) if taper and not finite[-1] else k))
    return out


def history(values: Tensor, steps: list[int], k: int) -> Tensor:
    """For each step i in ``steps`` the values (n+1,) at i, i-1, …, i-k+1: (len(steps), k)."""
    return torch.stack([values[[i - j for i in steps]] for j in range(k)], 1)
