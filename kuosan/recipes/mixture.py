"""A test of dropped modes with a known answer: 25 small pictures, each with noise of its own.

    x = m_k + 0.05 ε,      m_k = exp(-‖place - c_k‖²/2s²),   c_k on a grid of 5 × 5                            (1)

a spot at one of 25 places of an 8×8 picture: as many modes as the grid of Gaussians that GANs are tried on has
(Srivastava et al. 2017, section 4.1), but of the kind that networks of pictures are made for; in the plane itself they
would be tried on a staircase. Two modes are 1.36 apart or more, a draw of (1) is 0.40 from its own. A sample is *on a
mode* nearer than half way to the next, so that a mean of two is on none; a mode is *found* by a quarter of its fair
share of samples, or more.
"""

from __future__ import annotations

import io
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

SIDE, GRID, SPREAD, WIDTH, FAIR = 8, 5, 0.8, 0.05, 0.25
ITEMS = 5000


def modes() -> Float[Tensor, "25 h w"]:
    """m of eq. 1, row by row of the grid."""
    place = torch.arange(SIDE, dtype=torch.float64)
    line = torch.linspace(1, SIDE - 2, GRID, dtype=torch.float64)
    along = (-((place - line[:, None]) ** 2) / (2 * SPREAD**2)).exp()
    return torch.einsum("ih,jw->ijhw", along, along).flatten(0, 1)


def pictures(n: int, seed: int = 0) -> Float[Tensor, "n h w"]:
    """Draws of eq. 1."""
    generator, m = torch.Generator().manual_seed(seed), modes()
    which = torch.randint(len(m), (n,), generator=generator)
    return m[which] + WIDTH * torch.randn(n, SIDE, SIDE, generator=generator, dtype=torch.float64)


def write_data(folder: Path) -> Path:
    """The pictures as an array in this folder."""
    buffer = io.BytesIO()
    np.save(buffer, pictures(ITEMS).float().numpy())
    path = folder / "mixture.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getvalue())
    return path


def found_modes(x: Float[Tensor, "n h w"]) -> dict[str, Any]:
    """How many of the 25 modes are found, the share of samples on a mode, and the samples of each."""
    m = modes().flatten(1)
    between = torch.cdist(m, m).fill_diagonal_(torch.inf)
    apart, which = torch.cdist(x.double().flatten(1), m).min(1)
    on = apart < between.min() / 2
    counts = torch.bincount(which[on], minlength=len(m))
    return {
        "modes": int((counts >= FAIR * len(x) / len(m)).sum()), "on_mode": float(on.double().mean()),
        "counts": counts.tolist(), "n": len(x),
    }  # fmt: skip


def judge(contest: Contest, samples: Samples, folder: Path) -> dict[str, Any]:
    """The modes among an arm's samples."""
    raws = samples.modality.decode(samples.x)
    x = torch.stack([torch.from_numpy(raw.pixels.reshape(SIDE, SIDE)) for raw in raws])
    return {"metrics": {}, **found_modes(x)}
