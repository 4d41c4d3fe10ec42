"""What counts as worse: a paired difference beyond its error, which neither loss's own error shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kuosan.core.random import Seeds
from kuosan.training.validation import BEYOND, Validation, difference
from tests.training.small import Points, training, walk


def judged(each: torch.Tensor) -> Validation:
    n = len(each)
    return Validation(float(each.mean()), float(each.std() / n**0.5), n, (), "", tuple(each.tolist()))


def test_the_difference_is_that_of_pairs() -> None:
    a, b = [1.0, 5.0, 9.0, 2.0], [0.5, 4.0, 9.5, 1.0]
    d = torch.tensor([0.5, 1.0, -0.5, 1.0], dtype=torch.float64)
    assert difference(a, b) == (pytest.approx(0.5), pytest.approx(float(d.std()) / 2))


def test_a_shift_that_no_loss_s_own_error_shows_is_seen_in_pairs() -> None:
    items = torch.linspace(0, 10, 128, dtype=torch.float64)
    noise = 0.01 * Seeds.of(0, 128).normal(torch.empty(128, dtype=torch.float64))
    before, after = judged(items), judged(items + 0.01 + noise)
    assert after.loss - before.loss < 0.1 * before.stderr
    assert after.worse_than(before.each) and not before.worse_than(after.each)


def test_false_alarms_are_as_rare_as_two_errors_say() -> None:
    items, alarms, trials = torch.linspace(0, 10, 64, dtype=torch.float64), 0, 400
    for i in range(trials):
        noise = Seeds.of(i, 64).normal(torch.empty(64, dtype=torch.float64))
        alarms += judged(items + noise).worse_than(items.tolist())
    assert BEYOND == 2 and alarms / trials < 0.023 + 4 * (0.023 / trials) ** 0.5


def test_one_item_or_none_to_compare_with_is_never_worse() -> None:
    one = Validation(3.0, float("nan"), 1, (), "", (3.0,))
    assert not one.worse_than([1.0])
    assert not judged(torch.tensor([3.0, 4.0])).worse_than([])


def test_the_best_items_losses_are_those_of_the_best_step(tmp_path: Path) -> None:
    run = training(tmp_path, val=Points(9, 1))
    seen = {e.step: e.validation for e in walk(run) if e.validation}
    best = seen[run.count.best_step]
    assert run.count.best_each == list(best.each) and len(best.each) == 9
    assert sum(best.each) / 9 == pytest.approx(best.loss)
