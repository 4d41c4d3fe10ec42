"""`encode`, `interpolate` and `sample --noise`: files, one object, and a sentence for what is yours to mend."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from .conftest import ITEMS, call, tree_of, write_pictures


@pytest.fixture(scope="module")
def encoded(trained: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "encoded"
    result = call("encode", trained, pictures, "-n", 7, "--steps", 8, "--out", out)
    assert result.status == 0 and "of 255 levels" in result.out and "N(0, 1)" in result.out, result.err
    return out


def test_encode_writes_noise_returned_items_errors_and_an_overview(
    trained: Path, pictures: Path, tmp_path: Path
) -> None:
    before = tree_of(pictures)
    out = tmp_path / "out"
    data = call("encode", trained, pictures, "-n", 7, "--out", out, "--json").json
    assert sorted(tree_of(out)) == [
        *[f"{i:05d}.png" for i in range(7)], "errors.json", "noise.safetensors", "overview.png",
        "samples.safetensors",
    ]  # fmt: skip
    assert data["n"] == 7 and data["steps"] == 40 and tree_of(pictures) == before
    for name in ("return_rms", "identical", "noise_mean", "noise_variance", "noise_norm"):
        assert data["errors"][name]["n"] == 7 and data["errors"][name]["stderr"] is not None
    assert json.loads((out / "errors.json").read_text())["errors"] == data["errors"]
    assert load_file(out / "noise.safetensors")["noise"].shape == (7, 1, 8, 8)
    # every file is the person's own again, under its own class
    for i, name in enumerate(data["names"]):
        returned, own = (np.asarray(Image.open(p)) for p in (out / f"{i:05d}.png", pictures / name))
        assert np.array_equal(returned, own) and data["conditions"]["class"][i] == Path(name).parent.name
    assert len({Path(name).parent.name for name in data["names"]}) == 2, "spread over the classes"


def test_a_folder_of_its_own_each_time_and_no_more_than_there_is(
    trained: Path, tmp_path: Path, pictures: Path
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    found = [call("encode", run, pictures, "--steps", 1, "--json").json for _ in range(2)]
    assert [Path(f["out"]).name for f in found] == ["encoded", "encoded-2"] and found[0]["n"] == ITEMS


def test_sample_takes_the_noise_back(trained: Path, encoded: Path, tmp_path: Path) -> None:
    noise = encoded / "noise.safetensors"
    data = call("sample", trained, "--noise", noise, "--out", tmp_path / "a", "--json").json
    assert data["n"] == 7 and (data["steps"], data["solver"]) == (8, "midpoint")
    for name in data["files"]:
        assert Path(name).read_bytes() == (encoded / Path(name).name).read_bytes()
    part = call(
        "sample", trained, "--noise", noise, "-n", 2, "--first", 3, "--out", tmp_path / "b", "--json"
    ).json
    assert [Path(f).name for f in part["files"]] == ["00003.png", "00004.png"]
    assert Path(part["files"][0]).read_bytes() == (encoded / "00003.png").read_bytes()
    other = call(
        "sample",
        trained,
        "--noise",
        noise,
        "--steps",
        30,
        "--where",
        "class=day",
        "--out",
        tmp_path / "c",
        "--json",
    ).json
    assert (
        other["steps"] == 30
        and other["solver"] != "midpoint"
        and other["conditions"] == {"class": ["day"] * 7}
    )
    states = load_file(tmp_path / "c" / "samples.safetensors")["x"]
    assert float((states - load_file(encoded / "samples.safetensors")["x"]).abs().mean()) > 1e-4


def test_interpolate_writes_a_way_and_a_strip(trained: Path, pictures: Path, tmp_path: Path) -> None:
    a, b = pictures / "day" / "002.png", pictures / "night" / "005.png"
    data = call("interpolate", trained, a, b, "-n", 4, "--out", tmp_path / "out", "--json").json
    assert sorted(tree_of(tmp_path / "out")) == [
        *[f"{i:05d}.png" for i in range(4)], "overview.png", "samples.safetensors",
    ]  # fmt: skip
    for end, path in ((0, a), (3, b)):
        assert np.array_equal(np.asarray(Image.open(data["files"][end])), np.asarray(Image.open(path)))
    assert data["conditions"] == {"class": [None] * 4} and len(data["norms"]) == 2 and 0 < data["angle"] < 180
    strip = Image.open(data["overview"])
    assert strip.width > 3 * strip.height
    text = call("interpolate", trained, a, b, "--where", "class=day", "--steps", 2, "--out", tmp_path / "out")
    assert text.status == 0 and "8 from" in text.out and "°" in text.out


def test_what_is_yours_to_mend_is_a_sentence(
    trained: Path, pictures: Path, encoded: Path, tmp_path: Path
) -> None:
    broken, text, other = tmp_path / "broken.png", tmp_path / "words.txt", tmp_path / "other.safetensors"
    broken.write_bytes(b"no picture")
    text.write_text("words")
    save_file({"noise": torch.zeros(2, 3, 8, 8)}, other)
    one, noise = pictures / "day" / "000.png", encoded / "noise.safetensors"
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(noise.read_bytes()[:-9])
    out = ("--out", tmp_path / "out")
    for words, told in [
        (("encode", trained, tmp_path / "nowhere"), "nowhere"),
        (("encode", trained, broken), "can be read (broken.png"),
        (("encode", trained, text), "image"),
        (("encode", tmp_path, pictures), "no run"),
        (("encode", trained, pictures, "-n", 0), "-n 0"),
        (("encode", trained, pictures, "--where", "class=dusk"), "dusk"),
        (("encode", trained, pictures, "--steps", -1), "--steps"),
        (("interpolate", trained, one, pictures), f"{ITEMS} items"),
        (("interpolate", trained, one, broken), "broken.png"),
        (("interpolate", trained, one, one, "-n", 1), "-n 1"),
        (("sample", trained, "--noise", tmp_path / "none"), "no noise at"),
        (("sample", trained, "--noise", damaged), "damaged"),
        (("sample", trained, "--noise", other), "shape"),
        (("sample", trained, "--noise", noise, "-n", 8), "7 samples"),
        (("sample", trained, "--noise", noise, "--first", 7), "7 samples"),
    ]:
        result = call(*words, *out)
        assert result.status == 2, (words, result.out, result.err)
        sentence = result.err.strip().splitlines()[-1]
        assert sentence.startswith("kuosan: ") and told in sentence, sentence
        assert "Traceback" not in result.err
        assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_larger_picture_is_brought_to_the_runs_form(trained: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "data", 2)
    Image.open(folder / "day" / "000.png").resize((20, 16)).convert("RGB").save(tmp_path / "large.png")
    data = call("encode", trained, tmp_path / "large.png", "--out", tmp_path / "out", "--json").json
    assert (
        data["n"] == 1
        and data["conditions"] == {"class": [None]}
        and data["errors"]["return_rms"]["stderr"] is None
    )
    assert Image.open(tmp_path / "out" / "00000.png").size == (8, 8)
    assert "NaN" not in (tmp_path / "out" / "errors.json").read_text()
