"""Laws of noise distributions, of additive processes, and of the solvers that need no Gaussian."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from kuosan.core.grids import LogSNR
from kuosan.core.posteriors import Point, Posterior
from kuosan.core.random import Seeds
from kuosan.core.schedules import EDM, Cosine, Rectified
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import MixtureDenoiser, TableDenoiser
from kuosan.processes import noises
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.base import Bridged, Process, Reversible
from kuosan.processes.gaussian import GaussianProcess, bridge_terms
from kuosan.processes.mixtures import ScaleMixtureProcess
from kuosan.processes.noises import (
    Binary,
    GeneralisedNormal,
    Laplace,
    Noise,
    Normal,
    ScaleMixture,
    Student,
    Uniform,
)
from kuosan.solvers import DDIM, SOLVERS, Cold, Heun, Redraw, sample, solver

from .exact_cases import mixture
from .test_solvers import SEEDS, X

F64 = torch.float64
ROOT3 = math.sqrt(3)


# Every noise with SciPy's law of one element.
LAWS = {
    "normal": (Normal(), stats.norm()),
    "uniform": (Uniform(), stats.uniform(-ROOT3, 2 * ROOT3)),
    "laplace": (Laplace(), stats.laplace(scale=math.sqrt(0.5))),
    "generalised_heavy": (
        GeneralisedNormal(0.7),
        stats.gennorm(0.7, scale=math.sqrt(math.gamma(1 / 0.7) / math.gamma(3 / 0.7))),
    ),
    "generalised_light": (
        GeneralisedNormal(5.0),
        stats.gennorm(5.0, scale=math.sqrt(math.gamma(1 / 5.0) / math.gamma(3 / 5.0))),
    ),
    "student_shared": (Student(4.5), stats.t(4.5, scale=math.sqrt(2.5 / 4.5))),
    "student_independent": (Student(2.5, shared=False), stats.t(2.5, scale=math.sqrt(0.5 / 2.5))),
    "cauchy": (Student(1.0, shared=False), stats.cauchy()),
}
NOISES: dict[str, Noise] = {name: noise for name, (noise, _) in LAWS.items()} | {"binary": Binary()}
MIXTURES = {name: noise for name, noise in NOISES.items() if isinstance(noise, ScaleMixture)}
SMOOTH = [name for name in NOISES if name != "binary"]


def process_of(noise: Noise, schedule: object = None) -> AdditiveProcess:
    schedule = schedule or Cosine()
    if isinstance(noise, Normal):
        return GaussianProcess(schedule)  # type: ignore[arg-type]
    kind = ScaleMixtureProcess if isinstance(noise, ScaleMixture) else AdditiveProcess
    return kind(schedule, noise)  # type: ignore[arg-type]


def follows(x: Tensor, law: object) -> bool:
    return float(stats.kstest(x.numpy(), law.cdf).pvalue) > 1e-3  # type: ignore[attr-defined]


def test_every_noise_is_a_case() -> None:
    concrete = {
        c
        for c in vars(noises).values()
        if isinstance(c, type) and issubclass(c, Noise) and not c.__abstractmethods__
    }
    assert {type(noise) for noise in NOISES.values()} == concrete


@pytest.mark.parametrize("name", sorted(LAWS))
def test_draws_and_density_are_the_stated_law(name: str) -> None:
    noise, law = LAWS[name]
    n = 4_000
    assert follows(noise.draw(torch.empty(n, dtype=F64), Seeds.of(1, n)), law)
    eps = torch.linspace(-1.7, 1.7, 35, dtype=F64)
    assert np.allclose(noise.log_density(eps).numpy(), law.logpdf(eps.numpy()), rtol=1e-10, atol=1e-12)
    assert noise.variance == pytest.approx(law.var() if law.var() < 1e9 else math.inf)


def test_a_binary_noise_is_a_fair_coin() -> None:
    n = 4_000
    eps = Binary().draw(torch.empty(n, 2, dtype=F64), Seeds.of(1, n))
    assert set(eps.unique().tolist()) == {-1.0, 1.0}
    share = (eps > 0).double().mean(0)
    both = (eps > 0).all(1).double().mean()
    assert bool(((share - 0.5).abs() < 4 * 0.5 / n**0.5).all()) and abs(both - 0.25) < 4 * 0.433 / n**0.5
    expected = torch.tensor([2 * math.log(0.5), -math.inf], dtype=F64)
    got = Binary().log_density(torch.tensor([[1.0, -1.0], [1.0, 0.9]], dtype=F64))
    assert torch.allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize(("power", "law"), [(1.0, Laplace()), (2.0, Normal()), (64.0, Uniform())])
def test_the_generalised_normal_passes_through_its_relatives(power: float, law: Noise) -> None:
    eps = torch.linspace(-1.6, 1.6, 9, dtype=F64)
    got = GeneralisedNormal(power).log_density(eps)
    assert torch.allclose(got, law.log_density(eps), rtol=0, atol=1e-12 if power < 3 else 0.06)


@pytest.mark.parametrize("name", sorted(set(LAWS) - {"cauchy"}))
def test_moments_are_those_of_the_table(name: str) -> None:
    """Total, variance and kurtosis by quadrature of the density."""
    noise, _ = LAWS[name]
    if isinstance(noise, GeneralisedNormal):
        p = noise.power
        fourth = math.gamma(5 / p) * math.gamma(1 / p) / math.gamma(3 / p) ** 2
    elif isinstance(noise, Student):
        fourth = 3 + 6 / (noise.df - 4) if noise.df > 4 else math.inf
    else:
        fourth = 3 + {"normal": 0.0, "uniform": -1.2, "laplace": 3.0}[name]

    def moment(k: int) -> float:
        def f(e: float) -> float:
            return e**k * math.exp(float(noise.log_density(torch.tensor([e], dtype=F64))))

        if isinstance(noise, Uniform):
            return 2 * float(integrate.quad(f, 0, ROOT3)[0])
        return 2 * float(integrate.quad(f, 0, 1)[0] + integrate.quad(f, 1, np.inf, limit=400)[0])

    assert moment(0) == pytest.approx(1, rel=1e-6) and moment(2) == pytest.approx(1, rel=1e-4)
    if math.isfinite(fourth):
        assert moment(4) == pytest.approx(fourth, rel=1e-3 if isinstance(noise, Student) else 1e-6)


def test_a_shared_scale_makes_the_multivariate_law() -> None:
    noise, n, d = Student(3.5), 3_000, 6
    shape = (n, 2, 3)
    eps = noise.draw(torch.empty(shape, dtype=F64), Seeds.of(2, n))
    c2 = 1.5 / 3.5
    law = stats.multivariate_t(np.zeros(d), c2 * np.eye(d), df=3.5)
    got = noise.log_density(eps[:50])
    assert np.allclose(got.numpy(), law.logpdf(eps[:50].flatten(1).numpy()), rtol=1e-10)
    assert follows(eps.square().flatten(1).sum(1) / (c2 * d), stats.f(d, 3.5))
    apart = Student(3.5, shared=False)
    assert np.allclose(
        apart.log_density(eps[:50]).numpy(),
        stats.t(3.5, scale=c2**0.5).logpdf(eps[:50].flatten(1).numpy()).sum(1),
        rtol=1e-10,
    )


@pytest.mark.parametrize("name", sorted(NOISES))
def test_a_draw_depends_on_its_own_key_alone(name: str) -> None:
    noise, seeds = NOISES[name], Seeds.of(0, 6)
    whole = noise.draw(torch.empty(6, 2, 3, dtype=F64), seeds)
    assert torch.equal(noise.draw(torch.empty(2, 2, 3, dtype=F64), seeds[3:5]), whole[3:5])
    single = noise.draw(torch.empty(6, 2, 3), seeds)
    assert single.dtype == torch.float32 and torch.equal(single, whole.float())
    if isinstance(noise, ScaleMixture):
        again = noise.again(whole, seeds)
        assert torch.equal(noise.again(whole[3:5], seeds[3:5]), again[3:5])
        assert not torch.equal(again, whole)


# -- scale mixtures -----------------------------------------------------------------------------------------


def scale_law(noise: ScaleMixture) -> object:
    """SciPy's law of W."""
    if isinstance(noise, Laplace):
        return stats.expon()
    assert isinstance(noise, Student)
    c2 = (noise.df - 2) / noise.df if noise.df > 2 else 1.0
    return stats.invgamma(noise.df / 2, scale=c2 * noise.df / 2)


@pytest.mark.parametrize("eps", [0.02, 0.5, 4.0])
@pytest.mark.parametrize("name", sorted(MIXTURES))
def test_the_scale_given_the_noise_is_bayes_rule(name: str, eps: float) -> None:
    """p(W | ε) ∝ p(W) N(ε; 0, W), one element, by quadrature over log W."""
    noise, n = MIXTURES[name], 3_000
    drawn = noise.scale(torch.full((n,), eps, dtype=F64), Seeds.of(3, n))
    prior = scale_law(noise)
    log_w = np.linspace(-18, 18, 40_001)
    w = np.exp(log_w)
    log_p = prior.logpdf(w) - eps**2 / (2 * w) - log_w / 2 + log_w  # type: ignore[attr-defined]
    p = np.exp(log_p - log_p.max())
    cdf = np.concatenate([[0.0], np.cumsum((p[1:] + p[:-1]) / 2)])
    assert stats.kstest(drawn.log().numpy(), lambda v: np.interp(v, log_w, cdf / cdf[-1])).pvalue > 1e-3


@pytest.mark.parametrize("schedule", [Cosine(), Rectified(), EDM()])
@pytest.mark.parametrize("name", sorted(MIXTURES))
@torch.no_grad()
def test_bridge_after_corruption_has_the_marginal(name: str, schedule: Cosine) -> None:
    """x_s given x alone is α_s x + σ_s ε, element by element and in length."""
    noise, n = MIXTURES[name], 4_000
    process = process_of(noise, schedule)
    seeds, x = Seeds.of(5, n), torch.tensor([[0.8, -1.5, 0.3]], dtype=F64).expand(n, 3)
    t, s = (time.expand(n) for time in schedule.time_of(torch.tensor([-1.0, 1.5], dtype=F64)))
    x_t = process.corrupt(x, t, seeds.fold("t"))
    x_s = process.bridge(x_t, Point(x), t, s, seeds.fold("s"))  # type: ignore[attr-defined]
    level = schedule.level(s[:1])
    eps = (x_s - level.alpha * x) / level.sigma
    for i in range(3):
        assert follows(eps[:, i], LAWS[name][1])
    if isinstance(noise, Student) and noise.shared:
        assert follows(eps.square().sum(1) / (3 * 2.5 / 4.5), stats.f(3, noise.df))
    else:
        exceeds = eps.abs() > eps.abs().median(0).values
        agree = (exceeds[:, 0] == exceeds[:, 1]).double().mean()  # independent elements agree half the time
        assert abs(float(agree) - 0.5) < 4 * 0.5 / n**0.5


@pytest.mark.parametrize("shared", [True, False])
@torch.no_grad()
def test_the_bridge_of_student_noise_is_student_again(shared: bool) -> None:
    df, n, d = 3.0, 4_000, 4
    process = ScaleMixtureProcess(Cosine(), Student(df, shared))
    x, x_t = (
        torch.tensor([[1.0, 0.0, -0.5, 0.2]], dtype=F64),
        torch.tensor([[0.3, -2.0, 0.9, 0.1]], dtype=F64),
    )
    t, s = (torch.full((n,), v, dtype=F64) for v in (0.7, 0.4))
    x_s = process.bridge(x_t.expand(n, d), Point(x.expand(n, d)), t, s, Seeds.of(6, n))
    here = process.schedule.level(t[:1])
    a, b, v = bridge_terms(here, process.schedule.level(s[:1]))
    c2, size = (df - 2) / df, d if shared else 1
    squares = ((x_t - here.alpha * x) / here.sigma).square() / c2
    squares = squares.sum(1, keepdim=True).expand(1, d) if shared else squares
    scale = (v * c2 * (df + squares) / (df + size)).sqrt()
    for i in range(d):
        got = (x_s[:, i] - a * x_t[0, i] - b * x[0, i]) / scale[0, i]
        assert follows(got, stats.t(df + size))


@torch.no_grad()
def test_a_bridge_of_no_length_stays_and_one_to_the_data_arrives() -> None:
    for noise in MIXTURES.values():
        process, seeds = process_of(noise), Seeds.of(0, 3)
        t = torch.full((3,), 0.6, dtype=F64)
        x_t = process.corrupt(X, t, seeds)
        assert isinstance(process, Reversible) and not isinstance(process, Bridged)
        assert torch.allclose(process.bridge(x_t, Point(X), t, t, seeds), x_t, rtol=1e-12, atol=1e-12)
        assert torch.equal(process.bridge(x_t, Point(X), t, 0 * t, seeds), X)


@torch.no_grad()
def test_a_very_heavy_degree_of_freedom_is_gaussian() -> None:
    gauss, student = GaussianProcess(Cosine()), ScaleMixtureProcess(Cosine(), Student(1e9))
    t = torch.full((3,), 0.6, dtype=F64)
    x_t = gauss.corrupt(X, t, SEEDS)
    assert torch.allclose(student.corrupt(X, t, SEEDS), x_t, rtol=0, atol=1e-3)
    same = gauss.log_kernel(X, x_t, t).softmax(1)
    assert torch.allclose(student.log_kernel(X, x_t, t).softmax(1), same, atol=1e-6)
    assert torch.allclose(
        AdditiveProcess(Cosine(), Normal()).log_kernel(X, x_t, t).softmax(1), same, atol=1e-12
    )


# -- solvers ------------------------------------------------------------------------------------------------


def table(noise: Noise, items: Tensor, weights: Tensor | None = None) -> TableDenoiser:
    return TableDenoiser(process_of(noise), items, weights)


@pytest.mark.parametrize("name", sorted(NOISES))
def test_every_fitting_solver_recovers_a_single_datum(name: str) -> None:
    item = torch.tensor([[0.4, -0.8]], dtype=F64)
    denoiser = table(NOISES[name], item)
    x = denoiser.process.prior(X, SEEDS)
    if name == "binary":  # whose states lie on a lattice, which only exact steps keep to
        denoiser = Known(denoiser.process, item)
    for how in SOLVERS:
        if isinstance(denoiser.process, solver(how).needs) and how != "euler":
            end = sample(denoiser, solver(how), LogSNR()(Cosine(), 5), x, SEEDS)
            assert torch.allclose(end, item.expand(3, 2), rtol=0, atol=1e-9), how


class Known(Denoiser):
    """Knows each example's datum."""

    def __init__(self, process: Process, x: Tensor) -> None:
        super().__init__()
        self.process, self.x = process, x

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Posterior:
        return Point(self.x.expand_as(x_t))


@pytest.mark.parametrize("name", SMOOTH)
def test_the_flow_of_any_noise_carries_its_law_to_the_data(name: str) -> None:
    """On a line a flow keeps the order, so a prior's quantile below P(first item) must end at the first item."""
    noise, law = LAWS[name]
    denoiser = table(
        noise, torch.tensor([[-1.0], [0.2], [1.3]], dtype=F64), torch.tensor([0.25, 0.45, 0.3], dtype=F64)
    )
    u = torch.linspace(0.05, 0.95, 19, dtype=F64) + 0.003
    u = u[((u - 0.25).abs() > 0.02) & ((u - 0.7).abs() > 0.02)]
    x = torch.from_numpy(law.ppf(u.numpy()))[:, None]
    end = sample(denoiser, Heun(), LogSNR()(Cosine(), 200), x, Seeds.of(0, len(x)))
    expected = torch.tensor([-1.0, 0.2, 1.3], dtype=F64)[(u > 0.25).long() + (u > 0.7)]
    assert torch.allclose(end[:, 0], expected, atol=0.05)


@pytest.mark.parametrize("schedule", [Cosine(), Rectified(), EDM()])
def test_cold_sampling_with_gaussian_noise_is_ddim(schedule: Cosine) -> None:
    denoiser = mixture(schedule)
    start = float(schedule.time_of(torch.tensor([-4.0], dtype=F64)))
    grid = torch.linspace(start, 0, 9, dtype=F64)
    got = sample(denoiser, Cold(), grid, X, SEEDS)
    assert torch.allclose(got, sample(denoiser, DDIM(), grid, X, SEEDS), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", sorted(NOISES))
def test_redrawing_around_the_truth_keeps_the_marginal(name: str) -> None:
    noise, n = NOISES[name], 3_000
    process = process_of(noise)
    x = torch.linspace(-1, 1, n, dtype=F64)[:, None]
    denoiser, seeds = Known(process, x), Seeds.of(7, n)
    x_s = sample(denoiser, Redraw(), torch.tensor([0.8, 0.5, 0.3], dtype=F64), process.prior(x, seeds), seeds)
    level = process.schedule.level(torch.tensor([0.3], dtype=F64))
    eps = ((x_s - level.alpha * x) / level.sigma)[:, 0]
    if name == "binary":
        assert torch.allclose(eps.abs(), torch.ones(n, dtype=F64)) and abs(float(eps.mean())) < 4 / n**0.5
    else:
        assert follows(eps, LAWS[name][1])


def test_redrawing_with_the_exact_posterior_keeps_the_law_at_any_step() -> None:
    """Gaussian data, two long steps."""
    n, mean, variance = 4_000, 0.7, 0.5
    denoiser = MixtureDenoiser(
        GaussianProcess(Cosine()), torch.tensor([[mean]], dtype=F64), torch.tensor([[variance]], dtype=F64)
    )
    seeds, like = Seeds.of(8, n), torch.empty(n, 1, dtype=F64)
    grid = torch.tensor([1.0, 0.5, 0.0], dtype=F64)
    end = sample(denoiser, Redraw(), grid, denoiser.process.prior(like, seeds), seeds)
    assert follows(end[:, 0], stats.norm(mean, variance**0.5))


def test_a_solver_that_draws_gaussian_noise_takes_no_other() -> None:
    for how in (SOLVERS["sde-dpm++2m"](), DDIM(eta=0.5), SOLVERS["ancestral"]()):
        denoiser = table(Uniform(), X)
        with pytest.raises(TypeError, match="needs a"):
            sample(denoiser, how, torch.linspace(1, 0, 3, dtype=F64), X, SEEDS)
    with pytest.raises(TypeError, match="needs a GaussianProcess"):
        sample(table(Laplace(), X), SOLVERS["sde-dpm++2m"](), torch.linspace(1, 0, 3), X, SEEDS)


@pytest.mark.parametrize(
    "make", [lambda: Student(0.5), lambda: GeneralisedNormal(0.1), lambda: Student(math.nan)]
)
def test_shapes_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="not"):
        make()  # type: ignore[operator]
