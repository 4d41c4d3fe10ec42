"""Numbers of a set of motions, each a ratio of two sums over windows, so that long standing counts as what it is.

    foot skating    Σ w v / Σ w,   w = 2 - 2^(h/H) between 0 and 1,  H = 2.5 cm                              (1)

of the horizontal speed v of feet, in metres per second, where h is the foot's height above where it stands (Zhang et
al. 2018, section 6.2, as a mean speed): a foot that slides at 1 m/s on the floor scores 1, and one that swings above
2.5 cm does not count. Bodies of other sizes are measured as if they were of human size. Real feet score more than 0:
they roll, and they swing low.

    jerk            the mean size of the third derivative of all points' places, in m/s³                     (2)

0 for what moves steadily; noise from frame to frame makes it large, and motion that is too smooth small.

    joint limits    the share of joints, over all frames, that bend further than 99.8 % of the data's frames (3)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.motion.clips import Clips
from kuosan.evaluation.writing.statistics import Mask, RatioStatistic, Statistic, Value

HEIGHT = 0.025


def foot_skating(clips: Clips) -> tuple[Tensor, Tensor]:
    """The sums of equation (1)."""
    feet = clips.x[:, :, list(clips.feet)]
    speed = feet.diff(dim=1)[..., [0, 2]].norm(dim=-1) * clips.rate
    height = torch.maximum(clips.above[:, 1:], clips.above[:, :-1])
    weight = (2 - 2 ** (height / HEIGHT)).clamp(0, 1)
    return (weight * speed).sum((1, 2)), weight.sum((1, 2))


def jerk(clips: Clips) -> tuple[Tensor, Tensor]:
    """Sizes of (2), and how many."""
    third = clips.x.diff(n=3, dim=1).norm(dim=-1) * clips.rate**3
    return third.sum((1, 2)), torch.full((len(clips),), float(third[:1].numel()), dtype=torch.float64)


def limit_violations(clips: Clips) -> tuple[Tensor, Tensor]:
    """Joints that are outside, and all of them."""
    outside = clips.outside.double()
    return outside.sum((1, 2)), torch.full((len(clips),), float(outside[:1].numel()), dtype=torch.float64)


STATISTICS = (
    RatioStatistic("foot_skating", "lower", "metres per second", "of feet that stand", foot_skating),
    RatioStatistic("jerk", "lower", "metres per second³", "of all joints", jerk),
    RatioStatistic(
        "joint_limit_violations",
        "lower",
        "joints",
        "share beyond what 99.8 % of the data keep to",
        limit_violations,
    ),
)


def diversity(rows: Float[Tensor, "n d"]) -> Statistic:
    """The mean distance between two different motions of a set, of features that are numbered."""
    apart = torch.cdist(rows, rows)

    def prepare(items: Sequence[int]) -> Value:
        at = torch.tensor(list(items), dtype=torch.int64)

        def value(mask: Mask) -> float:
            kept = at[torch.from_numpy(mask)]
            if len(kept) < 2:
                raise ValueError("diversity: needs two motions")
            return float(apart[kept][:, kept].sum()) / (len(kept) * (len(kept) - 1))

        return value

    return Statistic("diversity", "higher", "kinematics", "mean distance between two motions", prepare)
