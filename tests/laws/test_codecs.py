"""Laws of codecs: closed forms of the linear code, proper bounds, padding, neighbours."""

from __future__ import annotations

import copy
import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal, kl_divergence

from kuosan.codecs import (
    KLVAE,
    build_codec,
    likelihood_terms,
)
from kuosan.codecs.likelihood import distortion, entropy, kl_to_normal
from kuosan.codecs.objective import bands, codec_loss, crops, strength, texture
from kuosan.core.posteriors import Gaussian
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.networks.sides import depth_to_space, space_to_depth

from .codec_cases import (
    F64,
    exact_nats,
    exact_sum,
    generator,
    linear,
    lively,
    noise,
    normal_nats,
    patches_of,
)


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
    whole = build_codec(codec.spec() | {"sides": [len(rows), len(columns)]}, generator()).double()
    whole.load_state_dict(codec.state_dict())
    z = codec.encode(x)
    assert z.shape[1:] == codec.latent_shape and torch.equal(z, whole.encode(padded))
    y = codec.decode(z)
    assert y.shape == x.shape and torch.equal(y, whole.decode(z)[..., :height, :width])


def clips(frames: int, factor: tuple[int, int, int] = (2, 4, 4), seed: int = 3) -> KLVAE:
    """A float64 codec of clips, none of whose weights is zero."""
    codec = KLVAE(2, (frames, 8, 12), factor=factor, latent=3, base=8, generator=generator(seed)).double()
    with torch.no_grad():
        for p in codec.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator(seed), dtype=F64)
    return codec.requires_grad_(False)


@pytest.mark.parametrize(
    ("frames", "pace", "latents"), [(8, 2, 5), (7, 2, 4), (5, 4, 2), (6, 4, 3), (4, 1, 4)]
)
def test_frames_share_latents_and_the_first_has_its_own(frames: int, pace: int, latents: int) -> None:
    codec = clips(frames, (pace, 4, 4))
    x = noise(0, 3, 2, frames, 8, 12)
    z = codec.encode(x)
    assert z.shape[1:] == codec.latent_shape == (3, latents, 2, 3)
    assert codec.decode(z).shape == x.shape
    longer = noise(1, 1, 2, frames + pace, 8, 12)
    assert codec.encode(longer).shape[2] == codec.counts((frames + pace, 8, 12))[0] == latents + 1
    assert codec.decode(codec.encode(longer)).shape[2] >= frames + pace
    for frame in range(frames):  # each of its latents knows its own frames, and no others
        other = x.clone()
        other[:, :, frame] += 1
        changed = (codec.encode(other) != z).flatten(3).any(3).any(0).any(0)
        assert changed.tolist() == [place == -(-frame // pace) for place in range(latents)]


def test_what_stays_of_a_clip_begins_alike() -> None:
    codec = clips(6)
    x = noise(0, 1, 2, 6, 8, 12)
    assert torch.allclose(codec.encode(x)[:, :, :2], codec.encode(x[:, :, :3])[:, :, :2], rtol=1e-12)
    assert torch.allclose(
        codec.decode(codec.encode(x))[:, :, 0], codec.decode(codec.encode(x)[:, :, :4])[:, :, 0]
    )


def test_a_latent_is_known_where_all_that_it_is_made_of_is() -> None:
    codec = KLVAE(3, (16, 16), factor=4, latent=8, base=4, generator=generator())
    mask = torch.zeros(1, 3, 16, 16, dtype=torch.bool)
    mask[:, :, :9] = True
    found = codec.known(mask)
    assert found.shape == (1, 8, 4, 4) and found[0, 0, :, 0].tolist() == [True, False, False, False]
    mask[:, 1, 0, 15] = False
    assert codec.known(mask)[0, :, 0].tolist() == [[True, True, False, False]] * 8
    clip = torch.zeros(1, 2, 8, 8, 12, dtype=torch.bool)
    clip[:, :, [0, 3, 4, 5, 7]] = True  # latents of frames 0, 1–2, 3–4, 5–6 and 7
    assert clips(8).known(clip)[0, 0, :, 0, 0].tolist() == [True, False, True, False, True]
    assert not clips(8).known(~clip)[0, 0, [0, 2, 4]].any()


def test_a_linear_code_of_clips_loses_what_principal_components_lose() -> None:
    mix = noise(5, 6, 48) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1, 0.05], dtype=F64)[:, None]
    x = (noise(6, 200, 6) @ mix).view(200, 1, 3, 4, 4)
    codec = KLVAE(1, (3, 4, 4), factor=(2, 4, 4), latent=4, base=4, generator=generator()).double()
    codec.requires_grad_(False)
    codec.start(x.split(50))
    patches = space_to_depth(codec.padded(x), (2, 4, 4)).transpose(0, 1).flatten(1)
    lost = torch.linalg.eigvalsh(patches.cov(correction=0))[:-4].sum() / 32
    trip = codec.picture(codec.moments(codec.padded(x))[0])
    assert torch.allclose((codec.padded(x) - trip).square().mean(), lost, rtol=0.02)
    assert torch.equal(depth_to_space(space_to_depth(x, (3, 2, 4)), (3, 2, 4)), x)
    assert torch.equal(space_to_depth(x[:, :, 0], (2, 2)), F.pixel_unshuffle(x[:, :, 0], 2))


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
    cut = crops(place[:, None], (8, 8), (4, 4), Seeds.of(0, n))
    corner = cut[:, 0, 0, 0]
    assert cut.shape == (n, 1, 8, 8) and torch.equal(corner // 1000, torch.arange(n, dtype=F64))
    row, column = corner % 1000 // 24, corner % 1000 % 24
    assert set(row.tolist()) == {0, 4, 8} and set(column.tolist()) == {0, 4, 8, 12, 16}
    inner = torch.arange(8)[:, None] * 24 + torch.arange(8)
    assert torch.equal(cut[:, 0] - corner.view(n, 1, 1), inner.expand(n, 8, 8).double())
    assert crops(place[:, None], (20, 20), (4, 4), Seeds.of(0, n)).shape == (n, 1, 16, 20)
