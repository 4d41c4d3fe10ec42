"""Laws of every exported solver."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from kuosan.core.curves import Piecewise
from kuosan.core.grids import Karras, LogSNR, Uniform
from kuosan.core.posteriors import Point
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine, Level, Rectified, Schedule, VPLinear
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import (
    DDIM,
    DEIS,
    SOLVERS,
    Ancestral,
    DPMSolverPP,
    Euler,
    Heun,
    Multistep,
    SDESolverPP,
    Table,
    UniPC,
    sample,
    trajectory,
)
from kuosan.solvers.exponential import corrector, predictor
from kuosan.solvers.multistep import orders_of

from .exact_cases import SCHEDULES, flow, mixture

# Those that take steps of Gaussian states; the solvers of tokens alone are in test_unmasking.py.
FITTING = [name for name, make in SOLVERS.items() if issubclass(GaussianProcess, make().needs)]
DETERMINISTIC = sorted(set(FITTING) - {"ancestral", "sde-dpm++2m", "redraw"})
X = torch.tensor([[0.7, -0.4], [-1.2, 0.3], [0.1, 1.5]], dtype=torch.float64)
SEEDS = Seeds.of(0, 3)


def warm_grid(start: float, stop: float, n: int, order: int) -> Tensor:
    """Even steps after a short first one, so that the low order of a cold start does not show: a first
    order step of length h^(order/2) errs by h^order."""
    even = torch.linspace(start, stop, n + 1, dtype=torch.float64)
    h = (start - stop) / n
    return torch.cat([even[:1], even[:1] - h * (1 / n) ** (order / 2 - 1), even[1:]]) if order > 2 else even


@pytest.mark.parametrize("schedule", ["cosine", "rectified", "edm"])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_convergence_order_is_the_declared_one(name: str, schedule: str) -> None:
    solver, denoiser = SOLVERS[name](), mixture(SCHEDULES[schedule])
    # the same range of noise on every schedule
    start, stop = denoiser.process.schedule.time_of(torch.tensor([-3.0, 1.5], dtype=torch.float64)).tolist()
    exact = flow(denoiser, X, start, stop)
    errors = []
    for n in (256, 512):
        got = sample(denoiser, solver, warm_grid(start, stop, n, solver.order), X, SEEDS)
        errors.append(float((got - exact).norm()))
    slope = math.log2(errors[0] / errors[1])
    assert abs(slope - solver.order) < 0.1, (slope, errors)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_flow_can_be_walked_towards_noise(name: str) -> None:
    denoiser = mixture(Cosine())
    stop, start = denoiser.process.schedule.time_of(torch.tensor([-3.0, 1.5], dtype=torch.float64)).tolist()
    exact = flow(denoiser, X, start, stop)
    got = sample(denoiser, SOLVERS[name](), torch.linspace(start, stop, 257, dtype=torch.float64), X, SEEDS)
    assert float((got - exact).norm()) < 0.02


def test_sde_solver_is_of_weak_order_two() -> None:
    """On a Gaussian the recursion is linear, so its mean and variance are exact sums, with no sampling."""
    schedule, data_variance = Cosine(), 0.36

    def variance(n: int) -> float:
        grid = torch.linspace(0.8, 0.2, n + 1, dtype=torch.float64)
        level = schedule.level(grid)
        # E[x | x_t] = k x_t for data N(0, data_variance)
        k = level.alpha * data_variance / (level.alpha**2 * data_variance + level.sigma**2)
        covariance = torch.zeros(2, 2, dtype=torch.float64)  # of (x_t, previous estimate)
        covariance[0, 0] = level.alpha[0] ** 2 * data_variance + level.sigma[0] ** 2
        for i, row in enumerate(SDESolverPP().rows(schedule, grid)):
            b = (*row.terms, 0.0)
            a = torch.tensor([[row.state + b[0] * k[i], b[1]], [k[i], 0.0]], dtype=torch.float64)
            covariance = a @ covariance @ a.T
            covariance[0, 0] += row.noise**2
        return float(covariance[0, 0])

    end = schedule.level(torch.tensor([0.2], dtype=torch.float64))
    exact = float(end.alpha**2 * data_variance + end.sigma**2)
    errors = [abs(variance(n) - exact) for n in (64, 128, 256)]
    assert abs(math.log2(errors[0] / errors[-1]) / 2 - 2) < 0.1, errors


@pytest.mark.parametrize("name", sorted(FITTING))
def test_a_time_per_example_equals_a_loop_over_examples(name: str) -> None:
    solver, denoiser = SOLVERS[name](), mixture(Cosine())
    grids = torch.stack(
        [torch.linspace(a, b, 6, dtype=torch.float64) for a, b in ((0.9, 0.0), (0.7, 0.1), (0.95, 0.3))], 1
    )
    together = sample(denoiser, solver, grids, X, SEEDS)
    for i in range(3):
        alone = sample(denoiser, solver, grids[:, i], X[i : i + 1], SEEDS[i : i + 1])
        assert torch.allclose(alone[0], together[i], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(FITTING) - {"heun", "ancestral"}))
def test_steps_without_a_prepared_grid_equal_the_trajectory(name: str) -> None:
    solver, denoiser = SOLVERS[name](), mixture(Cosine())
    grid = torch.linspace(0.9, 0.2, 6, dtype=torch.float64)
    x, memory = X, None
    for i, step in enumerate(trajectory(denoiser, solver, grid, X, SEEDS)):
        t, s = (grid[j].expand(3) for j in (i, i + 1))
        x, _, memory = solver.step(denoiser, x, t, s, memory, SEEDS.fold(i))
        assert torch.allclose(x, step.x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(FITTING))
@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("steps", [1, 2, 3, 12])
def test_every_solver_ends_at_the_data_on_every_schedule_and_grid(
    name: str, schedule: str, steps: int
) -> None:
    """One datum: whatever the path, the end is that datum (up to the noise that a schedule stops at).

    Euler in t is only as exact as the schedule is straight.
    """
    if name == "euler" and schedule != "rectified":
        return
    denoiser = MixtureDenoiser(
        GaussianProcess(SCHEDULES[schedule]),
        torch.tensor([[0.4, -0.8]], dtype=torch.float64),
        torch.zeros(1, 2, dtype=torch.float64),
    )
    for grid in (Uniform(), LogSNR(), Karras()):
        times = grid(SCHEDULES[schedule], steps)
        assert len(times) == steps + 1 and bool((times[1:] < times[:-1]).all())
        x = denoiser.process.prior(X, SEEDS)
        end = sample(denoiser, SOLVERS[name](), times, x, SEEDS)
        left = float(SCHEDULES[schedule].sigma(torch.zeros(1, dtype=torch.float64)))
        assert float((end - denoiser.means).abs().max()) < 1e-9 + 6 * left


def test_ddim_with_full_churn_is_the_ancestral_sampler() -> None:
    class Mean(Denoiser):
        """The mixture's mean alone: what a network knows."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = mixture(VPLinear())
            self.process = self.inner.process

        def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:  # type: ignore[override]
            return Point(self.inner(x_t, t).mean)

    grid = LogSNR()(VPLinear(), 8)
    ours = sample(Mean(), DDIM(eta=1.0), grid, X, SEEDS)
    assert torch.allclose(ours, sample(Mean(), Ancestral(), grid, X, SEEDS), rtol=0, atol=1e-12)
    curve = sample(Mean(), DDIM(eta=Piecewise([(0, 1.0), (1, 1.0)])), grid, X, SEEDS)
    assert torch.equal(ours, curve)


def test_first_order_methods_are_one_method() -> None:
    denoiser = mixture(Rectified())
    grid = torch.linspace(0.9, 0.0, 7, dtype=torch.float64)
    ddim = sample(denoiser, DDIM(), grid, X, SEEDS)
    for other in (Euler("t"), Euler("rho"), DPMSolverPP(1), DEIS(steps_back=1), SDESolverPP(eta=0.0)):
        if isinstance(other, SDESolverPP):  # of order two after its first step
            lone = sample(denoiser, other, grid[:2], X, SEEDS)
            assert torch.allclose(lone, sample(denoiser, DDIM(), grid[:2], X, SEEDS), rtol=0, atol=1e-12)
        else:
            assert torch.allclose(ddim, sample(denoiser, other, grid, X, SEEDS), rtol=0, atol=1e-12)


def test_churn_leaves_the_law_alone() -> None:
    """With many steps any churn samples the same mixture: means and variances within four standard errors."""
    denoiser, n = mixture(Cosine()), 4000
    seeds = Seeds.of(1, n)
    like = torch.empty(n, 2, dtype=torch.float64)
    mean = (denoiser.log_weights.exp()[:, None] * denoiser.means).sum(0)
    second = (denoiser.log_weights.exp()[:, None] * (denoiser.variances + denoiser.means**2)).sum(0)
    for solver in (DDIM(eta=0.5), SDESolverPP(), Ancestral()):
        end = sample(denoiser, solver, LogSNR()(Cosine(), 80), denoiser.process.prior(like, seeds), seeds)
        for power, expected in ((end, mean), (end**2, second)):
            error = power.std(0) / n**0.5
            assert bool(((power.mean(0) - expected).abs() < 4 * error + 0.01).all())


def test_a_step_calls_the_denoiser_as_often_as_it_says() -> None:
    for name in FITTING:
        denoiser, count = mixture(Cosine()), []
        denoiser.register_forward_hook(lambda *_, count=count: count.append(1))
        solver = SOLVERS[name]()
        sample(denoiser, solver, torch.linspace(0.9, 0.1, 5, dtype=torch.float64), X, SEEDS)
        called = len(count)
        if name == "midpoint":  # as many as its equation takes
            assert called > 4 * solver.calls, name
        else:
            assert called == 4 * solver.calls, name


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc_is_a_predictor_and_a_corrector(order: int, variant: str) -> None:
    """The one-table form equals predicting and correcting one after the other."""
    denoiser, grid = mixture(Cosine()), LogSNR()(Cosine(), 7)
    levels = Cosine().level(grid)
    ell = levels.log_snr / 2
    orders = orders_of(order, ell, taper=True)
    state, terms = predictor(levels, ell, orders, order, variant)
    redone = corrector(levels, ell, orders, order, variant)
    x, corrected, known = X, X, []
    for i in range(7):
        known = [denoiser(x, grid[i].expand(3)).mean, *known]
        if i:
            corrected = state[i - 1] * corrected + sum(b * m for b, m in zip(redone[i], known, strict=False))
        x = state[i] * corrected + sum(b * m for b, m in zip(terms[i], known, strict=False))
    assert torch.allclose(x, sample(denoiser, UniPC(order, variant), grid, X, SEEDS), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in SOLVERS if isinstance(SOLVERS[n](), Multistep)])
def test_every_table_reproduces_a_constant_estimate(name: str) -> None:
    """Consistency: if the estimates never change, a step is the exact step (variation of constants)."""
    grid = Karras()(Cosine(), 7)
    level = Cosine().level(grid)
    for i, row in enumerate(SOLVERS[name]().rows(Cosine(), grid)):
        total = sum(row.terms)
        if SOLVERS[name]().estimates == "noise":  # type: ignore[attr-defined]
            total = sum(b * level.sigma[i - j] for j, b in enumerate(row.terms))  # an estimate is σ ε̂
            assert math.isclose(row.state, level.alpha[i + 1] / level.alpha[i], rel_tol=1e-9)
            assert math.isclose(
                total, level.sigma[i + 1] - row.state * level.sigma[i], rel_tol=1e-8, abs_tol=1e-12
            )
        elif not isinstance(SOLVERS[name](), Euler):
            assert math.isclose(total, level.alpha[i + 1] - row.state * level.alpha[i], rel_tol=1e-8)


def test_solver_and_process_must_fit() -> None:
    class Other(Denoiser):
        process = object()  # type: ignore[assignment]

        def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:  # type: ignore[override]
            return Point(x_t)

    with pytest.raises(TypeError, match="needs a AdditiveProcess"):
        sample(Other(), Heun(), torch.linspace(1, 0, 3), X, SEEDS)


class Bend(nn.Module):
    """A factor on every weight, to be learned."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([factor], dtype=torch.float64))


@dataclass(frozen=True)
class Bent(DPMSolverPP):
    bend: Bend = field(default_factory=lambda: Bend(1.0))

    def table(self, schedule: Schedule, levels: Level) -> Table:
        table = super().table(schedule, levels)
        return Table(table.state, table.terms * self.bend.factor)


def test_a_learned_coefficient_gets_its_gradient() -> None:
    """The end's derivative through a whole trajectory, against a finite difference."""
    denoiser, grid = mixture(Cosine()), torch.linspace(0.9, 0.1, 6, dtype=torch.float64)

    def end(factor: float) -> tuple[Tensor, Bend]:
        bend = Bend(factor)
        for step in trajectory(denoiser, Bent(2, bend), grid, X, SEEDS):
            x = step.x
        return x.sum(), bend

    value, bend = end(1.0)
    (slope,) = torch.autograd.grad(value, bend.factor)
    rise = float(end(1 + 1e-6)[0].detach() - end(1 - 1e-6)[0].detach())
    assert math.isclose(float(slope), rise / 2e-6, rel_tol=1e-6)
