"""Laws of randomness: a draw is a function of its example's key and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from kuosan.core import random
from kuosan.core.random import _SHARE, Seeds

SHAPE = (3, 4, 5)
DRAWS = ["normal", "uniform"]


def draw(
    kind: str, seeds: Seeds, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    like = torch.empty(len(seeds), *shape, dtype=dtype)
    return seeds.normal(like) if kind == "normal" else seeds.uniform(like)


@pytest.mark.parametrize("kind", DRAWS)
def test_a_draw_is_the_same_alone_in_any_batch_and_in_any_order(kind: str) -> None:
    together = draw(kind, Seeds.of(7, 6).fold("noise", 3))
    order = [4, 0, 5, 2]
    assert torch.equal(draw(kind, Seeds.of(7, order).fold("noise", 3)), together[order])
    assert torch.equal(draw(kind, Seeds.of(7, 6)[2:5].fold("noise", 3)), together[2:5])
    for i in range(6):
        assert torch.equal(draw(kind, Seeds.of(7, [i]).fold("noise", 3))[0], together[i])


@pytest.mark.parametrize("kind", DRAWS)
def test_a_draw_repeats_because_nothing_is_consumed(kind: str) -> None:
    seeds = Seeds.of(1, 3)
    first = draw(kind, seeds)
    draw(kind, seeds.fold("other"))
    assert torch.equal(draw(kind, seeds), first)


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_narrow_draw_is_the_double_one_rounded(kind: str, dtype: torch.dtype) -> None:
    seeds = Seeds.of(2, 4)
    assert torch.equal(draw(kind, seeds, dtype=dtype), draw(kind, seeds).to(dtype))


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    seeds = Seeds.of(0, 2)
    assert torch.equal(draw("normal", seeds, (40,))[:, :7], draw("normal", seeds, (7,)))


@pytest.mark.parametrize("kind", DRAWS)
def test_draws_follow_their_law_within_and_across_examples(kind: str) -> None:
    """Kolmogorov–Smirnov and four moments, along one example and across many."""
    law = stats.norm() if kind == "normal" else stats.uniform()
    wide = draw(kind, Seeds.of(11, 2), (20_000,)).numpy()
    tall = draw(kind, Seeds.of(11, 4_000).fold("x"), ()).numpy()
    for sample in (wide[0], wide[1], tall):
        assert stats.kstest(sample, law.cdf).pvalue > 1e-3
        for power in (1, 2, 3, 4):
            expected, fourth = law.moment(power), law.moment(2 * power)
            error = np.sqrt((fourth - expected**2) / len(sample))
            assert abs(np.mean(sample**power) - expected) < 4 * error


def test_draws_of_other_examples_folds_and_roots_are_uncorrelated() -> None:
    n, shape = 20_000, (20_000,)
    base = Seeds.of(0, 2)
    rows = torch.cat(
        [
            draw("normal", seeds, shape)
            for seeds in (
                base,
                base.fold("keep"),
                base.fold("noise"),
                base.fold(0),
                base.fold(1),
                base.fold(0, 1),
                base.fold(1, 0),
                Seeds.of(1, 2),
                Seeds.of(2**40, 2),
            )
        ]
    )
    correlation = np.corrcoef(rows.numpy()) - np.eye(len(rows))
    assert np.abs(correlation).max() < 5 / np.sqrt(n)
    # neighbours in number and step, which is how a batch and a trajectory count
    first = np.stack([draw("normal", Seeds.of(3, 2_000).fold(step), ()).numpy() for step in range(4)])
    assert np.abs(np.corrcoef(first) - np.eye(4)).max() < 5 / np.sqrt(2_000)
    assert abs(np.corrcoef(first[0][:-1], first[0][1:])[0, 1]) < 5 / np.sqrt(2_000)


def test_all_64_bits_of_a_seed_count() -> None:
    """Also above 2^63, where negative seeds live and floating point would merge neighbours."""
    roots = [0, 1, -1, -2, 2**53 + 1, 2**53, 2**63 - 1, 2**63, 2**63 + 1]
    draws = {draw("uniform", Seeds.of(root, 1), ()).item() for root in roots}
    assert len(draws) == len(roots)
    assert Seeds.of(-1, 1) == Seeds.of(2**64 - 1, 1)


def test_a_hundred_thousand_examples_are_distinct_under_every_fold() -> None:
    """By what they draw: of 2^53 numbers no two of 300,000 should meet (a chance of 5 in a million)."""
    base = Seeds.of(0, 100_000)
    seen = np.concatenate([seeds.uniforms() for seeds in (base, base.fold(0), base.fold("x", 1))])
    assert len(np.unique(seen)) == 300_000


def test_folds_compose() -> None:
    seeds = Seeds.of(4, 3)
    assert torch.equal(draw("normal", seeds.fold("x").fold(2)), draw("normal", seeds.fold("x", 2)))
    assert not torch.equal(draw("normal", seeds.fold(2, "x")), draw("normal", seeds.fold("x", 2)))


def test_a_number_for_other_generators_depends_on_seed_example_and_purpose() -> None:
    numbers = {
        seeds.number()
        for seeds in (*(Seeds.of(r, [i]) for r in (0, 1, -1) for i in range(3)), Seeds.of(0, 1).fold("x"))
    }
    assert len(numbers) == 10 and all(0 <= number < 2**63 for number in numbers)


def test_one_number_per_example() -> None:
    seeds = Seeds.of(5, 8)
    assert draw("normal", seeds, ()).shape == (8,)
    assert torch.equal(seeds.uniforms(), draw("uniform", seeds, ()))
    assert seeds.uniforms().dtype == torch.float64
    assert torch.equal(draw("normal", seeds, ()), draw("normal", seeds, (1,))[:, 0])


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0,)])
def test_empty_draws_have_their_shape(shape: tuple[int, ...]) -> None:
    assert Seeds.of(0, shape[0]).normal(torch.empty(shape)).shape == shape


@pytest.mark.parametrize("examples", [1, 3])
def test_each_example_needs_its_own_seed(examples: int) -> None:
    with pytest.raises(ValueError, match=f"2 seeds for {examples} examples"):
        Seeds.of(0, 2).normal(torch.empty(examples, 4))


@pytest.mark.parametrize("examples", [1, 2, 7])
def test_threads_that_share_a_draw_change_nothing(examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    like, seeds = torch.empty(examples, 3 * _SHARE), Seeds.of(5, examples).fold("threads")
    alone = seeds.normal(like)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    made: list[int] = []
    pool = random.ThreadPoolExecutor
    monkeypatch.setattr(random, "ThreadPoolExecutor", lambda n: made.append(n) or pool(n))
    assert torch.equal(seeds.normal(like), alone)
    assert made == ([min(3, examples)] if examples > 1 else [])
