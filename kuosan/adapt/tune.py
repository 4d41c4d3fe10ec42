"""Learning a control sequence for k calls of a frozen model, and the guard that it stands behind.

From pairs of a noise and the end of its flow (a walk so fine that its own error is known and small) a sampler of k
calls is learned in stages, each with what the one before it found:

    stock       every solver on every grid, `candidates.best_stock`
    times       the best ones' noise levels, monotone: a chain of positive steps in log ρ (k numbers)
    decoupled   + where the network is asked, apart from where the solver thinks that it is (k - 1 more)
    full        + every coefficient (`controls`: about k²/2 more), and the guidance weights if asked for

Then all of them are measured on pairs that none of them has seen, and the closest is taken: what is learned is never
worse there than the best stock choice, because then the stock choice is what comes back. The loss is the distance to
the flow, which no evaluation of samples uses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from kuosan.adapt.candidates import QUICK, Candidate, Search, best_stock, distances
from kuosan.adapt.controls import Controls, of_solver
from kuosan.adapt.fit import Effort, fit
from kuosan.adapt.flow import Flow
from kuosan.adapt.rollout import Pairs, ends, piece_of, walk
from kuosan.core.random import Seeds
from kuosan.solvers import SOLVERS, UniPC
from kuosan.solvers.multistep import Multistep

TEACHERS = (48, 96, 192)  # calls of the fine walk below ρ = 80
CLOSE = 0.1  # of the best stock error that the fine walk's own may be
GAIN = 0.6  # of the best stock error: more, and learning is tried from the next start too
FASTER = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)  # multiples of k that the best stock sampler is tried with
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Stages:
    """Batches of each stage, from how many starts, and how widely stock samplers are looked through before."""

    times: Effort = Effort(8, 32)
    decoupled: Effort = Effort(12)
    full: Effort = Effort(60)
    starts: int = 2
    search: Search = Search()


@dataclass(frozen=True)
class Measured:
    """A candidate's mean distance from the flow on held-out pairs, one element's root mean square."""

    candidate: Candidate
    value: float
    stderr: float


@dataclass(frozen=True)
class Tuned:
    """What came of it: the best of ``all``, which are sorted, and what it took.

    calls: of the network, per example; a gradient counts as two. same: calls of the best stock sampler that come as
    close, None where none that was tried does. floor: error of the fine walk itself.
    """

    k: int
    all: list[Measured]
    n: int
    floor: float
    calls: int
    seconds: float
    same: int | None

    @property
    def best(self) -> Measured:
        return self.all[0]

    @property
    def stock(self) -> Measured:
        return next(m for m in self.all if m.candidate.kind == "stock")

    @property
    def break_even(self) -> float | None:
        """Samples from which on fitting has paid in calls; None where it saves none."""
        return None if self.same is None or self.same <= self.k else self.calls / (self.same - self.k)


def teacher(flow: Flow, calls: int) -> Controls:
    """A walk of about so many calls from the prior itself to the end, even in log ρ."""
    top, stop = min(80.0, flow.rho_start), flow.stop(0.004)
    far = max(2, round(8 * math.log(flow.rho_start / top) / math.log(1e2)))
    parts = [torch.linspace(math.log(top), math.log(stop), calls, dtype=torch.float64)]
    if flow.rho_start > top:
        parts.insert(
            0, torch.linspace(math.log(flow.rho_start), math.log(top), far, dtype=torch.float64)[:-1]
        )
    end = torch.tensor([flow.rho_end], dtype=torch.float64)
    return of_solver(UniPC(3), torch.cat([torch.cat(parts).exp(), end]))


def make_pairs(
    flow: Flow,
    shape: tuple[int, ...],
    n: int,
    seeds: Seeds,
    cond: Mapping[str, Tensor],
    *,
    few: int,
    w: float | None = None,
    teachers: Sequence[int] = TEACHERS,
    device: torch.device | str = "cpu",
    piece: int = 64,
) -> tuple[Pairs, float]:
    """``n`` pairs and the error of their ends: the walk is made finer until it is small beside what few calls leave.

    Args:
        cond: (n, …) each. few: the calls of a good stock sampler to compare with. teachers: calls of the walk to try,
            each finer than the one before; the error of a single one is not known, and infinite.
    """
    like = torch.empty(n, *shape, device=device)
    z = flow.noise(like, seeds)
    cond = {name: c.to(device) for name, c in cond.items()}
    all_ = Pairs(z, z, cond)

    def guided(controls: Controls) -> Controls:
        return controls if w is None else controls.guided(w)

    probe, floor, before = all_[:16], math.inf, None
    rough = walk(flow, guided(teacher(flow, few)), probe, piece).end
    for calls in teachers:
        controls = guided(teacher(flow, calls))
        end = walk(flow, controls, probe, piece).end
        if before is not None:
            floor = float(distances(end, before).mean())
            if floor < CLOSE * float(distances(rough, end).mean()):
                break
        before = end
    return replace(all_, end=walk(flow, controls, all_, piece).end), floor


def chain(base: Candidate, decoupled: bool) -> tuple[Callable[[Tensor], Candidate], Float64[Tensor, " p"]]:
    """How a stock candidate's noise levels are moved, and the point of that space where they are.

    θ = (log ρ_0, log of each step in log ρ, and the shifts of where the network is asked, but for the first call).
    """
    k, end, far = base.controls.calls, base.rho[-1:], base.controls.far
    rule = SOLVERS[base.solver or ""]()
    assert isinstance(rule, Multistep)
    kind = "decoupled" if decoupled else "times"

    def make(theta: Tensor) -> Candidate:
        levels = theta[0] - torch.cat([theta.new_zeros(1), theta[1:k].exp().cumsum(0)])
        rho = torch.cat([levels.exp(), end])
        controls = replace(of_solver(rule, rho), w=base.controls.w)
        if decoupled:
            controls = replace(controls, log_rho=levels + torch.cat([theta.new_zeros(1), theta[k:]]))
        if far:
            controls = controls.after_far(float(base.controls.log_rho[0].exp()))
        return Candidate(kind, base.solver, "learned times", rho, controls)

    levels = base.rho[:-1].log()
    theta = torch.cat([levels[:1], (levels[:-1] - levels[1:]).log()])
    return make, torch.cat([theta, theta.new_zeros(k - 1)]) if decoupled else theta


def learn(
    flow: Flow, k: int, pairs: Pairs, stages: Stages, seeds: Seeds, *, w: float | None, piece: int, tell: Tell
) -> list[Candidate]:
    """All candidates for k calls, stock ones first.

    Of the starts that are tried, each has its times learned, and then where the network is asked; coefficients are
    learned from the one that is closest by then, and from the next only where that gains little.
    """
    tell("stock samplers", 0.0)
    some, check = pairs[: min(len(pairs), 64)], pairs[: min(len(pairs), 128)]
    shortlist = best_stock(flow, k, some, w=w, piece=piece, search=stages.search)
    found, starts = shortlist[:3], shortlist[: stages.starts]
    if w is None and flow.shares(pairs.cond, len(pairs)):
        after = best_stock(flow, k, some, piece=piece, search=stages.search, far=True)
        found, starts = [*found, *after[:1]], after[: stages.starts]
    least = _error(flow, shortlist[0], check, piece)

    def improve(
        base: Candidate, decoupled: bool, effort: Effort, name: str, share: tuple[float, float]
    ) -> Candidate:
        make, theta = chain(base, decoupled)

        def told(done: float) -> None:
            tell(name, share[0] + done * (share[1] - share[0]))

        theta = fit(
            flow, lambda v: make(v).controls, theta, pairs, effort, seeds.fold(name), piece=piece, tell=told
        )
        return make(theta)

    moved: list[tuple[float, Candidate]] = []
    for i, base in enumerate(starts):
        low, each = 0.1 + 0.3 * i / len(starts), 0.3 / len(starts)
        times = improve(base, False, stages.times, "times", (low, low + 0.4 * each))
        asked = improve(times, True, stages.decoupled, "decoupled times", (low + 0.4 * each, low + each))
        found += [times, asked]
        moved.append((_error(flow, asked, check, piece), asked))
    for _, asked in sorted(moved, key=lambda m: m[0]):
        start = asked.controls
        flat = fit(
            flow, start.of, start.flat(), pairs, stages.full, seeds.fold("full"), piece=piece,
            tell=lambda done: tell("coefficients", 0.4 + 0.6 * done),
        )  # fmt: skip
        controls = start.of(flat)
        rho = torch.cat([controls.log_rho[-k:].exp(), asked.rho[-1:]])
        full = Candidate("full", None, "learned", rho, controls)
        found.append(full)
        if _error(flow, full, check, piece) < GAIN * least:
            break  # or the next start may lead somewhere better
    return found


def _error(flow: Flow, candidate: Candidate, pairs: Pairs, piece: int) -> float:
    value = float(distances(walk(flow, candidate.controls, pairs, piece).end, pairs.end).mean())
    return value if value == value else math.inf


def measure(flow: Flow, candidates: list[Candidate], pairs: Pairs, piece: int) -> list[Measured]:
    """Each on the same pairs, the closest first; walks that leave the numbers last."""
    out = []
    for far in sorted({c.controls.far for c in candidates}):
        kind = [c for c in candidates if c.controls.far == far]
        for candidate, end in zip(kind, ends(flow, [c.controls for c in kind], pairs, piece), strict=True):
            d = distances(end, pairs.end)
            value, stderr = float(d.mean()), float(d.std() / len(d) ** 0.5)
            out.append(Measured(candidate, value if value == value else math.inf, stderr))
    return sorted(out, key=lambda m: m.value)


def as_close(flow: Flow, tuned: Measured, k: int, pairs: Pairs, *, w: float | None, piece: int) -> int | None:
    """The fewest calls, of those tried, with which the best stock sampler of that many comes as close: by bisection,
    as more calls come closer."""
    some = pairs[: min(len(pairs), 64)]
    target = _error(flow, tuned.candidate, some, piece)
    tried = list(dict.fromkeys(math.ceil(f * k) for f in FASTER))
    low, high = 0, len(tried)
    while low < high:
        middle = (low + high) // 2
        best = best_stock(flow, tried[middle], some[:32], w=w, piece=piece, search=QUICK)[0]
        low, high = (low, middle) if _error(flow, best, some, piece) <= target else (middle + 1, high)
    return tried[low] if low < len(tried) else None


def tune(
    flow: Flow,
    k: int,
    pairs: Pairs,
    held_out: Pairs,
    seeds: Seeds,
    *,
    floor: float = 0.0,
    spent: int = 0,
    stages: Stages = Stages(),
    w: float | None = None,
    even: bool = True,
    tell: Tell = lambda what, done: None,
) -> Tuned:
    """The sampler of k calls that comes closest to the flow on ``held_out``.

    Args:
        pairs: to fit to. seeds: one. floor: the pairs' own error. spent: calls that the pairs took.
        w: the guidance weight to begin with, where it is a control (`Flow` with ``null``).
        even: find out how many calls of a stock sampler come as close.

    Raises:
        ValueError: fewer than two calls, or no pairs.
    """
    if k < 2 or not len(pairs) or not len(held_out):
        raise ValueError(f"two calls or more and some pairs are needed, not {k} and {len(pairs)}")
    before, started = flow.calls, time.monotonic()
    piece = piece_of(flow, pairs, w)
    candidates = learn(flow, k, pairs, stages, seeds, w=w, piece=piece, tell=tell)
    found = measure(flow, candidates, held_out, piece)
    calls, seconds = spent + flow.calls - before, time.monotonic() - started
    same = (
        as_close(flow, found[0], k, held_out, w=w, piece=piece)
        if even and found[0].candidate.kind != "stock"
        else None
    )
    return Tuned(k, found, len(held_out), floor, calls, seconds, same)
