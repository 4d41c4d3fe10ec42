"""The batch that a budget of time has: enough steps, and a rate that goes with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kuosan.recipes.image import LATENT_BATCH, STEPS, _batch
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import Recipe, TrainingPart


@pytest.mark.parametrize("numbers", [784, 12_288])
def test_few_samples_make_more_steps_and_many_leave_the_batch_as_it_is(numbers: int) -> None:
    usual, rate, _ = _batch(numbers, 10**6, None, False)
    assert (usual, rate) == (128 if numbers == 784 else 64, 1)
    assert _batch(numbers, 10**6, 1e9, False)[:2] == (usual, 1)
    found = [_batch(numbers, 10**6, 10**k, False)[:2] for k in (2.0, 4.0, 4.5, 5.0, 5.5, 6.0)]
    assert found == sorted(found) and found[0][0] == 8
    for samples, (batch, slower) in zip((10**4.5, 10**5.0, 10**5.5), found[2:5], strict=True):
        assert batch == 8 or STEPS <= samples / batch < 2 * STEPS or batch == usual
        assert slower == pytest.approx((batch / usual) ** 0.25)


def test_latents_and_few_items_have_bounds_of_their_own() -> None:
    assert _batch(8192, 1000, None, True)[:2] == (LATENT_BATCH, 1)
    assert _batch(784, 20, 1e9, False)[0] == 16  # no item twice in half of the batches
    assert _batch(784, 3, 1e9, False)[0] == 8


def test_a_budget_of_time_decides_and_a_wish_stands(data: Path, tmp_path: Path) -> None:
    def training(**leaves: object) -> TrainingPart:
        words = {key.replace("__", "."): value for key, value in leaves.items()}
        return settle(data, tmp_path / "run", Recipe().updated(words), words).facts.recipe.training

    steps, seconds = training(budget="5steps"), training(budget="1s")
    assert steps.batch != "auto" and seconds.batch == 8 < steps.batch
    assert float(seconds.lr) < float(steps.lr)
    asked = training(budget="1s", training__batch=4)
    assert asked.batch == 4 and float(asked.lr) > float(seconds.lr)
