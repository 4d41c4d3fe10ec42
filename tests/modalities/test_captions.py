"""Which columns are captions, how they are read, and tables of what arrays hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import load
from kuosan.modalities.captions import Captions, caption_columns, learn_captions

AUTO = {"column": "auto"}
COLOURS = ("red", "blue", "green", "white", "black", "grey", "pink", "brown")
KINDS = [f"a {size} {colour} boat" for size in ("big", "small", "tiny") for colour in COLOURS]
TEXTS = [f"{kind} number {i}" for i, kind in enumerate(KINDS * 2)]


def pictures(folder: Path, n: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.Generator(np.random.Philox(key=3))
    for i in range(n):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i:03d}.png")


@pytest.mark.parametrize("form", ["side-cars", "metadata.jsonl", "metadata.csv", "npz", "npz with table"])
def test_captions_are_found_in_every_form(form: str, tmp_path: Path) -> None:
    n, data = len(TEXTS), tmp_path / "data"
    pictures(data, n)
    names = sorted(p.name for p in data.glob("*.png"))
    if form == "side-cars":
        for name, text in zip(names, TEXTS, strict=True):
            (data / name).with_suffix(".txt").write_text(text)
    elif form == "metadata.jsonl":
        rows = [{"file_name": name, "prompt": text} for name, text in zip(names, TEXTS, strict=True)]
        (data / form).write_text("\n".join(map(json.dumps, rows)))
    elif form == "metadata.csv":
        lines = [f'{name},"{text}",{i % 3}' for i, (name, text) in enumerate(zip(names, TEXTS, strict=True))]
        (data / form).write_text("\n".join(["file_name,description,kind", *lines]))
    else:
        images = np.stack([np.asarray(Image.open(data / name)) for name in names])
        data = tmp_path / "arrays"
        data.mkdir()
        if form == "npz":
            np.savez(data / "x.npz", images=images, caption=np.array(TEXTS))
        else:
            np.savez(data / "x.npz", images=images)
            order = list(range(n))[::-1]
            lines = [f"{i}\t{TEXTS[i]}" for i in order]
            (data / "captions.tsv").write_text("\n".join(["index\ttext", *lines]))
            data = data / "x.npz"
    found = load(data, caption=AUTO)
    assert found.captions is not None
    for split in (found.train, found.val):
        assert len(split) and all(
            text == TEXTS[int(name.rpartition("#")[2] if "#" in name else name[:3])]
            for name, text in zip(split.names, split.captions, strict=True)
        )
        assert torch.equal(split.labels["caption"], found.captions.rows(split.captions))
    assert set(found.columns) == ({"kind"} if form == "metadata.csv" else set())
    assert load(data, caption={"column": "none"}).captions is None and load(data).captions is None


def test_what_returns_stays_categorical_and_what_identifies_is_nothing() -> None:
    columns = {
        "caption": ["a red cat", "a blue dog"] * 30,
        "file": [f"IMG_{i:04d}.jpg" for i in range(60)],
        "when": [f"2024-01-{i:02d} 10:00" for i in range(60)],
        "note": [f"seen on day {i} by the lake" for i in range(60)],
    }
    assert caption_columns(columns, frozenset()) == ("note",)
    assert caption_columns({k: v for k, v in columns.items() if k != "note"}, frozenset()) == ()
    assert caption_columns(columns, frozenset(), "caption") == ("caption",)
    assert caption_columns(columns, frozenset(), "note+file") == ("note", "file")
    named = columns | {
        "title": [f"boat {i}" for i in range(60)],
        "tags": [f"sea, boat {i}" for i in range(60)],
    }
    assert caption_columns(named, frozenset()) == ("title", "tags")
    assert caption_columns(columns, frozenset({"note"})) == ()
    with pytest.raises(UserError, match="asks for the column 'colour'"):
        caption_columns(columns, frozenset(), "colour")


def test_few_captions_are_values_to_choose_from_and_are_read_again_so(tmp_path: Path) -> None:
    pictures(tmp_path, 60)
    for i, path in enumerate(sorted(tmp_path.glob("*.png"))):
        path.with_suffix(".txt").write_text(("a red cat", "a blue dog")[i % 2])
    found = load(tmp_path, caption=AUTO)
    assert found.captions is None and found.columns == {"caption": ("a blue dog", "a red cat")}
    again = load(tmp_path, like=found.modality, columns=found.columns)
    assert torch.equal(again.train.labels["caption"], found.train.labels["caption"])
    forced = load(tmp_path, caption={"column": "caption"})
    assert forced.captions is not None and forced.columns == {}


def test_templates_that_return_are_captions_when_there_are_many() -> None:
    texts = [
        f"a {c} {s}"
        for c in ("red", "blue", "green", "white", "black")
        for s in ("cat", "dog", "cow", "pig", "hen")
    ]
    assert caption_columns({"caption": texts * 10}, frozenset()) == ("caption",)
    assert caption_columns({"caption": texts[:20] * 10}, frozenset()) == ()


def test_reading_round_trips_and_depends_on_training_captions_alone() -> None:
    reading, _ = learn_captions(TEXTS, "caption")
    again, _ = learn_captions(TEXTS, "caption")
    assert reading.tokeniser.to_json() == again.tokeniser.to_json()
    rows = reading.rows([*TEXTS, "", "A  big\nRED boat", "ein Boot, 三只船"])
    assert [reading.text(row) for row in rows.tolist()[: len(TEXTS)]] == TEXTS
    assert reading.text(rows[-3].tolist()) is None and (rows[-3] == reading.null).all()
    assert reading.text(rows[-2].tolist()) == "a big red boat"
    told = reading.of(TEXTS, [()] * len(TEXTS), [])
    assert told.remarks("a big red boat") == []
    assert "'zeppelin'" in told.remarks("a big red zeppelin")[0]
    assert "only the first" in told.remarks("a big red boat " * 40)[0]
    saved = Captions.from_files(told.files().__getitem__)
    assert saved.items == told.items and saved.words == told.words
    assert torch.equal(saved.rows(TEXTS), told.rows(TEXTS))


def test_keywords_are_thinned_in_training_and_nowhere_else() -> None:
    texts = [f"thing {i}, one, two, three, four" for i in range(8)]
    reading, choices = learn_captions(texts, "tags")
    assert reading.thin == 0.3 and "keywords" in {k: w for k, _, w in choices}["caption.thin"]
    seeds = Seeds.of(0, range(400))
    many = [texts[i % 8] for i in range(400)]
    shown = [reading.text(row) for row in reading.thinned(many, seeds).tolist()]
    assert all(s is not None and t.startswith(s.split(",")[0]) for s, t in zip(shown, many, strict=True))
    kept = sum(len(str(s).split(",")) - 1 for s in shown) / (4 * 400)
    assert abs(kept - 0.7) < 4 * (0.21 / 1600) ** 0.5
    part = reading.thinned(many[7:9], seeds.take([7, 8]))
    assert torch.equal(part, reading.thinned(many, seeds)[7:9])  # whatever the neighbours


def test_a_table_is_of_the_arrays_with_as_many_items(tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.Philox(key=4))
    for side, n in ((8, 30), (16, 30), (8, 40)):
        np.savez(tmp_path / f"x{side}-{n}.npz", images=rng.integers(0, 255, (n, side, side), dtype=np.uint8))
    lines = [f"{i}\tthe text of item {i}" for i in range(30)]
    (tmp_path / "captions.tsv").write_text("\n".join(["index\ttext", *lines]))
    found = load(tmp_path, caption=AUTO)
    assert found.survey.items == 30 + 40 and found.survey.captions == 30
    assert [name for name, _ in found.survey.left_alone] == ["x8-30.npz"]
    told = dict(zip(found.train.names, found.train.captions, strict=True))
    assert all(text == "" for name, text in told.items() if name.startswith("x8-40"))
