"""The likelihood as it is measured on items: what is fitted never saw what is measured, and nothing undercuts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from kuosan.core.posteriors import Point
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.calibrated import calibrate
from kuosan.evaluation.likelihood import Effort, Likelihood, measure_likelihood
from kuosan.evaluation.likelihood.decoder import FACTORS, Decoder, fit_decoder
from kuosan.evaluation.likelihood.fold import Chosen, Items, shuffled
from kuosan.evaluation.report_likelihood import likelihood_view
from kuosan.processes.gaussian import GaussianProcess
from tests.laws.exact_cases import mixture
from tests.laws.test_bound import Pixels, blobs, drawn, entropy, mean_and_error, pixels

EFFORT = Effort(n=300, train=64, steps=(4, 12), step_items=150, flow=32, planned=64, probes=0)


@dataclass(frozen=True)
class Rows:
    """Items that keep a record of who was asked for."""

    x: Tensor
    asked: list[int]

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.asked.extend(index.tolist())
        return self.x[index], {}


class Mean(Denoiser):
    """What a network would know: the mean alone."""

    process: GaussianProcess

    def __init__(self, exact: Pixels):
        super().__init__()
        self.exact, self.process = exact, exact.process

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:
        return Point(self.exact(x_t, t).mean)


def all_of(items: Items) -> Tensor:
    return items.batch(torch.arange(len(items)))[0]


def fitting(denoiser: Denoiser, seen: list[set[int]] | None = None):  # type: ignore[no-untyped-def]
    def fit(items: Items) -> Denoiser:
        if seen is not None:
            assert isinstance(items, Chosen) and isinstance(items.items, Chosen)
            half, all_chosen = items.items, items.items.items
            assert isinstance(all_chosen, Chosen)
            seen.append(set(all_chosen.numbers[half.numbers[items.numbers]].tolist()))
        parts = all_of(items).split(64)
        return calibrate(denoiser, [(p, {}) for p in parts], Seeds.of(0, 64))

    return fit


def measured(level: float | None = 2 / 255, seen: list[set[int]] | None = None) -> tuple[Likelihood, Pixels]:
    model = pixels()
    held, train = Rows(model.draw(600, 1), []), Rows(model.draw(128, 2), [])
    found = measure_likelihood(
        fitting(Mean(model), seen), train, held, level=level, effort=EFFORT, device=torch.device("cpu")
    )
    return found, model


@pytest.fixture(scope="module")
def of_pixels() -> tuple[Likelihood, Pixels]:
    return measured()


def test_bits_never_undercut_the_entropy(of_pixels: tuple[Likelihood, Pixels]) -> None:
    found, model = of_pixels
    true = sum(entropy(p) for p in model.laws) / 4 / math.log(2)
    assert set(found.metrics) == {"bits_bound", "bits_train", "bits_4_steps", "bits_12_steps", "bits_flow"}
    for name, m in found.metrics.items():
        assert m.stderr is not None and m.value > true - 3 * m.stderr, name
        assert m.n == {"bits_bound": 300, "bits_train": 64, "bits_flow": 32}.get(name, 150)
    assert found.metrics["bits_bound"].value < true + 3 * (found.metrics["bits_bound"].stderr or 0) + 0.05
    assert sum(v for v, _ in found.terms.values()) == pytest.approx(found.metrics["bits_bound"].value)
    assert found.about["lzma"] > true - 0.2


def test_the_optimal_variance_is_never_worse_than_a_hand_made_one(
    of_pixels: tuple[Likelihood, Pixels],
) -> None:
    for arms in of_pixels[0].steps.values():
        assert set(arms) == {"smaller", "larger", "optimal"}
        for name in ("smaller", "larger"):
            assert arms[name]["gain"] > -2 * arms[name]["gain_stderr"]
            assert arms[name]["value"] - arms["optimal"]["value"] == pytest.approx(
                arms[name]["gain"], abs=1e-9
            )


def test_values_stand_by_the_number_of_their_item(of_pixels: tuple[Likelihood, Pixels]) -> None:
    """Data that are likely under the known laws have low values, item by item."""
    found, model = of_pixels
    x = model.draw(600, 1)
    own = (
        -sum(model.laws[i].log()[((x[:, i] + 1) * 127.5).round().long()] for i in range(4)) / 4 / math.log(2)
    )
    values = found.examples["bound"]
    there = ~values.isnan()
    assert int(there.sum()) == 300 and len(values) == 600
    assert float(torch.corrcoef(torch.stack([values[there], own[there]]))[0, 1]) > 0.3  # by chance ± 0.06


def test_what_is_fitted_and_what_is_measured_are_two_halves() -> None:
    seen: list[set[int]] = []
    found, _ = measured(seen=seen)
    first, second = seen
    assert not first & second and len(first) == len(second) == 150
    told = {int(i) for i in (~found.examples["bound"].isnan()).nonzero()}
    assert first | second == told


def test_each_half_is_measured_with_what_the_other_taught() -> None:
    """A fit that knows the items it saw, and a process that tells which it is asked for."""
    model, asked = pixels(), []
    held, train = Rows(model.draw(40, 1), []), Rows(model.draw(8, 2), [])

    class Spy(Mean):
        def __init__(self, taught: set[int]):
            super().__init__(model)
            self.taught = taught

        def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:
            asked.append((self.taught, len(x_t)))
            return super().forward(x_t, t)

    measured: dict[int, set[int]] = {}

    def fit(items: Items) -> Denoiser:
        held.asked.clear()
        all_of(items)
        return Spy(set(held.asked))

    class Watched(Rows):
        def batch(self, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            out = super().batch(index)
            measured[len(measured)] = set(index.tolist())
            return out

    held = Watched(held.x, [])
    effort = Effort(n=40, train=0, steps=(), flow=0, fitted=20, planned=8, count=2)
    measure_likelihood(fit, train, held, level=2 / 255, effort=effort, device=torch.device("cpu"))
    big = [numbers for numbers in measured.values() if len(numbers) == 20]
    taught = [t for t, n in asked if n == 20]  # whole halves are asked for by the bound alone
    assert len(big) == 4, "each half is fitted to once, and measured once"
    assert big[0] == taught[0] and big[2] == big[1] and big[3] == big[0]
    assert not taught[0] & big[2] and taught[-1] == big[1]


def test_items_are_drawn_from_everywhere() -> None:
    rows = Rows(torch.arange(1000.0)[:, None], [])
    chosen = shuffled(rows, 100, 0)
    values = all_of(chosen)[:, 0]
    assert len(values.unique()) == 100
    assert abs(float(values.mean()) - 500) < 3 * 289 / 10, "files stand in the order of their classes"
    assert not torch.equal(chosen.numbers, shuffled(rows, 100, 1).numbers)
    assert torch.equal(chosen.numbers, shuffled(rows, 100, 0).numbers)


def test_of_a_density_it_is_the_density() -> None:
    exact = blobs(4)
    held, train = Rows(drawn(exact, 500, 1), []), Rows(drawn(exact, 64, 2), [])
    found = measure_likelihood(
        lambda items: exact, train, held, level=None, effort=EFFORT, device=torch.device("cpu")
    )
    assert set(found.metrics) == {"nll_bound", "nll_train", "nll_4_steps", "nll_12_steps", "nll_flow"}
    true = -exact.log_density(held.x, torch.zeros(500, dtype=torch.float64)) / 4
    for column in ("bound", "flow"):
        values = found.examples[column]
        there = ~values.isnan()
        gap, error = mean_and_error(values[there] - true[there])
        assert abs(gap) < 3 * error + 1e-3
    assert found.about["lzma"] is None


def test_the_decoder_that_is_fitted_is_the_best_of_its_kind() -> None:
    model = pixels()
    x = model.draw(256, 3)
    batches: Sequence[tuple[Tensor, dict[str, Tensor]]] = [(x, {})]
    seeds, level = Seeds.of(0, 256), 2 / 255
    best, nats = fit_decoder(Mean(model), batches, 0.05, seeds, level)
    tries = [float(Decoder(Mean(model), f)(x, 0.05, seeds.fold(0), level, {}).mean()) for f in FACTORS]
    assert nats == pytest.approx(min(tries)) and best.factor == FACTORS[tries.index(min(tries))]
    assert FACTORS[0] < best.factor < FACTORS[-1]
    exact = mixture(Cosine())
    density, _ = fit_decoder(exact, [(drawn(exact, 64, 1), {})], 0.05, Seeds.of(0, 64), None)
    assert density.factor == 1


def test_effort_fits_what_there_is() -> None:
    assert Effort.within(500) is None
    few, many = Effort.within(20_000), Effort.within(3e5)
    assert few is not None and many is not None
    assert few.flow == 0 and many.flow > 0 and few.n < many.n
    for effort, calls in ((few, 20_000), (many, 3e5)):
        spent = (
            3 * 24 * effort.fitted
            + effort.n * 17
            + effort.train * 17
            + effort.step_items * 30
            + 2 * effort.planned * 80
            + effort.flow * 300
        )
        assert spent < 1.01 * calls


def test_the_report_says_what_was_measured(of_pixels: tuple[Likelihood, Pixels]) -> None:
    found, _ = of_pixels
    facts = {"metrics": {k: m.to_json() for k, m in found.metrics.items()}, **found.to_json()}
    view = likelihood_view(facts)
    assert view is not None and likelihood_view({}) is None
    assert [name for name, _, _ in view["terms"]] == ["prior", "diffusion", "reconstruction"]
    words = " ".join(view["sentences"])
    assert "LZMA" in words and "strata" in words and "by heart" in words
    facts["metrics"]["bits_train"]["value"] -= 1.0
    assert "so much of those was learned by heart" in " ".join(likelihood_view(facts)["sentences"])  # type: ignore[index]
