"""Autoencoders of diffusers as codecs: the same numbers as diffusers' own, and refusals in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kuosan.codecs import (
    Codec,
    StockCodec,
    build_codec,
    calibrate,
    likelihood_terms,
    load_codec,
    read_stock,
    save_codec,
)
from kuosan.core.posteriors import Gaussian, Point
from kuosan.core.random import Seeds
from kuosan.errors import UserError

KL = {
    "block_out_channels": (8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "latent_channels": 3,
    "norm_num_groups": 4,
    "sample_size": 16,
}
UNITS: dict[str, dict[str, Any]] = {
    "scaling": {"scaling_factor": 0.2},
    "shifted": {"scaling_factor": 1.5, "shift_factor": 0.3},
    "per_channel": {"scaling_factor": 0.7, "latents_mean": [0.1, -0.2, 0.3], "latents_std": [0.5, 2.0, 3.0]},
}
DC = {
    "latent_channels": 4,
    "attention_head_dim": 4,
    "encoder_block_out_channels": (8, 16),
    "decoder_block_out_channels": (8, 16),
    "encoder_layers_per_block": (1, 1),
    "decoder_layers_per_block": (1, 1),
    "encoder_qkv_multiscales": ((), ()),
    "decoder_qkv_multiscales": ((), ()),
    "scaling_factor": 0.41,
}


def stock(name: str, config: dict[str, Any]) -> Any:
    """A diffusers model whose weights are drawn from a generator of our own."""
    import diffusers

    with torch.device("meta"):
        model = getattr(diffusers, name)(**config)
    model = model.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(
                0.3 * torch.randn(p.shape, generator=generator) / max(1, p[0].numel()) ** 0.5 + (p.ndim == 1)
            )
    return model


def pictures(*shape: int) -> Tensor:
    return Seeds.of(3, shape[0]).normal(torch.empty(shape)) * 0.5


@pytest.mark.parametrize("units", sorted(UNITS))
def test_latents_are_those_of_diffusers(tmp_path: Path, units: str) -> None:
    vae = stock("AutoencoderKL", KL | UNITS[units])
    vae.save_pretrained(tmp_path / "vae")
    codec = read_stock(tmp_path, (16, 12))  # a pipeline's folder
    x, u = pictures(2, 3, 16, 12), UNITS[units]
    assert codec.latent_shape == (3, 4, 3) and codec.shape == (3, 16, 12)
    with torch.no_grad():
        q = vae.encode(x).latent_dist
        mean = torch.tensor(u.get("latents_mean", [u.get("shift_factor", 0.0)] * 3)).view(3, 1, 1)
        std = torch.tensor(u.get("latents_std", [1.0] * 3)).view(3, 1, 1)
        z = (q.mean - mean) / std * u["scaling_factor"]
        assert torch.allclose(codec.encode(x), z, atol=1e-5)
        ours = codec.posterior(x)
        assert isinstance(ours, Gaussian)
        assert torch.allclose(ours.variance.sqrt(), q.std / std * u["scaling_factor"], rtol=1e-4)
        assert torch.allclose(codec.decode(z), vae.decode(q.mean).sample, atol=1e-4)


def test_other_sides_doubles_and_neighbours(tmp_path: Path) -> None:
    stock("AutoencoderKL", KL).save_pretrained(tmp_path)
    codec = read_stock(tmp_path, (14, 9)).double()
    x, seeds = pictures(3, 3, 14, 9).double(), Seeds.of(0, 3)
    z = codec.encode(x, seeds)
    assert z.shape == (3, 3, 4, 3) and z.dtype == torch.float64 and codec.decode(z).shape == x.shape
    assert torch.allclose(codec.encode(x[1:2], seeds[1:2]), z[1:2], rtol=1e-9)
    terms = likelihood_terms(codec, x, seeds, 2 / 255)
    assert torch.allclose(terms.z, z) and terms.distortion.shape == terms.entropy.shape == (3,)


def test_a_deterministic_codec_is_a_point_and_bounds_no_density(tmp_path: Path) -> None:
    dc = stock("AutoencoderDC", DC)
    dc.save_pretrained(tmp_path)
    codec, x = read_stock(tmp_path, (8, 8)), pictures(2, 3, 8, 8)
    with torch.no_grad():
        assert isinstance(codec.posterior(x), Point) and codec.latent_shape == (4, 4, 4)
        assert torch.allclose(codec.encode(x), dc.encode(x).latent * 0.41, atol=1e-5)
        assert torch.equal(codec.encode(x, Seeds.of(0, 2)), codec.encode(x))
        assert torch.allclose(codec.decode(codec.encode(x)), dc.decode(dc.encode(x).latent).sample, atol=1e-5)
    with pytest.raises(ValueError, match="gives no likelihood"):
        likelihood_terms(codec, x, Seeds.of(0, 2))


class Few:
    def __len__(self) -> int:
        return 6

    def batch(self, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return pictures(6, 3, 16, 16)[index], {}


def test_calibration_and_a_copy_without_the_folder(tmp_path: Path) -> None:
    stock("AutoencoderKL", KL).save_pretrained(tmp_path / "vae")
    codec: Codec = read_stock(tmp_path / "vae", (16, 16))
    calibrate(codec, Few(), Seeds.of(0, 6))
    x = pictures(6, 3, 16, 16)
    q = codec.posterior(x)
    assert isinstance(q, Gaussian)
    assert torch.allclose((q.mean**2 + q.variance).mean((0, 2, 3)), torch.ones(3), rtol=1e-3)
    assert torch.allclose(q.mean.mean((0, 2, 3)), torch.zeros(3), atol=1e-3)
    save_codec(tmp_path / "codec.safetensors", codec)
    spec = json.loads(json.dumps(codec.spec()))
    again = load_codec(tmp_path / "codec.safetensors", spec)
    assert torch.equal(again.encode(x), codec.encode(x)) and float(again.log_noise) == float(codec.log_noise)
    with pytest.raises(UserError, match="cannot be built"):
        build_codec(spec | {"config": {"no_such_argument": 1}}, torch.Generator())


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no config.json"):
        read_stock(tmp_path, (8, 8))
    stock("AutoencoderKL", KL).save_pretrained(tmp_path)
    weights, config = tmp_path / "diffusion_pytorch_model.safetensors", tmp_path / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"_class_name": "os.system"}))
    with pytest.raises(UserError, match="holds a os.system"):
        read_stock(tmp_path, (8, 8))
    config.write_text(json.dumps(content | {"latent_channels": 5}))
    with pytest.raises(UserError, match="cannot be loaded"):
        read_stock(tmp_path, (8, 8))
    for broken in ("{", "[]"):
        config.write_text(broken)
        with pytest.raises(UserError, match="cannot be loaded"):
            read_stock(tmp_path, (8, 8))
    config.write_text(json.dumps(content))
    weights.write_bytes(b"no tensors")
    with pytest.raises(UserError, match="cannot be loaded"):
        read_stock(tmp_path, (8, 8))
    weights.rename(tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="other forms of weights are not opened"):
        read_stock(tmp_path, (8, 8))


@pytest.mark.parametrize("units", sorted(UNITS))
@pytest.mark.parametrize("convolutions", [True, False])
def test_an_exported_autoencoder_has_our_latents(units: str, convolutions: bool) -> None:
    config = KL | UNITS[units] | {"use_quant_conv": convolutions, "use_post_quant_conv": convolutions}
    vae = stock("AutoencoderKL", config)
    codec = build_codec(
        {"kind": "stock", "sides": [16, 12], "name": "AutoencoderKL", "config": config},
        torch.Generator(),
    ).requires_grad_(False)
    assert isinstance(codec, StockCodec)
    codec.vae.load_state_dict(vae.state_dict())
    codec.shift += torch.tensor([0.3, -1.0, 0.0])
    codec.scale *= torch.tensor([2.0, 0.3, 1.0])
    out, x = codec.exported(), pictures(2, 3, 16, 12)
    assert out.config.scaling_factor == 1 and not out.config.shift_factor
    q, ours = out.encode(x).latent_dist, codec.posterior(x)
    assert isinstance(ours, Gaussian)
    assert torch.allclose(q.mean, ours.mean, atol=1e-4)
    assert torch.allclose(q.var, ours.variance, rtol=1e-3)
    assert torch.allclose(out.decode(ours.mean).sample, codec.decode(ours.mean), atol=1e-4)
