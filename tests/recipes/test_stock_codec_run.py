"""Runs of latents of an autoencoder of diffusers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import load as load_data
from kuosan.recipes.export import export
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import Recipe
from tests.recipes.latents import pictures, trained


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("data") / "discs")


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Saves a small autoencoder of so many channels."""

    def save(channels: int) -> Path:
        from tests.laws.test_stock_codecs import KL
        from tests.laws.test_stock_codecs import stock as model

        folder = tmp_path_factory.mktemp("vae")
        model("AutoencoderKL", KL | {"in_channels": channels, "out_channels": channels}).save_pretrained(
            folder
        )
        return folder

    return save


@pytest.mark.foreign_rng("diffusers draws from the global generator as it builds a network")
def test_a_stock_run_is_trained_and_exported_whole(stock: Callable[[int], Path], tmp_path: Path) -> None:
    from diffusers import DDIMScheduler, DiffusionPipeline

    data = pictures(tmp_path / "data", 24, 16, 16)
    leaves = {
        "codec": "stock",
        "codec__path": str(stock(3)),
        "codec__factor": "auto",
        "codec__latent": "auto",
    }
    run = trained(data, tmp_path / "run", network__patch=1, **leaves)
    assert run.latent_shape == (3, 4, 4)
    x, _ = load_data(data, like=run.modality).train.batch(torch.arange(20))
    assert run.codec is not None
    assert 0.8 < float(run.codec.encode(x, Seeds.of(0, 20)).var()) < 1.2  # measured on these data
    export(run, "diffusers", tmp_path / "out")
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "out", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    images = pipe(
        class_labels=[1] * 2, guidance_scale=1.0, num_inference_steps=4, output_type="np",
        generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    assert images.shape == (2, 16, 16, 3)
    # The same noise through our own sampler: DDIM's trailing times are even ones.
    from kuosan.solvers import sample, solver

    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0], dtype=torch.float64)
    z = sample(run.denoiser, solver("ddim"), times, x, Seeds.of(0, 2), **{"class": torch.tensor([1, 1])})
    ours = (run.decoded(z) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert np.abs(images - ours).max() < 0.02


def test_an_autoencoder_of_other_channels_is_refused(stock: Callable[[int], Path], discs: Path) -> None:
    leaves = {"codec": "stock", "codec.path": str(stock(1))}
    with pytest.raises(UserError, match="1 channels.*these have 3"):
        settle(discs, None, Recipe().updated(leaves), {})
