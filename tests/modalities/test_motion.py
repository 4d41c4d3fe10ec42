"""The form of motions, what is done to them, and folders of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import MotionModality, load
from kuosan.modalities.motion_bvh import write_bvh
from kuosan.modalities.motion_feet import Feet
from kuosan.modalities.motion_form import (
    HUMAN_REACH,
    Form,
    about_vertical,
    fitted,
    headings,
    orthonormal,
    unit_of,
)
from kuosan.modalities.motion_json import BODIES
from kuosan.modalities.motion_labels import labels_of
from kuosan.modalities.motion_names import part_of
from kuosan.modalities.motion_project import ROUNDING, Limits, correction, foot_locked
from kuosan.modalities.motion_retarget import matched, retargeted
from kuosan.modalities.motion_skeleton import Z_UP, Motion, Skeleton, globals_of, least_rotation
from tests.modalities.motion import body, walk

WALKS = [walk(seed) for seed in range(6)]


def canonical(motion: Motion, form: Form) -> np.ndarray:
    """Points as they are seen from where the motion begins, along its first heading."""
    rotation, x = globals_of(motion.skeleton, motion.place, motion.turns)
    first = headings(rotation[:1, 0], form.axis)
    return (x - x[0, 0] * [1, 0, 1]) @ about_vertical(-first)[0].T


def test_motions_come_back_up_to_where_they_begin_and_head() -> None:
    """Far below the stated bound of 1e-4 of the height."""
    form = fitted(WALKS)
    for motion in WALKS:
        back = form.motion(form.rows(motion))
        assert np.abs(canonical(motion, form) - canonical(back, form)).max() < 1e-5 * form.skeleton.reach
        assert np.array_equal(back.contacts, form.standing(motion.points()))


def test_numbers_do_not_depend_on_where_a_motion_begins_and_heads() -> None:
    form = fitted(WALKS)
    turn = about_vertical(np.array([1.234]))[0]
    turns = WALKS[0].turns.copy()
    turns[:, 0] = turn @ turns[:, 0]
    moved = replace(WALKS[0], place=WALKS[0].place @ turn.T + [3, 0, -5], turns=turns)
    np.testing.assert_allclose(form.plain(moved), form.plain(WALKS[0]), atol=1e-9)


@pytest.mark.parametrize("up", [1, 2])
def test_velocities_of_feet_are_those_of_the_points(up: int) -> None:
    """Seen along the heading, in metres of a body of human size; of joints and of tips, whichever axis is up."""
    motions = [walk(seed) for seed in range(3)]
    if up == 2:
        motions = [
            replace(m, place=m.place @ Z_UP, turns=np.concatenate([Z_UP.T @ m.turns[:, :1], m.turns[:, 1:]], 1),
                    skeleton=replace(m.skeleton, up=2)) for m in motions
        ]  # fmt: skip
    form = fitted(motions)
    x = torch.from_numpy(np.stack([form.rows(m) for m in motions]))
    form = replace(form, feet=(*form.feet, len(form.skeleton) + 3, 0))  # a toe, and the root
    found = Feet(form)(x.transpose(1, 2)).numpy()
    for own, motion in zip(found, motions, strict=True):
        rotation, points = globals_of(motion.skeleton, motion.place, motion.turns)
        moved = np.diff(points[:, list(form.feet)], axis=0) * form.rate * HUMAN_REACH / form.skeleton.reach
        back = about_vertical(-headings(rotation[:-1, 0], form.axis))
        np.testing.assert_allclose(own, np.einsum("fij,fkj->ikf", back, moved), atol=2e-5)


def test_numbers_of_a_known_motion() -> None:
    """One joint that goes ahead at 2 m/s and turns at 1 rad/s, 1.5 high."""
    one = Skeleton(("a",), (-1,), ((0.0, 0.0, 0.0),))
    t = np.arange(40) / 20
    turns = about_vertical(t)[:, None]
    ahead = np.stack([np.sin(t), 0 * t, np.cos(t)], 1) * 2 / 20
    place = np.concatenate([np.zeros((1, 3)), np.cumsum(ahead[:-1], 0)]) + [0, 1.5, 0]
    motion = Motion(one, place, turns, 20.0)
    form = replace(fitted([motion]), axis=2)
    plain = form.plain(motion)
    np.testing.assert_allclose(plain[:, :4], np.tile([0, 2, 1.5, 1], (40, 1)), atol=1e-9)
    np.testing.assert_allclose(plain[:, 4:10], np.tile([1, 0, 0, 0, 1, 0], (40, 1)), atol=1e-9)


def test_groups_have_unit_variance() -> None:
    form = fitted(WALKS)
    rows = np.concatenate([form.rows(m) for m in WALKS])
    for name, group in form.groups.items():
        assert np.abs(rows[:, group].mean(0)).max() < 1e-4, name
        assert np.sqrt((rows[:, group] ** 2).mean()) == pytest.approx(1, abs=1e-4), name


@given(
    st.lists(st.floats(-3, 3), min_size=6, max_size=6).filter(
        lambda v: abs(np.cross(v[:3], v[3:])).max() > 1e-2
    )
)
def test_any_six_numbers_are_a_rotation_and_those_of_one_come_back(values: list[float]) -> None:
    r = orthonormal(np.array(values).reshape(2, 3))
    np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(r) == pytest.approx(1)
    np.testing.assert_allclose(orthonormal(r[:, :2].T), r, atol=1e-9)


@given(st.integers(0, 10_000))
def test_the_least_rotation_turns_one_direction_to_another_and_no_further(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(3, 3))
    b = np.stack([rng.normal(size=3), 2 * a[1], -a[2]])
    r = least_rotation(a, b)
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b)]
    np.testing.assert_allclose(np.einsum("nij,nj->ni", r, unit[0]), unit[1], atol=1e-7)
    angle = np.arccos(np.clip((unit[0] * unit[1]).sum(1), -1, 1))
    np.testing.assert_allclose(Rotation.from_matrix(r).magnitude(), angle, atol=1e-6)


def sliding(speed: float = 0.3) -> tuple[Motion, Form]:
    """A walk that is pushed sideways, so that standing feet slide."""
    motion = walk(0, 60)
    form = fitted([motion])
    contacts = form.standing(motion.points())
    push = np.arange(60)[:, None] / 30 * speed * np.array([1.0, 0, 0])
    return replace(motion, place=motion.place + push, contacts=contacts), form


def test_locked_feet_stand_still_and_all_else_goes_its_way() -> None:
    motion, form = sliding()
    locked = foot_locked(motion, form)
    assert np.array_equal(locked.place, motion.place)
    before, after = motion.points(), locked.points()
    lengths = [np.linalg.norm(after[:, c] - after[:, p], axis=1) for p, c in form.skeleton.bones]
    rest = [np.linalg.norm(o) for o in (*form.skeleton.offsets[1:], *(o for _, o in form.skeleton.ends))]
    np.testing.assert_allclose(np.array(lengths), np.array(rest)[:, None] * np.ones(60), atol=1e-6)
    contacts = motion.contacts
    assert contacts is not None and 5 < contacts.sum() < contacts.size
    for k, foot in enumerate(form.feet):
        both = contacts[1:, k] & contacts[:-1, k]
        slid, slides = (
            np.linalg.norm(np.diff(x[:, foot], axis=0)[both][:, [0, 2]], axis=1) for x in (before, after)
        )
        assert slid.max() > 5e-3 and slides.max() < 0.05 * slid.max()
    names = form.skeleton.names
    others = [j for j, name in enumerate(names) if "Leg" not in name and "Foot" not in name]
    np.testing.assert_allclose(after[:, others], before[:, others], atol=1e-9)
    # feet keep their direction in the world
    one, two = (globals_of(m.skeleton, m.place, m.turns)[0][:, list(form.feet)] for m in (motion, locked))
    np.testing.assert_allclose(one, two, atol=1e-9)


def test_locked_knees_turn_about_their_axes_alone() -> None:
    """Those of this body turn about its first axis; a shin that turned along itself would be beyond any limit."""
    motion, form = sliding()
    knees = [form.skeleton.names.index(name) for name in ("LeftLeg", "RightLeg")]
    before, after = (
        Rotation.from_matrix(m.turns[:, knees].reshape(-1, 3, 3)).as_rotvec()
        for m in (motion, foot_locked(motion, form))
    )
    assert np.abs(before[:, 1:]).max() < 1e-12 and np.abs(after - before).max() > 0.05
    assert np.abs(after[:, 1:]).max() < 0.02 * np.abs(after - before).max()


def test_feet_that_do_not_slide_stay_as_they_are() -> None:
    motion, form = sliding(0.0)
    still = replace(
        motion, place=np.tile(motion.place[:1], (60, 1)), turns=np.tile(motion.turns[:1], (60, 1, 1, 1))
    )
    assert np.abs(foot_locked(still, form).points() - still.points()).max() < 1e-3


def test_a_correction_fades_before_and_after() -> None:
    x = np.zeros((40, 3))
    x[:, 0] = np.arange(40) * 0.01
    stands = np.zeros(40, dtype=bool)
    stands[18:22] = True
    delta, weight = correction(x, stands, 30.0)
    np.testing.assert_allclose((x + delta)[18:22, 0], x[18:22, 0].mean())
    assert (weight[18:22] == 1).all() and weight[:11].max() == 0 and weight[29:].max() == 0
    assert (np.diff(weight[11:18]) > 0).all() and (np.diff(weight[22:29]) < 0).all()


def test_limits_hold_what_the_data_do_and_take_back_what_does_not() -> None:
    limits = Limits.of(WALKS)
    assert all(limits.excess(m.turns).mean() < 0.01 for m in WALKS)
    wild = WALKS[0].turns.copy()
    knee = WALKS[0].skeleton.names.index("LeftLeg")
    wild[:, knee] = wild[:, knee] @ Rotation.from_euler("x", 100, degrees=True).as_matrix()
    bent = replace(WALKS[0], turns=wild)
    assert (limits.excess(wild)[:, knee] > 0.1).all()
    back = limits.clamped(bent)
    assert limits.excess(back.turns).max() < 1e-6
    np.testing.assert_array_equal(np.delete(back.turns, knee, 1), np.delete(wild, knee, 1))
    assert Limits.from_json(limits.to_json()) == limits


def test_what_turns_about_an_axis_that_the_data_never_use_comes_back() -> None:
    """As in a file that is given to a model: nothing is taken from it unasked."""
    modality = MotionModality(fitted(WALKS), 48, Limits.of(WALKS))
    knee = WALKS[0].skeleton.names.index("LeftLeg")
    turns = WALKS[0].turns.copy()
    turns[:, knee] = turns[:, knee] @ Rotation.from_euler("y", 20, degrees=True).as_matrix()
    other = replace(WALKS[0], turns=turns)
    [back] = modality.decode(modality.encode([other]))
    np.testing.assert_allclose(back.turns[:, 1:], turns[:, 1:], atol=1e-5)
    [held] = modality.corrected(joint_limits=True).decode(modality.encode([other]))
    assert modality.limits.excess(held.turns).max() <= ROUNDING < modality.limits.excess(turns).max()


def test_a_body_named_otherwise_moves_alike() -> None:
    """The same body under other names, twice as large: the same poses, twice as large."""
    names = ("root", "chest", "head", "l_upperarm", "l_forearm", "r_upperarm", "r_forearm", "l_thigh", "l_calf",
             "l_foot", "r_thigh", "r_calf", "r_foot")  # fmt: skip
    other = replace(body(2.0), names=names)
    motion = walk(8, 20, skeleton=body())
    match = matched(other, motion.skeleton)
    assert isinstance(match, dict) and match == {j: j for j in range(13)}
    found = retargeted(motion, other, match)
    np.testing.assert_allclose(found.points(), 2 * motion.points(), atol=1e-6)


def test_a_body_that_rests_otherwise_moves_alike() -> None:
    """Arms that hang at rest instead of being spread, and a joint more in the back: every limb points where it did."""
    spread = walk(9, 20)
    s = body()
    down = {"LeftForeArm": (0.0, -0.28, 0.0), "RightForeArm": (0.0, -0.28, 0.0)}
    offsets = tuple(down.get(n, o) for n, o in zip(s.names, s.offsets, strict=True))
    tips = {4: (0.0, -0.25, 0.0), 6: (0.0, -0.25, 0.0)}
    hanging = replace(
        s,
        names=tuple("x:" + n for n in s.names),
        offsets=offsets,
        ends=tuple((j, tips.get(j, o)) for j, o in s.ends),
    )
    match = matched(hanging, spread.skeleton)
    assert isinstance(match, dict)
    found = retargeted(spread, hanging, match)
    for limb, end in (("LeftArm", "LeftForeArm"), ("LeftUpLeg", "LeftLeg"), ("RightLeg", "RightFoot")):
        i, j = s.names.index(limb), s.names.index(end)
        one, two = (m.points()[:, j] - m.points()[:, i] for m in (spread, found))
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_what_is_built_otherwise_does_not_match() -> None:
    human, dog = (skeleton for _, (_, skeleton) in sorted(BODIES.items()))
    assert isinstance(matched(human, dog), str) and isinstance(matched(human, body()), dict)
    assert isinstance(matched(body(), Skeleton(("a", "b"), (-1, 0), ((0.0,) * 3, (0.0, 1.0, 0.0)))), str)


def test_names_and_units() -> None:
    told = {
        "LeftUpLeg": ("left", "thigh"), "mixamorig:RightForeArm": ("right", "forearm"),
        "Bip01 L Foot": ("left", "foot"),
        "r_upperarm": ("right", "arm"), "lfemur": ("left", "thigh"), "left_knee": ("left", "shin"),
        "J_Sec": ("", ""),
        "RightToeBase": ("right", "toe"), "spine1": ("", "torso"), "Head": ("", "head"), "LHand": ("left", "hand"),
    }  # fmt: skip
    assert {name: part_of(name) for name in told} == told
    assert [unit_of(body(s))[0] for s in (1, 100, 39.4, 1000)] == [
        "metres",
        "centimetres",
        "inches",
        "millimetres",
    ]
    assert labels_of(["walk1_subject1", "walk2_subject5", "run1_subject2"]) == ["walk", "walk", "run"]
    assert labels_of(["x_dance_a", "x_dance_b", "x_kick"]) == ["dance", "dance", "kick"]
    assert labels_of(["01_01", "01_02"]) == [None, None]
    assert labels_of([*(f"set_{w}_1" for w in ("run", "hop", "roll", "sit")), "8walk"]) == [
        "run", "hop", "roll", "sit", "8walk",
    ]  # fmt: skip
    assert labels_of(["walk_1", "walk_2", "walk_3", "walk_4", "walk_5", "run_1"])[4:] == ["walk", "run"]


def written(folder: Path, motions: dict[str, Motion]) -> Path:
    for name, motion in motions.items():
        path = folder / f"{name}.bvh"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bvh(motion, path)
    return folder


def test_a_folder_is_divided_into_windows_that_stay_on_their_side(tmp_path: Path) -> None:
    """Every frame of a part can be seen in training, and none of another side."""
    written(tmp_path, {f"walk_{i}": walk(i, 150) for i in range(4)})
    data = load(tmp_path, options={"motion": {"length": 32}})
    assert isinstance(data.modality, MotionModality) and data.modality.shape == (4 + 6 * 13 + 2, 32)
    assert len(data.train) + len(data.val) == 16
    held = {name.partition(":")[0] for name in data.val.names}
    assert held and data.survey.totals["motions"] == 4
    shown: set[bytes] = set()
    for seed in range(40):
        x, _ = data.train.batch(torch.arange(len(data.train)), Seeds.of(seed, len(data.train)))
        shown |= {frame.numpy().tobytes() for window in x for frame in window.T}
    x, _ = data.val.batch(torch.arange(len(data.val)))
    assert not {frame.numpy().tobytes() for window in x for frame in window.T} & shown
    covered = sum(
        int(stop - start) for start, stop in zip(data.train.x.start, data.train.x.stop, strict=True)
    )
    assert len(shown) >= 0.97 * covered


def test_options_and_lengths(tmp_path: Path) -> None:
    written(tmp_path, {f"a{i}": walk(i, 240, 60.0) for i in range(3)})
    assert load(tmp_path).modality.shape[1] == 64 and load(tmp_path).modality.rate == 30  # type: ignore[attr-defined]
    data = load(tmp_path, options={"motion": {"length": "1s", "rate": 20}})
    assert data.modality.shape[1] == 20 and data.modality.rate == 20  # type: ignore[attr-defined]
    assert load(tmp_path, options={"motion": {"length": "24frames"}}).modality.shape[1] == 24  # type: ignore[attr-defined]
    for options in ({"length": "long"}, {"length": 1}, {"rate": "fast"}, {"rate": 0}):
        with pytest.raises(UserError):
            load(tmp_path, options={"motion": options})


def test_a_single_clip_is_enough(tmp_path: Path) -> None:
    data = load(written(tmp_path, {"only": walk(0, 200)}))
    assert len(data.train) >= 2 and len(data.val) == 1


def test_what_is_too_short_is_held_or_repeated(tmp_path: Path) -> None:
    written(tmp_path, {"long": walk(0, 100), "short": walk(1, 10)})
    data = load(tmp_path, options={"motion": {"length": 32}})
    i = [*data.train.names, *data.val.names].index("short.bvh")
    split, i = (data.train, i) if i < len(data.train) else (data.val, i - len(data.train))
    motion = data.modality.decode(split.batch(torch.tensor([i]))[0])[0]
    x = motion.points()
    assert np.abs(np.diff(x[9:], axis=0)).max() < 1e-5 and np.abs(np.diff(x[:9], axis=0)).max() > 1e-3
    assert any(what == "held at the end" for what, _, _ in data.survey.notes)


def test_other_skeletons_are_brought_along_or_named(tmp_path: Path) -> None:
    motions = {f"same_{i}": walk(i, 80) for i in range(11)}
    motions["longer"] = walk(20, 80, skeleton=body(1.1))
    motions["named"] = walk(
        21, 80, skeleton=replace(body(100.0), names=tuple("bip01:" + n for n in body().names))
    )
    thing = Skeleton(("a", "b"), (-1, 0), ((0.0,) * 3, (0.0, 1.0, 0.0)), (), body().channels[:2])
    still = np.broadcast_to(np.eye(3), (80, 2, 3, 3))
    motions["thing"] = Motion(thing, np.zeros((80, 3)), still, 30.0)
    written(tmp_path, motions)
    (tmp_path / "broken.bvh").write_text("HIERARCHY")
    write_bvh(walk(3, 1), tmp_path / "pose.bvh")
    data = load(tmp_path)
    kept = {name.partition(":")[0] for name in (*data.train.names, *data.val.names)}
    assert kept == {f"{name}.bvh" for name in motions if name != "thing"}
    assert [name for name, _ in data.survey.skipped] == ["broken.bvh"]
    assert {name for name, _ in data.survey.left_alone} == {"thing.bvh", "pose.bvh"}
    heights = data.modality.encode([motions["same_0"], motions["named"]])[:, 2].mean(1)
    assert (
        abs(float(heights[0] - heights[1])) < 2.0
    )  # of its own spread: a body a hundred times as tall is as tall


def test_classes_come_from_folders_or_from_names(tmp_path: Path) -> None:
    named = load(written(tmp_path / "a", {"x_walk_1": walk(0), "x_walk_2": walk(1), "x_run_1": walk(2)}))
    assert named.columns["class"] == ("run", "walk")
    folders = load(written(tmp_path / "b", {"slow/1": walk(0), "fast/1": walk(1), "fast/2": walk(2)}))
    assert folders.columns["class"] == ("fast", "slow")


def test_nothing_that_can_be_read_is_said(tmp_path: Path) -> None:
    write_bvh(walk(0, 1), tmp_path / "pose.bvh")
    with pytest.raises(UserError, match="single frame"):
        load(tmp_path)
    (tmp_path / "pose.bvh").unlink()
    (tmp_path / "a.asf").write_text("nothing")
    with pytest.raises(UserError, match="No motion"):
        load(tmp_path)


def test_numbers_of_a_frame_have_names(tmp_path: Path) -> None:
    m = load(written(tmp_path, {"a": walk(0, 100)})).modality
    assert isinstance(m, MotionModality)
    groups = m.groups
    assert [*groups["root"]] == [*range(10)] and [*groups["velocity"], *groups["height"]] == [0, 1, 2]
    assert [*groups["LeftLeg"]] == [*range(4 + 6 * 8, 4 + 6 * 9)] and len(groups["contacts"]) == 2
    parts = [groups[name] for name in ("velocity", "height", "heading", "posture", "joints", "contacts")]
    assert [k for part in parts for k in part] == [*range(m.shape[0])]
    assert m.sized([40]).shape == (m.shape[0], 40) and m.units("time") == {"s": 30.0, "frames": 1.0}


def test_the_cmu_folder_is_read_whole(shared_data: Callable[[str], Path]) -> None:
    data = load(shared_data("cmu_mocap"))
    assert (
        data.survey.modality == "motion" and data.survey.totals["motions"] == 21 and not data.survey.skipped
    )
    assert "walk" in data.columns["class"] and data.modality.form.axis == 0  # type: ignore[attr-defined]
    assert {what for what, _ in data.survey.left_alone} == {f"cmu30.npz#02_0{i}" for i in range(1, 5)}
