"""The small parts: pairs after a flag, help, citations, the demo's data, JSON without surprises."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from kuosan.cli import app, later
from kuosan.cli import demo as demo_verb
from kuosan.cli.answer import plain, to_json
from kuosan.cli.notes import Lines
from kuosan.cli.options import spread
from kuosan.cli.words import closing
from kuosan.evaluation import METRICS
from kuosan.recipes import cite, cite_texts
from kuosan.recipes.demo import write_digits
from kuosan.recipes.facts import Facts
from kuosan.recipes.schema import (
    NetworkPart,
    NoisePart,
    ObjectivePart,
    ProcessPart,
    SchedulePart,
    TrainingPart,
)
from kuosan.solvers import SOLVERS

from .conftest import Result, call

CONTRACT = {
    "train": "--out --modality --budget --seed --config --set --init --track --dry-run",
    "resume": "",
    "distil": "--steps --budget --w --seed --data --out",
    "finetune": "--budget --seed --set --track --out",
    "tune": "--steps --w --guidance --churn --pairs --budget --seed --out",
    "anomaly": "--level --seed --out",
    "sample": "-n --steps --solver --grid --seed --where --out --w --exact --first --noise --stream --adapter",
    "encode": "-n --steps --where --w --out",
    "interpolate": "-n --steps --where --w --out --live --seconds --seed",
    "compare": "--out --budget --seeds -n --methods --no-mixture --set",
    "evaluate": "--data -n --likelihood --probes --tolerance --inception --steps --seed",
    "export": "--to --where",
    "inspect": "",
    "doctor": "",
    "theory": "--out --seed",
    "cite": "",
    "demo": "--out --budget",
}
PAIR = st.from_regex(r"[a-z]{1,4}(\.[a-z]{1,4})?=[a-z0-9,./]{0,5}", fullmatch=True)


@pytest.mark.parametrize("verb", CONTRACT)
def test_help_names_every_option(verb: str) -> None:
    result = call(verb, "--help")
    assert result.status == 0 and result.err == ""
    for option in [*CONTRACT[verb].split(), "--json"]:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", result.out), option


def test_the_main_help_lists_what_there_is() -> None:
    listed = re.findall(r"(?m)^│ ([a-z]+) ", call("--help").out)
    assert listed == [v.__name__ for v in app.VERBS] and not set(listed) & set(later.VERBS)
    assert set(listed) == set(CONTRACT)
    assert call().out == call("--help").out
    assert json.loads(call("--version", "--json").out)["text"].strip() == call("--version").out.strip()


@settings(max_examples=30)
@given(st.lists(PAIR, min_size=1, max_size=3), st.lists(PAIR, min_size=1, max_size=3))
def test_pairs_may_follow_one_flag_or_come_with_one_each(first: list[str], second: list[str]) -> None:
    together = ["train", "--set", *first, "DATA", "--where", *second, "--json"]
    one_each = [w for p in first for w in ("--set", p)], [w for p in second for w in ("--where", p)]
    apart = ["train", *one_each[0], "DATA", *one_each[1], "--json"]
    expected = ["train", *[f"--set={p}" for p in first], "DATA", *[f"--where={p}" for p in second], "--json"]
    assert spread(together) == spread(apart) == expected
    assert spread(expected) == expected


def test_a_path_with_an_equals_sign_is_no_pair() -> None:
    assert spread(["--set", "a=1", "./b=2/c", "--", "--set", "d=1"]) == [
        "--set=a=1",
        "./b=2/c",
        "--",
        "--set",
        "d=1",
    ]
    assert spread(["--set", "a"]) == ["--set=a"] and spread(["--set", "--json"]) == ["--set", "--json"]


def test_json_holds_no_nan_and_any_name() -> None:
    data = {"a": math.nan, "b": [math.inf, 1.5], "c": Path("x"), "d": {1: np.float32(2)}, "e": "caf\udce9 é"}
    tree = json.loads(to_json(data), parse_constant=lambda name: pytest.fail(name))
    assert tree == {"a": None, "b": [None, 1.5], "c": "x", "d": {"1": 2.0}, "e": "caf\udce9 é"} == plain(data)


def test_lines_are_few() -> None:
    lines = Lines(seconds=1e9)
    assert [p for p in np.linspace(0, 1, 1001) if lines.due(float(p))] == [0.0, 1.0]
    eager = Lines(seconds=0.0, share=0.1)
    assert sum(eager.due(float(p)) for p in np.linspace(0, 1, 1001)) >= 10


# -- citations ---------------------------------------------------------------------------------------------


def test_every_word_of_a_recipe_has_a_source_and_every_source_is_whole() -> None:
    known = cite.references()
    schedules = set(get_args(SchedulePart.model_fields["kind"].annotation)) - {"auto"}
    leaves = ObjectivePart.model_fields
    assert set(cite._SCHEDULES) == schedules
    assert set(cite._OUTPUTS) == set(get_args(leaves["output"].annotation)) - {"auto"}
    assert set(cite._WEIGHTS) == set(get_args(leaves["weight"].annotation)) - {"auto", "bound", "even"}
    assert set(cite._TIMINGS) == set(get_args(leaves["timing"].annotation)) - {"auto"}
    kinds = set(get_args(NoisePart.model_fields["kind"].annotation))
    assert set(cite._NOISES) == kinds - {"auto", "gaussian"}
    coupling = TrainingPart.model_fields["coupling"].annotation
    assert set(cite._COUPLINGS) == set(get_args(coupling)) - {"auto"}
    for name in SOLVERS:
        assert any(name.startswith(prefix) for prefix, _ in cite._SOLVERS), name
    tables = [
        cite._SCHEDULES,
        cite._OUTPUTS,
        cite._WEIGHTS,
        cite._TIMINGS,
        cite._NETWORKS,
        cite._GRIDS,
        cite._NOISES,
        cite._CODECS,
        cite._COUPLINGS,
        cite._RIVALS,
        cite_texts.PROCESSES,
        cite_texts.TOKENISERS,
        cite_texts.NETWORKS,
        cite_texts.GRIDS,
    ]
    discrete = set(get_args(ProcessPart.model_fields["kind"].annotation)) - {"auto", "additive"}
    assert set(cite_texts.PROCESSES) == discrete
    networks = set(get_args(NetworkPart.model_fields["kind"].annotation)) - {"auto"}
    assert set(cite._NETWORKS) | set(cite_texts.NETWORKS) == networks
    places = sorted(Path(cite.__file__).parent.glob("cite*.py"))
    used = {
        key
        for path in places
        for key in re.findall(r'"([a-z]+\d{4}[a-z]*|kuosan)"', path.read_text(encoding="utf-8"))
    }
    assert {k for t in tables for keys in t.values() for k in keys} <= used
    assert used == set(known), "an entry that nothing cites, or a key without an entry"


@pytest.mark.parametrize("key", sorted(cite.references()))
def test_an_entry_is_well_formed(key: str) -> None:
    text = cite.references()[key]
    assert text.count("{") == text.count("}") and text.startswith("@") and text.endswith("}")
    fields = dict(re.findall(r"(?m)^\s+(\w+)\s*=\s*\{(.+?)\},?$", text))
    assert {"title", "author"} <= set(fields)
    if key == "kuosan":
        return
    assert 1900 < int(fields["year"]) < 2030
    assert key.rstrip("abcdefghijklmnopqrstuvwxyz").endswith(fields["year"]), "the key carries the year"
    if "eprint" in fields:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", fields["eprint"])
        first_seen = 2000 + int(fields["eprint"][:2])
        assert 0 <= int(fields["year"]) - first_seen <= 2, (
            "published in the year of the preprint or soon after"
        )


def test_cite_names_what_was_used_and_nothing_else(trained: Path) -> None:
    result = call("cite", trained, "--json").json
    keys = [entry["key"] for entry in result["entries"]]
    assert len(keys) == len(set(keys))
    assert {
        "kuosan",
        "ho2020",
        "nichol2021",
        "salimans2022",
        "peebles2023",
        "zhang2023",
        "karras2024",
    } <= set(keys)
    assert not {"ronneberger2015", "jabri2023", "lipman2023", "szegedy2016"} & set(keys)
    assert {"heusel2017", "vovk2005"} <= set(keys), "what it was measured with"
    assert "VERSION" not in result["bibtex"] and call("cite", trained).out.count("@") == len(keys)


def test_every_metric_is_cited() -> None:
    classic = {
        "nearest_distance",
        "nll",
        "bits",
        "pairwise",
        "pairwise_within",
        "pairwise_between",
        "class_frequency",
    }
    for name in METRICS:
        if name not in classic:
            parts = set(f"{name}_encoder".split("_"))
            assert any(words <= parts for words, _ in cite._METRICS), name


# -- the closing paragraph ---------------------------------------------------------------------------------


def test_the_closing_paragraph_shows_the_least_flattering_distance(trained: Path) -> None:
    def distance(value: float, space: str) -> dict:
        return {
            "value": value, "stderr": 1.0, "n": 500, "space": space, "floor": 2.0, "floor_stderr": 1.0,
            "better": "lower", "name": "fd",
        }  # fmt: skip

    metrics = {"fd_encoder": distance(2.5, "encoder"), "fd_pixels": distance(40.0, "pixels")}
    summary = {
        "run": "r", "steps": 12, "seconds": 65.0, "stopped": "at the end of the budget", "val_loss": 0.25,
        "best_step": 10, "metrics": metrics, "report": "r/report.html",
    }  # fmt: skip
    text = closing(summary, Facts.read(trained / "recipe.yaml"))
    assert "40.0 ± 1.0 at n = 500; real pictures: 2.0 ± 1.0" in text and "as close as real" not in text
    assert "12 steps in 1 min 5 s" in text and "0.25, at step 10" in text
    assert "kuosan sample r --where class=night" in text


# -- the demo ----------------------------------------------------------------------------------------------


def test_the_demos_digits_are_the_real_ones(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits")
    digits = load_digits()
    files = {int(p.stem): p for p in folder.rglob("*.png")}
    assert len(files) == len(digits.images) == 1797
    for number, path in files.items():
        expected = np.floor(digits.images[number] * 255 / 16 + 0.5)
        assert np.array_equal(np.asarray(Image.open(path)), expected), path
        assert path.parent.name == str(digits.target[number])
    for digit in range(10):
        val, train = (len(list((folder / side / str(digit)).iterdir())) for side in ("val", "train"))
        assert val == (val + train) // 5, "every digit has the same share held out"
    victim, other = files[5], files[6]
    untouched = other.stat().st_mtime_ns
    whole = victim.read_bytes()
    victim.write_bytes(whole[:40])
    write_digits(folder)
    assert victim.read_bytes() == whole and other.stat().st_mtime_ns == untouched


@pytest.mark.slow
def test_the_demo_goes_all_the_way_and_then_only_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kuosan.evaluation.evaluate.FEWEST_TAUGHT", 10**9
    )  # no encoder: that is tested elsewhere
    monkeypatch.chdir(tmp_path)
    first: Result = call("demo", "--budget", "2steps", "--json")
    assert first.status == 0, first.err
    data = first.json
    assert Path(data["report"]).is_file() and Path(data["overview"]).is_file()
    names = sorted(p.name for p in Path(data["samples"]).glob("0*.png"))
    assert names == [f"{i:05d}.png" for i in range(demo_verb.CLASSES * demo_verb.EACH)]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    again = call("demo", "--budget", "2steps")
    assert again.status == 0 and "finished already" in again.out and "report.html" in again.out
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
