"""Laws of every denoiser: outputs are one system, exact posteriors are Bayes' rule."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.core.schedules import EDM, Cosine, Learned, Rectified, Schedule
from kuosan.core.shapes import as_time, at
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.denoisers.outputs import OUTPUTS, Output, data_terms, row, weight_of_output
from kuosan.guidance.classifier_free import ClassifierFree
from kuosan.processes.gaussian import GaussianProcess, bridge_terms
from kuosan.solvers.base import shared_times

from .exact_cases import SCHEDULES, learned, mixture

F64 = torch.float64
NAMES = sorted(SCHEDULES)
PRESERVING = [n for n in NAMES if n not in {"rectified", "shifted_rectified", "edm", "shifted_edm"}]
B = 8  # as many examples as rows and columns of a picture, where wrong broadcasting is silent


def times(schedule: Schedule) -> Tensor:
    """Eight times, from much noise to little."""
    with torch.no_grad():
        return schedule.time_of(torch.linspace(-4.5, 9, B, dtype=F64))


def normal(seed: int, *shape: int) -> Tensor:
    return Seeds.of(seed, shape[0]).normal(torch.empty(shape, dtype=F64))


def formula(
    output: Output, schedule: Schedule, t: Tensor, x: Tensor, eps: Tensor, sigma_data: float
) -> Tensor:
    """F as its authors define it, written without the package's own table."""
    alpha, sigma = at(schedule.alpha(t), x), at(schedule.sigma(t), x)
    alpha_rate, sigma_rate = (at(r, x) for r in schedule.rates(t))
    total = alpha**2 * sigma_data**2 + sigma**2
    c_skip, c_out = alpha * sigma_data**2 / total, sigma * sigma_data / total.sqrt()
    return {
        "x": x,
        "eps": eps,
        "v": alpha * eps - sigma * x,
        "velocity": alpha_rate * x + sigma_rate * eps,
        "score": -eps / sigma,
        "edm": (x - c_skip * (alpha * x + sigma * eps)) / c_out,
    }[output]


class Saying(nn.Module):
    """A network that says the same whatever it is asked, and remembers what it was asked."""

    def __init__(self, answer: Tensor):
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        self.asked = (x, label)
        return self.answer


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_every_output_is_the_same_data(name: str, output: Output, sigma_data: float) -> None:
    schedule = SCHEDULES[name]
    t, x, eps = times(schedule), normal(0, B, 3, 8, 8), normal(1, B, 3, 8, 8)
    x_t = at(schedule.alpha(t), x) * x + at(schedule.sigma(t), x) * eps
    network = Saying(formula(output, schedule, t, x, eps, sigma_data))
    got = NetworkDenoiser(GaussianProcess(schedule), network, output, sigma_data)(x_t, t).mean
    assert float((got - x).abs().max()) < 1e-12
    # the input has the variance of the data brought to one, the label is the index of a table of 1000
    inputs, label = network.asked
    scale = ((schedule.alpha(t) * sigma_data) ** 2 + schedule.sigma(t) ** 2) ** -0.5
    assert torch.allclose(inputs, at(scale, x) * x_t, rtol=1e-13)
    assert torch.allclose(label, 1000 * t - 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_rows_terms_and_weights_are_one_system(name: str, output: Output) -> None:
    schedule = SCHEDULES[name]
    level = schedule.level(times(schedule))
    a, b = row(output, schedule, level, 0.7)
    f, g = data_terms(output, schedule, level, 0.7)
    # x = f (a x + b ε) + g (α x + σ ε) for any x and ε
    assert torch.allclose(f * a + g * level.alpha, torch.ones(B, dtype=F64), rtol=0, atol=1e-12)
    assert torch.allclose(f * b + g * level.sigma, torch.zeros(B, dtype=F64), rtol=0, atol=1e-12)
    assert torch.allclose(weight_of_output(output, schedule, level, 0.7), f**-2, rtol=1e-10)


@pytest.mark.parametrize("name", PRESERVING)
@torch.no_grad()
def test_edm_with_unit_data_is_minus_v_where_variance_is_preserved(name: str) -> None:
    schedule = SCHEDULES[name]
    level = schedule.level(times(schedule))
    for ours, v in zip(row("edm", schedule, level), row("v", schedule, level), strict=True):
        assert torch.allclose(ours, -v, rtol=1e-13)


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
@torch.no_grad()
def test_edm_is_the_preconditioning_of_its_paper(sigma_data: float) -> None:
    """Karras et al. 2022, table 1: c_skip, c_out, c_in."""
    level = EDM().level(times(EDM()))
    f, g = data_terms("edm", EDM(), level, sigma_data)
    total = level.sigma**2 + sigma_data**2
    assert torch.allclose(f, level.sigma * sigma_data / total.sqrt(), rtol=1e-13)
    assert torch.allclose(g, sigma_data**2 / total, rtol=1e-13)
    assert torch.allclose(
        weight_of_output("edm", EDM(), level, sigma_data), total / (level.sigma * sigma_data) ** 2
    )


@torch.no_grad()
def test_known_weights() -> None:
    """ε-loss is SNR times x-loss; v-loss is SNR + 1 times (Salimans & Ho 2022, sec. 4)."""
    level = Cosine().level(times(Cosine()))
    snr = level.log_snr.exp()
    assert torch.allclose(weight_of_output("eps", Cosine(), level), snr, rtol=1e-12)
    assert torch.allclose(weight_of_output("v", Cosine(), level), snr + 1, rtol=1e-12)
    # on straight lines u = ε - x, so x = x_t - t u
    f, g = data_terms("velocity", Rectified(), Rectified().level(times(Rectified())))
    assert torch.allclose(f, -times(Rectified())) and torch.allclose(g, torch.ones(B, dtype=F64))


def test_an_unknown_output_lists_the_known_ones() -> None:
    level = Cosine().level(torch.tensor([0.5], dtype=F64))
    with pytest.raises(ValueError, match="choose one of x, eps, v, velocity, score, edm"):
        row("noise", Cosine(), level)  # type: ignore[arg-type]


class Small(nn.Module):
    """A smooth function of every input."""

    def forward(self, x: Tensor, label: Tensor, shade: Tensor | None = None) -> Tensor:
        extra = 0 if shade is None else at(shade, x)
        return torch.sin(2 * x + at(label / 300, x)) + extra * x.flip(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_time_per_example_equals_a_loop_and_a_shared_time(
    name: str, output: Output, dtype: torch.dtype
) -> None:
    denoiser = NetworkDenoiser(GaussianProcess(SCHEDULES[name]), Small(), output, 0.7)
    t = times(SCHEDULES[name])
    x_t, shade = normal(2, B, 3, 8, 8).to(dtype), normal(3, B).to(dtype)
    together = denoiser(x_t, t, shade=shade).mean
    assert together.dtype == dtype
    tolerance = {"rtol": 1e-11, "atol": 1e-11} if dtype == F64 else {"rtol": 1e-4, "atol": 2e-3}
    for i in range(B):
        alone = denoiser(x_t[i : i + 1], t[i : i + 1], shade=shade[i : i + 1]).mean
        assert torch.allclose(alone[0], together[i], **tolerance)
        shared = denoiser(x_t, as_time(t[i], B), shade=shade).mean
        loose = denoiser(x_t, t[i].repeat(B), shade=shade).mean
        assert torch.allclose(shared, loose, **tolerance)
        assert torch.allclose(shared[i], together[i], **tolerance)


class Linear(nn.Module):
    """A network with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(5, 4, 4))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return x @ self.weight


class Swayed(Linear):
    """The same, which hears its time label and a condition."""

    def forward(self, x: Tensor, label: Tensor, kind: Tensor) -> Tensor:
        return x @ self.weight.to(x) + at(label + 0.1 * kind, x).to(x)


@pytest.mark.parametrize("schedule", [Cosine(), learned()], ids=["fixed", "learned"])
@torch.no_grad()
def test_a_copy_says_the_same_and_stands_alone(schedule: Schedule) -> None:
    """Averages of weights are copies: later training of the one must not show in the other."""
    denoiser = NetworkDenoiser(GaussianProcess(schedule), Linear(), "v", 0.6)
    x_t, t = normal(0, 3, 4), as_time(0.4, 3)
    before = denoiser(x_t, t).mean
    twin = copy.deepcopy(denoiser)
    assert torch.equal(twin(x_t, t).mean, before)
    names = [name for name, _ in denoiser.named_parameters()]
    assert [name for name, _ in twin.named_parameters()] == names
    for parameter in twin.parameters():
        parameter += torch.linspace(0.1, 1, parameter.numel(), dtype=F64).reshape(parameter.shape)
    assert torch.equal(denoiser(x_t, t).mean, before) and not torch.equal(twin(x_t, t).mean, before)
    # the copy's process is its own network's, whichever parameters were moved
    assert torch.equal(twin.process.schedule.log_snr(t), twin.schedule.log_snr(t))


def test_a_learned_schedule_is_trained_through_the_denoiser() -> None:
    """Also at one shared time, where a fixed schedule's numbers are kept."""
    schedule = learned()
    denoiser = NetworkDenoiser(GaussianProcess(schedule), Small(), "v")
    assert any(p is schedule.fall.log_density for p in denoiser.parameters())
    x_t, t = normal(0, 2, 4), as_time(0.4, 2)
    before = denoiser(x_t, t).mean
    (gradient,) = torch.autograd.grad(before.sum(), schedule.fall.log_density)
    h, direction = 1e-6, torch.linspace(-1, 1, len(gradient), dtype=F64)
    with torch.no_grad():
        schedule.fall.log_density += h * direction
        change = (denoiser(x_t, t).mean - before).sum() / h
    assert float(gradient.norm()) > 1e-4
    assert torch.allclose(change, (gradient * direction).sum(), rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_another_schedule_of_the_same_noise_gives_the_same_posterior(name: str) -> None:
    """What is known of x depends on x_t/α and ρ alone (Kingma et al. 2021, sec. 5.1)."""
    one, other = mixture(Cosine()), mixture(SCHEDULES[name])
    t, u = times(Cosine()), times(SCHEDULES[name])
    x_t = 1.5 * normal(0, B, 2)
    scale = SCHEDULES[name].alpha(u) / Cosine().alpha(t)
    a, b = one(x_t, t), other(at(scale, x_t) * x_t, u)
    assert torch.allclose(a.mean, b.mean, rtol=1e-9, atol=1e-10)
    assert torch.allclose(a.variance, b.variance, rtol=1e-7, atol=1e-10)


class Doubled(Swayed):
    """The same, with a second half for the variance."""

    def forward(self, x: Tensor, label: Tensor, kind: Tensor) -> Tensor:
        out = super().forward(x, label, kind)
        return torch.cat([out, out.roll(1, dims=1)], dim=1)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("variance", [False, True])
@pytest.mark.parametrize("output", OUTPUTS)
def test_working_ahead_changes_no_answer(output: Output, variance: bool, guided: bool) -> None:
    network = Doubled() if variance else Swayed()
    plain: Denoiser = NetworkDenoiser(GaussianProcess(EDM()), network, output, 0.5, variance)
    plain = ClassifierFree(plain, 2.0, {"kind": 0}) if guided else plain
    x, kind = normal(5, B, 3, 4), torch.arange(B)
    shared = shared_times((0.9, 0.5, 0.1), B)
    for dtype in (torch.float32, F64):
        ahead = plain.along(shared, x.to(dtype))
        own = torch.linspace(0.2, 0.8, B, dtype=F64)
        for t in (
            *shared,
            as_time(0.5, B),
            as_time(0.3, B),
            own,
        ):  # on the grid, equal to it, off it, each its own
            both = [d(x.to(dtype), t, kind=kind) for d in (ahead, plain)]
            for part in ["mean"] + ["variance"] * (variance and not guided):
                got, expected = (getattr(posterior, part) for posterior in both)
                scale = expected.abs().max()
                assert (
                    got.dtype == dtype and (got - expected).abs().max() <= scale * torch.finfo(dtype).eps * 32
                )


def test_working_ahead_follows_a_schedule_that_learns() -> None:
    schedule = Learned()
    denoiser = NetworkDenoiser(GaussianProcess(schedule), Linear(), "v")
    shared, x = shared_times((0.9, 0.4), B), normal(5, B, 3, 4)
    before = denoiser.along(shared, x)(x, shared[1]).mean
    with torch.no_grad():
        for p in schedule.parameters():
            p.copy_(torch.linspace(-1, 1, p.numel()).view_as(p))
    after = denoiser.along(shared, x)(x, shared[1]).mean
    assert torch.equal(after, denoiser(x, shared[1]).mean) and not torch.allclose(before, after)


class Uncertain(nn.Module):
    """Says F = 0 and a fixed r."""

    def __init__(self, r: float) -> None:
        super().__init__()
        self.r = r

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x), torch.full_like(x, self.r)], dim=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_variance_of_zero_logarithm_is_the_one_of_gaussian_data(name: str) -> None:
    schedule, sigma_data = SCHEDULES[name], 0.7
    process = GaussianProcess(schedule)
    denoiser = NetworkDenoiser(process, Uncertain(0.0), "x", sigma_data, variance=True)
    exact = MixtureDenoiser(
        process, torch.zeros(1, 4, dtype=F64), torch.full((1, 4), sigma_data**2, dtype=F64)
    )
    t, x = times(schedule), normal(3, B, 4)
    with torch.no_grad():
        assert torch.allclose(denoiser(x, t).variance, exact(x, t).variance, rtol=1e-12)


@pytest.mark.parametrize("name", PRESERVING)
def test_the_two_hand_variances_are_the_ends_of_the_learned_one(name: str) -> None:
    """Ho et al. 2020: β_t σ_s²/σ_t² (x known) and β_t = 1 - α_t²/α_s² (unit data)."""
    schedule = SCHEDULES[name]
    process = GaussianProcess(schedule)
    t = times(schedule)[: B // 2]
    s, x = times(schedule)[B // 2 :], normal(3, B // 2, 4)
    beta = 1 - (schedule.alpha(t) / schedule.alpha(s)).square()
    small = beta * (schedule.sigma(s) / schedule.sigma(t)).square()
    with torch.no_grad():
        for r, expected in ((0.0, beta), (-60.0, small)):  # -60 is held at its end, e^-16
            posterior = NetworkDenoiser(process, Uncertain(r), "x", variance=True)(x, t)
            _, b, v = bridge_terms(schedule.level(t), schedule.level(s))
            got = at(v, x) + at(b.square(), x) * posterior.variance
            assert torch.allclose(got, at(expected, x).expand_as(x), rtol=1e-3)
