"""Texts as passages: whole documents, nothing held out in any training window, and the rules of the choices."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import Dataset, Ragged, Split, TextModality, load, train_tokeniser
from kuosan.modalities.folder import open_folder
from kuosan.modalities.split import held_out_count
from kuosan.modalities.text_sheet import _Pen, text_sheet

WORDS = ["moon", "wind", "river", "stone", "old", "boat", "lamp", "snow", "pine", "crane", "far", "night"]


def prose(words: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    return " ".join(rng.choice(WORDS, words)) + "."


def write(folder: Path, texts: list[str], prefix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(texts):
        (folder / f"{prefix}{i:03d}.txt").write_bytes(text.encode())
    return folder


def works(data: Dataset) -> dict[str, str]:
    """The text of every document, joined from its passages on both sides in their order."""
    parts: dict[str, dict[int, str]] = defaultdict(dict)
    for split in (data.train, data.val):
        for i, name in enumerate(split.names):
            work, _, number = name.partition(":")
            parts[work][int(number or 0)] = data.modality.tokeniser.decode(split.x.item(i).tolist())
    return {work: "".join(pieces[k] for k in sorted(pieces)) for work, pieces in parts.items()}


def places(split: Split) -> Ragged:
    """The same passages over a stream whose every element is its own place."""
    return dataclasses.replace(split.x, stream=torch.arange(len(split.x.stream)))


CORPORA = {
    "one book": [prose(3_000, 0)],
    "few books": [prose(900, i) for i in range(5)],
    "many, long and short": [prose(int(n), i) for i, n in enumerate(np.geomspace(3, 700, 60))],
    "short ones": [prose(8, i) for i in range(400)],
    "one line without an end": ["moonwindriver" * 2_000],
}


@pytest.fixture(scope="module", params=sorted(CORPORA))
def corpus(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Dataset]:
    texts = CORPORA[request.param]
    folder = write(tmp_path_factory.mktemp("texts"), texts)
    return texts, load(folder, options={"text": {"length": 32}})


def test_passages_of_a_document_make_it_up(corpus: tuple[list[str], Dataset]) -> None:
    texts, data = corpus
    assert sorted(works(data).values()) == sorted(set(texts))
    lengths = torch.cat([data.train.x.lengths, data.val.x.lengths])
    assert lengths.max() <= 32 and lengths.min() >= 1


def test_nothing_held_out_is_ever_in_a_training_window(corpus: tuple[list[str], Dataset]) -> None:
    """The law of the split: whatever the seeds, a training window shows only places of training passages."""
    _, data = corpus
    held = {int(p) for i in range(len(data.val)) for p in places(data.val).item(i)}
    own = {int(p) for i in range(len(data.train)) for p in places(data.train).item(i)}
    assert held and not held & own
    seen: set[int] = set()
    for seed in range(12):
        windows = places(data.train).windows(32, -1, Seeds.of(seed, len(data.train)))
        seen |= set(windows.flatten().tolist()) - {-1}
    assert not seen & held and seen <= own
    for i in range(len(data.train)):  # and not by luck: no window of any seed could reach one
        low, high = int(data.train.x.low[i]), int(data.train.x.high[i])
        assert not held & set(range(low, high))


def test_every_offset_of_a_document_belongs_to_one_passage(corpus: tuple[list[str], Dataset]) -> None:
    """Before anything is held out, the beginnings that windows may have share out each document evenly."""
    texts, data = corpus
    gathered = TextModality.gather(open_folder(data.survey.source), data.modality)
    x, begins = gathered.storage, defaultdict(list)
    for i, name in enumerate(gathered.names):
        begins[name.partition(":")[0]] += range(int(x.low[i]), max(int(x.start[i]), int(x.high[i]) - 32) + 1)
    assert len(begins) == len(texts)
    for offsets in begins.values():
        assert sorted(offsets) == list(range(min(offsets), max(offsets) + 1))


def test_windows_slide_in_training_only(corpus: tuple[list[str], Dataset]) -> None:
    _, data = corpus
    every = torch.arange(len(data.train))
    still, _ = data.train.batch(every)
    assert still.dtype == torch.int64 and still.shape == (len(every), 32)
    for i in (0, len(every) // 2, len(every) - 1):
        item = data.train.x.item(i)
        assert (
            torch.equal(still[i, : len(item)], item.long())
            and (still[i, len(item) :] == data.modality.tokeniser.end).all()
        )
    moved, _ = data.train.batch(every, Seeds.of(1, len(every)))
    long = data.train.x.start > data.train.x.low
    changed = (moved != still).any(1)
    assert not changed[~long].any() and (not long.any() or changed[long].float().mean() > 0.8)
    part, _ = data.train.batch(every[3:5], Seeds.of(1, range(3, 5)))
    assert torch.equal(part, moved[3:5])


def test_about_a_twentieth_is_held_out_in_whole_sections(tmp_path: Path) -> None:
    data = load(write(tmp_path, [prose(40_000, 1)]), options={"text": {"length": 32}})
    held = sorted(int(name.partition(":")[2]) for name in data.val.names)
    n = len(data.train) + len(data.val)
    assert 0 <= held_out_count(n) - len(held) < 16
    breaks = sum(b - a > 1 for a, b in zip(held, held[1:], strict=False))
    assert breaks < len(held) / 8, "held-out passages stand together"
    assert breaks >= 2, "and in several places"


def test_documents_stay_together_where_there_are_enough(tmp_path: Path) -> None:
    data = load(write(tmp_path, [prose(100, i) for i in range(60)]), options={"text": {"length": 32}})
    train, val = ({name.partition(":")[0] for name in split.names} for split in (data.train, data.val))
    assert val and not train & val


def test_names_and_order_of_files_change_nothing(tmp_path: Path) -> None:
    texts = [prose(30 + i, i) for i in range(50)]
    one = load(write(tmp_path / "a", texts))
    two = load(write(tmp_path / "b", texts[::-1], "other"))
    assert one.survey.fingerprint == two.survey.fingerprint
    for a, b in ((one.train, two.train), (one.val, two.val)):
        assert sorted(map(tuple, a.batch(torch.arange(len(a)))[0].tolist())) == sorted(
            map(tuple, b.batch(torch.arange(len(b)))[0].tolist())
        )
    assert one.modality.files() == two.modality.files()


def test_copies_of_documents_go_and_refrains_stay(tmp_path: Path) -> None:
    refrain = "and the moon is over the river. " * 40
    texts = [prose(60, i) for i in range(50)]
    data = load(write(tmp_path, [*texts, texts[7], texts[7], refrain]), options={"text": {"length": 32}})
    assert data.survey.duplicates["documents_repeated"] == 2
    found = list(works(data).values())
    assert found.count(texts[7]) == 1 and refrain in found


def test_near_copies_stay_on_one_side_and_are_reported(tmp_path: Path) -> None:
    texts = [prose(60, i) for i in range(60)]
    pairs = [text.replace("moon", "Moon ", 1) + " end" for text in texts]
    data = load(
        write(tmp_path, [t for pair in zip(texts, pairs, strict=True) for t in pair]),
        options={"text": {"length": 32}},
    )
    found = data.survey.duplicates
    assert found["near_copies"] == 60 and len(found["near_examples"][0]) == 2
    train, val = ({int(name[:3]) // 2 for name in split.names} for split in (data.train, data.val))
    assert val and not train & val


def test_near_copies_of_given_held_out_texts_are_counted(tmp_path: Path) -> None:
    texts = [prose(60, i) for i in range(12)]
    write(tmp_path / "train", texts[:10])
    write(tmp_path / "val", [texts[3] + " end", *texts[10:]])
    assert load(tmp_path).survey.duplicates["near_copies_of_held_out"] == 1


@pytest.mark.parametrize(
    ("sizes", "length"),
    [
        ([20] * 100, 32),
        ([40] * 96 + [900] * 4, 48),
        ([100] * 94 + [900] * 6, 256),
        ([60], 32),
        ([10_000], 256),
        ([2_000], 96),
    ],
)
def test_automatic_length(tmp_path: Path, sizes: list[int], length: int) -> None:
    rng = np.random.default_rng(0)
    data = load(
        write(tmp_path, ["".join(rng.choice(list("abcdefgh"), n)) for n in sizes]),
        options={"text": {"tokeniser": "characters"}},
    )
    assert data.modality.length == length


def test_small_corpora_work(tmp_path: Path) -> None:
    data = load(write(tmp_path / "two hundred", [prose(40, 0)[:200]]))
    assert data.survey.totals["characters"] == 200 and data.modality.length == 32
    assert (len(data.train), len(data.val)) == (6, 1)
    one = load(write(tmp_path / "one", ["x"]))
    assert (len(one.train), len(one.val)) == (1, 0)
    assert one.modality.decode(one.train.batch(torch.tensor([0]))[0]) == ["x"]
    with pytest.raises(UserError, match="blank"):
        load(write(tmp_path / "none", ["", " \n"]))


def test_a_survey_counts_documents_characters_and_tokens(tmp_path: Path) -> None:
    texts = [prose(20, i) for i in range(9)] + ["", "秋风" * 30]
    data = load(write(tmp_path, texts), options={"text": {"tokeniser": "bytes"}})
    totals = data.survey.totals
    assert totals["documents"] == 10 and totals["blank documents"] == 1
    assert totals["characters"] == sum(map(len, texts)) and totals["tokens"] == sum(
        len(t.encode()) for t in texts
    )
    assert totals["characters per token"] == pytest.approx(totals["characters"] / totals["tokens"], abs=1e-3)
    assert sum(data.survey.lengths.values()) == 10 and data.survey.lengths["129–256"] == 1
    assert data.survey.items == len(data.train) + len(data.val)
    json.dumps(data.survey.to_json())


def test_a_condition_is_judged_by_documents_and_said_of_every_passage(tmp_path: Path) -> None:
    rows = [{"text": prose(60, i), "id": i, "mood": "ab"[i % 2]} for i in range(50)]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    data = load(tmp_path, options={"text": {"length": 32}})
    assert data.columns == {"mood": ("a", "b")}, "50 numbers in 250 passages still tell documents apart"
    for split in (data.train, data.val):
        for name, label in zip(split.names, split.labels["mood"].tolist(), strict=True):
            assert label == int(name.partition("#")[2].partition(":")[0]) % 2


def test_other_data_takes_the_form_of_a_model(tmp_path: Path) -> None:
    first = load(write(tmp_path / "a", [prose(50, i) for i in range(20)]))
    other = load(write(tmp_path / "b", ["秋风起兮白云飞 " + prose(300, 99)]), like=first.modality)
    assert other.modality.length == first.modality.length
    assert other.modality.files() == first.modality.files() and works(other)["000.txt"].startswith("秋风起")


def test_options_of_text(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", [prose(50, i) for i in range(20)])
    trained, _ = train_tokeniser([prose(50, 1)], "bpe", 300)
    assert load(folder, options={"text": {"tokeniser": trained, "length": 5}}).modality.length == 5
    (tmp_path / "tokenizer.json").write_bytes(trained.to_json())
    assert (
        load(folder, options={"text": {"tokeniser": str(tmp_path)}}).modality.tokeniser.pieces
        == trained.pieces
    )
    assert (
        load(folder, options={"text": {"tokeniser": "bpe", "vocabulary": 290}}).modality.tokeniser.size == 290
    )
    for options, said in (
        ({"length": 1}, "from 2 on"),
        ({"tokeniser": str(tmp_path), "vocabulary": 300}, "own vocabulary"),
        ({"tokeniser": "wordz"}, "wordz"),
        ({"document": "page"}, "paragraph"),
    ):
        with pytest.raises(UserError, match=said):
            load(folder, options={"text": options})


def modality(length: int = 12) -> TextModality:
    return TextModality(train_tokeniser(["the river"], "characters")[0], length)


def test_states_are_tokens_then_end() -> None:
    text = modality()
    end, size = text.tokeniser.end, text.tokeniser.size
    x = text.encode(["the", "", "the river runs on", "秋风"])
    assert x.shape == (4, 12) and x.dtype == torch.int64 and x.max() < size
    assert (x[0, 3:] == end).all() and (x[1] == end).all() and (x[2] != end).all()
    assert text.decode(x) == ["the", "", "the river ru", "秋风"]
    x[0, 1], x[0, 5] = size, 0
    assert text.decode(x)[0] == "t░e", "a mask is shown, and what comes behind END is not"


def test_the_tokeniser_is_kept_beside_the_recipe() -> None:
    text = modality()
    assert "tokeniser" not in json.dumps(text.spec()) and set(text.files()) == {"tokenizer.json"}
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        TextModality.from_spec(text.spec())


def test_a_sheet_shows_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    one, more = text_sheet(["moon"]), text_sheet(["moon", "river", "stone"], columns=3)
    assert more.height == one.height and more.width > 2.5 * one.width
    assert text_sheet(["moon"], scale=2).size == (2 * one.width, 2 * one.height)
    assert text_sheet(["moon\nriver"]).height > one.height
    assert np.asarray(text_sheet(["moon"])).min() < 60 < np.asarray(text_sheet([""])).min()


def test_a_character_without_a_glyph_is_a_dot_and_never_a_box() -> None:
    pen = _Pen(13)
    for character in ("\ue000", "\x01", "\u0378"):  # private, control, unassigned: no font has them
        assert pen.glyph(character)[0] == "·"
    assert pen.glyph("é")[0] == "é" and "é" not in pen.missing
    assert text_sheet(["\ue000"]).height > text_sheet(["a"]).height, "a line says what the dots are"


def test_lines_are_wrapped_and_nothing_is_lost() -> None:
    pen, text = _Pen(13), prose(60, 3) + "\n" + "x" * 200
    lines = pen.wrap(text, 200, 99)
    assert "".join(lines) == text.replace("\n", "") and lines.count("") == 0
    assert all(sum(pen.glyph(c)[2] for c in line.rstrip()) <= 200 for line in lines)
    cut = pen.wrap(text, 200, 4)
    assert len(cut) == 4 and cut[:3] == lines[:3] and cut[3] == lines[3].rstrip() + "…"


@pytest.mark.parametrize(
    ("name", "documents", "columns"),
    [
        ("chinese_poetry/regulated_verse.tsv", 2_760, {"author"}),
        ("sgd_dialogues", 324, {"services"}),
        ("mts_dialog", 1_301, {"section_header"}),
    ],
)
def test_real_sets(shared_data: Callable[[str], Path], name: str, documents: int, columns: set[str]) -> None:
    start = time.perf_counter()
    data = load(shared_data(name))
    assert time.perf_counter() - start < 20  # about 2 s on an idle core
    assert data.survey.totals["documents"] == documents and set(data.columns) == columns
    assert not data.survey.skipped


def test_real_book(shared_data: Callable[[str], Path]) -> None:
    path = shared_data("tinyshakespeare")
    data = load(path, options={"text": {"tokeniser": "characters"}})
    assert (data.modality.tokeniser.size, data.modality.length) == (65 + 256 + 1, 256)
    assert works(data)["input.txt"] == (path / "input.txt").read_text(encoding="utf-8")
