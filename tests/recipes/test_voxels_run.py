"""Runs over voxels: from a folder to samples that keep cells of a shape that is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kuosan
from kuosan.cli import main
from kuosan.errors import UserError
from kuosan.modalities import VoxelModality
from kuosan.modalities.shape_vox import write_vox
from kuosan.recipes.compare import compare
from kuosan.recipes.masked_finish import OWN
from kuosan.recipes.opening import reopen, settle
from kuosan.recipes.schema import Recipe
from kuosan.recipes.voxels_wishes import rules_of_voxels

SMALL: dict[str, Any] = {
    "data__form": "voxels",
    "network__dim": 32,
    "network__depth": 1,
    "training__batch": 8,
    "sampling__steps": 4,
}


@pytest.fixture(scope="module", autouse=True)
def _few_samples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OWN, "voxels", replace(OWN["voxels"], most=32))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Towers with red roofs, grey and white ones."""
    out, chance = tmp_path_factory.mktemp("voxels") / "towers", np.random.default_rng(0)
    for i in range(48):
        wall = ([90, 90, 100], [240, 240, 240])[i % 2]
        size = chance.integers(3, 8, 3)
        filled = np.argwhere(np.ones(size, bool))
        colours = np.where(filled[:, 2:] == size[2] - 1, [200, 60, 40], wall).astype(np.uint8)
        (out / ("grey", "white")[i % 2]).mkdir(parents=True, exist_ok=True)
        write_vox(filled, colours, out / ("grey", "white")[i % 2] / f"{i:02d}.vox")
    return out


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """To be read only."""
    return kuosan.train(folder, out=tmp_path_factory.mktemp("runs") / "towers", budget="60steps", **SMALL)


def test_a_folder_becomes_a_run_with_all_that_belongs_to_one(run: kuosan.Run) -> None:
    assert isinstance(run.modality, VoxelModality)
    assert run.facts.network["kind"] == "cells"
    assert run.facts.network["size"] == 4
    assert run.facts.recipe.data.form == "voxels"
    assert list(run.facts.columns) == ["class"]
    metrics = json.loads((run.path / "summary.json").read_text())["metrics"]
    for name in ("bits_per_voxel", "bits_per_token", "nna_chamfer", "watertight", "fd_raw"):
        assert metrics[name]["n"] > 0
    assert metrics["bits_per_voxel"]["value"] < 12
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert "A model of voxels" in report
    assert report.count("data:image/webp;base64,") >= 3


def test_it_learns_where_cells_are(run: kuosan.Run) -> None:
    """Far below what a model would score that knows how often each value occurs."""
    items = [run.modality.read(p) for p in sorted(Path(run.facts.recipe.data.path).rglob("*.vox"))]
    x = run.modality.encode(items)
    share = torch.bincount(x.flatten(), minlength=4).double() / x.numel()
    blind = float(-(share * share.clamp_min(1e-9).log2()).sum())
    metrics = json.loads((run.path / "summary.json").read_text())["metrics"]
    assert metrics["bits_per_token"]["value"] < 0.7 * blind


def test_given_cells_stay(run: kuosan.Run, folder: Path, tmp_path: Path) -> None:
    source = next(iter(sorted(folder.rglob("*.vox"))))
    rules = rules_of_voxels(run, source, ["height:0-2"])
    assert rules is not None
    samples = run.sample(4, rules=rules, seed=1)
    modality = run.modality
    assert isinstance(modality, VoxelModality)
    real = modality.grid(modality.encode([modality.read(source)]))
    made = modality.grid(samples.x)
    assert torch.equal(made[:, :, :, :3], real[:, :, :, :3].expand(4, -1, -1, -1, -1))
    assert len({tuple(row.tolist()) for row in samples.x}) > 1
    out = tmp_path / "out"
    words = ["sample", str(run.path), "-n", "2", "--given", str(source), "--keep", "height:0-50%"]
    assert main([*words, "--out", str(out)]) == 0
    assert len(list(out.glob("*.vox"))) == 2


def test_what_cannot_be_given_is_said(
    run: kuosan.Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = next(iter(sorted(folder.rglob("*.vox"))))
    for given, keep, match in (
        (None, ["height:0-2"], "add --given"),
        (tmp_path / "no.vox", ["height:0-2"], "there is no file"),
        (source, [], "nothing of"),
        (source, ["height:0-100%"], "all of"),
        (source, ["time:0-2"], "no axis|is no"),
    ):
        with pytest.raises(UserError, match=match):
            rules_of_voxels(run, given, keep)
    for words, match in (
        (["--mask", str(source)], "--given with --keep"),
        (["--length", "9"], "--length is not for voxels"),
        (["--template", "x"], "--template is not for voxels"),
    ):
        assert main(["sample", str(run.path), *words]) == 2
        assert match in capsys.readouterr().err


def test_no_encoder_of_others_knows_them(run: kuosan.Run, tmp_path: Path) -> None:
    with pytest.raises(kuosan.UserError, match="--encoder is for texts, pictures and sounds"):
        run.evaluate(n=4, encoder=tmp_path)


def test_a_run_is_evaluated_and_inspected(run: kuosan.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run.path)]) == 0
    assert "cells" in capsys.readouterr().out
    assert main(["evaluate", str(run.path), "-n", "24", "--likelihood"]) == 0
    told = json.loads((run.path / "evaluation.json").read_text())["metrics"]
    assert told["bits_per_voxel"]["value"] > 0
    assert told["one_piece"]["n"] == 24


def test_a_run_starts_from_another_and_goes_on(run: kuosan.Run, folder: Path, tmp_path: Path) -> None:
    more = kuosan.train(folder, out=tmp_path / "more", budget="2steps", init=str(run.path), **SMALL)
    assert isinstance(more.modality, VoxelModality)
    assert reopen(more.path).training.count.step == 2


@pytest.mark.parametrize(
    ("leaves", "match"),
    [
        ({"data.form": "voxels", "process": "uniform"}, "process=uniform"),
        ({"data.form": "voxels", "network": "unet"}, "data.form=distance"),
        ({"data.form": "distance", "process": "masked"}, "process=masked is for tokens"),
        ({"data.form": "voxels", "data.vocabulary": 300}, "2 to 256"),
        ({"data.form": "roll"}, "of music"),
    ],
)
def test_leaves_of_other_data_are_refused(
    folder: Path, tmp_path: Path, leaves: dict[str, Any], match: str
) -> None:
    with pytest.raises(UserError, match=match):
        settle(folder, tmp_path / "x", Recipe().updated(leaves), leaves)


def test_a_comparison_of_tokens_of_voxels_says_what_can_be_compared(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compare with data.form=distance"):
        compare(folder, out=tmp_path, budget="4steps", **{"data.form": "voxels"})
