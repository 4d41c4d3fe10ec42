"""Starting from a run whose pictures are of another size, or that knows other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import kuosan
from kuosan.errors import UserError
from kuosan.networks.transformer import positions
from kuosan.recipes.export import export
from kuosan.recipes.session import Session
from tests.recipes import small

UNET: dict[str, Any] = {f"network.{k}": None for k in ("patch", "dim", "depth", "heads")} | {
    "network": "unet", "network.base": 8, "network.mults": (1, 2), "network.blocks": 1, "network.attention": (),
}  # fmt: skip
SHORT: dict[str, Any] = {"budget": "1steps", "sampling.steps": 1}
TABLES = {"transformer": "network.table.rows", "unet": "network.unet.class_embedding.weight"}


@pytest.fixture(scope="module", params=TABLES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    folder = tmp_path_factory.mktemp(request.param)
    one = small.session(
        small.pictures(folder / "ramps"), folder / "run",
        **({} if request.param == "transformer" else UNET), **SHORT,
    )  # fmt: skip
    for _ in one.steps():
        pass
    one.write_weights("now")
    return one.run


def others(folder: Path) -> Path:
    """Pictures of 16×16 in a class that is known and two that are not."""
    for k, name in enumerate(("steep", "round", "10")):
        (folder / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.full((16, 16), 40 * k + 3 * i, np.uint8)
            pixels[:k, i] = 255
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def started(run: kuosan.Run, data: Path, out: Path, **leaves: Any) -> Session:
    free = {f"network.{k}": None for k in ("patch", "dim", "depth", "heads")}
    return small.session(data, out, **(free | {"network": "auto", "init": str(run.path), **SHORT} | leaves))


def test_known_classes_are_kept_and_new_ones_begin_as_unknown(run: kuosan.Run, tmp_path: Path) -> None:
    one = started(run, others(tmp_path / "data"), tmp_path / "next")
    assert one.facts.columns == {"class": ["flat", "steep", "wide", "10", "round"]}
    name = TABLES[run.facts.network["kind"]]
    before, after = run.model.state_dict()[name], one.training.denoiser.state_dict()[name]
    assert torch.equal(after[:3], before[:3]) and torch.equal(after[-1], before[-1])
    assert torch.equal(after[3:5], before[-1:].expand(2, -1))
    rest = {k: v for k, v in run.model.state_dict().items() if k != name}
    assert all(torch.equal(v, one.training.denoiser.state_dict()[k]) for k, v in rest.items())
    labels = {
        n.split("/")[0]: int(v)
        for n, v in zip(one.data.train.names, one.data.train.labels["class"], strict=True)
    }
    assert labels == {"steep": 1, "10": 3, "round": 4}
    x, t = torch.zeros(1, 1, 8, 8), torch.full((1,), 0.5, dtype=torch.float64)
    for index in (0, 1, 2, 5):  # the last is null
        own = run.denoiser(x, t, **{"class": torch.tensor([min(index, 3)])}).mean
        assert torch.equal(one.training.average(x, t, **{"class": torch.tensor([index])}).mean, own)


def test_pictures_may_be_of_another_size(run: kuosan.Run, tmp_path: Path) -> None:
    one = started(run, others(tmp_path / "data"), tmp_path / "next", **{"data.size": 16})
    assert one.data.train.x.shape[1:] == (1, 16, 16)
    for _ in one.steps():
        pass
    one.write_weights("now")
    again = kuosan.load(one.run.path)
    assert again.sample(2, steps=2, seed=0).x.shape == (2, 1, 16, 16)
    if run.facts.network["kind"] == "transformer":
        assert tuple(again.facts.network["reach"]) == (2, 2)
        with pytest.raises(UserError, match="2×2 patches"):
            export(again, "diffusers", tmp_path / "out")


def test_positions_of_another_size_lie_middle_on_middle() -> None:
    assert torch.equal(positions((3, 5), 16, (3, 5)), positions((3, 5), 16))
    fine, coarse = positions((6, 4), 16, (3, 2)).view(6, 4, 16), positions((3, 2), 16).view(3, 2, 16)
    # sin and cos of (i + ½)/2 - ½, the frequencies 1, 10⁻¹ …
    across = (torch.arange(4) + 0.5) / 2 - 0.5
    assert torch.allclose(fine[0, :, 0], across.sin()) and torch.allclose(fine[2, :, 4], across.cos())
    assert torch.allclose(
        fine[::2, 0, 11] + fine[1::2, 0, 11], 2 * coarse[:, 0, 11], atol=1e-4
    )  # slow waves are lines
    assert not torch.allclose(fine[0], fine[1])
