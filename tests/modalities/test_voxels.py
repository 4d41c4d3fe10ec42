"""Voxels as tokens: the same data as shapes have, one value for each cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import Blocks, ShapeForm, ShapeModality, ShapeWishes, VoxelModality, load
from kuosan.modalities.shape_vox import write_vox

PALETTE = ((0, 0, 0), (30, 200, 40), (250, 30, 20))
FORM = ShapeForm((4, 8, 8), 1.0, True, palette=PALETTE, suffix=".vox", mirror="xy")


def painted(seed: int, colours: np.ndarray | None = None) -> Blocks:
    rng = np.random.default_rng(seed)
    table = np.array(PALETTE, np.uint8) if colours is None else colours
    filled = rng.random((4, 5, 6)) > 0.5
    filled[0, 0, 0] = filled[-1, -1, -1] = True
    return Blocks.of_grid(filled, table[rng.integers(0, len(table), filled.shape)])


def folder(path: Path, n: int = 12, colours: int = 3) -> Path:
    rng = np.random.default_rng(0)
    table = rng.permutation(np.stack(np.meshgrid(*[range(0, 256, 30)] * 3), -1).reshape(-1, 3))[:colours]
    path.mkdir()
    for i in range(n):
        blocks = painted(i, table.astype(np.uint8))
        assert blocks.paint is not None
        write_vox(blocks.positions, blocks.paint, path / f"{i:02d}.vox")
    return path


def test_a_token_is_empty_or_a_colour() -> None:
    modality, raw = VoxelModality(FORM), painted(0)
    assert modality.tokeniser.size == 4
    x = modality.encode([raw])
    assert x.dtype == torch.int64
    assert x.shape == (1, 256)
    assert int((x > 0).sum()) == len(raw.positions)
    assert raw.paint is not None
    for k, colour in enumerate(PALETTE):
        assert int((x == 1 + k).sum()) == int((raw.paint == colour).all(1).sum())


def test_both_forms_say_the_same_of_the_same_data() -> None:
    """Signs of the distances and colours, of items and of their mirrored views alike."""
    voxels, shapes = VoxelModality(FORM), ShapeModality(FORM)
    assert voxels.distances.spec() == shapes.spec()
    storage = torch.from_numpy(np.stack([shapes.fit(painted(i)) for i in range(8)]))
    for seeds in (None, Seeds.of(3, 8)):
        x, numbers = voxels.grid(voxels.to_state(storage, seeds)), shapes.to_state(storage, seeds)
        inside = numbers[:, :1] < 0
        assert torch.equal(x[:, :1] < 0, inside)
        assert torch.equal(x[:, 1:] * inside, numbers[:, 1:] * inside)
    turned = voxels.to_state(storage, Seeds.of(3, 8))
    assert not torch.equal(turned, voxels.to_state(storage))


def test_wishes_hold_in_what_is_decoded() -> None:
    x = VoxelModality(FORM).encode([painted(1), painted(2)])
    for raw in VoxelModality(FORM, ShapeWishes("x")).decode(x):
        assert isinstance(raw, Blocks)
        assert raw.paint is not None
        colour = {
            tuple(at): tuple(paint)
            for at, paint in zip(raw.positions.tolist(), raw.paint.tolist(), strict=True)
        }
        last = int(raw.positions[:, 0].max())
        assert colour == {(last - x, y, z): paint for (x, y, z), paint in colour.items()}


def test_colours_are_few_unless_more_are_asked_for(tmp_path: Path) -> None:
    place = folder(tmp_path / "x", colours=60)
    found = load(place, options={"shape": {"form": "voxels"}})
    assert found.modality.tokeniser.size == 32  # type: ignore[attr-defined]
    assert any("each is a value to learn" in why for _, _, why in found.survey.notes)
    many = load(place, options={"shape": {"form": "voxels", "colours": 100}})
    assert many.modality.tokeniser.size == 61  # type: ignore[attr-defined]
    assert load(place).modality.name == "shape"
    assert len(load(place).modality.form.palette) == 60  # type: ignore[attr-defined]


def test_meshes_become_the_cells_that_they_fill(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for i in range(6):
        trimesh.creation.box((1 + i / 10, 2, 3)).export(tmp_path / "x" / f"{i}.stl")
    data = load(tmp_path / "x", options={"shape": {"form": "voxels"}})
    assert data.modality.tokeniser.size == 2  # type: ignore[attr-defined]
    x, _ = data.train.batch(torch.arange(len(data.train)))
    for raw, row in zip(data.modality.decode(x), x, strict=True):
        assert isinstance(raw, Blocks)
        assert len(raw.positions) == int(row.sum())
        cell = data.modality.form.cell  # type: ignore[attr-defined]
        assert np.allclose(sorted(raw.extents)[1:], [2, 3], atol=1.01 * cell)


def test_states_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="256"):
        VoxelModality(FORM).decode(torch.zeros(1, 255, dtype=torch.int64))


def test_a_modality_is_built_again_with_its_data(tmp_path: Path) -> None:
    place = folder(tmp_path / "x")
    data = load(place, options={"shape": {"form": "voxels"}})
    again = load(place, like=VoxelModality.from_spec(data.modality.spec()))
    index = torch.arange(len(data.train))
    assert isinstance(again.modality, VoxelModality)
    assert torch.equal(again.train.batch(index)[0], data.train.batch(index)[0])
    with pytest.raises(UserError):
        load(tmp_path / "nothing", like=data.modality)
