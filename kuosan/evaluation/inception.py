"""The Inception-v3 whose features define published FIDs (Heusel et al. 2017), from local weights.

Architecture: Szegedy et al. 2016, in the TensorFlow graph of 2015-12-05 whose weights circulate as
`pt_inception-2015-12-05-6726825d`. It differs from the Inception-v3 of today's libraries, and FIDs are not
comparable unless these quirks are kept:

    * average pools leave the padding out of the count (blocks 5b–5d, 6b–6e and 7b),
    * the last block, 7c, pools by maximum where 7b averages,
    * 1008 classes; batch-norm ε = 0.001,
    * inputs are in [−1, 1] and resized to 299 × 299 bilinearly, align_corners=False, *without* antialiasing
      (what the usual PyTorch port does; the state of antialiasing changes FIDs: Parmar et al. 2022).

Parameters bear the names of that file, so its tensors load as they are. Only safetensors are read: a .pth
file is a pickle, which may run anything when opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from kuosan.errors import UserError
from kuosan.evaluation.features import FeatureSpace

Pair = int | tuple[int, int]


class Conv(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: Pair, stride: int = 1, padding: Pair = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=0.001)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k i j"]:
        return torch.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _row(c_in: int, c_out: int) -> Conv:
    return Conv(c_in, c_out, (1, 7), padding=(0, 3))


def _column(c_in: int, c_out: int) -> Conv:
    return Conv(c_in, c_out, (7, 1), padding=(3, 0))


class BlockA(nn.Module):
    """35 × 35: 1×1, 5×5, double 3×3 and average pool (5b, 5c, 5d)."""

    def __init__(self, c_in: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(c_in, 64, 1)
        self.branch5x5_1 = Conv(c_in, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(c_in, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(c_in, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pooled = self.branch_pool(_average(x))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, pooled], 1)


class BlockB(nn.Module):
    """35 × 35 → 17 × 17 (6a)."""

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(c_in, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(c_in, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, max_pool2d(x, 3, stride=2)], 1)


class BlockC(nn.Module):
    """17 × 17: 7×7 factored into rows and columns, with k channels inside (6b–6e)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(768, 192, 1)
        self.branch7x7_1, self.branch7x7_2, self.branch7x7_3 = Conv(768, k, 1), _row(k, k), _column(k, 192)
        self.branch7x7dbl_1, self.branch7x7dbl_2 = Conv(768, k, 1), _column(k, k)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = _row(k, k), _column(k, k)
        self.branch7x7dbl_5 = _row(k, 192)
        self.branch_pool = Conv(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_average(x))], 1)


class BlockD(nn.Module):
    """17 × 17 → 8 × 8 (7a)."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(768, 192, 1), Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = Conv(768, 192, 1), _row(192, 192)
        self.branch7x7x3_3, self.branch7x7x3_4 = _column(192, 192), Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, max_pool2d(x, 3, stride=2)], 1)


class BlockE(nn.Module):
    """8 × 8: 3×3 fanned out into rows and columns; pools by average (7b) or by maximum (7c)."""

    def __init__(self, c_in: int, *, pool_by_maximum: bool) -> None:
        super().__init__()
        self.pool_by_maximum = pool_by_maximum
        self.branch1x1 = Conv(c_in, 320, 1)
        self.branch3x3_1 = Conv(c_in, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Conv(c_in, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Conv(c_in, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = max_pool2d(x, 3, stride=1, padding=1) if self.pool_by_maximum else _average(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled)]
        return torch.cat(parts, 1)


class InceptionV3(nn.Module):
    """(n, 3, ≥75, ≥75) in [−1, 1] → the 2048 features of the last pool. Make it on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = BlockA(192, 32), BlockA(256, 64), BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (BlockC(k) for k in (128, 160, 160, 192))
        self.Mixed_7a = BlockD()
        self.Mixed_7b = BlockE(1280, pool_by_maximum=False)
        self.Mixed_7c = BlockE(2048, pool_by_maximum=True)
        self.fc = nn.Linear(2048, 1008)  # only so that the file's tensors all have a place

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 2048"]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(x, 3, stride=2)))
        x = max_pool2d(x, 3, stride=2)
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))


class Inception(FeatureSpace):
    """FID features from a local .safetensors file; grey pictures are repeated to three channels."""

    name = "inception"

    def __init__(self, weights: Path | str, device: torch.device | str = "cpu") -> None:
        self.weights, self.device = Path(weights), torch.device(device)
        self.network = load_inception(self.weights).to(self.device)

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2048"]:
        if x.shape[1] not in (1, 3):
            raise UserError(
                f"Inception features need pictures with 1 or 3 channels, these have {x.shape[1]}: evaluate "
                "without `inception`."
            )
        rows = []
        for part in x.split(32):
            part = part.to(self.device, torch.float32).expand(-1, 3, -1, -1)
            large = interpolate(part, (299, 299), mode="bilinear", align_corners=False, antialias=False)
            rows.append(self.network(large).cpu())
        return torch.cat(rows)

    def describe(self) -> dict[str, Any]:
        what = "Inception-v3 of 2015-12-05, last pool; inputs bilinear at 299×299 without antialiasing"
        return {"name": self.name, "what": what, "dimensions": 2048, "weights": self.weights.name}


def load_inception(path: Path) -> InceptionV3:
    """The network with the weights of a .safetensors file. Raises UserError on any other file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise UserError(
            f"{path} is not a .safetensors file and is not opened, because a pickle may run code: convert "
            "it once where you trust it (PyTorch reads it with weights_only=True, "
            "safetensors.torch.save_file writes the same tensors) and give the new file."
        )
    if not path.is_file():
        raise UserError(f"No Inception weights at {path}: give the path of a local .safetensors file.")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is no readable safetensors ({error}): convert or copy it again.") from error
    with torch.device("meta"):
        network = InceptionV3()
    expected = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    wrong = [k for k, v in expected.items() if k not in tensors or tensors[k].shape != v.shape]
    if wrong:
        raise UserError(
            f"{path} does not hold the FID Inception weights: {len(wrong)} of {len(expected)} tensors are "
            f"missing or of another shape, first {wrong[0]}; use pt_inception-2015-12-05-6726825d, converted."
        )
    network = network.to_empty(device="cpu")
    network.load_state_dict({k: tensors[k].float() for k in expected}, strict=False)
    return network.eval().requires_grad_(False)
