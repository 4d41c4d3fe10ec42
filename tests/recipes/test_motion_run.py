"""A run over motions, from files to files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kuosan
from kuosan.cli.app import main
from kuosan.cli.options import file_leaves
from kuosan.errors import UserError
from kuosan.modalities import MotionModality
from kuosan.modalities.motion_bvh import read_bvh, write_bvh
from kuosan.modalities.motion_form import Form
from kuosan.modalities.motion_skeleton import Motion
from kuosan.recipes import sequences
from kuosan.recipes.evaluate import SEED, data_of, measure
from kuosan.recipes.opening import settle
from kuosan.recipes.run import Run
from kuosan.recipes.schema import Recipe
from tests.modalities.motion import walk

TINY: dict[str, Any] = {
    "network__dim": 32, "network__depth": 1, "network__patch": 4, "training__batch": 16, "training__validations": 2,
    "sampling__steps": 2, "data__length": "16frames",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("motion")
    (folder / "data").mkdir()
    for seed in range(16):
        write_bvh(walk(seed, 40), folder / "data" / f"{'walk' if seed % 2 else 'stroll'}_{seed}.bvh")
    return kuosan.train(folder / "data", out=folder / "run", budget="20steps", **TINY)


def test_it_says_x_and_keeps_the_form_of_its_data(run: Run) -> None:
    recipe = run.facts.recipe
    assert recipe.data.modality == "motion" and (recipe.objective.output, recipe.objective.weight) == (
        "x",
        "output",
    )
    assert (recipe.objective.velocity, recipe.objective.feet) == (3.0, 30.0)
    assert (recipe.data.length, recipe.data.rate) == (16, 30.0)
    assert run.shape == (4 + 6 * 13 + 2, 16) and run.facts.columns == {"class": ["stroll", "walk"]}
    report = (run.path / "report.html").read_text()
    assert "data:image/gif;base64," in report and "0.533-second motions of 13 joints" in report


def test_what_it_says_is_shaped_like_motions_unless_it_says_noise_too(run: Run) -> None:
    data = Path(run.facts.recipe.data.path)

    def settled(**leaves: Any) -> dict[str, Any]:
        words = {k.replace("__", "."): v for k, v in TINY.items()} | {"budget": "5steps"} | leaves
        return settle(data, None, Recipe().updated(words), words).facts.network

    [gains] = run.facts.network["gains"]
    assert len(gains) == 16 and gains[0] > 3 * gains[-1] and settled()["gains"] == [gains]
    assert run.facts.network["shaped"] == [2, 4 + 6 * 13]  # velocity and contacts jump
    [whole] = settled(**{"network.spectrum": 1.0})["gains"]
    assert gains == pytest.approx([g**0.7 for g in whole], rel=2e-3)
    assert "gains" not in settled(**{"network.spectrum": 0.0})
    assert "gains" not in settled(**{"objective.output": "v"})
    assert "gains" not in settled(**{"network.patch": 16})  # one patch is the whole
    again = file_leaves(run.path / "recipe.yaml")  # what `--config` takes from a run
    assert again["network.spectrum"] == 0.7 and settled(**again)["gains"] == [gains]
    with pytest.raises(UserError, match="says v: leave it away"):
        settled(**{"objective.output": "v", "network.spectrum": 1.0})


def test_no_sampler_is_chosen_by_a_flow_that_goes_astray(run: Run) -> None:
    """That of a network that says x does, where noise is finer than its estimate."""
    assert not sequences.chooses(run, 2) and not list((run.path / "grids").glob("steps-*.json"))
    assert (run.facts.recipe.sampling.solver, run.facts.recipe.sampling.grid) == ("deis", "karras:7:0.2")


def test_a_bound_is_of_states_alone(run: Run) -> None:
    words: dict[str, Any] = {"budget": "5steps", "objective.kind": "elbo"}
    data = Path(run.facts.recipe.data.path)
    found = settle(data, None, Recipe().updated(words), words).facts.recipe.objective
    assert found.velocity == found.feet == 0
    for leaf in ("velocity", "feet"):
        with pytest.raises(UserError, match="bound, of states alone"):
            settle(data, None, Recipe().updated(words | {f"objective.{leaf}": 2.0}), words)


def test_samples_are_files_that_others_open(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [
        "sample",
        str(run.path),
        "-n",
        "3",
        "--where",
        "class=walk",
        "--format",
        "glb,gif",
        "--out",
        str(out),
    ]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(p).name for p in told["files"][:3]] == [f"0000{i}.bvh" for i in range(3)]
    assert {p.suffix for p in out.iterdir()} == {".bvh", ".glb", ".gif", ".png", ".safetensors"}
    motion = read_bvh(out / "00001.bvh")
    first = next(iter(sorted(Path(run.facts.recipe.data.path).iterdir())))
    assert (
        motion.skeleton == read_bvh(first).skeleton and len(motion) == 16 and motion.rate == pytest.approx(30)
    )


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feet of all motions stand: so little training teaches no network when."""
    plain = Form.motion

    def motion(form: Form, rows: Any) -> Motion:
        found = plain(form, rows)
        return replace(found, contacts=np.ones((len(found), len(form.feet)), dtype=bool))

    monkeypatch.setattr(Form, "motion", motion)


@pytest.mark.usefixtures("standing")
def test_feet_of_samples_are_held_and_joints_where_asked(run: Run, tmp_path: Path) -> None:
    ways: dict[str, list[str]] = {"free": ["--no-foot-lock"], "held": [], "both": ["--joint-limits"]}
    for name, flags in ways.items():
        assert main(["sample", str(run.path), "-n", "4", *flags, "--out", str(tmp_path / name)]) == 0
    states = [(tmp_path / name / "samples.safetensors").read_bytes() for name in ways]
    assert states[0] == states[1] == states[2]  # states are as the model says
    written = {name: [(tmp_path / name / f"{i:05d}.bvh").read_text() for i in range(4)] for name in ways}
    assert written["free"] != written["held"]
    x = run.sample(4).x
    assert isinstance(run.modality, MotionModality)
    for name, lock in (("free", False), ("held", True)):
        expected = run.modality.corrected(foot_lock=lock).decode(x)
        for i, motion in enumerate(expected):
            found = read_bvh(tmp_path / name / f"{i:05d}.bvh")
            np.testing.assert_allclose(found.turns, motion.turns, atol=1e-4)
    modality = run.modality
    assert isinstance(modality, MotionModality)
    wild = 4 * run.sample(4).x
    as_it_is, kept, locked = (
        m.decode(wild)
        for m in (modality, modality.corrected(joint_limits=True), modality.corrected(foot_lock=True))
    )
    before, after = (
        max(modality.limits.excess(m.turns).max() for m in motions) for motions in (as_it_is, kept)
    )
    assert after < 1e-6 and before > 0.1
    assert all(np.array_equal(one.place, two.place) for one, two in zip(locked, as_it_is, strict=True))
    assert any(not np.array_equal(one.turns, two.turns) for one, two in zip(locked, as_it_is, strict=True))


@pytest.mark.usefixtures("standing")
def test_given_and_varied_motions_stay_as_they_are(run: Run, tmp_path: Path) -> None:
    """Their feet are held where that is asked for only."""
    item = str(next(iter(sorted(Path(run.facts.recipe.data.path).iterdir()))))
    for parts in (["--given", item, "--keep", "time:0-0.3s"], ["--vary", item, "--strength", "0"]):
        words = ["sample", str(run.path), "-n", "1", *parts]
        found = []
        for name, flags in (("usual", []), ("free", ["--no-foot-lock"]), ("held", ["--foot-lock"])):
            out = tmp_path / f"{parts[0]}{name}"
            assert main([*words, *flags, "--out", str(out)]) == 0
            found.append((out / "00000.bvh").read_text())
        assert found[0] == found[1] != found[2]


def test_what_is_not_for_motions_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(run.path), "-n", "1", "--format", "fbx"]) == 2
    assert main(["sample", str(run.path), "-n", "1", "--soundfont", "x.sf2"]) == 2
    told = capsys.readouterr().err
    assert "fbx" in told and "bvh, glb" in told and "--soundfont is for music" in told


@pytest.mark.usefixtures("standing")
def test_what_is_measured_stands_beside_real_motions(run: Run) -> None:
    found = run.evaluate(n=24, seconds=2.0)["metrics"]
    free = replace(run.sample(24, seed=SEED), modality=run.modality.corrected(foot_lock=False))  # type: ignore[attr-defined]
    raw = measure(run, data_of(run), free, seconds=2.0).metrics["foot_skating"]
    assert (
        found["foot_skating"]["value"] < raw.value
    )  # what is written is measured, and no real motion is touched
    assert found["foot_skating"]["floor"] == raw.floor
    for name in ("foot_skating", "jerk", "joint_limit_violations", "diversity"):
        assert (
            found[name]["floor"] is not None and found[name]["stderr"] is not None and found[name]["n"] > 0
        ), name


def test_places_in_seconds(run: Run) -> None:
    modality = run.modality
    assert modality.places("time", "0-0.2s") == range(6) and modality.places("time", "50%-100%") == range(
        8, 16
    )
