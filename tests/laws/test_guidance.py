"""Laws of guidance: w = 1 costs one call and changes nothing, and eq. 1 holds to rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kuosan.core.curves import Constant, Interval, Piecewise
from kuosan.core.grids import LogSNR
from kuosan.core.posteriors import Categorical, Joint, Point, Posterior
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine, Rectified
from kuosan.core.shapes import State, as_time
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import MixtureDenoiser, TableDenoiser
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.guidance import ClassifierFree
from kuosan.processes.base import Bridged
from kuosan.processes.discrete import Masked, UniformNoise
from kuosan.processes.gaussian import GaussianProcess
from kuosan.processes.joint import JointProcess
from kuosan.solvers import DDIM, sample

F64 = torch.float64
B = 6
NULL = {"kind": 2, "size": 3}


class ByClass(Denoiser):
    """The exact denoiser of each class and, at the null index, of all classes together; counts its calls."""

    def __init__(self, each: list[Denoiser]):
        super().__init__()
        self.each = nn.ModuleList(each)
        self.process = each[0].process
        self.batches: list[int] = []

    def forward(self, x_t: State, t: Tensor, **cond: Tensor) -> Posterior:
        index = cond.get("kind", torch.full((len(t),), len(self.each) - 1))
        self.batches.append(len(index))
        posteriors = [denoiser(x_t, t) for denoiser in self.each]
        return pick(posteriors, index)


def pick(posteriors: list[Posterior], index: Tensor) -> Posterior:
    first, rows = posteriors[0], torch.arange(len(index))
    if isinstance(first, Joint):
        return Joint({n: pick([q.parts[n] for q in posteriors], index) for n in first.parts})  # type: ignore[attr-defined]
    if isinstance(first, Categorical):
        return Categorical(torch.stack([q.logits for q in posteriors])[index, rows])  # type: ignore[attr-defined]
    kind = type(first)
    fields = ("mean",) if kind is Point else ("mean", "variance")
    return kind(*(torch.stack([getattr(q, f) for q in posteriors])[index, rows] for f in fields))


def two_classes() -> ByClass:
    """Two Gaussians in the plane, and their mixture as "none given"."""
    process = GaussianProcess(Cosine())
    means = torch.tensor([[-1.0, 0.5], [1.2, 0.2]], dtype=F64)
    variances = torch.tensor([[0.3, 0.2], [0.15, 0.4]], dtype=F64)
    weights = torch.tensor([0.4, 0.6], dtype=F64)
    return ByClass(
        [
            MixtureDenoiser(process, means[:1], variances[:1]),
            MixtureDenoiser(process, means[1:], variances[1:]),
            MixtureDenoiser(process, means, variances, weights),
        ]
    )


X_T = Seeds.of(0, B).normal(torch.empty(B, 2, dtype=F64))
KIND = torch.tensor([0, 1, 1, 0, 2, 1])
SHARED = as_time(0.6, B)
EACH = torch.linspace(0.15, 0.95, B, dtype=F64)
NONE = torch.full_like(KIND, 2)


@pytest.mark.parametrize("t", [SHARED, EACH], ids=["shared", "each"])
def test_weight_one_is_one_call_and_the_same_bits(t: Tensor) -> None:
    denoiser = two_classes()
    plain = denoiser(X_T, t, kind=KIND)
    denoiser.batches.clear()
    guided = ClassifierFree(denoiser, 1.0, NULL)(X_T, t, kind=KIND)
    assert denoiser.batches == [B]
    assert type(guided) is type(plain)
    assert torch.equal(guided.mean, plain.mean) and torch.equal(guided.variance, plain.variance)


@pytest.mark.parametrize("t", [SHARED, EACH], ids=["shared", "each"])
def test_weight_zero_is_one_call_without_conditions(t: Tensor) -> None:
    denoiser = two_classes()
    guided = ClassifierFree(denoiser, 0.0, NULL)(X_T, t, kind=KIND)
    assert denoiser.batches == [B]
    assert torch.equal(guided.mean, denoiser(X_T, t, kind=NONE).mean)


@pytest.mark.parametrize("t", [SHARED, EACH], ids=["shared", "each"])
@pytest.mark.parametrize("w", [-0.5, 0.3, 2.0, 7.5])
def test_the_mean_is_the_line_through_two_separate_calls(w: float, t: Tensor) -> None:
    denoiser = two_classes()
    guided = ClassifierFree(denoiser, w, NULL)(X_T, t, kind=KIND)
    assert denoiser.batches == [2 * B]
    model, reference = denoiser(X_T, t, kind=KIND).mean, denoiser(X_T, t, kind=NONE).mean
    assert isinstance(guided, Point)
    assert float((guided.mean - (reference + w * (model - reference))).abs().max()) < 1e-12
    # whose condition is null has nothing to be guided by
    assert torch.allclose(guided.mean[4], reference[4], rtol=1e-14)


@pytest.mark.parametrize("w", [0.5, 3.0])
def test_the_mean_is_the_closed_form_of_the_mixture(w: float) -> None:
    """Class c against all: E[x | x_t] = Σ_k π_k m_k + w (m_c - Σ_k π_k m_k), each m_k by conjugacy."""
    denoiser = two_classes()
    level = Cosine().level(torch.tensor([0.6], dtype=F64))
    alpha, noise = float(level.alpha), float(level.sigma) ** 2
    all_ = denoiser.each[2]
    total = alpha**2 * all_.variances + noise
    off = X_T[:, None] - alpha * all_.means
    m = all_.means + alpha * all_.variances * off / total
    log_pi = torch.tensor([0.4, 0.6], dtype=F64).log() - 0.5 * (off**2 / total + total.log()).sum(-1)
    everything = (log_pi.softmax(1)[..., None] * m).sum(1)
    guided = ClassifierFree(denoiser, w, NULL)(X_T, SHARED, kind=KIND.clamp_max(1)).mean
    own = m[torch.arange(B), KIND.clamp_max(1)]
    assert torch.allclose(guided, everything + w * (own - everything), rtol=1e-12, atol=1e-12)


def test_a_curve_guides_within_its_interval_only_and_is_free_outside() -> None:
    denoiser = two_classes()
    guide = ClassifierFree(denoiser, Interval(0.4, 0.8, 3.0), NULL)
    constant = ClassifierFree(denoiser, 3.0, NULL)
    for time, calls in ((0.2, B), (0.6, 2 * B), (0.9, B)):
        t = as_time(time, B)
        denoiser.batches.clear()
        guided = guide(X_T, t, kind=KIND).mean
        assert denoiser.batches == [calls]
        assert torch.equal(guided, (constant if calls > B else denoiser)(X_T, t, kind=KIND).mean)


@pytest.mark.parametrize(
    "w", [Interval(0.4, 0.8, 3.0), Interval(0.4, 0.8, 1.0, 0.0), Piecewise([(0.2, 0.5), (0.9, 4.0)])]
)
def test_a_time_per_example_equals_a_loop(w: Interval | Piecewise) -> None:
    guide = ClassifierFree(two_classes(), w, NULL)
    together = guide(X_T, EACH, kind=KIND).mean
    for i in range(B):
        part = slice(i, i + 1)
        alone = guide(X_T[part], EACH[part], kind=KIND[part]).mean[0]
        assert torch.allclose(alone, together[i], rtol=1e-13, atol=1e-14)


def test_an_example_with_weight_one_keeps_its_bits_among_guided_neighbours() -> None:
    denoiser, n = two_classes(), 300  # enough for a formula that only rounds well to be found out
    x_t = Seeds.of(1, n).normal(torch.empty(n, 2, dtype=F64))
    t, kind = torch.linspace(0.1, 0.9, n, dtype=F64), torch.arange(n) % 2
    guided = ClassifierFree(denoiser, Interval(0.4, 0.8, 3.0), NULL)(x_t, t, kind=kind).mean
    outside = (t < 0.4) | (t > 0.8)
    assert torch.equal(guided[outside], denoiser(x_t, t, kind=kind).mean[outside])
    assert not torch.equal(guided[~outside], denoiser(x_t, t, kind=kind).mean[~outside])


def test_without_conditions_there_is_nothing_to_guide() -> None:
    denoiser = two_classes()
    guided = ClassifierFree(denoiser, 4.0, NULL)(X_T, SHARED)
    assert denoiser.batches == [B]
    assert torch.equal(guided.mean, denoiser(X_T, SHARED, kind=NONE).mean)


def test_a_condition_without_a_null_index_is_refused() -> None:
    with pytest.raises(ValueError, match="null index of condition 'kind'.*size"):
        ClassifierFree(two_classes(), 2.0, {"size": 3})(X_T, SHARED, kind=KIND)


class TwoColumns(nn.Module):
    """A network that hears two columns."""

    def forward(self, x: Tensor, label: Tensor, kind: Tensor, size: Tensor) -> Tensor:
        self.heard = (kind, size, label)
        return x.sin() * (1 + kind[:, None]) + (size[:, None] + label[:, None] / 500).cos()


@pytest.mark.parametrize("output", ["eps", "v", "velocity", "edm", "score"])
@pytest.mark.parametrize("t", [SHARED, EACH], ids=["shared", "each"])
def test_every_column_goes_to_null_and_the_line_is_the_same_for_every_output(output: str, t: Tensor) -> None:
    network, w = TwoColumns(), 2.5
    size = torch.tensor([0, 3, 1, 2, 2, 0])
    process = GaussianProcess(Rectified())
    guided = ClassifierFree(NetworkDenoiser(process, network, output), w, NULL)  # type: ignore[arg-type]
    got = guided(X_T, t, kind=KIND, size=size).mean
    kind_heard, size_heard, label = network.heard
    assert kind_heard.tolist() == [*KIND.tolist(), *[2] * B] and size_heard.tolist() == [
        *size.tolist(),
        *[3] * B,
    ]
    assert torch.allclose(label, (1000 * t - 1).repeat(2), rtol=1e-13)

    class Mixed(nn.Module):
        """The line drawn on F instead of on x."""

        def forward(self, x: Tensor, label: Tensor, kind: Tensor, size: Tensor) -> Tensor:
            nothing = network(x, label, torch.full_like(kind, 2), torch.full_like(size, 3))
            return nothing + w * (network(x, label, kind, size) - nothing)

    line = NetworkDenoiser(process, Mixed(), output)(X_T, t, kind=KIND, size=size).mean  # type: ignore[arg-type]
    assert torch.allclose(got, line, rtol=1e-10, atol=1e-10)


def tokens(process: Bridged, items: State, rows: list[list[float]]) -> ByClass:
    """Exact denoisers of laws over one table of items."""
    return ByClass([TableDenoiser(process, items, torch.tensor(p, dtype=F64)) for p in rows])


ROWS = [[0.8, 0.2, 0.0, 0.0], [0.0, 0.1, 0.5, 0.4], [0.4, 0.15, 0.25, 0.2]]
WORDS = torch.tensor([[0, 1], [1, 1], [2, 0], [2, 2]])


@pytest.mark.parametrize("kind", [Masked, UniformNoise])
@pytest.mark.parametrize("w", [0.5, 3.0])
def test_tokens_are_guided_in_log_probability(kind: type[Masked] | type[UniformNoise], w: float) -> None:
    """q ∝ reference^(1-w) · model^w, and what the class cannot be stays impossible."""
    process = kind(3, Constant(0.5))
    denoiser = tokens(process, WORDS, ROWS)
    state = torch.tensor([[3, 3], [1, 3]] if kind is Masked else [[0, 1], [2, 0]])
    which = torch.tensor([0, 1])
    t = as_time(0.5, 2)
    got = ClassifierFree(denoiser, w, NULL)(state, t, kind=which).mean
    assert denoiser.batches == [4]
    model = denoiser(state, t, kind=which).mean
    reference = denoiser(state, t, kind=torch.tensor([2, 2])).mean
    expected = torch.where(model > 0, reference ** (1 - w) * model**w, 0.0)
    expected = expected / expected.sum(-1, keepdim=True)
    assert torch.allclose(got, expected, rtol=1e-11, atol=1e-15)
    assert bool((got[model == 0] == 0).all()) and bool((model == 0).any())


def test_tokens_of_weight_one_or_zero_keep_their_bits_among_guided_neighbours() -> None:
    denoiser = tokens(Masked(3, Constant(0.5)), WORDS, ROWS)
    state = torch.tensor([[3, 3]]).repeat(3, 1)
    which, t = torch.tensor([0, 1, 0]), torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    w = Piecewise([(0.1, 0.0), (0.5, 1.0), (0.9, 3.0)])
    got = ClassifierFree(denoiser, w, NULL)(state, t, kind=which).mean
    assert torch.equal(got[0], denoiser(state, t, kind=torch.full((3,), 2)).mean[0])
    assert torch.equal(got[1], denoiser(state, t, kind=which).mean[1])


def test_joint_states_are_guided_part_by_part() -> None:
    process = JointProcess({"word": Masked(3, Constant(0.5)), "x": GaussianProcess(Cosine())})
    items = {"word": WORDS, "x": torch.tensor([[-1.0], [0.0], [0.5], [2.0]], dtype=F64)}
    denoiser = tokens(process, items, ROWS)
    state = {"word": torch.tensor([[3, 3], [3, 3]]), "x": torch.tensor([[0.1], [0.7]], dtype=F64)}
    t, which, w = as_time(0.7, 2), torch.tensor([0, 1]), 2.0
    got = ClassifierFree(denoiser, w, NULL)(state, t, kind=which)
    assert denoiser.batches == [4] and isinstance(got, Joint)
    model = denoiser(state, t, kind=which).mean
    reference = denoiser(state, t, kind=torch.tensor([2, 2])).mean
    assert torch.allclose(got.mean["x"], reference["x"] + w * (model["x"] - reference["x"]), rtol=1e-12)
    line = torch.where(model["word"] > 0, model["word"] ** 2 / reference["word"], 0.0)
    assert torch.allclose(got.mean["word"], line / line.sum(-1, keepdim=True), rtol=1e-11)


def test_a_weight_that_is_learned_has_its_gradient_even_at_one() -> None:
    class Learnt(Constant):
        def __init__(self) -> None:
            super().__init__(1.0)
            self.level = nn.Parameter(torch.ones((), dtype=F64))

        def forward(self, t: Tensor) -> Tensor:
            return self.level.expand_as(t)

    denoiser, w = two_classes(), Learnt()
    guided = ClassifierFree(denoiser, w, NULL)(X_T, SHARED, kind=KIND).mean
    (gradient,) = torch.autograd.grad(guided.sum(), w.level)
    slope = (denoiser(X_T, SHARED, kind=KIND).mean - denoiser(X_T, SHARED, kind=NONE).mean).sum()
    assert torch.allclose(gradient, slope, rtol=1e-12)


def test_any_solver_samples_a_guided_denoiser() -> None:
    """w = 1 gives the same samples to the bit; w = 3 moves the classes apart."""
    denoiser, n = two_classes(), 400
    seeds, kind = Seeds.of(2, n), torch.arange(n) % 2
    x = denoiser.process.prior(torch.empty(n, 2, dtype=F64), seeds)
    grid = LogSNR()(Cosine(), 12)
    plain = sample(denoiser, DDIM(), grid, x, seeds, kind=kind)
    assert torch.equal(sample(ClassifierFree(denoiser, 1.0, NULL), DDIM(), grid, x, seeds, kind=kind), plain)
    pushed = sample(ClassifierFree(denoiser, 3.0, NULL), DDIM(), grid, x, seeds, kind=kind)
    gap = (plain[kind == 1, 0].mean() - plain[kind == 0, 0].mean()).item()
    wider = (pushed[kind == 1, 0].mean() - pushed[kind == 0, 0].mean()).item()
    assert abs(gap - 2.2) < 4 * (0.45 / 200) ** 0.5 and wider > gap + 0.3
