"""Laws of windows: exact where nothing is said across them, within the stated bound where memory is short."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kuosan.core.grids import LogSNR
from kuosan.core.posteriors import Gaussian, Point
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.core.shapes import as_time
from kuosan.core.windows import starts_of
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import CorrelatedDenoiser, MixtureDenoiser
from kuosan.guidance import ClassifierFree, Given, Windows
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import SOLVERS, sample
from tests.laws.test_guidance import ByClass

F64 = torch.float64
T = torch.tensor([0.15, 0.4, 0.7, 0.9], dtype=F64)


def independent(*sides: int, mean: float = 0.3, variance: float = 0.4) -> MixtureDenoiser:
    of = torch.full((1, 2, *sides), mean, dtype=F64), torch.full((1, 2, *sides), variance, dtype=F64)
    return MixtureDenoiser(GaussianProcess(Cosine()), *of)


def markov(n: int, rho: float) -> CorrelatedDenoiser:
    """A stationary Markov chain of unit variance, one channel."""
    place = torch.arange(n, dtype=F64)
    covariance = rho ** (place[:, None] - place).abs()
    return CorrelatedDenoiser(GaussianProcess(Cosine()), torch.zeros(1, 1, n, dtype=F64), covariance[None])


@pytest.mark.parametrize(
    ("sides", "larger"),
    [((8,), (8,)), ((8,), (29,)), ((4, 6), (11, 6)), ((4, 6), (9, 17)), ((2, 4, 4), (5, 7, 4))],
    ids=str,
)
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_exact_where_places_are_independent(
    sides: tuple[int, ...], larger: tuple[int, ...], overlap: float
) -> None:
    x_t = 1.3 * Seeds.of(0, 4).normal(torch.empty(4, 2, *larger, dtype=F64))
    found, truth = Windows(independent(*sides), sides, overlap)(x_t, T), independent(*larger)(x_t, T)
    assert torch.allclose(found.mean, truth.mean, atol=1e-13)
    assert isinstance(found, Gaussian) and torch.allclose(found.variance, truth.variance, atol=1e-13)


def decay(rho: float, t: Tensor) -> float:
    """r: what is known at one place changes the mean k places on by a factor r^k. The posterior's precision is that of
    the chain plus α²/σ² on its diagonal, and r the smaller root of b r² - a r + b = 0."""
    level = Cosine().level(t.reshape(1))
    a = (1 + rho**2) / (1 - rho**2) + float((level.alpha / level.sigma).square())
    b = rho / (1 - rho**2)
    return (a - (a * a - 4 * b * b) ** 0.5) / (2 * b)


@pytest.mark.parametrize("t", T.tolist())
@pytest.mark.parametrize("rho", [0.4, 0.8])
def test_within_the_bound_where_memory_is_short(rho: float, t: float) -> None:
    n, side, b = 40, 16, 64
    windows, whole = Windows(markov(side, rho), (side,)), markov(n, rho)
    x_t, time = 1.2 * Seeds.of(0, b).normal(torch.empty(b, 1, n, dtype=F64)), as_time(t, b)
    truth = whole(x_t, time).mean
    off = (windows(x_t, time).mean - truth).abs().amax((0, 1))
    r, bound, total, edge = (
        decay(rho, T.new_tensor(t)),
        torch.zeros(n, dtype=F64),
        torch.zeros(n, dtype=F64),
        0.0,
    )
    parts = list(windows.places((n,)))
    for (place,), _ in parts:
        alone = (markov(side, rho)(x_t[..., place], time).mean - truth[..., place]).abs().amax((0, 1))
        inner = [i for i, end in ((0, place.start == 0), (side - 1, place.stop == n)) if not end]
        edge = max([edge, *(float(alone[i]) for i in inner)])
    for (place,), g in parts:
        at = torch.arange(side, dtype=F64)
        reach = torch.zeros(side, dtype=F64)
        reach += 0 if place.start == 0 else r**at
        reach += 0 if place.stop == n else r ** (side - 1 - at)
        bound[place] += g * reach
        total[place] += g
    # What meets an end of the chain comes back from it, a little.
    assert bool((off <= 1.2 * edge * bound / total + 1e-12).all())
    assert float(off.max()) < 0.35 * edge, "the blend is far better than an edge"


def test_samples_of_a_short_memory_have_its_covariance_across_seams() -> None:
    n, side, rho = 24, 12, 0.3
    times = LogSNR(rho_max=1e3)(Cosine(), 60)
    noise = torch.eye(n, dtype=F64)[:, None]
    root = sample(Windows(markov(side, rho), (side,)), SOLVERS["dpm++2m"](), times, noise, Seeds.of(0, n))[
        :, 0
    ].T
    covariance = root @ root.T
    truth = markov(n, rho).covariances[0]
    assert float((covariance - truth).abs().max()) < 0.05
    cut = sample(
        Windows(markov(side, rho), (side,), 0.0), SOLVERS["dpm++2m"](), times, noise, Seeds.of(0, n)
    )[:, 0].T
    assert float((cut @ cut.T - truth).abs().max()) > 0.1, "windows side by side would show"


def test_windows_cover_every_place_and_overlap_as_asked() -> None:
    for n in range(8, 60):
        for overlap in (0.0, 0.25, 0.5, 0.75):
            starts = starts_of(n, 8, overlap)
            assert starts[0] == 0 and starts[-1] == n - 8
            assert all(0 < b - a <= 8 * (1 - overlap) for a, b in zip(starts, starts[1:], strict=False))
            assert len(starts) == 1 or len(starts) <= 1 + -(-(n - 8) // max(1, int(8 * (1 - overlap))))
    with pytest.raises(ValueError, match="fewer"):
        starts_of(7, 8, 0.5)


@pytest.mark.parametrize("cell", [2, 3, 4, 8])
@pytest.mark.parametrize("side", [8, 16, 32])
def test_windows_do_not_all_begin_at_edges_of_patches(side: int, cell: int) -> None:
    for n in range(side + 1, 6 * side):
        for overlap in (0.0, 0.25, 0.5, 0.75):
            usual, starts = starts_of(n, side, overlap), starts_of(n, side, overlap, cell=cell)
            assert any(start % cell for start in starts) and len(starts) <= len(usual) + 1
            assert starts[0] == 0 and starts[-1] == n - side
            assert all(0 < b - a <= side * (1 - overlap) for a, b in zip(starts, starts[1:], strict=False))
            assert starts == usual or not any((n - side) % (cell * (len(usual) - 1)) for _ in starts)
    assert starts_of(side, side, 0.5, cell=cell) == [0]


class Blocks(Denoiser):
    """Answers with what is seen of patches in a row of four: how far it is to the edge of one."""

    def __init__(self) -> None:
        super().__init__()
        self.process = GaussianProcess(Cosine())

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:
        return Point((torch.arange(x_t.shape[-1], dtype=F64) % 4).expand_as(x_t))


def test_edges_of_patches_are_averaged_away() -> None:
    x_t = torch.zeros(4, 1, 64, dtype=F64)
    seen = [Windows(Blocks(), (16,), cells=cells)(x_t, T).mean[0, 0, 16:48] for cells in ((4,), None)]
    apart = [float(mean.reshape(-1, 4).mean(0).std()) for mean in seen]
    assert apart[0] < 0.6 * apart[1]


class Counted(Denoiser):
    """Counts calls and their sizes."""

    def __init__(self, inner: Denoiser):
        super().__init__()
        self.inner, self.process, self.seen = inner, inner.process, []

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:
        self.seen.append(tuple(x_t.shape))
        return Point(self.inner(x_t, t, **cond).mean)


def test_one_window_is_the_denoiser_and_each_costs_one_call_of_one_size() -> None:
    inner = Counted(independent(8, mean=0.1))
    x_t = Seeds.of(0, 4).normal(torch.empty(4, 2, 8, dtype=F64))
    found = Windows(inner, (8,))(x_t, T).mean
    assert torch.allclose(found, inner.inner(x_t, T).mean, atol=1e-15) and inner.seen == [(4, 2, 8)]
    inner.seen.clear()
    Windows(inner, (8,), 0.5)(torch.zeros(4, 2, 40, dtype=F64), T)
    assert inner.seen == [(4, 2, 8)] * 9  # 1 + (40 - 8)/4


def test_guidance_is_of_each_window_and_given_parts_of_the_whole() -> None:
    mask = torch.zeros(1, 1, 28, dtype=torch.bool)
    mask[..., 5:9] = True
    known = torch.full((1, 1, 28), 0.8, dtype=F64)
    windows = Windows(markov(16, 0.6), (16,), 0.75)
    x_t = Seeds.of(0, 4).normal(torch.empty(4, 1, 28, dtype=F64))
    found = Given(windows, known, mask, corrections=4)(x_t, T).mean
    truth = markov(28, 0.6).given(known[0], mask[0])(x_t, T).mean
    replaced = Given(windows, known, mask, corrections=0)(x_t, T).mean
    off, before = ((x - truth).abs().amax((1, 2)) for x in (found, replaced))
    assert bool((off < 0.1 * before).all())
    classes = ByClass([independent(8, mean=m) for m in (-1.0, 1.0, 0.0)])
    kind, wide = torch.tensor([0, 1, 1, 0]), torch.zeros(4, 2, 20, dtype=F64)
    guided = Windows(ClassifierFree(classes, 2.0, {"kind": 2}), (8,))(wide, T, kind=kind).mean
    each, none = independent(20, mean=1.0)(wide, T).mean, independent(20, mean=0.0)(wide, T).mean
    sign = torch.tensor([-1.0, 1.0, 1.0, -1.0], dtype=F64)[:, None, None]
    assert torch.allclose(guided, none + 2 * sign * (each - none), atol=1e-13)


class Wide(Denoiser):
    """Works on each place alone, by way of many values of it."""

    def __init__(self) -> None:
        super().__init__()
        self.process = GaussianProcess(Cosine())
        self.weights = torch.linspace(0.1, 2, 1000, dtype=F64)

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:
        return Point(torch.tanh(x_t[..., None] * self.weights).mean(-1))


def test_gradients_go_through_windows_without_what_is_inside() -> None:
    """There are hundreds of windows on a scan, and memory for one."""
    kept: list[int] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    denoiser = Wide()
    x_t = Seeds.of(0, 4).normal(torch.empty(4, 1, 29, dtype=F64)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        mean = Windows(denoiser, (8,))(x_t, T).mean
    assert sum(kept) < 4 * 8 * 1000, "less than one window's"
    found = [torch.autograd.grad(mean.sum(), x_t, retain_graph=True)[0] for _ in range(2)]
    w = denoiser.weights
    truth = (w * (1 - torch.tanh(x_t.detach()[..., None] * w).square())).mean(-1)
    assert torch.allclose(found[0], truth, atol=1e-12) and torch.equal(*found)
