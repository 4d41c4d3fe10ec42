"""What a dry run says: operations that can be counted by hand, and losses that come true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kuosan.cli.dry_run import si
from kuosan.networks.choose import transformer_operations
from kuosan.recipes import expected as outlook
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import Recipe
from kuosan.training.validation import Validation
from tests.recipes import small


def judged(loss: float, stderr: float = 0.0) -> Validation:
    return Validation(loss, stderr, 9, (), "log-SNR", ())


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("floor", [0.0, 0.3, 1.0])
def test_power_laws_with_any_floor_end_within_the_bounds(beta: float, floor: float) -> None:
    def law(steps: int) -> float:
        return floor + 2 * steps**-beta

    found = outlook.extrapolated((10, 40), judged(law(10)), judged(law(40)), 4000)
    assert found.low - 1e-12 <= law(4000) <= found.high + 1e-12
    assert found.low <= found.value <= found.high == law(40)
    if floor == 0:  # the estimate is as far from either end, in factors, as it says
        assert found.value**4 == pytest.approx(found.low * found.high**3)
        assert found.low == pytest.approx(law(4000) ** 2 / law(40))
    assert outlook.extrapolated((10, 40), judged(law(10)), judged(law(40)), 40).value == pytest.approx(
        law(40)
    )
    wide = outlook.extrapolated((10, 40), judged(law(10)), judged(law(40), 0.1), 4000)
    assert wide.high - found.high == pytest.approx(0.2) == found.low - wide.low


def test_a_loss_that_rises_or_is_no_power_promises_nothing() -> None:
    for first, second in ((1.0, 1.2), (-0.5, -0.7)):
        found = outlook.extrapolated((10, 40), judged(first), judged(second), 4000)
        assert found.low == found.value == found.high == second


def test_what_is_expected_comes_true(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook, "PROBE", 0.0)
    monkeypatch.setattr(outlook, "FEWEST", 10)
    words = small.asked(budget="80steps")
    plan = settle(data, tmp_path / "run", Recipe().updated(words), words)
    found = outlook.expected(plan, 80, 0.01)
    assert isinstance(found, outlook.Expected) and found.steps == (10, 40)
    session = small.session(data, tmp_path / "run", budget="80steps")
    for _ in session.steps():
        pass
    assert found.low <= session.training.count.best_loss <= found.high < found.losses[0]


def test_operations_are_those_of_the_formula(data: Path, tmp_path: Path) -> None:
    words = small.asked(network__dim=96, network__depth=3, network__heads=3, network__patch=2)
    plan = settle(data, tmp_path / "run", Recipe().updated(words), words)
    training = outlook.throwaway(plan, 1, tmp_path / "probe")
    once = outlook.operations(training)
    formula = 8 * transformer_operations(16, 96, 3)  # of eight pictures of 16 patches
    # what every layer needs beside the blocks (conditions, patches) is counted too
    assert formula < once < 1.5 * formula
    training.settings = replace(training.settings, batch=16)
    assert outlook.operations(training) == pytest.approx(2 * once, rel=1e-6)
    assert all(p.grad is None for p in training.parameters)
    assert si(1.234e9) == "1.23 G" and si(5.0) == "5 "
