"""Files of shapes: written by us and read by others, and the other way round."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from kuosan.errors import UserError
from kuosan.modalities import Blocks, Cloud, Field, ShapeForm, ShapeModality, Surface, Unreadable
from kuosan.modalities.shape_arrays import read_items
from kuosan.modalities.shape_draw import animation, draw, turntable
from kuosan.modalities.shape_gather import read_shapes
from kuosan.modalities.shape_mesh_file import read_mesh
from kuosan.modalities.shape_told import holds_shapes
from kuosan.modalities.shape_vox import read_vox, write_vox
from tests.modalities.shapes import box, chair, save, surface

FORM = ShapeForm((24, 24, 24), 0.75)
UPRIGHT = {".glb": 1, ".obj": 1, ".stl": 2, ".ply": 2, ".off": 2}  # the axis that stands up in each format


def field() -> Field:
    return Field(surface(chair()).distances(FORM.frame, FORM.reach), FORM.frame)


def painted(seed: int = 0, most: int = 9) -> Blocks:
    rng = np.random.default_rng(seed)
    filled = rng.random((most, 6, 7)) > 0.6
    palette = rng.integers(0, 256, (5, 3)).astype(np.uint8)
    return Blocks.of_grid(filled, palette[rng.integers(0, 5, filled.shape)])


@pytest.mark.parametrize("suffix", sorted(UPRIGHT))
def test_what_is_written_is_closed_in_the_units_of_the_data_and_upright(suffix: str, tmp_path: Path) -> None:
    path = ShapeModality(FORM).write(field(), tmp_path / f"chair{suffix}")
    mesh = trimesh.load(path, force="mesh")
    mesh.merge_vertices()
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.body_count == 1
    assert mesh.volume == pytest.approx(8 * 10 * 6 + 8 * 3 * 8, rel=0.03)
    assert mesh.extents[UPRIGHT[suffix]] == pytest.approx(14, abs=0.4)
    again = read_mesh(path)
    assert np.allclose(again.extents, [8, 10, 14], atol=0.4)
    # front stays front and left stays left: the same field again, none of its mirror images
    assert ((again.distances(FORM.frame, FORM.reach) < 0) == (field().values < 0)).mean() > 0.997


@pytest.mark.parametrize("suffix", [".glb", ".ply", ".obj"])
def test_colours_of_blocks_come_with_the_mesh(suffix: str, tmp_path: Path) -> None:
    blocks = painted()
    assert blocks.paint is not None
    path = ShapeModality(ShapeForm((12, 8, 8), 1.0, blocks=True, suffix=".vox")).write(
        blocks, tmp_path / f"x{suffix}"
    )
    mesh = trimesh.load(path, force="mesh", process=False)
    colours = {tuple(c) for c in np.asarray(mesh.visual.vertex_colors)[:, :3].tolist()}
    outer = {tuple(c) for c in blocks.seen().tints.tolist()}  # type: ignore[union-attr]
    assert colours == outer
    mesh.merge_vertices()
    assert mesh.is_watertight


@pytest.mark.parametrize("suffix", [".obj", ".stl", ".ply", ".glb", ".gltf", ".off"])
def test_meshes_of_other_writers_are_read(suffix: str, tmp_path: Path) -> None:
    mesh = box((2.0, 3.0, 5.0))
    if suffix == ".gltf":
        for name, data in trimesh.exchange.gltf.export_gltf(mesh.scene()).items():
            (tmp_path / name).write_bytes(data)
        path = tmp_path / "model.gltf"
    else:
        path = save(mesh, tmp_path / f"box{suffix}")
    found = read_mesh(path)
    assert isinstance(found, Surface) and found.closed and found.mended == ""
    assert np.allclose(
        found.extents, [2, 5, 3] if suffix in (".obj", ".glb", ".gltf") else [2, 3, 5], atol=1e-5
    )
    assert np.allclose(read_mesh(path, up="x").extents, [3, 5, 2], atol=1e-5)


def test_an_ascii_stl_is_read(tmp_path: Path) -> None:
    text = box((1.0, 2.0, 3.0)).export(file_type="stl_ascii")
    (tmp_path / "a.stl").write_text(text)
    assert np.allclose(read_mesh(tmp_path / "a.stl").extents, [1, 2, 3])


def test_faulty_meshes_are_named(tmp_path: Path) -> None:
    def refused(text: str, name: str = "x.obj") -> str:
        (tmp_path / name).write_text(text)
        with pytest.raises(Unreadable) as found:
            read_mesh(tmp_path / name)
        assert name in str(found.value)
        return found.value.reason

    assert "not finite" in refused("v 0 0 0\nv nan 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 3 4\n")
    assert "without area" in refused("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    assert "empty (0 bytes)" in refused("")
    assert refused("this is no mesh at all\n")
    assert "no faces and no points" in refused(
        '{"asset": {"version": "2.0"}, "scenes": [{"nodes": []}]}', "x.gltf"
    )
    assert "too few" in refused("v 0 0 0\nv 1 0 0\nv 2 0 0\n")


def test_points_alone_are_a_cloud(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(500, 3))
    trimesh.PointCloud(points).export(tmp_path / "p.ply")
    found = read_mesh(tmp_path / "p.ply")
    assert isinstance(found, Cloud) and np.allclose(found.points, points, atol=1e-5)


def _chunk(name: bytes, content: bytes, children: bytes = b"") -> bytes:
    return name + struct.pack("<ii", len(content), len(children)) + content + children


def _text(word: str) -> bytes:
    return struct.pack("<i", len(word)) + word.encode()


def _words(words: dict[str, str]) -> bytes:
    return struct.pack("<i", len(words)) + b"".join(_text(k) + _text(v) for k, v in words.items())


def _model(*voxels: tuple[int, int, int, int], size: tuple[int, int, int] = (4, 4, 4)) -> bytes:
    body = struct.pack("<i", len(voxels)) + bytes(value for voxel in voxels for value in voxel)
    return _chunk(b"SIZE", struct.pack("<3i", *size)) + _chunk(b"XYZI", body)


def _transform(node: int, child: int, **frame: str) -> bytes:
    words = {f"_{k}": v for k, v in frame.items()}
    return _chunk(
        b"nTRN", struct.pack("<i", node) + _words({}) + struct.pack("<4i", child, -1, -1, 1) + _words(words)
    )


def _shape(node: int, model: int) -> bytes:
    return _chunk(b"nSHP", struct.pack("<i", node) + _words({}) + struct.pack("<2i", 1, model) + _words({}))


def _group(node: int, *children: int) -> bytes:
    return _chunk(
        b"nGRP",
        struct.pack("<i", node)
        + _words({})
        + struct.pack(f"<{len(children) + 1}i", len(children), *children),
    )


def _file(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"VOX " + struct.pack("<i", 150) + _chunk(b"MAIN", b"", b"".join(parts)))
    return path


def test_vox_by_the_letter_of_its_format(tmp_path: Path) -> None:
    palette = bytes(v for i in range(256) for v in (i, 255 - i, 7, 255))
    path = _file(tmp_path / "a.vox", _model((1, 2, 3, 5), (0, 2, 3, 1)), _chunk(b"RGBA", palette))
    ((positions, colours),) = read_vox(path)
    assert positions.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert colours.tolist() == [[4, 251, 7], [0, 255, 7]]  # colour i is entry i − 1
    ((_, usual),) = read_vox(
        _file(tmp_path / "b.vox", _model((0, 0, 0, 1), (1, 0, 0, 2), (2, 0, 0, 216), (3, 0, 0, 255)))
    )
    assert usual.tolist() == [[255, 255, 255], [255, 255, 204], [238, 0, 0], [17, 17, 17]]


def test_models_without_a_scene_are_items_and_with_one_they_are_one(tmp_path: Path) -> None:
    models = _model((0, 0, 0, 1)) + _model((1, 1, 1, 2), (1, 1, 2, 2))
    assert [len(p) for p, _ in read_vox(_file(tmp_path / "two.vox", models))] == [1, 2]
    # the second model, two voxels that stand, is turned to lie along x: rows (z, y, −x)
    turn = str(2 | 1 << 2 | 1 << 6)
    scene = (
        _transform(0, 1), _group(1, 2, 4), _transform(2, 3, t="0 0 0"), _shape(3, 0),
        _transform(4, 5, t="10 0 0", r=turn), _shape(5, 1),
    )  # fmt: skip
    ((positions, _),) = read_vox(_file(tmp_path / "scene.vox", models, *scene))
    assert len(positions) == 3
    lying = positions[positions[:, 0] > 5]
    assert len(lying) == 2 and np.ptp(lying, axis=0).tolist() == [1, 0, 0]


def test_vox_comes_back_and_says_what_it_cannot_hold(tmp_path: Path) -> None:
    blocks = painted()
    assert blocks.paint is not None
    write_vox(blocks.positions, blocks.paint, tmp_path / "x.vox")
    (again,) = read_shapes(tmp_path / "x.vox")
    assert again.shape.same(blocks)
    with pytest.raises(ValueError, match="255 colours"):
        many = np.arange(300)
        colours = np.stack([many % 256, many // 256, many % 7], 1).astype(np.uint8)
        write_vox(np.stack([many % 250, many // 250, 0 * many], 1), colours, tmp_path / "y.vox")
    data = (tmp_path / "x.vox").read_bytes()
    for cut in (10, 25, 60, len(data) - 500):
        (tmp_path / "cut.vox").write_bytes(data[:cut])
        with pytest.raises(Unreadable):
            read_vox(tmp_path / "cut.vox")


def _save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_arrays_of_every_form(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    filled = rng.random((3, 8, 8, 8)) > 0.7
    paint = np.full((8, 8, 8, 3), 9, np.uint8) * filled[0][..., None]
    solid = [Blocks.of(np.argwhere(one)) for one in filled]

    def shapes(path: Path, sure: bool = True) -> list:
        assert holds_shapes(path) is sure
        return [item.shape for item in read_items(path)]

    packed = _save(
        tmp_path / "p.npz",
        occupancy=np.packbits(filled.reshape(3, -1), axis=1),
        names=np.array(["a", "b", "c"]),
    )
    for path in (
        _save(tmp_path / "v.npz", voxels=filled),
        packed,
        _save(tmp_path / "f.npz", voxels=filled * 0.9),
    ):
        assert all(one.same(other) for one, other in zip(shapes(path), solid, strict=True))
    assert [item.name for item in read_items(packed)] == ["a", "b", "c"]
    (one,) = shapes(_save(tmp_path / "c.npz", voxels=paint))
    assert one.same(Blocks(solid[0].positions, np.full((filled[0].sum(), 3), 9, np.uint8)))
    xyz = np.concatenate([np.argwhere(part) for part in filled])
    offsets = np.concatenate([[0], np.cumsum(filled.sum((1, 2, 3)))])
    sparse = _save(tmp_path / "s.npz", xyz=xyz, offsets=offsets, classes=np.array(["car", "car", "tree"]))
    assert all(one.same(other) for one, other in zip(shapes(sparse), solid, strict=True))
    assert [item.columns for item in read_items(sparse)] == [{"class": w} for w in ("car", "car", "tree")]
    points = rng.normal(size=(2, 300, 3)).astype(np.float32)
    assert [one.kind for one in shapes(_save(tmp_path / "d.npz", points=points))] == ["points"] * 2
    np.save(tmp_path / "one.npy", points[0])
    assert shapes(tmp_path / "one.npy")[0].bounds[0].tolist() == points[0].min(0).tolist()
    turned = next(iter(read_items(tmp_path / "one.npy", "y"))).shape
    assert np.allclose(turned.extents[2], np.ptp(points[0][:, 1]))
    # pictures, clips and the joints of people are none
    for name, array in (
        ("a", rng.random((9, 16, 16))),
        ("b", rng.random((9, 22, 3))),
        ("c", rng.random((9, 32, 32, 3))),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        assert not holds_shapes(tmp_path / f"{name}.npy")


def test_a_field_comes_back_to_the_bit(tmp_path: Path) -> None:
    modality, made = ShapeModality(FORM), field()
    again = modality.read(modality.write(made, tmp_path / "x.npz"))
    assert again.same(made)
    flipped = _save(
        tmp_path / "y.npz", sdf=-np.load(tmp_path / "x.npz")["sdf"], cell=np.array(0.75), margin=np.array(2.0)
    )
    assert modality.read(flipped).same(made)  # others have the inside positive
    with pytest.raises(UserError, match="not written as .dae"):
        modality.write(made, tmp_path / "x.dae")


def test_a_picture_shows_what_stands_before_the_eye() -> None:
    low = Surface(
        np.array([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]]), np.array([[0, 1, 2], [0, 2, 3]])
    )
    seen = draw(low, 64, 0, 0) < 255
    assert seen.any(2).mean() == pytest.approx(
        0.5, abs=0.02
    )  # a square within the circle that it is turned in
    red, blue = ([200, 0, 0], [0, 0, 200])
    before = Blocks.of_grid(np.ones((2, 1, 1), bool), np.array([[[red]], [[blue]]], np.uint8))
    front, back = (draw(before.seen(), 32, azimuth, 0)[16, 16] for azimuth in (0, 180))
    assert front[0] > 0 == front[2] and back[2] > 0 == back[0]
    beside = Blocks.of_grid(np.ones((1, 1, 2), bool), np.array([[[red, blue]]], np.uint8))
    row = draw(beside.seen(), 32, 0, 0)[16]
    assert row[10, 0] > 0 == row[10, 2] and row[22, 2] > 0 == row[22, 0]  # x runs to the right


def test_a_ball_looks_the_same_from_everywhere() -> None:
    ball = surface(trimesh.creation.icosphere(4, 1.0))
    frames = np.stack(turntable(ball, 48, 5)).astype(float)
    assert np.abs(frames - frames[0]).mean() < 1.0
    with Image.open(io.BytesIO(animation(surface(chair()), 32, 6))) as clip:
        assert clip.n_frames == 6 and clip.size == (32, 32)
