"""Documents from files: whatever the encoding and the container, the text is the one that was written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kuosan.errors import UserError
from kuosan.modalities import Dataset, Unreadable, load
from kuosan.modalities.folder import open_folder
from kuosan.modalities.text_encoding import decode_text
from kuosan.modalities.text_read import Documents, read_documents
from kuosan.modalities.text_records import read_records

CHINESE = "秋风起兮白云飞，草木黄落兮雁南归。兰有秀兮菊有芳，怀佳人兮不能忘。\n泛楼船兮济汾河"
FRENCH = "Le cœur a ses raisons que la raison ne connaît point. Été, forêt, garçon, où, ça va.\nL'élève — « à côté »."
GERMAN = "Über den Wäldern hängt schöner Nebel; größer als früher."
RUSSIAN = "Широка страна моя родная, много в ней лесов, полей и рек."
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
TRADITIONAL = "長恨歌：漢皇重色思傾國，御宇多年求不得。楊家有女初長成，養在深閨人未識。"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "gb18030"), (CHINESE, "gbk"), (CHINESE[:8], "gbk"), (FRENCH, "cp1252"), (GERMAN, "latin-1"),
        ("café", "latin-1"), (TRADITIONAL * 2, "big5"), (RUSSIAN, "cp1251"), (JAPANESE, "shift_jis"),
        *((text, code) for text in (CHINESE, FRENCH) for code in ("utf-8", "utf-8-sig", "utf-16", "utf-32")),
        (FRENCH, "utf-16-le"), (FRENCH, "utf-16-be"), ("plain", "ascii"), ("", "utf-8"),
    ],
)  # fmt: skip
def test_encodings_are_found_out(text: str, encoding: str, end: str) -> None:
    assert decode_text(text.replace("\n", end).encode(encoding)) == text


def test_only_the_line_ends_of_windows_are_changed() -> None:
    text = " \t a\rb \n\n c\x0b\x0c\u2028\u00a0d\n\n"
    assert decode_text(text.encode()) == text
    assert decode_text(b"a\r\n\r\r\nb") == "a\n\r\nb"


def test_what_is_no_text_is_said_plainly() -> None:
    noise = np.random.default_rng(0).integers(0, 256, 4_000).astype(np.uint8).tobytes()
    for data in (
        noise,
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + noise,
        gzip.compress(FRENCH.encode() * 50),
        b"\0\1\2",
    ):
        with pytest.raises(Unreadable, match="binary"):
            decode_text(data)
    whole = CHINESE.encode()
    for data in (whole[:-1], whole[:40] + b"\xff" + whole[42:], "\ufeffab".encode("utf-16-le") + b"\0"):
        with pytest.raises(Unreadable, match="damaged: not valid UTF-"):
            decode_text(data)


def documents(path: Path, **options: str) -> Documents:
    return read_documents(open_folder(path), **options)


def texts(path: Path, **options: str) -> list[str]:
    return [document.text for document in documents(path, **options).documents]


def write(path: Path, *parts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")


RECORDS = [
    {"id": i, "text": f"text number {i}, with “quotes”,\nand a line", "kind": "ab"[i % 2]} for i in range(6)
]


@pytest.mark.parametrize(
    ("rows", "first", "columns"),
    [
        (["It was a dark night.", "Nobody came.", "So we left."], "It was a dark night.", {"1"}),
        (["5,a fine film of its kind", "1,dull"], "a fine film of its kind", {"1", "2"}),
        (["春眠不觉晓。", "处处闻啼鸟。"], "春眠不觉晓。", {"1"}),
        (["x" * 81, "y"], "x" * 81, {"1"}),
        (["label,text", "5,a fine film"], "a fine film", {"label", "text"}),
        (["How old are you?,text", "5,a fine film"], "a fine film", {"How old are you?", "text"}),
        (["title of the work", "Hamlet"], "Hamlet", {"title of the work"}),
    ],
)
def test_a_table_may_do_without_a_row_of_names(
    tmp_path: Path, rows: list[str], first: str, columns: set[str]
) -> None:
    """Its first row is then a text like any other, and not lost."""
    write(tmp_path / "x.csv", *rows)
    found = read_records(tmp_path / "x.csv")
    assert set(found[0]) == columns
    assert first in found[0].values()
    assert len(found) == len(rows) - (first not in rows[0])


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_container_gives_the_same_documents(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    if suffix == "jsonl":
        write(path, *(json.dumps(r) for r in RECORDS), "")
    elif suffix == "json":
        write(path, json.dumps(RECORDS, ensure_ascii=False))
    elif suffix == "parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(RECORDS), path)
    else:
        mark = "\t" if suffix == "tsv" else ","
        rows = [mark.join(("id", "text", "kind"))]
        rows += [mark.join((str(r["id"]), f'"{r["text"]}"', str(r["kind"]))) for r in RECORDS]
        write(path, *rows)
    found = documents(path)
    assert [d.text for d in found.documents] == [r["text"] for r in RECORDS]
    assert [d.columns["kind"] for d in found.documents] == [r["kind"] for r in RECORDS]
    assert [d.columns["id"] for d in found.documents] == [str(r["id"]) for r in RECORDS]
    assert "text" not in found.documents[0].columns
    assert ("text column", "text", "in one file") in found.choices


def test_semicolons_and_long_cells(tmp_path: Path) -> None:
    long = "word, " * 40_000
    write(tmp_path / "x.csv", "title;body", f"one;{long}", "two;short")
    assert texts(tmp_path) == [long, "short"]


def test_a_quotation_mark_in_a_table_with_tabs_is_a_character(tmp_path: Path) -> None:
    write(tmp_path / "x.tsv", "text\tn", '"stray\t1', "plain\t2", 'say "so"\t3')
    assert texts(tmp_path) == ['"stray', "plain", 'say "so"']


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"author": "x" * 99, "paragraphs": ["one", "two"]}, "one\ntwo"),
        ({"title": "t", "para": ["one"]}, "one"),
        ({"utterance": "hello", "note": "a longer string than that"}, "hello"),
        ({"a": "short", "b": "the longest string", "n": 123456789012345678901}, "the longest string"),
        ({"Text": "capital", "text ": None}, "capital"),
        ({"turns": [{"speaker": "A", "text": "Hi."}, {"speaker": "B", "text": "Ho."}]}, "A: Hi.\nB: Ho."),
        ({"messages": [{"role": "user", "content": "Hi."}]}, "user: Hi."),
        ({"text": "a\r\nb"}, "a\nb"),
        ({"text": "half \ud800 a pair"}, "half \ufffd a pair"),
    ],
)
def test_the_text_of_a_record(tmp_path: Path, record: dict[str, object], text: str) -> None:
    write(tmp_path / "x.jsonl", json.dumps(record))
    assert texts(tmp_path) == [text]


def test_json_of_many_shapes(tmp_path: Path) -> None:
    book = {
        "title": "Songs",
        "content": [{"type": "short", "content": [{"no": 1, "paragraphs": ["a", "b"]}]}],
    }
    write(tmp_path / "a.json", json.dumps(book))
    write(tmp_path / "b.json", json.dumps({"text": "alone", "n": 1}))
    write(tmp_path / "c.json", json.dumps({"x": {"text": "first"}, "y": {"text": "second"}}))
    write(tmp_path / "d.json", json.dumps(["plain", "strings"]))
    found = documents(tmp_path).documents
    assert [d.text for d in found] == ["a\nb", "alone", "first", "second", "plain", "strings"]
    assert found[0].columns == {"title": "Songs", "type": "short", "no": "1"}


def test_settings_in_json_are_no_texts(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "a text")
    write(tmp_path / "settings.json", json.dumps({"name": "a long enough name", "size": 3}))
    found = documents(tmp_path)
    assert [d.text for d in found.documents] == ["a text"] and not found.failed
    assert "one object" in dict(found.left_out)["settings.json"]
    assert texts(tmp_path / "settings.json", column="name") == ["a long enough name"]


def test_columns_by_name_and_by_template(tmp_path: Path) -> None:
    write(tmp_path / "x.csv", "title,text,year", "One,first,1990", "Two,,1991")
    assert texts(tmp_path, column="title") == ["One", "Two"]
    found = documents(tmp_path, column="{title}\\n{text}")
    assert [d.text for d in found.documents] == ["One\nfirst", "Two\n"]
    assert found.documents[0].columns == {"year": "1990"}
    assert documents(tmp_path).blank == 1
    missing = documents(tmp_path, column="{titel}: {text}")
    assert missing.failed == [("x.csv", "it has no column 'titel' (there is: title, text, year)")]


def test_what_was_asked_for_is_named_whether_a_folder_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "x.csv", "a,b", "1,2")
    monkeypatch.chdir(tmp_path)
    for asked in ("x.csv", str(tmp_path)):
        with pytest.raises(
            UserError, match=f"^No text in {asked} can be read \\(x.csv: it has no column 'text'"
        ):
            load(asked, options={"text": {"column": "text"}})


def test_broken_containers_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", '{"text": "x"}', "{broken")
    write(tmp_path / "b.json", '{"text": ')
    write(tmp_path / "c.csv", "text,text", "a,b")
    write(tmp_path / "d.csv", "text,n", "a,b,c")
    write(tmp_path / "e.json", "[1, 2]")
    write(tmp_path / "f.jsonl", '{"n": 1}')
    (tmp_path / "g.parquet").write_bytes(b"PAR1 but no more")
    (tmp_path / "h.txt").write_bytes(bytes(range(256)))
    write(tmp_path / "i.json", "[" * 100_000)
    found = documents(tmp_path)
    reasons = dict(found.failed)
    assert not found.documents and len(reasons) == 8
    reasons |= dict(found.left_out)
    for name, words in {
        "a.jsonl": "line 2", "b.json": "not valid JSON", "c.csv": "columns", "d.csv": "row 2", "e.json": "arrays",
        "f.jsonl": "none of its columns", "g.parquet": "Parquet", "h.txt": "binary", "i.json": "JSON",
    }.items():  # fmt: skip
        assert words in reasons[name], reasons[name]
    with pytest.raises(UserError, match="No text in .* can be read"):
        load(tmp_path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"kuosan\[parquet\]"):
        documents(tmp_path)


def test_a_file_is_one_document_or_lines_or_paragraphs(tmp_path: Path) -> None:
    write(tmp_path / "x.txt", "", "a", "b", " ", "", "c", "")
    assert texts(tmp_path) == ["\na\nb\n \n\nc\n"]
    assert texts(tmp_path, document="line") == ["a", "b", "c"]
    assert texts(tmp_path, document="paragraph") == ["a\nb", "c"]
    with pytest.raises(UserError, match="file, line, paragraph"):
        texts(tmp_path, document="page")


def sides(data: Dataset) -> tuple[set[str], set[str]]:
    return set(data.train.names), set(data.val.names)


def test_parts_by_the_names_of_files(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        write(tmp_path / f"{name}.txt", *(f"{name} text number {i}" for i in range(40)))
    data = load(tmp_path, options={"text": {"document": "line"}})
    train, val = sides(data)
    assert {name[:5] for name in train} == {"train"} and {name[:5] for name in val} == {"valid"}
    assert (len(train), len(val)) == (40, 40) and any(
        "test part" in what for what, _ in data.survey.left_alone
    )
    other = tmp_path / "other"
    write(other / "My-TrainingSet.csv", "text", *(f"line {i}" for i in range(20)))
    write(other / "My-ValidationSet.csv", "text", *(f"row {i}" for i in range(20)))
    assert {name[:6] for name in sides(load(other))[1]} == {"My-Val"}


def test_folders_say_classes_and_parts_for_texts_too(tmp_path: Path) -> None:
    for side in ("train", "val"):
        for i in range(12):
            write(tmp_path / side / "ab"[i % 2] / f"{i}.txt", f"{side} letter {i} " * 3)
    data = load(tmp_path)
    assert data.columns == {"class": ("a", "b")} and (len(data.train), len(data.val)) == (12, 12)
    for name, label in zip(data.train.names, data.train.labels["class"].tolist(), strict=True):
        assert name.split("/")[1] == "ab"[label]


def test_a_table_may_describe_texts(tmp_path: Path) -> None:
    for i in range(10):
        write(tmp_path / f"{i}.txt", f"this is text {i}")
    write(
        tmp_path / "metadata.csv",
        "file_name,mood",
        *(f"{i}.txt,{'glad' if i % 2 else 'sad'}" for i in range(10)),
    )
    data = load(tmp_path)
    assert data.columns == {"mood": ("glad", "sad")} and data.survey.items == 10
    write(
        tmp_path / "metadata.csv", "text,mood", *(f"row {i},{'glad' if i % 2 else 'sad'}" for i in range(10))
    )
    assert load(tmp_path).survey.items == 20, "a table that describes no file is data itself"


def test_texts_beside_pictures_stay_captions(tmp_path: Path) -> None:
    for i in range(6):
        Image.new("L", (8, 8), i * 9).save(tmp_path / f"{i}.png")
        write(tmp_path / f"{i}.txt", f"caption {i}")
    write(tmp_path / "settings.json", '{"a": 1}')
    data = load(tmp_path)
    assert data.survey.modality == "image" and data.survey.captions == 6
    as_text = load(tmp_path, modality="text")
    assert (
        as_text.survey.modality == "text" and as_text.survey.items == 7 - 1 + len(as_text.survey.skipped) * 0
    )


def test_arrays_beside_texts_are_no_texts(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 6, 6), np.uint8))
    write(tmp_path / "labels.csv", "text,n", "a,1")
    with pytest.raises(UserError, match="--modality text or image"):
        load(tmp_path)
    assert load(tmp_path, modality="image").survey.items == 5
    assert load(tmp_path, modality="text").survey.items == 1


@pytest.mark.parametrize("suffix", [".txt", ".md", ".json", ".jsonl", ".csv"])
def test_a_single_file_is_enough(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"README{suffix}"
    write(
        path,
        {".json": '{"text": "words"}', ".jsonl": '{"text": "words"}', ".csv": "text\nwords"}.get(
            suffix, "words"
        ),
    )
    assert [d.text for d in documents(path).documents] == ["words"]


def test_one_bad_file_among_many_is_skipped(tmp_path: Path) -> None:
    for i in range(20):
        write(tmp_path / f"{i}.txt", f"text number {i}" if i != 5 else "")
    for name in ("bad.txt", "worse.txt", "worst.txt"):
        (tmp_path / name).write_bytes(bytes(range(256)) * 9)
    with pytest.raises(UserError, match="3 of the 23 files.*more than 10 %"):
        load(tmp_path)
    (tmp_path / "worse.txt").unlink()
    (tmp_path / "worst.txt").unlink()
    data = load(tmp_path)
    assert data.survey.skipped == (("bad.txt", "it holds binary data, not text"),)
    assert data.survey.items == 19 and data.survey.totals["blank documents"] == 1
