"""Laws of codecs: closed forms of the linear code, proper bounds, padding, neighbours, what training reports."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path

import mpmath
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from kuosan.codecs import (
    KLVAE,
    build_codec,
    calibrate,
    codec_settings,
    encode_items,
    likelihood_terms,
    load_codec,
    round_trip,
    save_codec,
    train_codec,
)
from kuosan.codecs.likelihood import distortion, entropy, kl_to_normal
from kuosan.codecs.objective import bands, codec_loss, crops, strength, texture
from kuosan.core.posteriors import Gaussian
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.training import ema
from kuosan.training.checkpoint import save_weights

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(seed: int, *shape: int) -> Tensor:
    return Seeds.of(seed, shape[0]).normal(torch.empty(shape, dtype=F64))


@dataclass(frozen=True)
class Pictures:
    """Items of the training loop."""

    x: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.x[index], {}


def edges(n: int, side: int = 16, seed: int = 0) -> Tensor:
    """Half-planes at random places and angles in two grey levels, float32: easy for eyes, hard for linear codes."""
    angle, where, low, high = torch.rand(4, n, 1, 1, generator=generator(seed))
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    distance = (6.3 * angle).cos() * x + (6.3 * angle).sin() * y - where + 0.5
    return (torch.where(distance > 0, high, -low) * 0.9)[:, None]


def lively(channels: int = 2, height: int = 8, width: int = 12, seed: int = 3, **leaves: int) -> KLVAE:
    """A float64 codec none of whose weights is zero, as after training."""
    codec = KLVAE(
        channels, height, width, **{"factor": 4, "latent": 3, "base": 8, **leaves}, generator=generator(seed)
    ).double()
    source = generator(seed + 1)
    with torch.no_grad():
        for p in codec.parameters():
            p += 0.1 * torch.randn(p.shape, generator=source, dtype=F64)
        codec.shift += torch.randn(codec.latent, generator=source, dtype=F64)
        codec.scale *= 1 + torch.rand(codec.latent, generator=source, dtype=F64)
    return codec.requires_grad_(False)


# -- the linear code: everything is known -------------------------------------------------------------------


def correlated(n: int) -> Tensor:
    """Pictures (n, 1, 4, 4) of independent 2×2 patches whose four pixels are correlated and not of mean 0."""
    mix = noise(7, 4, 4) * torch.tensor([1.0, 0.5, 0.3, 0.2], dtype=F64)
    patches = noise(8, n * 4, 4) @ mix.T + noise(9, 1, 4)
    return F.pixel_shuffle(patches.view(n, 2, 2, 4).permute(0, 3, 1, 2), 2)


def linear() -> tuple[KLVAE, Tensor]:
    x = correlated(200)
    codec = KLVAE(1, 4, 4, factor=2, latent=2, base=4, generator=generator()).double().requires_grad_(False)
    codec.start(x.split(37))
    return codec, x


def patches_of(x: Tensor) -> Tensor:
    """(n, patches, D)."""
    return F.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)


def exact_nats(codec: KLVAE, x: Tensor) -> Tensor:
    """−log p(x) of the linear codec's decoder under z ~ N(0, I), by its marginal's covariance."""
    w = codec.synthesis.weight[:, :, 0, 0]
    model = MultivariateNormal(
        codec.synthesis.bias, w @ w.T + codec.log_noise.exp() * torch.eye(4, dtype=F64)
    )
    return -model.log_prob(patches_of(x)).sum(1)


def normal_nats(codec: KLVAE, z: Tensor) -> Tensor:
    """−log density of scaled latents that are N(0, I) before they are scaled."""
    raw = z * codec.scale.view(-1, 1, 1) + codec.shift.view(-1, 1, 1)
    logs = Normal(0.0, 1.0).log_prob(raw) + codec.scale.log().view(-1, 1, 1)
    return -logs.flatten(1).sum(1)


def exact_sum(codec: KLVAE, x: Tensor) -> Tensor:
    """The right side of eq. (1) with its expectations exact: both integrands are quadratic in z, and the 2n
    points mean ± √n · deviation_i integrate those exactly."""
    q = codec.posterior(x)
    n = q.mean[0].numel()
    total = torch.zeros(len(x), dtype=F64)
    for i in range(n):
        for sign in (-1, 1):
            e = torch.zeros(n, dtype=F64)
            e[i] = sign * n**0.5
            z = q.mean + q.variance.sqrt() * e.view(1, *q.mean.shape[1:])
            total += distortion(x, codec.decode(z), codec.log_noise) + normal_nats(codec, z)
    return total / (2 * n) - entropy(q.variance)


def test_the_linear_code_is_principal_components() -> None:
    codec, x = linear()
    p = patches_of(x).flatten(0, 1)
    values, u = torch.linalg.eigh((p - p.mean(0)).T @ (p - p.mean(0)) / len(p))
    values, u = values.flip(0), u.flip(1)
    noise_variance = values[2:].mean()
    assert torch.allclose(codec.log_noise.exp(), noise_variance, rtol=1e-9)
    # What the mean of the posterior leaves: all of the dropped components, s⁴/λ of each kept one.
    left = values[2:].sum() + (noise_variance**2 / values[:2]).sum()
    error = (x - codec.decode(codec.encode(x))).square().mean()
    assert torch.allclose(error, left / 4, rtol=1e-9)
    q = codec.posterior(x)
    assert torch.allclose(q.variance.mean((0, 2, 3)), noise_variance / values[:2], rtol=1e-9)
    assert torch.allclose(q.mean.mean((0, 2, 3)), torch.zeros(2, dtype=F64), atol=1e-9)
    # The aggregate of the posteriors is the prior: variance of means plus mean of variances is one.
    assert torch.allclose(
        q.mean.var((0, 2, 3), correction=0) + q.variance.mean((0, 2, 3)), torch.ones(2, dtype=F64)
    )


def test_with_the_exact_posterior_the_bound_is_the_likelihood() -> None:
    codec, x = linear()
    assert torch.allclose(exact_sum(codec, x[:5]), exact_nats(codec, x[:5]), rtol=1e-9)
    codec.shift += torch.tensor([0.7, -2.0])
    codec.scale *= torch.tensor([0.3, 4.0])
    assert torch.allclose(exact_sum(codec, x[:5]), exact_nats(codec, x[:5]), rtol=1e-9)


def test_with_another_posterior_the_bound_exceeds_by_the_divergence() -> None:
    codec, x = linear()
    wrong = copy.deepcopy(codec)
    wrong.analysis.bias[:2] += torch.tensor([0.2, -0.1])
    wrong.analysis.bias[2:] += 0.3
    (m, v), (m_w, v_w) = codec.moments(x[:5]), wrong.moments(x[:5])
    gap = kl_divergence(
        Independent(Normal(m_w, (v_w / 2).exp()), 3), Independent(Normal(m, (v / 2).exp()), 3)
    )
    assert torch.allclose(exact_sum(wrong, x[:5]) - exact_nats(wrong, x[:5]), gap, rtol=1e-8)
    assert bool((gap > 0.1).all())


def test_one_draw_estimates_the_bound_without_bias() -> None:
    codec, x = linear()
    n = 4000
    x = x[:1].expand(n, -1, -1, -1)
    codec.scale *= 2.5
    terms = likelihood_terms(codec, x, Seeds.of(0, n))
    bounds = terms.bound(normal_nats(codec, terms.z))
    assert abs(bounds.mean() - exact_nats(codec, x[:1])) < 4 * bounds.std() / n**0.5


def test_units_of_the_latents_cancel() -> None:
    codec = lively()
    x, seeds = noise(0, 4, *codec.shape), Seeds.of(5, 4)
    before = likelihood_terms(codec, x, seeds)
    sum_before = before.bound(normal_nats(codec, before.z))
    codec.scale *= torch.tensor([3.0, 0.2, 1.5], dtype=F64)
    codec.shift += 1
    after = likelihood_terms(codec, x, seeds)
    assert torch.allclose(after.distortion, before.distortion, rtol=1e-9)
    places = codec.latent_shape[1] * codec.latent_shape[2]
    assert torch.allclose(after.entropy, before.entropy - places * math.log(3.0 * 0.2 * 1.5), rtol=1e-9)
    assert torch.allclose(after.bound(normal_nats(codec, after.z)), sum_before, rtol=1e-9)


# -- closed forms -------------------------------------------------------------------------------------------


def test_divergence_and_entropy_are_those_of_torch() -> None:
    mean, log_var = noise(0, 3, 4, 5), noise(1, 3, 4, 5)
    q = Independent(Normal(mean, (log_var / 2).exp()), 2)
    normal = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 2)
    assert torch.allclose(kl_to_normal(mean, log_var), kl_divergence(q, normal), rtol=1e-12)
    assert torch.allclose(entropy(log_var.exp()), q.entropy(), rtol=1e-12)


@pytest.mark.parametrize("levels", [2, 256])
def test_probabilities_of_levels_sum_to_one(levels: int) -> None:
    level = 2 / (levels - 1)
    x = torch.linspace(-1, 1, levels, dtype=F64)
    for mean in (-3.0, -1.0, 0.013, 0.99, 2.0):
        for deviation in (1e-4, 0.01, 0.3, 20.0):
            log_noise = torch.tensor(2 * math.log(deviation), dtype=F64)
            p = (-distortion(x[:, None], torch.full((levels, 1), mean), log_noise, level)).exp()
            assert abs(float(p.sum()) - 1) < 1e-9


def test_probability_of_a_level_far_out_keeps_its_digits() -> None:
    level, mpmath.mp.dps = 2 / 255, 700
    for i, mean, deviation in (
        (0, 0.5, 0.05),
        (255, -0.6, 0.05),
        (200, -0.9, 0.03),
        (30, 0.3, 0.04),
        (100, 0.9, 0.03),
        (254, 0.2, 0.4),
        (128, 0.0, 5.0),
    ):
        x = -1 + i * level
        low = mpmath.ncdf((x - level / 2 - mean) / deviation) if i > 0 else 0
        high = mpmath.ncdf((x + level / 2 - mean) / deviation) if i < 255 else 1
        ours = distortion(
            torch.tensor([[x]], dtype=F64),
            torch.tensor([[mean]], dtype=F64),
            torch.tensor(2 * math.log(deviation), dtype=F64),
            level,
        )
        assert float(ours) == pytest.approx(float(-mpmath.log(high - low)), rel=1e-9)


def test_a_probability_is_a_density_times_a_level_where_levels_are_fine() -> None:
    x, mean, log_noise = noise(0, 3, 40) * 0.2, noise(1, 3, 40) * 0.2, torch.tensor(math.log(0.04), dtype=F64)
    level = 1e-3
    density = distortion(x, mean, log_noise) - 40 * math.log(level)
    assert torch.allclose(distortion(x, mean, log_noise, level), density, atol=1e-3)
    expected = -Independent(Normal(mean, 0.2), 1).log_prob(x)
    assert torch.allclose(distortion(x, mean, log_noise), expected, rtol=1e-12)


# -- states of any form -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "factor"), [(13, 10, 4), (5, 9, 2), (3, 3, 8), (8, 16, 8)])
def test_other_sides_are_padded_by_the_edge_and_cropped(height: int, width: int, factor: int) -> None:
    codec = lively(2, height, width, factor=factor)
    x = noise(0, 3, 2, height, width)
    rows = [min(i, height - 1) for i in range(-(-height // factor) * factor)]
    columns = [min(i, width - 1) for i in range(-(-width // factor) * factor)]
    padded = x[:, :, rows][..., columns]
    whole = build_codec(codec.spec() | {"height": len(rows), "width": len(columns)}, generator()).double()
    whole.load_state_dict(codec.state_dict())
    z = codec.encode(x)
    assert z.shape[1:] == codec.latent_shape and torch.equal(z, whole.encode(padded))
    y = codec.decode(z)
    assert y.shape == x.shape and torch.equal(y, whole.decode(z)[..., :height, :width])


def test_a_patch_sees_its_neighbourhood_only() -> None:
    codec = lively(1, 64, 64)
    x = noise(0, 1, 1, 80, 80)
    a, b = x[..., :64, :64], x[..., 4:68, 8:72]
    z, shifted = codec.encode(a), codec.encode(b)
    assert torch.allclose(z[..., 6:9, 7:9], shifted[..., 5:8, 5:7], rtol=1e-9)


def test_neighbours_in_the_batch_do_not_matter() -> None:
    codec, seeds = lively(), Seeds.of(1, 6)
    x = noise(0, 6, *codec.shape)
    z = codec.encode(x, seeds)
    terms = likelihood_terms(codec, x, seeds, 2 / 255)
    for i in range(6):
        one, alone = slice(i, i + 1), likelihood_terms(codec, x[i : i + 1], seeds[i : i + 1], 2 / 255)
        assert torch.allclose(codec.encode(x[one], seeds[one]), z[one], rtol=1e-11)
        assert torch.allclose(codec.decode(z[one]), codec.decode(z)[one], rtol=1e-11)
        assert torch.allclose(alone.bound(alone.entropy), terms.bound(terms.entropy)[one], rtol=1e-11)


def test_both_precisions_agree() -> None:
    codec = lively()
    x, seeds = noise(0, 4, *codec.shape), Seeds.of(1, 4)
    z, y = codec.encode(x, seeds), codec.decode(codec.encode(x))
    single = copy.deepcopy(codec).float()
    z32, y32 = single.encode(x.float(), seeds), single.decode(single.encode(x.float()))
    assert (z.dtype, y.dtype, z32.dtype, y32.dtype) == (F64, F64, torch.float32, torch.float32)
    assert torch.allclose(z32.double(), z, atol=1e-5) and torch.allclose(y32.double(), y, atol=1e-5)


def test_draws_have_the_posterior_s_moments() -> None:
    codec = lively()
    x = noise(0, 1, *codec.shape)
    q = codec.posterior(x)
    assert isinstance(q, Gaussian)
    mean, log_var = codec.moments(x)
    scale = codec.scale.view(-1, 1, 1)
    assert torch.allclose(q.variance, log_var.exp() / scale**2, rtol=1e-12)
    n = 2000
    draws = codec.encode(x.expand(n, -1, -1, -1), Seeds.of(0, n))
    off = (draws.mean(0) - q.mean[0]) / (q.variance[0] / n).sqrt()
    assert float(off.abs().max()) < 4.5
    assert torch.allclose(draws.var(0), q.variance[0], rtol=0.15)
    # Decoding puts back what encoding took away.
    assert torch.allclose(codec.decode(q.mean), codec.picture(mean), rtol=1e-9)


def test_larger_states_have_larger_latents_and_come_back_as_large() -> None:
    codec = lively()
    z = codec.encode(noise(0, 1, 2, 16, 12))
    assert z.shape[2:] == (2 * codec.latent_shape[1], codec.latent_shape[2])
    assert codec.decode(z).shape == (1, 2, 16, 12)


def test_what_does_not_fit_is_refused() -> None:
    codec = lively()
    with pytest.raises(ValueError, match=r"states of shape \(b, 2, height, width\)"):
        codec.encode(noise(0, 1, 3, 8, 12))
    with pytest.raises(ValueError, match=r"latents of shape \(b, 3, height, width\)"):
        codec.decode(noise(0, 1, 2, 2, 3))
    with pytest.raises(UserError, match="1 to 8 latent channels"):
        build_codec(codec.spec() | {"factor": 2, "latent": 9}, generator())
    with pytest.raises(UserError, match="'nothing' is unknown"):
        build_codec({"kind": "nothing"}, generator())


# -- texture and the objective ------------------------------------------------------------------------------


def test_bands_are_a_pyramid() -> None:
    x = noise(0, 2, 3, 16, 12)
    first, second = bands(x)
    half = F.avg_pool2d(x, 2)
    up = F.interpolate(half, size=(16, 12), mode="bilinear", align_corners=False)
    assert torch.allclose(first + up, x) and second.shape == half.shape
    assert all(float(d.abs().max()) < 1e-12 for d in bands(torch.ones(1, 1, 16, 16, dtype=F64)))
    assert len(list(bands(noise(0, 1, 1, 2, 2), 5))) == 1 and not list(bands(noise(0, 1, 1, 1, 9)))


def test_texture_compares_strengths_and_not_places() -> None:
    x = noise(0, 2, 3, 32, 32)
    assert float(texture(x, x).abs().max()) == 0 == float(texture(x, -x).abs().max())
    assert torch.allclose(
        strength(torch.full((1, 1, 16, 16), 0.3, dtype=F64)), torch.tensor(0.09 + 1e-4, dtype=F64).sqrt()
    )
    # Independent noise of strength a against none: ρ is a, to the spread of a sum over 64 pixels.
    flat = torch.zeros_like(x)
    one, three = texture(x, flat), texture(3 * x, flat)
    assert torch.allclose(three, 3 * one, rtol=0.03)
    expected = sum(float(d.std()) for d in bands(x))
    assert float(one.mean()) == pytest.approx(expected, rel=0.03)


def test_the_loss_is_the_bound_per_number_and_texture() -> None:
    codec = lively()
    x, seeds = noise(0, 4, *codec.shape), Seeds.of(2, 4)
    plain, error = codec_loss(codec, x, seeds, beta=0.7, detail=0)
    mean, log_var = codec.moments(x)
    y = codec.picture(mean + (log_var / 2).exp() * seeds.normal(mean))
    d = x[0].numel()
    bound = distortion(x, y, codec.log_noise) + 0.7 * kl_to_normal(mean, log_var)
    assert torch.allclose(plain, bound / d - 0.5 * math.log(2 * math.pi), rtol=1e-9)
    assert torch.allclose(error, (x - y).square().flatten(1).mean(1))
    rough, _ = codec_loss(codec, x, seeds, beta=0.7, detail=0.4)
    assert torch.allclose(rough - plain, 0.4 * texture(x, y) / (codec.log_noise / 2).exp(), rtol=1e-9)


def test_crops_are_whole_patches_of_their_own_picture() -> None:
    n = 300
    place = torch.arange(16 * 24, dtype=F64).view(1, 16, 24) + 1000 * torch.arange(n, dtype=F64).view(n, 1, 1)
    cut = crops(place[:, None], 8, 4, Seeds.of(0, n))
    corner = cut[:, 0, 0, 0]
    assert cut.shape == (n, 1, 8, 8) and torch.equal(corner // 1000, torch.arange(n, dtype=F64))
    row, column = corner % 1000 // 24, corner % 1000 % 24
    assert set(row.tolist()) == {0, 4, 8} and set(column.tolist()) == {0, 4, 8, 12, 16}
    inner = torch.arange(8)[:, None] * 24 + torch.arange(8)
    assert torch.equal(cut[:, 0] - corner.view(n, 1, 1), inner.expand(n, 8, 8).double())
    assert crops(place[:, None], 20, 4, Seeds.of(0, n)).shape == (n, 1, 16, 20)


# -- training -----------------------------------------------------------------------------------------------


def trained(steps: int = 60, seed: int = 0, **leaves: float) -> tuple[KLVAE, list]:
    codec = KLVAE(1, 16, 16, factor=4, latent=2, base=16, generator=generator(seed))
    settings = replace(codec_settings(steps=steps, seed=seed, batch=16), **leaves)
    return codec, list(
        train_codec(codec, Pictures(edges(96)), Pictures(edges(33, seed=1)), settings, crop=16)
    )


@pytest.fixture(scope="module")
def edge_codec() -> tuple[KLVAE, list]:
    return trained(steps=200)


def test_training_beats_the_best_linear_code(edge_codec: tuple[KLVAE, list]) -> None:
    codec, events = edge_codec
    start = KLVAE(1, 16, 16, factor=4, latent=2, base=16, generator=generator()).requires_grad_(False)
    start.start([edges(96)])
    linear_trip = round_trip(start, Pictures(edges(33, seed=1)))
    assert events[-1].round_trip.psnr > linear_trip.psnr + 1
    assert [e.step for e in events] == list(range(1, 201)) and events[-1].progress == 1
    assert all(e.round_trip is None for e in events[:-1])


def test_the_reported_round_trip_is_that_of_decode_and_encode(edge_codec: tuple[KLVAE, list]) -> None:
    codec, events = edge_codec
    trip, x = events[-1].round_trip, edges(33, seed=1)
    psnr = 10 * torch.log10(4 / (x - codec.decode(codec.encode(x))).square().mean((1, 2, 3)))
    assert trip.n == 33
    assert trip.psnr == pytest.approx(float(psnr.mean()), rel=1e-5)
    assert trip.psnr_stderr == pytest.approx(float(psnr.std() / 33**0.5), rel=1e-3)
    mean, log_var = codec.moments(x)
    q = Normal(mean, (log_var / 2).exp())
    kl = kl_divergence(q, Normal(torch.zeros_like(mean), torch.ones_like(mean))).mean((1, 2, 3))
    assert trip.kl == pytest.approx(float(kl.mean()), rel=1e-4)
    assert trip.kl_stderr == pytest.approx(float(kl.std() / 33**0.5), rel=1e-3)


def test_latents_of_the_training_set_have_mean_0_and_variance_1(edge_codec: tuple[KLVAE, list]) -> None:
    codec = edge_codec[0]
    q = codec.posterior(edges(96))
    assert isinstance(q, Gaussian)
    assert torch.allclose(q.mean.mean((0, 2, 3)), torch.zeros(2), atol=1e-4)
    assert torch.allclose((q.mean**2 + q.variance).mean((0, 2, 3)), torch.ones(2), rtol=1e-4)


def test_the_decoder_s_variance_is_the_most_likely_one(edge_codec: tuple[KLVAE, list]) -> None:
    codec, x, seeds = edge_codec[0], edges(96), Seeds.of(4, 96)
    again = copy.deepcopy(codec)
    calibrate(again, Pictures(x), seeds)
    assert torch.allclose(again.shift, codec.shift, atol=1e-4) and torch.allclose(
        again.scale, codec.scale, rtol=1e-4
    )
    y = codec.decode(codec.encode(x, seeds))
    nats = [float(distortion(x, y, again.log_noise + step).mean()) for step in (-1e-2, 0, 1e-2)]
    # At the minimum of D/2 (e^−h + h) both sides rise by D h²/4 (128 numbers in a half of 256).
    assert nats[0] - nats[1] == pytest.approx(256 * 1e-4 / 4, rel=0.02)
    assert nats[2] - nats[1] == pytest.approx(256 * 1e-4 / 4, rel=0.02)


def test_training_is_a_function_of_its_seed() -> None:
    (a, first), (b, second), (c, _) = trained(6), trained(6), trained(6, seed=1)
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    assert first[-1].round_trip == second[-1].round_trip
    assert not torch.equal(a.analysis.weight, c.analysis.weight)


def test_the_end_is_the_average_over_the_run() -> None:
    """With a rate that does not ask for the end, a run of four steps passes through the ends of a run of three."""
    level = {"warmup": 0.0, "decay": 0.0}
    codec = KLVAE(1, 16, 16, factor=4, latent=2, base=16, generator=generator())
    settings = replace(codec_settings(steps=4, batch=16), **level)
    average = None
    for event in train_codec(codec, Pictures(edges(96)), Pictures(edges(0)), settings, crop=16):
        if event.step < 4:
            here = copy.deepcopy(codec)
            average = here if average is None else average
            with torch.no_grad():
                ema.update(average, here, event.step, ema.gamma_of(settings.ema))
    ends = trained(3, **level)[0]
    assert average is not None and event.round_trip is None
    for (name, mine), theirs in zip(ends.named_parameters(), average.parameters(), strict=True):
        assert name == "log_noise" or torch.equal(mine, theirs), name
    assert not any(p.requires_grad for p in ends.parameters())


def test_a_loss_that_is_not_finite_is_told() -> None:
    broken = Pictures(noise(0, 8, 1, 16, 16).float() * 1e30)
    codec = KLVAE(1, 16, 16, factor=4, latent=2, base=4, generator=generator())
    with pytest.raises(UserError, match="not finite at step"):
        list(train_codec(codec, broken, broken, codec_settings(steps=20, batch=4), crop=8))


def test_weights_and_specification_rebuild_a_codec(tmp_path: Path, edge_codec: tuple[KLVAE, list]) -> None:
    codec, x = edge_codec[0], edges(3)
    save_codec(tmp_path / "codec.safetensors", codec)
    again = load_codec(tmp_path / "codec.safetensors", codec.spec())
    assert torch.equal(again.encode(x), codec.encode(x)) and float(again.log_noise) == float(codec.log_noise)
    assert torch.equal(again.decode(again.encode(x)), codec.decode(codec.encode(x)))
    save_weights(tmp_path / "other.safetensors", {"w": torch.zeros(1)}, {})
    with pytest.raises(UserError, match="do not fit"):
        load_codec(tmp_path / "other.safetensors", codec.spec())


@dataclass(frozen=True)
class Labelled(Pictures):
    """Items with a condition."""

    def batch(self, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.x[index], {"class": index * 7}


def test_stored_latents_are_draws_of_their_own_items(edge_codec: tuple[KLVAE, list]) -> None:
    codec, x = edge_codec[0], edges(96)
    latents, fewer = encode_items(codec, Labelled(x), 5), encode_items(codec, Labelled(x[:11]), 5)
    index = torch.tensor([90, 3, 17])
    z, cond = latents.batch(index)
    expected = codec.encode(x[index], Seeds.of(5, index.tolist()).fold("latents"))
    assert z.dtype == torch.float32 and torch.allclose(z, expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(cond["class"], index * 7) and len(latents) == 96
    assert torch.allclose(latents.z[:11].float(), fewer.z.float(), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(encode_items(codec, Labelled(x), 6).batch(index)[0], z, atol=0.01)
    # 96 · 16 numbers per channel, those of one picture correlated: variance 1 within a fifth.
    assert torch.allclose(latents.z.float().var((0, 2, 3)), torch.ones(2), atol=0.2)
