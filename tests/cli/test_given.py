"""`sample --given`, `--vary`, `--size`: files, one object, and a sentence for what is yours to mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import call

FEW = ("--steps", 2, "--solver", "ddim")


@pytest.fixture(scope="module")
def item(pictures: Path) -> Path:
    return sorted((pictures / "day").iterdir())[0]


def grey(path: object) -> np.ndarray:
    return np.asarray(Image.open(str(path)))


def test_given_pixels_are_the_file_s_own_in_every_sample(trained: Path, item: Path, tmp_path: Path) -> None:
    asked = (
        "sample",
        trained,
        "-n",
        3,
        *FEW,
        "--given",
        item,
        "--keep",
        "height:0-25%",
        "--keep",
        "width:last",
    )
    data = call(*asked, "--out", tmp_path / "a", "--json").json
    assert data["n"] == 3 and data["given_share"] == pytest.approx((2 * 8 + 6) / 64)
    assert not data["trained_with_given_parts"] and data["sides"] == [8, 8]
    own = grey(item)
    for path in data["files"]:
        found = grey(path)
        assert np.array_equal(found[:2], own[:2]) and np.array_equal(found[:, -1], own[:, -1])
        assert not np.array_equal(found, own)
    assert Path(data["given_picture"]).is_file()
    said = call(*asked, "--out", tmp_path / "b").out
    assert "34.4% of each was given" in said and "corrected" in said


def test_a_folder_is_one_sample_for_each_of_its_items(trained: Path, pictures: Path, tmp_path: Path) -> None:
    asked = (
        "sample",
        trained,
        *FEW,
        "--given",
        pictures / "night",
        "--keep",
        "box:0-3,all",
        "--out",
        tmp_path / "a",
    )
    result = call(*asked)
    assert result.status == 2 and "'all' means no places along width" in result.err
    data = call(*asked[:-4], "--keep", "box:0-3,0-7", "--out", tmp_path / "a", "--json").json
    assert data["n"] == len(list((pictures / "night").iterdir()))
    names = sorted((pictures / "night").iterdir())
    for path, own in zip(data["files"], names, strict=True):
        assert np.array_equal(grey(path)[:4], grey(own)[:4])


def test_a_mask_and_a_variation_and_a_larger_one(trained: Path, item: Path, tmp_path: Path) -> None:
    white = np.zeros((8, 8), np.uint8)
    white[2:6, 2:6] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    base = ("sample", trained, "-n", 2, *FEW)
    data = call(
        *base, "--given", item, "--mask", tmp_path / "mask.png", "--out", tmp_path / "m", "--json"
    ).json
    own, inside = grey(item), white > 0
    for path in data["files"]:
        assert np.array_equal(grey(path)[~inside], own[~inside])
    data = call(*base, "--vary", item, "--strength", 0, "--out", tmp_path / "v", "--json").json
    assert data["strength"] == 0 and all(np.array_equal(grey(path), own) for path in data["files"])
    data = call(*base, "--size", "8x20", "--out", tmp_path / "s", "--json").json
    assert data["sides"] == [8, 20] and data["stitch"] == "blend"
    assert all(grey(path).shape == (8, 20) for path in data["files"])
    data = call(
        *base, "--given", item, "--size", "12x8", "--stitch", "continue", "--out", tmp_path / "c", "--json"
    ).json
    assert data["stitch"] == "continue" and all(np.array_equal(grey(p)[2:10], own) for p in data["files"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--given", "ITEM"), "nothing is left to be made"),
        (("--given", "nowhere.png", "--keep", "height:first"), "there is no file nowhere.png"),
        (("--given", "ITEM", "--keep", "time:first"), "no axis 'time'"),
        (("--given", "ITEM", "--bars", "1-2"), "--bars is for music"),
        (("--keep", "height:first"), "add --given FILE"),
        (("--strength", "0.5"), "add --vary FILE"),
        (("--length", "4s"), "use --size"),
        (("--size", "4"), "smaller than the 8×8"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    words: tuple[str, ...], says: str, trained: Path, item: Path, tmp_path: Path
) -> None:
    result = call("sample", trained, *(item if w == "ITEM" else w for w in words), "--out", tmp_path / "none")
    assert result.status == 2 and says in result.err and not (tmp_path / "none").exists()


def test_inspect_says_how_parts_are_given(trained: Path) -> None:
    assert "by correction: its network was not trained with any" in " ".join(
        call("inspect", trained).out.split()
    )
