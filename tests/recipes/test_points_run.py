"""Runs over points: from a folder of clouds to samples of which points of a given one are part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

import kuosan
from kuosan.cli import main
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import Cloud, PointsModality
from kuosan.recipes.compare import compare
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.opening import reopen, settle
from kuosan.recipes.schema import Recipe
from kuosan.recipes.watch import Watch

COUNT = 48
SMALL: dict[str, Any] = {
    "data__form": "points",
    "data__size": COUNT,
    "network__dim": 32,
    "network__depth": 1,
    "training__batch": 8,
    "sampling__steps": 4,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Poles and plates of 200 points."""
    out, chance = tmp_path_factory.mktemp("points") / "clouds", np.random.default_rng(0)
    for i in range(48):
        kind = ("plate", "pole")[i % 2]
        size = chance.uniform(0.8, 1.2, 3) * ([2, 2, 0.2] if kind == "plate" else [0.2, 0.2, 2])
        (out / kind).mkdir(parents=True, exist_ok=True)
        trimesh.PointCloud(chance.uniform(-0.5, 0.5, (200, 3)) * size).export(out / kind / f"{i:02d}.ply")
    return out


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """To be read only."""
    return kuosan.train(folder, out=tmp_path_factory.mktemp("runs") / "clouds", budget="150steps", **SMALL)


def test_a_folder_becomes_a_run_with_all_that_belongs_to_one(run: kuosan.Run) -> None:
    assert isinstance(run.modality, PointsModality) and run.shape == (3, COUNT)
    assert run.facts.network["unordered"] and run.facts.network["patch"] == 1
    assert run.facts.recipe.data.form == "points"
    assert run.facts.recipe.data.modality == "shape"
    assert list(run.facts.columns) == ["class"]
    told = json.loads((run.path / "summary.json").read_text())
    for name in ("nna_chamfer", "coverage_chamfer", "mmd_chamfer", "spacing_gap", "fd_raw", "copies_chamfer"):
        assert told["metrics"][name]["n"] > 0, name
    assert "watertight" not in told["metrics"] and "volume_gap" not in told["metrics"]
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert report.count("data:image/webp;base64,") >= 3


def test_it_learns_what_poles_and_plates_are(run: kuosan.Run) -> None:
    height = {}
    for kind in ("plate", "pole"):
        clouds = run.sample(24, where={"class": kind}, steps=8).raws()
        assert all(isinstance(c, Cloud) and c.count == COUNT for c in clouds)
        height[kind] = float(np.mean([c.points[:, 2].std() / c.points[:, 0].std() for c in clouds]))
    assert height["pole"] > 2 > 0.5 > height["plate"]


def test_the_order_of_points_means_nothing(run: kuosan.Run) -> None:
    denoiser = run.denoiser
    x = torch.randn(2, 3, COUNT, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.3, 0.8])
    with torch.no_grad():
        assert torch.allclose(denoiser(x[:, :, order], t).mean, denoiser(x, t).mean[:, :, order], atol=1e-5)
    samples = run.sample(16)
    mixed = samples.x[:, :, order]
    data = data_of(run)
    watch = Watch(run, reopen(run.path).training, lambda seeds, cond: samples.x)
    for one, other in zip(watch.distances(samples.x).items(), watch.distances(mixed).items(), strict=True):
        assert one == pytest.approx(other, rel=1e-3), one[0]
    assert len(data.train)


def test_given_points_stay_and_others_are_drawn(run: kuosan.Run, folder: Path, tmp_path: Path) -> None:
    sources = sorted(folder.rglob("*.ply"))[:2]
    where = tmp_path / "given"
    where.mkdir()
    for path in sources:
        (where / path.name).write_bytes(path.read_bytes())
    steering = run.steer(given=where, keep=["height:0-50%"])
    assert steering is not None and steering.given is not None
    made = run.sample(4, steering=steering, seed=1, steps=3)
    modality = run.modality
    real = modality.encode([modality.read(path) for path in sources])
    for k in range(4):
        low = real[k % 2][2] < (real[k % 2][2].max() + real[k % 2][2].min()) / 2
        assert 5 < int(low.sum()) < COUNT - 5
        assert torch.equal(made.x[k][:, low], real[k % 2][:, low])
        assert not torch.isclose(made.x[k][:, ~low], real[k % 2][:, ~low]).all(0).any()
    out = tmp_path / "out"
    words = [
        "sample",
        str(run.path),
        "-n",
        "2",
        "--given",
        str(sources[0]),
        "--keep",
        "box:0-100%,0-100%,0-50%",
    ]
    assert main([*words, "--out", str(out)]) == 0
    assert len(list(out.glob("*.ply"))) == 2 and (out / "given.png").is_file()


def test_wishes(run: kuosan.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sample", str(run.path), "-n", "2"]
    assert main([*words, "--symmetric", "x", "--out", str(tmp_path / "a"), "--format", "npz,stl"]) == 0
    with np.load(tmp_path / "a" / "00000.npz") as file:
        points = file["points"] - np.array(run.modality.form.centre)  # type: ignore[attr-defined]
    mine, other = ({tuple(p) for p in np.round(v, 5) + 0.0} for v in (points, points * [-1, 1, 1]))
    assert mine == other
    assert trimesh.load_mesh(tmp_path / "a" / "00001.stl").is_watertight
    for flags, match in (
        (["--flat-base"], "shapes with a surface"),
        (["--symmetric", "x", "--one-piece"], "shapes with a surface"),
        (["--size", "99"], "no height and width: leave it away"),
        (["--length", "4s"], "have none: leave it away"),
        (["--format", "vox"], "vox"),
        (["--keep", "height:0-50%"], "add --given"),
    ):
        assert main([*words, *flags, "--out", str(tmp_path / "b")]) == 2
        assert match in capsys.readouterr().err


def test_a_run_is_evaluated_interpolated_and_not_exported(
    run: kuosan.Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run.path), "-n", "24"]) == 0
    told = json.loads((run.path / "evaluation.json").read_text())
    assert told["metrics"]["spacing_gap"]["n"] == 24
    assert told["left_out"]["watertight"] == "points have no surface"
    ends = [str(path) for path in sorted(folder.rglob("*.ply"))[::40]]
    assert main(["interpolate", str(run.path), *ends, "-n", "3", "--out", str(tmp_path / "way")]) == 0
    assert main(["inspect", str(run.path)]) == 0
    capsys.readouterr()
    assert main(["export", str(run.path), "--to", "diffusers", str(tmp_path / "export")]) == 2
    assert "shapes" in capsys.readouterr().err


def test_a_run_starts_from_another_and_goes_on(run: kuosan.Run, folder: Path, tmp_path: Path) -> None:
    more = kuosan.train(folder, out=tmp_path / "more", budget="2steps", init=str(run.path), **SMALL)
    assert isinstance(more.modality, PointsModality)
    assert reopen(more.path).training.count.step == 2
    data = data_of(run)
    again = data_of(more)
    assert torch.equal(data.train.x, again.train.x)
    assert torch.equal(
        data.train.batch(torch.arange(4), Seeds.of(0, 4))[0],
        again.train.batch(torch.arange(4), Seeds.of(0, 4))[0],
    )


@pytest.mark.parametrize(
    ("leaves", "match"),
    [
        ({"data.form": "points", "network": "unet"}, "points have none"),
        ({"data.form": "points", "data.size": 8}, "from 32 to 8192"),
        ({"data.form": "points", "data.vocabulary": 9}, "of voxels"),
        ({"data.form": "points", "process": "masked"}, "process=masked"),
        ({"data.form": "distance", "init": "RUN"}, "data.form=distance is not that"),
        ({"data.form": "voxels", "init": "RUN"}, "data.form=voxels is not that"),
        ({"data.form": "points", "codec": "kl_vae"}, "codec"),
    ],
)
def test_what_does_not_fit_is_said(
    leaves: dict[str, Any], match: str, run: kuosan.Run, folder: Path, tmp_path: Path
) -> None:
    known = {name: str(run.path) if value == "RUN" else value for name, value in leaves.items()}
    with pytest.raises(UserError, match=match):
        settle(folder, tmp_path / "run", Recipe(budget="5steps").updated(known), known)


def test_rivals_need_an_order(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="points have none"):
        compare(folder, out=tmp_path / "c", budget="5steps", data__form="points")
