"""Laws of control sequences."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from kuosan.core import curves
from kuosan.core.curves import (
    Constant,
    CosineSurvival,
    Curve,
    Interval,
    LinearSurvival,
    Monotone,
    Piecewise,
    PolynomialSurvival,
    curve,
    derivative,
    survival,
)

T = torch.linspace(0, 1, 101, dtype=torch.float64)
SURVIVALS = [CosineSurvival(), LinearSurvival(), PolynomialSurvival(2.5)]
KNOTS = [(0.1, 2.0), (0.4, -1.0), (0.4, 3.0), (0.9, 0.5)]


def bent() -> Monotone:
    fall = Monotone(6)
    fall.log_density.data = torch.tensor([0.3, -1.0, 2.0, 0.1, -0.4, 1.2, -2.0], dtype=torch.float64)
    return fall


CASES: list[Curve] = [Constant(1.7), Piecewise(KNOTS), Interval(0.2, 0.7, 3.0), bent(), *SURVIVALS]


def test_every_curve_is_a_case() -> None:
    exported = {
        c for _, c in inspect.getmembers(curves, inspect.isclass) if issubclass(c, Curve) and c is not Curve
    }
    assert exported == {type(case) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_curve_works_time_by_time_in_the_type_of_its_times(case: Curve, dtype: torch.dtype) -> None:
    t = T.to(dtype)
    values = case(t)
    assert values.shape == t.shape and values.dtype == dtype
    assert torch.equal(values.flip(0), case(t.flip(0)))
    one_by_one = torch.cat([case(t[i : i + 1]) for i in range(len(t))])
    assert torch.allclose(one_by_one, values, rtol=1e-6 if dtype == torch.float32 else 1e-14)
    assert torch.equal(case(t[:1].expand(5)), values[:1].expand(5))


def test_piecewise_is_linear_interpolation() -> None:
    points = [(0.1, 2.0), (0.3, -1.0), (0.55, 0.2), (0.9, 0.5)]
    expected = np.interp(T.numpy(), *np.array(points).T)
    assert np.allclose(Piecewise(points)(T).numpy(), expected, rtol=0, atol=1e-14)


def test_piecewise_jumps_where_a_time_comes_twice_and_is_flat_beyond_its_ends() -> None:
    t = torch.tensor([-1.0, 0.0, 0.1, 0.4, 0.4 + 1e-12, 0.9, 1.0, 2.0], dtype=torch.float64)
    expected = torch.tensor([2.0, 2.0, 2.0, -1.0, 3.0, 0.5, 0.5, 0.5], dtype=torch.float64)
    assert torch.allclose(Piecewise(KNOTS)(t), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("points", [[], [(0.0, 1.0)], [(0.5, 1.0), (0.2, 2.0)]])
def test_piecewise_refuses_what_is_no_function_of_time(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="two points or more"):
        Piecewise(points)


def test_interval_includes_both_ends() -> None:
    t = torch.tensor([0.19, 0.2, 0.5, 0.7, 0.71], dtype=torch.float64)
    assert Interval(0.2, 0.7, 3.0)(t).tolist() == [1.0, 3.0, 3.0, 3.0, 1.0]
    assert Interval(0.2, 0.7, 3.0, 0.0)(t).tolist() == [0.0, 3.0, 3.0, 3.0, 0.0]


def test_monotone_is_the_identity_at_zero() -> None:
    assert torch.allclose(Monotone()(T), T, rtol=0, atol=1e-15)


def test_monotone_is_the_normalised_integral_of_its_density() -> None:
    fall = bent()
    knots = np.linspace(0, 1, 7)
    heights = fall.log_density.detach().exp().numpy()

    def integral(stop: float) -> float:
        inner = knots[(knots > 0) & (knots < stop)]
        return quad(lambda u: float(np.interp(u, knots, heights)), 0, stop, points=inner, epsabs=1e-13)[0]

    expected = [integral(float(t)) / integral(1.0) for t in T]
    assert np.allclose(fall(T).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_monotone_rises_from_0_to_1_with_a_continuous_slope() -> None:
    fall = bent()
    values = fall(T).detach()
    assert values[0] == 0 and abs(float(values[-1]) - 1) < 1e-15 and bool((values[1:] > values[:-1]).all())
    knots = torch.arange(1, 6, dtype=torch.float64) / 6
    before, after = derivative(fall, knots - 1e-9), derivative(fall, knots + 1e-9)
    assert torch.allclose(before, after, rtol=1e-6)


def test_monotone_does_not_care_for_the_scale_of_its_density() -> None:
    fall, scaled = bent(), bent()
    scaled.log_density.data += 5.0
    assert torch.allclose(fall(T), scaled(T), rtol=0, atol=1e-14)


def test_every_parameter_of_monotone_has_its_gradient() -> None:
    fall = bent()
    t = torch.tensor([0.13, 0.5, 0.77], dtype=torch.float64)

    def loss(log_density: Tensor) -> Tensor:
        return torch.func.functional_call(fall, {"log_density": log_density}, (t,))

    assert torch.autograd.gradcheck(loss, (fall.log_density.detach().clone().requires_grad_(),))


@pytest.mark.parametrize("survival", SURVIVALS, ids=lambda c: type(c).__name__)
def test_a_survival_falls_from_exactly_1_to_exactly_0(survival: Curve) -> None:
    values = survival(T)
    assert abs(float(values[0]) - 1) < 1e-15 and values[-1] == 0
    assert bool((values[1:] < values[:-1]).all())


def test_cosine_survival_is_flat_at_the_noisy_end_only() -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    expected = torch.tensor([-math.pi / 2, 0.0], dtype=torch.float64)
    assert torch.allclose(derivative(CosineSurvival(), ends), expected, rtol=0, atol=1e-14)


def test_derivative_is_exact_time_by_time_and_under_any_gradient_mode() -> None:
    expected = 3 * T.square() - T.cos()
    for mode in (torch.enable_grad(), torch.no_grad(), torch.inference_mode()):
        with mode:
            slope = derivative(lambda t: t**3 - t.sin(), T)
            assert torch.allclose(slope, expected, rtol=0, atol=1e-14)
    with torch.no_grad():
        assert not derivative(torch.sin, T).requires_grad


def test_derivative_hands_gradients_on_to_parameters() -> None:
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    slope = derivative(lambda t: (scale * t).sin(), T[:5])
    (gradient,) = torch.autograd.grad(slope.sum(), scale)
    expected = ((2 * T[:5]).cos() - 2 * T[:5] * (2 * T[:5]).sin()).sum()
    assert torch.allclose(gradient, expected)


def test_a_curve_from_a_recipe() -> None:
    assert torch.equal(curve(2)(T), torch.full_like(T, 2.0))
    assert torch.equal(curve([[0, 1.0], [1, 3.0]])(T), 1 + 2 * T)
    same = Interval(0.1, 0.2, 5.0)
    assert curve(same) is same


def test_survival_curves_by_name() -> None:
    assert torch.equal(survival("linear")(T), 1 - T)
    assert torch.equal(survival("cosine")(T), CosineSurvival()(T))
    assert torch.allclose(survival("poly:3")(T), 1 - T * T * T, rtol=1e-14)
    for name in ("poly", "line", "linear:2", ""):
        with pytest.raises(ValueError, match="choose linear, cosine or poly:POWER"):
            survival(name)
    for power in ("0", "-1", "nan", "inf"):
        with pytest.raises(ValueError, match="a positive number"):
            survival(f"poly:{power}")
