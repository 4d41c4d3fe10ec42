"""Motions as measuring needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kuosan.modalities.motion import MotionModality
from kuosan.modalities.motion_form import HUMAN_REACH, about_vertical, headings
from kuosan.modalities.motion_project import ROUNDING
from kuosan.modalities.motion_skeleton import Motion, globals_of


@dataclass(frozen=True, eq=False)
class Clips:
    """n windows of T frames of P points, the second axis up.

    Args:
        x: where points are, in metres.
        local: the same from the root's place in the plane, seen along its heading.
        rate: frames per second.
        above: how high each foot is above where it is when it stands, in metres of a body of human size.
        feet: which points are feet.
        outside: which joints are bent further than the data's limits.
    """

    x: Float[Tensor, "n t p 3"]
    local: Float[Tensor, "n t p 3"]
    rate: float
    above: Float[Tensor, "n t k"]
    feet: tuple[int, ...]
    outside: Bool[Tensor, "n t j"]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor) -> Clips:
        return replace(
            self,
            x=self.x[index],
            local=self.local[index],
            above=self.above[index],
            outside=self.outside[index],
        )

    @classmethod
    def joined(cls, parts: Sequence[Clips]) -> Clips:
        """Several sets as one; all else is the first's."""
        return replace(
            parts[0],
            x=torch.cat([p.x for p in parts]),
            local=torch.cat([p.local for p in parts]),
            above=torch.cat([p.above for p in parts]),
            outside=torch.cat([p.outside for p in parts]),
        )


def clips_of(modality: MotionModality, motions: Sequence[Motion]) -> Clips:
    """Motions of one length, of the modality's skeleton and at its rate, as what is measured."""
    form = modality.form
    floors = np.array(form.floors)
    human = HUMAN_REACH / max(form.skeleton.reach * form.metre, 1e-9)
    x, local, above, outside = [], [], [], []
    for motion in motions:
        rotation, points = globals_of(motion.skeleton, motion.place, motion.turns)
        back = about_vertical(-headings(rotation[:, 0], form.axis))
        near = points - points[:, :1] * [1, 0, 1]
        x.append(points * form.metre)
        local.append(np.einsum("fij,fpj->fpi", back, near) * form.metre)
        above.append((points[:, list(form.feet), 1] - floors) * form.metre * human)
        outside.append(modality.limits.excess(motion.turns) > ROUNDING)
    stacked = [torch.from_numpy(np.stack(rows)) for rows in (x, local, above, outside)]
    return Clips(stacked[0], stacked[1], form.rate, stacked[2], form.feet, stacked[3])
