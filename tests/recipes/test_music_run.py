"""Runs over music: from a folder to samples that keep what is given."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mido
import pytest
import torch

import kuosan
from kuosan.cli import main
from kuosan.errors import UserError
from kuosan.modalities import MusicModality, Note, Part, Score
from kuosan.modalities.music_files import read_scores, write_score
from kuosan.recipes.cite import reasons_of
from kuosan.recipes.masked_finish import OWN
from kuosan.recipes.music_measure import FIRST_NOTE, baselines, bound, music_of, pieces_of, windows_of
from kuosan.recipes.music_rules import MusicWishes, parse_length, rules_of_music
from kuosan.recipes.opening import prepare, reopen, settle
from kuosan.recipes.schema import Recipe

SMALL: dict[str, Any] = {
    "network__dim": 32,
    "network__depth": 1,
    "training__batch": 16,
    "sampling__steps": 4,
    "data__length": 16,
    "data__transpose": 6,
}


@pytest.fixture(scope="session", autouse=True)
def _few_samples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OWN, "music", replace(OWN["music"], most=32))
        yield


def tune(i: int, metre: tuple[int, int], bars: int = 8) -> Score:
    """Walks along a scale over its roots, in one of twelve keys."""
    draw, unit, tonic, place = random.Random(i), 4 / metre[1], i % 12, 3
    scale, above = (0, 2, 4, 5, 7, 9, 11, 12), []
    for k in range(metre[0] * bars):
        place = min(7, max(0, place + draw.choice((-1, 1, 2, -2))))
        above.append(Note(k * unit, unit, 60 + tonic + scale[place]))
    bar = metre[0] * unit
    below = [Note(k * bar, bar, 36 + tonic + scale[draw.choice((0, 3, 4))]) for k in range(bars)]
    return Score((Part(tuple(above), "High"), Part(tuple(below), "Low")), metre, tempo=100.0)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("music") / "tunes"
    out.mkdir()
    for i in range(60):
        write_score(tune(i, (4, 4) if i % 2 else (3, 4), 16), out / f"{i:02d}.mid")
    return out


@pytest.fixture(scope="session")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """To be read only."""
    return kuosan.train(folder, out=tmp_path_factory.mktemp("runs") / "music", budget="120steps", **SMALL)


def test_a_folder_becomes_a_run_with_all_that_belongs_to_one(run: kuosan.Run) -> None:
    assert run.modality.name == "music"
    assert run.facts.network["cycles"] == [3, 4]
    assert sorted(run.facts.columns) == ["density", "key", "metre"]
    summary = json.loads((run.path / "summary.json").read_text())
    for name in ("bits_per_note", "bits_per_token", "interval_overlap", "faults_per_bar", "groove"):
        assert summary["metrics"][name]["n"] > 0
    assert set(summary["baselines"]) == {"voice_unigram", "voice_bigram", "voice_bigram_beat"}
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert report.count("data:audio/wav;base64,") == 3
    assert "media-src data:" in report
    assert {"krumhansl1990", "yang2020", "wu2020"} <= {key for _, key in reasons_of(run)}


def test_a_temperature_is_measured_once_and_samples_keep_to_it(run: kuosan.Run, tmp_path: Path) -> None:
    kept = json.loads((run.path / "grids" / "temperature.json").read_text())
    plain, cool, third = kept["tried"]
    assert (plain["temperature"], cool["temperature"]) == (1.0, 0.7)
    assert third["temperature"] == (0.55 if cool["overlap"] > plain["overlap"] else 0.85)
    assert run.heat == (kept["temperature"], 1.0)
    cold, plain = run.heated(0.05), run.heated(1.0)
    assert cold.sampler()["temperature"] == 0.05 and "temperature" not in plain.sampler()
    # What is likeliest everywhere: hardly anything is left to chance.
    assert len(cold.sample(16, seed=3).x.unique()) < len(plain.sample(16, seed=3).x.unique())
    assert torch.equal(run.heated(nucleus=1e-6).sample(4, seed=3).x, run.heated(1e-6).sample(4, seed=3).x)
    other = tmp_path / "other"
    shutil.copytree(run.path, other)
    (other / "grids" / "temperature.json").write_text('{"temperature": 0.6}')
    assert kuosan.load(other).heat == (0.6, 1.0) and kuosan.load(other).sampler()["temperature"] == 0.6
    (other / "grids" / "temperature.json").write_text("{")
    with pytest.raises(UserError, match="holds no temperature"):
        kuosan.load(other).sample(1)
    for heat in ((0.0, None), (None, 1.5)):
        with pytest.raises(UserError, match="impossible"):
            run.heated(*heat)


def test_training_makes_the_model_less_surprised(folder: Path, run: kuosan.Run, tmp_path: Path) -> None:
    data = prepare(
        folder, out=tmp_path / "new", recipe=Recipe(budget="1steps").updated(_dotted(SMALL)), asked={}
    ).data
    bits = bound(run, data.val, 100)["bits_per_token"].value
    assert bits < 0.7 * baselines(data)["voice_unigram"]


@pytest.mark.parametrize(("steps", "most"), [(262, 0), (263, 6)])
def test_transposition_is_chosen_by_how_often_the_music_is_seen(steps: int, most: int, folder: Path) -> None:
    """60 tunes of 48 or 64 steps on the grid, 3,360 in all; 16 windows of 16 steps are seen in a step of training."""
    recipe = Recipe(budget=f"{steps}steps").updated(_dotted(SMALL) | {"data.transpose": "auto"})
    plan = settle(folder, None, recipe, {})
    assert plan.facts.recipe.data.transpose == most
    assert any(what == "transposition" and "20 passes" in why for what, _, why in plan.facts.choices)


def _dotted(leaves: dict[str, Any]) -> dict[str, Any]:
    return {k.replace("__", "."): v for k, v in leaves.items()}


def test_the_bound_counts_tokens_and_notes_of_whole_pieces(run: kuosan.Run, folder: Path) -> None:
    split = reopen(run.path).data.val
    found = bound(run, split, 1000)
    pieces = [rows for rows, _ in pieces_of(split).rows]
    notes = sum(int(((rows >= FIRST_NOTE) & (rows % 2 == 0)).sum()) for rows in pieces)
    assert found["bits_per_note"].n == len(pieces)
    ratio = found["bits_per_note"].value / found["bits_per_token"].value
    assert ratio == pytest.approx(sum(rows.numel() for rows in pieces) / notes)


def test_samples_are_files_in_the_metre_and_tempo_of_what_was_asked(run: kuosan.Run, tmp_path: Path) -> None:
    samples = run.sample(4, where={"metre": "3/4"})
    paths = run.write(samples, tmp_path)
    for path in paths:
        file = mido.MidiFile(path)
        metres = [
            (m.numerator, m.denominator) for track in file.tracks for m in track if m.type == "time_signature"
        ]
        assert metres == [(3, 4)]
        if any(m.type == "note_on" for track in file.tracks for m in track):
            assert read_scores(path)[0].score.tempo == pytest.approx(100.0)
    assert (tmp_path / "overview.png").is_file()


def tokens(run: kuosan.Run, score: Score) -> torch.Tensor:
    modality = run.modality
    assert isinstance(modality, MusicModality)
    return modality.rows(score)


def test_given_voices_stay_and_the_others_are_written(run: kuosan.Run) -> None:
    score = tune(3, (4, 4), 20)  # longer than a window
    rules = rules_of_music(run, MusicWishes(given=score, voices=("Low",)))
    found = run.sample(3, rules=rules).x.view(3, -1, 2)
    rows = tokens(run, score)
    assert found.shape[1] == len(rows) == 80
    for one in found:
        assert torch.equal(one[:, 1], rows[:, 1])
    assert bool((found[:, :, 0] != rows[:, 0]).any())
    assert bool((found != music_of(run).form.end).all())


def test_a_melody_alone_goes_where_it_is_said_to(run: kuosan.Run, tmp_path: Path) -> None:
    melody = Score(tune(3, (3, 4)).parts[:1], (3, 4))
    path = write_score(melody, tmp_path / "melody.musicxml")
    for name, lane in (("0", 0), ("High", 0)):
        rules = rules_of_music(run, MusicWishes(given=path, voices=(name,)))
        found = run.sample(2, rules=rules).x.view(2, -1, 2)
        assert torch.equal(found[0, :, lane], tokens(run, melody)[:, 0])


def test_given_bars_stay_and_a_piece_is_written_on(run: kuosan.Run) -> None:
    score = tune(5, (4, 4), 6)
    rows = tokens(run, score)
    found = run.sample(2, rules=rules_of_music(run, MusicWishes(given=score, bars="1-2,5"))).x.view(2, -1, 2)
    for kept in (slice(0, 8), slice(16, 20)):
        assert torch.equal(found[0, kept], rows[kept])
    longer = run.sample(2, rules=rules_of_music(run, MusicWishes(given=score, length="10bars"))).x.view(
        2, -1, 2
    )
    assert longer.shape[1] == 40
    assert torch.equal(longer[0, :24], rows)


def test_lengths_are_those_that_were_asked_for(run: kuosan.Run) -> None:
    for metre, steps in (("4/4", 48), ("3/4", 36)):
        samples = run.sample(3, length="12bars", where={"metre": metre})
        assert all(score.length == pytest.approx(steps, abs=3) for score in samples.raws() if score.notes)
        inside = (samples.x.view(3, -1, 2) != music_of(run).form.end).any(2).sum(1)
        assert inside.tolist() == [steps] * 3


def test_pitches_stay_where_they_may(run: kuosan.Run) -> None:
    rules = rules_of_music(run, MusicWishes(pitches=("60-70", "Low=40-45")))
    bars = windows_of(run, run.sample(16, rules=rules).x, {"metre": torch.zeros(16, dtype=torch.int64)}).bars
    high, low = (bars.pitch[..., k][bars.pitch[..., k] >= 0] for k in range(2))
    assert len(high) and 60 <= int(high.min()) <= int(high.max()) <= 70
    assert not len(low)  # both hold for it, and nothing is in both
    only = rules_of_music(run, MusicWishes(pitches=("Low=40-45",)))
    low = windows_of(
        run, run.sample(16, rules=only).x, {"metre": torch.zeros(16, dtype=torch.int64)}
    ).bars.pitch[..., 1]
    assert bool(((low < 0) | ((low >= 40) & (low <= 45))).all())


def test_the_same_seed_is_the_same_piece_whatever_is_beside_it(run: kuosan.Run) -> None:
    rules = rules_of_music(run, MusicWishes(length="9bars"))
    many, one = run.sample(5, rules=rules, seed=4), run.sample(1, rules=rules, seed=4, first=3)
    assert torch.equal(many.x[3], one.x[0])


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"voices": ("0",)}, "--given"),
        ({"length": "long"}, "16bars"),
        ({"length": 0}, "16bars"),
        ({"pitches": ("70-60",)}, "48-72"),
        ({"pitches": ("Alto=60-70",)}, "0 High"),
        ({"given": "nothing.mid", "voices": ("0",)}, "nothing.mid"),
    ],
)
def test_wishes_that_cannot_be_are_said(run: kuosan.Run, wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        rules_of_music(run, MusicWishes(**wishes))


def test_scores_that_do_not_fit_are_said(run: kuosan.Run) -> None:
    score = tune(1, (4, 4))
    for wishes, words in (
        (MusicWishes(given=score), "--length"),
        (MusicWishes(given=score, bars="9-10"), "8 bars"),
        (MusicWishes(given=score, bars="x"), "1-4"),
        (MusicWishes(given=score, voices=("Tenor",)), "1 Low"),
        (MusicWishes(given=Score(score.parts, (7, 8)), voices=("0",)), "7/8"),
    ):
        with pytest.raises(UserError, match=words):
            rules_of_music(run, wishes)


def test_lengths_in_words() -> None:
    assert parse_length("16bars") == (16.0, "bars")
    assert parse_length("1 bar") == (1.0, "bars")
    assert parse_length(8) == (8.0, "bars")
    assert parse_length("64steps") == (64.0, "steps")


def test_the_command_writes_scores_and_sound(run: kuosan.Run, tmp_path: Path) -> None:
    melody = write_score(Score(tune(3, (3, 4)).parts[:1], (3, 4)), tmp_path / "melody.mid")
    out = tmp_path / "out"
    words = [
        "-n",
        "2",
        "--given",
        str(melody),
        "--voices",
        "High",
        "--format",
        "musicxml,wav",
        "--out",
        str(out),
    ]
    assert main(["sample", str(run.path), *words]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "00000.mid", "00000.musicxml", "00000.wav", "00001.mid", "00001.musicxml", "00001.wav", "overview.png",
        "samples.safetensors",
    ]  # fmt: skip
    kept = read_scores(out / "00001.mid")[0].score.parts[0].notes
    assert kept == read_scores(melody)[0].score.parts[0].notes
