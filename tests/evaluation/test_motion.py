"""Measures of motions: known answers, and real motions beside themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from kuosan.evaluation.found import Found
from kuosan.evaluation.motion import STATISTICS, Clips, clips_of, kinematics_of, measure_motions
from kuosan.evaluation.motion.statistics import diversity
from kuosan.modalities import MotionModality
from kuosan.modalities.motion_form import fitted
from kuosan.modalities.motion_project import Limits
from kuosan.modalities.motion_skeleton import Motion
from tests.modalities.motion import walk

NAMED = {statistic.name: statistic for statistic in STATISTICS}
RATE = 30.0


def points(x: np.ndarray, above: float = 0.0) -> Clips:
    """Windows of one point, which is a foot so far above where it stands."""
    where = torch.from_numpy(x)[:, :, None]
    height = torch.full((*where.shape[:2], 1), above, dtype=torch.float64)
    return Clips(where, where, RATE, height, (0,), torch.zeros(*where.shape[:2], 1, dtype=torch.bool))


def moving(speed: float, frames: int = 20) -> np.ndarray:
    x = np.zeros((1, frames, 3))
    x[0, :, 0] = speed * np.arange(frames) / RATE
    return x


def test_a_foot_that_slides_at_one_metre_per_second_scores_one() -> None:
    skating = NAMED["foot_skating"]
    assert skating(points(moving(1.0))) == pytest.approx(1.0)
    assert skating(points(moving(0.0))) == 0
    rising = moving(0.0)
    rising[0, :, 1] = np.arange(20)
    assert skating(points(rising)) == 0  # up is not along the floor
    with pytest.raises(ValueError, match="nothing"):
        skating(points(moving(1.0), above=0.03))  # in the air
    both = Clips.joined([points(moving(1.0)), points(moving(3.0), above=0.0125)])
    weight = 2 - 2**0.5
    assert skating(both) == pytest.approx((1 + 3 * weight) / (1 + weight))


def test_jerk_is_the_third_derivative() -> None:
    jerk = NAMED["jerk"]
    t = np.arange(20) / RATE
    assert jerk(points(moving(2.0))) == pytest.approx(0, abs=1e-6)
    thrown = np.stack([t, 5 * t - 4.9 * t**2, 0 * t], 1)[None]
    assert jerk(points(thrown)) == pytest.approx(0, abs=1e-6)
    cubic = np.stack([t**3, 0 * t, 0 * t], 1)[None]
    assert jerk(points(cubic)) == pytest.approx(6, rel=1e-6)


def test_violations_are_a_share_of_joints() -> None:
    clips = points(moving(0.0))
    outside = clips.outside.clone()
    outside[0, :5] = True
    assert NAMED["joint_limit_violations"](replace(clips, outside=outside)) == pytest.approx(0.25)


def test_diversity_is_the_mean_distance_of_two() -> None:
    rows = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    assert diversity(rows)(range(3)) == pytest.approx((1 + 3 + 2) / 3)
    assert diversity(torch.zeros(4, 2, dtype=torch.float64))(range(4)) == 0


WALKS = [walk(seed, 32) for seed in range(90)]
MODALITY = MotionModality(fitted(WALKS), 32, Limits.of(WALKS))


def measured(motions: list[Motion]) -> Found:
    found = Found(torch.Generator().manual_seed(0))
    parts = [clips_of(MODALITY, part) for part in (motions, WALKS[30:60], WALKS[60:])]
    measure_motions(found, parts[0], parts[1], parts[2], "made up")
    return found


def test_real_motions_measure_as_real_ones() -> None:
    found = measured(WALKS[:30])
    for name, m in found.metrics.items():
        assert m.floor is not None and m.stderr is not None and m.n == 30, name
        assert m.value == m.floor or (m.sigmas is not None and m.sigmas < 3.5), name


def test_noise_is_noticed() -> None:
    rng = np.random.default_rng(0)
    shaken = [replace(m, place=m.place + 0.03 * rng.normal(size=m.place.shape)) for m in WALKS[:30]]
    found = measured(shaken).metrics
    for name in ("jerk", "fd_kinematics", "kd_kinematics"):
        assert found[name].value > 1.5 * (found[name].floor or 0), name


def test_one_motion_again_and_again_is_noticed() -> None:
    found = measured([WALKS[0]] * 30).metrics
    assert found["diversity"].value < 1e-6 < (found["diversity"].floor or 0)
    assert found["coverage_kinematics"].value < 0.5 * (found["coverage_kinematics"].floor or 0)


def test_a_joint_bent_too_far_is_counted() -> None:
    knee = WALKS[0].skeleton.names.index("LeftLeg")
    bent = []
    for motion in WALKS[:30]:
        turns = motion.turns.copy()
        turns[:, knee] = turns[:, knee] @ np.diag([1.0, -1, -1])
        bent.append(replace(motion, turns=turns))
    value = measured(bent).metrics["joint_limit_violations"].value
    assert value == pytest.approx(1 / 13, abs=0.01)


def test_a_joint_at_its_limit_is_not_beyond_it_however_it_is_rounded() -> None:
    rng = np.random.default_rng(0)
    held = []
    for motion in WALKS[:30]:
        vectors = rng.normal(size=(*motion.turns.shape[:2], 3))
        turns = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(motion.turns.shape)
        held.append(MODALITY.limits.clamped(replace(motion, turns=turns)))
    assert measured(held).metrics["joint_limit_violations"].value == 0


def test_features_do_not_depend_on_where_a_motion_goes() -> None:
    clips = clips_of(MODALITY, WALKS[:8])
    space = kinematics_of(clips_of(MODALITY, WALKS[30:]))
    away = [replace(m, place=m.place + [5.0, 0, -3]) for m in WALKS[:8]]
    assert torch.allclose(space(clips), space(clips_of(MODALITY, away)), atol=1e-9)
    assert 0.9 < space.kept <= 1 and space(clips).shape == (8, space.directions.shape[1])


def test_a_body_without_feet_is_said() -> None:
    clips = replace(
        clips_of(MODALITY, WALKS[:30]), feet=(), above=torch.zeros(30, 32, 0, dtype=torch.float64)
    )
    found = Found(torch.Generator().manual_seed(0))
    measure_motions(found, clips, clips, clips)
    assert "foot" in found.left_out["foot_skating"] and "jerk" in found.metrics
