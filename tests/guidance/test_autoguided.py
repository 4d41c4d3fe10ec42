"""Laws of autoguidance: w = 1 costs one call and changes nothing, eq. 1 holds, and it moves away from the guide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kuosan.core.curves import Constant, Interval, Piecewise
from kuosan.core.grids import LogSNR
from kuosan.core.posteriors import Joint
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.core.shapes import as_time
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.guidance import Autoguided, ClassifierFree
from kuosan.processes.discrete import Masked
from kuosan.processes.gaussian import GaussianProcess
from kuosan.processes.joint import JointProcess
from kuosan.solvers import DDIM, sample
from tests.laws.test_guidance import KIND, NULL, ROWS, WORDS, ByClass, tokens, two_classes

F64 = torch.float64
B = 6
X_T = Seeds.of(0, B).normal(torch.empty(B, 2, dtype=F64))
SHARED, EACH = as_time(0.6, B), torch.linspace(0.15, 0.95, B, dtype=F64)


def gaussian(spread: float) -> ByClass:
    process = GaussianProcess(Cosine())
    means, variances = torch.tensor([[0.5, -0.3]], dtype=F64), torch.full((1, 2), spread, dtype=F64)
    return ByClass([MixtureDenoiser(process, means, variances)])


@pytest.mark.parametrize("t", [SHARED, EACH], ids=["shared", "each"])
def test_weight_one_is_one_call_of_the_model_and_zero_one_of_the_guide(t: Tensor) -> None:
    model, guide = two_classes(), two_classes()
    plain = model(X_T, t, kind=KIND)
    model.batches.clear()
    found = Autoguided(model, guide, 1.0)(X_T, t, kind=KIND)
    assert model.batches == [B] and guide.batches == []
    assert torch.equal(found.mean, plain.mean) and torch.equal(found.variance, plain.variance)
    Autoguided(model, guide, 0.0)(X_T, t, kind=KIND)
    assert model.batches == [B] and guide.batches == [B]


@pytest.mark.parametrize("cond", [{}, {"kind": KIND}], ids=["unconditional", "conditional"])
@pytest.mark.parametrize("w", [-0.5, 0.3, 2.0])
def test_the_mean_is_the_line_through_both_under_the_same_conditions(
    w: float, cond: dict[str, Tensor]
) -> None:
    model, guide = two_classes(), gaussian(0.8)
    guide.each = torch.nn.ModuleList([*guide.each] * 3)
    found = Autoguided(model, guide, w)(X_T, SHARED, **cond).mean
    a, b = model(X_T, SHARED, **cond).mean, guide(X_T, SHARED, **cond).mean
    assert torch.allclose(found, b + w * (a - b), rtol=1e-13, atol=1e-14)
    assert model.batches == [B, B] and guide.batches == [B, B]


def test_a_curve_guides_within_its_interval_and_is_free_outside() -> None:
    model, guide = two_classes(), two_classes()
    guided = Autoguided(model, guide, Interval(0.4, 0.8, 3.0))
    for time, calls in ((0.2, 0), (0.6, 1), (0.9, 0)):
        guide.batches.clear()
        guided(X_T, as_time(time, B), kind=KIND)
        assert len(guide.batches) == calls


def test_a_time_per_example_equals_a_loop_and_weight_one_keeps_its_bits() -> None:
    model, guide, w = two_classes(), gaussian(0.8), Piecewise([(0.3, 1.0), (0.9, 3.0)])
    together = Autoguided(model, guide, w)(X_T, EACH).mean
    for i in range(B):
        part = slice(i, i + 1)
        alone = Autoguided(model, guide, w)(X_T[part], EACH[part]).mean[0]
        assert torch.allclose(alone, together[i], rtol=1e-13, atol=1e-14)
    assert torch.equal(together[0], model(X_T, EACH).mean[0])


def test_of_gaussians_the_guided_law_is_narrower_by_the_closed_form() -> None:
    """Data N(m, a) guided by a wider N(m, b): each mean is linear in x_t, so every step of DDIM multiplies by a number
    that is known."""
    a, b, w, n = 0.3, 0.9, 2.0, 4000
    model, guide = gaussian(a), gaussian(b)
    process, seeds = model.process, Seeds.of(3, n)
    x = process.prior(torch.empty(n, 2, dtype=F64), seeds)
    grid = LogSNR()(Cosine(), 200)
    out = sample(Autoguided(model, guide, w), DDIM(), grid, x, seeds)
    assert isinstance(out, Tensor)
    # Of y = x_t/α - m the estimate is g y, g = a/(a + ρ²), ρ = σ/α; a step goes to g y + (ρ_s/ρ_t)(y - g y).
    level = Cosine().level(grid.clamp(1e-9))
    rho = level.sigma / level.alpha
    factor = torch.ones((), dtype=F64)
    for high, low in zip(rho[:-1], rho[1:], strict=True):
        gain = b / (b + high**2) + w * (a / (a + high**2) - b / (b + high**2))
        factor = factor * (gain + (low / high) * (1 - gain))
    wanted = factor.square() * rho[0].square()
    assert float(out.var(0).mean() / wanted) == pytest.approx(1, abs=0.1)
    assert float(out.var(0).mean()) < 0.9 * a
    assert torch.allclose(out.mean(0), torch.tensor([0.5, -0.3], dtype=F64), atol=0.05)


@pytest.mark.parametrize("w", [0.5, 3.0])
def test_tokens_and_joint_states_are_guided_part_by_part(w: float) -> None:
    process = JointProcess({"word": Masked(3, Constant(0.5)), "x": GaussianProcess(Cosine())})
    items = {"word": WORDS, "x": torch.tensor([[-1.0], [0.0], [0.5], [2.0]], dtype=F64)}
    model, guide = tokens(process, items, [ROWS[0]]), tokens(process, items, [ROWS[2]])
    state = {"word": torch.tensor([[3, 3], [3, 3]]), "x": torch.tensor([[0.1], [0.7]], dtype=F64)}
    t = as_time(0.7, 2)
    got = Autoguided(model, guide, w)(state, t)
    assert isinstance(got, Joint)
    a, b = model(state, t).mean, guide(state, t).mean
    assert torch.allclose(got.mean["x"], b["x"] + w * (a["x"] - b["x"]), rtol=1e-12)
    line = torch.where(a["word"] > 0, b["word"] ** (1 - w) * a["word"] ** w, 0.0)
    assert torch.allclose(got.mean["word"], line / line.sum(-1, keepdim=True), rtol=1e-11)


def test_both_kinds_of_guidance_together() -> None:
    """Classifier-free guidance bends what autoguidance makes of each of its sides."""
    model, guide = two_classes(), two_classes()
    guide.each = torch.nn.ModuleList([guide.each[2]] * 3)
    found = ClassifierFree(Autoguided(model, guide, 2.0), 3.0, NULL)(X_T, SHARED, kind=KIND).mean

    def side(kind: Tensor) -> Tensor:
        a, b = model(X_T, SHARED, kind=kind).mean, guide(X_T, SHARED, kind=kind).mean
        return b + 2 * (a - b)

    nothing = side(torch.full_like(KIND, 2))
    assert torch.allclose(found, nothing + 3 * (side(KIND) - nothing), rtol=1e-12, atol=1e-13)
