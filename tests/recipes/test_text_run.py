"""Runs over texts: from a folder to samples that keep to rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import kuosan
from kuosan.errors import UserError
from kuosan.recipes.augment import Varied
from kuosan.recipes.opening import prepare, reopen
from kuosan.recipes.rules import Wishes, rules_of
from kuosan.recipes.schema import Recipe
from kuosan.recipes.session import Session
from kuosan.recipes.text_measure import bound
from kuosan.recipes.tokens import Rules
from kuosan.solvers import SOLVERS
from kuosan.training import checkpoint
from tests.recipes.texts import corpus

SMALL: dict[str, Any] = {
    "network__dim": 32,
    "network__depth": 1,
    "training__batch": 16,
    "data__tokeniser": "characters",
    "data__length": 64,
}


@pytest.fixture(scope="session", autouse=True)
def _few_samples() -> Iterator[None]:
    """Every training here is measured on few samples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kuosan.recipes.text_finish.MOST", 32)
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("texts") / "sentences", 160)


@pytest.fixture(scope="session")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """Masked, characters, two classes; to be read only."""
    out = tmp_path_factory.mktemp("runs") / "masked"
    return kuosan.train(folder, out=out, budget="60steps", **SMALL)


def texts(run: kuosan.Run, n: int = 8, **asked: Any) -> list[str]:
    return run.modality.decode(run.sample(n, steps=asked.pop("steps", 8), **asked).x)


def test_a_run_over_texts_is_a_run(run: kuosan.Run) -> None:
    for name in (
        "recipe.yaml", "tokenizer.json", "model.safetensors", "metrics.jsonl", "report.html", "README.md", "data.json",
        "evaluation.json", "grids/unmasking.json", "checkpoints/last/state.json",
    ):  # fmt: skip
        assert (run.path / name).is_file(), name
    facts = run.facts
    assert facts.recipe.process.kind == "masked" and facts.recipe.data.modality == "text"
    assert facts.columns == {"class": ["day", "night"]}
    again = kuosan.load(run.path)
    assert again.modality.spec() == run.modality.spec() and again.modality.files() == run.modality.files()
    metrics = json.loads((run.path / "evaluation.json").read_text())["metrics"]
    held = metrics["bits_per_character"]
    assert held["n"] > 0 and held["stderr"] > 0
    assert held["value"] == pytest.approx(
        metrics["bits_per_token"]["value"], rel=0.1
    )  # a character is a token


def test_training_learns(run: kuosan.Run) -> None:
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    held = [row["val_loss"] for row in rows if "val_loss" in row]
    assert held[-1] < 0.8 * held[0]
    assert rows[-1]["val_axis"].startswith("share of tokens")


def test_the_same_seed_is_the_same_text_in_any_company(run: kuosan.Run) -> None:
    many = run.sample(6, steps=8, seed=3).x
    assert torch.equal(run.sample(2, steps=8, seed=3, first=4).x, many[4:])
    assert torch.equal(run.sample(6, steps=8, seed=3).x, many)
    assert not torch.equal(run.sample(6, steps=8, seed=4).x, many)


@pytest.mark.parametrize("solver", ["ancestral", "confidence", "entropy", "margin", "remdm"])
@pytest.mark.parametrize("steps", [1, 5, 200])
def test_every_solver_ends_without_masks(run: kuosan.Run, solver: str, steps: int) -> None:
    x = run.sample(2, steps=steps, solver=solver).x
    assert int(x.max()) < run.modality.tokeniser.size  # type: ignore[attr-defined]


def test_where_fixes_a_condition_and_guidance_changes_the_text(run: kuosan.Run) -> None:
    samples = run.sample(4, steps=8, where={"class": "night"})
    assert samples.cond["class"].tolist() == [1] * 4
    plain, guided = (texts(run, where={"class": "night"}, w=w) for w in (1.0, 4.0))
    assert plain != guided
    with pytest.raises(UserError, match="not a value of class"):
        run.sample(1, where={"class": "noon"})


def test_samples_are_a_folder_of_texts_that_says_what_they_are(run: kuosan.Run, tmp_path: Path) -> None:
    samples = run.sample(3, steps=4, where={"class": "day"})
    paths = run.write(samples, tmp_path)
    assert [p.read_text(encoding="utf-8") for p in paths] == run.modality.decode(samples.x)
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert [row["file_name"] for row in rows] == [p.name for p in paths]
    assert all(row["class"] == "day" and "not for care" in row["note"] for row in rows)


def test_samples_with_other_numbers_keep_their_rows(run: kuosan.Run, tmp_path: Path) -> None:
    for first, kind in ((0, "day"), (2, "night"), (1, "night")):
        run.write(run.sample(2 if first != 1 else 1, steps=2, first=first, where={"class": kind}), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert [(row["file_name"], row["class"]) for row in rows] == [
        ("00000.txt", "day"), ("00001.txt", "night"), ("00002.txt", "night"), ("00003.txt", "night"),
    ]  # fmt: skip


@pytest.mark.parametrize("solver", [name for name, make in SOLVERS.items() if make().carries])
def test_what_is_given_stays(run: kuosan.Run, solver: str) -> None:
    rules = rules_of(run, Wishes(prefix="a dog "))
    assert rules is not None and rules.automaton is None  # nothing but the given tokens holds it
    assert all(text.startswith("a dog ") for text in texts(run, 4, steps=6, solver=solver, rules=rules))


@pytest.mark.parametrize("solver", ["redraw"])
def test_a_solver_that_rewrites_what_is_given_is_refused(run: kuosan.Run, solver: str) -> None:
    with pytest.raises(UserError, match="writes everything anew"):
        run.sample(1, steps=2, solver=solver, rules=rules_of(run, Wishes(prefix="a dog")))


RULES: list[tuple[Wishes, str]] = [
    (Wishes(template="the cat [[gap:5]] the [[gap:2-8]]."), r"the cat .{5} the .{2,8}\."),
    (Wishes(prefix="a dog"), r"a dog.*"),
    (Wishes(suffix="nobody."), r".*nobody\."),
    (Wishes(regex=r"[a-z]+( [a-z]+){2,3}\."), r"[a-z]+( [a-z]+){2,3}\."),
    (Wishes(require=("aunt", "sea")), r"(?=.*\baunt\b)(?=.*\bsea\b).*"),
    (Wishes(forbid=("the", "a")), r"(?!.*\b(the|a)\b).*"),
    (Wishes(prefix="my", forbid=("the",)), r"my(?!.*\bthe\b).*"),
]


@cache
def laid_out(run: kuosan.Run, wishes: Wishes) -> Rules | None:
    """`rules_of`, which for templates takes longer than the sampling."""
    return rules_of(run, wishes)


@pytest.mark.parametrize(
    ("wishes", "pattern"), RULES, ids=lambda value: "" if isinstance(value, str) else None
)
@pytest.mark.parametrize("steps", [2, 16])
def test_rules_hold_for_every_text(run: kuosan.Run, wishes: Wishes, pattern: str, steps: int) -> None:
    for text in texts(run, 8, steps=steps, rules=laid_out(run, wishes)):
        assert re.fullmatch(pattern, text, re.DOTALL), text


def test_a_schema_holds_for_every_text(run: kuosan.Run) -> None:
    schema = {
        "type": "object",
        "properties": {
            "who": {"type": "string", "maxLength": 8},
            "n": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["who", "n"],
    }
    for text in texts(run, 12, rules=rules_of(run, Wishes(schema=schema))):
        tree = json.loads(text)
        assert set(tree) == {"who", "n"} and len(tree["who"]) <= 8 and 0 <= tree["n"] <= 99


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        (Wishes(template="no gap here"), "no gap"),
        (Wishes(template="[[gap:9-3]]"), "ranges from 9 down to 3"),
        (Wishes(template="[[gap:5000]]"), "does not fit|window"),
        (Wishes(regex="a(b"), "regular expression"),
        (Wishes(require=("sea",), forbid=("sea",)), "no text"),
        (Wishes(template="x[[gap]]", prefix="y"), "template"),
        (Wishes(schema=Path("nowhere.json")), "cannot be read"),
    ],
)
def test_rules_that_cannot_be_are_named(run: kuosan.Run, wishes: Wishes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run.sample(1, steps=2, rules=rules_of(run, wishes))


def test_what_needs_numbers_says_so(run: kuosan.Run, folder: Path, tmp_path: Path) -> None:
    for ask in (
        lambda: run.encode(folder, n=2),
        lambda: run.distil(1, out=tmp_path / "student", budget="2steps"),
        lambda: run.interpolate(folder, folder),
    ):
        with pytest.raises(UserError, match="states are tokens"):
            ask()
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize("solver", ["ddim", "nothing"])
def test_a_solver_of_another_kind_is_refused(run: kuosan.Run, solver: str) -> None:
    with pytest.raises(UserError, match="solver"):
        run.sample(1, solver=solver)


@pytest.mark.parametrize("kind", ["uniform", "blocks", "autoregressive"])
def test_other_processes_train_and_sample(folder: Path, tmp_path: Path, kind: str) -> None:
    leaves = SMALL | {"process": kind, "data__length": 48, "process__block": 12, "sampling__steps": 6}
    run = kuosan.train(folder, out=tmp_path / kind, budget="8steps", **leaves)
    x = run.sample(3, steps=48 if kind == "autoregressive" else 8).x
    assert x.shape == (3, 48) and int(x.max()) < run.modality.tokeniser.size  # type: ignore[attr-defined]
    assert (run.path / "report.html").is_file() and not (run.path / "grids/unmasking.json").exists()
    found = bound(run, reopen(run.path).data.val, most=8)["bits_per_character"]
    assert found.note == ("exact" if kind == "autoregressive" else "an upper bound")
    if kind == "uniform":
        with pytest.raises(UserError, match="masks"):
            rules_of(run, Wishes(prefix="a"))


def test_additive_noise_is_refused_for_texts_and_masks_for_pictures(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds texts"):
        kuosan.train(folder, out=tmp_path / "a", budget="2steps", process="additive")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    from PIL import Image

    for i in range(4):
        Image.new("L", (8, 8), 60 * i).save(pictures / f"{i}.png")
    with pytest.raises(UserError, match="holds pictures"):
        kuosan.train(pictures, out=tmp_path / "b", budget="2steps", process="masked")


def opened(folder: Path, out: Path, leaves: dict[str, Any], init: str = "") -> Session:
    asked = {"budget": "8steps", "seed": 0, "init": init} | {
        k.replace("__", "."): v for k, v in leaves.items()
    }
    session = prepare(folder, out=out, recipe=Recipe().updated(asked), asked=asked)
    session.training.settings = replace(session.training.settings, save_seconds=0.0)
    return session


def state(path: Path) -> dict[str, bytes]:
    return {k: v.numpy().tobytes() for k, v in checkpoint.load(path / "checkpoints/last")[0].items()}


def synonyms(path: Path) -> Path:
    path.write_text("sees\tspots|eyes\nroad\tpath|lane\nred\tscarlet\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    run: kuosan.Run, folder: Path, tmp_path: Path, precision: str
) -> None:
    leaves = SMALL | {
        "training__precision": precision, "network__dropout": 0.1, "data__paraphrase": 0.5,
        "data__synonyms": str(synonyms(tmp_path / "table.tsv")), "data__synonym_rate": 0.5,
    }  # fmt: skip
    del leaves["network__dim"], leaves["network__depth"]  # they are those of the start
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for _ in opened(folder, whole, leaves, str(run.path)).steps():
        pass
    for event in opened(folder, cut, leaves, str(run.path)).steps():
        if event.step == 5:
            break
    for _ in reopen(cut).steps():
        pass
    assert state(whole) == state(cut)


def test_training_sees_other_words_and_evaluation_does_not(
    run: kuosan.Run, folder: Path, tmp_path: Path
) -> None:
    from kuosan.core.random import Seeds

    table = str(synonyms(tmp_path / "table.tsv"))
    session = opened(
        folder, tmp_path / "varied", SMALL | {"data__synonyms": table, "data__synonym_rate": 1.0}
    )
    train = session.training.train
    assert isinstance(train, Varied)
    index = torch.arange(40)
    decode = session.data.modality.decode
    seen = decode(train.batch(index, Seeds.of(0, 40))[0])
    assert not any(re.search(r"\b(sees|road|red)\b", text) for text in seen)
    assert any("spots" in text for text in seen) and any("eyes" in text for text in seen)
    assert decode(train.batch(index)[0]) == decode(session.data.train.batch(index)[0])
    with pytest.raises(UserError, match="synonyms|table"):
        opened(folder, tmp_path / "none", SMALL | {"data__synonyms": str(tmp_path / "nowhere.tsv")})
    with pytest.raises(UserError, match="--init"):
        opened(folder, tmp_path / "none", SMALL | {"data__paraphrase": 0.5})


def test_paraphrases_keep_most_of_a_text(run: kuosan.Run, folder: Path) -> None:
    from kuosan.recipes.augment import HIDDEN, paraphrase

    split = reopen(run.path).data.train
    x, _ = split.batch(torch.arange(len(split)))
    made = paraphrase(run.model, split, 0)
    kept = float((made == x).double().mean())
    assert 1 - HIDDEN < kept < 1
    assert int(made.max()) < run.modality.tokeniser.size  # type: ignore[attr-defined]


@pytest.mark.parametrize("length", [20, 150, 260])
def test_long_texts_go_on_from_what_is_written(run: kuosan.Run, length: int) -> None:
    end, window = run.modality.tokeniser.end, run.latent_shape[0]  # type: ignore[attr-defined]
    short, long = (run.sample(4, steps=4, seed=2, length=n).x for n in (window, length))
    assert long.shape == (4, length)
    common = min(window, length)
    assert torch.equal(long[:, :common], short[:, :common])  # its beginning is the text of one window
    ended = (long == end).cumsum(1) > 0
    assert bool((long[ended] == end).all()) and int(long.max()) < run.modality.tokeniser.size  # type: ignore[attr-defined]
    again = torch.cat([run.sample(1, steps=4, seed=2, first=i, length=length).x for i in range(4)])
    assert torch.equal(long, again)


def test_a_text_that_has_not_ended_is_written_on(run: kuosan.Run) -> None:
    from kuosan.recipes.long_texts import sample_long

    window, end = run.latent_shape[0], run.modality.tokeniser.end  # type: ignore[attr-defined]
    rules = rules_of(run, Wishes(regex=f"[a-z .]{{{window}}}"))  # so that nothing ends in the first window
    x = sample_long(run, 3, 2 * window, seed=1, steps=4, rules=rules).x
    assert bool((x[:, :window] != end).all())
    assert bool((x[:, window : window + 8] != end).any())
