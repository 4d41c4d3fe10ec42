"""What stands behind the guard: samplers of one number of calls, and how far from the flow each of them ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from kuosan.adapt.controls import Controls, of_solver
from kuosan.adapt.fit import errors
from kuosan.adapt.flow import Flow
from kuosan.adapt.grids import NEAR, STARTS, least_bound, stock_grids, straightest
from kuosan.adapt.rollout import Pairs, ends
from kuosan.solvers import SOLVERS
from kuosan.solvers.multistep import Multistep

STOCK = ("ddim", "dpm++2m", "dpm++3m", "unipc2", "unipc3", "ipndm", "adams", "deis")


@dataclass(frozen=True)
class Search:
    """How widely stock samplers are looked through.

    Args:
        scouts: the solvers that try every grid, each on ``few`` pairs. shortlist: how many grids of these every solver
            tries, on ``some`` pairs, and how many samplers of those are measured on all.
        looks: with the grids that look at the problem, `straightest` and `least_bound`.
    """

    scouts: tuple[str, ...] = ("deis", "unipc2")
    few: int = 8
    some: int = 16
    shortlist: int = 8
    looks: bool = True


QUICK = Search(("deis",), 4, 8, 4, looks=False)


@dataclass(frozen=True)
class Candidate:
    """A sampler.

    Args:
        kind: stock, that after a shared call (far), or what was learned: times, decoupled, full. solver: a name where
            ``rho`` says the rest, else None. grid: in words. rho: (k+1,), of the calls of each sample and of the end.
    """

    kind: str
    solver: str | None
    grid: str
    rho: Float64[Tensor, " k+1"]
    controls: Controls

    def __str__(self) -> str:
        return f"{self.solver or 'learned'}, {self.grid}{' after the mean' if self.controls.far else ''}"


def stock(solver: str, grid: str, rho: Tensor, w: float | None = None, far: float | None = None) -> Candidate:
    """A stock solver on a grid; with ``w`` under a guidance weight that is a control; after a shared call at ρ =
    ``far``."""
    rule = SOLVERS[solver]()
    assert isinstance(rule, Multistep)
    controls = of_solver(rule, rho)
    if far is not None:
        return Candidate("far", solver, grid, rho, controls.after_far(far))
    return Candidate("stock", solver, grid, rho, controls if w is None else controls.guided(w))


def mean_error(candidates: Sequence[Candidate], flow: Flow, pairs: Pairs, piece: int) -> list[float]:
    """Mean distance from the flow's end of each; infinite where a walk leaves the numbers."""
    found = ends(flow, [c.controls for c in candidates], pairs, piece)
    means = [float(distances(end, pairs.end).mean()) for end in found]
    return [m if m == m else float("inf") for m in means]


def distances(end: Tensor, x: Tensor) -> Float64[Tensor, " b"]:
    """Root mean square of the elements of end - x, per example."""
    return errors(end, x).sqrt()


def best_stock(
    flow: Flow, k: int, pairs: Pairs, *, w: float | None = None, piece: int = 64, search: Search = Search(),
    far: bool = False,
) -> list[Candidate]:  # fmt: skip
    """Stock solvers and grids for k calls, the best first: every grid with the scouts on a few pairs, then every
    solver on the best grids on more, then the best of those on all ``pairs``.  With ``far`` after a shared call."""
    grids = dict(stock_grids(flow, k, NEAR if far else STARTS))
    rho_far = flow.rho_start if far else None
    if search.looks and k > 1 and not far:
        start, stop = min(80.0, flow.rho_start), flow.stop(0.01)
        grids["straightest"] = straightest(flow, pairs[: 2 * search.some], k, w=w, piece=piece)
        grids["least bound"] = least_bound(k, start, stop, flow.rho_end)
    first = [stock(s, name, rho, w, rho_far) for name, rho in grids.items() for s in search.scouts]
    chosen: dict[str, float] = {}
    for candidate, error in zip(first, mean_error(first, flow, pairs[: search.few], piece), strict=True):
        chosen[candidate.grid] = min(error, chosen.get(candidate.grid, torch.inf))
    names = sorted(chosen, key=chosen.__getitem__)[: search.shortlist]
    second = [stock(s, n, grids[n], w, rho_far) for n in names for s in STOCK]
    return _ranked(_ranked(second, flow, pairs[: search.some], piece)[: search.shortlist], flow, pairs, piece)


def _ranked(candidates: Sequence[Candidate], flow: Flow, pairs: Pairs, piece: int) -> list[Candidate]:
    found = mean_error(candidates, flow, pairs, piece)
    return distinct([candidates[i] for i in sorted(range(len(found)), key=found.__getitem__)])


def distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first of those that are the same walk: in few steps a solver of high order is one of lower order, and a
    second start of learning there would lead to where the first did."""
    out: list[Candidate] = []
    for candidate in candidates:
        if not any(torch.equal(candidate.controls.flat(), other.controls.flat()) for other in out):
            out.append(candidate)
    return out
