"""Measures of shapes: known answers, what is chance, and copies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from kuosan.core.random import Seeds
from kuosan.evaluation.base import measure
from kuosan.evaluation.found import Found
from kuosan.evaluation.shape import (
    Gap,
    chamfer,
    chamfer_matrix,
    coverage,
    evaluate_shapes,
    mmd,
    nna,
    solids,
    spacings,
    surface_points,
)
from kuosan.modalities import Blocks, Cloud, PointsModality, ShapeForm, ShapeModality, Surface
from kuosan.modalities.points_form import PointsForm
from tests.modalities.shapes import box, surface

FORM = ShapeForm((8, 8, 8), 1.0)


def apart(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.cdist(x.double(), y.double())


def points(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


def test_chamfer_of_a_shifted_lattice_is_twice_the_squared_shift() -> None:
    lattice = np.argwhere(np.ones((5, 5, 5))).astype(float)
    shift = np.array([0.2, -0.1, 0.3])
    assert chamfer(lattice, lattice) == 0
    assert chamfer(lattice, lattice + shift) == pytest.approx(2 * (shift**2).sum())
    far = lattice[:1] + [100, 0, 0]
    there, back = (100**2), ((lattice - far) ** 2).sum(1).mean()
    assert chamfer(far, lattice) == pytest.approx(((100 - 4) ** 2) + back)
    assert there > 0
    a, b = points(40, 0).view(4, 10, 3).double(), points(60, 1).view(6, 10, 3).double()
    whole = chamfer_matrix(torch.cat([a, b]))
    assert torch.equal(whole, whole.T) and torch.equal(whole[:4, 4:], chamfer_matrix(a, b))
    brute = torch.cdist(a[1], b[2]) ** 2
    assert whole[1, 6] == pytest.approx(float(brute.min(1).values.mean() + brute.min(0).values.mean()))


def test_points_lie_evenly_on_the_surface() -> None:
    made = surface(box((1.0, 2.0, 4.0)))
    (found,) = surface_points([made], Seeds.of(0, 1), 0.5, 4096).numpy() * 0.5
    on = [
        np.isclose(found[:, axis], end).mean()
        for axis in range(3)
        for end in (0, made.vertices[:, axis].max())
    ]
    areas = np.repeat([8.0, 4.0, 2.0], 2)
    assert np.allclose(on, areas / areas.sum(), atol=0.02)
    again = surface_points([made, made], Seeds.of(0, 2), 0.5)
    assert torch.equal(
        again[:1], surface_points([made], Seeds.of(0, 1), 0.5)
    )  # its own draw, whoever is beside it
    assert not torch.equal(again[0], again[1])


def test_alike_sets_cannot_be_told_apart_and_others_can() -> None:
    values, errors = [], []
    for seed in range(60):
        x, y = points(40, 2 * seed), points(40, 2 * seed + 1)
        found = nna(apart(x, x), apart(x, y), apart(y, y))
        values.append(found.value)
        errors.append(found.stderr)
    assert np.mean(values) == pytest.approx(0.5, abs=0.03)
    assert np.std(values) <= np.mean(errors) * 1.1  # the error covers
    x, y = points(40, 1), points(40, 2) + 10
    assert nna(apart(x, x), apart(x, y), apart(y, y)).value == 1.0
    copy = x + 1e-6
    assert nna(apart(x, x), apart(x, copy), apart(copy, copy)).value == 0.0


def test_coverage_and_distance_of_known_sets() -> None:
    reference = torch.arange(10.0)[:, None].repeat(1, 3)
    samples = reference[[0, 0, 3, 3, 7]]
    across = apart(samples, reference)
    assert coverage(across).value == pytest.approx(0.3)
    nearest = [0, 1, 1, 0, 1, 2, 1, 0, 1, 2]
    assert mmd(across).value == pytest.approx(math.sqrt(3) * sum(nearest) / 10)


def test_a_cube_has_its_volume_and_two_cubes_are_two_pieces() -> None:
    one = Blocks.of(np.argwhere(np.ones((3, 4, 5))))
    two = Blocks.of(np.array([[0, 0, 0], [2, 0, 0]]))
    touching = Blocks.of(np.array([[0, 0, 0], [1, 1, 0]]))  # along an edge only
    opened = Surface(np.array(box((1, 1, 1)).vertices), np.array(box((1, 1, 1)).faces)[1:])
    found = solids([one, two, touching, opened, Blocks.of(np.zeros((0, 3), np.int64))], 1.0)
    assert found.closed.tolist() == [True, True, True, False, False]
    assert found.whole.tolist() == [True, False, False, True, False]
    assert found.volume[:2].tolist() == pytest.approx([60, 2], rel=0.01)
    assert found.area[:2].tolist() == pytest.approx([94, 12], rel=0.02)
    assert solids([surface(box((2, 2, 2)))], 0.5).volume.item() == pytest.approx(64)  # in cells


def test_the_gap_of_shifted_volumes() -> None:
    real = torch.linspace(1, 3, 40)[:, None].double()
    assert Gap().value(real + 0.5, real) == pytest.approx(0.25)
    assert Gap().value(real.flip(0), real) == pytest.approx(0)
    found = measure(Gap(), real + 0.5, real, real, generator=torch.Generator().manual_seed(0))
    assert found.floor is not None and found.value > found.floor


def test_everything_is_measured_and_copies_are_found() -> None:
    rng = np.random.default_rng(0)
    modality = ShapeModality(FORM)

    def some(count: int, low: float, high: float) -> list[Surface]:
        return [surface(box(tuple(rng.uniform(low, high, 3)))) for _ in range(count)]

    train, held, fresh, odd = some(24, 2, 4), some(20, 2, 4), some(12, 2, 4), some(12, 0.9, 1.5)
    states = [modality.encode(part) for part in (train, held)]

    def measured(samples: list[Surface]) -> Found:
        found = Found(torch.Generator().manual_seed(0))
        drawn = modality.decode(modality.encode(samples))
        real, other = modality.decode(states[1][:12]), modality.decode(states[0][:12])
        evaluate_shapes(found, modality, drawn, real, other, *states, "note")
        assert not found.left_out
        return found

    good, bad, stolen = (measured(part).metrics for part in (fresh, odd, train[:12]))
    assert all(found["watertight"].value == found["one_piece"].value == 1 for found in (good, bad))
    assert bad["nna_chamfer"].value > 0.9 and good["nna_chamfer"].value < 0.9
    assert bad["mmd_chamfer"].value > 2 * good["mmd_chamfer"].value
    assert bad["volume_gap"].value > good["volume_gap"].value + 0.3
    assert stolen["copies_chamfer"].value == 1.0 and good["copies_chamfer"].value < 0.3
    assert stolen["nearest_distance_chamfer"].value == 0.0
    for name, found in good.items():
        assert found.n == 12 and found.stderr is not None and found.floor is not None, name
    few = Found(torch.Generator().manual_seed(0))
    evaluate_shapes(
        few, modality, modality.decode(states[1][:3]), modality.decode(states[1][3:5]), [], *states, "note"
    )
    assert "nna_chamfer" in few.left_out and "watertight" in few.metrics


def test_balls_are_told_by_their_radius() -> None:
    rows = surface_points(
        [surface(trimesh.creation.icosphere(4, radius)) for radius in (1.0, 1.2)], Seeds.of(0, 2), 1.0
    )
    assert chamfer(rows[0].numpy(), rows[1].numpy()) == pytest.approx(2 * 0.2**2, rel=0.25)


def test_points_of_a_lattice_lie_as_far_apart_as_it_says() -> None:
    lattice = np.argwhere(np.ones((8, 8, 8))) * 0.3
    assert spacings([Cloud(lattice), Cloud(lattice * 2)], 0.1).tolist() == pytest.approx([3, 6])


def test_clouds_are_measured_by_their_points_in_any_order() -> None:
    rng = np.random.default_rng(0)
    modality = PointsModality(PointsForm(512, (2.0, 2.0, 2.0), 2.0, False, 0.0, (-1,) * 3, (1,) * 3))

    def some(count: int, low: float, high: float) -> list[Cloud]:
        return [Cloud(rng.uniform(0, 1, (512, 3)) * rng.uniform(low, high, 3)) for _ in range(count)]

    train, held, fresh, odd = some(24, 2, 4), some(20, 2, 4), some(12, 2, 4), some(12, 0.9, 1.5)
    states = [modality.encode(part) for part in (train, held)]

    def measured(samples: list[Cloud]) -> Found:
        found = Found(torch.Generator().manual_seed(0))
        real, other = modality.decode(states[1][:12]), modality.decode(states[0][:12])
        evaluate_shapes(found, modality, samples, real, other, *states, "note")
        return found

    mixed = [Cloud(rng.permutation(one.points)) for one in train[:12]]
    good, bad, stolen = (measured(part).metrics for part in (fresh, odd, mixed))
    assert bad["nna_chamfer"].value > 0.9 > good["nna_chamfer"].value
    assert bad["mmd_chamfer"].value > 2 * good["mmd_chamfer"].value
    assert bad["spacing_gap"].value > good["spacing_gap"].value + 0.3
    assert stolen["copies_chamfer"].value == 1.0 and good["copies_chamfer"].value < 0.3
    assert stolen["nearest_distance_chamfer"].value == pytest.approx(0, abs=1e-6)
    assert set(measured(fresh).left_out) == {"watertight", "one_piece"}
