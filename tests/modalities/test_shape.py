"""Folders of shapes: what is chosen, what is left out, what becomes of what is faulty; and wishes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import Blocks, Field, ShapeForm, ShapeModality, ShapeWishes, load
from kuosan.modalities.shape_form import choose_form, packed, unpacked
from kuosan.modalities.shape_gather import read_shapes
from kuosan.modalities.shape_surface import volume
from kuosan.modalities.shape_vox import write_vox
from kuosan.modalities.shape_wishes import in_one_piece, mirrored, standing_flat
from tests.modalities.shapes import box, chair, save, surface


def boxes(folder: Path, count: int, largest: float, suffix: str = ".stl", seed: int = 0) -> np.ndarray:
    """Boxes of known sizes, from `largest`/2 to `largest` along x, y and z."""
    sizes = np.random.default_rng(seed).uniform(largest / 2, largest, (count, 3))
    sizes[0] = largest
    folder.mkdir(parents=True, exist_ok=True)
    for i, size in enumerate(sizes):
        save(box(tuple(size)), folder / f"{i:03d}{suffix}")
    return sizes


def models(folder: Path, count: int, top: int = 9) -> list[Blocks]:
    """Painted towers, each its own mirror image from left to right."""
    rng, made = np.random.default_rng(1), []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        half = rng.random((4, int(rng.integers(4, top)), 3)) > 0.4
        filled = np.concatenate([half, half[:, :, ::-1]], 2)
        filled[:, :, 0] = filled[:, :, 5] = True  # so that the middle stays in the middle
        paint = np.full((*filled.shape, 3), 40 + 20 * (i % 5), np.uint8)
        made.append(Blocks.of_grid(filled, paint))
        assert made[-1].paint is not None
        write_vox(made[-1].positions, made[-1].paint, folder / f"{i:03d}.vox")
    return made


def test_sizes_are_kept_where_they_can_be(tmp_path: Path) -> None:
    sizes = boxes(tmp_path, 14, 50.0)
    data = load(tmp_path, options={"shape": {"side": 12}})
    form = data.modality.form
    assert not form.each and form.suffix == ".stl" and form.cell == pytest.approx(50 / 8)
    x, _ = data.train.batch(torch.arange(len(data.train)))
    for made, name in zip(data.modality.decode(x), data.train.names, strict=True):
        found = made.solid()
        assert np.allclose(found.extents, sizes[int(name[:3])], atol=0.2 * form.cell)
        assert volume(found.vertices, found.faces) == pytest.approx(sizes[int(name[:3])].prod(), rel=0.1)
        assert abs(found.bounds[0][2]) < 0.05 * form.cell  # they stand on the floor, in the middle
        assert np.abs(found.bounds[0][:2] + found.bounds[1][:2]).max() < 0.1 * form.cell


def test_sizes_that_differ_too_much_are_given_up_and_that_is_said(tmp_path: Path) -> None:
    boxes(tmp_path / "small", 6, 1.0)
    boxes(tmp_path / "large", 6, 90.0)
    data = load(tmp_path, options={"shape": {"side": 12}})
    assert data.modality.form.each
    assert any(what == "scale" and value == "each" for what, value, _ in data.survey.notes)
    x, _ = data.train.batch(torch.arange(len(data.train)))
    extents = np.array([made.solid().extents.max() for made in data.modality.decode(x)])
    assert np.allclose(extents, extents[0], rtol=0.05)
    kept = load(tmp_path, options={"shape": {"side": 12, "scale": "common"}}).modality.form
    assert not kept.each and kept.cell == pytest.approx(90 / 8)


def test_blocks_are_kept_block_by_block_and_colours_exactly(tmp_path: Path) -> None:
    made = models(tmp_path, 24)
    data = load(tmp_path)
    form = data.modality.form
    assert form.blocks and form.suffix == ".vox" and form.cell == 1.0
    assert form.sides == (4, 8, 8) and len(form.palette) == 5
    x, _ = data.train.batch(torch.arange(len(data.train)))
    for back, name in zip(data.modality.decode(x), data.train.names, strict=True):
        assert back.same(made[int(name[:3])])
    assert form.mirror == "x"  # found in the data


def test_views_are_the_item_or_its_mirror_image(tmp_path: Path) -> None:
    models(tmp_path, 16)
    train = load(tmp_path, options={"shape": {"mirror": "y"}}).train
    index = torch.arange(len(train))
    x, _ = train.batch(index)
    views = torch.stack([train.batch(index, Seeds.of(seed, len(train)))[0] for seed in range(24)])
    same = (views == x).flatten(2).all(2)
    turned = (views == x.flip(-3)).flatten(2).all(2)
    assert (same | turned).all() and same.any() and turned.any()


def test_left_and_right_are_not_mirrored(tmp_path: Path) -> None:
    for side in ("left hand", "right hand"):
        models(tmp_path / side, 6)
    assert load(tmp_path).modality.form.mirror == ""
    assert load(tmp_path, options={"shape": {"mirror": "x"}}).modality.form.mirror == "x"


def test_what_is_larger_than_the_grid_is_shrunk_and_counted(tmp_path: Path) -> None:
    made = models(tmp_path, 12)
    large = np.argwhere(np.ones((24, 8, 30), bool))
    write_vox(large, np.tile(made[0].paint[:1], (len(large), 1)), tmp_path / "zz.vox")  # type: ignore[index]
    data = load(tmp_path, options={"shape": {"side": 8}})
    (note,) = [why for what, _, why in data.survey.notes if what == "grid"]
    assert "1 of 13 models are larger" in note
    both = [split for split in (data.train, data.val) if "zz.vox" in split.names]
    x, _ = both[0].batch(torch.tensor([both[0].names.index("zz.vox")]))
    (small,) = data.modality.decode(x)
    assert small.extents[2] == 8 and small.extents[0] == pytest.approx(24 * 8 / 30, abs=2)


def test_faulty_files_are_named_and_points_stand_aside(tmp_path: Path) -> None:
    boxes(tmp_path, 24, 2.0, ".obj")
    (tmp_path / "nan.obj").write_text("v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n")
    (tmp_path / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    trimesh.PointCloud(np.random.default_rng(0).normal(size=(200, 3))).export(tmp_path / "cloud.ply")
    inverted = box((2.0, 1.5, 1.0))
    inverted.invert()
    save(inverted, tmp_path / "inverted.obj")
    opened = np.array(chair().faces)[2:]
    save(trimesh.Trimesh(chair().vertices, opened), tmp_path / "open.obj")
    survey = load(tmp_path, options={"shape": {"side": 12}}).survey
    assert {name for name, _ in survey.skipped} == {"nan.obj", "flat.obj"}
    assert any(name == "cloud.ply" and "points" in why for name, why in survey.left_alone)
    notes = {what: value for what, value, _ in survey.notes}
    assert notes["meshes: turned"] == "1 of 26" and survey.items == 26
    assert "meshes: holes filled" in notes or "meshes: open" in notes
    assert notes["up"] == "y"


def test_points_alone_become_shapes(tmp_path: Path) -> None:
    clouds = np.stack([trimesh.creation.icosphere(3, 1 + 0.1 * i).vertices for i in range(12)]).astype(
        np.float32
    )
    np.savez(tmp_path / "clouds.npz", points=clouds)
    data = load(tmp_path, options={"shape": {"side": 16}})
    assert data.survey.modality == "shape" and any(what == "points" for what, _, _ in data.survey.notes)
    x, _ = data.train.batch(torch.arange(3))
    assert all(np.ptp(made.solid().extents) < 0.3 for made in data.modality.decode(x))


def test_a_folder_without_shapes_and_options_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0\n")
    with pytest.raises(UserError, match="a.obj"):
        load(tmp_path)
    boxes(tmp_path / "good", 12, 1.0)
    for option, value in (("side", 5), ("scale", "some"), ("up", "w"), ("mirror", "z")):
        with pytest.raises(UserError, match=str(value)):
            load(tmp_path / "good", options={"shape": {option: value}})


def test_more_colours_than_a_palette_holds() -> None:
    from collections import Counter

    from kuosan.modalities.shape_form import Seen

    colours = np.random.default_rng(0).integers(0, 256, (900, 3)).astype(np.uint8)
    assert np.array_equal(unpacked(packed(colours)), colours)
    counts = Counter(packed(colours).tolist())
    form, choices = choose_form([Seen("blocks", (4, 4, 4), 1.0, True)], counts, Counter({".vox": 1}))
    assert 200 < len(form.palette) <= 255 and any("of 900 that occur" in why for _, _, why in choices)
    error = np.abs(form.nearest(colours).astype(int) - colours).mean()
    assert error < 20  # 255 even colours of the cube are about 18 from a random one


def test_the_wish_for_symmetry_is_a_projection() -> None:
    x = torch.randn(5, 4, 6, 5, 7, generator=torch.Generator().manual_seed(0))
    for axes, dims in (("x", [-1]), ("y", [-3]), ("xy", [-1, -3])):
        made = mirrored(x, axes)
        assert all(torch.equal(made, made.flip(dim)) for dim in dims)
        assert torch.equal(mirrored(made, axes), made)
    first, last = x[..., :3], x[..., 4:]
    fuller = ((first[:, 0] < 0).sum((1, 2, 3)) >= (last[:, 0] < 0).sum((1, 2, 3))).tolist()
    made = mirrored(x, "x")
    assert all(
        torch.equal(made[i][..., :3], first[i] if keep else last[i].flip(-1)) for i, keep in enumerate(fuller)
    )


def test_the_wish_to_stand_makes_a_plane_and_leaves_what_is_flat() -> None:
    modality = ShapeModality(ShapeForm((24, 24, 24), 0.1))
    ball = surface(trimesh.creation.icosphere(4, 1.0))
    flat = surface(box((1.5, 1.2, 1.0)))
    x = modality.encode([ball, flat])
    cut, kept = ShapeModality(modality.form, ShapeWishes(flat_base=True)).decode(x)
    assert isinstance(kept, Field) and np.allclose(
        kept.values, modality.decode(x)[1].distances(kept.frame, 3.0), atol=0.02
    )
    solid = cut.solid()
    low = solid.vertices[:, 2].min()
    touching = solid.vertices[np.isclose(solid.vertices[:, 2], low, atol=1e-3)]
    width = np.ptp(touching[:, 0])
    assert width == pytest.approx(2 * np.sqrt(1 - (1 - low) ** 2), abs=0.2)  # the ball, cut at that height
    mesh = trimesh.Trimesh(solid.vertices, solid.faces)
    assert mesh.is_watertight
    assert torch.equal(standing_flat(standing_flat(x, 3.0), 3.0)[1], standing_flat(x, 3.0)[1])
    empty = torch.ones(1, 1, 4, 4, 4)
    assert torch.equal(standing_flat(empty, 3.0), empty)


@pytest.mark.parametrize("blocks", [True, False])
def test_the_wish_for_one_piece_leaves_one_closed_surface(blocks: bool) -> None:
    """Whatever the cells are; twice is once, and what is one piece stays as it is."""
    from kuosan.evaluation.shape.solids import solids

    form = ShapeForm((7, 8, 9), 1.0, blocks=blocks)
    x = torch.randn(40, 1, 7, 8, 9, generator=torch.Generator().manual_seed(1)) - 0.2
    x = x.clamp(-1, 1)
    assert solids(ShapeModality(form).decode(x), 1.0).whole.float().mean() < 0.2
    for axes in ("", "x", "xy"):
        wishes = ShapeWishes(axes, one_piece=True)
        made = wishes(x, 3.0)
        found = solids(ShapeModality(form, wishes).decode(x), 1.0)
        assert found.whole.all() and found.closed.all()
        assert torch.equal(wishes(made, 3.0), made)
    kept = in_one_piece(x)
    assert bool(((kept == x) | (kept == -x) | (kept == -1e-3)).all()), "no distance is made up"
    ball = (torch.stack(torch.meshgrid(*(torch.arange(9.0) - 4,) * 3, indexing="ij")).norm(dim=0) - 3)[
        None, None
    ]
    assert torch.equal(in_one_piece(ball / 8), ball / 8)
    two = torch.cat([ball, ball.roll(1, -1) + 1], -1) / 8  # a larger and a smaller ball, side by side
    assert bool((in_one_piece(two)[..., 9:] >= 0).all()) and torch.equal(in_one_piece(two)[..., :9], ball / 8)
    hollow = (ball.abs() - 1) / 8  # a shell
    assert torch.equal(in_one_piece(hollow) < 0, ball < 1)
    pair = torch.cat([ball, torch.full_like(ball, 4), ball], -1) / 8
    pair[..., 4, 4, 9:18] = -0.1  # a short rod between two balls, alone its own mirror image
    assert bool((in_one_piece(pair, "x")[..., :8] >= 0).all()) and bool(
        (in_one_piece(pair)[..., 18:] >= 0).all()
    )
    empty = torch.ones(1, 1, 4, 4, 4)
    assert torch.equal(in_one_piece(empty), empty) and in_one_piece(empty[:0]).shape == (0, 1, 4, 4, 4)


def test_real_meshes_and_models(shared_data, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = shared_data("meshes") / "formats"
    data = load(folder)
    assert data.survey.items == 10 and not data.survey.skipped
    x, _ = data.train.batch(torch.arange(len(data.train)))
    for made in data.modality.decode(x):
        found = made.solid()
        assert trimesh.Trimesh(found.vertices, found.faces).is_watertight
    (first, *_), names = [
        list(read_shapes(shared_data("voxel_minis") / name)) for name in ("vox/veh_car1.vox", "voxels.npz")
    ]
    (again,) = [item for item in names if item.name == "veh_car1"]
    assert again.shape.same(first.shape) and again.columns["class"] == "veh"
