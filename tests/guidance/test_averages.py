"""Laws of known averages: they are kept by solvers, exact denoisers are conditioned exactly, levels are exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kuosan.core.grids import Karras
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.core.shapes import AVERAGES
from kuosan.core.windows import starts_of
from kuosan.denoisers.exact import CorrelatedDenoiser
from kuosan.guidance.averages import Averages, averaged, exact, projected, repeated
from kuosan.guidance.windows import Windows
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import SOLVERS, sample

F64 = torch.float64
SHAPE = (1, 4, 4)
D = 16


def law() -> CorrelatedDenoiser:
    g = torch.Generator().manual_seed(3)
    a = torch.randn(1, D, D, generator=g, dtype=F64)
    means = torch.randn(1, *SHAPE, generator=g, dtype=F64)
    return CorrelatedDenoiser(GaussianProcess(Cosine()), means, a @ a.mT / D + 0.05 * torch.eye(D, dtype=F64))


SMALL = torch.tensor([[0.3, -0.2], [0.6, 0.1]], dtype=F64).reshape(1, 1, 2, 2)


@pytest.mark.parametrize("sides", [(6,), (4, 6), (2, 4, 6)])
def test_averages_project_orthogonally(sides: tuple[int, ...]) -> None:
    seeds = Seeds.of(0, 2)
    x, y = (seeds.fold(name).normal(torch.empty(2, 3, *sides, dtype=F64)) for name in "xy")
    p = projected(x, 2)
    assert torch.allclose(projected(p, 2), p) and torch.allclose((p * y).sum(), (x * projected(y, 2)).sum())
    small = averaged(x, 2)
    assert torch.allclose(averaged(repeated(small, 2), 2), small)


def test_with_as_many_corrections_as_averages_a_gaussian_is_conditioned_exactly() -> None:
    denoiser, schedule = law(), Cosine()
    x_t, t = (
        Seeds.of(1, 3).normal(torch.empty(3, *SHAPE, dtype=F64)),
        torch.tensor([0.2, 0.6, 0.9], dtype=F64),
    )
    found = Averages(denoiser, repeated(SMALL, 2), 2, corrections=4)(x_t, t).mean
    # E[x | x_t, A x = y] of a Gaussian, by hand: prior times likelihood, then the condition.
    a = averaged(torch.eye(D, dtype=F64).reshape(D, *SHAPE), 2).flatten(1).T
    mean, prior = denoiser.means[0].flatten(), denoiser.covariances[0]
    for i in range(3):
        alpha, sigma = (float(f(t[i : i + 1])) for f in (schedule.alpha, schedule.sigma))
        gain = alpha * prior @ torch.linalg.inv(alpha**2 * prior + sigma**2 * torch.eye(D, dtype=F64))
        at, left = mean + gain @ (x_t[i].flatten() - alpha * mean), prior - alpha * gain @ prior
        k = left @ a.T @ torch.linalg.inv(a @ left @ a.T)
        assert torch.allclose(found[i].flatten(), at + k @ (SMALL.flatten() - a @ at), atol=1e-7)


@pytest.mark.parametrize("solver", ["ddim", "dpm++2m", "unipc3", "heun", "ancestral"])
@pytest.mark.parametrize("corrections", [0, 2])
def test_averages_are_kept_under_solvers(solver: str, corrections: int) -> None:
    denoiser = Averages(law(), repeated(SMALL, 2), 2, corrections=corrections)
    seeds = Seeds.of(5, 3)
    x = denoiser.process.prior(torch.empty(3, *SHAPE, dtype=F64), seeds.fold("prior"))
    x = sample(denoiser, SOLVERS[solver](), Karras()(Cosine(), 4), x, seeds)
    assert torch.allclose(averaged(x, 2), SMALL.expand(3, -1, -1, -1), atol=1e-9)


def test_windows_hand_averages_in_and_the_whole_keeps_them() -> None:
    y = Seeds.of(2, 1).uniform(torch.empty(1, 1, 2, 5, dtype=F64))
    known = repeated(y, 2)
    inside = Averages(law(), None, 2, corrections=2)
    whole = Averages(Windows(inside, (4, 4), grain=2), known, 2, hands_on=True)
    x_t, t = Seeds.of(1, 1).normal(torch.empty(1, 1, 4, 10, dtype=F64)), torch.tensor([0.7], dtype=F64)
    mean = whole(x_t, t).mean
    assert torch.allclose(averaged(mean, 2), y)
    alone = inside(x_t[..., :4], t, **{AVERAGES: known[..., :4]}).mean
    assert torch.allclose(mean[..., :2], alone[..., :2], atol=1e-9), "no other window reaches there"
    assert all(start % 4 == 0 for start in starts_of(36, 16, 0.5, 4))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_levels_average_to_the_small_picture_to_the_last_bit(factor: int) -> None:
    seeds, level = Seeds.of(0, 2), 2 / 255
    x = 1.5 * seeds.normal(torch.empty(2, 3, 5 * factor, 4 * factor))
    units = (seeds.fold("y").uniform(torch.empty(2, 3, 5, 4)) * 256).floor().clamp_max(255)
    units[0, 0, 0, 0], units[0, 0, 0, 1] = 0, 255
    made = exact(x, units * level - 1, factor, level)
    whole = ((made.double() + 1) / level).round()
    assert (
        torch.allclose(made.double(), whole * level - 1, atol=1e-6) and 0 <= whole.min() <= whole.max() <= 255
    )
    assert torch.equal(averaged(whole, factor), units.double())
    free = exact(x, units * level - 1, factor, None)
    assert (
        torch.allclose(averaged(free, factor), units * level - 1, atol=1e-6) and float(free.abs().max()) <= 1
    )


def test_what_keeps_to_them_already_stays_as_it_is() -> None:
    units = (Seeds.of(0, 1).uniform(torch.empty(1, 1, 4, 4, dtype=F64)) * 16).floor() * 4
    x = repeated(units[:, :, :2, :2], 2) * (2 / 255) - 1
    assert torch.allclose(exact(x, averaged(x, 2), 2, 2 / 255), x, atol=1e-12)


def test_nearest_means_nearest(atol: float = 1e-6) -> None:
    """Against a search along the one direction that is left: two values with a known mean."""
    x: Tensor = torch.tensor([0.9, 0.4], dtype=F64).reshape(1, 1, 2)
    made = exact(x, torch.tensor([[[0.8]]], dtype=F64), 2, None).flatten()
    a = torch.linspace(0.6, 1, 4001, dtype=F64)
    best = a[((a - 0.9).square() + (1.6 - a - 0.4).square()).argmin()]
    assert abs(float(made[0] - best)) < 1e-3 and abs(float(made.sum()) - 1.6) < atol
