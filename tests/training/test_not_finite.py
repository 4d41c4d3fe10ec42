"""Steps that are not finite: skipped and counted; repeated, the run goes back; persistent, it stops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.training import checkpoint
from kuosan.training.loop import Training
from kuosan.training.objective import Denoising, Found
from tests.training.small import Points, state, training, walk


def no_loss(losses: Tensor) -> Tensor:
    return losses * math.nan


def endless_loss(losses: Tensor) -> Tensor:
    return losses + math.inf


def no_gradient(losses: Tensor) -> Tensor:
    return losses + (losses * 0).sqrt()  # zero, with the slope 0 · inf


@dataclass(frozen=True)
class Poisoned(Denoising):
    """The ``n``-th call of training, counted from 1, gives something else."""

    calls: Callable[[int], bool] = field(default=lambda n: False)
    how: Callable[[Tensor], Tensor] = no_loss
    made: list[int] = field(default_factory=list)

    def draw(self, denoiser: Any, x: Any, seeds: Seeds, u: Any = None, **cond: Tensor) -> Found:
        found = super().draw(denoiser, x, seeds, u, **cond)
        self.made.append(1)
        return Found(self.how(found.losses), found.errors) if self.calls(len(self.made)) else found


def weights(run: Training) -> list[Tensor]:
    return [p.detach().clone() for m in (run.denoiser, run.average) for p in m.parameters()]


def finite(folder: Path) -> bool:
    return all(bool(torch.isfinite(v).all()) for v in checkpoint.load(folder)[0].values())


@pytest.mark.parametrize("how", [no_loss, endless_loss, no_gradient])
def test_a_step_that_is_not_finite_changes_nothing_but_the_count(
    tmp_path: Path, how: Callable[[Tensor], Tensor]
) -> None:
    bad = {1, 4, 5, 6, 20}
    run = training(tmp_path, objective=Poisoned(calls=bad.__contains__, how=how), save_seconds=0.0)
    before, skipped = weights(run), 0
    for event in run.run():
        after = weights(run)
        same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert same == (event.step in bad)
        assert (math.isfinite(event.loss) and math.isfinite(event.grad_norm)) == (event.step not in bad)
        skipped += event.step in bad
        assert run.count.skipped == skipped
        before = after
    assert run.count.finished and run.count.returns == 0 and run.count.step == 24
    assert finite(tmp_path / "last") and finite(tmp_path / "best")


def test_five_in_a_row_go_back_to_the_last_good_state_with_half_the_rate(tmp_path: Path) -> None:
    objective = Poisoned(calls=lambda n: 11 <= n <= 15)
    run = training(tmp_path, objective=objective, save_seconds=0.0)
    steps, good = [], None
    for event in run.run():
        steps.append(event.step)
        if len(steps) == 10:
            good = weights(run)
        if len(steps) == 15:  # back where the tenth step left everything
            assert event.step == 10 and run.count.returns == 1
            assert good is not None
            assert all(torch.equal(a, b) for a, b in zip(good, weights(run), strict=True))
        halved = 0.5 if len(steps) > 15 else 1.0
        if len(steps) != 15:
            assert event.lr == halved * run.settings.rate((event.step - 1) / 24, event.step - 1)
    assert steps == [*range(1, 15), 10, *range(11, 25)]
    assert (run.count.skipped, run.count.returns, run.count.rate_scale) == (5, 1, 0.5)
    assert "went back to step 10" in run.count.events[0] and "0.5" in run.count.events[0]
    assert run.count.finished and finite(tmp_path / "last")


def test_after_a_return_other_noise_is_drawn(tmp_path: Path) -> None:
    """The same noise would lead into the same hole."""
    seen: list[tuple[int, int]] = []

    @dataclass(frozen=True)
    class Watching(Poisoned):
        def look(self, denoiser: Any, x: Any, u: Any, seeds: Seeds, **cond: Tensor) -> Found:
            if len(seeds) == 8:  # training, not validation
                seen.append((seeds.keys[0], seeds.salt))
            return super().look(denoiser, x, u, seeds, **cond)

    run = training(tmp_path, objective=Watching(calls=lambda n: 11 <= n <= 15), save_seconds=0.0)
    walk(run)
    assert len(set(seen)) == len(seen) == 29


def test_what_stays_bad_stops_the_run_after_four_returns_with_the_good_state_kept(tmp_path: Path) -> None:
    run = training(tmp_path, objective=Poisoned(calls=lambda n: n > 6), save_seconds=0.0)
    good = None
    with pytest.raises(UserError, match="not finite.*4 returns.*training.lr") as told:
        for event in run.run():
            if len(run.objective.made) == 6:  # type: ignore[attr-defined]
                good = weights(run)
            assert event.step <= 11
    assert "\n" not in str(told.value)
    assert len(run.objective.made) == 6 + 25  # type: ignore[attr-defined]
    again = training(tmp_path)
    assert again.resume() and again.count.step == 6
    assert good is not None and all(torch.equal(a, b) for a, b in zip(good, weights(again), strict=True))


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    run = training(tmp_path, save_seconds=0.0)
    broken = False
    for event in run.run():
        assert finite(tmp_path / "last")
        if event.step == 12 and not broken:  # an update that overflowed
            run.parameters[0].data[0, 0] = math.inf
            broken = True
    assert run.count.finished and run.count.returns == 1 and run.count.rate_scale == 0.5
    assert "not finite" in run.count.events[0] and "step 11" in run.count.events[0]
    assert finite(tmp_path / "last")


def test_weights_that_are_not_finite_at_the_end_do_not_end_the_run(tmp_path: Path) -> None:
    run = training(tmp_path, save_seconds=0.0)
    broken = False
    for event in run.run():
        if event.step == 24 and not broken:
            run.average.network.inner.data.fill_(math.nan)  # type: ignore[union-attr,operator]
            broken = True
    assert broken and run.count.finished and run.count.step == 24 and run.count.returns == 1
    assert finite(tmp_path / "last")


def test_a_poisoned_item_is_met_again_after_a_resume_in_the_same_way(tmp_path: Path) -> None:
    def data() -> Points:
        points = Points(37)
        points.x[5, 1] = math.nan
        return points

    run = training(tmp_path / "whole", train=data())
    walk(run)
    assert run.count.skipped == 24 * 8 // 37 and run.count.returns == 0
    for stop in range(2, 24, 3):
        walk(training(tmp_path / str(stop), train=data(), save_seconds=0.0), stop)
        again = training(tmp_path / str(stop), train=data())
        again.resume()
        walk(again)
        assert state(again) == state(run)
