"""Where and how fast a body's parts are, as a row of numbers: the space in which motions are compared.

Of every point the mean and the standard deviation over a window of its place, seen from the root along its heading,
and of its speed in the world; of these 7 numbers a point, the `MOST` directions in which training motions differ most
(principal components). It needs no training of a network, and says nothing about the order of poses beyond speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.features import Space
from kuosan.evaluation.motion.clips import Clips

MOST = 32


@dataclass(frozen=True, eq=False)
class Kinematics(Space):
    """Rows of a set of motions, centred, along principal directions."""

    mean: Float[Tensor, " f"]
    directions: Float[Tensor, "f d"]
    kept: float
    name: str = "kinematics"

    def __call__(self, clips: Clips) -> Float[Tensor, "n d"]:
        return (plain(clips) - self.mean) @ self.directions

    def describe(self) -> dict[str, Any]:
        what = (
            "means and standard deviations of joints' places and speeds; principal components of training motions that "
            f"hold {self.kept:.0%} of their variance"
        )
        return {"name": self.name, "what": what, "dimensions": self.directions.shape[1]}


def plain(clips: Clips) -> Float[Tensor, "n f"]:
    """The numbers of every window, in metres and metres per second."""
    speed = clips.x.diff(dim=1).norm(dim=-1) * clips.rate
    speed = (
        torch.cat([speed.mean(1), speed.std(1, correction=0)], 1)
        if speed.shape[1]
        else clips.x.new_zeros(len(clips), 0)
    )
    place = torch.cat([clips.local.mean(1), clips.local.std(1, correction=0)], -1)
    return torch.cat([place.flatten(1), speed], 1)


def kinematics_of(training: Clips, most: int = MOST) -> Kinematics:
    """The space of a set of training motions."""
    rows = plain(training)
    mean = rows.mean(0)
    _, spread, directions = torch.linalg.svd(rows - mean, full_matrices=False)
    power = spread**2
    kept = int(min(most, max(1, (power > 1e-12 * power.sum()).sum())))
    share = float(power[:kept].sum() / power.sum().clamp_min(1e-30))
    return Kinematics(mean, directions[:kept].T.contiguous(), share)
