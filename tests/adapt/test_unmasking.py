"""A measured unmasking profile: the exact one within its errors."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from kuosan.adapt.unmasking import measure_profile, stock_levels
from kuosan.core.curves import CosineSurvival, LinearSurvival
from kuosan.core.posteriors import Categorical, Posterior
from kuosan.core.random import Seeds
from kuosan.core.unmasking import cosine_counts, linear_counts
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


def exact(n: int) -> float:
    """D(n): the mean of H(x_i, x_seen) - H(x_seen) over sets of n and letters outside them."""
    pairs = [(seen, i) for seen in itertools.combinations(range(L), n) for i in range(L) if i not in seen]
    return sum(entropy((*seen, i)) - entropy(seen) for seen, i in pairs) / len(pairs)


def rows(n: int) -> Tensor:
    return WORDS[torch.multinomial(P, n, True, generator=torch.Generator().manual_seed(1))]


def test_it_is_the_exact_profile_within_its_errors() -> None:
    n = 4000
    denoiser = TableDenoiser(Masked(K, CosineSurvival()), WORDS, P)
    found = measure_profile(denoiser, rows(n), Seeds.of(0, n), batch=1000)
    assert found.revealed == (0, 1, 2, 3) == stock_levels(L) and found.length == L
    for got, error, level in zip(found.nats, found.errors, found.revealed, strict=True):
        assert 0 < error < 0.02 and abs(got - exact(level)) < 4 * error
    least = found.cost(found.counts(2))
    assert least <= min(found.cost(c(L, 2)) for c in (linear_counts, cosine_counts))


def test_the_errors_are_those_of_other_rows() -> None:
    """The scatter of twenty measurements is the standard error that each of them states."""
    denoiser, x = TableDenoiser(Masked(K, LinearSurvival()), WORDS, P), rows(20 * 200)
    found = [
        measure_profile(denoiser, part, Seeds.of(i, 200), (0, 2), batch=200)
        for i, part in enumerate(x.split(200))
    ]
    for level in range(2):
        scatter = torch.tensor([f.nats[level] for f in found]).std()
        stated = torch.tensor([f.errors[level] for f in found]).mean()
        assert 0.55 < float(scatter / stated) < 1.6  # of 19 degrees of freedom, at one in a thousand


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
    found = measure_profile(watcher, x, Seeds.of(0, n), (0, 2, 5), batch=4, label=label)
    assert len(watcher.shown) == 9
    for i, level in enumerate((0, 2, 5)):
        x_t, t, labels = (torch.cat(part) for part in zip(*watcher.shown[3 * i : 3 * i + 3], strict=True))
        seen = x_t != K
        assert seen.sum(1).tolist() == [level] * n and torch.equal(x_t[seen], x[seen])
        assert torch.allclose(watcher.process.keep(t), torch.full((n,), level / 6, dtype=F64), atol=1e-12)
        assert torch.equal(labels, label)
    assert found.nats == pytest.approx([torch.tensor(K).log().item()] * 3, rel=1e-7)


def test_it_does_not_depend_on_the_batch() -> None:
    denoiser, x = TableDenoiser(Masked(K, LinearSurvival()), WORDS, P), rows(30)
    one, other = (measure_profile(denoiser, x, Seeds.of(0, 30), batch=b) for b in (7, 30))
    assert one.nats == pytest.approx(other.nats, rel=1e-13)


def test_levels_are_denser_where_little_is_known() -> None:
    levels = stock_levels(256)
    assert levels[0] == 0 and levels[-1] == 255 and len(levels) == 17
    gaps = torch.tensor(levels).diff()
    assert bool((gaps.diff() >= -1).all()) and gaps[-1] > 10 * gaps[0]


def test_other_processes_and_lone_rows_are_refused() -> None:
    for process in (UniformNoise(K, LinearSurvival()), BlockMasked(K, LinearSurvival(), 2)):
        with pytest.raises(TypeError, match="one curve for all"):
            measure_profile(TableDenoiser(process, WORDS, P), rows(4), Seeds.of(0, 4))
    with pytest.raises(ValueError, match="two rows or more"):
        measure_profile(TableDenoiser(Masked(K, LinearSurvival()), WORDS, P), rows(1), Seeds.of(0, 1))
