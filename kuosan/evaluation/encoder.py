"""A small convolutional encoder of the user's own items: a feature space, and a classifier.

Networks trained on photographs know little about digits, X-rays or sprites, and may not be at hand offline.
So this space is learned from the reference data in seconds (encoder_training.py), in one of two ways:

    with labels      a classifier of the pictures; its 64-d penultimate layer, before the ReLU, is the space
    without labels   two shifted, scaled and (of pictures) turned views of an item should be nearer to each other than
                     to views of other items (Chen et al. 2020, eq. 1); the views differ in geometry only, as
                     a space that is blind to noise or blur could not find them in samples

Rows are standardised by their mean and deviation on the training pictures. The quality of a space is not to
be taken on trust: `quality` holds its accuracy, or its retrieval of held-out pictures, with a count.
A network comes from its seed alone: initial weights, batches and views have generators of their own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import interpolate

from kuosan.errors import UserError
from kuosan.evaluation.features import FeatureSpace

WIDTHS = (16, 24, 48, 96)
DIMENSIONS = 64
# Of states of one, two, three sides: larger ones are averaged down to this first, which bounds the time of an item.
LARGEST_SIDE = {1: 512, 2: 48, 3: 16}
FEWEST_PLACES = 16  # of a state, 4×4 pixels
CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLS = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


def smaller(sides: Sequence[int], largest: int) -> tuple[int, ...]:
    """Sides in proportion of which none is longer, nor shorter than 4 unless it was; of three sides those of as large a
    cube, as a clip has more places than frames."""
    longest = max(sides) if len(sides) < 3 else math.prod(sides) ** (1 / 3)
    shrink = min(1.0, largest / longest)
    return tuple(max(min(side, 4), round(side * shrink)) for side in sides)


def _convolution(c_in: int, c_out: int, stride: tuple[int, ...]) -> nn.Sequential:
    s = len(stride)
    return nn.Sequential(
        CONVOLUTIONS[s](c_in, c_out, 3, stride, padding=1, bias=False), NORMS[s](c_out), nn.ReLU()
    )


class EncoderNetwork(nn.Module):
    """(n, c, *sides) → 64 features and `outputs` scores. Any channel count; `FEWEST_PLACES` or more."""

    def __init__(self, channels: int, size: Sequence[int], outputs: int) -> None:
        super().__init__()
        s = len(size)
        left = self.size = smaller(size, LARGEST_SIDE[s])
        layers: list[nn.Module] = [_convolution(channels, WIDTHS[0], (1,) * s)]
        cost, c_in = math.prod(left) * channels * WIDTHS[0] * 3**s, WIDTHS[0]
        for c_out in WIDTHS[1:]:
            stride = tuple(2 if side >= 4 else 1 for side in left)
            left = tuple(-(-side // by) for side, by in zip(left, stride, strict=True))
            layers += [_convolution(c_in, c_out, stride), _convolution(c_out, c_out, (1,) * s)]
            cost += math.prod(left) * c_out * 3**s * (c_in + c_out)
            c_in = c_out
        self.cost = cost  # multiply-adds of one item, forward
        self.convolutions = nn.Sequential(*layers)
        self.features = nn.Linear(2**s * c_in, DIMENSIONS)
        self.head = nn.Linear(DIMENSIONS, outputs)

    def embed(self, x: Float[Tensor, "n c *sides"]) -> Float[Tensor, "n 64"]:
        if tuple(x.shape[2:]) != self.size:
            x = interpolate(x, self.size, mode="area")
        # A 2 × 2 pool keeps what is above and what is below apart: a 6 is not a 9.
        return self.features(POOLS[len(self.size)](self.convolutions(x), 2).flatten(1))

    def forward(self, x: Float[Tensor, "n c *sides"]) -> Float[Tensor, "n outputs"]:
        return self.head(torch.relu(self.embed(x)))


def make_network(
    channels: int, size: Sequence[int], outputs: int, generator: torch.Generator
) -> EncoderNetwork:
    """A network with weights from `generator` (He et al. 2015, eq. 10); no other random state is touched."""
    with torch.device("meta"):
        network = EncoderNetwork(channels, size, outputs)
    network = network.to_empty(device="cpu")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0.0, math.sqrt(2 / fan_in), generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
                module.weight.fill_(1.0)
                module.bias.zero_()
                module.reset_running_stats()
    return network


@dataclass(frozen=True)
class Encoder(FeatureSpace):
    """A trained network as a feature space and, where it was trained with labels, as a classifier.

    `classes` are the labels in the order of the scores (empty without labels); `quality` measures the space.
    """

    network: EncoderNetwork
    shape: tuple[int, ...]
    classes: tuple[int, ...]
    mean: Float[Tensor, " d"]
    deviation: Float[Tensor, " d"]
    quality: Mapping[str, Any] = field(default_factory=dict)
    name: str = "encoder"

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "n c *sides"]) -> Float[Tensor, "n 64"]:
        return (self._rows(x, self.network.embed) - self.mean) / self.deviation

    @torch.no_grad()
    def logits(self, x: Float[Tensor, "n c *sides"]) -> Float[Tensor, "n k"]:
        """Class scores in the order of `classes`. Raises ValueError where the encoder knows no classes."""
        if not self.classes:
            raise ValueError("this encoder was trained without labels and has no class scores")
        return self._rows(x, self.network)

    def _rows(self, x: Tensor, part: Any) -> Tensor:
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"encoder: made for states of shape {self.shape}, got {tuple(x.shape[1:])}")
        device = self.network.head.weight.device
        return torch.cat([part(rows.to(device, torch.float32)).cpu() for rows in x.split(256)])

    def describe(self) -> dict[str, Any]:
        what = "penultimate layer of a classifier" if self.classes else "contrastive encoder, no labels"
        return {
            "name": self.name,
            "what": f"{what}, trained on the reference data",
            "dimensions": DIMENSIONS,
            "shape": list(self.shape),
            "classes": list(self.classes),
            "quality": dict(self.quality),
        }

    def save(self, folder: Path) -> None:
        """Writes encoder.safetensors and encoder.json into `folder`."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.network.state_dict().items()}
        tensors |= {"standard.mean": self.mean, "standard.deviation": self.deviation}
        save_file(tensors, folder / "encoder.safetensors")
        (folder / "encoder.json").write_text(json.dumps(self.describe(), indent=2) + "\n", encoding="utf-8")


def load_encoder(folder: Path) -> Encoder:
    """What `Encoder.save` wrote: the same rows for the same picture. Raises UserError on a broken folder."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        about = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "encoder.safetensors")
        c, *sides = about["shape"]
        with torch.device("meta"):
            network = EncoderNetwork(c, sides, len(tensors["head.bias"]))
        mean, deviation = tensors.pop("standard.mean"), tensors.pop("standard.deviation")
        network = network.to_empty(device="cpu")
        network.load_state_dict(tensors)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"No readable encoder in {folder} ({error}): delete and evaluate again.") from error
    network = network.eval().requires_grad_(False)
    return Encoder(network, (c, *sides), tuple(about["classes"]), mean, deviation, about["quality"])
