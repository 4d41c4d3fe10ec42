"""Laws of Gaussian and joint processes.

Expectations are quadratures, exact for the polynomials at hand; only where a draw itself is tested is there
anything random.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from kuosan.core.curves import LinearSurvival
from kuosan.core.grids import LogSNR
from kuosan.core.posteriors import Categorical, Gaussian, Joint, Point
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine, Level, Schedule
from kuosan.denoisers.exact import MixtureDenoiser, TableDenoiser
from kuosan.processes.discrete import Masked
from kuosan.processes.gaussian import GaussianProcess, bridge_terms
from kuosan.processes.joint import JointProcess
from kuosan.solvers import Ancestral, trajectory

from .exact_cases import SCHEDULES, mixture
from .test_tokens import K, agrees

F64 = torch.float64
NAMES = sorted(SCHEDULES)


def levels(schedule: Schedule, *log_snr: float) -> list[Level]:
    times = schedule.time_of(torch.tensor(log_snr, dtype=F64))
    return [schedule.level(t[None]) for t in times]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_bridge_terms_keep_the_marginal(name: str) -> None:
    """E and Var of x_s = a x_t + b x + √v z are α_s x and σ_s²; at s = 0, the data itself."""
    for pair in ((-4.0, -1.0), (-1.0, 3.0), (3.0, 9.0), (-4.0, 9.0), (2.0, 2.0)):
        t, s = levels(SCHEDULES[name], *pair)
        a, b, v = bridge_terms(t, s)
        assert torch.allclose(a * t.alpha + b, s.alpha, rtol=1e-12)
        assert torch.allclose(a**2 * t.sigma**2 + v, s.sigma**2, rtol=1e-11)
        # Cov(x_s, x_t | x) = α_{t|s} σ_s²: what makes (x_s, x_t) a Markov chain and not merely two marginals
        assert torch.allclose(a * t.sigma**2, t.alpha / s.alpha * s.sigma**2, rtol=1e-12)
    start = SCHEDULES[name].level(torch.zeros(1, dtype=F64))
    if float(start.sigma) == 0:
        assert [float(c) for c in bridge_terms(t, start)] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_bridges_compose(name: str) -> None:
    """t → s → r is t → r in law."""
    t, s, r = levels(SCHEDULES[name], -4.0, 1.0, 8.0)
    (a1, b1, v1), (a2, b2, v2) = bridge_terms(t, s), bridge_terms(s, r)
    for got, wanted in zip((a2 * a1, a2 * b1 + b2, a2**2 * v1 + v2), bridge_terms(t, r), strict=True):
        assert torch.allclose(got, wanted, rtol=1e-12, atol=0)


@torch.no_grad()
def test_gaussian_states_are_corrupted_and_bridged_example_by_example() -> None:
    """Eight 3×8×8 pictures at eight times: the shape on which implicit broadcasting goes wrong in silence."""
    process, seeds = GaussianProcess(Cosine()), Seeds.of(3, 8)
    x = Seeds.of(4, 8).normal(torch.empty(8, 3, 8, 8, dtype=F64))
    t, s = torch.linspace(0.2, 0.95, 8, dtype=F64), torch.linspace(0.1, 0.8, 8, dtype=F64)
    x_t = process.corrupt(x, t, seeds)
    x_s = process.bridge(x_t, Point(x), t, s, seeds.fold(1))
    a, b, v = bridge_terms(process.schedule.level(t), process.schedule.level(s))
    eps, z = seeds.normal(x), seeds.fold(1).normal(x)
    for i in range(8):
        assert torch.allclose(
            x_t[i], math.cos(t[i] * math.pi / 2) * x[i] + math.sin(t[i] * math.pi / 2) * eps[i]
        )
        assert torch.allclose(x_s[i], a[i] * x_t[i] + b[i] * x[i] + v[i].sqrt() * z[i])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_gaussian_prior_is_the_noise_of_the_end(name: str) -> None:
    process, n = GaussianProcess(SCHEDULES[name]), 4_000
    x = process.prior(torch.empty(n, dtype=F64), Seeds.of(0, n))
    scale = float(SCHEDULES[name].sigma(torch.ones(1, dtype=F64)))
    assert stats.kstest(x.numpy(), stats.norm(scale=scale).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_bridge_after_corruption_has_the_marginal_gaussian(name: str) -> None:
    """With the exact posterior of Gaussian data a step of any length lands on the law of x_s."""
    mean, variance, n = 0.7, 0.5, 4_000
    process = GaussianProcess(SCHEDULES[name])
    denoiser = MixtureDenoiser(
        process, torch.tensor([[mean]], dtype=F64), torch.tensor([[variance]], dtype=F64)
    )
    like = torch.empty(n, 1, dtype=F64)
    x = mean + variance**0.5 * Seeds.of(1, n).normal(like)
    (t, s) = (level.t.expand(n) for level in levels(SCHEDULES[name], -1.5, 2.0))
    x_t = process.corrupt(x, t, Seeds.of(2, n))
    x_s = process.bridge(x_t, denoiser(x_t, t), t, s, Seeds.of(3, n))
    level = SCHEDULES[name].level(s[:1])
    law = stats.norm(float(level.alpha) * mean, float(level.alpha**2 * variance + level.sigma**2) ** 0.5)
    assert stats.kstest(x_s[:, 0].numpy(), law.cdf).pvalue > 1e-3


@torch.no_grad()
def test_bridge_after_corruption_keeps_two_moments_of_a_mixture() -> None:
    """A posterior of one Gaussian per element cannot carry more than two moments; those are exact."""
    denoiser, n = mixture(Cosine()), 20_000
    seeds, process = Seeds.of(5, n), denoiser.process
    component = (seeds.uniforms()[:, None] > denoiser.log_weights.exp().cumsum(0)).sum(1)
    like = torch.empty(n, 2, dtype=F64)
    x = denoiser.means[component] + denoiser.variances[component].sqrt() * seeds.fold("x").normal(like)
    t, s = (torch.tensor(v, dtype=F64).expand(n) for v in (0.7, 0.35))
    x_t = process.corrupt(x, t, seeds.fold("t"))
    x_s = process.bridge(x_t, denoiser(x_t, t), t, s, seeds.fold("s"))
    level, weights = process.schedule.level(s[:1]), denoiser.log_weights.exp()[:, None]
    first = (weights * denoiser.means).sum(0) * level.alpha
    second = (weights * (denoiser.variances + denoiser.means**2)).sum(0) * level.alpha**2 + level.sigma**2
    for power, expected in ((x_s, first), (x_s**2, second)):
        assert bool(((power.mean(0) - expected).abs() < 4 * power.std(0) / n**0.5).all())


def panels(start: float, stop: float) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss–Legendre quadrature, five in each panel between knots."""
    u, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(5))
    knots = torch.cat([torch.arange(1001, dtype=F64) / 1000, torch.arange(1, 32, dtype=F64) / 32])
    inner = knots[(knots > start + 1e-9) & (knots < stop - 1e-9)].unique()
    edges = torch.cat([inner.new_tensor([start]), inner, inner.new_tensor([stop])])
    half = edges.diff()[:, None] / 2
    return (edges[:-1, None] + half * (1 + u)).flatten(), (half * w).flatten()


def information_rate(denoiser: MixtureDenoiser, mean: Tensor, variance: Tensor, t: Tensor) -> Tensor:
    """E[elbo_rate] at each time, for data N(mean, variance): Gauss–Hermite, exact for squares."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(4))
    z = torch.cartesian_prod(nodes, nodes)
    w = torch.cartesian_prod(weights, weights).prod(1) / (2 * math.pi)
    times = t.repeat_interleave(len(z))
    x = (mean + variance.sqrt() * z[:, :1]).repeat(len(t), 1)
    level = denoiser.process.schedule.level(times)
    x_t = level.alpha[:, None] * x + level.sigma[:, None] * z[:, 1:].repeat(len(t), 1)
    rate = denoiser.process.elbo_rate(x, x_t, denoiser(x_t, times), times)
    assert bool((rate >= 0).all())
    return rate.reshape(len(t), -1) @ w


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_gaussian_bound_is_the_mutual_information(name: str) -> None:
    """∫ E[rate] dt = I(x; x_{t0}) - I(x; x_{t1}), I = ½ Σ log(1 + SNR·v).

    A denoiser of other data pays KL(p_{t0} ‖ p̂_{t0}) - KL(p_{t1} ‖ p̂_{t1}) more.
    """
    mean, variance = torch.tensor([0.3, -0.5], dtype=F64), torch.tensor([0.4, 1.3], dtype=F64)
    other_mean, other_variance = torch.tensor([0.0, 0.2], dtype=F64), torch.tensor([0.9, 0.7], dtype=F64)
    process = GaussianProcess(SCHEDULES[name])
    ends = levels(SCHEDULES[name], 7.0, -4.0)
    t, w = panels(float(ends[0].t), float(ends[1].t))

    def information(level: Level) -> float:
        return float(0.5 * (1 + level.log_snr.exp() * variance).log().sum())

    def divergence(level: Level) -> float:
        p, q = (level.alpha**2 * v + level.sigma**2 for v in (variance, other_variance))
        off = (level.alpha * (mean - other_mean)).square()
        return float(0.5 * (p / q - 1 + (q / p).log() + off / q).sum())

    exact = MixtureDenoiser(process, mean[None], variance[None])
    got = float(information_rate(exact, mean, variance, t) @ w)
    assert got == pytest.approx(information(ends[0]) - information(ends[1]), rel=1e-6)
    wrong = MixtureDenoiser(process, other_mean[None], other_variance[None])
    excess = float(information_rate(wrong, mean, variance, t) @ w) - got
    assert excess == pytest.approx(divergence(ends[0]) - divergence(ends[1]), rel=1e-5)


JOINT = JointProcess({"label": Masked(K, LinearSurvival()), "x": GaussianProcess(Cosine())})


def joint_case(n: int = 6) -> tuple[dict[str, Tensor], Tensor, Seeds]:
    seeds = Seeds.of(0, n)
    x = {"label": torch.arange(n).remainder(K)[:, None], "x": seeds.normal(torch.empty(n, 2, dtype=F64))}
    return x, torch.linspace(0.2, 0.9, n, dtype=F64), seeds.fold("t")


def test_a_joint_process_is_its_parts_side_by_side() -> None:
    x, t, seeds = joint_case()
    x_t = JOINT.corrupt(x, t, seeds)
    q = Joint(
        {
            "label": Categorical(torch.linspace(-1, 1, 6 * K, dtype=F64).sin().reshape(6, 1, K)),
            "x": Gaussian(0.9 * x["x"], torch.full((6, 2), 0.3, dtype=F64)),
        }
    )
    s = t / 2
    x_s, prior = JOINT.bridge(x_t, q, t, s, seeds), JOINT.prior(x, seeds)
    total, kernels = torch.zeros(6, dtype=F64), torch.zeros(6, 6, dtype=F64)
    for name, part in JOINT.parts.items():
        own = seeds.fold(name)
        assert torch.equal(x_t[name], part.corrupt(x[name], t, own))
        assert torch.equal(prior[name], part.prior(x[name], own))
        assert torch.equal(x_s[name], part.bridge(x_t[name], q.parts[name], t, s, own))
        total += part.elbo_rate(x[name], x_t[name], q.parts[name], t)
        kernels += part.log_kernel(x[name], x_t[name], t)
    assert torch.equal(JOINT.elbo_rate(x, x_t, q, t), total)
    assert torch.equal(JOINT.log_kernel(x, x_t, t), kernels)
    weights = kernels.softmax(1)
    assert torch.allclose(JOINT.mix(x, weights).mean["x"], weights @ x["x"])


@torch.no_grad()
def test_a_label_and_its_number_are_sampled_together() -> None:
    """The one loop, one solver, a state of a token and a float: the joint law comes out."""
    n = 1_200
    items = {
        "label": torch.tensor([[0], [0], [1], [2], [2]]),
        "x": torch.tensor([[-2.2], [-1.8], [0.0], [2.0], [3.0]], dtype=F64),
    }
    p = torch.tensor([0.1, 0.2, 0.4, 0.25, 0.05], dtype=F64)
    denoiser, seeds = TableDenoiser(JOINT, items, p), Seeds.of(0, n)
    like = {"label": torch.zeros(n, 1, dtype=torch.long), "x": torch.zeros(n, 1, dtype=F64)}
    state = JOINT.prior(like, seeds.fold("prior"))
    for step in trajectory(denoiser, Ancestral(), LogSNR()(Cosine(), 80), state, seeds):
        state = step.x
    item = (state["x"] - items["x"][:, 0]).abs().argmin(1)
    assert float((state["x"][:, 0] - items["x"][item, 0]).abs().max()) < 0.05
    assert bool((items["label"][item] == state["label"]).double().mean() > 0.995)
    assert agrees(item.bincount(minlength=5).double(), p)
    frequencies = state["label"].flatten().bincount(minlength=K).double() / n
    for label, share, mean, spread in ((0, 0.3, -5.8 / 3, 0.2), (1, 0.4, 0.0, 0.05), (2, 0.3, 13 / 6, 0.4)):
        assert abs(float(frequencies[label]) - share) < 4 * math.sqrt(share * (1 - share) / n)
        found = state["x"][state["label"] == label]
        assert abs(float(found.mean()) - mean) < 4 * spread / math.sqrt(n * share) + 0.01
