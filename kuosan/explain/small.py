"""A law that fits on a line or a sheet of paper, and a network that learns the first in seconds."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training import ema
from kuosan.training.objective import Denoising
from kuosan.training.timing import LogNormalTiming, Timing

_WAVES = 3  # of time that the network is shown
_GAIN = 1.6  # of the weights, so that a SiLU's output is about as large as its input
_POOL, _BATCH = 2**15, 256
_RATE, _AVERAGE = 1e-2, 0.1  # learning rate; relative length of the average of the weights


def three_hills() -> MixtureDenoiser:
    """Three Gaussians on a line: one broad, one narrow, one between; variance near one."""
    means = torch.tensor([[-1.15], [0.05], [1.15]], dtype=torch.float64)
    spreads = torch.tensor([[0.22], [0.12], [0.3]], dtype=torch.float64)
    weights = torch.tensor([0.35, 0.2, 0.45], dtype=torch.float64)
    return MixtureDenoiser(GaussianProcess(Cosine()), means, spreads.square(), weights)


def two_arms(each: int = 18) -> MixtureDenoiser:
    """Small Gaussians strung along the two arms of a spiral."""
    part = torch.linspace(0.12, 1, each, dtype=torch.float64)
    angle = 1.35 * math.pi * part
    arm = 2.1 * part[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    spread = (0.1 + 0.08 * part)[:, None].repeat(2, 2)
    weights = part.sqrt().repeat(2)
    return MixtureDenoiser(GaussianProcess(Cosine()), torch.cat([arm, -arm]), spread.square(), weights)


def draw(law: MixtureDenoiser, seeds: Seeds) -> Tensor:
    """Clean data (b, d) of a mixture's law, float64."""
    edges = law.log_weights.exp().cumsum(0)
    k = torch.searchsorted(edges, seeds.fold("component").uniforms() * edges[-1])
    noise = seeds.fold("place").normal(torch.empty(len(seeds), *law.means.shape[1:], dtype=torch.float64))
    return law.means[k] + law.variances[k].sqrt() * noise


class Small(nn.Module):
    """Three hidden layers over a state and waves of its time; weights from a seed."""

    def __init__(self, dims: int, width: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        widths = [dims + 2 * _WAVES, width, width, width, dims]
        layers: list[nn.Module] = []
        for inside, outside in pairwise(widths):
            linear = nn.utils.skip_init(nn.Linear, inside, outside)
            nn.init.normal_(linear.weight, 0.0, _GAIN * inside**-0.5, generator=generator)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        angle = (label / 1000)[:, None] * (math.pi * torch.arange(1, _WAVES + 1).to(label) / 2)
        return self.layers(torch.cat([x, angle.sin(), angle.cos()], 1))


def train(law: MixtureDenoiser, seed: int, steps: int, width: int = 64) -> NetworkDenoiser:
    """A network that has seen nothing but draws of ``law``, after ``steps`` batches; weights averaged."""
    # Most of the density's shape is decided where noise and hills are of one width.
    pool = draw(law, Seeds.of(seed, _POOL).fold("data"))
    return fit(law.process, pool, seed, steps, width=width, timing=LogNormalTiming())


def fit(
    process: AdditiveProcess, data: Tensor, seed: int, steps: int, *, width: int, timing: Timing
) -> NetworkDenoiser:
    """A network that predicts v, after ``steps`` batches of ``data`` (n, d) in their order; weights averaged."""
    dims, gamma = data.shape[1], ema.gamma_of(_AVERAGE)
    model, average = (NetworkDenoiser(process, Small(dims, width, seed), "v") for _ in range(2))
    pool = data.float().split(_BATCH)
    objective, optimiser = Denoising(timing=timing), torch.optim.Adam(model.parameters())
    for step in range(1, steps + 1):
        progress = step / steps
        optimiser.param_groups[0]["lr"] = _RATE * min(1.0, 20 * progress) * (1 - progress) ** 0.5
        seeds = Seeds.of(seed, range(_BATCH * step, _BATCH * (step + 1)))
        loss = objective(model, pool[step % len(pool)], seeds.fold("loss")).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        ema.update(average, model, step, gamma)
    return average.requires_grad_(False).eval()
