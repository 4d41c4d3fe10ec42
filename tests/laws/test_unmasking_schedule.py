"""Laws of the unmasking schedule: its cost is a code length, its optimum an optimum, its grid what solvers follow."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from torch import Tensor

from kuosan.core.curves import CosineSurvival, LinearSurvival, Monotone, PolynomialSurvival
from kuosan.core.unmasking import (
    UnmaskingProfile,
    cosine_counts,
    linear_counts,
    times_of_counts,
    times_of_shares,
    unmasking_grid,
)
from kuosan.processes.blocks import BlockMasked

F64 = torch.float64


def some(length: int, seed: int, levels: tuple[int, ...] | None = None) -> UnmaskingProfile:
    """A table in which every token costs less the more are before it."""
    each = torch.rand(length, length, generator=torch.Generator().manual_seed(seed), dtype=F64)
    each = each.sort(0, descending=True).values  # what token r costs after n
    levels = tuple(range(length + 1)) if levels is None else levels
    rows = tuple(tuple(float(each[n, n:m].sum()) for m in levels[i + 1 :]) for i, n in enumerate(levels[:-1]))
    return UnmaskingProfile(levels, rows)


def all_counts(length: int, steps: int) -> list[Tensor]:
    inner = itertools.combinations(range(1, length), steps - 1)
    return [torch.tensor([0, *c, length]) for c in inner]


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_the_optimum_is_that_of_all_schedules(length: int) -> None:
    for seed in range(4):
        profile = some(length, seed)
        for steps in range(1, length + 1):
            least = min(profile.cost(counts) for counts in all_counts(length, steps))
            found = profile.counts(steps)
            assert len(found) == steps + 1 and profile.cost(found) == pytest.approx(least, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 7, 30, 60])
def test_stock_schedules_cost_no_less(steps: int) -> None:
    for seed in range(4):
        profile = some(60, seed)
        stock = [profile.cost(counts(60, steps)) for counts in (linear_counts, cosine_counts)]
        assert min(stock) >= profile.cost(profile.counts(steps)) - 1e-12


def test_more_steps_cost_less_and_one_per_token_the_sum() -> None:
    profile = some(12, 1)
    costs = [profile.cost(profile.counts(steps)) for steps in range(1, 13)]
    assert all(a > b for a, b in itertools.pairwise(costs))
    assert costs[0] == pytest.approx(profile.nats[0][-1])
    assert costs[-1] == pytest.approx(sum(row[0] for row in profile.nats))
    for counts in (linear_counts(12, 12), cosine_counts(12, 12), profile.counts(12)):
        assert counts.tolist() == list(range(13))


def test_only_measured_counts_are_used_and_even_ones_where_these_are_too_few() -> None:
    levels = (0, 2, 3, 7, 10)
    profile, every = some(10, 5, levels), some(10, 5)
    for steps in range(1, 5):
        found = profile.counts(steps)
        assert set(found.tolist()) <= set(levels) and profile.cost(found) == pytest.approx(every.cost(found))
        allowed = [c for c in all_counts(10, steps) if set(c.tolist()) <= set(levels)]
        assert profile.cost(found) == pytest.approx(min(every.cost(c) for c in allowed))
    assert torch.equal(profile.counts(6), linear_counts(10, 6))
    with pytest.raises(ValueError, match="was measured at"):
        profile.cost(torch.tensor([0, 5, 10]))


def test_what_a_token_costs_from_count_to_count() -> None:
    profile = some(10, 5, (0, 2, 3, 7, 10))
    expected = [row[0] / width for row, width in zip(profile.nats, (2, 1, 4, 3), strict=True)]
    assert profile.per_token().tolist() == pytest.approx(expected)


K, L = 3, 4
WORDS = torch.cartesian_prod(*(torch.arange(K) for _ in range(L)))
P = torch.rand(K**L, generator=torch.Generator().manual_seed(4), dtype=F64).square() + 0.002
P /= P.sum()


def given(i: int, seen: tuple[int, ...]) -> Tensor:
    """log p(x_i | x_seen) of every word, by summing over all words."""
    same = WORDS[:, None] == WORDS[None]  # (word, other word, position)
    fits = same[..., list(seen)].all(-1)
    return ((fits & same[..., i]).double() @ P).log() - (fits.double() @ P).log()


ORDER = (2, 0, 3, 1)


def exact_profile(orders: list[tuple[int, ...]]) -> UnmaskingProfile:
    """W of the language, over all words, in the mean over the orders."""
    rows = []
    for n in range(L):
        ahead = [
            [-sum(float(P @ given(i, order[:n])) for i in order[n:m]) for m in range(n + 1, L + 1)]
            for order in orders
        ]
        rows.append(tuple(torch.tensor(ahead, dtype=F64).mean(0).tolist()))
    return UnmaskingProfile(tuple(range(L + 1)), tuple(rows))


@pytest.mark.parametrize("orders", [[ORDER], list(itertools.permutations(range(L)))], ids=["one", "all"])
def test_the_cost_is_the_code_length_of_the_sampler(orders: list[tuple[int, ...]]) -> None:
    """-log of the sampler's probability, over all words and the orders that its steps can be cut from."""
    profile = exact_profile(orders)
    for counts in (c for steps in range(1, L + 1) for c in all_counts(L, steps)):
        cuts = list(itertools.pairwise(counts.tolist()))
        lengths = [-sum(given(i, order[:a]) for a, b in cuts for i in order[a:b]) for order in orders]
        expected = float(torch.stack(lengths).mean(0) @ P)
        assert profile.cost(counts) == pytest.approx(expected, rel=1e-12)
    entropy = float(-(P * P.log()).sum())
    assert profile.cost(torch.arange(L + 1)) == pytest.approx(entropy, rel=1e-12), (
        "the chain rule: nothing is lost"
    )


def test_a_profile_goes_through_json() -> None:
    profile = some(9, 2, (0, 3, 4, 9))
    assert UnmaskingProfile.of_json(json.loads(json.dumps(profile.to_json()))) == profile


@pytest.mark.parametrize(
    ("levels", "nats"),
    [
        ((), ()),
        ((0,), ()),
        ((1, 6), ((1.0,),)),
        ((0, 0, 6), ((1.0, 1.0), (1.0,))),
        ((0, 3, 6), ((1.0, 1.0),)),
        ((0, 3, 6), ((1.0,), (1.0, 1.0))),
        ((0, 3, 6), ((1.0, math.nan), (1.0,))),
        ((0, 3, 6), ((1.0, 2.0), (-0.1,))),
    ],
)
def test_what_is_no_profile_is_refused(levels: tuple, nats: tuple) -> None:
    with pytest.raises(ValueError, match="unmasking profile"):
        UnmaskingProfile(levels, nats)


def test_schedules_of_no_step_or_of_more_steps_than_tokens_are_refused() -> None:
    for steps in (0, 6):
        for schedule in (some(5, 0).counts, lambda k: linear_counts(5, k), lambda k: cosine_counts(5, k)):
            with pytest.raises(ValueError, match="in 1 to 5 steps"):
                schedule(steps)
    for wrong in ([0, 5, 5], [1, 5], [0, 4], [5], [0, 3, 2, 5]):
        with pytest.raises(ValueError, match="rise from 0 to 5"):
            some(5, 0).cost(torch.tensor(wrong))


@pytest.mark.parametrize("length", [1, 7, 64, 257])
def test_stock_counts_rise_and_follow_their_curves(length: int) -> None:
    for steps in {1, max(1, length // 5), length}:
        part = torch.linspace(0, 1, steps + 1, dtype=F64)
        linear, cosine = linear_counts(length, steps), cosine_counts(length, steps)
        for counts in (linear, cosine):
            assert counts[0] == 0 and counts[-1] == length and bool((counts.diff() >= 1).all())
        assert float((linear - length * part).abs().max()) <= 0.5
        wanted = length * (1 - torch.cos(torch.pi / 2 * part))
        rounded = (cosine - wanted).abs() <= 0.5 + 1e-9
        # Where it is off, it is because a step reveals one token at least, and never by more than that asks for.
        assert bool((rounded | (cosine.diff(prepend=torch.tensor([-1])) == 1)).all())
    assert cosine_counts(64, 8).tolist() == [0, 1, 5, 11, 19, 28, 40, 52, 64]


def bent() -> Monotone:
    rise = Monotone(5)
    rise.log_density.data = torch.tensor([0.3, -1.0, 2.0, 0.1, -0.4, 1.2], dtype=F64)
    return rise


SURVIVALS = {
    "linear": LinearSurvival(),
    "cosine": CosineSurvival(),
    "poly": PolynomialSurvival(0.3),
    "learned": lambda t: 1 - bent()(t),
    "blocks": BlockMasked(K, CosineSurvival(), 4).survival(torch.zeros(1, 10, dtype=torch.long)),
}


@pytest.mark.parametrize("name", sorted(SURVIVALS))
@torch.no_grad()
def test_a_grid_of_counts_has_their_share_of_survivors(name: str) -> None:
    counts = torch.tensor([0, 1, 2, 4, 5, 9, 10])
    grid = times_of_counts(counts, SURVIVALS[name])
    assert grid[0] == 1 and grid[-1] == 0 and bool((grid.diff() < 0).all())
    assert torch.allclose(SURVIVALS[name](grid), counts.double() / 10, rtol=0, atol=1e-12)


def test_grids_by_name() -> None:
    keep = CosineSurvival()
    even = torch.linspace(1, 0, 9, dtype=F64)
    assert torch.equal(unmasking_grid("uniform", 8, keep), even)
    assert torch.allclose(unmasking_grid("cosine", 8, keep), even, atol=1e-12)  # the curve's own
    assert torch.allclose(keep(unmasking_grid("linear", 8, keep)), even.flip(0), atol=1e-12)
    assert torch.allclose(unmasking_grid("linear", 8, LinearSurvival()), even, atol=1e-12)
    profile = some(20, 3)
    optimal = unmasking_grid("optimal", 8, keep, profile)
    assert torch.allclose(keep(optimal) * 20, profile.counts(8).double(), atol=1e-9)
    with pytest.raises(ValueError, match="needs an unmasking profile"):
        unmasking_grid("optimal", 8, keep)
    with pytest.raises(ValueError, match="choose uniform, linear, cosine or optimal"):
        unmasking_grid("karras", 8, keep)
    with pytest.raises(ValueError, match="one step or more"):
        unmasking_grid("linear", 0, keep)
    assert times_of_shares(torch.tensor([0.0, 1.0], dtype=F64), keep).tolist() == [1.0, 0.0]
