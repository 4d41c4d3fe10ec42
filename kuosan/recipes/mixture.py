"""A test of dropped modes with a known answer: 25 modes on a grid in the plane, shown as small pictures.

    (u, v) = (i, j) + 0.05 ε,   i, j ∈ {-2, …, 2},      x = u · across + v · down                         (1)

the two ramps of an 8×8 picture at right angles to each other, so that every kind of network meets a state that it is
made for, and a point is read back by two products. A sample is *on a mode* within four deviations of one; a mode is
*found* by a quarter of its fair share of samples, or more (the grid of Srivastava et al. 2017, section 4.1).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.recipes.samples import Samples
from kuosan.training.checkpoint import write_bytes

if TYPE_CHECKING:
    from kuosan.recipes.contest import Contest

SIDE, WIDTH, REACH, FAIR = 8, 0.05, 4.0, 0.25
ITEMS, LARGEST = 5000, 2.5  # points, and what a picture's range stands for


def ramps() -> Float[Tensor, "2 h w"]:
    """Across and down, each of length 1."""
    r = torch.linspace(-1, 1, SIDE, dtype=torch.float64)
    both = torch.stack([r[None].expand(SIDE, SIDE), r[:, None].expand(SIDE, SIDE)])
    return both / both.flatten(1).norm(dim=1)[:, None, None]


def modes() -> Float[Tensor, "25 2"]:
    """The grid."""
    line = torch.arange(-2.0, 3.0, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def points(n: int, seed: int = 0) -> Float[Tensor, "n 2"]:
    """Points of eq. 1."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(modes()), (n,), generator=generator)
    return modes()[which] + WIDTH * torch.randn(n, 2, generator=generator, dtype=torch.float64)


def pictures(at: Float[Tensor, "n 2"]) -> Float[Tensor, "n h w"]:
    """x of eq. 1."""
    return torch.einsum("nk,khw->nhw", at, ramps())


def read_back(x: Float[Tensor, "n h w"]) -> Float[Tensor, "n 2"]:
    """The points of pictures: undoes `pictures`."""
    return torch.einsum("nhw,khw->nk", x.double(), ramps())


def write_data(folder: Path) -> Path:
    """The pictures as an array in this folder."""
    import io

    buffer = io.BytesIO()
    np.save(buffer, pictures(points(ITEMS)).float().numpy())
    path = folder / "mixture.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getvalue())
    return path


def found_modes(at: Float[Tensor, "n 2"]) -> dict[str, Any]:
    """How many of the 25 modes are found, the share of samples on a mode, and the samples of each."""
    apart, which = torch.cdist(at.double(), modes()).min(1)
    on = apart <= REACH * WIDTH
    counts = torch.bincount(which[on], minlength=len(modes()))
    return {
        "modes": int((counts >= FAIR * len(at) / len(modes())).sum()), "on_mode": float(on.double().mean()),
        "counts": counts.tolist(), "n": len(at),
    }  # fmt: skip


def judge(contest: Contest, samples: Samples, folder: Path) -> dict[str, Any]:
    """The points of an arm's samples, and the modes among them."""
    raws = samples.modality.decode(samples.x)
    x = torch.stack([torch.from_numpy(raw.pixels.reshape(SIDE, SIDE)) for raw in raws])
    at = read_back(x)
    return {
        "metrics": {},
        **found_modes(at),
        "points": [[round(v, 4) for v in row] for row in at[:1000].tolist()],
    }
