"""Laws of every exported schedule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kuosan.core import schedules
from kuosan.core.curves import derivative
from kuosan.core.schedules import (
    EDM,
    Cosine,
    Learned,
    Rectified,
    Schedule,
    Shifted,
    Sigmoid,
    Tabulated,
    VPLinear,
)

from .exact_cases import SCHEDULES, learned, tabulated

F64 = torch.float64
NAMES = sorted(SCHEDULES)
# Times between the knots of every piecewise schedule in use (1/1000 and 1/32), so that stencils fit.
T = (torch.arange(50, 950, 9, dtype=F64) + 0.375) / 1000
ENDS = torch.tensor([0.0, 1.0], dtype=F64)
NOT_PRESERVING = {"rectified", "shifted_rectified", "edm", "shifted_edm"}
# λ at t = 0 and t = 1, by each schedule's own definition
STATED_ENDS = {
    "vp_linear": (math.inf, -math.log(math.expm1(10.05))),
    "edm": (-2 * math.log(0.002), -2 * math.log(80.0)),
    "shifted_edm": (-2 * math.log(0.006), -2 * math.log(240.0)),
    "learned": (13.3, -5.0),
}


def test_every_schedule_is_a_case() -> None:
    exported = {
        c
        for _, c in inspect.getmembers(schedules, inspect.isclass)
        if issubclass(c, Schedule) and c is not Schedule
    }
    assert exported == {type(case) for case in SCHEDULES.values()}


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_schedule_starts_at_the_data_and_ends_where_it_says(name: str) -> None:
    schedule = SCHEDULES[name]
    if name == "tabulated":
        betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
        last = (1 - betas).log().sum().exp()
        start, stop = math.inf, float((last / (1 - last)).log())
    else:
        start, stop = STATED_ENDS.get(name, (math.inf, -math.inf))
    got = schedule.log_snr(ENDS).tolist()
    assert got == pytest.approx([start, stop], rel=1e-12)
    if start == math.inf:
        assert schedule.alpha(ENDS)[0] == 1 and schedule.sigma(ENDS)[0] == 0
    if stop == -math.inf:
        assert schedule.alpha(ENDS)[1] == 0 and schedule.sigma(ENDS)[1] == 1


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_signal_to_noise_strictly_falls(name: str) -> None:
    schedule, t = SCHEDULES[name], torch.linspace(0, 1, 1501, dtype=F64)
    assert bool((schedule.log_snr(t).diff() < 0).all())
    assert bool((schedule.alpha(t).diff() <= 0).all()) and bool((schedule.sigma(t).diff() > 0).all())


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_log_snr_is_of_alpha_and_sigma(name: str) -> None:
    level = SCHEDULES[name].level(T)
    assert torch.allclose(level.log_snr, (level.alpha**2 / level.sigma**2).log(), rtol=1e-12, atol=1e-12)
    assert torch.allclose(level.rho, (-level.log_snr / 2).exp(), rtol=1e-12)
    assert torch.equal(level.t, T)


@pytest.mark.parametrize("name", sorted(set(NAMES) - NOT_PRESERVING))
@torch.no_grad()
def test_variance_is_preserved(name: str) -> None:
    t = torch.cat([ENDS, T])
    total = SCHEDULES[name].alpha(t).square() + SCHEDULES[name].sigma(t).square()
    assert torch.allclose(total, torch.ones_like(t), rtol=0, atol=1e-14)


def stencil(f: Callable[[Tensor], Tensor], t: Tensor, h: float = 5e-5) -> Tensor:
    """df/dt to fourth order in h, with no derivative taken."""
    return (8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_rates_are_derivatives(name: str) -> None:
    schedule = SCHEDULES[name]
    rates = (*schedule.rates(T), schedule.log_snr_rate(T))
    for rate, f in zip(rates, (schedule.alpha, schedule.sigma, schedule.log_snr), strict=True):
        assert torch.allclose(rate, derivative(f, T), rtol=1e-12, atol=1e-13)
        assert torch.allclose(rate, stencil(f, T), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_time_of_is_the_inverse(name: str) -> None:
    schedule = SCHEDULES[name]
    t = torch.cat([torch.tensor([1e-4, 3e-3], dtype=F64), T, torch.tensor([0.999], dtype=F64)])
    assert torch.allclose(schedule.time_of(schedule.log_snr(t)), t, rtol=1e-11, atol=1e-13)
    log_snr = torch.linspace(*schedule.log_snr(torch.tensor([0.02, 0.98], dtype=F64)).tolist(), 77, dtype=F64)
    assert torch.allclose(schedule.log_snr(schedule.time_of(log_snr)), log_snr, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_single_precision_agrees_with_double(name: str) -> None:
    schedule, t = SCHEDULES[name], T.float()
    for f in (schedule.alpha, schedule.sigma, schedule.log_snr, schedule.log_snr_rate):
        assert f(t).dtype == torch.float32
        assert torch.allclose(f(t).double(), f(t.double()), rtol=2e-3, atol=2e-5)
    assert schedule.time_of(schedule.log_snr(t)).dtype == torch.float32
    assert torch.allclose(schedule.time_of(schedule.log_snr(t)), t, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bound", [3.0, 16.0])
@torch.no_grad()
def test_clip_keeps_times_between_the_bounds(name: str, bound: float) -> None:
    schedule, t = SCHEDULES[name], torch.linspace(0, 1, 301, dtype=F64)
    clipped = schedule.clip(t, bound)
    log_snr = schedule.log_snr(clipped)
    ends = schedule.log_snr(ENDS)
    assert bool((log_snr.abs() <= bound + 1e-9).all())
    # reached wherever the schedule goes beyond
    assert float(log_snr[0]) == pytest.approx(min(bound, float(ends[0])))
    assert float(log_snr[-1]) == pytest.approx(max(-bound, float(ends[1])))
    inside = schedule.log_snr(t).abs() < bound
    assert torch.allclose(clipped[inside], t[inside], rtol=0, atol=1e-15)
    assert schedule.clip(t.float(), bound).dtype == torch.float32


SHIFTABLE = [Rectified(), VPLinear(), Cosine(), Sigmoid(), EDM(), tabulated()]


@pytest.mark.parametrize("base", SHIFTABLE, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("shift", [0.25, 1.0, 3.0])
@torch.no_grad()
def test_a_shift_lowers_log_snr_and_stays_in_the_family(base: Schedule, shift: float) -> None:
    shifted = Shifted(base, shift)
    level = shifted.level(T)
    assert torch.allclose(level.log_snr, base.log_snr(T) - 2 * math.log(shift), rtol=0, atol=1e-12)
    assert torch.allclose(level.rho, shift * base.level(T).rho, rtol=1e-9)
    for f in (lambda s, a: s, lambda s, a: s + a, lambda s, a: (s**2 + a**2).sqrt()):
        own = f(base.sigma(T), base.alpha(T))
        if torch.allclose(own, torch.ones_like(own)):  # whichever of the three the family keeps at 1
            assert torch.allclose(f(level.sigma, level.alpha), own, rtol=1e-12)
    assert torch.allclose(Shifted(shifted, 1 / shift).alpha(T), base.alpha(T), rtol=1e-10)


@torch.no_grad()
def test_a_shifted_rectified_schedule_is_the_known_shift_of_time() -> None:
    """t' = s t/(1 + (s - 1) t): Esser et al. 2024, eq. 23."""
    t = torch.cat([ENDS, T])
    for shift in (0.3, 1.0, 3.0):
        moved = shift * t / (1 + (shift - 1) * t)
        shifted = Shifted(Rectified(), shift)
        assert torch.allclose(shifted.sigma(t), moved, rtol=0, atol=1e-13)
        assert torch.allclose(shifted.alpha(t), 1 - moved, rtol=0, atol=1e-13)


def test_a_shift_that_cannot_be_honoured_is_refused() -> None:
    with pytest.raises(ValueError, match="positive ratio"):
        Shifted(Cosine(), 0.0)
    with pytest.raises(ValueError, match="Learned schedule ends before"):
        Shifted(learned(), 2.0)


def table(kind: str) -> Tensor:
    if kind == "linear":
        return (1 - torch.linspace(1e-4, 0.02, 1000, dtype=F64)).cumprod(0)
    if kind == "cosine":
        return torch.cos((torch.arange(1, 51, dtype=F64) / 50 + 0.008) / 1.016 * math.pi / 2).square()
    return torch.tensor([0.9, 0.5, 0.2, 0.0], dtype=F64)  # no signal at the end


@pytest.mark.parametrize("kind", ["linear", "cosine", "zero_terminal"])
@torch.no_grad()
def test_a_tabulated_schedule_reproduces_its_table(kind: str) -> None:
    a = table(kind)
    schedule = Tabulated(a)
    t = torch.arange(1, len(a) + 1, dtype=F64) / len(a)
    assert torch.allclose(schedule.alpha(t).square(), a, rtol=0, atol=1e-12)
    assert torch.allclose(schedule.sigma(t).square(), 1 - a, rtol=0, atol=1e-12)
    assert schedule.sigma(ENDS)[0] == 0 and schedule.alpha(ENDS)[0] == 1
    # t -> 0 linearly in ρ, between the entries linearly in log ρ
    early = schedule.level(torch.tensor([0.25, 0.5, 1.0], dtype=F64) / len(a)).rho
    assert torch.allclose(early / early[-1], torch.tensor([0.25, 0.5, 1.0], dtype=F64), rtol=1e-12)
    middle = schedule.level((t[:-1] + t[1:]) / 2).rho
    assert torch.allclose(middle.square(), schedule.level(t[:-1]).rho * schedule.level(t[1:]).rho, rtol=1e-9)
    inner = torch.linspace(0.01, 0.99, 97, dtype=F64)
    assert torch.allclose(schedule.time_of(schedule.log_snr(inner)), inner, rtol=1e-11)
    everywhere = torch.linspace(0, 1, 997, dtype=F64)
    assert bool((schedule.log_snr(everywhere).diff() < 0).all())


@pytest.mark.parametrize("part", ["alpha", "sigma", "rates", "log_snr", "log_snr_rate"])
def test_a_learned_schedule_has_gradients_through_everything(part: str) -> None:
    """Against finite differences in the parameters."""
    schedule, h = learned(), 1e-5
    weights = torch.linspace(1, 2, len(T), dtype=F64).cos()

    def value() -> Tensor:
        result = getattr(schedule, part)(T)
        return sum((r * weights).sum() for r in (result if isinstance(result, tuple) else (result,)))

    parameter = schedule.fall.log_density
    (gradient,) = torch.autograd.grad(value(), parameter)
    direction = torch.linspace(-1, 1, len(parameter), dtype=F64).sin()
    with torch.no_grad():
        start = parameter.clone()
        ends = []
        for sign in (1, -1):
            parameter.copy_(start + sign * h * direction)
            ends.append(value())
    slope = (ends[0] - ends[1]) / (2 * h)
    assert float(gradient.abs().max()) > 1e-3
    assert torch.allclose((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-8)


@torch.no_grad()
def test_a_new_learned_schedule_is_linear_in_log_snr() -> None:
    assert torch.allclose(Learned(10.0, -4.0).log_snr(T), 10.0 - 14.0 * T, rtol=0, atol=1e-13)


@torch.no_grad()
def test_known_schedules_match_their_papers() -> None:
    """Each against the formula as its authors write it."""
    t = T
    # Song et al. 2021, eq. 33: the mean's factor is exp(-t²(b - a)/4 - t a/2)
    assert torch.allclose(VPLinear().alpha(t), (-(t**2) * 19.9 / 4 - t * 0.1 / 2).exp(), rtol=1e-13)
    assert torch.allclose(Cosine().alpha(t), torch.cos(math.pi / 2 * t), rtol=0, atol=1e-14)
    # Jabri et al. 2022, alg. 1, with their γ = α²
    v = [torch.sigmoid(torch.tensor(u, dtype=F64)) for u in (-3.0, 3.0)]
    gamma = (v[1] - torch.sigmoid(t * 6 - 3)) / (v[1] - v[0])
    assert torch.allclose(Sigmoid().alpha(t).square(), gamma, rtol=1e-12)
    # Song et al. 2021, eq. 30 (VE)
    assert torch.allclose(EDM().sigma(t), 0.002 * (80 / 0.002) ** t, rtol=1e-12)
