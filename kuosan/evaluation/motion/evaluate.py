"""Measures a set of motions against real ones.

foot_skating, jerk, joint_limit_violations      beside real motions (statistics.py)
diversity                                       how far apart motions are from one another
fd_kinematics, kd_kinematics, kd_rbf_kinematics, coverage_kinematics      in the space of kinematics.py
"""

from __future__ import annotations

from functools import partial

from kuosan.evaluation.found import Found, Sides, distances
from kuosan.evaluation.motion.clips import Clips
from kuosan.evaluation.motion.kinematics import kinematics_of
from kuosan.evaluation.motion.statistics import STATISTICS, diversity
from kuosan.evaluation.neighbours import Coverage
from kuosan.evaluation.writing.statistics import Statistic, measure_texts


def measure_motions(found: Found, samples: Clips, reference: Clips, others: Clips, note: str = "") -> None:
    """Adds every measurement that these windows allow: samples beside a reference of real ones, and other real ones for
    the floor."""
    enough = len(reference) >= len(samples)
    real = reference if enough else Clips.joined([reference, others])
    both = Clips.joined([samples, real])
    space = kinematics_of(Clips.joined([reference, others]))
    statistics: list[Statistic] = [s.of(both) for s in STATISTICS] + [diversity(space(both))]
    for statistic in statistics:
        if statistic.name == "foot_skating" and not samples.feet:
            found.left_out[statistic.name] = "no joint of this skeleton is known to be a foot"
            continue
        call = partial(
            measure_texts, statistic, range(len(samples)), range(len(samples), len(both)),
            generator=found.generator, note=note, noun="windows",
        )  # fmt: skip
        found.attempt(statistic.name, call)
    found.spaces[space.name] = space.describe()
    sides = Sides(space(samples), space(reference), space(others), note)
    distances(found, space.name, sides)
    found.compare(f"{Coverage.name}_{space.name}", Coverage(), sides, space.name)
