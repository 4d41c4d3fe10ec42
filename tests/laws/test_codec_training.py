"""Laws of training a codec: it beats the best linear code, and what it reports is so."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from kuosan.codecs import (
    KLVAE,
    calibrate,
    codec_settings,
    encode_items,
    load_codec,
    round_trip,
    save_codec,
    train_codec,
)
from kuosan.codecs.likelihood import distortion
from kuosan.core.posteriors import Gaussian
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.training import ema
from kuosan.training.checkpoint import save_weights

from .codec_cases import (
    Pictures,
    edges,
    generator,
    noise,
)


def trained(steps: int = 60, seed: int = 0, **leaves: float) -> tuple[KLVAE, list]:
    codec = KLVAE(1, (16, 16), factor=4, latent=2, base=16, generator=generator(seed))
    settings = replace(codec_settings(steps=steps, seed=seed, batch=16), **leaves)
    return codec, list(
        train_codec(codec, Pictures(edges(96)), Pictures(edges(33, seed=1)), settings, crop=16)
    )


@pytest.fixture(scope="module")
def edge_codec() -> tuple[KLVAE, list]:
    return trained(steps=200)


def test_training_beats_the_best_linear_code(edge_codec: tuple[KLVAE, list]) -> None:
    codec, events = edge_codec
    start = KLVAE(1, (16, 16), factor=4, latent=2, base=16, generator=generator()).requires_grad_(False)
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
    codec = KLVAE(1, (16, 16), factor=4, latent=2, base=16, generator=generator())
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
    codec = KLVAE(1, (16, 16), factor=4, latent=2, base=4, generator=generator())
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
    """Items with a condition, and upside down in other views."""

    def batch(self, index: Tensor, seeds: Seeds | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.x[index] if seeds is None else self.x[index].flip(2)
        return x, {"class": index * 7 + (seeds is not None)}


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
    assert torch.allclose(latents.z.float().var((0, 1, 3, 4)), torch.ones(2), atol=0.2)


def test_of_items_with_several_views_training_sees_all_and_everybody_else_the_first(
    edge_codec: tuple[KLVAE, list],
) -> None:
    codec, items = edge_codec[0], Labelled(edges(8))
    latents, one = encode_items(codec, items, 5, views=3), encode_items(codec, items, 5)
    assert latents.z.shape[:2] == (8, 3) and torch.equal(latents.z[:, :1], one.z)
    index = torch.arange(8).repeat(40)
    first, cond = latents.batch(index)
    assert torch.equal(first, one.batch(index)[0]) and torch.equal(cond["class"], index * 7)
    seen, cond = latents.batch(index, Seeds.of(1, len(index)))
    of_first = (seen == first).flatten(1).all(1)
    assert 0.2 < of_first.double().mean() < 0.5  # a third
    assert torch.equal(cond["class"], index * 7 + (~of_first).long())
    assert not torch.equal(latents.z[:, 1], latents.z[:, 2])  # another draw
