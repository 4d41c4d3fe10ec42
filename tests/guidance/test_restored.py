"""What a model restores, against the closed form of a normal law."""

from __future__ import annotations

import math

import torch

from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.guidance import restored
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import SOLVERS

MEAN, SPREAD = 0.3, 0.05


def exact(shape: tuple[int, ...]) -> MixtureDenoiser:
    """The denoiser of values that are all N(`MEAN`, `SPREAD`²) by themselves."""
    mean = torch.full((1, *shape), MEAN, dtype=torch.float64)
    return MixtureDenoiser(
        GaussianProcess(Cosine()),
        mean,
        torch.full((1, *shape), SPREAD**2, dtype=torch.float64),
        torch.ones(1, dtype=torch.float64),
    )


def test_a_shifted_voxel_is_found_by_as_much_as_theory_says() -> None:
    shape, level, shift = (1, 4, 5, 6), 0.5, 1.0
    x = torch.full((64, *shape), MEAN, dtype=torch.float64)
    x[:, 0, 2, 1, 3] += shift
    denoiser = exact(shape)
    seeds = Seeds.of(0, 64)
    back = restored(denoiser, SOLVERS["ddim"](), x, level, seeds, draws=8, steps=200)
    schedule, s = denoiser.process.schedule, torch.tensor([level], dtype=torch.float64)  # type: ignore[union-attr]
    alpha, sigma = float(schedule.alpha(s)), float(schedule.sigma(s))
    # The flow takes x_s to μ + (x_s − α μ) · spread / √(α² spread² + σ²)
    stays = SPREAD * alpha / math.hypot(alpha * SPREAD, sigma)
    expected = MEAN + stays * shift
    noise = SPREAD * sigma / math.hypot(alpha * SPREAD, sigma) / math.sqrt(64 * 8)
    assert abs(float(back[:, 0, 2, 1, 3].mean()) - expected) < 5 * noise + 0.002
    apart = (x - back).abs().mean(0)[0]
    assert int(apart.argmax()) == (2 * 5 + 1) * 6 + 3 and float(apart.flatten().topk(2).values[1]) < 0.1


def test_little_noise_gives_the_item_back() -> None:
    x = torch.randn(4, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    back = restored(exact((1, 3, 3)), SOLVERS["ddim"](), x, 1e-3, Seeds.of(0, 4), draws=2, steps=2)
    assert float((back - x).abs().max()) < 0.05


def test_an_item_is_restored_alone() -> None:
    x = torch.randn(4, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    together = restored(exact((1, 3, 3)), SOLVERS["ddim"](), x, 0.5, Seeds.of(0, 4), draws=2, steps=3)
    alone = restored(exact((1, 3, 3)), SOLVERS["ddim"](), x[2:3], 0.5, Seeds.of(0, [2]), draws=2, steps=3)
    assert torch.allclose(together[2:3], alone, atol=1e-12)
