"""What a folder means: classes, captions, tables, parts, links, and what is nobody's data."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kuosan.errors import UserError
from kuosan.modalities import load
from kuosan.modalities.kinds import MODALITIES, SUFFIXES, is_ignored, kind_of
from kuosan.modalities.walk import walk


def paint(path: Path, seed: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).convert(mode).save(path)


def test_every_suffix_of_the_contract_has_its_modality() -> None:
    assert {"image", "text", "music", "audio", "video", "motion", "shape", "plan", "medical"} == set(
        MODALITIES
    )
    for name, suffixes in SUFFIXES.items():
        for suffix in suffixes:
            assert kind_of("a.b" + suffix.upper()) == name
    assert kind_of("t10k-labels-idx1-ubyte") == kind_of("x.idx3-ubyte.gz") == "array"
    assert kind_of("archive.tar.gz") is None and kind_of("picture") is None


def test_paperwork_is_ignored_and_look_alikes_are_not() -> None:
    for name in ("README.md", "readme", "LICENSE.PDDL.txt", "SHA256SUMS", ".hidden.png", "ATTRIBUTION.md"):
        assert is_ignored(name)
    for name in ("license.png", "possums.txt", "sources.wav", "readings.txt"):
        assert not is_ignored(name)
    assert not is_ignored("sources", folder=True) and is_ignored(".git", folder=True)


def test_classes_are_the_last_folders(tmp_path: Path) -> None:
    for i in range(12):
        paint(tmp_path / "png" / str(i % 3 * 5) / f"{i}.png", i)
    paint(tmp_path / "loose.png", 99)
    (tmp_path / "README.md").write_text("words")
    (tmp_path / "SHA256SUMS").write_text("words")
    data = load(tmp_path)
    assert data.columns == {"class": ("0", "5", "10")}
    every = [
        (n, label)
        for split in (data.train, data.val)
        for n, label in zip(split.names, split.labels["class"].tolist(), strict=True)
    ]
    assert len(every) == 13
    for name, label in every:
        assert label == (3 if name == "loose.png" else ("0", "5", "10").index(name.split("/")[1]))


def test_a_single_folder_is_no_class(tmp_path: Path) -> None:
    for i in range(4):
        paint(tmp_path / "jpg" / f"{i}.png", i)
    assert load(tmp_path).columns == {}


@pytest.mark.parametrize(
    ("val", "test"), [("val", True), ("validation", False), ("test", False), ("Valid", True)]
)
@pytest.mark.parametrize("container", ["", "pictures/"])
def test_parts_by_folder(tmp_path: Path, val: str, test: bool, container: str) -> None:
    for i in range(8):
        paint(tmp_path / container / "train" / "ab"[i % 2] / f"{i}.png", i)
        paint(tmp_path / container / val / "ab"[i % 2] / f"{i}.png", 100 + i)
        if test and val.lower() != "test":
            paint(tmp_path / container / "test" / "ab"[i % 2] / f"{i}.png", 200 + i)
    data = load(tmp_path)
    assert data.columns == {"class": ("a", "b")}
    assert {name.split("/")[-3] for name in data.train.names} == {"train"} and len(data.train) == 8
    assert {name.split("/")[-3] for name in data.val.names} == {val} and len(data.val) == 8


def test_parts_are_no_classes_and_the_rest_is_trained_on(tmp_path: Path) -> None:
    for i in range(6):
        paint(tmp_path / "train" / f"{i}.png", i)
        paint(tmp_path / "val" / f"{i}.png", 100 + i)
    paint(tmp_path / "loose.png", 300)
    data = load(tmp_path)
    assert data.columns == {} and "loose.png" in data.train.names
    assert {name.split("/")[0] for name in data.val.names} == {"val"}


def test_a_lone_folder_called_test_is_just_a_folder(tmp_path: Path) -> None:
    for i in range(6):
        paint(tmp_path / "test" / f"{i}.png", i)
        paint(tmp_path / "cats" / f"{i}.png", 100 + i)
    assert load(tmp_path).columns == {"class": ("cats", "test")}


def test_captions_and_tables(tmp_path: Path) -> None:
    rows = []
    for i in range(20):
        paint(tmp_path / f"{i:02d}.png", i)
        (tmp_path / f"{i:02d}.txt").write_text(f"picture\n number {i}")
        rows.append(
            {"file_name": f"{i:02d}.png", "size": "big" if i % 2 else "small", "id": i, "kept": i < 3}
        )
    rows[0]["text"] = "from the table"
    rows.append({"file_name": "absent.png", "size": "big"})
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    data = load(tmp_path)
    assert data.columns == {"kept": ("false", "true"), "size": ("big", "small")}
    assert data.survey.captions == 20 and any(name == "absent.png" for name, _ in data.survey.left_alone)
    for split in (data.train, data.val):
        for i, name in enumerate(split.names):
            number = int(name[:2])
            assert split.captions[i] == ("from the table" if number == 0 else f"picture number {number}")
            assert data.columns["size"][split.labels["size"][i]] == ("big" if number % 2 else "small")


def test_csv_table_beside_its_files_and_with_holes(tmp_path: Path) -> None:
    lines = ["file_name,kind"]
    for i in range(12):
        paint(tmp_path / "sub" / f"{i}.png", i)
        if i != 5:
            lines.append(f"{i}.png,{'odd' if i % 2 else 'even'}")
    (tmp_path / "sub" / "metadata.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    data = load(tmp_path)
    labels = dict(
        pair
        for split in (data.train, data.val)
        for pair in zip(split.names, split.labels["kind"].tolist(), strict=True)
    )
    assert data.columns["kind"] == ("even", "odd")
    assert labels["sub/5.png"] == 2 and labels["sub/4.png"] == 0 and labels["sub/7.png"] == 1


def test_several_modalities_are_named(tmp_path: Path) -> None:
    for i in range(3):
        paint(tmp_path / f"{i}.png", i)
    (tmp_path / "notes.txt").write_text("not a caption: it has no picture")
    with pytest.raises(UserError, match=r"3 image, 1 text.*--modality image or text"):
        load(tmp_path)
    assert load(tmp_path, modality="image").survey.items == 3


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file or folder"):
        load(tmp_path / "absent")
    with pytest.raises(UserError, match="no files"):
        load(tmp_path)
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(UserError, match="no file of a known kind"):
        load(tmp_path)
    with pytest.raises(UserError, match="is not a modality"):
        load(tmp_path, modality="pictures")


def test_links_never_walk_in_a_circle(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for i in range(12):
        paint(root / "ab"[i % 2] / f"{i}.png", i)
    (root / "a" / "up").symlink_to(root)
    (root / "outside").symlink_to(tmp_path)
    (root / "again").symlink_to(root / "b")
    elsewhere = tmp_path.parent / (tmp_path.name + "-elsewhere")
    paint(elsewhere / "x.png", 50)
    (elsewhere / "back").symlink_to(root)
    (root / "c").symlink_to(elsewhere)
    # two links to one place, the second by way of its parent: its files are read once
    paint(elsewhere.parent / (elsewhere.name + "2") / "deep" / "y.png", 51)
    (root / "d").symlink_to(elsewhere.parent / (elsewhere.name + "2") / "deep")
    (root / "e").symlink_to(elsewhere.parent / (elsewhere.name + "2"))
    listing = walk(root)
    assert [f.name for f in listing.found if f.name.startswith("c/")] == ["c/x.png"]
    assert [f.name for f in listing.found if f.name.endswith("y.png")] == ["d/y.png"]
    assert len(listing.found) == 14
    reasons = dict(listing.aside)
    assert "back to itself" in reasons["a/up"] and "back to itself" in reasons["outside"]
    assert "read already" in reasons["again"] and "read already" in reasons["c/back"]


def test_bad_links_and_pipes_are_skipped(tmp_path: Path) -> None:
    for i in range(40):
        paint(tmp_path / f"{i}.png", i)
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    data = load(tmp_path)
    reasons = dict(data.survey.skipped)
    assert (
        data.survey.items == 40
        and data.survey.files == 43
        and set(reasons) == {"loop.png", "gone.png", "pipe.png"}
    )
    assert "back to itself" in reasons["loop.png"] and "not there" in reasons["gone.png"]
    assert "pipe" in reasons["pipe.png"]


def test_one_tenth_of_bad_files_is_borne_and_more_is_not(tmp_path: Path) -> None:
    for i in range(18):
        paint(tmp_path / f"{i}.png", i)
    for i in range(2):
        (tmp_path / f"bad{i}.png").write_bytes(b"")
    data = load(tmp_path)
    assert data.survey.items == 18 and [name for name, _ in data.survey.skipped] == ["bad0.png", "bad1.png"]
    (tmp_path / "bad2.jpg").write_text("words")
    with pytest.raises(UserError, match=r"3 of the 21 files.*bad0\.png: the file is empty"):
        load(tmp_path)


def test_a_name_that_is_not_text_is_still_json(tmp_path: Path) -> None:
    for i in range(3):
        paint(tmp_path / f"{i}.png", i)
    try:
        os.rename(os.fsencode(tmp_path / "0.png"), os.fsencode(tmp_path) + b"/\xff\xfe.png")
    except OSError:
        pytest.skip("this file system only takes names in UTF-8")
    data = load(tmp_path)
    assert data.survey.items == 3
    json.dumps(list(data.train.names + data.val.names)).encode("utf-8")


def test_nothing_of_the_users_is_written(tmp_path: Path) -> None:
    for i in range(5):
        paint(tmp_path / f"{i}.png", i)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")}
    load(tmp_path)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")} == before
