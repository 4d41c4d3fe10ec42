"""Laws of a teacher's trajectories, and of what a student learns from them: N(0, v) data know every answer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kuosan.adapt.trajectories import ListedTiming, Regression, through, trajectories
from kuosan.core.grids import grid
from kuosan.core.posteriors import Point, Posterior
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine, Rectified, Schedule
from kuosan.core.shapes import Time, at
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import Redraw, sample, solver

V, WIDTH = 0.3, 3


def teacher(schedule: Schedule) -> MixtureDenoiser:
    return MixtureDenoiser(
        GaussianProcess(schedule),
        torch.zeros(1, WIDTH, dtype=torch.float64),
        torch.full((1, WIDTH), V, dtype=torch.float64),
    )


def spread(schedule: Schedule, t: Time) -> Time:
    """The standard deviation of x_t, which is also how the flow scales every state."""
    return ((V * schedule.alpha(t).square()) + schedule.sigma(t).square()).sqrt()


class Ends(Denoiser):
    """The student that is never wrong: the end of the flow from x_t."""

    def __init__(self, schedule: Schedule, off: float = 0.0):
        super().__init__()
        self.process, self.schedule, self.off = GaussianProcess(schedule), schedule, off

    def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Posterior:
        return Point(at(math.sqrt(V) / spread(self.schedule, t), x_t) * x_t + self.off)


def walked(schedule: Schedule, times: list[float], steps: int = 60, n: int = 40) -> Tensor:
    rule = grid("karras:7")(schedule, steps)
    z = Seeds.of(0, n).normal(torch.empty(n, WIDTH, dtype=torch.float64))
    return trajectories(teacher(schedule), solver("deis"), rule, [float(rule[0]), *times], z, Seeds.of(0, n))


def test_a_grid_stops_at_the_times_too_and_at_none_twice() -> None:
    rule = grid("logsnr")(Cosine(), 9)
    times = [float(rule[0]), 0.61803, float(rule[4]) + 1e-12, 0.25]
    merged, places = through(rule, times)
    assert bool((merged.diff() < 0).all()) and len(merged) == len(rule) + 2
    assert [float(merged[i]) for i in places] == times
    with pytest.raises(ValueError, match="not all on a grid"):
        through(rule, [2.0])


@pytest.mark.parametrize("schedule", [Cosine(), Rectified()])
def test_points_and_end_lie_on_the_closed_form_of_the_flow(schedule: Schedule) -> None:
    times = [0.8, 0.5, 0.3]
    x = walked(schedule, times)
    start = float(grid("karras:7")(schedule, 60)[0])
    t = torch.tensor([start, *times, 0.0], dtype=torch.float64)
    wanted = spread(schedule, t) / spread(schedule, t[:1])
    assert torch.allclose(x, x[:, :1] * wanted[None, :, None], atol=2e-3)
    assert torch.equal(x[:, 0], Seeds.of(0, 40).normal(torch.empty(40, WIDTH, dtype=torch.float64)))


def test_a_solver_that_draws_has_no_pairs() -> None:
    rule = grid("uniform")(Cosine(), 4)
    with pytest.raises(ValueError, match="draws noise"):
        trajectories(teacher(Cosine()), solver("ancestral"), rule, [], torch.zeros(2, WIDTH), Seeds.of(0, 2))


def test_the_true_student_loses_nothing_and_an_offset_its_norm() -> None:
    schedule, times = Cosine(), (float(grid("karras:7")(Cosine(), 60)[0]), 0.7, 0.4)
    x = walked(schedule, [0.7, 0.4])
    objective, seeds = Regression(ListedTiming(times)), Seeds.of(1, len(x))
    assert float(objective(Ends(schedule), x, seeds).max()) < 5e-4
    off, c = 0.4, objective.c
    losses = objective(Ends(schedule, off), x, seeds)
    assert torch.allclose(losses, torch.full_like(losses, math.sqrt(off**2 + c**2) - c), atol=2e-3)


def test_each_time_gets_its_share_and_its_own_state() -> None:
    seen: list[tuple[Tensor, Time]] = []

    class Sees(Ends):
        def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Posterior:
            seen.append((x_t, t))
            return super().forward(x_t, t, **cond)

    times = (0.9, 0.6, 0.3)
    x = torch.stack([torch.full((30, WIDTH), t) for t in (*times, 0.0)], 1)
    Regression(ListedTiming(times))(Sees(Cosine()), x, Seeds.of(0, 30))
    ((x_t, t),) = seen
    assert torch.allclose(x_t[:, 0].double(), t, atol=1e-6)
    assert torch.bincount((t * 10).round().long())[[3, 6, 9]].tolist() == [10, 10, 10]
    u = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    assert ListedTiming(times).quantile(Cosine(), u).tolist() == [0.3, 0.6, 0.9]


@pytest.mark.parametrize("between", [(), (0.7,), (0.85, 0.6, 0.4)])
def test_a_true_student_keeps_the_datas_law_in_any_number_of_steps(between: tuple[float, ...]) -> None:
    """Fresh noise on the right ends has the law of x_t, so that estimating again changes nothing."""
    schedule, n = Cosine(), 6000
    steps = torch.tensor([1.0, *between, 0.0], dtype=torch.float64)
    seeds = Seeds.of(3, n)
    z = seeds.fold("prior").normal(torch.empty(n, WIDTH, dtype=torch.float64))
    x = sample(Ends(schedule), Redraw(), steps, z, seeds)
    error = V * math.sqrt(2 / (n * WIDTH))
    assert float(x.square().mean()) == pytest.approx(V, abs=4 * error)
    assert float(x.mean()) == pytest.approx(0, abs=4 * math.sqrt(V / (n * WIDTH)))
