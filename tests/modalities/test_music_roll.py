"""Music as rolls: every score on the grid comes back, however many notes sound at once."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import MusicModality, Note, Part, RollModality, Score, load
from kuosan.modalities.music_files import write_score
from kuosan.modalities.music_form import Form, Instrument
from kuosan.modalities.music_lanes import Loss, lines_of
from kuosan.modalities.music_roll_form import BEGINS, HELD, SILENCE, read_roll, rolled, unrolled

FORM = Form(4, 30, 90, (Instrument("Right", 0, 4), Instrument("Left", 0, 4)), metre=(4, 4))


def piano(seed: int, pickup: float = 0.0, bars: int = 4, most: int = 9) -> Score:
    """Up to nine notes of each hand at once, begun and ended whenever; none meets another of its pitch."""
    draw, end = random.Random(seed), round((pickup + 4 * bars) * 4)
    parts = []
    for name in ("Right", "Left"):
        free, notes = dict.fromkeys(range(30, 91), 0), []
        for s in range(end):
            for pitch in draw.sample(sorted(free), draw.randrange(most // 2) if s else most):
                length = draw.randrange(1, 12)
                if free[pitch] <= s and s + length <= end:
                    notes.append(Note(s / 4, length / 4, pitch))
                    free[pitch] = s + length
        parts.append(Part(tuple(sorted(notes)), name))
    return Score(tuple(parts), (4, 4), pickup, end=end / 4)


@pytest.mark.parametrize("pickup", [0.0, 1.5])
def test_every_score_on_the_grid_comes_back_note_for_note(pickup: float) -> None:
    for seed in range(8):
        score = piano(seed, pickup)
        roll, loss = rolled(FORM, lines_of(score), score.metre, pickup, score.length)
        assert loss == Loss(score.notes) and len(roll) % 16 == 0
        back = unrolled(FORM, roll, score.metre)
        assert [part.notes for part in back.parts] == [part.notes for part in score.parts]
        assert back.pickup == pickup
        modality = RollModality(FORM, len(roll))
        x = modality.encode([score])
        assert set(x.unique().tolist()) == {-1.0, 1.0}
        assert [p.notes for p in modality.decode(x)[0].parts] == [p.notes for p in score.parts]
        # Signs count alone, as of the states that a model makes.
        noisy = x * torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)).clamp_min(0.01)
        assert torch.equal(modality.encode(modality.decode(noisy)), x)


def test_one_of_two_notes_that_are_the_same_ends_early_and_is_counted() -> None:
    notes = (Note(0, 2, 60), Note(1, 0.5, 60), Note(0, 1, 62), Note(1, 1, 62), Note(0, 1, 20))
    roll, loss = rolled(FORM, lines_of(Score((Part(notes),))), (4, 4), 0.0, 4.0)
    assert loss == Loss(5, 1, 1)
    found = unrolled(FORM, roll, (4, 4)).parts[0].notes
    assert found == (Note(0, 1, 60), Note(0, 1, 62), Note(1, 0.5, 60), Note(1, 1, 62))


def test_sustain_that_nothing_began_is_silence_but_for_the_first_step() -> None:
    onset = np.array([0, 0, 0, 0, 1, 0, 1, 0], bool)[None, :, None, None]
    sustain = np.array([1, 1, 0, 1, 0, 1, 1, 0], bool)[None, :, None, None]
    read = read_roll(onset, sustain)[0, :, 0, 0]
    assert read.tolist() == [HELD, HELD, SILENCE, SILENCE, BEGINS, HELD, BEGINS, SILENCE]
    form = Form(4, 60, 60, (Instrument("", 0, 1),))
    notes = unrolled(form, read[:, None, None], None).parts[0].notes
    assert notes == (Note(0, 0.5, 60), Note(1, 0.5, 60), Note(1.5, 0.25, 60))


def folder_of(path: Path, scores: list[Score]) -> Path:
    path.mkdir()
    for i, score in enumerate(scores):
        write_score(score, path / f"{i:02d}.mid")
    return path


def test_music_that_does_not_fit_into_voices_becomes_rolls(tmp_path: Path) -> None:
    many = load(folder_of(tmp_path / "many", [piano(i) for i in range(12)]))
    assert isinstance(many.modality, RollModality)
    assert [part.name for part in many.modality.form.parts] == ["Right", "Left"]
    few = folder_of(tmp_path / "few", [piano(i, most=2) for i in range(12)])
    assert isinstance(load(few).modality, MusicModality)
    asked = load(few, options={"music": {"form": "roll"}})
    assert isinstance(asked.modality, RollModality)
    again = load(few, like=asked.modality)
    assert again.survey.fingerprint == asked.survey.fingerprint and again.train.names == asked.train.names
    index = torch.arange(len(asked.train))
    assert torch.equal(again.train.batch(index)[0], asked.train.batch(index)[0])


def test_training_sees_every_piece_in_other_keys_and_nothing_else(tmp_path: Path) -> None:
    chord = [Score((Part(tuple(Note(0, 4, p + i) for p in (50, 54, 57))),), (4, 4)) for i in range(5)]
    data = load(folder_of(tmp_path / "a", chord), options={"music": {"form": "roll", "length": 16}})
    modality, index = data.modality, torch.arange(len(data.train))
    plain, seen = modality.to_state(data.train.x), set()
    for seed in range(8):
        seeds = Seeds.of(seed, len(index))
        x, moves = modality.to_state(data.train.x, seeds), data.train.x.moves(seeds).tolist()
        for one, was, k in zip(x, plain, moves, strict=True):
            assert torch.equal(one, was.roll(k, 1))
            lowest = min(n.pitch for n in modality.decode(one[None])[0].parts[0].notes)
            assert 50 <= lowest <= 54
            seen.add(lowest)
    assert seen == {50, 51, 52, 53, 54}


def test_parts_of_a_roll_are_named_in_bars_and_by_their_parts() -> None:
    modality = RollModality(FORM, 64)
    assert modality.places("time", "1-2bars") == range(16, 32)
    assert modality.count("time", "16bars") == 256 and modality.count("time", "3quarters") == 12
    assert {name: list(c) for name, c in modality.groups.items()} == {"Right": [0, 1], "Left": [2, 3]}
    assert modality.sized((61, 128)).shape == (4, 61, 128)
    with pytest.raises(UserError, match="61 pitches"):
        modality.sized((60, 128))
