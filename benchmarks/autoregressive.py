"""An autoregressive rival for likelihoods: a small PixelCNN++ on 8-bit pictures.

    p(x) = Π_i p(x_i | x_1 … x_{i-1})     pixels row by row                                        (1)

Causal convolutions (van den Oord et al. 2016) keep each pixel from seeing itself and what follows; the
conditional is a mixture of logistics integrated over each of the 256 levels (Salimans et al. 2017, eq. 2), so (1)
is an exact probability and -log₂ p its length in bits. One channel.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

LEVELS = 256
MIXTURE = 8


class Causal(nn.Conv2d):
    """A convolution over the pixels above and to the left, and (``itself``) the pixel itself."""

    mask: Tensor

    def __init__(self, before: int, after: int, side: int, itself: bool):
        super().__init__(before, after, side, padding=side // 2)
        mask = torch.ones(side, side)
        mask[side // 2, side // 2 + itself :] = 0
        mask[side // 2 + 1 :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class PixelCNN(nn.Module):
    """Eq. 1. Pixel values enter as -1 … 1 with a plane that tells the border from black."""

    def __init__(self, width: int = 64, depth: int = 6):
        super().__init__()
        self.first = Causal(2, width, 7, itself=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ELU(), Causal(width, width // 2, 3, itself=True), nn.ELU(), nn.Conv2d(width // 2, width, 1)
            )
            for _ in range(depth)
        )
        self.last = nn.Sequential(
            nn.ELU(), nn.Conv2d(width, width, 1), nn.ELU(), nn.Conv2d(width, 3 * MIXTURE, 1)
        )

    def nats(self, pixels: UInt8[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
        """-log p(x) per picture, eq. 1."""
        return -self.conditionals(pixels).sum((1, 2))

    def conditionals(self, pixels: UInt8[Tensor, "b 1 h w"]) -> Float[Tensor, "b h w"]:
        """log p(x_i | x_1 … x_{i-1}) of every pixel."""
        x = pixels.to(self.first.weight.dtype) / (LEVELS - 1) * 2 - 1
        h = self.first(torch.cat([x, torch.ones_like(x)], dim=1))
        for block in self.blocks:
            h = h + block(h)
        logits, means, log_scales = self.last(h).chunk(3, dim=1)
        half = 1 / (LEVELS - 1)
        steep = torch.exp(-log_scales.clamp_min(-7.0))
        upper, lower = ((x + d - means) * steep for d in (half, -half))
        # The outermost levels take all that lies beyond them.
        upper = torch.where(pixels == LEVELS - 1, torch.inf, upper)
        lower = torch.where(pixels == 0, -torch.inf, lower)
        # σ(u) - σ(l) = σ(u) σ(-l) (1 - e^(l-u)), which keeps its digits in both tails.
        log_mass = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log1p(-torch.exp(lower - upper))
        return torch.logsumexp(logits.log_softmax(1) + log_mass, dim=1)


def train(
    pixels: UInt8[Tensor, "n 1 h w"], seconds: float, *, seed: int = 0, batch: int = 32, lr: float = 3e-3
) -> PixelCNN:
    """A model after so many seconds of the processor, by Adam with a rate that falls to zero; averaged weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PixelCNN()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    optimiser = torch.optim.Adam(model.parameters(), lr)
    started = time.process_time()
    while (spent := (time.process_time() - started) / seconds) < 1:
        chosen = torch.randint(len(pixels), (batch,), generator=generator)
        loss = model.nats(pixels[chosen]).mean() / pixels[0].numel()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.param_groups[0]["lr"] = lr * min(1.0, 50 * spent + 0.01) * (1 - spent)
        optimiser.step()
        average.update_parameters(model)
    trained: PixelCNN = average.module
    return trained.eval()
