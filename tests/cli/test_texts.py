"""A run over texts from the command line: what a person does with it, and what they are told when it cannot be."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.recipes.texts import corpus

from .conftest import Result, call, tree_of

SMALL = [
    "--set",
    "network.dim=32",
    "network.depth=1",
    "training.batch=16",
    "data.length=64",
    "data.tokeniser=characters",
]
TRAIN = ["--budget", "16steps", *SMALL]
SCHEMA = {
    "type": "object",
    "properties": {
        "who": {"type": "string", "maxLength": 6},
        "n": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["who", "n"],
}


def refused(result: Result, *said: str) -> None:
    """Status 2, one sentence on stderr that says all of this."""
    assert result.status == 2, (result.out, result.err)
    assert "Traceback" not in result.err
    sentence = result.err.strip().splitlines()[-1]
    assert sentence.startswith("kuosan: ") and all(words in sentence for words in said), sentence


def words_of(result: Result) -> list[str]:
    assert result.status == 0, result.err
    return [Path(p).read_text(encoding="utf-8") for p in result.json["files"]]


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return corpus(tmp_path_factory.mktemp("texts") / "sentences", 160)


@pytest.fixture(scope="session")
def answer(sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What the training answered."""
    out = tmp_path_factory.mktemp("runs") / "sentences"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kuosan.recipes.text_finish.MOST", 32)
        result = call("train", sentences, "--out", out, *TRAIN, "--json")
    assert result.status == 0, result.err
    return result


@pytest.fixture(scope="session")
def run(answer: Result) -> Path:
    """A finished run. Not to be changed: copy it first."""
    return Path(answer.json["run"])


def test_training_answers_with_bits_beside_the_best_n_gram_and_twice_is_once(
    answer: Result, run: Path, sentences: Path
) -> None:
    data = answer.json
    mine = data["metrics"]["bits_per_character"]
    assert mine["n"] > 0 and mine["stderr"] > 0 and data["baselines"]["unigram"] > 0
    assert {c["what"] for c in data["choices"]} >= {"process.kind", "network", "column class"}
    before = tree_of(run)
    again = call("train", sentences, "--out", run, *TRAIN)
    assert again.status == 0 and tree_of(run) == before
    grams = {k: v for k, v in data["baselines"].items() if k.startswith("kneser_ney") or k == "unigram"}
    assert f"{min(grams.values()):.2f}" in re.search(r"the best n-gram .*", again.out)[0]  # type: ignore[index]
    assert re.search(r"Held-out texts cost at most [\d.]+ ± [\d.]+ bits per character \(n = \d+\)", again.out)
    assert "Entropy of words" in again.out
    assert call("resume", run).status == 0 and tree_of(run) == before


RULES: list[tuple[list[str], str]] = [
    (["--template", "the cat [[gap:5]] the [[gap:2-4]]."], r"the cat .{5} the .{2,4}\."),
    (["--prefix", "a dog"], r"a dog.*"),
    (["--suffix", "nobody."], r".*nobody\."),
    (["--regex", r"[a-z]+( [a-z]+){2,3}\."], r"[a-z]+( [a-z]+){2,3}\."),
    (["--require", "sea"], r"(?=.*\bsea\b).*"),
    (
        ["--require", "Aunt", "--ignore-case", "--forbid", "the", "--forbid", "a"],
        r"(?=.*(?i:\baunt\b))(?!.*\b(?i:the|a)\b).*",
    ),
]


@pytest.mark.parametrize(("flags", "pattern"), RULES, ids=[flags[0] for flags, _ in RULES])
def test_every_text_keeps_to_what_is_asked(run: Path, tmp_path: Path, flags: list[str], pattern: str) -> None:
    found = words_of(call("sample", run, "-n", 6, "--steps", 4, "--out", tmp_path / "out", "--json", *flags))
    assert len(found) == 6
    for text in found:
        assert re.fullmatch(pattern, text, re.DOTALL), text


def test_every_text_satisfies_a_schema_and_a_template_may_be_a_file(run: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    asked = ["sample", run, "-n", 4, "--steps", 4, "--json", "--out"]
    for text in words_of(call(*asked, tmp_path / "a", "--schema", tmp_path / "schema.json")):
        tree = json.loads(text)
        assert set(tree) == {"who", "n"} and len(tree["who"]) <= 6 and 0 <= tree["n"] <= 99
    (tmp_path / "form.txt").write_text("one [[gap:3]] two")
    for text in words_of(call(*asked, tmp_path / "b", "--template", f"@{tmp_path / 'form.txt'}")):
        assert re.fullmatch("one .{3} two", text, re.DOTALL)


def test_samples_come_one_by_one_or_together_and_are_the_same(run: Path, tmp_path: Path) -> None:
    together = words_of(
        call("sample", run, "-n", 3, "--where", "class=night", "--out", tmp_path / "a", "--json")
    )
    one_by_one = call("sample", run, "-n", 3, "--where", "class=night", "--out", tmp_path / "b", "--stream")
    paths = [Path(line) for line in one_by_one.out.splitlines()]
    assert [p.name for p in paths] == ["00000.txt", "00001.txt", "00002.txt"]
    assert [p.read_text(encoding="utf-8") for p in paths] == together
    assert {"samples.safetensors", "metadata.jsonl", "overview.png"} <= {
        p.name for p in (tmp_path / "b").iterdir()
    }


def test_evaluate_puts_bits_beside_n_grams_and_compressors(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    result = call("evaluate", copy, "-n", 16, "--likelihood", "--json")
    assert result.status == 0, result.err
    data = result.json
    assert data["metrics"]["bits_per_character"]["note"] == "an upper bound" and data["baselines"]["xz"] > 0
    assert json.loads((copy / "evaluation.json").read_text())["baselines"] == data["baselines"]
    for flags in (["--inception", run / "README.md"], ["--probes", "2"]):
        refused(call("evaluate", copy, "-n", 8, *flags), flags[0], "texts")


def test_evaluate_tells_people_of_texts_not_of_pictures(run: Path, tmp_path: Path) -> None:
    told = call("evaluate", shutil.copytree(run, tmp_path / "run"), "-n", 8, "--likelihood")
    assert "real texts" in told.out and "picture" not in told.out
    lines = told.out[told.out.index("fewer is better") :].splitlines()
    values = [float(m[1]) for line in lines if (m := re.search(r"  ([\d.]+)( ±.*)?$", line))]
    assert values == sorted(values) and len(values) >= 8
    assert any(line.startswith("this model (at most)") for line in lines)


def test_inspect_says_what_a_run_of_texts_is(run: Path) -> None:
    told = call("inspect", run)
    assert told.status == 0, told.err
    size = call("inspect", run, "--json").json["network"]["size"]
    assert f"up to 64 tokens of {size}" in told.out
    for words in (
        "process",
        "masked",
        "tokeniser",
        f"characters, {size} tokens",
        "unmasking schedule",
        "fitted",
    ):
        assert words in told.out
    assert "\nnoise " not in told.out and "\nschedule " not in told.out and "real texts" in told.out


def test_cite_names_the_sources_of_texts_and_no_others(run: Path) -> None:
    keys = {row["key"] for row in call("cite", run, "--json").json["entries"]}
    assert {"sahoo2024", "austin2021", "su2021", "lavenant2025", "kneser1995", "corput1935"} <= keys
    assert not keys & {"nichol2021", "song2021sde", "salimans2022", "hairer2006", "lai2023", "ho2020"}


def test_tune_fits_judges_and_keeps_the_unmasking_schedule(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    result = call("tune", copy, "--steps", "4,16", "--budget", "1s", "--json")
    assert result.status == 0, result.err
    data, kept = result.json, json.loads((copy / "grids/unmasking.json").read_text())
    assert data["fitted"] + data["n"] <= 160 and data["n"] >= 4
    for one in data["schedules"]:
        assert one["counts"][0] == 0 and one["counts"][-1] == 64 and len(one["counts"]) == one["steps"] + 1
        bits = {name: m["value"] for name, m in one["bits"].items() if name != "random"}
        assert bits[one["kept"]] == min(bits.values())
        assert kept["kept"][str(one["steps"])] == one["kept"]
        sampled = call("sample", copy, "-n", 1, "--steps", one["steps"], "--json").json
        assert sampled["grid"] == one["kept"]
    page = (copy / "report.html").read_text(encoding="utf-8")
    assert page.count('<section id="unmasking">') == 1 and f"judged on {data['n']:,} others" in page
    kept["kept"]["4"] = "cosine"  # what a guard may well decide
    (copy / "grids/unmasking.json").write_text(json.dumps(kept))
    assert call("sample", copy, "-n", 1, "--steps", 4, "--json").json["grid"] == "cosine"
    told = call("tune", copy, "--steps", "2", "--budget", "1s", "--out", tmp_path / "mine")
    assert told.status == 0 and "cosine: more" in told.out
    again = call("sample", copy, "-n", 1, "--steps", 2, "--grid", tmp_path / "mine/unmasking.json", "--json")
    assert again.status == 0 and json.loads((copy / "grids/unmasking.json").read_text()) == kept


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--churn"], ["--churn", "texts"]),
        (["--guidance"], ["--guidance", "texts"]),
        (["--pairs", "128"], ["--pairs", "texts"]),
        (["--w", "2"], ["--w", "texts"]),
        (["--steps", "4,65"], ["2 to 64 steps", "65"]),
        (["--steps", "1"], ["2 to 64 steps"]),
        (["--steps", "few"], ["--steps few"]),
        (["--budget", "9steps"], ["--budget 9steps"]),
    ],
)
def test_what_tune_cannot_do_for_texts_is_said(run: Path, flags: list[str], said: list[str]) -> None:
    before = tree_of(run)
    refused(call("tune", run, *flags), *said)
    assert tree_of(run) == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--template", "no gap here"], ["no gap"]),
        (["--template", "[[gap:9-3]]"], ["9 down to 3"]),
        (["--template", "[[gap:x]]"], ["[[gap:x]]"]),
        (["--template", "[[gap:5000]]"], ["64 tokens"]),
        (["--template", "x[[gap]]", "--prefix", "y"], ["template", "--prefix"]),
        (["--template", "@nowhere.txt"], ["nowhere.txt"]),
        (["--regex", "a(b"], ["a(b"]),
        (["--regex", "[a-z]{500}"], ["64 tokens"]),
        (["--schema", "nowhere.json"], ["nowhere.json"]),
        (["--require", "sea", "--forbid", "sea"], ["sea", "no text"]),
        (["--grid", "karras"], ["karras", "optimal"]),
        (["--grid", "mine.json"], ["mine.json", "kuosan tune"]),
        (["--solver", "ddim"], ["ddim", "first-hitting"]),
    ],
)
def test_wishes_that_cannot_be_leave_nothing_behind(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], said: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(call("sample", run, "-n", 1, "--steps", 2, "--out", "out", *flags), *said)
    assert not list(tmp_path.iterdir())


def test_verbs_for_numbers_say_so(run: Path, trained: Path, sentences: Path, tmp_path: Path) -> None:
    refused(call("export", run, tmp_path / "x", "--to", "diffusers"), "texts", "diffusers")
    refused(call("distil", run, "--out", tmp_path / "y"), "tokens")
    refused(call("encode", run, sentences, "--out", tmp_path / "z"), "tokens")
    refused(
        call("sample", trained, "-n", 1, "--template", "a [[gap]]", "--out", tmp_path / "o"),
        "texts",
        str(trained),
    )
    assert not list(tmp_path.iterdir())


def broken(folder: Path) -> None:
    """Ten files, two of them UTF-8 that was cut about."""
    whole = "Größe, Übermut und schöne Grüße. " * 20
    for i in range(10):
        data = whole.encode()
        (folder / f"{i}.txt").write_bytes(data if i > 1 else data[:301] + b"\xff" + data[301:])


def make(folder: Path) -> None:
    """Data of every bad kind."""
    for name in ("binary", "broken", "blank"):
        (folder / name).mkdir()
    (folder / "binary/notes.txt").write_bytes(np.random.default_rng(0).bytes(4000))
    broken(folder / "broken")
    for i in range(4):
        (folder / f"blank/{i}.txt").write_text(" \n\n")
    (folder / "table.csv").write_text("a,b\n" + "".join(f"some words {i},{i}\n" for i in range(40)))
    (folder / "words.txt").write_text("a few words to learn from. " * 40)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["binary"], ["notes.txt", "binary data"]),
        (["broken"], ["2 of the 10 files", "10 %"]),
        (["blank"], ["blank"]),
        (["table.csv", "--set", "data.column=nope"], ["nope", "a, b"]),
        (["words.txt", "--set", "network=unet"], ["network=unet", "texts"]),
        (["words.txt", "--set", "process=additive"], ["process=additive"]),
        (["words.txt", "--set", "data.tokeniser=nowhere.json"], ["nowhere.json"]),
        (["words.txt", "--set", "data.length=1"], ["1 tokens"]),
        (["words.txt", "--set", "network.patch=4"], ["network.patch"]),
        (["words.txt", "--set", "objective.weight=edm"], ["objective.weight=edm"]),
        (["words.txt", "--init", "words.txt"], ["words.txt", "no run"]),
    ],
)
def test_texts_that_cannot_be_learned_from_are_named(
    words: list[str], said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    before = tree_of(tmp_path)
    result = call("train", *words, "--out", "run", "--budget", "2steps")
    refused(result, *said)
    assert result.out == "" and tree_of(tmp_path) == before and not Path("run").exists()


@pytest.mark.parametrize("what", ["short", "giant", "mixed"])
def test_odd_texts_are_planned_for_all_the_same(what: str, tmp_path: Path) -> None:
    data = tmp_path / f"{what}.txt"
    match what:
        case "short":  # two hundred characters
            data.write_text(("The quick brown fox jumps over the lazy dog, and it runs. " * 4)[:200])
        case "giant":  # one line
            data.write_text("lorem ipsum dolor sit amet " * 4000)
        case _:  # half of the documents are empty
            data = tmp_path / "mixed"
            data.mkdir()
            for i in range(40):
                (data / f"{i}.txt").write_text("" if i % 2 else f"some words, number {i}, are here")
    result = call("train", data, "--dry-run", "--budget", "20steps", *SMALL[:4], "--json")
    assert result.status == 0, result.err
    plan: dict[str, Any] = result.json
    assert plan["items"] > 0 and plan["steps"] == 20 and plan["recipe"]["process"]["kind"] == "masked"
    if what == "mixed":
        assert plan["items"] + plan["held_out"] == 20


def test_a_table_is_read_again_as_it_was(tmp_path: Path) -> None:
    """The column that was asked for is what a run is measured on and resumed with."""
    data = tmp_path / "table.csv"
    rows = "".join(
        f'"a much longer first column, number {i} of all, and on",word {i % 9}\n' for i in range(120)
    )
    data.write_text("first,second\n" + rows)
    asked = [
        "train",
        data,
        "--out",
        tmp_path / "run",
        "--budget",
        "4steps",
        *SMALL[:4],
        "--set",
        "data.column=second",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kuosan.recipes.text_finish.MOST", 32)
        assert call(*asked).status == 0
    told = call("resume", tmp_path / "run")
    assert told.status == 0, told.err
    from kuosan.recipes.evaluate import data_of
    from kuosan.recipes.run import Run

    loaded = Run(tmp_path / "run")
    x = data_of(loaded).train.batch(torch.arange(4))[0]
    assert all(re.fullmatch(r"word \d", text) for text in loaded.modality.decode(x))
