"""Averages after the fact: products, combinations and thinning in closed form; files that never mix histories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.training import ema
from kuosan.training.averages import MOST, TRACKED, Averages, Basis, Kept, step_of
from kuosan.training.posthoc import Profile, coefficients, products, thinned
from tests.training.small import state, training, walk

STEPS, WIDTH = 640, 40


def density(p: Profile, n: int, parts: int = 20) -> np.ndarray:
    """A profile's weight on each of ``parts`` pieces of each of ``n`` steps."""
    place = np.arange(n * parts + 1) / parts
    return np.diff(np.minimum(place / p.step, 1) ** (ema.gamma_of(p.std) + 1))


@pytest.mark.parametrize("a", [Profile(0.05, 30), Profile(0.1, 40), Profile(0.25, 12)])
@pytest.mark.parametrize("b", [Profile(0.05, 40), Profile(0.02, 25), Profile(0.1, 12)])
def test_products_are_the_integrals_of_the_profiles(a: Profile, b: Profile) -> None:
    parts = 400
    wanted = float(density(a, 40, parts) @ density(b, 40, parts)) * parts
    assert products([a], [b])[0, 0] == pytest.approx(wanted, rel=2e-4)
    assert products([b], [a])[0, 0] == pytest.approx(products([a], [b])[0, 0], rel=1e-12)


def kept(steps: int, count: int = MOST) -> list[Profile]:
    return [Profile(std, steps * (i + 1) // count) for i in range(count) for std in TRACKED]


def test_what_is_kept_comes_back_alone() -> None:
    profiles = kept(1600)
    for i, profile in enumerate(profiles):
        assert coefficients(profiles, profile).tolist() == [float(i == j) for j in range(len(profiles))]


@pytest.mark.parametrize("std", [0.02, 0.03, 0.07, 0.15, 0.2, 0.25])
def test_a_combination_sums_to_one_and_no_other_is_nearer(std: float) -> None:
    """The residual is orthogonal to every direction that keeps the sum."""
    profiles, wanted = kept(1600), Profile(std, 1600)
    x = coefficients(profiles, wanted)
    assert x.sum() == pytest.approx(1, abs=1e-8)
    slope = products(profiles, profiles) @ x - products(profiles, [wanted])[:, 0]
    assert np.abs(slope - slope.mean()).max() < 1e-8 * products([wanted], [wanted])[0, 0]


BOUNDS = {0.02: 0.1, 0.03: 0.025, 0.07: 2e-3, 0.15: 2e-3, 0.2: 6e-3, 0.25: 0.04}


@pytest.mark.parametrize("std", BOUNDS)
def test_of_a_random_walk_a_combination_is_the_average_that_was_tracked(std: float) -> None:
    """Within a share of how far the average is from the walk's end that the module's table tells, with room."""
    steps = Seeds.of(0, STEPS).normal(torch.empty(STEPS, WIDTH, dtype=torch.float64)) / STEPS**0.5
    path = (5 + steps.cumsum(0)).numpy()
    profiles = kept(STEPS)
    averages = np.stack([density(p, STEPS, 1) @ path for p in profiles])
    wanted = density(Profile(std, STEPS), STEPS, 1) @ path
    found = coefficients(profiles, Profile(std, STEPS)) @ averages
    assert np.abs(found - wanted).mean() < BOUNDS[std] * np.abs(path[-1] - wanted).mean()


@pytest.mark.parametrize("most", [2, 3, 7, 16])
def test_thinning_keeps_the_ends_and_stays_even(most: int) -> None:
    kept_steps: list[int] = []
    for step in range(1, 201):
        kept_steps = thinned([*kept_steps, step], most)
        assert kept_steps[0] == 1 and kept_steps[-1] == step and len(kept_steps) == min(step, most)
        assert kept_steps == sorted(set(kept_steps))
    gaps = np.diff(kept_steps)
    assert most == 2 or gaps.max() <= 4 * 200 / (most - 1)


class Walker(Denoiser):
    """Weights that go where they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(WIDTH))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x_t: Any, t: Tensor, **cond: Tensor) -> Any:
        raise AssertionError

    @torch.no_grad()
    def go(self, w: Tensor, k: int) -> None:
        self.w.copy_(w)
        self.count.fill_(k)


def walked(folder: Path, stds: tuple[float, ...], every: int = 20) -> tuple[Basis, list[Averages]]:
    """A random walk whose averages are kept as a training keeps them, and averages that were tracked beside them."""
    model, several = Walker(), Averages(Walker(), None)
    others = [Averages(model, std) for std in stds]
    steps = 1 + Seeds.of(1, STEPS).normal(torch.empty(STEPS, WIDTH)).cumsum(0) / STEPS**0.5
    names: list[str] = []
    for k in range(1, STEPS + 1):
        model.go(steps[k - 1], k)
        for one in (several, *others):
            one.update(model, k)
        if k % every == 0:
            names = Kept(folder).keep(several.halves(), k, names)
    own = {
        Profile(std, STEPS): dict(one.state_dict())
        for std, one in zip(several.stds, several.models, strict=True)
    }
    return Basis(Kept(folder), tuple(n for n in names if step_of(n) < STEPS), STEPS, own), others


def test_lengths_made_of_files_are_those_tracked_in_training(tmp_path: Path) -> None:
    """Also from half precision, and exactly for the lengths that are tracked."""
    stds = (0.03, 0.07, 0.15, 0.2)
    basis, tracked = walked(tmp_path, stds)
    assert len(basis.names) == MOST - 1 and step_of(basis.names[0]) == 20
    for std, one in zip(stds, tracked, strict=True):
        found, wanted = basis.combined(std), one.models[0].state_dict()
        assert (
            float((found["w"] - wanted["w"]).abs().mean())
            < {0.03: 6e-3, 0.07: 1e-3, 0.15: 1e-3, 0.2: 3e-3}[std]
        )
        assert int(found["count"]) == STEPS and found["w"].dtype == torch.float32
    for std in TRACKED:
        own = basis.own[Profile(std, STEPS)]
        assert torch.equal(basis.combined(std)["w"], own["w"])


def test_files_that_are_gone_are_done_without_and_damaged_ones_are_named(tmp_path: Path) -> None:
    basis, (tracked,) = walked(tmp_path, (0.15,), every=80)
    (tmp_path / basis.names[3]).write_bytes(b"")
    with pytest.raises(UserError, match=basis.names[3]):
        basis.combined(0.15)
    (tmp_path / basis.names[3]).unlink()
    left = Basis(basis.kept, tuple(n for n in basis.names if n != basis.names[3]), STEPS, basis.own)
    wanted = tracked.models[0].state_dict()["w"]
    assert float((left.combined(0.15)["w"] - wanted).abs().mean()) < 0.01


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (folder / "averages").iterdir()}


def test_killed_and_resumed_a_run_keeps_the_same_averages(tmp_path: Path) -> None:
    """Bit for bit, of its own past alone: whatever a lost future has left is removed."""
    run = training(tmp_path / "whole", ema=None, steps=40)
    walk(run)
    wanted, tensors = state(run), run.averages.state()
    assert len(run.count.kept) == MOST and sorted(files(tmp_path / "whole")) == sorted(run.count.kept)
    for stop, save in ((1, 1e9), (9, 0.0), (31, 0.0)):
        folder = tmp_path / f"{stop}-{save:g}"
        walk(training(folder, ema=None, steps=40, save_seconds=save), stop)
        (folder / "averages").mkdir(exist_ok=True)
        (folder / "averages" / "000000003-00.safetensors").write_bytes(b"of another history")
        again = training(folder, ema=None, steps=40)
        again.resume()
        walk(again)
        assert state(again) == wanted and files(folder) == files(tmp_path / "whole")
        assert all(torch.equal(v, tensors[k]) for k, v in again.averages.state().items())


def test_the_tracked_lengths_are_those_of_runs_that_were_given_them(tmp_path: Path) -> None:
    several = training(tmp_path / "several", ema=None)
    walk(several)
    for std, average in zip(TRACKED, several.averages.models, strict=True):
        one = training(tmp_path / f"{std}", ema=std)
        walk(one)
        assert all(
            torch.equal(a, b) for a, b in zip(average.parameters(), one.average.parameters(), strict=True)
        )
        assert not (tmp_path / f"{std}" / "averages").exists()


def test_the_basis_of_a_checkpoint_has_no_later_weights(tmp_path: Path) -> None:
    run = training(tmp_path, ema=None, steps=40, validations=4)
    walk(run, 27)
    basis = Basis.of(Kept(tmp_path / "averages"), tmp_path / "best", TRACKED)
    assert basis.step == run.count.best_step
    assert basis.names and all(step_of(n) < basis.step for n in basis.names)
    assert set(basis.own) == {Profile(std, basis.step) for std in TRACKED}
