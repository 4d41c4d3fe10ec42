"""Laws of given parts: Gaussian data are conditioned exactly, and given entries come back under every solver."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kuosan.core.grids import Karras, LogSNR
from kuosan.core.posteriors import Gaussian, Point
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.core.shapes import as_time
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import CorrelatedDenoiser
from kuosan.guidance import ClassifierFree, Given
from kuosan.networks.given import GIVEN
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import SOLVERS, sample
from tests.laws.exact_cases import SCHEDULES

F64 = torch.float64
D = 6
MASK = torch.tensor([True, False, True, True, False, False]).reshape(1, 2, 3)
KNOWN = torch.tensor([0.7, 0.0, -0.4, 0.2, 0.0, 0.0], dtype=F64).reshape(1, 2, 3)
# Euler's last step does not end on the denoiser's estimate: there the run puts back what is given.
ADDITIVE = [
    name
    for name, make in SOLVERS.items()
    if name != "euler" and (issubclass(make().needs, AdditiveProcess) or name in ("ancestral", "redraw"))
]


def law(schedule: object, components: int = 1) -> CorrelatedDenoiser:
    g = torch.Generator().manual_seed(3)
    a = torch.randn(components, D, D, generator=g, dtype=F64)
    means = torch.randn(components, 2, 3, generator=g, dtype=F64)
    covariances = a @ a.mT / D + 0.05 * torch.eye(D, dtype=F64)
    return CorrelatedDenoiser(GaussianProcess(schedule), means, covariances)  # type: ignore[arg-type]


def affine(denoiser: Denoiser, solver: str, steps: int) -> tuple[Tensor, Tensor]:
    """Of a deterministic solver on an affine denoiser, what a sample is: mean + root @ noise."""
    times = LogSNR(rho_max=1e3)(denoiser.process.schedule, steps)  # type: ignore[attr-defined]
    noise = torch.cat([torch.zeros(1, D, dtype=F64), torch.eye(D, dtype=F64)]).reshape(-1, 2, 3)
    x = sample(denoiser, SOLVERS[solver](), times, noise, Seeds.of(0, D + 1)).flatten(1)
    return x[0], (x[1:] - x[0]).T


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_with_as_many_corrections_as_entries_a_gaussian_is_conditioned_exactly(name: str) -> None:
    denoiser = law(SCHEDULES[name])
    x_t = 1.5 * Seeds.of(1, 4).normal(torch.empty(4, 2, 3, dtype=F64))
    t = torch.tensor([0.1, 0.4, 0.7, 0.95], dtype=F64)
    found = Given(denoiser, KNOWN, MASK, corrections=3)(x_t, t).mean
    truth = denoiser.given(KNOWN[0], MASK[0])(x_t, t).mean
    assert torch.allclose(found, truth, rtol=1e-7, atol=1e-8)
    replaced = Given(denoiser, KNOWN, MASK, corrections=0)(x_t, t).mean
    assert not torch.allclose(replaced, truth, atol=0.05)


@pytest.mark.parametrize(
    ("solver", "within"), [("ddim", 0.04), ("dpm++2m", 5e-3), ("unipc3", 5e-3), ("heun", 5e-3)]
)
def test_samples_have_the_conditional_mean_and_covariance(solver: str, within: float) -> None:
    denoiser = law(Cosine())
    mean, root = affine(Given(denoiser, KNOWN, MASK, corrections=3), solver, 120)
    truth = denoiser.given(KNOWN[0], MASK[0])
    assert torch.allclose(mean, truth.means[0].flatten(), atol=within)
    assert torch.allclose(root @ root.T, truth.covariances[0], atol=within)


def test_ancestral_samples_have_them_within_their_error() -> None:
    denoiser, n = law(Cosine()), 1500
    given = Given(denoiser, KNOWN, MASK, corrections=3)
    seeds = Seeds.of(0, n)
    x = denoiser.process.prior(torch.empty(n, 2, 3, dtype=F64), seeds.fold("prior"))
    x = sample(given, SOLVERS["ancestral"](), LogSNR()(Cosine(), 60), x, seeds).flatten(1)
    truth = denoiser.given(KNOWN[0], MASK[0])
    rest = ~MASK.flatten()
    covariance = truth.covariances[0][rest][:, rest]
    error = covariance.diagonal().sqrt() / n**0.5
    assert bool(((x.mean(0) - truth.means[0].flatten())[rest].abs() < 5 * error).all())
    assert torch.allclose(x.T.cov()[rest][:, rest], covariance, atol=0.2 * float(covariance.diagonal().max()))


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("solver", ADDITIVE)
def test_given_entries_come_back_under_every_solver_at_any_number_of_steps(solver: str, steps: int) -> None:
    given = Given(law(Cosine(), 3), KNOWN, MASK)
    seeds = Seeds.of(5, 3)
    x = given.process.prior(torch.empty(3, 2, 3, dtype=F64), seeds.fold("prior"))
    x = sample(given, SOLVERS[solver](), Karras()(Cosine(), steps), x, seeds)
    assert torch.allclose(x[:, MASK[0]], KNOWN[MASK].expand(3, -1), atol=1e-9)


def test_more_corrections_bring_a_mixture_nearer_to_its_conditional_mean() -> None:
    denoiser = law(Cosine(), 3)
    x_t = Seeds.of(1, 64).normal(torch.empty(64, 2, 3, dtype=F64))
    truth = denoiser.given(KNOWN[0], MASK[0])(x_t, as_time(0.4, 64)).mean
    off = [
        float(
            (Given(denoiser, KNOWN, MASK, corrections=k)(x_t, as_time(0.4, 64)).mean - truth).square().mean()
        )
        for k in (0, 1, 3)
    ]
    assert off[0] > 1.5 * off[1] > 1.5 * off[2]


def test_nothing_given_changes_nothing_and_everything_given_leaves_nothing_to_do() -> None:
    denoiser = law(Cosine(), 3)
    x_t, t = Seeds.of(1, 4).normal(torch.empty(4, 2, 3, dtype=F64)), torch.linspace(0.2, 0.9, 4, dtype=F64)
    plain, none = denoiser(x_t, t), Given(denoiser, KNOWN, torch.zeros_like(MASK))(x_t, t)
    assert torch.allclose(none.mean, plain.mean, atol=1e-14)
    assert isinstance(none, Gaussian) and torch.allclose(none.variance, plain.variance)
    everything = Given(denoiser, KNOWN, torch.ones_like(MASK))(x_t, t)
    assert isinstance(everything, Gaussian)
    assert torch.equal(everything.mean, KNOWN.expand_as(x_t)) and not bool(everything.variance.any())


def test_each_example_has_its_own_parts_whatever_stands_beside_it() -> None:
    denoiser = law(Cosine(), 3)
    x_t, t = Seeds.of(1, 3).normal(torch.empty(3, 2, 3, dtype=F64)), torch.tensor([0.2, 0.5, 0.8], dtype=F64)
    masks, known = (
        torch.stack([MASK[0], ~MASK[0], torch.zeros(2, 3, dtype=torch.bool)]),
        torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0), dtype=F64),
    )
    together = Given(denoiser, known, masks)(x_t, t).mean
    for i in range(3):
        part = slice(i, i + 1)
        alone = Given(denoiser, known[part], masks[part])(x_t[part], t[part]).mean
        assert torch.allclose(alone, together[part], atol=1e-13)


class Told(Denoiser):
    """Says what it was told, and counts conditions."""

    def __init__(self) -> None:
        super().__init__()
        self.process = GaussianProcess(Cosine())
        self.heard: list[dict[str, Tensor]] = []

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:
        self.heard.append(cond)
        return Point(cond[GIVEN].chunk(2, 1)[1] + cond["kind"].to(x_t)[:, None, None])


def test_a_trained_network_is_told_of_its_parts_on_both_sides_of_guidance() -> None:
    inner = Told()
    model = Given(ClassifierFree(inner, 3.0, {"kind": 9}), KNOWN, MASK, trained=True)
    x_t = torch.ones(2, 2, 3, dtype=F64)
    found = model(x_t, as_time(0.5, 2), kind=torch.tensor([1, 2])).mean
    (heard,) = inner.heard
    mask, known = heard[GIVEN].chunk(2, 1)
    assert torch.equal(mask, MASK.to(F64).expand(4, -1, -1))
    assert torch.equal(known, (KNOWN * MASK).expand(4, -1, -1))
    assert heard["kind"].tolist() == [1, 2, 9, 9]
    # 9 + 3 (kind - 9) on what is free, what is known on the rest
    free = torch.tensor([9 + 3 * (1 - 9), 9 + 3 * (2 - 9)], dtype=F64)[:, None, None].expand(2, 2, 3)
    assert torch.allclose(found, torch.where(MASK, KNOWN.expand(2, 2, 3), free))


def test_it_works_where_sampling_does() -> None:
    """Under inference mode, whose tensors have no gradients."""
    given = Given(law(Cosine(), 2), KNOWN, MASK)
    x_t, t = torch.ones(2, 2, 3, dtype=F64), as_time(0.5, 2)
    outside = given(x_t, t).mean
    with torch.inference_mode():
        inside = given(x_t.clone(), t.clone()).mean.clone()
    assert torch.equal(inside, outside) and not outside.requires_grad
