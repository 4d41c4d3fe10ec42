"""Signed distances of meshes against closed forms, and surfaces of grids against theirs."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy import ndimage

from kuosan.modalities.shape_distance import cloud_distance, mesh_distance
from kuosan.modalities.shape_frame import Frame, to_grid, to_space, turned, turned_volume
from kuosan.modalities.shape_mesh_file import balanced, clustered, sound
from kuosan.modalities.shape_raw import Blocks, Cloud, Field, Surface
from kuosan.modalities.shape_rays import votes
from kuosan.modalities.shape_surface import blocks_surface, level_set, quads, volume
from tests.modalities.shapes import box, box_distance, chair, places, surface

FRAME = Frame((20, 24, 16), 0.5, 2.0)
REACH = 3.0


def ball(radius: float, fine: int = 4) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(fine, radius)


def solid(vertices: np.ndarray, faces: np.ndarray) -> trimesh.Trimesh:
    """As somebody else's reader has it: vertices joined where they are in one place."""
    return trimesh.Trimesh(vertices, faces, process=True)


def test_a_box_has_the_distance_of_its_closed_form() -> None:
    mesh = box((5.0, 6.0, 8.0))
    found = surface(mesh).distances(FRAME, REACH)
    low, high = np.array([-2.5, -3.0, 0.0]), np.array([2.5, 3.0, 8.0])
    exact = np.clip(box_distance(places(FRAME), low, high) / FRAME.cell, -REACH, REACH)
    assert np.abs(found - exact).max() < 1e-5


def test_overlapping_parts_are_one_solid_without_walls_inside() -> None:
    found = surface(chair()).distances(Frame((24, 24, 24), 1.0, 2.0), REACH)
    at = places(Frame((24, 24, 24), 1.0, 2.0))
    parts = [((-4, -5, 0), (4, 5, 6)), ((-4, 2, 0), (4, 5, 14))]
    each = [box_distance(at, np.array(low, float), np.array(high, float)) for low, high in parts]
    exact = np.minimum(*each)
    assert ((found < 0) == (exact < 0)).all()
    near = np.abs(exact) < REACH
    assert np.abs(found - exact)[near & (exact > 0)].max() < 0.05
    # walls within the solid are no surface: the distance inside is to the bottom, the back and the sides
    deep = box_distance(at, np.array([-4.0, -5, 0]), np.array([4.0, 5, 14]))
    below = (at[..., 1] > -2) & (at[..., 2] < 3)
    assert np.abs(found - np.clip(deep, -REACH, REACH))[below & (exact < 0)].max() < 0.05


def test_a_ball_comes_back_with_its_radius() -> None:
    frame = Frame((24, 24, 24), 0.1, 2.0)
    field = Field(surface(ball(0.95)).distances(frame, REACH), frame)
    back = field.solid()
    radius = np.linalg.norm(back.vertices - [0, 0, 0.95], axis=1)
    assert np.abs(radius - 0.95).max() < 0.1 * frame.cell
    assert volume(back.vertices, back.faces) == pytest.approx(4 / 3 * np.pi * 0.95**3, rel=0.02)


def test_rays_count_the_cells_of_a_ring() -> None:
    mesh = trimesh.creation.torus(20.0, 7.0, major_sections=96, minor_sections=48)
    inside, heard = votes(mesh.triangles + 31.5, (64, 64, 64))
    assert (heard == 3).all() and set(np.unique(inside)) == {0, 3}
    assert (inside == 3).sum() == pytest.approx(mesh.volume, rel=0.01)
    mixed = mesh.triangles.copy()
    mixed[::2] = mixed[::2, ::-1]  # half of the faces look inwards
    parity, _ = votes(mixed + 31.5, (64, 64, 64), oriented=False)
    assert ((parity == 3) == (inside == 3)).all()


def test_holes_flips_and_cavities() -> None:
    frame, mesh = Frame((20, 20, 20), 0.5, 2.0), box((8.0, 8.0, 8.0))
    whole = surface(mesh).distances(frame, REACH)
    lid = (np.asarray(mesh.triangles)[:, :, 2] > 7.99).all(1)
    opened = sound(mesh.vertices.copy(), np.array(mesh.faces)[~lid])
    middle = (10, 10, 10)
    for found in (sound(mesh.vertices.copy(), np.array(mesh.faces)[:, ::-1]), opened):
        assert (found.distances(frame, REACH)[2:14, 2:14, 2:14] < 0).sum() == (
            whole[2:14, 2:14, 2:14] < 0
        ).sum()
    assert sound(mesh.vertices.copy(), np.array(mesh.faces)[:, ::-1]).mended == "turned"
    inner = box((5.0, 5.0, 5.0), (1.5, 1.5, 1.5))
    hollow = trimesh.Trimesh(
        np.concatenate([mesh.vertices, inner.vertices]),
        np.concatenate([mesh.faces, inner.faces[:, ::-1] + 8]),
    )
    made = sound(np.array(hollow.vertices), np.array(hollow.faces))
    assert made.distances(frame, REACH)[middle] > 0 > whole[middle]


def test_clustering_keeps_what_is_closed_closed() -> None:
    mesh = ball(1.0, 4)
    vertices, faces = clustered(np.array(mesh.vertices), np.array(mesh.faces), 0.15)
    assert len(faces) < len(mesh.faces) / 3 and balanced(faces)
    assert volume(vertices, faces) == pytest.approx(mesh.volume, rel=0.06)
    assert np.linalg.norm(vertices, axis=1) == pytest.approx(1.0, abs=1e-3)
    assert not balanced(faces[1:])


def test_small_holes_are_filled() -> None:
    mesh = ball(4.0, 2)
    made = sound(np.array(mesh.vertices), np.array(mesh.faces)[1:])
    assert made.closed and made.mended == "holes filled"


def test_legs_thinner_than_a_cell_stay() -> None:
    frame = Frame((24, 24, 24), 1.0, 2.0)
    legs = [box((0.3, 0.3, 14), (x, y, 0)) for x in (0.1, 17.6) for y in (0.1, 17.6)]
    table = trimesh.util.concatenate([box((18, 18, 3), (0, 0, 14)), *legs])
    made = surface(table).distances(frame, REACH)
    assert ndimage.label(made < 0)[1] == 1 and (made[:, 3, :] < 0).any()
    sheet = trimesh.Trimesh([[0, 0, 0], [9, 0, 0], [9, 9, 9], [0, 9, 9]], [[0, 1, 2], [0, 2, 3]])
    leaf = Field(surface(sheet, closed=False).distances(frame, REACH), frame).solid()
    assert solid(leaf.vertices, leaf.faces).is_watertight and solid(leaf.vertices, leaf.faces).body_count == 1


def test_points_enclose_their_inside() -> None:
    frame = Frame((24, 24, 24), 0.1, 2.0)
    points = np.array(trimesh.creation.icosphere(4, 0.8).vertices)
    found = Cloud(points).distances(frame, REACH)
    apart = (np.linalg.norm(places(frame) - [0, 0, 0.8], axis=-1) - 0.8) / frame.cell
    assert (found[apart < -0.5] < 0).all() and (found[apart > 2.0] > 0).all()
    assert cloud_distance(np.array([[8.0, 8, 8]] * 40), Frame((16, 16, 16), 1.0), REACH).min() < 0


@pytest.mark.parametrize("seed", range(4))
def test_surfaces_of_grids_are_closed_whatever_the_grid(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(12, 13, 14))
    field = np.float32(ndimage.gaussian_filter(noise, 1.0 * (seed % 2)))
    field[field == field.min()] = 0.0  # on the surface to the bit
    mesh = solid(*level_set(field))
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    filled = noise[:6, :7, :8] > 0
    vertices, faces, block = blocks_surface(filled)
    mesh = solid(vertices, faces)
    assert mesh.is_watertight and mesh.volume == pytest.approx(filled.sum(), rel=0.02)
    assert filled[tuple(block.T)].all()
    assert (
        np.abs(vertices[:, [1, 2, 0]] - block).max() <= 0.5 + 1e-9
    )  # a vertex belongs to the block that it is on


def test_the_faces_to_draw_are_those_between_full_and_empty() -> None:
    filled = np.random.default_rng(5).random((5, 6, 7)) > 0.5
    padded = np.pad(filled, 1)
    exposed = sum(int((padded != np.roll(padded, 1, axis)).sum()) for axis in range(3))
    vertices, faces, _ = quads(filled)
    assert len(faces) == 2 * exposed
    assert trimesh.Trimesh(vertices, faces, process=False).area == pytest.approx(exposed)
    assert volume(vertices, faces) == pytest.approx(filled.sum())  # so all of them look outwards


def test_an_empty_grid_has_an_empty_surface() -> None:
    vertices, faces = level_set(np.full((4, 4, 4), 2.0, np.float32))
    assert len(vertices) == len(faces) == 0
    assert Surface(vertices, faces).distances(FRAME, REACH).min() == REACH


def test_turning_up_is_a_rotation_and_goes_back() -> None:
    points = np.random.default_rng(0).normal(size=(9, 3))
    for up, column in (("x", 0), ("y", 1), ("z", 2)):
        there = turned(points, up)
        assert np.array_equal(there[:, 2], points[:, column])
        assert np.array_equal(turned(there, up, back=True), points)
        basis = turned(np.eye(3), up)
        assert np.linalg.det(basis) == pytest.approx(1.0)
        filled = np.random.default_rng(1).random((3, 4, 5)) > 0.5
        blocks = Blocks.of(turned(np.argwhere(filled).astype(float), up).astype(np.int64))
        assert blocks.same(Blocks.of_grid(to_grid(turned_volume(filled, up))))
    assert np.array_equal(to_space(to_grid(filled)), filled)


def test_distances_do_not_mind_the_order_of_faces() -> None:
    mesh = chair()
    order = np.random.default_rng(2).permutation(len(mesh.faces))
    frame = Frame((16, 20, 16), 1.0, 2.0)
    tri = frame.cells(np.array(mesh.vertices), *mesh.bounds)[np.array(mesh.faces)]
    one, other = (mesh_distance(part, frame, REACH, True, True) for part in (tri, tri[order]))
    assert np.abs(one - other).max() < 0.1
