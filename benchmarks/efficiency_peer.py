"""Time to the same distance: a default run against the recipe of diffusers' unconditional example.

The example's loop, line by line, with its defaults (`examples/unconditional_image_generation/train_unconditional.py`):
`UNet2DModel`, DDPM with 1000 steps of linear β, ε, AdamW at 1e-4 with β = (0.95, 0.999) and decay 1e-6, batches of 16,
500 steps of warm-up and a cosine to zero, gradients clipped at 1, `EMAModel` with warm-up. Its network of 113 million
parameters is cut to three levels of 32, 64 and 64 channels, or a processor would not make a step a second.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.efficiency import Clock, begin, judge
from kuosan.core.schedules import Tabulated
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.modalities import Dataset
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import Recipe
from kuosan.training.data import batch_index

WIDTHS, BATCH, TIMES, SAMPLES = (32, 64, 64), 16, 3, 300


class Plain(nn.Module):
    """A `UNet2DModel` under our calling convention; it hears of no class."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, label: Tensor, **cond: Tensor) -> Tensor:
        return self.unet(x, label).sample


class Example:
    """The example's training, a step at a time, for as long as the clock says."""

    def __init__(self, data: Dataset, seed: int, clock: Clock):
        from diffusers import DDPMScheduler, UNet2DModel
        from diffusers.training_utils import EMAModel

        self.data, self.seed, self.clock, self.step = data, seed, clock, 0
        channels, *size = data.train.x.shape[1:]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.unet: Any = UNet2DModel(
                sample_size=size, in_channels=channels, out_channels=channels, layers_per_block=2,
                block_out_channels=WIDTHS, norm_num_groups=32,
                down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            )  # fmt: skip
        self.scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
        self.ema = EMAModel(
            self.unet.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4
        )
        self.optimizer = torch.optim.AdamW(
            self.unet.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6
        )
        self.generator = torch.Generator().manual_seed(seed)

    def run(self) -> Iterator[int]:
        while (progress := self.clock.now() / self.clock.limit) < 1:
            x, _ = self.data.train.batch(batch_index(self.seed, self.step, BATCH, len(self.data.train)))
            eps = torch.randn(x.shape, generator=self.generator)
            t = torch.randint(0, 1000, (len(x),), generator=self.generator)
            loss = (self.unet(self.scheduler.add_noise(x, eps, t), t).sample - eps).square().mean()
            loss.backward()
            nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
            rate = 1e-4 * min(1.0, (self.step + 1) / 500) * 0.5 * (1 + math.cos(math.pi * progress))
            self.optimizer.param_groups[0]["lr"] = rate
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.ema.step(self.unet.parameters())
            self.step += 1
            yield self.step

    def model(self) -> NetworkDenoiser:
        """The averaged network as a denoiser."""
        self.ema.copy_to(self.unet.parameters())
        schedule = Tabulated(tuple(self.scheduler.alphas_cumprod.tolist()))
        return NetworkDenoiser(GaussianProcess(schedule), Plain(self.unet), "eps")


def compete(source: Path, seeds: range, seconds: float) -> Iterator[dict[str, Any]]:
    """For each seed a default run of so many processor seconds, and the example with `TIMES` as many."""
    asked: dict[str, Any] = {"budget": f"{seconds:g}s", "data.max_side": 64}
    plan = settle(source, None, Recipe().updated(asked), asked)
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = Clock(seconds), Clock(TIMES * seconds)
            run = begin(plan.facts, plan.data, {}, seed, ours, Path(folder))
            example = Example(plan.data, seed, theirs)
            events: dict[str, tuple[Clock, Iterator[Any]]] = {
                "kuosan": (ours, run.run()), "diffusers' example": (theirs, example.run())
            }  # fmt: skip
            while events:
                name = min(events, key=lambda k: events[k][0].used / events[k][0].limit)
                clock, steps = events[name]
                with clock.running():
                    over = next(steps, None) is None
                if over:
                    del events[name]
            for name, model, clock, step, batch in (
                ("kuosan", run.average, ours, run.count.step, run.settings.batch),
                ("diffusers' example", example.model(), theirs, example.step, BATCH),
            ):
                row = {"section": "peer", "arm": name, "seed": seed, "seconds": clock.used, "steps": step}
                row |= {
                    "batch": batch,
                    "n": SAMPLES,
                    "held_out": len(plan.data.val),
                    "items": len(plan.data.train),
                }
                row |= {"parameters": sum(p.numel() for p in model.parameters())}
                row |= {
                    "network": {
                        k: plan.facts.network[k] for k in ("patch", "dim", "depth") if k in plan.facts.network
                    }
                }
                yield row | judge(model, plan.facts, plan.data, SAMPLES)
