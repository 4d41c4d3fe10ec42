"""Clouds of points: where they stand, how many there are, that their order does not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import Cloud, PointsModality, load
from kuosan.modalities.points import mirrored
from kuosan.modalities.points_form import PointsForm, choose_form, points_of, stood
from kuosan.modalities.shape_form import Seen
from tests.modalities.shapes import box, surface

OPTIONS = {"shape": {"form": "points"}}


def form(count: int = 64, **facts: object) -> PointsForm:
    known = {"centre": (0.0, 0.0, 1.0), "spread": 0.5, "standing": False, "longest": 0.0}
    return PointsForm(count, **known | {"low": (-2.0, -3.0, -1.0), "high": (2.0, 1.0, 1.0)} | facts)  # type: ignore[arg-type]


def cloud(seed: int, count: int = 64) -> Cloud:
    return Cloud(np.random.default_rng(seed).normal(size=(count, 3)) * [1, 2, 3] + [4, 5, 6])


def save(folder: Path, clouds: list[np.ndarray]) -> Path:
    folder.mkdir()
    for i, points in enumerate(clouds):
        trimesh.PointCloud(points).export(folder / f"{i:02d}.ply")
    return folder


def test_a_state_is_where_points_are_over_their_spread() -> None:
    raw = cloud(0)
    (x,) = PointsModality(form()).encode([raw])
    assert np.allclose(x.T.double() * 0.5 + torch.tensor([0, 0, 1.0]), raw.points, atol=1e-5)


def test_standing_shapes_lose_their_place_alone() -> None:
    modality = PointsModality(form(standing=True))
    raws = [Cloud(cloud(1).points + place) for place in ([0, 0, 0], [7, -30, 4])]
    x = modality.encode(raws)
    assert torch.allclose(x[0], x[1], atol=1e-5)
    for back in modality.decode(x):
        low, high = back.bounds
        assert np.allclose((low + high)[:2], 0, atol=1e-5) and low[2] == pytest.approx(0, abs=1e-5)
        moved = raws[0].points - back.points
        assert np.ptp(moved, axis=0).max() < 1e-5, "by one and the same way"
    each = PointsModality(form(standing=True, longest=3.0))
    for back in each.decode(each.encode([cloud(1), Cloud(cloud(1).points * 9)])):
        assert back.extents.max() == pytest.approx(3.0)


def test_shapes_that_lie_about_one_place_stay_and_others_stand() -> None:
    rng = np.random.default_rng(0)
    about = [rng.normal(size=(50, 3)) for _ in range(12)]
    scattered = [points + rng.normal(size=3) * 20 for points in about]
    for clouds, standing in ((about, False), (scattered, True)):
        bounds = [(points.min(0), points.max(0)) for points in clouds]
        made, told = choose_form(clouds, bounds, 50)
        assert made.standing == standing and told[0][0] == "place"
        x = np.stack([made.states(*one) for one in zip(clouds, bounds, strict=True)])
        assert np.sqrt((x.astype(float) ** 2).mean()) == pytest.approx(1.0, rel=1e-5)
        assert np.abs(x.mean((0, 2))).max() < (0.2 if standing else 1e-5)
        assert (x.min((0, 2)) >= np.array(made.low) - 1e-5).all()
        assert (x.max((0, 2)) <= np.array(made.high) + 1e-5).all()
        assert PointsForm.of_json(made.to_json()) == made
    sizes = [points * 10.0 ** (i % 3) for i, points in enumerate(about)]
    made, _ = choose_form(sizes, [(p.min(0), p.max(0)) for p in sizes], 50)
    assert made.standing and made.longest > 0
    assert not choose_form(sizes, [(p.min(0), p.max(0)) for p in sizes], 50, scale="common")[0].longest


def test_how_many_points_there_are() -> None:
    def seen(*counts: int) -> list[Seen]:
        return [Seen("points", (1, 1, 1), points=n) for n in counts]

    assert points_of(seen(*[5000] * 30), None, 512)[:2] == (512, 2048)
    assert points_of(seen(*[1000] * 30), None, 512)[:2] == (512, 1000), "no point twice"
    assert points_of(seen(*[200] * 30), None, 512)[:2] == (200, 200)
    assert points_of(seen(*[200] * 12, 60), None, 512)[:2] == (200, 200), (
        "one small cloud makes no other smaller"
    )
    count, kept, (_, _, why) = points_of(seen(*[900] * 30, 40), 600, 512)
    assert (count, kept) == (600, 900) and "1 of 31 clouds have fewer" in why
    assert points_of([Seen("surface", (1, 1, 1))], None, 512)[:2] == (512, 2048)
    with pytest.raises(UserError, match="from 32 to 8192"):
        points_of(seen(900), 16, 512)


def test_a_cloud_is_thinned_or_has_points_twice_and_is_itself_where_it_fits() -> None:
    many, few = cloud(0, 100), cloud(0, 30)
    assert many.points_of(100) is many.points
    thinned = many.points_of(60)
    assert len(np.unique(thinned, axis=0)) == 60
    assert {tuple(p) for p in thinned} < {tuple(p) for p in many.points}
    assert np.array_equal(thinned, many.points_of(60))
    assert not np.array_equal(thinned, many.points[:60]), "files have an order, such as from below"
    filled = few.points_of(45)
    assert filled.shape == (45, 3)
    assert {tuple(p) for p in filled} == {tuple(p) for p in few.points}


def test_meshes_become_points_of_their_surface() -> None:
    modality = PointsModality(form(600))
    (back,) = modality.decode(modality.encode([surface(box((1.0, 2.0, 3.0)))]))
    assert isinstance(back, Cloud) and back.count == 600
    inner = np.abs(back.points - [0.5, 1, 1.5]) - np.array([0.5, 1, 1.5])
    assert np.abs(inner.max(1)).max() < 1e-5, "on a face"
    on = [np.isclose(inner[:, axis], 0, atol=1e-5).mean() for axis in range(3)]
    assert np.allclose(on, np.array([6, 3, 2]) / 11, atol=0.06), "by area"


def test_training_sees_other_points_of_an_item_each_time_and_all_of_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(400, 3)) * [1, 1, 2] for _ in range(8)]
    data = load(
        save(tmp_path / "x", clouds), options={"shape": {"form": "points", "side": 100, "mirror": "none"}}
    )
    modality, storage = data.modality, data.train.x
    assert isinstance(modality, PointsModality)
    assert tuple(storage.shape[1:]) == (3, 400)
    known = {tuple(p) for p in storage[0].T.tolist()}
    met: set[tuple[float, ...]] = set()
    for seed in range(40):
        (x,) = modality.to_state(storage[:1], Seeds.of(seed, 1))
        mine = {tuple(p) for p in x.T.tolist()}
        assert len(mine) == 100 and mine <= known, "none twice"
        met |= mine
    assert met == known
    assert torch.equal(modality.to_state(storage[:1])[0], storage[0, :, :100])


def test_half_of_the_views_are_mirrored() -> None:
    modality = PointsModality(form(40, mirror="x"))
    storage = modality.encode([cloud(0, 40)]).expand(400, -1, -1)
    x = modality.to_state(storage, Seeds.of(0, 400))
    turned = x.sum(2)[:, 0] * storage[0, 0].sum() < 0
    assert turned.double().mean() == pytest.approx(0.5, abs=0.08)
    assert torch.allclose(x.sum(2)[:, 1:], storage.sum(2)[:, 1:], atol=1e-3)


def test_an_axis_is_mirrored_where_shapes_are_like_their_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    halves = [rng.uniform(0.2, 1, (300, 3)) for _ in range(8)]
    clouds = [np.concatenate([half, half * [-1, 1, 1]]) for half in halves]
    for i, points in enumerate(clouds):  # a wedge along y
        clouds[i] = points[points[:, 2] < 1.1 * points[:, 1]]
    data = load(save(tmp_path / "x", clouds), options=OPTIONS)
    assert data.modality.form.mirror == "x"  # type: ignore[attr-defined]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(1, 3), st.integers(0, 99))
def test_density_is_of_all_points_in_any_order(count: int, items: int, seed: int) -> None:
    """Squares sum to the cells, wherever the points lie, also beyond the grid."""
    made = form(count)
    x = torch.randn(items, 3, count, generator=torch.Generator().manual_seed(seed)) * 3
    found = made.density(x)
    sides, cell = made.grid()
    assert cell == 4 / 16 and sides == (16, 8, 16) and found.shape == (items, 1, *sides)
    assert torch.allclose(
        found.square().sum((1, 2, 3, 4)), torch.tensor(float(np.prod(sides))).expand(items), rtol=1e-4
    )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + 1))
    assert torch.allclose(made.density(x[:, :, order]), found, atol=1e-3)


def test_density_is_where_the_points_are() -> None:
    """One point on a cell's centre, and one between two of them."""
    made = form(2)
    at = torch.tensor([[0.125, 0.125], [-2.875, -2.75], [0.875, 0.875]])[None]  # x, y, z; y runs along depth
    found = made.density(at)[0, 0].square() / (16 * 8 * 16 / 2)
    assert found[0, 7, 8] == pytest.approx(1.5) and found[1, 7, 8] == pytest.approx(0.5)
    assert float(found.sum()) == pytest.approx(2)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 41), st.sampled_from(["x", "y", "xy"]), st.integers(0, 99))
def test_symmetric_clouds_are_their_own_images_and_stay(count: int, axes: str, seed: int) -> None:
    x = torch.randn(2, 3, count, generator=torch.Generator().manual_seed(seed)) + 0.3
    once = mirrored(x, axes)
    for axis in axes[-1:]:
        sign = torch.ones(3)
        sign["xy".index(axis)] = -1
        for one in once:
            mine, other = ({tuple(p) for p in (v + 0.0).T.tolist()} for v in (one, one * sign[:, None]))
            assert mine == other
    if len(axes) == 1:
        again = mirrored(once, axes)
        for one, two in zip(once, again, strict=True):
            assert sorted((one + 0.0).T.tolist()) == sorted((two + 0.0).T.tolist())
            known = {tuple(np.abs(p).round(5)) for p in x.transpose(1, 2).reshape(-1, 3).tolist()}
            kept = {tuple(np.abs(p).round(5)) for p in one.T.tolist() if p["xy".index(axes)] != 0}
            assert kept <= known, "points of it, or their images"


def test_the_fuller_half_is_kept() -> None:
    x = torch.rand(1, 3, 40, generator=torch.Generator().manual_seed(0)) + 0.1
    x[0, 0, :10] *= -1
    for sign in (1, -1):
        made = mirrored(x * sign, "x")[0]
        half = made[:, made[0] * sign > 0]
        known = {tuple(p) for p in (x[0] * sign).T.tolist()}
        assert half.shape[1] == 20 and {tuple(p) for p in half.T.tolist()} <= known


def test_regions_are_shares_of_each_item() -> None:
    modality = PointsModality(form(64))
    x = modality.encode([cloud(0), Cloud(cloud(1).points * 7 + 100)])
    low = modality.region("height", "0-50%", x)
    for one, inside in zip(x, low, strict=True):
        middle = (one[2].max() + one[2].min()) / 2
        assert torch.equal(inside[0], one[2] < middle) and torch.equal(inside[0], inside[2])
    assert bool(modality.region("width", "0-100%", x).all())
    assert torch.equal(low | modality.region("height", "50%-100%", x), torch.ones_like(low))
    assert modality.region("point", "0-25%", x)[0, 0].sum() == 16
    with pytest.raises(UserError, match="no axis"):
        modality.region("time", "0-25%", x)
    shown = modality.showing(x, low)
    for one, inside, seen in zip(x, low[:, 0], shown, strict=True):
        assert {tuple(p) for p in seen.T.tolist()} == {tuple(p) for p in one[:, inside].T.tolist()}


def test_points_are_drawn_in_the_colours_that_are_asked_for() -> None:
    modality = PointsModality(form(64))
    x = modality.encode([cloud(0)])
    red = np.array(modality.coloured(x, np.full((64, 3), [200, 0, 0], np.uint8)))
    usual = np.array(modality.show(modality.decode(x), 1))
    assert red.shape == usual.shape
    ink = red.min(-1) < 250
    assert np.array_equal(ink, usual.min(-1) < 250) and ink.sum() > 50
    assert np.array_equal(red[ink][:, 1], red[ink][:, 2]), "no colour but red, on white"
    assert not np.array_equal(usual[ink][:, 1], usual[ink][:, 2])


@pytest.mark.parametrize("kind", ["ply", "npz"])
def test_points_come_back_from_files(kind: str, tmp_path: Path) -> None:
    modality = PointsModality(form(64))
    raw = cloud(0)
    back = modality.read(modality.write(raw, tmp_path / f"a.{kind}"))
    assert isinstance(back, Cloud) and np.array_equal(back.points, raw.points)
    other = trimesh.load(tmp_path / "a.ply") if kind == "ply" else np.load(tmp_path / "a.npz")
    points = other.vertices if kind == "ply" else other["points"]  # type: ignore[union-attr, index]
    assert np.array_equal(points, raw.points)
    on_a_map = Cloud(raw.points + [4_512_345.678, 512_345.678, 0])
    back = modality.read(modality.write(on_a_map, tmp_path / f"b.{kind}"))
    assert back.same(on_a_map), "to the bit, also far from the origin"


@pytest.mark.parametrize("kind", ["stl", "glb", "obj", "off"])
def test_surfaces_around_points_are_closed(kind: str, tmp_path: Path) -> None:
    modality = PointsModality(form(900))
    raw = modality.decode(modality.encode([surface(box((1.0, 2.0, 3.0)))]))[0]
    mesh = trimesh.load_mesh(modality.write(raw, tmp_path / f"a.{kind}"))
    mesh.merge_vertices()
    assert mesh.is_watertight and mesh.volume == pytest.approx(6, rel=0.5)
    with pytest.raises(UserError, match="not written as .vox"):
        modality.write(raw, tmp_path / "a.vox")


def test_points_beside_meshes_are_left_out_and_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "x", [cloud(0).points])
    for i in range(6):
        box((1 + i / 10, 2, 3)).export(folder / f"box{i}.stl")
    data = load(folder, options=OPTIONS)
    assert len(data.train) + len(data.val) == 6
    assert any("points beside shapes with a surface" in why for _, why in data.survey.left_alone)
    again = load(folder, like=PointsModality.from_spec(data.modality.spec()))
    index = torch.arange(len(data.train))
    assert torch.equal(again.train.batch(index)[0], data.train.batch(index)[0])


def test_stood_is_where_a_box_stands() -> None:
    points = np.array([[1.0, 2, 3], [3, 8, 4]])
    assert np.array_equal(stood(points, (points[0], points[1])), [[-1, -3, 0], [1, 3, 1]])
    assert np.allclose(stood(points, (points[0], points[1]), 12), [[-2, -6, 0], [2, 6, 2]])
