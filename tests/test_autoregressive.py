"""The autoregressive rival of the likelihood table is an exact probability."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.autoregressive import LEVELS, PixelCNN

pytestmark = pytest.mark.foreign_rng("PyTorch's layers draw their first weights from it")


def model() -> PixelCNN:
    """With no weight left small."""
    made, generator = PixelCNN(width=16, depth=2), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(0, 0.3, generator=generator)
    return made.double().eval()


def picture(seed: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, LEVELS, (1, 1, height, width), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def test_a_pixel_sees_what_came_before_and_nothing_else() -> None:
    rival, x = model(), picture(1, 5, 6)
    before = rival.conditionals(x).flatten()
    for i in (0, 8, 29):
        changed = x.clone()
        changed.view(-1)[i] = 255 - changed.view(-1)[i]
        after = rival.conditionals(changed).flatten()
        assert torch.equal(after[:i], before[:i])
        assert after[i] != before[i]
        if i < 29:
            assert after[i + 1] != before[i + 1]


@torch.no_grad()
def test_all_pictures_together_have_probability_one() -> None:
    """Of two pixels, where a second one's 256 sums are weighted by the first's 256 probabilities."""
    rival = model()
    pairs = torch.cartesian_prod(*[torch.arange(LEVELS, dtype=torch.uint8)] * 2).view(-1, 1, 1, 2)
    p = torch.cat([(-rival.nats(part)).exp() for part in pairs.split(4096)])
    assert abs(float(p.sum()) - 1) < 1e-6
