"""The theory at work on laws that can be drawn: one density, known in three ways, at every time.

    exact       the mixture's own formula: q_t is a mixture too
    equation    the Fokker–Planck equation of the dynamics, solved on a grid (`fokker_planck`)
    samples     states that were drawn and moved one by one, counted in the cells of a coarser grid

For corruption all three are one law. For generation the equation describes what *these* dynamics with *this*
denoiser do. Hence two distances say different things: equation against exact is the denoiser's own error,
which no number of steps will mend; samples against equation is the solver's error, and chance.

Distances are ∫ |p - q|, between 0 and 2. Counting n draws in cells of probability p_i costs by itself

    Σ_i E|N_i/n - p_i| = (2/n) Σ_i ν (1 - p_i) P(N_i = ν),   ν = ⌊n p_i⌋ + 1       (de Moivre 1730)  (1)

the floor beside each distance of samples. Standard errors come from batches that share nothing but the denoiser.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from scipy.stats import binom
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import as_time
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.explain import small
from kuosan.explain.box import Box
from kuosan.explain.fokker_planck import Dynamics, Forward, Reverse, evolve
from kuosan.explain.residual import LevelResidual, residual_by_level
from kuosan.solvers import DPMSolverPP, SDESolverPP, Solver, trajectory

LOG_SNRS = tuple(float(log_snr) for log_snr in range(-4, 9))
EARLY, LATE = 0.01, 0.99  # nearly data, nearly noise
PATHS = 160  # single states that are kept


@dataclass(frozen=True)
class Effort:
    """How finely one law is followed."""

    box: Box
    joined: int  # cells in a bin of the histograms
    steps: int  # of the solver, even in time
    finer: int  # steps of the equation for each of them
    batch: int  # states in each batch

    def times(self, parts: int) -> Float[Tensor, " n+1"]:
        """Rising."""
        return torch.linspace(EARLY, LATE, parts + 1, dtype=torch.float64)


@dataclass(frozen=True)
class Study:
    """How much work goes into all of it."""

    seed: int = 0
    training: int = 700  # batches that the network sees
    batches: int = 8
    line: Effort = Effort(Box(-3.6, 3.6, 360), 6, 72, 3, 1000)
    sheet: Effort = Effort(Box(-2.8, 2.8, 70, 2), 5, 50, 1, 500)


@dataclass(frozen=True)
class Distance:
    """A mean over batches of n states each, its standard error, and what exact draws would score, eq. 1."""

    value: float
    stderr: float
    floor: float
    n: int


@dataclass(frozen=True)
class Course:
    """One dynamics followed in three ways; densities (times, cells…), in the order in which it ran."""

    name: str
    denoiser: str
    eta: float | None
    times: Float[Tensor, " n+1"]
    box: Box
    bins: Box
    exact: Tensor
    equation: Tensor
    samples: Tensor
    paths: Float[Tensor, "n+1 k d"]
    equation_exact: tuple[float, ...]
    samples_exact: tuple[Distance, ...]
    samples_equation: tuple[Distance, ...]

    def data(self) -> dict[str, Any]:
        """Its distances where it ended, and along the way."""
        return {
            "dynamics": self.name,
            "denoiser": self.denoiser,
            "eta": self.eta,
            "dims": self.box.dims,
            "t": float(self.times[-1]),
            "equation_exact": self.equation_exact[-1],
            "samples_exact": asdict(self.samples_exact[-1]),
            "samples_equation": asdict(self.samples_equation[-1]),
            "along": {
                "t": self.times.tolist(),
                "equation_exact": list(self.equation_exact),
                "samples_exact": [d.value for d in self.samples_exact],
                "samples_equation": [d.value for d in self.samples_equation],
                "floor": [d.floor for d in self.samples_exact],
            },
        }


@dataclass(frozen=True)
class Theory:
    """Everything that the picture shows."""

    study: Study
    courses: tuple[Course, ...]  # on the line
    sheet: Course
    residual: tuple[LevelResidual, ...]  # of the network
    exact_residual: tuple[LevelResidual, ...]

    def data(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        levels = (("network", self.residual), ("exact", self.exact_residual))
        return {
            "study": asdict(self.study),
            "courses": [c.data() for c in (*self.courses, self.sheet)],
            "residual": [
                {"denoiser": who, **asdict(r), "root": r.root} for who, all_ in levels for r in all_
            ],
        }


def theory(study: Study) -> Iterator[str | Theory]:
    """Works all of it out; yields what it is about to do, and the result last."""
    law, arms = small.three_hills(), small.two_arms()
    yield f"training a small network on three Gaussians, {study.training:,} steps"
    network = small.train(law, study.seed, study.training)
    courses = [_forward(study, study.line, law)]
    for who, denoiser in (("exact", law), ("network", network)):
        for eta in (1.0, 0.0):
            yield f"generation with the {who} denoiser, eta = {eta:g}"
            courses.append(_reverse(study, study.line, law, who, denoiser, eta))
    yield "generation in two dimensions"
    sheet = _reverse(study, study.sheet, arms, "exact", arms, 1.0)
    yield "the residual, by level of noise"
    seeds = Seeds.of(study.seed, study.line.batch).fold("residual")
    x = small.draw(law, seeds)
    wrong = residual_by_level(network, x.float(), LOG_SNRS, seeds)
    right = residual_by_level(law, x, LOG_SNRS, seeds)
    yield Theory(study, tuple(courses), sheet, tuple(wrong), tuple(right))


def _forward(study: Study, effort: Effort, law: MixtureDenoiser) -> Course:
    """The process itself, step by step, so that its paths can be shown."""
    times, schedule = effort.times(effort.steps), law.process.schedule
    seeds = Seeds.of(study.seed, effort.batch * study.batches).fold("forward")
    x = small.draw(law, seeds)
    noise = seeds.normal(torch.empty(len(x), len(times), effort.box.dims, dtype=torch.float64)).unbind(1)
    alpha, sigma = schedule.alpha(times).tolist(), schedule.sigma(times).tolist()
    states = [alpha[0] * x + sigma[0] * noise[0]]
    for i in range(1, len(times)):
        kept = alpha[i] / alpha[i - 1]
        added = math.sqrt(sigma[i] ** 2 - (kept * sigma[i - 1]) ** 2)
        states.append(kept * states[-1] + added * noise[i])
    start = effort.box.density(lambda x: law.log_density(x, as_time(times[0], len(x))))
    return _course("corruption", "none", None, effort, law, Forward(law.process), times, states, start)


def _reverse(
    study: Study, effort: Effort, law: MixtureDenoiser, who: str, denoiser: Denoiser, eta: float
) -> Course:
    times = effort.times(effort.steps).flip(0)
    dtype = torch.float64 if denoiser is law else torch.float32
    seeds = Seeds.of(study.seed, effort.batch * study.batches).fold("reverse", effort.box.dims)
    x = law.process.prior(torch.empty(len(seeds), effort.box.dims, dtype=dtype), seeds)
    solver: Solver[Any] = SDESolverPP(eta) if eta else DPMSolverPP(2)
    with torch.no_grad():
        states = [x, *(step.x for step in trajectory(denoiser, solver, times, x, seeds.fold("way")))]
    start = effort.box.density(lambda x: -(x.square() + math.log(2 * math.pi)).sum(1) / 2)
    dynamics = Reverse(denoiser, eta, dtype=dtype)
    return _course("generation", who, eta, effort, law, dynamics, times, states, start)


def _course(
    name: str,
    who: str,
    eta: float | None,
    effort: Effort,
    law: MixtureDenoiser,
    dynamics: Dynamics,
    times: Tensor,
    states: list[Tensor],
    start: Tensor,
) -> Course:
    box, bins = effort.box, effort.box.coarsened(effort.joined)
    fine = effort.times(effort.steps * effort.finer)
    solved = list(evolve(dynamics, box, start, fine if dynamics.rising else fine.flip(0)))
    equation = torch.stack([start, *solved[effort.finer - 1 :: effort.finer]])
    laws = [box.density(lambda x, t=t: law.log_density(x, as_time(t, len(x)))) for t in times]  # type: ignore[misc]
    counted = [torch.stack([bins.histogram(part) for part in x.split(effort.batch)]) for x in states]

    def against(densities: list[Tensor]) -> tuple[Distance, ...]:
        joined = [box.averaged(q, effort.joined) for q in densities]
        return tuple(_distance(bins, h, q, effort.batch) for h, q in zip(counted, joined, strict=True))

    return Course(
        name,
        who,
        eta,
        times,
        box,
        bins,
        torch.stack(laws),
        equation,
        torch.stack(counted).mean(1),
        torch.stack([x[:PATHS].double() for x in states]),
        tuple(box.distance(p, q) for p, q in zip(equation, laws, strict=True)),
        against(laws),
        against(list(equation)),
    )


def _distance(bins: Box, counted: Tensor, law: Tensor, n: int) -> Distance:
    values = torch.tensor([bins.distance(h, law) for h in counted], dtype=torch.float64)
    return Distance(
        float(values.mean()), float(values.std()) / math.sqrt(len(values)), floor(law * bins.volume, n), n
    )


def floor(p: Tensor, n: int) -> float:
    """Eq. 1 for cells of probabilities ``p``: the distance of ``n`` draws from the law that they come from."""
    cells = p.flatten().clamp(0, 1).numpy()
    nu = (n * cells).astype(int) + 1
    return float((2 / n * nu * (1 - cells) * binom.pmf(nu, n, cells)).sum())
