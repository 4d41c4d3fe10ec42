"""Spikes: healthy losses never are one, whatever their law; divergence is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.training import spikes
from kuosan.training.objective import Denoising, Found
from tests.training.small import state, training

STEPS = 6000


def alarms(values: Iterator[float] | list[float]) -> list[int]:
    seen: list[float] = []
    out = []
    for step, value in enumerate(values):
        seen = spikes.after(seen, value)
        if spikes.row(seen) == spikes.ROW:
            out.append(step)
    return out


def healthy(name: str, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(STEPS)
    tail = np.exp(2 * rng.standard_normal(STEPS))
    return {
        "gaussian": 1 + 0.1 * rng.standard_normal(STEPS),
        "log-normal": tail,
        "cauchy": np.abs(rng.standard_cauchy(STEPS)),
        "rare giants": np.where(rng.random(STEPS) < 0.05, 1e4, rng.random(STEPS)),
        "falling, heavy at first": (1 + 50 * np.exp(-t / 100)) * (1 + 0.2 * tail * np.exp(-t / 500)),
        "below zero": -3 + 0.05 * rng.standard_normal(STEPS),
        "rising slowly": (1 + t / 300) * (1 + 0.1 * rng.standard_normal(STEPS)),
        "a higher level": np.where(t < 3000, 1.0, 1.5) + 0.1 * rng.standard_normal(STEPS),
        "constant": np.ones(STEPS),
        "few in a row": np.where(t % 50 < spikes.ROW - 1, 100.0, 1.0) + 0.1 * rng.standard_normal(STEPS),
    }[name]


HEALTHY = (
    "gaussian", "log-normal", "cauchy", "rare giants", "falling, heavy at first", "below zero", "rising slowly",
    "a higher level", "constant", "few in a row",
)  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_losses_raise_no_alarm(name: str) -> None:
    rng = np.random.default_rng(HEALTHY.index(name))
    assert alarms(healthy(name, rng).tolist()) == []


@pytest.mark.parametrize("rate", [1.1, 1.5, 10.0])
def test_divergence_raises_one_before_it_has_gone_far(rate: float) -> None:
    rng = np.random.default_rng(1)
    values = 1 + 0.1 * rng.standard_normal(400)
    values[200:] *= rate ** np.arange(1, 201.0)
    first = alarms(values.tolist())[0]
    exceeds = next(t for t in range(200, 400) if values[t] > 4)
    assert 200 <= first <= exceeds + 2 * spikes.ROW


def test_a_jump_raises_one_after_exactly_so_many_steps() -> None:
    values = [1.0, 1.1] * 60 + [50.0] * 20
    assert alarms(values)[0] == 120 + spikes.ROW - 1


def test_the_scale_and_the_place_of_losses_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.random(150), 30 + rng.random(12)])
    assert (
        alarms(values.tolist()) == alarms((1e-9 * values).tolist()) == alarms((1e9 * values).tolist()) != []
    )


@dataclass(frozen=True)
class Jumping(Denoising):
    """Losses, and so gradients, times something from the ``n``-th call on."""

    factor: Callable[[int], float] = field(default=lambda n: 1.0)
    made: list[int] = field(default_factory=list)

    def draw(self, denoiser: Any, x: Any, seeds: Seeds, u: Any = None, **cond: Tensor) -> Found:
        found = super().draw(denoiser, x, seeds, u, **cond)
        self.made.append(1)
        return Found(found.losses * self.factor(len(self.made)), found.errors)


def test_a_run_that_spikes_goes_back_with_half_the_rate_and_resumes_to_the_bit(tmp_path: Path) -> None:
    def fresh(folder: Path, calls: int = 0) -> Any:
        jumping = Jumping(factor=lambda n: 1e4 if 141 <= n + calls < 147 else 1.0)
        return training(folder, objective=jumping, steps=150, val=[])  # type: ignore[arg-type]

    def to_the_end(run: Any, stop: int = 0) -> list[int]:
        steps = []
        for event in run.run():
            steps.append(event.step)
            if event.step == 138:  # from here on it saves at every step that is not in doubt
                run.settings = replace(run.settings, save_seconds=0.0)
            if event.step == stop:
                break
        return steps

    run = fresh(tmp_path / "whole")
    assert to_the_end(run) == [*range(1, 146), 140, *range(141, 151)]
    assert (run.count.returns, run.count.rate_scale, run.count.skipped) == (1, 0.5, 0)
    assert "far above its range" in run.count.events[0] and "went back to step 140" in run.count.events[0]
    to_the_end(fresh(tmp_path / "killed"), 144)
    again = fresh(tmp_path / "killed", 140)
    again.resume()
    assert again.count.step == 140 and len(again.count.losses) == spikes.WINDOW + spikes.ROW
    assert to_the_end(again)[:6] == [141, 142, 143, 144, 145, 140]
    assert state(again) == state(run)


def test_what_stays_high_stops_no_run(tmp_path: Path) -> None:
    def factor(n: int) -> float:
        return 1.0 if n < 130 else 1e4

    run = training(tmp_path, objective=Jumping(factor=factor), steps=140, val=[])  # type: ignore[arg-type]
    for event in run.run():
        if event.step == 128 and not run.count.returns:
            run.save()
    assert run.count.finished and run.count.returns == 4 and math.isfinite(run.count.losses[-1])
