"""Law: what the user can mend ends with status 2 and one sentence that names the thing; never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from .conftest import TINY, Result, call, tree_of, write_pictures


def refused(result: Result, *said: str) -> None:
    """Status 2, one sentence on stderr that says all of this."""
    assert result.status == 2, result.err
    sentence = result.err.strip().splitlines()[-1]
    assert sentence.startswith("kuosan: ")
    assert "Traceback" not in result.err
    for words in said:
        assert words in sentence, sentence


@pytest.fixture
def damaged(trained: Path, tmp_path: Path) -> Path:
    """A copy of a run that a test may harm."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def flip(path: Path, at: float = 0.7) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "nowhere"], ["nowhere"]),
        (["train", "empty"], ["empty"]),
        (["train", "mixed"], ["--modality"]),
        (["train", "broken"], ["broken", "0.png"]),
        (["train", "squares", "--modality", "smell"], ["smell"]),
        (["train", "squares", "--set", "trainig.lr=1e-3"], ["trainig.lr", "training.lr"]),
        (["train", "squares", "--set", "network=resnet"], ["network.kind", "transformer"]),
        (["train", "squares", "--set", "training.lr"], ["--set", "training.lr=VALUE"]),
        (["train", "squares", "--set", "training.lr=fast"], ["training.lr", "fast"]),
        (["train", "squares", "--budget", "soon"], ["soon", "10m"]),
        (["train", "squares", "--seed", "-1"], ["--seed -1"]),
        (["train", "squares", "--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["train", "squares", "--config", "squares/day/000.png"], ["000.png"]),
        (["train", "squares", "--init", "zoo:cats"], ["cats"]),
        (["train", "squares", "--init", "nowhere"], ["nowhere"]),
        (["train", "squares", "--out", "file"], ["file"]),
        (["train", "squares", "--out", "file/run"], ["file"]),
        (["train", "squares", "--out", "squares"], ["squares", "--out"]),
        (["resume", "nowhere"], ["nowhere"]),
        (["resume", "squares"], ["recipe.yaml"]),
        (["sample", "squares"], ["recipe.yaml"]),
        (["inspect", "nowhere"], ["nowhere"]),
        (["cite", "nowhere"], ["nowhere"]),
        (["train"], ["DATA", "--help"]),
        (["train", "squares", "more"], ["more", "--help"]),
        (["train", "squares", "--otu", "x"], ["--otu", "--out"]),
        (["trian", "squares"], ["trian", "`kuosan train`"]),
        (["--nonsense"], ["--nonsense"]),
        *[([verb, "squares"], [f"kuosan {verb} is not part of this version (0.1)"]) for verb in (
            "audit", "explain", "serve", "zoo",
        )],
    ],
)  # fmt: skip
def test_refused_before_any_work(
    words: list[str], said: list[str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pictures, "squares")
    for folder in ("empty", "mixed", "broken"):
        Path(folder).mkdir()
    shutil.copy("squares/day/000.png", "mixed/picture.png")
    Path("mixed/tune.mid").write_bytes(b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0")
    for i in range(3):
        Path(f"broken/{i}.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    Path("file").write_text("mine")
    before = tree_of(tmp_path)
    result = call(*words, *(TINY if words[:2] == ["train", "squares"] and "--budget" not in words else []))
    refused(result, *said)
    assert result.out == ""
    assert tree_of(tmp_path) == before, "nothing of the user's may change, and nothing is left behind"
    told = call(*words, "--json")
    assert told.status == 2 and told.json["status"] == 2
    assert f"kuosan: {told.json['error']}" == told.err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--where", "class=noon"], ["noon", "class"]),
        (["--where", "colour=red"], ["colour", "class"]),
        (["--where", "class"], ["--where", "class=VALUE"]),
        (["--where", "class=day", "class=night"], ["class", "twice"]),
        (["--solver", "magic"], ["magic", "ddim"]),
        (["--grid", "magic"], ["magic", "logsnr"]),
        (["-n", "0"], ["-n 0"]),
        (["-n", "many"], ["many", "-n"]),
        (["--steps", "0"], ["--steps 0"]),
        (["--first", "-1"], ["--first -1"]),
        (["--w", "nan"], ["--w nan"]),
        (["--seed", str(2**63)], ["--seed"]),
    ],
)
def test_refused_by_sample(words: list[str], said: list[str], trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(call("sample", trained, "--out", out, *words), *said)
    assert not list(tmp_path.rglob("*.png"))


def test_samples_never_go_where_others_files_are(trained: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "00000.png").write_text("my own picture")
    refused(call("sample", trained, "-n", 1, "--out", mine), "mine", "--out")
    refused(call("sample", trained, "-n", 1, "--out", mine / "00000.png"), "is a file", "--out")
    refused(
        call("sample", trained, "-n", 1, "--out", mine / "00000.png" / "deep"), "cannot be written", "--out"
    )
    assert (mine / "00000.png").read_text() == "my own picture"


def test_a_flipped_bit_in_the_weights_is_found_and_mended_by_resume(damaged: Path, pictures: Path) -> None:
    # copies: load_file maps the file, which is about to change
    whole = {k: v.clone() for k, v in load_file(damaged / "model.safetensors").items()}
    flip(damaged / "model.safetensors")
    refused(call("sample", damaged, "-n", 1), "model.safetensors", "kuosan resume")
    refused(call("evaluate", damaged, "-n", 16), "model.safetensors")
    inspected = call("inspect", damaged, "--json")
    assert inspected.status == 0 and "model.safetensors" in inspected.json["problems"][0]
    assert call("resume", damaged).status == 0
    mended = load_file(damaged / "model.safetensors")
    assert mended.keys() == whole.keys() and all(torch.equal(mended[k], whole[k]) for k in whole)


def test_a_flipped_bit_in_a_checkpoint_is_found(damaged: Path) -> None:
    (tensors,) = (damaged / "checkpoints" / "last").glob("state-*.safetensors")
    flip(tensors)
    before = tree_of(damaged / "checkpoints")
    refused(call("resume", damaged), str(tensors), "damaged")
    assert tree_of(damaged / "checkpoints") == before, "a damaged file is evidence: it stays"
    assert tensors.name in call("inspect", damaged, "--json").json["problems"][0]


def test_a_run_of_another_version_is_named(damaged: Path) -> None:
    recipe = damaged / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("format: 1", "format: 99", 1))
    for verb in ("sample", "evaluate", "resume", "inspect", "cite"):
        refused(call(verb, damaged), "99")


def test_changed_data_is_noticed(tmp_path: Path) -> None:
    data, out = write_pictures(tmp_path / "data", 24), tmp_path / "run"
    assert call("train", data, "--out", out, *TINY).status == 0
    (data / "day" / "000.png").unlink()
    refused(call("resume", out), "changed")
    shutil.rmtree(data)
    refused(call("resume", out), "gone")


def test_a_folder_of_another_run_is_not_taken(trained: Path, pictures: Path) -> None:
    before = tree_of(trained)
    refused(call("train", pictures, "--out", trained, *TINY, "--seed", 1), "--out", "kuosan resume")
    assert tree_of(trained) == before


def test_what_this_version_lacks_is_said(trained: Path, tmp_path: Path) -> None:
    refused(call("evaluate", trained, "--likelihood", "--tolerance", 2), "--tolerance")
    refused(call("evaluate", trained, "--likelihood", "--probes", -1), "--probes")
    refused(call("evaluate", trained, "--inception", tmp_path / "none"), "--inception")
    refused(call("export", trained, "--to", "onnx", tmp_path / "onnx"), "onnx", "--to diffusers")
    refused(call("export", trained, "--to", "cobol", tmp_path / "cobol"), "cobol", "--to diffusers")
    refused(call("export", trained, tmp_path / "x"), "--to")
    assert not list(tmp_path.iterdir())


def test_a_likelihood_needs_items_to_measure(trained: Path, tmp_path: Path) -> None:
    few = write_pictures(tmp_path / "few", 20)
    refused(call("evaluate", trained, "--data", few, "-n", 8, "--likelihood"), "held-out items", "--data")


def test_too_few_samples_are_refused_with_the_number_that_it_takes(damaged: Path) -> None:
    refused(call("evaluate", damaged, "-n", 1, "--steps", 2), "1 samples", "needs", "-n")
    some = call("evaluate", damaged, "-n", 4, "--steps", 2)
    assert some.status == 0, some.err
    lines = [line for line in some.out.splitlines() if line.startswith("not measured")]
    assert any("fd_pixels" in line and "needs 10" in line for line in lines)


def test_samples_that_are_not_finite_are_refused(damaged: Path) -> None:
    broken = {k: torch.full_like(v, torch.nan) for k, v in load_file(damaged / "model.safetensors").items()}
    save_file(broken, damaged / "model.safetensors")
    refused(call("evaluate", damaged, "-n", 8, "--steps", 2), "not finite", "8 of 8 samples")


def test_other_data_is_refused_where_it_cannot_be_compared_with(damaged: Path, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.mkdir()
    (words / "one.txt").write_text("not a picture", encoding="utf-8")
    refused(call("evaluate", damaged, "--data", words, "-n", 8, "--steps", 2), "words")
    refused(call("evaluate", damaged, "--data", tmp_path / "gone", "-n", 8), "gone", "--data")
    refused(call("sample", damaged, "-n", 2, "--where", "class=dusk"), "dusk", "day")


def test_an_unknown_leaf_in_a_file_names_its_neighbours(pictures: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("training:\n  bacth: 4\n")
    refused(call("train", pictures, "--config", file, "--dry-run"), "training.bacth", "training.batch")
    file.write_text("[1, 2]")
    refused(call("train", pictures, "--config", file, "--dry-run"), "mine.yaml")


def test_errors_are_one_json_object(kuosan: Callable[..., Result]) -> None:
    for words in (["train"], ["nonsense"], ["tune", "x"], ["sample", "x", "--bad"]):
        result = kuosan(*words, "--json")
        assert set(result.json) == {"error", "status"} and result.status == result.json["status"] == 2
    assert json.loads(kuosan("--json", "inspect", "nowhere").out)["status"] == 2
