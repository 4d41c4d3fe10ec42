"""Control sequences of a sampler as data: chosen or learned for one model and one number of calls.

A `Sequence` says where the network is called, by which solver or with which coefficients, and under which guidance
weights. It is a JSON file, a few kilobytes that can be read, drawn, copied and compared; loading one runs no code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from kuosan.core.curves import Curve, Piecewise
from kuosan.core.posteriors import Posterior
from kuosan.core.random import Seeds
from kuosan.core.schedules import Level, Schedule
from kuosan.core.shapes import Time
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.solvers import SOLVERS
from kuosan.solvers.base import Solver
from kuosan.solvers.exponential import SDESolverPP
from kuosan.solvers.far import Far
from kuosan.solvers.multistep import History, Multistep, Table
from kuosan.training.checkpoint import write_json

FORMAT = 1
LEARNED = "learned"  # the solver of a sequence with coefficients of its own
CHURN = "sde-dpm++2m"  # and of one with churn


@dataclass(frozen=True)
class Tabled(Multistep):
    """A multistep solver with coefficients of its own, on the one grid that they were made for.

    Args:
        times: that grid (n+1). state: c of eq. 1 of `multistep` (n). coefficients: b, newest estimate first (n, n).
        far: the first call is at noise alone, and samples with the same conditions share it, see `far`.
    """

    times: tuple[float, ...] = ()
    state: tuple[float, ...] = ()
    coefficients: tuple[tuple[float, ...], ...] = ()
    far: bool = False

    @property
    def most_back(self) -> int:  # type: ignore[override]
        return len(self.state)

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
        if self.far and denoiser.alone and memory is not None and memory.place == 0:
            denoiser = Far(denoiser)
        return super().step(denoiser, x_t, t, s, memory, seeds, **cond)

    def table(self, schedule: Schedule, levels: Level) -> Table:
        if levels.t.tolist() != list(self.times):
            raise ValueError(f"these coefficients are for {len(self.state)} steps at times of their own")
        return Table(
            torch.tensor(self.state, dtype=torch.float64),
            torch.tensor(self.coefficients, dtype=torch.float64),
        )


@dataclass(frozen=True)
class Sequence:
    """How to sample one model in ``steps`` calls.

    Args:
        solver: a name of `SOLVERS`, or ``learned`` for ``state`` and ``terms`` as `Tabled` has them.
        grid: where the times come from, in words. times: (steps + 1), and one more before them with ``far``.
        far: a call at noise alone comes before the others, one for all samples of the same conditions.
        guidance: the weight that it was made for. w: the weight at each of the first ``steps`` times, where learned.
        eta: churn at those times, for the solver `CHURN`.
        model: the fingerprint of the weights that it was made for; "" fits all.
        about: how it was found: errors, candidates, cost.
    """

    steps: int
    solver: str
    grid: str
    times: tuple[float, ...]
    state: tuple[float, ...] = ()
    terms: tuple[tuple[float, ...], ...] = ()
    guidance: float = 1.0
    w: tuple[float, ...] = ()
    eta: tuple[float, ...] = ()
    far: bool = False
    model: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = self.steps + self.far
        fits = len(self.times) == n + 1 and all(0 <= t <= 1 for t in self.times)
        fits &= all(len(v) in (0, n) for v in (self.state, self.terms, self.w, self.eta))
        fits &= all(len(row) == n for row in self.terms)
        if not fits or (self.solver == LEARNED) != bool(self.state) or bool(self.state) != bool(self.terms):
            raise ValueError(f"not a control sequence of {self.steps} steps")
        if self.solver != LEARNED and self.solver not in SOLVERS:
            raise ValueError(f"there is no solver {self.solver!r}")

    def grid_of(self) -> Float64[Tensor, " n+1"]:
        """The times."""
        return torch.tensor(self.times, dtype=torch.float64)

    def rule(self) -> Solver[Any]:
        """The solver."""
        if self.solver == LEARNED:
            return Tabled(self.times, self.state, self.terms, self.far)
        if self.eta:
            return SDESolverPP(eta=self._curve(self.eta))
        return SOLVERS[self.solver]()

    def guiding(self) -> float | Curve:
        """The guidance weight, or its curve along time."""
        return self._curve(self.w) if self.w else self.guidance

    def _curve(self, values: tuple[float, ...]) -> Curve:
        points = sorted(zip(self.times[:-1], values, strict=True))
        return Piecewise([*points, (1.0, points[-1][1])])

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_json(path, {"format": FORMAT, **asdict(self)})


def read_sequence(path: Path) -> Sequence:
    """The sequence in a file.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree.pop("format") != FORMAT:
            raise ValueError("of another version")
        tuples = {k: _tuples(v) if isinstance(v, list) else v for k, v in tree.items()}
        return Sequence(**tuples)
    except OSError as e:
        raise UserError(f"there is no control sequence at {path}: `kuosan tune RUN` writes them") from e
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise UserError(
            f"{path} is no control sequence ({e}): delete it and run `kuosan tune` again, or name a stock --grid"
        ) from e


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
