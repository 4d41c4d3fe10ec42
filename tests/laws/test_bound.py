"""Laws of the evidence bound: on data whose likelihood is known it is that, and never better."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kuosan.core.curves import CosineSurvival, LinearSurvival
from kuosan.core.grids import LogSNR, Uniform
from kuosan.core.posteriors import Categorical, Gaussian, Joint, Point
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine, VPLinear
from kuosan.core.shapes import as_time
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import MixtureDenoiser, TableDenoiser
from kuosan.errors import UserError
from kuosan.evaluation.likelihood import Terms, Times, bound, finite_bound, plan, saving
from kuosan.evaluation.likelihood.times import edges, surplus
from kuosan.processes.base import Bridged
from kuosan.processes.blocks import BlockMasked
from kuosan.processes.discrete import DiscreteProcess, Masked, UniformNoise
from kuosan.processes.gaussian import GaussianProcess
from kuosan.processes.joint import JointProcess

from .exact_cases import SCHEDULES, mixture

F64 = torch.float64
NAMES = sorted(SCHEDULES)


def drawn(denoiser: MixtureDenoiser, n: int, seed: int) -> Tensor:
    """Data from the mixture."""
    g = torch.Generator().manual_seed(seed)
    k = torch.multinomial(denoiser.log_weights.exp(), n, True, generator=g)
    shape = (n, *denoiser.means.shape[1:])
    return denoiser.means[k] + denoiser.variances[k].sqrt() * torch.randn(shape, generator=g, dtype=F64)


def blobs(d: int) -> MixtureDenoiser:
    """Four Gaussians in d dimensions, as wide as they are apart."""
    g = torch.Generator().manual_seed(d)
    means = torch.randn(4, d, generator=g, dtype=F64) / math.sqrt(d)
    variances = 0.05 + 0.3 * torch.rand(4, d, generator=g, dtype=F64)
    return MixtureDenoiser(
        GaussianProcess(Cosine()), means, variances, torch.tensor([1.0, 2.0, 3.0, 1.0]).double()
    )


def mean_and_error(values: Tensor) -> tuple[float, float]:
    return float(values.detach().mean()), float(values.detach().std()) / math.sqrt(len(values))


def entropy(p: Tensor) -> float:
    return float(-torch.xlogy(p, p).sum())


def held_to(denoiser: MixtureDenoiser, n: int) -> None:
    x, seeds = drawn(denoiser, n, 2), Seeds.of(7, n)
    times = plan(denoiser, [(drawn(denoiser, 256, 1), {})], Seeds.of(3, 256))
    terms = bound(denoiser, x, seeds, times, count=32)
    exact = -denoiser.log_density(x, torch.zeros(n, dtype=F64))
    gap, error = mean_and_error(terms.total - exact)
    d = x[0].numel()
    assert error / d < 0.008, "too blurred to hold the bound to anything"
    assert abs(gap) < 3 * error + 1e-3 * d and abs(gap) / d < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_bound_of_an_exact_denoiser_is_the_likelihood(name: str) -> None:
    denoiser = mixture(SCHEDULES[name])
    if "edm" in name:  # data behind a little noise that never goes are not the data themselves
        denoiser.variances = denoiser.variances + 0.3
    held_to(denoiser, 4000)


@pytest.mark.parametrize("d", [1, 16, 64])
def test_bound_in_more_dimensions(d: int) -> None:
    held_to(blobs(d), 4000 if d == 1 else 1000)


def test_a_wrong_model_pays_its_divergence() -> None:
    """Bound - entropy ≥ KL > 0 for the denoiser of other data."""
    right, wrong = mixture(Cosine()), mixture(Cosine())
    wrong.means = wrong.means + 0.5
    x, seeds = drawn(right, 4000, 2), Seeds.of(7, 4000)
    zero = torch.zeros(len(x), dtype=F64)
    terms = bound(wrong, x, seeds, plan(wrong, [(x[:256], {})], seeds[:256]), count=32)
    gap, error = mean_and_error(terms.total + wrong.log_density(x, zero))
    assert abs(gap) < 3 * error + 2e-3  # the wrong model's own likelihood is what is bounded
    paid, _ = mean_and_error(right.log_density(x, zero) - wrong.log_density(x, zero))
    assert paid > 0.1


class Pixels(Denoiser):
    """Independent pixels over whole levels in [-1, 1], each with a law of its own: the exact posterior."""

    process: GaussianProcess

    def __init__(self, process: GaussianProcess, laws: Tensor):
        super().__init__()
        self.process, self.laws = process, laws  # (d, levels)
        self.values = torch.linspace(-1, 1, laws.shape[1], dtype=F64)

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Gaussian:
        level = self.process.schedule.level(t)
        cross = (x_t[..., None] * level.alpha[:, None, None]) * self.values
        square = level.alpha.square()[:, None, None] * self.values.square() / 2
        logits = (cross - square) / level.sigma.square()[:, None, None] + self.laws.log()
        p = logits.softmax(-1)
        mean = (p * self.values).sum(-1)
        return Gaussian(mean, (p * (self.values - mean[..., None]).square()).sum(-1))

    def draw(self, n: int, seed: int) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        return self.values[torch.multinomial(self.laws, n, True, generator=g)].T.contiguous()


def pixels(levels: int = 256) -> Pixels:
    """Four pixels: peaked, two-peaked, flat, geometric."""
    k = torch.arange(levels, dtype=F64)
    laws = torch.stack([
        torch.exp(-((k - 0.4 * levels) ** 2) / (2 * (levels / 40) ** 2)),
        torch.exp(-((k - 0.1 * levels) ** 2) / 8) + torch.exp(-((k - 0.9 * levels) ** 2) / 8),
        torch.ones(levels, dtype=F64),
        0.9**k,
    ])  # fmt: skip
    return Pixels(GaussianProcess(Cosine()), (laws + 1e-9) / (laws + 1e-9).sum(1, keepdim=True))


def test_bits_of_pixels_never_undercut_the_entropy() -> None:
    model, n, level = pixels(), 3000, 2 / 255
    x, seeds = model.draw(n, 1), Seeds.of(5, n)
    times = plan(model, [(model.draw(256, 2), {})], Seeds.of(6, 256), level=level)
    true = sum(entropy(p) for p in model.laws)
    got, error = mean_and_error(bound(model, x, seeds, times, count=32, level=level).total)
    assert error / 4 < 0.02
    assert got > true - 3 * error and got < true + 3 * error + 0.03 * 4


def test_steps_of_pixels_never_undercut_the_entropy_and_come_down_to_it() -> None:
    model, n, level = pixels(), 1500, 2 / 255
    x, seeds, true = model.draw(n, 1), Seeds.of(5, n), sum(entropy(p) for p in model.laws)
    got = []
    for steps in (4, 16, 64):
        grid = model.process.schedule.time_of(torch.linspace(-12, 13, steps, dtype=F64))
        grid = torch.cat([grid, torch.zeros(1, dtype=F64)])
        value, error = mean_and_error(finite_bound(model, x, seeds, grid, level=level).total)
        assert value > true - 3 * error
        got.append(value)
    assert got[0] > got[1] > got[2] - 3 * error and got[2] < true + 0.3


def tokens(k: int = 3, length: int = 2) -> tuple[Tensor, Tensor]:
    """All words of a language and their probabilities, the letters of which depend on each other."""
    g = torch.Generator().manual_seed(4)
    words = torch.cartesian_prod(*(torch.arange(k) for _ in range(length)))
    return words, torch.rand(len(words), generator=g, dtype=F64).square() + 0.01


PROCESSES: dict[str, DiscreteProcess] = {
    "masked, linear": Masked(3, LinearSurvival()),
    "masked, cosine": Masked(3, CosineSurvival()),
    "masked, a block each": BlockMasked(3, CosineSurvival(), 1),
    "uniform": UniformNoise(3, LinearSurvival()),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_bound_of_tokens_is_their_entropy(name: str) -> None:
    process = PROCESSES[name]
    words, weights = tokens()
    denoiser = TableDenoiser(process, words, weights)
    g = torch.Generator().manual_seed(1)
    x = words[torch.multinomial(weights, 6000, True, generator=g)]
    seeds, true = Seeds.of(2, len(x)), entropy(weights / weights.sum())
    times = plan(denoiser, [(x[:512], {})], seeds[:512].fold("plan"))
    terms = bound(denoiser, x, seeds, times, count=16)
    assert not terms.prior.any() and not terms.reconstruction.any()
    got, error = mean_and_error(terms.total)
    # An exact posterior of each position alone is what a continuous-time bound needs: equality.
    assert error < 0.03 and abs(got - true) < 3 * error + 1e-3


@pytest.mark.parametrize("name", PROCESSES)
def test_steps_of_tokens_cost_and_fewer_cost_more(name: str) -> None:
    words, weights = tokens()
    denoiser = TableDenoiser(PROCESSES[name], words, weights)
    g = torch.Generator().manual_seed(1)
    x = words[torch.multinomial(weights, 6000, True, generator=g)]
    true, got = entropy(weights / weights.sum()), []
    for steps in (1, 4, 32):
        grid = torch.linspace(1, 0, steps + 1, dtype=F64)
        value, error = mean_and_error(finite_bound(denoiser, x, Seeds.of(2, len(x)), grid).total)
        assert value > true - 3 * error
        got.append(value)
    assert got[0] > got[1] > got[2] - 3 * error
    # In one step the positions are drawn independently: the sum of the entropies of each.
    p = (weights / weights.sum()).reshape(3, 3)
    assert abs(got[0] - entropy(p.sum(0)) - entropy(p.sum(1))) < 3 * error + 1e-9
    assert abs(got[2] - true) < 0.05


def one_step(process: Bridged, denoiser: Denoiser, x: object, t: Tensor, h: float) -> tuple[Tensor, Tensor]:
    x_t = process.corrupt(x, t, Seeds.of(1, len(t)))
    q = denoiser(x_t, t)
    if isinstance(q, Gaussian):
        q = Point(q.mean)  # continuous time has no use for the variance
    return process.step_divergence(x, x_t, q, t, t - h) / h, process.elbo_rate(x, x_t, q, t)


@pytest.mark.parametrize("name", PROCESSES)
def test_rate_of_tokens_is_the_limit_of_a_step(name: str) -> None:
    words, weights = tokens()
    denoiser = TableDenoiser(PROCESSES[name], words, weights)
    step, rate = one_step(
        PROCESSES[name], denoiser, words, torch.linspace(0.11, 0.9, len(words), dtype=F64), 1e-6
    )
    assert torch.allclose(step, rate, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_rate_of_gaussian_states_is_the_limit_of_a_step(name: str) -> None:
    denoiser = mixture(SCHEDULES[name])
    step, rate = one_step(
        denoiser.process, denoiser, drawn(denoiser, 9, 1), torch.linspace(0.1037, 0.9041, 9).double(), 1e-7
    )
    assert torch.allclose(step, rate, rtol=1e-4)


def test_a_step_is_the_divergence_of_two_normal_laws() -> None:
    process, n = GaussianProcess(VPLinear()), 5
    g = torch.Generator().manual_seed(0)
    x, x_t, mean = (torch.randn(n, 3, generator=g, dtype=F64) for _ in range(3))
    variance = torch.rand(n, 3, generator=g, dtype=F64)
    t, s = torch.linspace(0.3, 0.9, n, dtype=F64), torch.linspace(0.2, 0.6, n, dtype=F64)
    here, there = process.schedule.level(t), process.schedule.level(s)
    new = 1 - (here.log_snr - there.log_snr).exp()
    a, b = (there.sigma / here.sigma) ** 2 * here.alpha / there.alpha, there.alpha * new
    v = (new * there.sigma**2)[:, None]
    a, b = a[:, None], b[:, None]
    true = torch.distributions.Normal(a * x_t + b * x, v.sqrt())
    model = torch.distributions.Normal(a * x_t + b * mean, (v + b * b * variance).sqrt())
    wanted = torch.distributions.kl_divergence(true, model).sum(1)
    got = process.step_divergence(x, x_t, Gaussian(mean, variance), t, s)
    assert torch.allclose(got, wanted, rtol=1e-9)


def test_prior_divergences() -> None:
    x = torch.tensor([[0.5, -1.0], [2.0, 0.0]], dtype=F64)
    process, t = GaussianProcess(VPLinear()), torch.tensor([0.7, 0.9], dtype=F64)
    level = process.schedule.level(t)
    q = torch.distributions.Normal(level.alpha[:, None] * x, level.sigma[:, None])
    wanted = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, level.sigma[:, None])).sum(
        1
    )
    assert torch.allclose(process.prior_divergence(x, t), wanted)
    uniform, words = UniformNoise(3, LinearSurvival()), torch.tensor([[0, 1], [2, 2]])
    other = 0.7 / 3
    one = (0.3 + other) * math.log(3 * (0.3 + other)) + 2 * other * math.log(3 * other)
    assert torch.allclose(
        uniform.prior_divergence(words, as_time(0.7, 2)), torch.full((2,), 2 * one, dtype=F64)
    )
    masked = Masked(3, LinearSurvival())
    assert masked.prior_divergence(words, as_time(1.0, 2)).tolist() == [0, 0]
    assert masked.prior_divergence(words, as_time(0.5, 2)).isinf().all()


class Apart(Denoiser):
    """A picture and a word that know nothing of each other."""

    process: JointProcess

    def __init__(self, **parts: Denoiser):
        super().__init__()
        self.parts = torch.nn.ModuleDict(parts)
        self.process = JointProcess({n: p.process for n, p in parts.items()})  # type: ignore[misc]

    def forward(self, x_t: dict[str, Tensor], t: Tensor, **cond: Tensor) -> Joint:
        return Joint({n: p(x_t[n], t) for n, p in self.parts.items()})


def test_bound_of_independent_parts_is_the_sum_of_theirs() -> None:
    words, weights = tokens()
    plane, word = mixture(Cosine()), TableDenoiser(PROCESSES["masked, linear"], words, weights)
    g, n = torch.Generator().manual_seed(1), 4000
    x = {"plane": drawn(plane, n, 1), "word": words[torch.multinomial(weights, n, True, generator=g)]}
    denoiser, seeds = Apart(plane=plane, word=word), Seeds.of(3, n)
    times = plan(denoiser, [({k: v[:256] for k, v in x.items()}, {})], seeds[:256])
    got, error = mean_and_error(bound(denoiser, x, seeds, times, count=32).total)
    exact = -plane.log_density(x["plane"], torch.zeros(n, dtype=F64)).mean() + entropy(
        weights / weights.sum()
    )
    assert error < 0.06 and abs(got - float(exact)) < 3 * error


@pytest.mark.parametrize(
    "process", [GaussianProcess(Cosine()), Masked(3, LinearSurvival())], ids=["gauss", "masked"]
)
def test_the_surplus_has_mean_zero_whatever_the_data(process: Bridged) -> None:
    n, t = 20_000, as_time(0.37, 20_000)
    x = torch.full((n, 2), 0.7, dtype=F64) if isinstance(process, GaussianProcess) else torch.full((n, 2), 1)
    mean, error = mean_and_error(surplus(process, x, process.corrupt(x, t, Seeds.of(1, n)), t))
    assert abs(mean) < 3 * error


def test_no_choice_of_times_or_control_moves_the_bound() -> None:
    denoiser = mixture(Cosine())
    x, seeds = drawn(denoiser, 4000, 2), Seeds.of(7, 4000)
    even = Times.even(edges(denoiser.process))
    planned = plan(denoiser, [(drawn(denoiser, 256, 1), {})], Seeds.of(3, 256))
    odd = replace(even, control=torch.full_like(even.mass, 0.6))
    values = [
        bound(denoiser, x, seeds.fold(i), t, count=16).diffusion for i, t in enumerate((even, planned, odd))
    ]
    for other in values[1:]:
        gap, error = mean_and_error(other - values[0])
        assert abs(gap) < 3 * error
    assert values[1].var() < values[0].var() / 2, "the plan should pay"


def test_strata_save_variance_and_the_saving_is_what_it_says() -> None:
    denoiser = mixture(Cosine())
    x, count = drawn(denoiser, 4000, 2), 16
    times = Times.even(edges(denoiser.process))
    terms = bound(denoiser, x, Seeds.of(7, 4000), times, count=count)
    independent, stratified = saving(terms, count)
    again = bound(denoiser, x, Seeds.of(8, 4000), times, count=count)
    seen = float((terms.diffusion - again.diffusion).square().mean()) / 2  # two tries at the same examples
    assert stratified == pytest.approx(seen, rel=0.15)
    assert stratified < independent


def test_an_example_does_not_depend_on_its_neighbours() -> None:
    model, level = pixels(16), 2 / 15
    x, seeds, times = model.draw(8, 1), Seeds.of(5, 8), Times.even(edges(model.process))
    whole = bound(model, x, seeds, times, count=4, level=level)
    parts = [bound(model, x[i : i + 3], seeds[i : i + 3], times, count=4, level=level) for i in (0, 3, 6)]
    joined = Terms.join(parts)
    for name in Terms.__dataclass_fields__:
        assert torch.equal(getattr(joined, name), getattr(whole, name)), name
    grid = Uniform()(model.process.schedule, 5)
    steps = finite_bound(model, x, seeds, grid, level=level)
    alone = finite_bound(model, x[2:3], seeds[2:3], grid, level=level)
    assert torch.equal(steps.total[2:3], alone.total)


def test_a_choice_of_steps_estimates_them_all() -> None:
    denoiser = mixture(Cosine())
    x = drawn(denoiser, 3000, 2)
    grid = LogSNR()(denoiser.process.schedule, 40)
    every = finite_bound(denoiser, x, Seeds.of(1, 3000), grid)
    some = finite_bound(denoiser, x, Seeds.of(2, 3000), grid, most=7)
    gap, error = mean_and_error(some.diffusion - every.diffusion)
    assert abs(gap) < 3 * error and error < 0.2


class Broken(MixtureDenoiser):
    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Gaussian:
        q = super().forward(x_t, t)
        return Gaussian(q.mean * torch.nan, q.variance)


def test_what_has_no_bound_says_so() -> None:
    denoiser = mixture(Cosine())
    x, seeds, times = drawn(denoiser, 4, 1), Seeds.of(0, 4), Times.even(edges(denoiser.process))
    with pytest.raises(UserError, match="not levels"):
        bound(denoiser, x, seeds, times, level=2 / 255)
    with pytest.raises(UserError, match="not finite"):
        bound(denoiser, x / 0, seeds, times)
    broken = Broken(denoiser.process, denoiser.means, denoiser.variances)
    with pytest.raises(UserError, match="not a finite"):
        bound(broken, x, seeds, times)
    with pytest.raises(ValueError, match="even number"):
        bound(denoiser, x, seeds, times, count=3)


def test_categorical_decoding_counts_every_position() -> None:
    """A bound that stops short of t = 0 pays for what is still hidden."""
    process = PROCESSES["masked, linear"]
    x, x_t = torch.tensor([[0, 1]]), torch.tensor([[3, 1]])
    q = Categorical(torch.tensor([[[0.0, 0.0, 0.0], [0.0, 50.0, 0.0]]], dtype=F64))
    nats = process.step_divergence(x, x_t, q, as_time(0.5, 1), as_time(0.0, 1))
    assert float(nats) == pytest.approx(math.log(3))
