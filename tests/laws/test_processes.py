"""Laws of every exported process.

Discrete laws are sums over all states, Gaussian ones quadratures that are exact for the polynomials at hand;
only where a draw itself is tested is there anything random.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from kuosan.core.curves import CosineSurvival, Curve, LinearSurvival
from kuosan.core.grids import LogSNR
from kuosan.core.posteriors import Categorical, Gaussian, Joint, Point
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine, Level, Schedule
from kuosan.denoisers.exact import MixtureDenoiser, TableDenoiser
from kuosan.processes.discrete import DiscreteProcess, Masked, UniformNoise
from kuosan.processes.gaussian import GaussianProcess, bridge_terms
from kuosan.processes.joint import JointProcess
from kuosan.solvers import Ancestral, trajectory

from .exact_cases import SCHEDULES, mixture

F64 = torch.float64
NAMES = sorted(SCHEDULES)
K = 3
DISCRETE: dict[str, DiscreteProcess] = {
    f"{kind.__name__}-{type(keep).__name__}": kind(K, keep)
    for kind in (Masked, UniformNoise)
    for keep in (LinearSurvival(), CosineSurvival())
}
P = torch.tensor([0.5, 0.3, 0.2], dtype=F64)


def test_every_process_of_tokens_is_a_case() -> None:
    assert set(DiscreteProcess.__subclasses__()) == {type(p) for p in DISCRETE.values()}


# --- Gaussian -----------------------------------------------------------------------------------------------


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
        assert torch.allclose(x_t[i], math.cos(t[i] * math.pi / 2) * x[i] + math.sin(t[i] * math.pi / 2) * eps[i])
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
    """Nodes and weights of Gauss–Legendre quadrature, five in each panel between the knots of the schedules."""
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
    """∫ E[rate] dt = I(x; x_{t0}) - I(x; x_{t1}), I = ½ Σ log(1 + SNR·v); and with a denoiser for other data it
    is larger by KL(p_{t0} ‖ p̂_{t0}) - KL(p_{t1} ‖ p̂_{t1})."""
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


# --- tokens -------------------------------------------------------------------------------------------------


def noise_law(process: DiscreteProcess) -> Tensor:
    """π over the values of x_t (the mask last)."""
    if isinstance(process, Masked):
        return torch.tensor([0.0] * K + [1.0], dtype=F64)
    return torch.full((K,), 1 / K, dtype=F64)


def kernel(process: DiscreteProcess, keep: float) -> Tensor:
    """q(x_t | x) as a matrix (values of x_s or x, values of x_t) when a share ``keep`` survives."""
    noise = noise_law(process)
    return keep * torch.eye(len(noise), dtype=F64) + (1 - keep) * noise


def kept(keep: Curve, t: float) -> float:
    return float(keep(torch.tensor([t], dtype=F64)))


def agrees(counts: Tensor, probabilities: Tensor) -> bool:
    """χ² of counts against a law; what is impossible must not occur."""
    possible = probabilities > 0
    if counts[~possible].sum() > 0:
        return False
    counts, probabilities = counts[possible], probabilities[possible]
    return len(counts) == 1 or stats.chisquare(counts.numpy(), (probabilities * counts.sum()).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_tokens_survive_with_the_stated_probability(name: str) -> None:
    process, n = DISCRETE[name], 20_000
    x = torch.arange(n).remainder(K)[:, None].repeat(1, 2)
    t = torch.tensor([0.3, 0.8], dtype=F64).repeat_interleave(n // 2)  # one time per example
    x_t = process.corrupt(x, t, Seeds.of(0, n))
    for half, time in ((slice(0, n // 2), 0.3), (slice(n // 2, n), 0.8)):
        q = kernel(process, kept(process.keep, time))
        for value in range(K):
            for position in range(2):
                seen = x_t[half, position][x[half, position] == value]
                assert agrees(seen.bincount(minlength=len(q)).double(), q[value])


@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_the_prior_is_the_noise(name: str) -> None:
    process, n = DISCRETE[name], 6_000
    x = process.prior(torch.zeros(n, 2, dtype=torch.long), Seeds.of(1, n))
    for position in range(2):
        assert agrees(x[:, position].bincount(minlength=K).double(), noise_law(process))
    assert process.corrupt(torch.zeros(5, 2, dtype=torch.long), torch.zeros(5, dtype=F64), Seeds.of(0, 5)).sum() == 0


@pytest.mark.parametrize("name", sorted(DISCRETE))
@pytest.mark.parametrize(("t", "s"), [(0.8, 0.5), (1.0, 0.3), (0.6, 0.0), (0.3, 0.2)])
def test_bridge_after_corruption_has_the_joint_law_of_a_token(name: str, t: float, s: float) -> None:
    """Not x_s alone but the pair (x_s, x_t): q(x_s) q(x_t | x_s)."""
    process, n = DISCRETE[name], 20_000
    denoiser = TableDenoiser(process, torch.arange(K)[:, None], P)
    x = (Seeds.of(1, n).uniforms()[:, None] > P.cumsum(0)).sum(1, keepdim=True)
    times, ends = (torch.tensor(v, dtype=F64).expand(n) for v in (t, s))
    x_t = process.corrupt(x, times, Seeds.of(2, n))
    x_s = process.bridge(x_t, denoiser(x_t, times), times, ends, Seeds.of(3, n))
    keep_t, keep_s = kept(process.keep, t), kept(process.keep, s)
    law_s = P @ kernel(process, keep_s)[:K]
    joint = law_s[:, None] * kernel(process, keep_t / keep_s)
    size = len(law_s)
    counts = (x_s * size + x_t).flatten().bincount(minlength=size**2).double()
    assert agrees(counts.reshape(size, size).sum(1), law_s)
    assert agrees(counts, joint.flatten())


@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_a_step_of_no_length_changes_nothing(name: str) -> None:
    process = DISCRETE[name]
    x_t = process.corrupt(torch.arange(60).remainder(K).reshape(6, 10), torch.full((6,), 0.5).double(), Seeds.of(0, 6))
    q = Categorical(torch.zeros(6, 10, K, dtype=F64))
    t = torch.full((6,), 0.5, dtype=F64)
    assert torch.equal(process.bridge(x_t, q, t, t, Seeds.of(1, 6)), x_t)


def test_masks_are_lifted_once_and_for_all() -> None:
    process = Masked(K, LinearSurvival())
    x_t = torch.tensor([[0, 3, 2, 3, 1, 3]]).repeat(500, 1)
    q = Categorical(torch.zeros(500, 6, K, dtype=F64))
    times, middle, end = (torch.tensor(v, dtype=F64).expand(500) for v in (0.7, 0.4, 0.0))
    x_s = process.bridge(x_t, q, times, middle, Seeds.of(0, 500))
    seen = x_t != K
    assert torch.equal(x_s[seen], x_t[seen])
    left = float((x_s[~seen] == K).double().mean())
    assert abs(left - 0.4 / 0.7) < 4 * math.sqrt(0.25 / 1500)
    assert int(process.bridge(x_t, q, times, end, Seeds.of(0, 500)).max()) < K


TABLES = {
    1: ([[0], [1], [2]], [0.5, 0.3, 0.2]),
    2: ([[0, 0], [0, 2], [1, 1], [2, 1]], [0.4, 0.1, 0.3, 0.2]),
    3: ([[0, 0, 1], [0, 2, 1], [1, 1, 0], [2, 0, 0], [2, 2, 2]], [0.35, 0.05, 0.2, 0.3, 0.1]),
}


def bound(process: DiscreteProcess, items: Tensor, p: Tensor, model: Tensor) -> float:
    """∫ E[elbo_rate] dt over all data and all corrupted states, for the exact denoiser of the law ``model``."""
    values, length = len(noise_law(process)), items.shape[1]
    states = torch.tensor(list(itertools.product(range(values), repeat=length)))
    denoiser = TableDenoiser(process, items, model)
    u, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(60))
    u, w = (1 + u) / 2, w / 2
    times, weights = u**2 * (3 - 2 * u), w * 6 * u * (1 - u)  # the ends, where logarithms grow, are resolved
    total = 0.0
    for t, weight in zip(times.tolist(), weights.tolist(), strict=True):
        q = kernel(process, kept(process.keep, t))
        each = q[items[:, None], states[None]].prod(-1) * p[:, None]  # p(x) q(x_t | x)
        i, j = each.nonzero(as_tuple=True)
        t_ = torch.tensor(t, dtype=F64).expand(len(i))
        rate = process.elbo_rate(items[i], states[j], denoiser(states[j], t_), t_)
        assert bool((rate > -1e-12).all())
        total += weight * float(each[i, j] @ rate)
    return total


@pytest.mark.parametrize("length", sorted(TABLES))
@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_the_bound_of_the_exact_denoiser_is_the_entropy(name: str, length: int) -> None:
    """Tokens change one at a time in continuous time, so a posterior of independent positions loses nothing;
    with the exact denoiser of another law the bound is the cross entropy, larger by the divergence."""
    items, p = torch.tensor(TABLES[length][0]), torch.tensor(TABLES[length][1], dtype=F64)
    model = torch.linspace(1, 2, len(p), dtype=F64)
    model /= model.sum()
    assert bound(DISCRETE[name], items, p, p) == pytest.approx(float(-(p * p.log()).sum()), abs=1e-6)
    assert bound(DISCRETE[name], items, p, model) == pytest.approx(float(-(p * model.log()).sum()), abs=1e-6)


@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_any_guess_costs_something_and_the_truth_the_least(name: str) -> None:
    """Pointwise in t and x_t: E_{x ~ q} rate(q') ≥ E_{x ~ q} rate(q), and no rate is negative."""
    process, t = DISCRETE[name], torch.tensor([0.4], dtype=F64)
    guesses = Seeds.of(0, 40).normal(torch.empty(40, 1, K, dtype=F64))
    states = torch.arange(len(noise_law(process)))
    truth = TableDenoiser(process, torch.arange(K)[:, None], P)
    for x_t in states[:, None, None]:
        q = truth(x_t, t)

        def expected(logits: Tensor, x_t: Tensor = x_t, q: Categorical = q) -> float:
            rates = [process.elbo_rate(torch.tensor([[x]]), x_t, Categorical(logits), t) for x in range(K)]
            assert min(float(r) for r in rates) > -1e-12
            return sum(float(p * r) for p, r in zip(q.mean.flatten(), rates, strict=True) if p > 0)

        least = expected(q.logits)
        assert all(expected(guess[None]) >= least for guess in guesses)


@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_log_kernel_is_the_log_of_the_kernel(name: str) -> None:
    process, t = DISCRETE[name], torch.tensor([0.3, 0.8], dtype=F64)
    items = torch.tensor(TABLES[3][0])
    seen = torch.tensor([[0, 2, 1], [2, 0, 0]])
    if isinstance(process, Masked):
        seen = torch.tensor([[0, K, 1], [K, 0, K]])
    got = process.log_kernel(items, seen, t).softmax(1)
    for i in range(2):
        q = kernel(process, kept(process.keep, float(t[i])))[items, seen[i]].prod(-1)
        assert torch.allclose(got[i], q / q.sum(), rtol=1e-12, atol=1e-15)


# --- joint --------------------------------------------------------------------------------------------------

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
