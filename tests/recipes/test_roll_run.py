"""Runs over music as rolls: from a folder to samples that keep what is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import kuosan
from kuosan.cli import main
from kuosan.errors import UserError
from kuosan.evaluation.music.bars import bars_of
from kuosan.modalities import MusicModality, RollModality
from kuosan.modalities.music_files import read_scores, write_score
from kuosan.recipes import rolls
from kuosan.recipes.cite import reasons_of
from kuosan.recipes.opening import reopen, settle
from kuosan.recipes.schema import Recipe

from .test_music_run import tune

SMALL: dict[str, Any] = {
    "network__dim": 32, "network__depth": 1, "network__patch": (49, 4), "training__batch": 16, "sampling__steps": 2,
    "training__validations": 2, "data__length": 16, "data__form": "roll",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _few_samples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kuosan.recipes.finish.MOST", 32)
        patch.setattr("kuosan.recipes.finish.FEWEST", 32)
        patch.setattr("kuosan.recipes.finish.MEASURING", 1.0)
        patch.setattr(RollModality, "most_decoded", 24)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("music") / "tunes"
    out.mkdir()
    for i in range(24):
        write_score(tune(i, (4, 4) if i % 3 else (3, 4), 8), out / f"{i:02d}.mid")
    return out


@pytest.fixture(scope="module")
def roll(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """To be read only."""
    return kuosan.train(folder, out=tmp_path_factory.mktemp("runs") / "roll", budget="8steps", **SMALL)


def test_rolls_are_states_of_numbers_and_measured_as_music_is(roll: kuosan.Run) -> None:
    assert roll.modality.name == "roll" and roll.facts.recipe.data.modality == "music"
    assert roll.facts.recipe.data.form == "roll" and roll.facts.recipe.objective.output == "x"
    assert sorted(roll.facts.columns) == ["density", "key", "metre"]
    metrics = json.loads((roll.path / "summary.json").read_text())["metrics"]
    for name in ("interval_overlap", "onset_overlap", "groove", "notes_per_bar"):
        assert metrics[name]["n"] > 0
    report = (roll.path / "report.html").read_text(encoding="utf-8")
    assert "data:audio/wav;base64," in report
    assert {"min2023", "krumhansl1990", "yang2020"} <= {key for _, key in reasons_of(roll)}
    data = reopen(roll.path).data
    assert data.modality.spec() == roll.modality.spec()


def test_real_rolls_measure_as_the_same_music_in_voices(roll: kuosan.Run) -> None:
    scores = [tune(i, (4, 4), 4) for i in range(8)]
    modality = roll.modality
    assert isinstance(modality, RollModality)
    voices = MusicModality(modality.form, 16)
    mine = rolls.bars(modality, modality.decode(modality.encode(scores)))
    theirs = bars_of(voices.form, voices.encode(scores), [(4, 4)] * 8)
    assert torch.equal(mine.pitch, theirs.pitch) and torch.equal(mine.onset, theirs.onset)


def test_parts_and_bars_of_a_roll_stay(roll: kuosan.Run, tmp_path: Path) -> None:
    path = write_score(tune(3, (4, 4), 4), tmp_path / "given.mid")
    x = roll.modality.encode([roll.modality.read(path)])[0]
    for words, kept in (
        (["--voices", "Low"], (slice(2, 4), slice(None), slice(None))),
        (["--voices", "0"], (slice(0, 2), slice(None), slice(None))),
        (["--bars", "2,4"], (slice(None), slice(None), [*range(4, 8), *range(12, 16)])),
        (["--length", "8bars"], (slice(None), slice(None), slice(0, 16))),
    ):
        out = tmp_path / words[0].strip("-") / words[1]
        assert (
            main(["sample", str(roll.path), "-n", "2", "--given", str(path), *words, "--out", str(out)]) == 0
        )
        found = load_file(out / "samples.safetensors")["x"]
        assert found.shape[-1] == (32 if "--length" in words else 16)
        assert torch.equal(found[0][kept], x[kept]) and torch.equal(found[1][kept], x[kept])
        assert not torch.equal(found[0], found[1])
        assert read_scores(out / "00000.mid")[0].score.tempo == pytest.approx(100.0)


@pytest.mark.parametrize(("words", "said"), [(["--pitches", "60-70"], "voices"), (["--bars", "9"], "4 bars"),
                                             (["--voices", "Tenor"], "High, Low")])  # fmt: skip
def test_what_cannot_be_asked_of_a_roll_is_said(
    roll: kuosan.Run, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_score(tune(3, (4, 4), 4), tmp_path / "given.mid")
    assert main(["sample", str(roll.path), "--given", str(path), *words, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


def test_voices_are_asked_for_by_leaves_that_only_they_have(folder: Path) -> None:
    for leaves, form in (
        ({"process": "masked"}, "voices"),
        ({"network": "transformer", "data.form": "roll"}, "roll"),
    ):
        plan = settle(folder, None, Recipe(budget="1steps").updated({"data.length": 16, **leaves}), {})
        assert plan.facts.recipe.data.form == form
    with pytest.raises(UserError, match="data.form=roll"):
        settle(folder, None, Recipe(budget="1steps").updated({"network": "unet"}), {})
    with pytest.raises(UserError, match="tokens"):
        settle(folder, None, Recipe(budget="1steps").updated({"process": "masked", "data.form": "roll"}), {})
