"""Laws of the flow's likelihood: on data whose density is known it is that."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import kstest, truncnorm, uniform
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.schedules import EDM, Cosine
from kuosan.core.shapes import at
from kuosan.denoisers.exact import MixtureDenoiser, TableDenoiser
from kuosan.errors import UserError
from kuosan.evaluation.likelihood import Flow, flow_likelihood
from kuosan.evaluation.likelihood.dequantise import CANDIDATES, Dequantisation
from kuosan.evaluation.likelihood.flow import choose_dequantisation
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers.adaptive import Unreached, integrate

from .exact_cases import SCHEDULES, mixture
from .test_bound import NAMES, PROCESSES, blobs, drawn, mean_and_error, pixels, tokens

F64 = torch.float64


def exact(denoiser: MixtureDenoiser, x: Tensor) -> Tensor:
    return -denoiser.log_density(x, torch.zeros(len(x), dtype=F64)).detach()


@pytest.mark.parametrize("name", NAMES)
def test_flow_of_an_exact_denoiser_is_the_density(name: str) -> None:
    denoiser = mixture(SCHEDULES[name])
    x = drawn(denoiser, 100, 2)
    error = (flow_likelihood(denoiser, x, Seeds.of(0, 100)).nats - exact(denoiser, x)) / 2
    if (
        name == "learned"
    ):  # its prior is a normal law at λ = -5, where the data are not quite yet: a model of its own
        assert abs(float(error.mean())) < 0.005
    else:
        assert float(error.abs().max()) < 0.01 and abs(float(error.mean())) < 1e-3


def test_a_schedule_that_starts_with_noise_has_the_density_of_noisy_data() -> None:
    denoiser = mixture(EDM(0.3, 80.0))
    x = denoiser.process.corrupt(drawn(denoiser, 100, 2), torch.zeros(100, dtype=F64), Seeds.of(1, 100))
    error = (flow_likelihood(denoiser, x, Seeds.of(0, 100)).nats - exact(denoiser, x)) / 2
    assert float(error.abs().max()) < 0.01 and abs(float(error.mean())) < 1e-3


@pytest.mark.parametrize("d", [1, 16, 64])
def test_flow_in_more_dimensions_with_a_guessed_trace(d: int) -> None:
    denoiser, n = blobs(d), 300
    x = drawn(denoiser, n, 2)
    found = flow_likelihood(denoiser, x, Seeds.of(1, n), probes=2)
    gap, error = mean_and_error(found.nats - exact(denoiser, x))
    assert error / d < 0.008 and abs(gap) < 3 * error + 1e-3 * d and abs(gap) / d < 0.02
    if d == 1:  # a sign times itself
        assert torch.equal(found.each[0], found.each[1])


def test_a_smaller_tolerance_is_a_smaller_error_at_more_calls() -> None:
    denoiser = blobs(16)
    x = drawn(denoiser, 50, 2)
    fine = flow_likelihood(denoiser, x, Seeds.of(0, 50), tolerance=1e-8, probes=0)
    errors, calls = [], []
    for tolerance in (1e-2, 1e-4, 1e-6):
        found = flow_likelihood(denoiser, x, Seeds.of(0, 50), tolerance=tolerance, probes=0)
        errors.append(float((found.nats - fine.nats).abs().max()) / 16)
        calls.append(float(found.calls.double().mean()))
        assert errors[-1] < 50 * tolerance
    assert errors[0] > errors[1] > errors[2] and calls[0] < calls[1] < calls[2]


def test_an_example_walks_alone() -> None:
    denoiser = blobs(3)
    x, seeds = drawn(denoiser, 7, 1), Seeds.of(4, 7)
    how: dict[str, Any] = {"probes": 1, "tolerance": 1e-6}
    whole = flow_likelihood(denoiser, x, seeds, **how)
    parts = [flow_likelihood(denoiser, x[i : i + 2], seeds[i : i + 2], **how) for i in (0, 2, 4, 6)]
    joined = Flow.join(parts)
    # to rounding: sums over a batch may be blocked another way
    assert torch.allclose(joined.nats, whole.nats, rtol=0, atol=1e-9)
    assert torch.equal(joined.calls, whole.calls) and len(whole.calls.unique()) > 1


@pytest.mark.parametrize("dequantisation", CANDIDATES, ids=str)
def test_bits_of_pixels_never_undercut_the_entropy(dequantisation: Dequantisation) -> None:
    model, n, level = pixels(), 600, 2 / 255
    x = model.draw(n, 1)
    # The sharpest of the four laws and the noise of the draws dominate: take out what the data themselves do.
    own = -sum(model.laws[i].log()[((x[:, i] + 1) / level).round().long()] for i in range(4))
    found = flow_likelihood(model, x, Seeds.of(2, n), level=level, dequantisation=dequantisation)
    gap, error = mean_and_error(found.nats - own)
    assert gap > -3 * error, "a bound"
    if str(dequantisation) != str(
        Dequantisation("uniform", 1 / 6)
    ):  # which looks into the gaps between levels
        assert gap < 3 * error + 0.1, "and a close one"


@pytest.mark.parametrize("dequantisation", CANDIDATES, ids=str)
def test_dequantisation_fills_its_own_cell_and_knows_its_density(dequantisation: Dequantisation) -> None:
    x, level = torch.full((20_000, 1), 0.25, dtype=F64), 0.5
    y, log_q = dequantisation(x, level, Seeds.of(1, 20_000))
    u = (y - x)[:, 0]
    assert float(u.abs().max()) <= level / 2
    width, half = dequantisation.ratio * level, level / 2
    law = (
        truncnorm(-half / width, half / width, scale=width)
        if dequantisation.law == "normal"
        else uniform(-half, level)
    )
    wanted = torch.from_numpy(law.logpdf((u * (1 - 1e-12)).numpy()))  # a rounding within the ends
    assert torch.allclose(log_q, wanted, rtol=1e-9, atol=1e-9)
    assert kstest(u.numpy(), law.cdf).pvalue > 1e-3


def test_the_dequantisation_that_suits_is_chosen() -> None:
    """Levels that the model tells apart want a bump, a density that is flat within a cell the uniform law."""
    level = 2 / 255
    sharp = pixels()
    chosen = choose_dequantisation(sharp, sharp.draw(64, 3), Seeds.of(1, 64), level)
    assert chosen.law == "normal"
    broad = MixtureDenoiser(
        GaussianProcess(Cosine()), torch.zeros(1, 4).double(), torch.full((1, 4), 0.1).double()
    )
    x = (drawn(broad, 64, 1).clamp(-1, 1).add(1).div(level).round() * level - 1).clamp(-1, 1)
    assert choose_dequantisation(broad, x, Seeds.of(1, 64), level).law == "uniform"


def test_what_has_no_flow_says_so() -> None:
    words, weights = tokens()
    table = TableDenoiser(PROCESSES["uniform"], words, weights)
    with pytest.raises(UserError, match="no probability-flow ODE"):
        flow_likelihood(table, words, Seeds.of(0, len(words)))
    denoiser = mixture(Cosine())
    x = drawn(denoiser, 3, 1)
    with pytest.raises(UserError, match="not finite"):
        flow_likelihood(denoiser, x * torch.nan, Seeds.of(0, 3))
    with pytest.raises(UserError, match="cannot be had to a tolerance of 1e-14"):
        flow_likelihood(denoiser, x, Seeds.of(0, 3), tolerance=1e-14, most=200)


def decay(y: Tensor, s: Tensor, index: Tensor) -> Tensor:
    """Each example at a rate of its own, and faster with time."""
    return -y * at(1.0 + index.double(), y) * at(1 + s, y)


def within(tolerance: float):  # type: ignore[no-untyped-def]
    return lambda error, y: error.abs().max(1).values / tolerance


def test_steps_of_stated_accuracy() -> None:
    y = torch.ones(5, 2, dtype=F64)
    wanted = (-(1 + torch.arange(5).double()) * 1.5).exp()[:, None].expand(5, 2)
    errors, calls = [], []
    for tolerance in (1e-5, 1e-8, 1e-11):
        end, used = integrate(decay, y, 0.0, 1.0, within(tolerance))
        errors.append(float((end - wanted).abs().max()))
        calls.append(int(used.sum()))
        assert errors[-1] < 20 * tolerance
    # order five: a thousandth of the error at about four times the steps
    assert 2.5 < calls[2] / calls[1] < 6
    assert bool((used[1:] >= used[:-1]).all()), "the faster, the more steps"
    assert torch.equal(y, torch.ones(5, 2, dtype=F64)), "the start is left alone"


def test_steps_that_cannot_be_taken() -> None:
    with pytest.raises(Unreached, match="calls"):
        integrate(decay, torch.ones(2, 1, dtype=F64), 0.0, 1.0, within(1e-13), most=50)
    with pytest.raises(Unreached, match="too short"):
        integrate(
            lambda y, s, i: torch.where(at(s, y) > 0.5, torch.nan, y),
            torch.ones(1, 1, dtype=F64),
            0.0,
            1.0,
            within(1e-3),
        )
