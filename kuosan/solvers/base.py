"""Solvers, and the one loop that drives them.

A solver takes a state from t to s < t with the help of a denoiser. It is frozen: what it remembers of
earlier steps (estimates, coefficients worked out ahead) is an argument and a result. `trajectory` is the
loop for every kind of state; `sample` is its end. Both are generators or functions of their arguments
alone: the caller's ``for`` replaces callbacks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.posteriors import Posterior
from kuosan.core.random import Seeds
from kuosan.core.shapes import State, Time, batch_of
from kuosan.denoisers.base import Denoiser
from kuosan.processes.base import Process

Memory = TypeVar("Memory")


class Solver(ABC, Generic[Memory]):
    """One step of sampling.

    ``order`` is the order of accuracy of a step whose history is full; ``needs`` the kind of process;
    ``calls`` how often a step calls the denoiser; ``draws`` whether it draws random numbers; ``spread`` whether it uses
    more of a posterior than its mean; ``carries`` whether tokens that are given at the start of a walk under masks stay
    as they are.
    """

    order: ClassVar[int] = 1
    needs: ClassVar[type[Process]]
    calls: ClassVar[int] = 1
    draws: ClassVar[bool] = False
    spread: ClassVar[bool] = False
    carries: ClassVar[bool] = False

    def begin(self, process: Any, grid: Float[Tensor, "n+1 ..."]) -> Memory | None:
        """The memory to start a trajectory along ``grid`` with; None where nothing can be prepared."""
        return None

    @abstractmethod
    def step(
        self,
        denoiser: Denoiser,
        x_t: State,
        t: Time,
        s: Time,
        memory: Memory | None,
        seeds: Seeds,
        **cond: Tensor,
    ) -> tuple[State, Posterior, Memory | None]:
        """The state at ``s`` (b,), what the denoiser said at ``t`` (b,), and the memory for the next step.

        ``memory`` is None for a first or a lone step. ``seeds`` must be new for every step.
        """


@lru_cache(64)
def shared_times(grid: tuple[float, ...], batch: int) -> tuple[Time, ...]:
    """One time per example for every point of a grid; kept, as are a denoiser's coefficients for them."""
    with torch.inference_mode(False):
        return torch.tensor(grid, dtype=torch.float64)[:, None].expand(len(grid), batch).unbind()


class Step(NamedTuple):
    """What the loop yields: step ``index`` went from ``t`` to ``s``, where the state is now ``x``; ``q`` is
    the posterior at ``t``."""

    index: int  # type: ignore[assignment]
    t: Time
    s: Time
    x: State
    q: Posterior


def trajectory(
    denoiser: Denoiser,
    solver: Solver[Any],
    grid: Float[Tensor, "n+1 ..."],
    x: State,
    seeds: Seeds,
    **cond: Tensor,
) -> Iterator[Step]:
    """Walk ``x`` down the grid, yielding every step.

    Args:
        grid: falling times (n+1,), or one grid per example (n+1, b).
        x: the state at ``grid[0]``, usually ``process.prior``.
        seeds: one per example.
        cond: conditions (b, ...), passed to the denoiser.

    Raises:
        TypeError: the solver does not fit the denoiser's process.
    """
    if not isinstance(denoiser.process, solver.needs):
        raise TypeError(
            f"{type(solver).__name__} needs a {solver.needs.__name__}, not a {type(denoiser.process).__name__}"
        )
    grid = grid.to(dtype=torch.float64, device="cpu")
    times = shared_times(tuple(grid.tolist()), batch_of(x)) if grid.ndim == 1 else grid.unbind()
    memory, draws = solver.begin(denoiser.process, grid), solver.draws
    denoiser = denoiser.along(times[:-1], x)
    for i in range(len(times) - 1):
        t, s = times[i], times[i + 1]
        fresh = seeds.fold(i) if draws else seeds
        x, q, memory = solver.step(denoiser, x, t, s, memory, fresh, **cond)
        yield Step(i, t, s, x, q)


def sample(
    denoiser: Denoiser,
    solver: Solver[Any],
    grid: Float[Tensor, "n+1 ..."],
    x: State,
    seeds: Seeds,
    **cond: Tensor,
) -> State:
    """The end of the `trajectory`, without gradients."""
    with torch.no_grad():
        for step in trajectory(denoiser, solver, grid, x, seeds, **cond):
            x = step.x
    return x
