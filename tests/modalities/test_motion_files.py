"""Files of motions: what is written is read back, by us and by others, and what is damaged is told in a sentence."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from kuosan.errors import UserError
from kuosan.modalities.base import Unreadable
from kuosan.modalities.motion_asf import read_amc, read_asf
from kuosan.modalities.motion_bvh import bvh_text, parse_bvh, read_bvh
from kuosan.modalities.motion_draw import gif_bytes, strip
from kuosan.modalities.motion_files import read_clips, upright, write_motion
from kuosan.modalities.motion_glb import glb_bytes
from kuosan.modalities.motion_json import BODIES, is_motion_json, read_motion_json
from kuosan.modalities.motion_skeleton import Z_UP, Motion, at_times, euler_matrices, resampled
from tests.modalities.motion import body, walk


def apart(one: Motion, other: Motion) -> float:
    """How far points of two motions are apart at most."""
    return float(np.abs(one.points() - other.points()).max())


@pytest.mark.parametrize("order", ["ZXY", "XYZ", "YXZ", "ZYX", "XZY", "YZX"])
def test_bvh_comes_back_with_its_hierarchy_offsets_and_channels(order: str) -> None:
    motion = walk(1, skeleton=body(order=order))
    text = bvh_text(motion)
    back = parse_bvh(text)
    assert back.skeleton == motion.skeleton
    assert back.rate == pytest.approx(motion.rate, rel=1e-6)
    assert apart(back, motion) < 1e-5
    assert bvh_text(back).split("MOTION")[0] == text.split("MOTION")[0]


def test_bvh_angles_are_those_of_the_format() -> None:
    """Channels Zrotation Xrotation Yrotation mean R = Rz Rx Ry, each in the frame that the ones before have turned."""
    text = """HIERARCHY
    ROOT a
    { OFFSET 0 0 0
      CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
      JOINT b
      { OFFSET 0 2 0
        CHANNELS 1 Xrotation
        End Site { OFFSET 0 0 3 } } }
    MOTION
    Frames: 2
    Frame Time: 0.5
    1 2 3 90 0 0 0
    0 0 0 20 30 40 90
    """
    motion = parse_bvh(text)
    assert motion.rate == 2 and len(motion) == 2
    np.testing.assert_allclose(motion.points()[0], [[1, 2, 3], [-1, 2, 3], [-1, 2, 6]], atol=1e-12)
    z, x, y = (
        Rotation.from_euler(axis, angle, degrees=True) for axis, angle in (("z", 20), ("x", 30), ("y", 40))
    )
    np.testing.assert_allclose(motion.turns[1, 0], (z * x * y).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(
        motion.turns[1, 1], Rotation.from_euler("x", 90, degrees=True).as_matrix(), atol=1e-12
    )


def test_a_joint_below_the_root_may_have_places() -> None:
    """As many programs write them: six channels everywhere."""
    motion = walk(2)
    six = replace(motion.skeleton, channels=(motion.skeleton.channels[0],) * len(motion.skeleton))
    back = parse_bvh(bvh_text(replace(motion, skeleton=six)))
    assert apart(back, motion) < 1e-5 and back.skeleton.channels == six.channels


def test_a_joint_may_have_any_number_of_rotations() -> None:
    """None, one, two, or one axis twice: what is written is what was read."""
    motion = walk(3, 6)
    spins = [(), ("Xrotation",), ("Yrotation", "Zrotation"), ("Zrotation", "Xrotation", "Zrotation")]
    channels = list(motion.skeleton.channels)
    turns = motion.turns.copy()
    for j, spin in enumerate(spins, 3):
        channels[j] = spin
        angles = np.random.default_rng(j).uniform(10, 80, (6, len(spin)))
        turns[:, j] = euler_matrices("".join(c[0] for c in spin), angles)
    some = replace(motion, turns=turns, skeleton=replace(motion.skeleton, channels=tuple(channels)))
    back = parse_bvh(bvh_text(some))
    assert back.skeleton == some.skeleton and apart(back, some) < 1e-5


GOOD = bvh_text(walk(0, 4))
BROKEN: dict[str, tuple[str, str]] = {
    "empty": ("", "no BVH"),
    "other": ("hello", "no BVH"),
    "no motion": (GOOD.split("MOTION")[0], "before its MOTION"),
    "cut": (GOOD[: GOOD.rindex("\n", 0, -200)], "cut it short"),
    "no frames": (GOOD.split("Frames:")[0] + "Frames: 0\nFrame Time: 0.03\n", "no frames"),
    "nan": (GOOD.rsplit(" ", 1)[0] + " nan\n", "not finite"),
    "word": (GOOD.rsplit(" ", 1)[0] + " oops\n", "no number"),
    "too many": (GOOD + "1 2 3\n", "numbers"),
    "slow": (GOOD.replace("Frame Time: 0.033333333", "Frame Time: 1e9"), "cannot be meant"),
    "stopped": (GOOD.replace("Frame Time: 0.033333333", "Frame Time: 0"), "cannot be meant"),
    "open": (GOOD.replace("}", "", 1), "hierarchy"),
    "channel": (GOOD.replace("Xposition", "Sideways", 1), "damaged"),
    "offset": (GOOD.replace("OFFSET 0.000000", "OFFSET nan", 1), "not finite"),
    "word in tree": (GOOD.replace("OFFSET", "OFFSIDE", 1), "means nothing"),
    "two roots": (GOOD.replace("JOINT Spine", "ROOT Spine"), "several roots"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_damaged_bvh_says_what_is_wrong(what: str, tmp_path: Path) -> None:
    text, reason = BROKEN[what]
    path = tmp_path / "x.bvh"
    path.write_text(text)
    with pytest.raises(Unreadable, match=reason):
        read_bvh(path)


@pytest.mark.parametrize("end", range(10, len(GOOD), 97))
def test_a_bvh_cut_anywhere_is_whole_or_unreadable(end: int) -> None:
    try:
        assert len(parse_bvh(GOOD[:end])) == 4
    except Unreadable:
        pass


ASF = """:version 1.10
:units
  length 0.5
  angle {angle}
:root
  order TX TY TZ RX RY RZ
  axis XYZ
  position 0 0 0
  orientation 0 0 0
:bonedata
  begin
    id 1
    name low
    direction 0 1 0
    length 2
    axis {axis} XYZ
    dof rx rz
  end
  begin
    id 2
    name high
    direction 1 0 0
    length 4
    axis 0 0 0 XYZ
  end
:hierarchy
  begin
    root low
    low high
  end
"""


@pytest.mark.parametrize("degrees", [True, False])
def test_asf_and_amc(degrees: bool, tmp_path: Path) -> None:
    """Bones of 2 and 4 units of two inches; the first turned by 90° about its own x, an axis that stands at 90° about
    z: so it turns about the world's y."""
    quarter = 90.0 if degrees else np.pi / 2
    (tmp_path / "01.asf").write_text(ASF.format(angle="deg" if degrees else "rad", axis=f"0 0 {quarter}"))
    amc = tmp_path / "01_01.amc"
    amc.write_text(
        f":FULLY-SPECIFIED\n:{'DEGREES' if degrees else 'RADIANS'}\n1\nroot 1 0 0 0 0 0\nlow {quarter} 0\n"
        f"2\nroot 2 0 0 0 0 {quarter}\nlow 0 0\n"
    )
    motion = read_amc(amc, read_asf(tmp_path / "01.asf"))
    unit = 0.0254 / 0.5
    x = motion.points() / unit
    np.testing.assert_allclose(x[0], [[1, 0, 0], [1, 0, 0], [1, 2, 0], [1, 2, -4]], atol=1e-9)
    np.testing.assert_allclose(x[1], [[2, 0, 0], [2, 0, 0], [0, 0, 0], [0, 4, 0]], atol=1e-9)
    assert len(read_clips(amc)) == 1 and read_clips(tmp_path / "01.asf") == []


def test_what_is_wrong_with_amc_is_said(tmp_path: Path) -> None:
    amc = tmp_path / "a.amc"
    amc.write_text(":DEGREES\n1\nroot 0 0 0 0 0 0\n")
    with pytest.raises(Unreadable, match=r"no \.asf"):
        read_clips(amc)
    (tmp_path / "a.asf").write_text(ASF.format(angle="deg", axis="0 0 0"))
    cases = {
        "": "no frames", "1\nroot 0 0 0 0 0 0\nwing 1\n": "not in the skeleton", "1\nroot 0 0 0\n": "6",
        "1\nroot 0 0 0 0 0 0\nlow 1 1\n2\nroot 0 0 0 0 0 0\n": "cut it short", "1\nroot 0 nan 0 0 0 0\n": "finite",
        "1\nroot a b c\n": "no number",
    }  # fmt: skip
    for text, reason in cases.items():
        amc.write_text(":DEGREES\n" + text)
        with pytest.raises(Unreadable, match=reason):
            read_clips(amc)
    (tmp_path / "a.asf").write_text(":root\nnonsense")
    with pytest.raises(Unreadable, match="damaged"):
        read_asf(tmp_path / "a.asf")


def test_the_cmu_files_agree_with_the_places_that_others_found(shared_data: Callable[[str], Path]) -> None:
    """The set's own joint places, computed from the same files elsewhere (float16: half a millimetre)."""
    folder = shared_data("cmu_mocap")
    table = np.load(folder / "cmu30.npz")
    motion = read_clips(folder / "asfamc" / "02_03.amc")[0].motion
    i = list(table["clips"]).index("02_03")
    rows = slice(*table["offsets"][i : i + 2])
    theirs = table["relative_positions"][rows].astype(float) + table["root_position"][rows, None]
    ours = motion.points()[::4]
    s, names = motion.skeleton, list(table["joints"])
    for j, name in enumerate(s.names[1:], 1):  # theirs are the ends of bones
        below = [k for k, p in enumerate(s.parents) if p == j]
        at = below[0] if below else len(s) + [p for p, _ in s.ends].index(j)
        assert np.abs(ours[: len(theirs), at] - theirs[:, names.index(name)]).max() < 2e-3


def _json(rows: list[list[float]], **more: Any) -> str:
    return json.dumps({"Loop": "wrap", **more, "Frames": rows})


def test_motion_json_is_told_by_its_content_and_turns_about_the_right_axes(tmp_path: Path) -> None:
    still = [1.0, 0.0, 0.0, 0.0]
    rows = []
    for angle in (0.0, -0.5, -1.0):
        row = [
            0.1,
            angle,
            0.9,
            0.0,
            *still,
            *still,
            *still,
            *still,
            angle,
            *still,
            *still,
            0.0,
            *still,
            0.0,
            *still,
            *still,
            0.0,
        ]
        rows.append(row)
    path = tmp_path / "walk.json"
    path.write_text(_json(rows))
    assert (
        is_motion_json(path.read_bytes())
        and not is_motion_json(b'{"Frames": []}')
        and not is_motion_json(b"[1]")
    )
    motion = read_motion_json(path)
    assert motion.loops and motion.rate == pytest.approx(10) and len(motion) == 3
    knee, ankle = (motion.skeleton.names.index(f"right_{part}") for part in ("knee", "ankle"))
    np.testing.assert_allclose(motion.turns[2, knee], Rotation.from_euler("z", -1).as_matrix(), atol=1e-9)
    x = motion.points()[2]
    shin = x[ankle] - x[knee]
    np.testing.assert_allclose(shin, 0.40987 * np.array([-np.sin(1), -np.cos(1), 0]), atol=1e-9)


def test_what_is_wrong_with_motion_json_is_said(tmp_path: Path) -> None:
    width = min(BODIES)
    row = [0.1, 0, 1, 0, *[1.0, 0, 0, 0] * 10]
    assert len(row) == width
    bad = {
        "nan": [[float("nan"), *row[1:]]],
        "turn": [[*row[:4], 0, 0, 0, 0, *row[8:]]],
        "time": [row[:], [0.1, *row[1:]]],
    }
    bad["time"][0][0] = -1.0
    texts = {
        "{": "JSON", _json([]): "no frames", _json([[1.0, 2.0]]): "numbers", _json(bad["nan"]): "finite",
        _json(bad["turn"]): "rotation", _json(bad["time"]): "time", '{"Loop": "x", "Frames": 3}': "list",
        '{"Loop": "x", "Frames": [[1], [1, 2]]}': "one length",
    }  # fmt: skip
    path = tmp_path / "x.json"
    for text, reason in texts.items():
        path.write_text(text)
        with pytest.raises(Unreadable, match=reason):
            read_motion_json(path)
    path.write_text(_json([row]))
    assert len(read_motion_json(path)) == 1


def test_a_world_whose_third_axis_is_up_is_noticed_and_written_as_it_was(tmp_path: Path) -> None:
    motion = walk(3)
    turns = motion.turns.copy()
    turns[:, 0] = Z_UP.T @ turns[:, 0]
    lying = replace(motion, place=motion.place @ Z_UP, turns=turns)
    path = write_motion(lying, tmp_path / "z.bvh")
    back = read_clips(path)[0].motion
    assert back.skeleton.up == 2 and upright(motion).skeleton.up == 1
    assert apart(back, motion) < 1e-5
    assert bvh_text(back).splitlines()[-1] == bvh_text(lying).splitlines()[-1]


def test_resampling_goes_along_great_circles() -> None:
    """Half-way between two rotations about one axis is half of the angle; frames that are there are kept to the bit."""
    turns = Rotation.from_euler("x", [[0.0], [0.4], [0.8]]).as_matrix()[:, None]
    place = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    where, turned = at_times(np.arange(3.0), place, turns, np.array([0.25, 1.5]))
    np.testing.assert_allclose(where[:, 0], [0.25, 1.5])
    np.testing.assert_allclose(turned[:, 0], Rotation.from_euler("x", [[0.1], [0.6]]).as_matrix(), atol=1e-12)
    motion = walk(4, 61, 60.0)
    assert np.array_equal(resampled(motion, 30.0).turns, motion.turns[::2])
    other = resampled(motion, 25.0)
    assert other.seconds == pytest.approx(motion.seconds) and apart(resampled(other, 25.0), other) == 0


def test_glb_is_read_by_others_and_moves_as_the_motion_does(tmp_path: Path) -> None:
    """The scene of the first frame by trimesh; the animation by the format's own words."""
    trimesh = pytest.importorskip("trimesh")
    motion = walk(5, 12)
    path = write_motion(motion, tmp_path / "x.glb")
    scene = trimesh.load(path)
    x = motion.points()
    for j, name in enumerate(motion.skeleton.names):
        at, _ = scene.graph.get(name)
        np.testing.assert_allclose(at[:3, 3], x[0, j], atol=1e-6)
    box = scene.bounds
    assert (box[0] < x[0].min(0) + 1e-6).all() and (box[1] > x[0].max(0) - 1e-6).all()
    tree, numbers = _glb(glb_bytes(motion))
    for channel in tree["animations"][0]["channels"]:
        sampler = tree["animations"][0]["samplers"][channel["sampler"]]
        values, time = numbers(sampler["output"]), numbers(sampler["input"])
        np.testing.assert_allclose(time[:, 0], np.arange(12) / 30, atol=1e-6)
        j = motion.skeleton.names.index(tree["nodes"][channel["target"]["node"]]["name"])
        if channel["target"]["path"] == "rotation":
            np.testing.assert_allclose(Rotation.from_quat(values).as_matrix(), motion.turns[:, j], atol=1e-6)
        else:
            np.testing.assert_allclose(values, motion.place, atol=1e-6)


def _glb(data: bytes) -> tuple[dict[str, Any], Callable[[int], Any]]:
    magic, version, size = struct.unpack_from("<4sII", data)
    assert (magic, version, size) == (b"glTF", 2, len(data))
    length, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON" and length % 4 == 0
    tree = json.loads(data[20 : 20 + length])
    body_at = 20 + length + 8

    def numbers(k: int) -> Any:
        accessor = tree["accessors"][k]
        view = tree["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        raw = np.frombuffer(data, "<f4", accessor["count"] * width, body_at + view["byteOffset"])
        return raw.reshape(-1, width)

    return tree, numbers


def test_pictures_and_films(tmp_path: Path) -> None:
    motion = walk(6, 30)
    film = Image.open(write_motion(motion, tmp_path / "x.gif"))
    assert film.n_frames == len(resampled(motion, 25.0)) and film.info["loop"] == 0  # type: ignore[attr-defined]
    assert len(gif_bytes(motion, 160, 8.0, 15.0)) < 60_000
    picture = np.asarray(strip(motion))
    # left is orange and right is blue, and both are to be seen
    assert (np.abs(picture - np.array([217, 114, 45])).sum(-1) < 60).any()
    assert (np.abs(picture - np.array([47, 109, 179])).sum(-1) < 60).any()
    one = replace(
        walk(0, 3), skeleton=replace(body(), names=("a",), parents=(-1,), offsets=((0.0, 0.0, 0.0),), ends=())
    )
    one = replace(one, turns=one.turns[:, :1])
    for kind in ("bvh", "glb", "gif", "png"):
        assert write_motion(one, tmp_path / f"one.{kind}").stat().st_size > 0
    with pytest.raises(UserError, match=r"\.fbx"):
        write_motion(motion, tmp_path / "x.fbx")


def test_a_film_as_mp4_is_as_long_as_the_motion(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    motion = walk(7, 20)
    with av.open(str(write_motion(motion, tmp_path / "x.mp4"))) as file:
        frames = list(file.decode(video=0))
    assert len(frames) == 20 and frames[0].width == 400
