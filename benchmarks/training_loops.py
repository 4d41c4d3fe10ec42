"""The loops that `benchmarks.training` times: each is an endless iterator that makes a step at each turn.

`example` is diffusers' ``examples/unconditional_image_generation/train_unconditional.py`` with its own defaults, as far
as a step goes: PNG files decoded, resized, flipped and normalised item by item in the loader, the noise that its
`DDPMScheduler` adds, squared error of ε, clipping, AdamW, a cosine rate with warm-up, `EMAModel`, zeroed gradients, and
the loss read at each step for the progress bar and the tracker. Accelerate's wrapper around model and optimiser is left
out, which is in its favour. `bare` is a loop over a network with nothing but the options that it is told.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from kuosan.networks import build_network
from kuosan.networks.transformer import Block
from kuosan.recipes.opening import prepare
from kuosan.recipes.schema import Recipe
from kuosan.training.speed import Way, arrange

LR, CLIP, BETAS, DECAY = 1e-4, 1.0, (0.95, 0.999), 1e-6


# -- networks -----------------------------------------------------------------------------------------------


def built(spec: dict[str, Any]) -> nn.Module:
    """Ours, with fresh weights."""
    size: dict[str, Any] = {"channels": 3, "sides": [32, 32], "conditions": {}, "dropout": 0.0}
    if spec["kind"] == "transformer":
        size["activation"] = "gelu"  # as runs choose
    return build_network({**size, **spec}, torch.Generator().manual_seed(0))


def theirs(width: int) -> nn.Module:
    """diffusers' U-Net in the shape of the example's (attention at the last level but one), made smaller."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(width, 2 * width, 2 * width, 2 * width),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=16,
    )


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# -- loops --------------------------------------------------------------------------------------------------


class Files(torch.utils.data.Dataset[Tensor]):
    """PNG files in memory, made ready one by one as the example's transforms do."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.files = []
        for picture in pictures:
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "png")
            self.files.append(file.getvalue())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        image = (
            Image.open(io.BytesIO(self.files[index]))
            .convert("RGB")
            .resize((32, 32), Image.Resampling.BILINEAR)
        )
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        return (x - 0.5) / 0.5


def example(pictures: np.ndarray, network: nn.Module, batch: int) -> Iterator[float]:
    """The loss of each step of diffusers' example."""
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    loader = torch.utils.data.DataLoader(Files(pictures), batch_size=batch, shuffle=True, drop_last=True)
    noises = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    average = EMAModel(
        network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4, model_cls=None
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, betas=BETAS, weight_decay=DECAY, eps=1e-8)
    rates = get_scheduler(
        "cosine", optimizer=optimizer, num_warmup_steps=500, num_training_steps=100 * len(loader)
    )
    network.train()
    while True:
        for clean in loader:
            noise = torch.randn(clean.shape, dtype=clean.dtype)
            times = torch.randint(0, 1000, (len(clean),)).long()
            noisy = noises.add_noise(clean, noise, times)
            out = network(noisy, times)
            loss = F.mse_loss(getattr(out, "sample", out).float(), noise.float())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
            average.step(network.parameters())
            yield loss.detach().item()


@dataclass(frozen=True)
class Options:
    """Of a bare loop; the defaults are none of them."""

    way: Way = Way()
    fused: bool = False
    foreach: bool = False
    bytes: bool = False
    wide_attention: bool = True

    def __str__(self) -> str:
        words = [str(self.way), "fused AdamW" * self.fused, "averages at once" * self.foreach]
        words += ["bytes decoded at once" * self.bytes, "attention in bfloat16" * (not self.wide_attention)]
        return ", ".join(filter(None, words))


BEST = {"fused": True, "foreach": True, "bytes": True}


def bare(pictures: np.ndarray, network: nn.Module, batch: int, options: Options) -> Iterator[float]:
    """The loss of each step of a loop that does nothing but this."""
    way, g = options.way, torch.Generator().manual_seed(0)
    arrange(network, way.layout)
    average = copy.deepcopy(network).requires_grad_(False)
    trained = list(network.parameters())
    optimizer = torch.optim.AdamW(trained, lr=LR, betas=BETAS, weight_decay=DECAY, fused=options.fused)
    loader = torch.utils.data.DataLoader(Files(pictures), batch_size=batch, shuffle=True, drop_last=True)
    stored, others = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), iter(loader)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alphas = (1 - betas).cumprod(0)
    if way.compile:
        network.compile()
    network.train()
    while True:
        if options.bytes:
            x = stored[torch.randint(len(stored), (batch,), generator=g)].float().div_(127.5).sub_(1)
        else:
            x = next(others, None)
            if x is None:
                others = iter(loader)
                x = next(others)
        noise, times = torch.randn(x.shape, generator=g), torch.randint(1000, (batch,), generator=g)
        a = alphas[times].float()[:, None, None, None]
        x_t = a.sqrt() * x + (1 - a).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16, enabled=way.precision == "bfloat16"), _attention(options):
            loss = F.mse_loss(network(x_t, times.float()).float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP, foreach=options.foreach)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            if options.foreach:
                torch._foreach_lerp_(list(average.parameters()), trained, 1e-3)
            else:
                for mine, other in zip(average.parameters(), trained, strict=True):
                    mine.lerp_(other, 1e-3)
        yield loss.item()


def _attention(options: Options) -> Any:
    """A context in which attention is in whatever autocast makes of it, where that is asked for."""
    if options.wide_attention:
        return nullcontext()
    return mock.patch.object(Block.forward, "__defaults__", (F.scaled_dot_product_attention,))


def kuosan(data: Path, folder: Path, leaves: dict[str, Any], batch: int, way: Way) -> Iterator[float]:
    """The loss of each step of a whole session of 2,000 steps: data, loss, averages, checks, both logs.
    Its first pictures fall before the first step, its next ones after the fortieth."""
    asked = {
        "budget": "2000steps",
        "training.batch": batch,
        "training.validations": 1,
        "network.dropout": 0.0,
        "training.save_seconds": 1e6,  # of the wall's clock: on a busy machine it would save at every other step
        **{f"training.{k}": v for k, v in vars(way).items()},
        **{f"network.{k}": v for k, v in leaves.items()},
    }
    session = prepare(data, out=folder, recipe=Recipe().updated(asked), asked=asked)
    for event in session.steps():
        yield event.loss
