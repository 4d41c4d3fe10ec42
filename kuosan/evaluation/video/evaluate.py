"""What is measured of clips beside what holds for every dense state:

fd_movement           Fréchet distance of how they move (`Movement`)
shuffled_movement     control: the same of real clips with shuffled frames; so many times the floor is what the
shuffled_encoder      space sees of time (and the same for fd_encoder, in the encoder's space, where there is one)
fd_frames             Fréchet distance of single frames, one of each clip: how they look
motion_distance, flicker_distance, spectrum_distance       how far their numbers are from those of real clips
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.base import subsets
from kuosan.evaluation.features import FeatureSpace, pixels
from kuosan.evaluation.found import Found, Sides
from kuosan.evaluation.frechet import FrechetDistance
from kuosan.evaluation.video.movement import STATISTICS, Movement, WassersteinDistance, shuffled_frames

CONTROL = "shuffled"
MOST_PIXELS = 256  # of a frame, averaged over areas


def evaluate_clips(
    found: Found,
    samples: Float[Tensor, "n c t h w"],
    reference: Float[Tensor, "m c t h w"],
    floor: Float[Tensor, "r c t h w"],
    note: str,
    encoder: FeatureSpace | None = None,
) -> None:
    """Adds every measurement that these clips in [-1, 1] allow; `floor` are real ones that are not in the reference,
    and `encoder` is a space that the control is wanted for too."""
    movement, frechet, generator = Movement(), FrechetDistance(), found.generator
    found.spaces[movement.name] = movement.describe()
    rows = Sides(movement(samples), movement(reference), movement(floor), note)
    found.compare(f"fd_{movement.name}", frechet, rows, movement.name)
    shuffled = shuffled_frames(
        floor[subsets(len(floor), min(len(floor), len(samples)), generator, 1)[0]], generator
    )
    for space in (movement, encoder):
        if space is not None:
            control = Sides(
                space(shuffled), space(reference), space(floor), f"real clips with shuffled frames; {note}"
            )
            found.compare(f"{CONTROL}_{space.name}", frechet, control, space.name)

    def frames(x: Tensor) -> Tensor:
        place = torch.randint(x.shape[2], (len(x),), generator=generator)
        return pixels((x.shape[1], *x.shape[3:]), MOST_PIXELS)(x[torch.arange(len(x)), :, place])

    found.compare(
        "fd_frames", frechet, Sides(frames(samples), frames(reference), frames(floor), note), "frames"
    )
    for name, statistic in STATISTICS.items():
        drawn, real, other = (statistic(x)[:, None] for x in (samples, reference, floor))
        values = Sides(drawn, real, other, note)
        found.compare(f"{name}_distance", WassersteinDistance(), values, name)
