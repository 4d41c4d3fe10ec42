"""Judging unmasking schedules: sums and differences over passages, exact where they can be known."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor

from kuosan.core.unmasking import cosine_counts, linear_counts
from kuosan.recipes.tune_texts import judge

L, N = 24, 40
LEVELS = list(range(L))
BITS = L * log(2)


def passages(n: int = N) -> Tensor:
    """What a hidden token of each costs by how many are revealed: a level of its own and a curve that falls."""
    generator = torch.Generator().manual_seed(3)
    own = torch.rand(n, 1, generator=generator, dtype=torch.float64)
    steep = 0.5 + torch.rand(n, 1, generator=generator, dtype=torch.float64)
    return 1 + 3 * own + 2 * steep / (1 + torch.arange(L))


def optimum(costs: Tensor, steps: int) -> Tensor:
    from kuosan.adapt.unmasking import profile_of

    return profile_of(costs, LEVELS, L).counts(steps)


def by_hand(costs: Tensor, counts: Tensor) -> Tensor:
    """Eq. 1, one token after the other, above one token per step, in bits per token."""
    total = torch.zeros(len(costs), dtype=torch.float64)
    for low, high in zip(counts[:-1].tolist(), counts[1:].tolist(), strict=True):
        for token in range(low, high):
            total += costs[:, low] - costs[:, token]
    return total / BITS


@pytest.mark.parametrize("steps", [2, 3, 8])
def test_excess_and_saving_are_the_sums_of_their_definition(steps: int) -> None:
    costs = passages()
    counts = optimum(costs, steps)
    found = judge(costs, LEVELS, steps, counts, L)
    each = {"optimal": counts, "linear": linear_counts(L, steps), "cosine": cosine_counts(L, steps)}
    each = {name: by_hand(costs, c) for name, c in each.items()}
    for name, values in each.items():
        assert found.excess[name].value == pytest.approx(float(values.mean()), abs=1e-12)
        assert found.excess[name].stderr == pytest.approx(float(values.std()) / N**0.5, abs=1e-12)
    for name, saving in found.saving.items():
        less = each[name] - each["optimal"]
        assert saving.value == pytest.approx(float(less.mean()), abs=1e-12)
        assert saving.stderr == pytest.approx(float(less.std()) / N**0.5, abs=1e-12)
        assert saving.value >= -1e-12  # on the passages that it was fitted to
    assert found.kept == "optimal"


def test_one_token_per_step_and_a_flat_curve_lose_nothing() -> None:
    every = judge(passages(), LEVELS, L, torch.arange(L + 1), L)
    flat = judge(passages()[:, :1].expand(-1, L), LEVELS, 3, torch.tensor([0, 1, 2, L]), L)
    for found in (every, flat):
        assert all(abs(m.value) < 1e-12 for m in found.excess.values())


def test_what_a_passage_costs_of_its_own_is_in_no_difference() -> None:
    """Nor in its error: that is what pairing is for."""
    costs = passages()
    counts = optimum(costs, 3)
    noisy = costs + 100 * torch.rand(N, 1, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    found, other = (judge(c, LEVELS, 3, counts, L) for c in (costs, noisy))
    for name in found.saving:
        assert found.saving[name].value == pytest.approx(other.saving[name].value, abs=1e-10)
        assert found.saving[name].stderr == pytest.approx(other.saving[name].stderr, abs=1e-10)


def test_the_guard_keeps_what_is_cheapest_on_the_passages_it_judges() -> None:
    """A schedule that was fitted to passages of another kind loses to one that was fitted to nothing."""
    wrong = torch.tensor([0, L - 2, L - 1, L])
    found = judge(passages(), LEVELS, 3, wrong, L)
    assert found.kept != "optimal" and found.saving[found.kept].value < 0
    assert found.excess[found.kept].value == min(m.value for m in found.excess.values())


def test_between_levels_the_sum_is_that_of_a_line() -> None:
    slope = 5.0 - 0.1 * torch.arange(L, dtype=torch.float64)
    some = sorted({0, 7, L - 1, *linear_counts(L, 4)[:-1].tolist(), *cosine_counts(L, 4)[:-1].tolist()})
    few = judge(slope[some].expand(3, -1), some, 4, linear_counts(L, 4), L)
    full = judge(slope.expand(3, -1), LEVELS, 4, linear_counts(L, 4), L)
    assert few.excess["cosine"].value == pytest.approx(full.excess["cosine"].value, abs=1e-12)
