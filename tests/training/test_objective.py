"""Losses: each weight against its formula, each minimum against its closed form."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine, Rectified, Schedule
from kuosan.core.shapes import at
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.denoisers.outputs import OUTPUTS, Output
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training.objective import WEIGHTS, Bound, Denoising
from kuosan.training.timing import TIMINGS, LogitNormalTiming, LogNormalTiming, Timing, UniformTiming
from tests.laws.exact_cases import SCHEDULES
from tests.training.small import Given, exact, midpoints

# Even times meet the whole of these: of VPLinear, a seventh of the bound lies in the first 10⁻⁵ of time.
VARIANCE_PRESERVING = {"cosine": Cosine(), "learned": SCHEDULES["learned"]}


def loss_by_hand(
    weight: str, output: Output, schedule: Schedule, x: torch.Tensor, eps: torch.Tensor, t: torch.Tensor,
    x_hat: torch.Tensor, f: torch.Tensor, density: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """The loss as the papers write it, from the data, the noise and what was predicted."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    snr, log_snr, step = (alpha / sigma).square(), 2 * (alpha / sigma).log(), 1e-6
    slope = (schedule.log_snr(t + step) - schedule.log_snr(t - step)) / (2 * step)
    error = (x - x_hat).square().mean(1)
    match weight:
        case "output":
            rates = [((g(t + step) - g(t - step)) / (2 * step)) for g in (schedule.alpha, schedule.sigma)]
            m = (alpha.square() + sigma.square()).sqrt()
            target = {
                "x": x,
                "eps": eps,
                "v": at(alpha, x) * eps - at(sigma, x) * x,
                "velocity": at(rates[0], x) * x + at(rates[1], x) * eps,
                "score": -eps / at(sigma, x),
                "edm": (x - at(alpha / m.square(), x) * (at(alpha, x) * x + at(sigma, x) * eps))
                * at(m / sigma, x),
            }[output]
            return (target - f).square().mean(1)
        case "min_snr":
            return torch.minimum(snr, torch.tensor(5.0)) * error
        case "edm":
            rho = sigma / alpha
            return (rho.square() + 1) / rho.square() * error
        case "sigmoid":
            return snr / (1 + (1 + log_snr).exp()) * -slope / density * error
        case "uniform":
            return -0.5 * snr * slope / density * error
    raise AssertionError(weight)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("schedule", [Cosine(), Rectified()], ids=["cosine", "rectified"])
def test_a_weighted_loss_is_the_formula(weight: str, output: Output, schedule: Schedule) -> None:
    n, timing = 16, TIMINGS["logitnormal"]
    seeds = Seeds.of(0, n)
    x, f = (seeds.fold(name).normal(torch.empty(n, 3, dtype=torch.float64)) for name in ("x", "f"))
    denoiser = NetworkDenoiser(GaussianProcess(schedule), Given(f), output)
    u = midpoints(n)
    with torch.no_grad():
        got = Denoising(weight, timing).at_quantiles(denoiser, x, u, seeds)
        t, eps = timing.quantile(schedule, u), seeds.normal(x)
        x_t = at(schedule.alpha(t), x) * x + at(schedule.sigma(t), x) * eps
        x_hat = denoiser(x_t, t).mean
    density = (-(torch.logit(t).square()) / 2).exp() / math.sqrt(2 * math.pi) / (t * (1 - t))
    wanted = loss_by_hand(weight, output, schedule, x, eps, t, x_hat, f, density)
    assert torch.allclose(got, wanted, rtol=2e-5)


@pytest.mark.parametrize("weight", ["min_snr", "edm", "sigmoid", "uniform"])
@pytest.mark.parametrize("schedule", [Cosine(), Rectified()], ids=["cosine", "rectified"])
def test_every_output_gives_the_same_loss(weight: str, schedule: Schedule) -> None:
    seeds = Seeds.of(3, 32)
    x = seeds.fold("x").normal(torch.empty(32, 5, dtype=torch.float64))
    losses = [
        Denoising(weight).at_quantiles(exact(schedule, output, 0.7), x, midpoints(32), seeds)
        for output in OUTPUTS
    ]
    for loss in losses[1:]:
        assert torch.allclose(loss, losses[0], rtol=1e-8)


@pytest.mark.parametrize(
    ("schedule", "output", "least"),
    [
        (Cosine(), "v", 1.0),  # ε and x trade places: the same at every level
        (Cosine(), "edm", 1.0),
        (Cosine(), "x", 0.5),  # the mean of σ²
        (Cosine(), "eps", 0.5),  # the mean of α²
        (Rectified(), "velocity", math.pi / 2),  # ∫ dt / (t² + (1 - t)²)
    ],
)
def test_the_exact_denoiser_of_unit_data_has_the_known_least_loss(
    schedule: Schedule, output: Output, least: float
) -> None:
    n, d = 4000, 16
    seeds = Seeds.of(1, n)
    x = seeds.fold("x").normal(torch.empty(n, d, dtype=torch.float64))
    loss = Denoising("output").at_quantiles(exact(schedule, output), x, midpoints(n), seeds)
    stderr = float(loss.std()) / n**0.5
    assert float(loss.mean()) == pytest.approx(least, abs=4 * stderr)
    assert stderr < 0.02 * least


def mean_and_error(weight: str, timing: Timing, schedule: Schedule, scale: float) -> tuple[float, float]:
    """The loss's expectation for x ~ N(0, scale²) and its standard error."""
    n, d = 12_000, 128
    seeds = Seeds.of(2, n)
    x = scale * seeds.fold("x").normal(torch.empty(n, d, dtype=torch.float64))
    with torch.no_grad():
        loss = Denoising(weight, timing).at_quantiles(exact(schedule, "v", scale), x, midpoints(n), seeds)
    # The noise within a level: ‖x - x̂‖²/d has the relative variance 2/d.
    return float(loss.mean()), float((loss.square().sum() * 2 / (d + 2)).sqrt()) / n


@pytest.mark.parametrize("timing", [UniformTiming(), LogNormalTiming(0, 4), LogitNormalTiming(0, 3)], ids=str)
@pytest.mark.parametrize("schedule", VARIANCE_PRESERVING)
def test_the_bounds_mean_is_the_information_whatever_the_density_of_times(
    timing: Timing, schedule: str
) -> None:
    """½ ∫ mmse dSNR = ½ log(1 + s² SNR) between the ends (Guo, Shamai & Verdú 2005), for x ~ N(0, s²)."""
    curve, scale = VARIANCE_PRESERVING[schedule], 0.8
    mean, stderr = mean_and_error("uniform", timing, curve, scale)
    with torch.no_grad():
        ends = curve.log_snr(curve.clip(torch.tensor([0.0, 1.0], dtype=torch.float64)))
    low, high = (0.5 * torch.log1p(scale**2 * ends.flip(0).exp())).tolist()
    assert mean == pytest.approx(high - low, abs=4 * stderr + 0.01)
    assert stderr < 0.02 * (high - low)


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize(
    "schedule", [Cosine(), Rectified(), SCHEDULES["learned"]], ids=["cosine", "rectified", "learned"]
)
def test_the_sigmoid_weights_mean_is_an_integral_over_log_snr(timing: str, schedule: Schedule) -> None:
    scale = 0.8
    mean, stderr = mean_and_error("sigmoid", TIMINGS[timing], schedule, scale)
    with torch.no_grad():
        ends = schedule.log_snr(schedule.clip(torch.tensor([1.0, 0.0], dtype=torch.float64)))

    def integrand(log_snr: float) -> float:
        signal = scale**2 * math.exp(log_snr)
        return signal / (1 + signal) / (1 + math.exp(1 + log_snr))

    wanted = quad(integrand, *ends.tolist())[0]
    assert mean == pytest.approx(wanted, abs=4 * stderr + 1e-3)
    assert stderr < 0.02 * wanted


def test_the_bound_of_a_process_is_the_uniform_weight() -> None:
    seeds = Seeds.of(5, 64)
    x = seeds.fold("x").normal(torch.empty(64, 6, dtype=torch.float64))
    u = midpoints(64)
    denoiser = exact(Cosine(), "eps", 1.3)
    assert torch.allclose(
        Bound().at_quantiles(denoiser, x, u, seeds),
        Denoising("uniform").at_quantiles(denoiser, x, u, seeds),
        rtol=1e-9,
    )


def test_stratified_times_make_the_batchs_mean_vary_less() -> None:
    objective, denoiser, b = Denoising("output"), exact(Cosine(), "x"), 16
    means: dict[str, list[float]] = {"stratified": [], "independent": []}
    for seed in range(150):
        seeds = Seeds.of(seed, b)
        x = seeds.fold("x").normal(torch.empty(b, 64, dtype=torch.float64))
        means["stratified"].append(float(objective(denoiser, x, seeds).mean()))
        u = seeds.fold("alone").uniforms()
        means["independent"].append(float(objective.at_quantiles(denoiser, x, u, seeds.fold("noise")).mean()))
    variance = {k: float(torch.tensor(v, dtype=torch.float64).var()) for k, v in means.items()}
    # In theory 0.1: Var(σ²) = 1/8 between levels vanishes, E[2 σ⁴/64] = 3/256 within them stays.
    assert variance["stratified"] < 0.25 * variance["independent"]
    assert sum(means["stratified"]) / 150 == pytest.approx(0.5, abs=0.01)


class TwoHalves(nn.Module):
    """F = a and r = c, the same everywhere."""

    def __init__(self, a: float, c: float) -> None:
        super().__init__()
        self.a, self.c = (nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (a, c))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.cat([self.a.expand_as(x), self.c.expand_as(x)], dim=1)


@pytest.mark.parametrize("schedule", [Cosine(), Rectified()], ids=["cosine", "rectified"])
def test_a_learned_variance_is_least_surprised_at_the_truth_and_leaves_the_mean_alone(
    schedule: Schedule,
) -> None:
    n, d, scale = 2000, 8, 0.6
    seeds, u = Seeds.of(5, n), torch.full((n,), 0.4, dtype=torch.float64)
    x = scale * seeds.fold("x").normal(torch.empty(n, d, dtype=torch.float64))

    def slopes(c: float, balance: float) -> tuple[float, float]:
        denoiser = NetworkDenoiser(GaussianProcess(schedule), TwoHalves(0.0, c), "x", variance=True)
        Denoising("output", balance=balance).at_quantiles(denoiser, x, u, seeds).mean().backward()
        network = denoiser.network
        assert isinstance(network, TwoHalves)
        return float(network.a.grad), 0.0 if network.c.grad is None else float(network.c.grad)

    # F = 0 estimates x = 0, whose squared error is that of the data; r is measured from unit data's variance.
    level = schedule.level(torch.tensor([0.4], dtype=torch.float64))
    v = float(level.sigma.square() / (level.alpha.square() + level.sigma.square()))
    truth = math.log(float(x.square().mean()) / v)
    assert slopes(truth, 0.3)[1] == pytest.approx(0, abs=1e-12)
    assert slopes(truth - 0.1, 0.3)[1] == pytest.approx(0.15 * (1 - math.exp(0.1)))  # κ/2 (1 - error/V)
    assert slopes(truth - 1, 0.3)[0] == slopes(truth, 0.0)[0] != 0


def test_the_surprise_is_a_gaussians_negative_log_likelihood_of_what_is_predicted() -> None:
    n, d = 64, 5
    seeds, u = Seeds.of(6, n), midpoints(n)
    x = seeds.fold("x").normal(torch.empty(n, d, dtype=torch.float64))
    denoiser = NetworkDenoiser(GaussianProcess(Cosine()), TwoHalves(0.3, -0.5), "v", variance=True)
    with torch.no_grad():
        got = Denoising("output", balance=2.0).at_quantiles(denoiser, x, u, seeds)
        plain = Denoising("output").at_quantiles(denoiser, x, u, seeds)
        eps = seeds.normal(x)
        v = at(Cosine().alpha(u), x) * eps - at(Cosine().sigma(u), x) * x
    # v has the variance e^r of x's error times 1/σ², and x's is σ² e^r on a schedule that preserves variance.
    wanted = -torch.distributions.Normal(0.3, math.exp(-0.25)).log_prob(v).mean(1) - math.log(2 * math.pi) / 2
    assert torch.allclose((got - plain) / 2, wanted, rtol=1e-6)


@pytest.mark.parametrize(("weight", "output"), [("output", "x"), ("output", "v"), ("min_snr", "x")])
def test_errors_of_velocity_are_weighed_beside_those_of_frames(weight: str, output: Output) -> None:
    """Eq. 3 by hand along either side, with its least at the posterior's mean whatever κ."""
    n, scale = 400, 0.7
    seeds, u = Seeds.of(7, n), midpoints(n)
    x = scale * seeds.fold("x").normal(torch.empty(n, 2, 5, 4, dtype=torch.float64))
    blind = NetworkDenoiser(GaussianProcess(Cosine()), TwoHalves(0.2, 0.0), output, variance=True)
    plain = Denoising(weight)

    def loss(denoiser: NetworkDenoiser, objective: Denoising) -> Tensor:
        with torch.no_grad():
            return objective.at_quantiles(denoiser, x, u, seeds)

    with torch.no_grad():
        t = Cosine().clip(u)
        x_t = GaussianProcess(Cosine()).between(x, seeds.normal(x), t)
        error = x - blind(x_t, t).mean
    c = loss(blind, plain) / error.square().flatten(1).mean(1)
    for time in (0, 1):
        moved = error.diff(dim=2 + time).square().flatten(1).sum(1) / x[0].numel()
        wanted = loss(blind, plain) + 3.0 * c * moved
        assert torch.allclose(loss(blind, Denoising(weight, velocity=3.0, time=time)), wanted, rtol=1e-9)
    found = [
        float(loss(exact(Cosine(), output, s), Denoising(weight, velocity=50.0)).mean())
        for s in (0.5, scale, 0.9)
    ]
    assert found[1] < min(found[0], found[2])


@pytest.mark.parametrize("output", ["x", "v"])
def test_errors_of_what_is_watched_are_weighed_beside_those_of_states(output: Output) -> None:
    """Eq. 4 by hand, for a V that is not linear."""
    n = 64
    seeds, u = Seeds.of(8, n), midpoints(n)
    x = seeds.fold("x").normal(torch.empty(n, 2, 6, dtype=torch.float64))
    blind = NetworkDenoiser(GaussianProcess(Cosine()), TwoHalves(0.2, 0.0), output, variance=True)

    def watched(x: Tensor) -> Tensor:
        return x[:, 0] * x[:, 1].sin()

    t = Cosine().clip(u)
    plain, more = Denoising(), Denoising(feet=3.0, watched=watched)
    with torch.no_grad():
        x_hat = blind(GaussianProcess(Cosine()).between(x, seeds.normal(x), t), t).mean
        one, two = (o.at_quantiles(blind, x, u, seeds) for o in (plain, more))
    c = one / (x - x_hat).square().flatten(1).mean(1)
    missed = (watched(x) - watched(x_hat)).square().sum(1) / x[0].numel()
    seen = torch.minimum(Cosine().log_snr(t).exp(), torch.tensor(1.0))
    assert torch.allclose(two, one + 3.0 * c * seen * missed, rtol=1e-9)
