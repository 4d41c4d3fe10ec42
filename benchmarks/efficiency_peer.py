"""Time to the same distance: a default run against the recipe of diffusers' unconditional example.

The example's loop, line by line, with its defaults (`examples/unconditional_image_generation/train_unconditional.py`):
`UNet2DModel`, DDPM with 1000 steps of linear β, ε, AdamW at 1e-4 with β = (0.95, 0.999) and decay 1e-6, batches of 16,
500 steps of warm-up and a cosine to zero, gradients clipped at 1, `EMAModel` with warm-up. Its network of 113 million
parameters is cut to three levels of 32, 64 and 64 channels, or a processor would not make a step a second. A second arm
has a rate and a warm-up that suit so short a training (`TUNED`, the best of those that ``--tune`` tries).
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.efficiency import Clock, begin, judge, real_of
from kuosan.core.schedules import Tabulated
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.evaluation.features import pixels
from kuosan.evaluation.frechet import frechet_distance
from kuosan.modalities import Dataset
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import Recipe
from kuosan.training.data import batch_index

WIDTHS, BATCH, SAMPLES = (32, 64, 64), 16, 500
TIMES = 5  # what the example has of our time
MARKS = (3, 5)  # in our time, when the example is judged
TUNED = (1e-3, 50)


class Plain(nn.Module):
    """A `UNet2DModel` under our calling convention; it hears of no class."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, label: Tensor, **cond: Tensor) -> Tensor:
        return self.unet(x, label).sample


class Example:
    """The example's training, a step at a time, for as long as the clock says."""

    def __init__(self, data: Dataset, seed: int, clock: Clock, rate: float = 1e-4, warm_up: int = 500):
        from diffusers import DDPMScheduler, UNet2DModel
        from diffusers.training_utils import EMAModel

        self.data, self.seed, self.clock, self.step = data, seed, clock, 0
        self.rate, self.warm_up = rate, warm_up
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
            self.unet.parameters(), lr=rate, betas=(0.95, 0.999), weight_decay=1e-6
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
            warm = min(1.0, (self.step + 1) / self.warm_up)
            self.optimizer.param_groups[0]["lr"] = self.rate * warm * 0.5 * (1 + math.cos(math.pi * progress))
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.ema.step(self.unet.parameters())
            self.step += 1
            yield self.step

    def model(self) -> NetworkDenoiser:
        """The averaged network as a denoiser, a copy of its own."""
        unet = copy.deepcopy(self.unet)
        self.ema.copy_to(unet.parameters())
        schedule = Tabulated(tuple(self.scheduler.alphas_cumprod.tolist()))
        return NetworkDenoiser(GaussianProcess(schedule), Plain(unet), "eps")


def compete(
    source: Path, seeds: range, seconds: float, rates: Sequence[float] = ()
) -> Iterator[dict[str, Any]]:
    """For each seed a default run of so many processor seconds, and both examples with `TIMES` as many.

    Args:
        rates: these instead, each in an example of as long as ours, to tell which is best.
    """
    asked: dict[str, Any] = {"budget": f"{seconds:g}s", "data.max_side": 64}
    plan = settle(source, None, Recipe().updated(asked), asked)
    facts = {"section": "peer", "data": source.name, "n": SAMPLES, "held_out": len(plan.data.val)}
    real = real_of(plan.data)
    some = batch_index(1, 0, min(SAMPLES, len(plan.data.train)), len(plan.data.train))
    facts |= {"items": len(plan.data.train), "floor": distance(plan.data.train.batch(some)[0], real)}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            races = []
            if not rates:
                clock = Clock(seconds)
                run = begin(plan.facts, plan.data, {}, seed, clock, Path(folder))
                races.append(
                    Race("kuosan", clock, run.run(), partial(getattr, run, "average"), run.settings.batch)
                )
            settings = {f"example at {rate:g}": (rate, TUNED[1]) for rate in rates} or {
                "diffusers' example": (1e-4, 500),
                f"diffusers' example at {TUNED[0]:g}, warm-up {TUNED[1]}": TUNED,
            }
            for name, (rate, warm_up) in settings.items():
                clock = Clock(seconds if rates else TIMES * seconds)
                example = Example(plan.data, seed, clock, rate, warm_up)
                races.append(Race(name, clock, example.run(), example.model, BATCH))
            while races:
                race = min(races, key=lambda race: race.clock.used / race.clock.limit)
                with race.clock.running():
                    over = next(race.steps, None) is None
                race.count += not over
                if over or race.due(seconds):
                    model = race.model()
                    row = {"arm": race.name, "seed": seed, "seconds": race.clock.used, "steps": race.count}
                    row |= {"batch": race.batch, "parameters": sum(p.numel() for p in model.parameters())}
                    row |= judge(model, plan.facts, plan.data, SAMPLES)
                    if isinstance(model.network, Plain):
                        row["clipped"] = distance(clipped(model.network.unet, real.shape[1:], SAMPLES), real)
                    yield facts | row
                if over:
                    races.remove(race)


@dataclass
class Race:
    """A training that takes part: steps to make, and the model that they have come to."""

    name: str
    clock: Clock
    steps: Iterator[Any]
    model: Callable[[], NetworkDenoiser]
    batch: int
    count: int = 0
    judged: int = 0

    def due(self, seconds: float) -> bool:
        """Whether another mark has been passed, before the end."""
        marks = [mark * seconds for mark in MARKS if mark * seconds < self.clock.limit]
        if self.judged < len(marks) and self.clock.used >= marks[self.judged]:
            self.judged += 1
            return True
        return False


@torch.inference_mode()
def clipped(unet: nn.Module, shape: Sequence[int], n: int) -> Tensor:
    """Samples as the example shows them, every estimate of the data clipped to its range, in 25 steps of DDIM."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=True)
    scheduler.set_timesteps(25)
    x = torch.randn((n, *shape), generator=torch.Generator().manual_seed(7))
    out = []
    for part in x.split(100):
        for t in scheduler.timesteps:
            part = scheduler.step(unet(part, t).sample, t, part).prev_sample
        out.append(part)
    return torch.cat(out)


def distance(x: Tensor, real: Tensor) -> float:
    """The Fréchet distance in pixels."""
    space = pixels(tuple(real.shape[1:]))
    return frechet_distance(space(x).double(), space(real).double())
