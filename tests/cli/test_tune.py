"""`kuosan tune`, and the samplers that runs choose for themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

import kuosan
from kuosan.solvers.sequence import read_sequence
from tests.cli.conftest import Result, call, tree_of, write_pictures

FEW = ("--pairs", 64, "--budget", "1s")
QUICK = ("--steps", "2,3", *FEW)


@pytest.fixture(scope="module")
def tuned(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    run = shutil.copytree(trained, tmp_path_factory.mktemp("tuned") / "run")
    return run, call("tune", run, *QUICK)


def test_it_says_what_it_kept_and_what_that_cost(tuned: tuple[Path, Result]) -> None:
    run, result = tuned
    assert result.status == 0, result.err
    for words in ("best stock sampler", "as close at", "pays after", "held-out", "--steps 3"):
        assert words in result.out
    for k in (2, 3):
        found = read_sequence(run / "grids" / f"steps-{k:03d}.json")
        about = found.about
        assert found.steps == k and about["error"] <= about["stock_error"] and about["calls"] > 0
        assert {t["kind"] for t in about["tried"]} >= {"stock", "times", "decoupled", "full"}
        assert len(about["sigmas"]) == k + 1 and len(about["timesteps"]) == k
        assert len(found.times) == k + found.far + 1
        assert about["error"] == min(t["error"] for t in about["tried"])


def test_the_report_shows_it_once(tuned: tuple[Path, Result], tmp_path: Path) -> None:
    run, _ = tuned
    again = shutil.copytree(run, tmp_path / "run")
    assert call("tune", again, "--steps", 2, *FEW).status == 0
    for one in (run, again):
        page = (one / "report.html").read_text(encoding="utf-8")
        assert page.count('<section id="sequences">') == page.count('href="#sequences"') == 1
        assert "Distance from the flow by number of calls" in page and "Noise levels of the calls" in page


def test_sample_uses_it_from_then_on(tuned: tuple[Path, Result], tmp_path: Path) -> None:
    run, _ = tuned
    kept = read_sequence(run / "grids" / "steps-003.json")
    data = call("sample", run, "-n", 6, "--steps", 3, "--out", tmp_path / "a", "--json").json
    assert (data["steps"], data["solver"], data["grid"]) == (3, kept.solver, kept.grid)
    named = call(
        "sample", run, "-n", 6, "--grid", run / "grids" / "steps-003.json", "--out", tmp_path / "b", "--json"
    ).json
    assert named["steps"] == 3
    one, other = (load_file(tmp_path / d / "samples.safetensors")["x"] for d in "ab")
    assert bool((one == other).all())
    stock = call(
        "sample", run, "-n", 6, "--steps", 3, "--solver", "ddim", "--out", tmp_path / "c", "--json"
    ).json
    assert stock["solver"] == "ddim"
    loaded = kuosan.load(run)
    x = loaded.sample(6, steps=3).x
    assert float((x - one).abs().max()) < 1e-5
    alone = loaded.sample(1, steps=3, first=4).x
    assert float((x[4:5] - alone).abs().max()) < 1e-5


def test_other_weights_are_another_model(tuned: tuple[Path, Result], trained: Path, tmp_path: Path) -> None:
    """A sequence of other weights is not used, and the choice that replaces it is measured anew."""
    run = shutil.copytree(tuned[0], tmp_path / "run")
    path = run / "grids" / "steps-003.json"
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, "model": "0" * 16}))
    kept = kuosan.load(run).sequence(3)
    assert kept is not None and kept.about["kind"] == "stock"
    assert read_sequence(path).model != "0" * 16


def test_a_run_measures_its_sampler_once(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    loaded = kuosan.load(run)
    first = loaded.sequence(5)
    assert first is not None and first.about["kind"] == "stock" and first.about["calls"] > 0
    assert (run / "grids" / "steps-005.json").is_file()
    assert kuosan.load(run).sequence(5) == first
    assert loaded.sequence(5, solver="ddim") is None and loaded.sequence(5, grid="karras:7") is None


def test_guidance_is_a_control_too(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    result = call("tune", run, "--steps", 3, "--w", 2, "--guidance", *FEW, "--json")
    assert result.status == 0, result.err
    path = Path(result.json["sequences"][0]["file"])
    assert path.name == "steps-003-w2.json"
    kept = read_sequence(path)
    assert kept.guidance == 2 and len(kept.w) == 3
    loaded = kuosan.load(run)
    assert loaded.sequence(3, 2.0) == kept and loaded.sequence(3) != kept
    assert len(loaded.sample(4, steps=3, w=2.0)) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--steps", "1"), "two calls or more"),
        (("--steps", "four"), "not a list of numbers"),
        (("--steps", "90"), "need no tuning"),
        (("--pairs", "10"), "too few to hold any out"),
        (("--budget", "100steps"), "not a time"),
        (("--guidance",), "leave --guidance away"),
        (("--w", "-1"), "--w"),
    ],
)
def test_what_is_yours_to_mend(trained: Path, words: tuple[str, ...], said: str) -> None:
    result = call("tune", trained, *words)
    assert result.status == 2 and said in result.err, result.err


def test_a_damaged_sequence_is_told(tuned: tuple[Path, Result], tmp_path: Path) -> None:
    run = shutil.copytree(tuned[0], tmp_path / "run")
    path = run / "grids" / "steps-003.json"
    path.write_text(path.read_text()[:-200])
    for words in (("--steps", 3), ("--grid", path)):
        result = call("sample", run, *words)
        assert result.status == 2 and "no control sequence" in result.err, result.err
    result = call("sample", run, "--grid", run / "grids" / "steps-002.json", "--steps", 3)
    assert result.status == 2 and "is for 2 steps, not 3" in result.err
    result = call("sample", run, "--grid", run / "none.json")
    assert result.status == 2 and "no control sequence at" in result.err


def test_churn_has_a_place_of_its_own(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    missing = call(
        "sample", run, "-n", 2, "--steps", 4, "--solver", "sde-dpm++2m", "--out", tmp_path / "a", "--json"
    )
    assert missing.json["grid"] == "karras:7"
    few = call("tune", run, "--steps", 4, "--churn", *FEW)
    assert few.status == 2 and "churn needs 16" in few.err
    for side, seed in (("train", 1), ("val", 2)):
        write_pictures(tmp_path / "data" / side, 40, seed)
    recipe = run / "recipe.yaml"
    path = kuosan.load(run).facts.recipe.data.path
    recipe.write_text(recipe.read_text().replace(path, str(tmp_path / "data")))
    result = call("tune", run, "--steps", 4, "--churn", *FEW, "--json")
    assert result.status == 0, result.err
    (found,) = result.json["churn"]
    assert Path(found["file"]).name == "steps-004-churn.json" and len(found["eta"]) == 4
    data = call(
        "sample", run, "-n", 2, "--steps", 4, "--solver", "sde-dpm++2m", "--out", tmp_path / "b", "--json"
    ).json
    assert data["grid"] == found["grid"] and data["solver"] == "sde-dpm++2m"


@pytest.mark.foreign_rng("diffusers initialises a network before its weights are read")
def test_a_diffusers_pipeline_is_tuned_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    network = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    DDPMPipeline(network, DDPMScheduler()).save_pretrained(tmp_path / "theirs")
    before = tree_of(tmp_path / "theirs")
    monkeypatch.chdir(tmp_path)
    result = call("tune", "theirs", "--steps", 2, *FEW, "--json")
    assert result.status == 0, result.err
    path = Path(result.json["sequences"][0]["file"])
    assert path == Path("theirs-grids/steps-002.json")
    assert tree_of(tmp_path / "theirs") == before
    data = call("sample", "theirs", "--grid", path, "-n", 2, "--out", "drawn", "--json").json
    assert (data["steps"], data["grid"]) == (2, result.json["sequences"][0]["grid"])
    refused = call("tune", "theirs", "--steps", 2, "--churn", *FEW)
    assert refused.status == 2 and "leave --churn away" in refused.err
