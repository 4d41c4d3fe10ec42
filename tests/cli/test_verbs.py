"""What the verbs do when all is well: one object on stdout, the contract's files, the laws of samples."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from kuosan.cli.dry_run import probe
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import Recipe

from .conftest import ITEMS, TINY, Result, call, tree_of, write_pictures


def test_train_answers_with_one_object_and_leaves_a_run(first_answer: Result, trained: Path) -> None:
    data = first_answer.json
    assert data["steps"] == 12 and not data["already_finished"]
    assert {c["what"] for c in data["choices"]} >= {"network", "training.batch"}
    for metric in data["metrics"].values():
        assert {"value", "stderr", "n"} <= set(metric)
    names = set(tree_of(trained))
    assert {"recipe.yaml", "model.safetensors", "metrics.jsonl", "report.html", "README.md"} <= names
    assert {"checkpoints/last/state.json", "checkpoints/best/state.json"} <= names
    assert any(name.startswith("samples/") for name in names)
    # progress and choices were told, on the other stream
    assert "why" in first_answer.err and "items/s" in first_answer.err


def test_the_same_command_again_changes_nothing(trained: Path, pictures: Path) -> None:
    before = tree_of(trained)
    again = call("train", pictures, "--out", trained, *TINY, "--json")
    assert again.status == 0 and again.json["already_finished"] and again.json["steps"] == 12
    resumed = call("resume", trained)
    assert resumed.status == 0 and "finished already" in resumed.out
    assert tree_of(trained) == before


def test_without_out_each_different_command_gets_its_own_folder(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [call("train", pictures, *TINY, "--seed", seed, "--json").json["run"] for seed in (0, 1, 0)]
    assert runs == ["runs/squares", "runs/squares-2", "runs/squares"]


def test_a_dry_run_writes_nothing_and_counts_right(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    data_before = tree_of(pictures)
    result = call("train", pictures, *TINY, "--dry-run", "--json")
    assert result.status == 0, result.err
    assert not list(tmp_path.iterdir()) and tree_of(pictures) == data_before
    data = result.json
    weights = load_file(trained / "model.safetensors")
    learned = sum(v.numel() for k, v in weights.items())
    assert data["steps"] == 12 and data["items"] + data["held_out"] == ITEMS
    assert 0 < data["parameters"] <= learned
    assert data["passes"] == pytest.approx(12 * 16 / data["items"], abs=0.01)
    assert data["seconds"] == pytest.approx(12 * data["seconds_per_step"], abs=0.1)
    text = call("train", pictures, *TINY, "--dry-run")
    assert "Nothing was written" in text.out and f"{data['parameters']:,} parameters" in text.out


def test_a_dry_run_times_real_steps(pictures: Path) -> None:
    asked = {"budget": "30s", "training.batch": 16, "network.dim": 32, "network.depth": 1}
    plan = settle(pictures, None, Recipe().updated(asked), asked)
    found = probe(plan)
    assert found.timed == 3 and 1e-4 < found.seconds_per_step < 5 and 50 < found.memory_mib < 1e5
    asked |= {"training.crops": 0.75, "budget": "10steps"}
    cropped = probe(settle(pictures, None, Recipe().updated(asked), asked))
    assert cropped.timed == 6 and 0.2 * found.flops < cropped.flops < 0.8 * found.flops  # both stages


def states(out: Path) -> torch.Tensor:
    return load_file(out / "samples.safetensors")["x"]


def test_sample_writes_the_files_of_the_contract(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = call("sample", trained, "-n", 5, "--where", "class=night", "--out", out, "--json").json
    assert sorted(p.name for p in out.iterdir()) == [
        *[f"{i:05d}.png" for i in range(5)], "overview.png", "samples.safetensors",
    ]  # fmt: skip
    assert data["files"] == [str(out / f"{i:05d}.png") for i in range(5)]
    assert data["conditions"] == {"class": ["night"] * 5}
    tensors = load_file(out / "samples.safetensors")
    assert tensors["x"].shape == (5, 1, 8, 8) and tensors["condition.class"].unique().numel() == 1
    for i in range(5):  # the files are the states, brought to 8 bits
        pixels = np.asarray(Image.open(out / f"{i:05d}.png"), dtype=np.float64)
        np.testing.assert_allclose(pixels, (tensors["x"][i, 0].clamp(-1, 1).double() + 1) * 127.5, atol=0.51)


def test_a_seed_means_the_same_samples_however_they_are_drawn(trained: Path, tmp_path: Path) -> None:
    def draw(name: str, *words: object) -> torch.Tensor:
        result = call("sample", trained, "--steps", 2, "--out", tmp_path / name, *words)
        assert result.status == 0, result.err
        return states(tmp_path / name)

    whole = draw("whole", "-n", 70)
    torch.testing.assert_close(draw("start", "-n", 9), whole[:9], atol=1e-5, rtol=0)
    torch.testing.assert_close(draw("end", "-n", 7, "--first", 63), whole[63:], atol=1e-5, rtol=0)
    exact = draw("exact", "-n", 70, "--exact")
    assert torch.equal(draw("exact end", "-n", 7, "--first", 63, "--exact"), exact[63:])
    torch.testing.assert_close(exact, whole, atol=1e-5, rtol=0)
    assert (draw("other", "-n", 9, "--seed", 1) - whole[:9]).abs().mean() > 1e-3


def test_samples_get_a_new_folder_each_time(damageable: Path) -> None:
    outs = [call("sample", damageable, "-n", 1, "--steps", 1, "--json").json["out"] for _ in range(2)]
    assert [Path(o).name for o in outs] == ["generated", "generated-2"]


@pytest.fixture
def damageable(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_evaluate_has_the_contracts_form(damageable: Path) -> None:
    first = call("evaluate", damageable, "-n", 40, "--steps", 2, "--json")
    assert first.status == 0, first.err
    data = first.json
    assert data["metrics"] and data["about"]["samples"] == 40 and data["about"]["steps"] == 2
    for name, metric in data["metrics"].items():
        assert metric["n"] > 0 and metric["value"] is not None, name
    again = call("evaluate", damageable, "-n", 40, "--steps", 2, "--json").json
    assert again["metrics"] == data["metrics"], "the same seed measures the same"
    assert "±" in call("inspect", damageable).out


def test_likelihood_has_its_parts_and_a_line_per_item(damageable: Path, tmp_path: Path) -> None:
    other = write_pictures(tmp_path / "other", 160, seed=5)
    words = ("evaluate", damageable, "-n", 8, "--steps", 2, "--data", other, "--likelihood", "--json")
    found = call(*words).json
    bits = {name: m for name, m in found["metrics"].items() if name.startswith("bits_")}
    assert set(bits) == {f"bits_{k}" for k in ("bound", "train", "10_steps", "25_steps", "50_steps", "flow")}
    assert all(m["n"] and m["stderr"] is not None for m in bits.values())
    terms = found["likelihood"]["terms"]
    total = sum(terms[name]["value"] for name in ("prior", "diffusion", "reconstruction"))
    assert abs(total - bits["bits_bound"]["value"]) < 1e-6
    with (damageable / "evaluation/likelihood.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == bits["bits_bound"]["n"] == 8
    values = [float(row["bound"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert sum(values) / 8 == pytest.approx(bits["bits_bound"]["value"], rel=1e-4)
    assert call(*words).json["likelihood"] == found["likelihood"]
    assert "bao2022" in call("cite", damageable).out


def test_inspect_tells_data_and_runs_apart(trained: Path, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data", 24)
    shutil.copy(data / "day" / "000.png", data / "day" / "copy.png")
    (data / "day" / "bad.png").write_bytes(b"no picture")
    found = call("inspect", data, "--json").json
    assert found["kind"] == "data" and found["items"] == 25 and found["files"] == 26
    assert found["duplicates"]["extra_copies"] == 1 and found["skipped"][0][0] == "day/bad.png"
    text = call("inspect", data).out
    assert "day/bad.png" in text and "day (" in text and "copy.png" in text
    run = call("inspect", trained, "--json").json
    assert run["kind"] == "run" and run["progress"]["step"] == 12 and run["progress"]["finished"]
    assert run["problems"] == [] and run["conditions"] == {"class": ["day", "night"]}


@pytest.mark.foreign_rng("diffusers initialises a pipeline's parts")
def test_export_is_opened_by_diffusers_and_never_overwrites(trained: Path, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    place = tmp_path / "exported"
    result = call("export", trained, "--to", "diffusers", place, "--json")
    assert result.status == 0, result.err
    assert set(result.json["files"]) == set(tree_of(place))
    assert [p.name for p in tmp_path.iterdir()] == ["exported"], "nothing temporary stays"
    pipe = DiffusionPipeline.from_pretrained(place)
    assert type(pipe).__name__ == result.json["pipeline"]
    before = tree_of(place)
    again = call("export", trained, "--to", "diffusers", place)
    assert again.status == 2 and "not an empty folder" in again.err
    assert tree_of(place) == before


def test_config_flags_and_set_in_that_order(trained: Path, pictures: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "budget: 7steps\nseed: 3\ntraining: {batch: 8, lr: 1e-3}\nnetwork.dim: 32\nnetwork.depth: 1\n"
    )

    def settled(*words: object) -> dict:
        return call("train", pictures, "--config", file, *words, "--dry-run", "--json").json["recipe"]

    plain = settled()
    assert (plain["budget"], plain["seed"], plain["training"]["batch"]) == ("7steps", 3, 8)
    assert plain["training"]["lr"] == 1e-3, "YAML reads 1e-3 as a word; a recipe does not"
    over = settled("--budget", "9steps", "--seed", 4, "--set", "seed=5", "training.batch=4")
    assert (over["budget"], over["seed"], over["training"]["batch"]) == ("9steps", 5, 4)
    again = call("train", pictures, "--config", trained / "recipe.yaml", "--dry-run", "--json").json
    told = yaml.safe_load((trained / "recipe.yaml").read_text())
    assert again["network"] == told["network"] and again["recipe"]["training"] == told["recipe"]["training"]


def test_doctor_measures_and_warns() -> None:
    data = call("doctor", "--json").json
    assert data["cores"] >= 1 and data["gflops"] > 0 and data["training_items_per_second"] > 0
    assert {"torch", "python", "threads", "warnings", "missing"} <= set(data)
    if data["threads"] < data["cores"]:
        assert any("OMP_NUM_THREADS" in w for w in data["warnings"])


def test_a_run_starts_from_another(trained: Path, pictures: Path, tmp_path: Path) -> None:
    words = ["--init", trained, "--budget", "2steps", "--set", "training.batch=16", "training.lr=1e-9"]
    result = call("train", pictures, "--out", tmp_path / "next", *words, "--json")
    assert result.status == 0, result.err
    before, after = (
        load_file(trained / "model.safetensors"),
        load_file(tmp_path / "next" / "model.safetensors"),
    )
    assert all(torch.allclose(before[k].float(), after[k].float(), atol=1e-5) for k in before)


def test_metrics_lines_are_json(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 12 and [r["step"] for r in rows] == sorted({r["step"] for r in rows})


def test_distil_streams_and_lives(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    words = ("distil", trained, "--steps", 2, "--budget", "12steps", "--out", out)
    first = call(*words, "--json")
    assert first.status == 0, first.err
    assert first.json["steps"] == 9 and first.json["pairs"] == 64  # a quarter of 12 steps is the pairs'
    assert call(*words, "--json").json["already_finished"]
    together = call("sample", out, "-n", 3, "--out", tmp_path / "a", "--json").json
    assert together["steps"] == 2 and together["solver"] == "redraw"
    apart = call("sample", out, "-n", 3, "--out", tmp_path / "b", "--stream")
    assert [Path(line).name for line in apart.out.splitlines()] == ["00000.png", "00001.png", "00002.png"]
    assert call("sample", out, "-n", 3, "--out", tmp_path / "b", "--stream", "--json").json["n"] == 3
    for name in ("00000.png", "00001.png", "00002.png", "overview.png", "samples.safetensors"):
        assert (tmp_path / "b" / name).is_file()
    states = [load_file(tmp_path / side / "samples.safetensors")["x"] for side in "ab"]
    assert torch.allclose(*states, atol=1e-5)
    told = call("interpolate", out, "--live", "--seconds", "0.2", "--where", "class=day", "--json").json
    assert told["frames"] >= 1 and told["steps"] == 2 and told["threads"] >= 1
    assert told["frames_per_second"] == pytest.approx(told["frames"] / told["seconds"], rel=0.05)
    assert "BibTeX" not in (cited := call("cite", out).out) and "luhman2021" in cited


def test_half_blocks_hold_two_rows_of_pixels_in_a_line() -> None:
    from kuosan.cli.live import half_blocks

    picture = Image.fromarray(np.array([[[255, 0, 0]], [[0, 255, 0]], [[0, 0, 255]]], dtype=np.uint8))
    first, second = half_blocks(picture)
    assert "38;2;255;0;0" in first and "48;2;0;255;0" in first and "38;2;0;0;255" in second
    assert first.count("▀") == 1 and first.endswith("\x1b[0m")
    assert len(half_blocks(picture.resize((200, 100)), widest=50)[0].split("▀")) == 51
