"""Judging unmasking schedules: sums and differences over passages, exact where they can be known."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor

from kuosan.adapt.unmasking import profile_of
from kuosan.core.unmasking import cosine_counts, linear_counts
from kuosan.recipes.tune_texts import Judged, judge

L, N = 24, 40
LEVELS = list(range(L + 1))
BITS = L * log(2)


def passages(seed: int = 3) -> Tensor:
    """W of each in any order: a level of its own, and a cost that falls with what is there and with the place."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.rand(N, 1, 1, generator=generator, dtype=torch.float64)
    steep = 0.5 + torch.rand(N, 1, 1, generator=generator, dtype=torch.float64)
    each = (
        1 + 3 * own + 2 * steep / (1 + torch.arange(L))[:, None] + 0.1 * (torch.arange(L) % 3)
    )  # (passage, n, r)
    sums = torch.cat([torch.zeros(N, L, 1), each.cumsum(2)], 2)
    return (sums - sums.gather(2, torch.arange(L)[None, :, None].expand(N, L, 1))).triu(1)


def judged(own: Tensor, counts: Tensor, other: Tensor | None = None) -> Judged:
    return judge((own, LEVELS), (own if other is None else other, LEVELS), counts, L)


def by_hand(found: Tensor, counts: Tensor) -> Tensor:
    """Eq. 1 in bits per token."""
    total = torch.zeros(N, dtype=torch.float64)
    for low, high in zip(counts[:-1].tolist(), counts[1:].tolist(), strict=True):
        total += found[:, low, high]
    return total / BITS


@pytest.mark.parametrize("steps", [2, 3, 8])
def test_bits_and_savings_are_the_sums_of_their_definition(steps: int) -> None:
    own, other = passages(), passages(4)
    counts = profile_of(own, LEVELS, "spaced").counts(steps)
    found = judged(own, counts, other)
    linear, cosine = linear_counts(L, steps), cosine_counts(L, steps)
    each = {"optimal": by_hand(own, counts), "linear": by_hand(own, linear), "cosine": by_hand(own, cosine)}
    each["random"] = by_hand(other, linear)
    assert found.steps == steps and set(found.bits) == set(each) == {"optimal", *found.saving}
    for name, values in each.items():
        assert found.bits[name].value == pytest.approx(float(values.mean()), abs=1e-12)
        assert found.bits[name].stderr == pytest.approx(float(values.std()) / N**0.5, abs=1e-12)
    for name, saving in found.saving.items():
        less = each[name] - each["optimal"]
        assert saving.value == pytest.approx(float(less.mean()), abs=1e-12)
        assert saving.stderr == pytest.approx(float(less.std()) / N**0.5, abs=1e-12)
        # On the passages that it was fitted to nothing in its order costs less.
        assert name == "random" or saving.value >= -1e-12
    assert found.kept == "optimal"


def test_what_a_passage_costs_of_its_own_is_in_no_difference() -> None:
    """Nor in its error: that is what pairing is for."""
    own, counts = passages(), torch.tensor([0, 5, 11, L])
    width = (torch.arange(L + 1)[None] - torch.arange(L)[:, None]).clamp_min(0)
    noise = 100 * torch.rand(N, 1, 1, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    found, other = judged(own, counts), judged(own + noise * width, counts)
    for name in found.saving:
        assert found.saving[name].value == pytest.approx(other.saving[name].value, abs=1e-9)
        assert found.saving[name].stderr == pytest.approx(other.saving[name].stderr, abs=1e-9)


def test_the_guard_keeps_what_is_cheapest_on_the_passages_it_judges() -> None:
    """A schedule that was fitted to passages of another kind loses to one that was fitted to nothing; a random order
    is shown and never kept."""
    found = judged(passages(), torch.tensor([0, L - 2, L - 1, L]), 0 * passages())
    assert found.kept in ("linear", "cosine") and found.saving[found.kept].value < 0
    assert found.bits[found.kept].value == min(found.bits[k].value for k in ("optimal", "linear", "cosine"))
    assert found.bits["random"].value == 0
