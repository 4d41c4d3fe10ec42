"""A learned schedule: its bound keeps its mean and loses its variance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kuosan.core.random import Seeds
from kuosan.core.schedules import Learned
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training.objective import Bound, Denoising, Objective
from tests.training.small import Net, exact, midpoints, state, training, walk

N = 512


def moments(denoiser: NetworkDenoiser, objective: Objective) -> tuple[float, float]:
    """Mean and variance of the loss over times, the noise within a level averaged out by its dimension."""
    seeds = Seeds.of(9, N)
    x = seeds.fold("x").normal(torch.empty(N, 256, dtype=torch.float64))
    with torch.no_grad():
        losses = objective.at_quantiles(denoiser, x, midpoints(N), seeds)
    return float(losses.mean()), float(losses.var())


class Units:
    """x ~ N(0, 1) in 32 dimensions."""

    def __len__(self) -> int:
        return 256

    def batch(
        self, index: torch.Tensor, seeds: object = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return Seeds.of(4, index.tolist()).normal(torch.empty(len(index), 32)), {}


@pytest.mark.parametrize("objective", [Bound(), Denoising("uniform")], ids=["bound", "uniform"])
def test_the_variance_falls_and_the_mean_stays(tmp_path: Path, objective: Objective) -> None:
    schedule = Learned(pieces=8)
    denoiser = exact(schedule, "v")
    mean, variance = moments(denoiser, objective)
    run = training(
        tmp_path, denoiser=denoiser, objective=objective, train=Units(), val=[], batch=32, steps=150, lr=0.05
    )  # type: ignore[arg-type]
    walk(run)
    assert float(schedule.fall.log_density.detach().abs().max()) > 0.1
    # All that is learned here is the schedule, so the mean is the information between its ends.
    new_mean, new_variance = moments(run.denoiser, objective)
    assert new_mean == pytest.approx(mean, rel=0.02)
    assert new_variance < 0.3 * variance


def test_network_and_schedule_learn_together_and_resume_to_the_bit(tmp_path: Path) -> None:
    def fresh(folder: Path, **leaves: Any) -> Any:
        denoiser = NetworkDenoiser(GaussianProcess(Learned(pieces=8)), Net())
        return training(folder, denoiser=denoiser, objective=Denoising("sigmoid"), **leaves)

    run = fresh(tmp_path / "whole")
    start = [p.detach().clone() for p in run.parameters]
    walk(run)
    assert all(not torch.equal(a, b) for a, b in zip(start, run.parameters, strict=True))
    for stop in (3, 17):
        walk(fresh(tmp_path / str(stop), save_seconds=0.0), stop)
        again = fresh(tmp_path / str(stop))
        again.resume()
        walk(again)
        assert state(again) == state(run)


def test_the_schedule_descends_the_second_moment_and_the_network_the_mean(tmp_path: Path) -> None:
    denoiser = NetworkDenoiser(GaussianProcess(Learned(pieces=4)), Net())
    objective = Denoising("uniform")
    run = training(tmp_path, denoiser=denoiser, objective=objective, clip=1e9)
    x, cond = run.train.batch(torch.arange(8))
    seeds = Seeds.of(0, 8)
    run.gradients.of(lambda part: objective.draw(denoiser, x, seeds, **cond), 8, [slice(0, 8)])
    got = {name: p.grad.clone() for name, p in denoiser.named_parameters() if p.grad is not None}
    for power, names in ((1, ("network.inner", "network.outer")), (2, ("schedule.fall.log_density",))):
        denoiser.zero_grad()
        objective(denoiser, x, seeds, **cond).pow(power).mean().backward()
        for name in names:
            assert torch.allclose(got[name], dict(denoiser.named_parameters())[name].grad, rtol=1e-5)
