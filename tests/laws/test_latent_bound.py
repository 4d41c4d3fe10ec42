"""Laws of the bound through both stages: where everything is linear and Gaussian it is the likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from kuosan.codecs import KLVAE, Codec
from kuosan.core.posteriors import Point
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.errors import UserError
from kuosan.evaluation.likelihood import Effort, latent_bound, measure_latent_likelihood, plan
from kuosan.evaluation.likelihood.fold import Items
from kuosan.processes.gaussian import GaussianProcess

F64 = torch.float64
FACTOR, LATENT, SIDE = 2, 2, 4  # four patches of four numbers


def linear(seed: int = 0) -> tuple[KLVAE, MultivariateNormal]:
    """An untrained codec at the principal components of correlated patches, and the law that it then is exactly:
    p(patch) = N(p̄, W Wᵀ + s² I)."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(4, 4, generator=g, dtype=F64) * torch.tensor([1.0, 0.7, 0.2, 0.2], dtype=F64)
    patches = 0.3 + torch.randn(4000, 4, generator=g, dtype=F64) @ mix.T
    x = patches.reshape(-1, 4, 4, 1, 1)[:, 0]
    codec = KLVAE(1, (SIDE, SIDE), factor=FACTOR, latent=LATENT, base=4, generator=g).double()
    start = KLVAE(1, (2, 2), factor=FACTOR, latent=LATENT, base=4, generator=g).double()
    start.start([torch.nn.functional.pixel_shuffle(x, 2)])
    codec.load_state_dict(start.state_dict())
    w = codec.synthesis.weight.detach()[..., 0, 0]
    s2 = codec.log_noise.detach().exp()
    law = MultivariateNormal(codec.synthesis.bias.detach(), w @ w.T + s2 * torch.eye(4, dtype=F64))
    return codec.requires_grad_(False), law


def drawn(law: MultivariateNormal, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """States of four independent patches, and their exact -log p(x)."""
    g = torch.Generator().manual_seed(seed)
    patches = law.loc + torch.randn(n * 4, 4, generator=g, dtype=F64) @ law.scale_tril.T
    x = patches.reshape(n, 2, 2, 4).permute(0, 3, 1, 2)
    exact = -law.log_prob(patches).reshape(n, 4).sum(1)
    return torch.nn.functional.pixel_shuffle(x, FACTOR), exact


def normal(codec: Codec, mean: float = 0.0) -> MixtureDenoiser:
    """The exact denoiser of latents whose law, in the codec's own units, is N(mean, 1)."""
    shift, scale = codec.shift.view(-1, 1, 1), codec.scale.view(-1, 1, 1)
    one = torch.ones(codec.latent_shape, dtype=F64)
    centre, variance = ((mean - shift) / scale) * one, scale**-2 * one
    return MixtureDenoiser(GaussianProcess(Cosine()), centre[None], variance[None])


def measured(codec: KLVAE, denoiser: MixtureDenoiser, x: Tensor) -> Tensor:
    seeds = Seeds.of(7, len(x))
    times = plan(denoiser, [(codec.encode(x[:256], seeds[:256]), {})], seeds[:256])
    return latent_bound(codec, denoiser, x, seeds, times, count=32).total


@pytest.mark.parametrize("seed", [0, 1])
def test_bound_of_exact_stages_is_the_likelihood(seed: int) -> None:
    codec, law = linear(seed)
    x, exact = drawn(law, 2000, seed)
    gap = measured(codec, normal(codec), x) - exact
    error = float(gap.std()) / math.sqrt(len(x))
    assert error < 0.1, "too blurred to hold the bound to anything"
    assert abs(float(gap.mean())) < 3 * error + 0.01


def test_the_unit_of_the_latents_cancels() -> None:
    codec, law = linear()
    x, _ = drawn(law, 600, 1)
    before = measured(codec, normal(codec), x)
    codec.shift += torch.tensor([0.4, -1.0], dtype=F64)
    codec.scale *= torch.tensor([3.0, 0.2], dtype=F64)
    gap = measured(codec, normal(codec), x) - before
    error = float(gap.std()) / math.sqrt(len(x))
    assert abs(float(gap.mean())) < 3 * error + 0.02 and error < 0.2


def test_a_wrong_prior_and_a_wrong_decoder_pay_their_divergence() -> None:
    codec, law = linear()
    x, exact = drawn(law, 2000, 2)
    # Latents are N(0, 1) on average over data; N(0.5, 1) in its place costs ½ · 0.5² for each of eight.
    gap = measured(codec, normal(codec, 0.5), x) - exact
    error = float(gap.std()) / math.sqrt(len(x))
    assert float(gap.mean()) == pytest.approx(8 * 0.5**2 / 2, abs=3 * error + 0.02)
    # A decoder of k times the variance: ½ (1/k − 1 + log k) for each of 16 numbers, as x − decode(z) ~ N(0, s²).
    codec.log_noise += math.log(2)
    gap = measured(codec, normal(codec), x) - exact
    error = float(gap.std()) / math.sqrt(len(x))
    assert float(gap.mean()) == pytest.approx(16 * (0.5 - 1 + math.log(2)) / 2, abs=3 * error + 0.02)


@dataclass(frozen=True)
class Rows:
    """Items without conditions."""

    x: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.x[index], {}


def test_measured_and_cross_fitted_it_is_the_likelihood_per_dimension() -> None:
    codec, law = linear()
    (x, exact), (seen, _) = drawn(law, 301, 4), drawn(law, 100, 5)
    asked: list[int] = []

    def fit(latents: Items) -> MixtureDenoiser:
        asked.append(len(latents))
        assert latents.batch(torch.arange(3))[0].shape == (3, *codec.latent_shape)
        return normal(codec)

    effort = Effort(n=301, train=64, planned=128, count=32)
    cpu = torch.device("cpu")
    found = measure_latent_likelihood(codec, fit, Rows(seen), Rows(x), level=None, effort=effort, device=cpu)
    assert asked == [150, 151]  # each half is measured with what was fitted to the other
    each, m = found.examples["bound"], found.metrics["nll_bound"]
    assert m.n == 301 and found.metrics["nll_train"].n == 64
    assert m.value == pytest.approx(float(each.mean())) and m.stderr is not None
    gap = each - exact / 16
    error = float(gap.std()) / math.sqrt(len(x))
    assert abs(float(gap.mean())) < 3 * error + 1e-3 and error < 0.02
    assert torch.corrcoef(torch.stack([each, exact]))[0, 1] > 0.6  # and each item has its own
    parts = sum(value for value, _ in found.terms.values())
    assert parts == pytest.approx(m.value)


def test_examples_do_not_know_of_each_other() -> None:
    codec, law = linear()
    x, _ = drawn(law, 24, 3)
    denoiser, seeds = normal(codec), Seeds.of(5, 24)
    times = plan(denoiser, [(codec.encode(x, seeds), {})], seeds)
    whole = latent_bound(codec, denoiser, x, seeds, times).total
    part = latent_bound(codec, denoiser, x[11:14], seeds[11:14], times).total
    assert torch.allclose(whole[11:14], part, rtol=1e-9)


def test_an_encoder_that_is_a_point_has_no_likelihood() -> None:
    codec, law = linear()
    x, _ = drawn(law, 4, 3)
    times, seeds = plan(normal(codec), [(codec.encode(x), {})], Seeds.of(0, 4)), Seeds.of(0, 4)
    codec.posterior = lambda x: Point(x)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="encodes to a point"):
        latent_bound(codec, normal(codec), x, seeds, times)
