"""The order of the data and the hidden conditions: functions of the seed and the step, of nothing else."""

from __future__ import annotations

import pytest
import torch

from kuosan.core.random import Seeds
from kuosan.training.data import _permutation, batch_index, drop_conditions


@pytest.mark.parametrize(("batch", "count"), [(8, 37), (5, 5), (16, 7), (1, 3), (64, 1)])
def test_every_epoch_is_a_permutation(batch: int, count: int) -> None:
    epochs = 6
    steps = -(-epochs * count // batch)
    walked = torch.cat([batch_index(4, step, batch, count) for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(walked[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))


def test_the_order_changes_with_the_epoch_and_with_the_seed() -> None:
    orders = {
        tuple(batch_index(seed, epoch, 50, 50).tolist())
        for seed in (0, 1, -1, -2, 2**63 + 1)
        for epoch in range(4)
    }
    assert len(orders) == 20  # also for seeds that a float cannot tell apart


def test_the_order_does_not_depend_on_what_was_asked_before() -> None:
    wanted = [batch_index(3, step, 8, 37) for step in range(30)]
    for step in (29, 0, 17, 3, 28, 17):
        _permutation.cache_clear()
        assert torch.equal(batch_index(3, step, 8, 37), wanted[step])


def test_every_item_meets_every_place_equally_often() -> None:
    """A first place that some item prefers would show in χ² with nine degrees of freedom (0.1 %: 27.9)."""
    first = torch.stack([batch_index(seed, 0, 10, 10) for seed in range(2000)])[:, 0]
    counts = first.bincount(minlength=10).double()
    assert float(((counts - 200).square() / 200).sum()) < 27.9


def test_an_examples_conditions_are_hidden_together_and_as_often_as_asked() -> None:
    n, share = 20_000, 0.3
    cond = {"class": torch.arange(n) % 5, "colour": torch.arange(n) % 3}
    got = drop_conditions(cond, {"class": 5, "colour": 3}, share, Seeds.of(0, n))
    hidden = got["class"] == 5
    assert torch.equal(hidden, got["colour"] == 3)
    assert torch.equal(got["class"][~hidden], cond["class"][~hidden])
    assert float(hidden.double().mean()) == pytest.approx(share, abs=4 * (share * (1 - share) / n) ** 0.5)
    assert got["class"].dtype == torch.int64


def test_nothing_or_all_is_hidden_at_the_ends() -> None:
    cond, null, seeds = {"class": torch.arange(9)}, {"class": 9}, Seeds.of(0, 9)
    assert torch.equal(drop_conditions(cond, null, 0.0, seeds)["class"], cond["class"])
    assert drop_conditions(cond, null, 1.0, seeds)["class"].tolist() == [9] * 9
    assert drop_conditions({}, {}, 0.5, seeds) == {}


def test_whether_an_example_is_hidden_does_not_depend_on_its_neighbours() -> None:
    cond, null = {"class": torch.zeros(64, dtype=torch.int64)}, {"class": 1}
    whole = drop_conditions(cond, null, 0.5, Seeds.of(0, 64))["class"]
    for i in range(64):
        one = drop_conditions({"class": cond["class"][:1]}, null, 0.5, Seeds.of(0, [i]))["class"]
        assert int(one) == int(whole[i])
