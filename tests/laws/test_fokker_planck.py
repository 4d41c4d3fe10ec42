"""Laws of the Fokker–Planck solver, and of distances between densities."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.stats import binom
from torch import Tensor

from kuosan.core.posteriors import Point
from kuosan.core.schedules import EDM, Cosine, Rectified, Schedule, VPLinear
from kuosan.core.shapes import as_time
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.explain import (
    Box,
    Dynamics,
    Forward,
    Reverse,
    evolve,
)
from kuosan.explain.fokker_planck import _jumps, _spread
from kuosan.explain.theory import floor
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import DDIM

F64 = torch.float64


def hills(schedule: Schedule, dims: int = 1) -> MixtureDenoiser:
    """Three Gaussians, lopsided."""
    means = torch.tensor([[-1.3, 0.4], [0.2, -1.0], [1.2, 0.6]], dtype=F64)[:, :dims]
    variances = torch.tensor([[0.1, 0.2], [0.15, 0.12], [0.2, 0.15]], dtype=F64)[:, :dims]
    return MixtureDenoiser(
        GaussianProcess(schedule), means, variances, torch.tensor([0.3, 0.3, 0.4], dtype=F64)
    )


def exact(law: MixtureDenoiser, box: Box, t: float) -> Tensor:
    return box.density(lambda x: law.log_density(x, as_time(t, len(x))))


def last(dynamics: Dynamics, box: Box, q: Tensor, start: float, stop: float, steps: int) -> Tensor:
    *_, end = evolve(dynamics, box, q, torch.linspace(start, stop, steps + 1, dtype=F64))
    return end


# -- the equation ------------------------------------------------------------------------------------------

DYNAMICS: dict[str, Callable[[MixtureDenoiser], Dynamics]] = {
    "forward": lambda law: Forward(law.process),
    "eta=0": lambda law: Reverse(law, 0.0),
    "eta=0.4": lambda law: Reverse(law, 0.4),
    "eta=1": lambda law: Reverse(law, 1.0),
}


@pytest.mark.parametrize("name", DYNAMICS)
@pytest.mark.parametrize(
    ("schedule", "dims", "cells"),
    [(Cosine(), 1, 160), (Rectified(), 1, 160), (EDM(), 1, 160), (Cosine(), 2, 40)],
)
def test_every_dynamics_converges_to_the_exact_density_at_second_order(
    name: str, schedule: Schedule, dims: int, cells: int
) -> None:
    """Whatever the churn, the law is the mixture's at every time."""
    law = hills(schedule, dims)
    dynamics = DYNAMICS[name](law)
    # from log-SNR to log-SNR, mixed up well and hills apart; on the plane less so, its cells are coarser
    ends = schedule.time_of(torch.tensor([4.0 if dims == 1 else 2.0, -1.0], dtype=F64)).tolist()
    start, stop = ends if dynamics.rising else ends[::-1]
    side = 10.0 if isinstance(schedule, EDM) else 6.0
    errors = []
    for n in (cells, 2 * cells):
        box = Box(-side, side, n, dims)
        end = last(dynamics, box, exact(law, box, start), start, stop, 150 if dims == 1 else 40)
        errors.append(box.distance(end, exact(law, box, stop)))
    assert errors[-1] < 0.02
    # A limiter flattens the very tops, whose share shrinks: orders a little above or below two.
    assert 1.7 < math.log2(errors[0] / errors[1]) < 2.6, errors


@pytest.mark.parametrize("name", DYNAMICS)
def test_halving_the_step_quarters_its_error(name: str) -> None:
    law, box = hills(Rectified()), Box(-6, 6, 240)
    dynamics = DYNAMICS[name](law)
    start, stop = (0.2, 0.8) if dynamics.rising else (0.8, 0.2)
    q = exact(law, box, start)
    coarse, fine, truth = (last(dynamics, box, q, start, stop, n) for n in (12, 24, 240))
    slope = math.log2(box.distance(coarse, truth) / box.distance(fine, truth))
    assert abs(slope - 2) < 0.1, slope


@pytest.mark.parametrize("name", DYNAMICS)
@pytest.mark.parametrize("dims", [1, 2])
def test_mass_is_kept_and_nothing_is_ever_negative(name: str, dims: int) -> None:
    """From spikes, over steps as long as the whole way, with cells far too wide."""
    law, box = hills(Cosine(), dims), Box(-4, 4, 30, dims)
    dynamics = DYNAMICS[name](law)
    q = torch.zeros(box.shape, dtype=F64)
    q.view(-1)[:: 7 + dims] = 1.0
    q.view(-1)[0] = 1e6
    q /= q.sum() * box.volume
    times = torch.tensor([0.02, 0.3, 0.7, 0.98], dtype=F64)
    for later in evolve(dynamics, box, q, times if dynamics.rising else times.flip(0)):
        assert float(later.min()) >= 0
        assert abs(float(later.sum()) * box.volume - 1) < 1e-12


def test_mass_is_kept_over_hundreds_of_thousands_of_jumps() -> None:
    box = Box(-4, 4, 600)
    q = box.density(lambda x: -(x.square() + math.log(2 * math.pi)).sum(1) / 2)
    end = last(Forward(GaussianProcess(Cosine())), box, q, 0.02, 0.98, 8)
    assert abs(float((end - q).sum()) * box.volume) < 2e-13


def test_the_gaussian_is_the_equilibrium_to_rounding_and_everything_tends_to_it() -> None:
    schedule, box = VPLinear(), Box(-6, 6, 80)
    rest = box.density(lambda x: -x.square().sum(1) / 2)
    rest /= rest.sum() * box.volume
    forward = Forward(GaussianProcess(schedule))
    assert box.distance(last(forward, box, rest, 0.1, 1.0, 10), rest) < 1e-12
    spike = torch.zeros(80, dtype=F64)
    spike[11] = 1 / box.width
    halfway, end = evolve(forward, box, spike, torch.tensor([0.1, 0.6, 1.0], dtype=F64))
    left = float(schedule.alpha(torch.tensor([1.0], dtype=F64))) / float(
        schedule.alpha(torch.tensor([0.1], dtype=F64))
    )
    assert box.distance(end, rest) < 5 * left < box.distance(halfway, rest)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_wrong_score_leads_where_ddim_of_that_churn_leads(eta: float) -> None:
    """From a wider Gaussian than the denoiser's own: the law depends on η, and stays a Gaussian whose variance is
    a sum that DDIM's coefficients give without sampling."""
    schedule, width, first = Cosine(), 0.36, 2.0
    law = MixtureDenoiser(
        GaussianProcess(schedule), torch.zeros(1, 1, dtype=F64), torch.full((1, 1), width, dtype=F64)
    )
    grid = torch.linspace(0.8, 0.2, 8001, dtype=F64)
    level = schedule.level(grid)
    # E[x | x_t] = k x_t
    k = (level.alpha * width / (level.alpha.square() * width + level.sigma.square())).tolist()
    variance = first
    for i, row in enumerate(DDIM(eta).rows(schedule, grid)):
        variance = variance * (row.state + row.terms[0] * k[i]) ** 2 + row.noise**2
    box = Box(-9, 9, 360)
    q = box.density(lambda x: -x.square().sum(1) / (2 * first) - math.log(2 * math.pi * first) / 2)
    end = last(Reverse(law, eta), box, q, 0.8, 0.2, 200)
    x = box.centres()[:, 0]
    assert float((end * x.square()).sum()) * box.volume == pytest.approx(variance, rel=2e-3)
    gaussian = (-x.square() / (2 * variance)).exp() / math.sqrt(2 * math.pi * variance)
    assert box.distance(end, gaussian) < 0.01


def test_conditions_and_single_precision_reach_the_denoiser() -> None:
    class Which(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.process = GaussianProcess(Cosine())

        def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:
            assert x_t.dtype == torch.float32 and cond["side"].shape == (len(x_t),)
            return Point(cond["side"][:, None].to(x_t).expand_as(x_t))

    box = Box(-5, 5, 200)
    q = box.density(lambda x: -(x.square() + math.log(2 * math.pi)).sum(1) / 2)
    for side in (-1.0, 1.0):
        dynamics = Reverse(Which(), 1.0, {"side": torch.tensor([side])}, torch.float32)
        end = last(dynamics, box, q, 0.99, 0.05, 100)
        mean = float((end * box.centres()[:, 0]).sum()) * box.volume
        assert mean == pytest.approx(side * float(Cosine().alpha(torch.tensor([0.05], dtype=F64))), abs=0.01)


def test_the_chain_is_the_exponential_of_its_rates() -> None:
    generator = np.random.default_rng(0)
    box, diffusion, length = Box(0, 1, 6), 0.02, 3.0
    v, q = generator.normal(size=5), generator.uniform(size=6)
    up, down = (r / box.width**2 for r in _jumps(v * box.width, diffusion))
    rates = np.diag(up, -1) + np.diag(down, 1)
    rates -= np.diag(rates.sum(0))
    assert np.allclose(_spread(box, [v], diffusion, q, length), expm(rates * length) @ q, rtol=1e-11, atol=0)


def test_flux_weights_hold_at_every_ratio_of_drift_to_diffusion() -> None:
    vh = np.array([-3.0, -1e-3, -1e-7, 0.0, 2e-10, 1e-6, 0.5, 4.0])
    up, down = _jumps(vh, 0.1)
    assert np.allclose(up - down, vh, rtol=1e-6, atol=0)  # a constant q flows with v
    assert np.allclose(np.log(up / down), vh / 0.1, rtol=1e-7, atol=1e-14)  # and e^(∫v/D) rests
    assert np.allclose(_jumps(np.zeros(1), 0.1), 0.1)
    for weight, upwind in zip(_jumps(vh, 1e-12), (vh.clip(0), -vh.clip(None, 0)), strict=True):
        assert np.allclose(weight, upwind, rtol=1e-4, atol=2e-12)


def test_evolve_says_what_it_cannot_do() -> None:
    law, box = hills(Cosine()), Box(-4, 4, 30)
    q = exact(law, box, 0.5)
    with pytest.raises(ValueError, match="time falls in Reverse"):
        next(evolve(Reverse(law), box, q, torch.tensor([0.4, 0.6])))
    with pytest.raises(ValueError, match="time rises in Forward"):
        next(evolve(Forward(law.process), box, q, torch.tensor([0.6, 0.4])))
    with pytest.raises(ValueError, match="nowhere negative"):
        next(evolve(Reverse(law), box, -q, torch.tensor([0.6, 0.4])))


# -- boxes and distances -----------------------------------------------------------------------------------


def test_a_histogram_counts_what_lies_in_each_cell() -> None:
    plane = Box(0, 3, 3, 2)
    x = torch.tensor([[0.5, 2.5], [0.1, 2.9], [2.5, 0.5], [3.5, 0.5]])  # the last lies outside
    h = plane.histogram(x)
    assert h[0, 2] == 0.5 and h[2, 0] == 0.25 and float(h.sum()) * plane.volume == 0.75
    assert torch.equal(plane.centres()[2], torch.tensor([0.5, 2.5], dtype=F64)), (
        "cells and centres in one order"
    )
    line = Box(-1, 1, 4)
    assert torch.equal(
        line.histogram(torch.tensor([[-0.9], [0.6], [0.7], [0.1]])), torch.tensor([0.5, 0, 0.5, 1.0])
    )
    assert line.distance(line.histogram(torch.tensor([[-0.9]])), line.histogram(torch.tensor([[0.9]]))) == 2


@pytest.mark.parametrize("dims", [1, 2])
def test_joining_cells_keeps_mass_and_places(dims: int) -> None:
    box = Box(-1, 1, 12, dims)
    x = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (500, dims)))
    joined = box.averaged(box.histogram(x), 3)
    assert torch.allclose(joined, box.coarsened(3).histogram(x), rtol=1e-12)
    with pytest.raises(ValueError, match="cannot be joined"):
        box.coarsened(5)


@pytest.mark.parametrize(
    ("n", "p"), [(1, 0.3), (10, 0.13), (10, 0.1), (50, 0.5), (7, 0.001), (2500, 0.003), (9, 0.0)]
)
def test_the_floor_is_the_mean_deviation_of_a_count(n: int, p: float) -> None:
    k = np.arange(n + 1)
    expected = float((np.abs(k / n - p) * binom.pmf(k, n, p)).sum())
    assert floor(torch.tensor([p], dtype=F64), n) == pytest.approx(expected, rel=1e-10, abs=1e-15)
