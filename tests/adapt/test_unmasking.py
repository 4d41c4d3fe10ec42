"""A measured unmasking profile: the exact one within its errors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from kuosan.adapt.unmasking import costs, measure_profile, stock_levels
from kuosan.core.curves import CosineSurvival, LinearSurvival
from kuosan.core.posteriors import Categorical, Posterior
from kuosan.core.random import Seeds
from kuosan.core.unmasking import linear_counts
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import TableDenoiser
from kuosan.processes.blocks import BlockMasked
from kuosan.processes.discrete import Masked, UniformNoise

F64 = torch.float64
K, L = 3, 4
WORDS = torch.cartesian_prod(*(torch.arange(K) for _ in range(L)))
P = torch.rand(K**L, generator=torch.Generator().manual_seed(4), dtype=F64).square() + 0.002
P /= P.sum()


def entropy(kept: tuple[int, ...]) -> float:
    """Of these letters of a word."""
    code = (WORDS[:, list(kept)] * K ** torch.arange(len(kept))).sum(1)
    p = torch.zeros(K**L, dtype=F64).index_add_(0, code, P)
    return float(-torch.xlogy(p, p).sum())


def exact(n: int, m: int, orders: list[tuple[int, ...]]) -> float:
    """W(n, m): the mean over orders of H(x_i, x_seen) - H(x_seen), for the letters n … m - 1 of the order."""
    each = [sum(entropy((*o[:n], i)) - entropy(o[:n]) for i in o[n:m]) for o in orders]
    return sum(each) / len(each)


ALL = list(itertools.permutations(range(L)))
TURNED = [tuple((p + shift) % L for p in (0, 2, 1, 3)) for shift in range(L)]


def rows(n: int) -> Tensor:
    return WORDS[torch.multinomial(P, n, True, generator=torch.Generator().manual_seed(1))]


@pytest.mark.parametrize(("order", "orders"), [("first-hitting", ALL), ("spaced", TURNED)])
def test_it_is_the_exact_profile_within_its_errors(order: str, orders: list[tuple[int, ...]]) -> None:
    n, levels = 4000, (0, 1, 2, 3, 4)
    denoiser = TableDenoiser(Masked(K, CosineSurvival()), WORDS, P)
    found = costs(denoiser, rows(n), Seeds.of(0, n), levels, order=order, batch=1000)
    errors = found.std(0) / n**0.5
    for i in range(L):
        assert not found[:, i, : i + 1].any()
        for j in range(i + 1, L + 1):
            assert 0 < errors[i, j] < 0.05
            assert abs(float(found[:, i, j].mean()) - exact(i, j, orders)) < 4 * errors[i, j]
    profile = measure_profile(denoiser, rows(n), Seeds.of(0, n), order=order, batch=1000)
    assert profile.levels == levels and profile.order == order
    for i, row in enumerate(profile.nats):
        assert row == pytest.approx(found[:, i, i + 1 :].mean(0).tolist(), rel=1e-12)


def test_far_apart_costs_less_where_neighbours_hang_together() -> None:
    """A chain of eight letters of two, in two, three and four even steps; one per token is the same in any order."""
    words = torch.cartesian_prod(*(torch.arange(2) for _ in range(8)))
    p = torch.where(words.diff(dim=1) == 0, 0.9, 0.1).double().prod(1) / 2
    x = words[torch.multinomial(p, 2000, True, generator=torch.Generator().manual_seed(1))]
    denoiser = TableDenoiser(Masked(2, LinearSurvival()), words, p)
    far, near = (
        costs(denoiser, x, Seeds.of(0, 2000), range(9), order=o, batch=2000)
        for o in ("spaced", "first-hitting")
    )
    for steps in (2, 3, 4):
        at = linear_counts(8, steps)
        less = (near - far)[:, at[:-1], at[1:]].sum(1)
        assert float(less.mean()) > 4 * float(less.std()) / 2000**0.5
    one = [float(w.diagonal(1, 1, 2).sum(1).mean()) for w in (far, near)]
    assert abs(one[0] - one[1]) < 0.3


class Watcher(Denoiser):
    """Writes down what it is shown."""

    process = Masked(K, CosineSurvival())

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Posterior:
        self.shown.append((x_t, t, cond["label"]))
        return Categorical(torch.zeros(*x_t.shape, K))


def test_each_level_shows_its_count_at_its_time_with_the_rows_conditions() -> None:
    n, watcher, label = 10, Watcher(), torch.arange(10)
    x = torch.arange(n * 6).remainder(K).reshape(n, 6)
    found = measure_profile(watcher, x, Seeds.of(0, n), (0, 2, 5, 6), batch=4, label=label)
    assert len(watcher.shown) == 9
    for i, level in enumerate((0, 2, 5)):
        x_t, t, labels = (torch.cat(part) for part in zip(*watcher.shown[3 * i : 3 * i + 3], strict=True))
        seen = x_t != K
        assert seen.sum(1).tolist() == [level] * n and torch.equal(x_t[seen], x[seen])
        assert torch.allclose(watcher.process.keep(t), torch.full((n,), level / 6, dtype=F64), atol=1e-12)
        assert torch.equal(labels, label)
    assert found.per_token().tolist() == pytest.approx([math.log(K)] * 3, rel=1e-7)


def test_it_does_not_depend_on_the_batch() -> None:
    denoiser, x = TableDenoiser(Masked(K, LinearSurvival()), WORDS, P), rows(30)
    one, other = (costs(denoiser, x, Seeds.of(0, 30), (0, 2, 4), batch=b) for b in (7, 30))
    assert torch.allclose(one, other, rtol=1e-13)


def test_levels_hold_those_of_even_schedules() -> None:
    assert stock_levels(5) == (0, 1, 2, 3, 4, 5)
    levels = stock_levels(256)
    assert len(levels) == 33 and all(
        set(linear_counts(256, k).tolist()) <= set(levels) for k in (1, 2, 4, 8, 16, 32)
    )


def test_other_processes_are_refused() -> None:
    for process in (UniformNoise(K, LinearSurvival()), BlockMasked(K, LinearSurvival(), 2)):
        with pytest.raises(TypeError, match="one curve for all"):
            measure_profile(TableDenoiser(process, WORDS, P), rows(4), Seeds.of(0, 4))
