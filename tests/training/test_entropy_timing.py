"""A density of times that learns: the closed form, no bias, no level starved, the same bits after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kuosan.core.entropy import entropy_rate
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine, Rectified, Schedule
from kuosan.training import checkpoint
from kuosan.training.objective import Denoising, Found
from kuosan.training.timing import (
    BINS,
    MEMORY,
    EntropyTiming,
    LogNormalTiming,
    LogSNRTiming,
    Timing,
    UniformTiming,
)
from kuosan.training.validation import validate
from tests.training.small import Points, exact, midpoints, state, training, walk

STEPS = 24


def learned(v: float = 0.05, **leaves: Any) -> EntropyTiming:
    """After many errors of the exact denoiser of N(0, v), without their noise."""
    timing: Timing = EntropyTiming(**leaves)
    for _ in range(120):
        log_snr = torch.linspace(-13.99, 13.99, 40 * BINS, dtype=torch.float64)
        timing = timing.after(log_snr, v / (1 + v * log_snr.exp()))
    assert isinstance(timing, EntropyTiming)
    return timing


@pytest.mark.parametrize("v", [1.0, 0.05])
def test_what_it_learns_of_gaussian_data_is_the_closed_form(v: float) -> None:
    timing = learned(v)
    middles = (timing.edges[1:] + timing.edges[:-1]) / 2
    wanted = entropy_rate(middles, v / (1 + v * middles.exp()))
    assert torch.allclose(timing.rates, wanted, rtol=0.02)


@pytest.mark.parametrize("resolution", [0.0, 0.3, 1.0])
def test_the_density_is_the_formula(resolution: float) -> None:
    """p(λ) ∝ ½ v/(1 + v SNR) / (ρ² + δ²), but for the floor."""
    v, schedule = 0.05, Cosine()
    timing = learned(v, resolution=resolution, floor=0.0)
    u = midpoints(400)[60:-60]
    t = timing.quantile(schedule, u)
    log_snr = schedule.log_snr(t)
    p = (timing.density(schedule, u) / -schedule.log_snr_rate(t)).detach()
    wanted = v / (1 + v * log_snr.exp()) / ((-log_snr).exp() + resolution**2)
    ratio = p / wanted
    assert float((ratio / ratio.median() - 1).abs().max()) < 0.2  # bins are half a unit of λ wide
    assert float((ratio / ratio.mean() - 1).mean().abs()) < 0.01


@pytest.mark.parametrize("schedule", [Cosine(), Rectified()], ids=["cosine", "rectified"])
def test_the_learned_density_is_one_over_the_quantile_functions_slope(schedule: Schedule) -> None:
    timing, step = learned(), 1e-6
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    slope = (timing.quantile(schedule, u + step) - timing.quantile(schedule, u - step)) / (2 * step)
    found = timing.density(schedule, u) * slope
    assert int(((found - 1).abs() < 1e-4).sum()) >= 97  # but where a difference straddles an edge
    assert bool((timing.quantile(schedule, u).diff() > 0).all())


def test_no_level_is_starved() -> None:
    timing = EntropyTiming(floor=0.1)
    for _ in range(50):  # a network that is right about everything but one level
        log_snr = torch.linspace(-13.9, 13.9, 1000, dtype=torch.float64)
        timing = timing.after(log_snr, torch.where(log_snr.abs() < 0.5, 1.0, 1e-9))
    u = midpoints(50_000)
    bins = ((Cosine().log_snr(timing.quantile(Cosine(), u)) + 14) / 0.5).floor().long().clamp(0, BINS - 1)
    share = torch.bincount(bins, minlength=BINS) / len(u)
    assert float(share.min()) > 0.9 * 0.1 / BINS and float(share.max()) > 0.2


def test_it_forgets() -> None:
    """What a network was wrong about at first does not count for ever."""
    timing, log_snr = EntropyTiming(), torch.full((int(MEMORY),), 2.2, dtype=torch.float64)
    for _ in range(3):
        timing = timing.after(log_snr, torch.full_like(log_snr, 50.0))
    for _ in range(12):
        timing = timing.after(log_snr, torch.full_like(log_snr, 1.0))
    seen = timing.rates[int((2.2 + 14) / 0.5)]
    assert float(seen) == pytest.approx(float(entropy_rate(log_snr[:1], torch.ones(1))), rel=0.02)
    assert float(timing.seen[1].max()) == pytest.approx(MEMORY)


@pytest.mark.parametrize("weight", ["uniform", "sigmoid"])
def test_weights_that_divide_by_the_density_keep_their_mean(weight: str) -> None:
    n, d = 12_000, 64
    seeds = Seeds.of(2, n)
    x = 0.3 * seeds.fold("x").normal(torch.empty(n, d, dtype=torch.float64))
    means = []
    for timing in (learned(0.09), EntropyTiming(), LogSNRTiming()):
        with torch.no_grad():
            loss = Denoising(weight, timing).at_quantiles(exact(Cosine(), "v", 0.3), x, midpoints(n), seeds)
        means.append(float(loss.mean()))
    assert means[0] == pytest.approx(means[2], rel=0.01)
    assert means[1] == pytest.approx(means[2], rel=0.01)


def test_the_bounds_losses_vary_less_than_at_even_log_snr() -> None:
    """At δ = 0 every level has the same loss: no other density of one x has less variance over levels."""
    n, d = 4000, 64
    seeds = Seeds.of(2, n)
    x = 0.3 * seeds.fold("x").normal(torch.empty(n, d, dtype=torch.float64))
    spread = []
    for timing in (learned(0.09, resolution=0.0, floor=0.0), LogSNRTiming()):
        with torch.no_grad():
            loss = Denoising("uniform", timing).at_quantiles(
                exact(Cosine(), "v", 0.3), x, midpoints(n), seeds
            )
        spread.append(float(loss.std() / loss.mean()))
    assert spread[0] < 0.25 < 0.5 < spread[1]


def test_losses_are_what_they_were_and_the_errors_are_those_of_x() -> None:
    n = 64
    seeds = Seeds.of(5, n)
    x = seeds.fold("x").normal(torch.empty(n, 7, dtype=torch.float64))
    objective, denoiser = Denoising("min_snr"), exact(Cosine(), "v")
    with torch.no_grad():
        found = objective.draw(denoiser, x, seeds)
        assert torch.equal(found.losses, objective(denoiser, x, seeds))
    assert found.errors is not None
    log_snr, squared = found.errors
    assert torch.allclose(found.losses, squared * log_snr.exp().clamp_max(5.0), rtol=1e-9)


def test_the_held_out_question_does_not_change() -> None:
    denoiser, items = exact(Cosine(), "v", 0.5), Points(9)
    asked = [
        validate(denoiser, Denoising("output", timing), items, torch.device("cpu"))
        for timing in (EntropyTiming(), learned(), UniformTiming())
    ]
    assert asked[0] == asked[1] == asked[2]
    usual = LogNormalTiming()
    assert EntropyTiming(usual).fixed is usual and usual.fixed is usual


def fresh(folder: Path, **leaves: Any) -> Any:
    return training(folder, objective=Denoising("output", EntropyTiming()), **leaves)


def everything(run: Any) -> dict[str, Any]:
    return state(run) | {"seen": run.objective.timing.seen.numpy().tobytes()}


def test_resumed_at_any_step_a_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    run = fresh(tmp_path / "whole")
    walk(run)
    wanted = everything(run)
    assert wanted["seen"] != EntropyTiming().seen.numpy().tobytes()
    for stop in (1, 2, 7, 12, 19, STEPS):
        walk(fresh(tmp_path / str(stop), save_seconds=0.0 if stop % 2 else 1e9), stop)
        again = fresh(tmp_path / str(stop))
        again.resume()
        walk(again)
        assert everything(again) == wanted


def test_the_statistic_matters_to_the_course(tmp_path: Path) -> None:
    """Forgotten at a resume, it would lead elsewhere: so the checkpoint must hold it."""
    run = fresh(tmp_path / "whole")
    walk(run)
    walk(fresh(tmp_path / "cut", save_seconds=0.0), 15)
    again = fresh(tmp_path / "cut")
    again.resume()
    again.objective = Denoising("output", EntropyTiming())
    walk(again)
    assert state(again) != state(run)
    tensors, _ = checkpoint.load(tmp_path / "whole" / "last")
    assert torch.equal(tensors["timing.seen"], run.objective.timing.seen)


def test_fixed_densities_leave_no_trace_in_a_checkpoint(tmp_path: Path) -> None:
    walk(training(tmp_path))
    assert not [k for k in checkpoint.load(tmp_path / "last")[0] if k.startswith("timing.")]


def test_a_step_that_is_not_finite_teaches_nothing(tmp_path: Path) -> None:
    class Broken(Denoising):
        def draw(self, *args: Any, **cond: Any) -> Found:
            found = super().draw(*args, **cond)
            return Found(found.losses * torch.nan, found.errors)

    run = training(tmp_path, objective=Broken("output", EntropyTiming()))
    before = run.objective.timing
    run._step(0.0)
    assert run.objective.timing is before and run.count.skipped == 1
