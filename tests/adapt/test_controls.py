"""Controls: every stock solver is a point among them, gradients are gradients, and what is learned is a solver."""

from __future__ import annotations

import pytest
import torch

from kuosan.adapt.candidates import STOCK, stock
from kuosan.adapt.controls import Controls, of_solver
from kuosan.adapt.flow import Flow, time_of
from kuosan.adapt.rollout import Pairs, ends, gradients, piece_of, walk
from kuosan.core.posteriors import Point, Posterior
from kuosan.core.random import Seeds
from kuosan.core.schedules import EDM, Cosine, Rectified, Schedule, VPLinear
from kuosan.core.shapes import at
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import SOLVERS, sample
from kuosan.solvers.multistep import Multistep
from kuosan.solvers.sequence import Tabled

SCHEDULES = [Cosine(), Rectified(), VPLinear(), EDM()]


def mixture(schedule: Schedule, d: int = 3, k: int = 4) -> MixtureDenoiser:
    g = torch.Generator().manual_seed(d + k)
    means = torch.randn(k, d, generator=g, dtype=torch.float64)
    return MixtureDenoiser(GaussianProcess(schedule), means, torch.full((k, d), 0.05, dtype=torch.float64))


class Two(Denoiser):
    """Class 0 has a mixture of its own; 1 hides it."""

    def __init__(self, schedule: Schedule):
        super().__init__()
        self.of = torch.nn.ModuleList([mixture(schedule, k=2), mixture(schedule, k=5)])
        self.alone = True
        self.process = GaussianProcess(schedule)

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, **cond: torch.Tensor) -> Point:
        means = torch.stack([denoiser(x_t, t).mean for denoiser in self.of])
        return Point(means[cond["class"], torch.arange(len(x_t))])


def pairs(flow: Flow, n: int = 6, d: int = 3) -> Pairs:
    z = flow.noise(torch.empty(n, d, dtype=torch.float64), Seeds.of(3, n))
    return Pairs(z, torch.zeros_like(z), {})


def levels(flow: Flow, k: int = 5) -> torch.Tensor:
    inner = torch.linspace(3.0, -3.0, k, dtype=torch.float64).exp()
    return torch.cat([inner, torch.tensor([flow.rho_end], dtype=torch.float64)])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("name", STOCK)
def test_a_stock_solver_is_its_controls(schedule: Schedule, name: str) -> None:
    """Walked as controls or by its own steps on its own schedule, a solver ends in the same place."""
    denoiser = mixture(schedule)
    flow = Flow(denoiser)
    given = pairs(flow)
    rule = SOLVERS[name]()
    assert isinstance(rule, Multistep)
    rho = levels(flow)
    grid = torch.cat([time_of(schedule, rho[:-1].log()), torch.zeros(1, dtype=torch.float64)])
    x = given.z * at(schedule.sigma(grid[:1]), given.z)
    stepped = sample(denoiser, rule, grid, x, Seeds.of(0, len(x)))
    walked = walk(flow, of_solver(rule, rho), given).end
    torch.testing.assert_close(walked, stepped, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_any_controls_are_a_table_of_coefficients(schedule: Schedule, far: bool) -> None:
    """Numbers that no stock solver has, as a `Tabled` solver on the schedule's own states."""
    denoiser = mixture(schedule)
    flow = Flow(denoiser)
    given = pairs(flow)
    start = of_solver(SOLVERS["deis"](), levels(flow))  # type: ignore[arg-type]
    start = start.after_far(flow.rho_start) if far else start
    g = torch.Generator().manual_seed(0)
    flat = start.flat()
    change = 0.05 * torch.randn(len(flat), generator=g, dtype=torch.float64)
    change[0] = 0 if far else change[0]  # which stays
    odd = start.of(flat + change)
    times = torch.cat([time_of(schedule, odd.log_rho), torch.zeros(1, dtype=torch.float64)])
    table = odd.table(schedule, times)
    rule = Tabled(
        tuple(times.tolist()), tuple(table.state.tolist()), tuple(tuple(r) for r in table.terms.tolist()), far
    )
    x = given.z * at(schedule.sigma(times[:1]), given.z)
    stepped = sample(denoiser, rule, times, x, Seeds.of(0, len(x)))
    torch.testing.assert_close(stepped, walk(flow, odd, given).end, rtol=1e-8, atol=1e-8)
    with pytest.raises(ValueError, match="times of their own"):
        sample(denoiser, rule, times * 0.9, x, Seeds.of(0, len(x)))


@pytest.mark.parametrize(("guided", "far"), [(False, False), (True, False), (False, True)])
def test_gradients_are_those_of_the_walk(guided: bool, far: bool) -> None:
    """Per example and for every control, against central differences; in pieces as in one."""
    flow = Flow(Two(Cosine()), {"class": 1} if guided else None)
    given = pairs(flow)
    given = Pairs(given.z, given.end, {"class": torch.zeros(len(given), dtype=torch.int64)})
    controls = of_solver(SOLVERS["unipc3"](), levels(flow, 4))  # type: ignore[arg-type]
    controls = controls.guided(1.5) if guided else controls
    controls = controls.after_far(flow.rho_start) if far else controls
    direction = torch.randn(given.z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    walked = walk(flow, controls, given)
    (found,) = gradients(flow, controls, given, walked, [direction], 4)
    flat = controls.flat()
    assert found.shape == (len(given), len(flat))
    for i, nudge in enumerate(1e-6 * torch.eye(len(flat), dtype=torch.float64)):
        up, down = (walk(flow, controls.of(flat + sign * nudge), given).end for sign in (1, -1))
        slope = ((up - down) * direction).sum(1) / 2e-6
        if far and i == 0:  # where samples share a call stays as it is
            slope = torch.zeros_like(slope)
        torch.testing.assert_close(found[:, i], slope, rtol=1e-5, atol=1e-7)


def test_flat_and_back() -> None:
    flow = Flow(mixture(Cosine()))
    controls = of_solver(SOLVERS["ipndm"](), levels(flow)).guided(2.0)  # type: ignore[arg-type]
    again = controls.of(controls.flat())
    for part in ("log_rho", "state", "terms", "w"):
        torch.testing.assert_close(getattr(again, part), getattr(controls, part))
    assert len(controls.flat()) == 5 + 5 + 15 + 5


def test_many_controls_in_one_batch() -> None:
    flow = Flow(mixture(Rectified()))
    given = pairs(flow)
    many: list[Controls] = [stock(name, "", levels(flow)).controls for name in STOCK]
    for controls, end in zip(many, ends(flow, many, given, 5), strict=True):
        torch.testing.assert_close(end, walk(flow, controls, given).end)


def test_memory_bounds_the_piece() -> None:
    flow = Flow(mixture(Cosine(), d=50_000))
    given = pairs(flow, 2, 50_000)
    assert 1 <= piece_of(flow, given, most=10_000) < 10_000
    assert piece_of(flow, given, most=2) == 2


class Counted(Denoiser):
    """How many examples each call has."""

    def __init__(self, inner: Denoiser):
        super().__init__()
        self.process, self.inner, self.alone = inner.process, inner, inner.alone
        self.asked: list[int] = []

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, **cond: torch.Tensor) -> Posterior:
        self.asked.append(len(x_t))
        return self.inner(x_t, t, **cond)


def test_a_shared_call_is_made_once_for_each_condition_and_ignores_its_company() -> None:
    counted = Counted(Two(Cosine()))
    flow = Flow(counted)
    given = pairs(flow, 6)
    given = Pairs(given.z, given.end, {"class": torch.tensor([0, 1, 1, 0, 1, 1])})
    controls = of_solver(SOLVERS["deis"](), levels(flow, 3)).after_far(flow.rho_start)  # type: ignore[arg-type]
    assert (len(controls), controls.calls) == (4, 3)
    whole = walk(flow, controls, given).end
    assert counted.asked == [2, 6, 6, 6]
    assert flow.calls == 20
    alone = torch.cat([walk(flow, controls, given[i : i + 1]).end for i in range(6)])
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-9)
    counted.alone = False  # one that looks at the batch as a whole is asked as a whole
    times = torch.cat([time_of(flow.schedule, controls.log_rho), torch.zeros(1, dtype=torch.float64)])
    table = controls.table(flow.schedule, times)
    numbers = (tuple(table.state.tolist()), tuple(tuple(r) for r in table.terms.tolist()))
    counted.asked.clear()
    x = given.z * at(flow.schedule.sigma(times[:1]), given.z)
    sample(counted, Tabled(tuple(times.tolist()), *numbers, True), times, x, Seeds.of(0, 6), **given.cond)
    assert counted.asked == [6, 6, 6, 6]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_what_samples_share_is_the_mean_of_the_data(schedule: Schedule) -> None:
    denoiser = mixture(schedule)
    flow = Flow(denoiser)
    shared = flow.far(torch.zeros(2, 3, dtype=torch.float64))
    mean = (denoiser.log_weights.exp()[:, None] * denoiser.means).sum(0)
    torch.testing.assert_close(shared, mean.expand(2, 3), rtol=0, atol=20 / flow.rho_start)


def test_a_walk_from_the_mean_begins_there() -> None:
    """Of one mode, the mean is all that is far away, and the first state is m + ρ_0 z: on the path itself."""
    m, v = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64), torch.full((1, 3), 0.2, dtype=torch.float64)
    flow = Flow(MixtureDenoiser(GaussianProcess(EDM()), m, v))
    given = pairs(flow)
    controls = of_solver(SOLVERS["ddim"](), levels(flow, 4)).after_far(flow.rho_start)  # type: ignore[arg-type]
    walked = walk(flow, controls, given)
    first = m + given.z * controls.log_rho[1].exp()
    torch.testing.assert_close(walked.states[1], first, rtol=0, atol=1e-2)
