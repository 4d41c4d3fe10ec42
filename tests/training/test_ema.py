"""The averaged weights: what each step weighs, in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kuosan.training import ema

STEPS = 400


class OneHot(nn.Module):
    """After step k its weights are the k-th unit vector, so their average holds the weight of every step."""

    def __init__(self, buffer: float = 0.0):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(STEPS, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(buffer))

    @torch.no_grad()
    def step(self, k: int) -> None:
        self.w.zero_()
        self.w[k - 1] = 1
        self.count.add_(1)


def profile(std: float) -> torch.Tensor:
    model, average, gamma = OneHot(), OneHot(-5.0), ema.gamma_of(std)
    for k in range(1, STEPS + 1):
        model.step(k)
        ema.update(average, model, k, gamma)
    assert float(average.count) == STEPS  # buffers are copied, not averaged
    return average.w.detach()


@pytest.mark.parametrize("std", [0.03, 0.08, 0.2])
def test_a_step_weighs_what_the_power_function_says(std: float) -> None:
    """The weights up to step i sum to (i/n)^(γ+1): eq. 1 telescopes."""
    wanted = (torch.arange(1, STEPS + 1, dtype=torch.float64) / STEPS) ** (ema.gamma_of(std) + 1)
    assert torch.allclose(profile(std).cumsum(0), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("std", [0.03, 0.08, 0.2])
def test_the_profiles_relative_deviation_is_the_one_asked_for(std: float) -> None:
    w, place = profile(std), torch.arange(1, STEPS + 1, dtype=torch.float64) / STEPS
    mean = (w * place).sum()
    assert float(((w * (place - mean).square()).sum()).sqrt()) == pytest.approx(std, rel=0.01)


@pytest.mark.parametrize("std", [0.01, 0.05, 0.1, 0.25, 0.28])
def test_gamma_solves_its_equation(std: float) -> None:
    gamma = ema.gamma_of(std)
    assert gamma > -1
    assert ((gamma + 1) / (gamma + 3)) ** 0.5 / (gamma + 2) == pytest.approx(std, rel=1e-9)


def test_the_average_of_a_constant_is_that_constant_from_the_first_step_on() -> None:
    model, average = OneHot(), OneHot()
    model.step(7)
    for k in (1, 2, 3):
        ema.update(average, model, k, 5.0)
        assert torch.equal(average.w, model.w)
