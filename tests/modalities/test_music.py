"""Music as tokens: exact on the grid, whole bars, keys that move along, folders of every kind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import MusicModality, load, modality_from_spec
from kuosan.modalities.music_abc import read_abc
from kuosan.modalities.music_files import write_score
from kuosan.modalities.music_form import END, SILENCE, Form, Instrument, struck_again
from kuosan.modalities.music_key import find_key, transposed_key
from kuosan.modalities.music_lanes import (
    Loss,
    choose_step,
    into_lanes,
    lanes_needed,
    lines_of,
    on_grid,
    sounding,
)
from kuosan.modalities.music_score import Note, Part, Score, fifths_of, key_name, key_of_fifths

from .music import scale, some_score


def form_of(score: Score, step: int = 4) -> Form:
    parts = tuple(Instrument(p.name, p.program, 1) for p in score.parts)
    return Form(step, 30, 90, parts, metre=score.metre)


@pytest.mark.parametrize(
    "score",
    [some_score(0), some_score(1, (6, 8), 4, pickup=0.5), some_score(2, None), some_score(3, (5, 4), 4, 1)],
)
def test_tokens_come_back_as_the_score(score: Score) -> None:
    form = form_of(score)
    rows, loss = form.rows(lines_of(score), score.metre, score.pickup, score.length)
    assert loss == Loss(score.notes, 0, 0)
    assert len(rows) % form.cycle(score.metre) == 0
    found = form.score(rows, score.metre)
    assert [p.notes for p in found.parts] == [p.notes for p in score.parts]
    assert found.pickup == score.pickup


def test_held_and_repeated_notes_are_told_apart() -> None:
    form = Form(2, 60, 61, (Instrument("", 0, 1),))
    for notes, tokens in (
        ((Note(0, 1, 60), Note(1, 1, 60)), [2, 3, 2, 3]),
        ((Note(0, 2, 60),), [2, 3, 3, 3]),
    ):
        rows, _ = form.rows(lines_of(Score((Part(notes),))), (2, 4), 0.0, 2.0)
        assert rows[:, 0].tolist() == tokens
        assert form.score(rows, (2, 4)).parts[0].notes == notes


def test_where_nothing_is_struck_again_repeated_notes_are_one() -> None:
    form = Form(2, 60, 61, (Instrument("", 0, 1),), repeats=False)
    notes = (Note(0, 1, 60), Note(1, 1, 60), Note(2, 1, 61), Note(3.5, 0.5, 61))
    rows, _ = form.rows(lines_of(Score((Part(notes),))), (4, 4), 0.0, 4.0)
    assert rows[:, 0].tolist() == [2, 3, 3, 3, 4, 5, 0, 4]
    assert struck_again(rows).sum() == 0


def test_whether_notes_are_struck_again_is_seen_in_the_data(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    grid = [draw.integers(50, 70, (16, 4)).repeat(4, 0).tolist() for _ in range(4)]
    (tmp_path / "grid.json").write_text(json.dumps({"train": grid}))
    form = load(tmp_path).modality.form  # type: ignore[attr-defined]
    assert not form.repeats and not Form.of_json(json.loads(json.dumps(form.to_json()))).repeats
    again = Score((Part((Note(0, 1, 60), Note(1, 1, 60), Note(2, 2, 62))),), (4, 4))
    write_score(again, folder_of(tmp_path / "files", 3) / "again.mid")
    assert load(tmp_path / "files").modality.form.repeats  # type: ignore[attr-defined]


def test_a_held_note_that_nothing_begins_begins() -> None:
    form = Form(1, 60, 61, (Instrument("", 0, 1),))
    found = form.score(np.array([[3], [3], [5], [SILENCE], [4], [form.size], [END]]), None)
    assert found.parts[0].notes == (Note(0, 2, 60), Note(2, 1, 61), Note(4, 1, 61))
    assert found.length == 6.0


@pytest.mark.parametrize(
    ("step", "times"),
    [(1, [0, 1, 2]), (2, [0, 0.5]), (3, [0, 1 / 3]), (6, [0, 1 / 3, 0.5]), (12, [0, 1 / 12])],
)
def test_the_grid_is_the_coarsest_that_keeps_onsets(step: int, times: list[float]) -> None:
    starts = np.array(times * 50)
    assert choose_step(starts)[:2] == (step, 1.0)
    assert (
        choose_step(np.append(starts, np.full(len(starts) // 200, 0.37)))[0] == step
    )  # one in a hundred may stray


def test_played_music_is_rounded_to_sixteenths_and_that_is_said() -> None:
    starts = np.random.default_rng(0).uniform(0, 100, 4000)
    step, share, moved = choose_step(starts)
    assert step == 4
    assert share < 0.3
    assert moved == pytest.approx(1 / 16, rel=0.05)  # uniform within a quarter of a step on either side


def test_lanes_keep_what_fits_and_count_the_rest() -> None:
    chords = tuple(Note(k, 1, p) for k in range(3) for p in (60, 64, 67))
    on, off, pitch = on_grid(lines_of(Score((Part(chords),)))[0], 1)
    assert lanes_needed(sounding(on, off)) == 3
    notes, loss = into_lanes(on, off, pitch, 3)
    assert loss == Loss(9, 0, 0)
    assert [(lane, p) for lane, at, _, p in notes if at == 1] == [(0, 67), (1, 64), (2, 60)]
    notes, loss = into_lanes(on, off, pitch, 2)
    assert loss == Loss(9, 0, 3)
    assert {p for _, _, _, p in notes} == {60, 67}  # the outer ones stay
    held = Score((Part((Note(0, 4, 60), Note(1, 1, 72))),))
    on, off, pitch = on_grid(lines_of(held)[0], 1)
    assert into_lanes(on, off, pitch, 1) == ([(0, 0, 1, 60), (0, 1, 2, 72)], Loss(2, 1, 0))


def test_no_lane_holds_two_notes_at_once() -> None:
    draw = np.random.default_rng(0)
    notes = tuple(
        Note(float(t), float(d), int(p))
        for t, d, p in zip(
            draw.integers(0, 60, 200), draw.integers(1, 9, 200), draw.integers(40, 80, 200), strict=True
        )
    )
    on, off, pitch = on_grid(lines_of(Score((Part(notes),)))[0], 2)
    found, loss = into_lanes(on, off, pitch, 4)
    assert len(found) + loss.lost == loss.notes == len(on)
    for lane in range(4):
        mine = sorted((a, b) for k, a, b, _ in found if k == lane)
        assert all(b <= c for (_, b), (c, _) in zip(mine, mine[1:], strict=False))


def test_the_key_of_a_scale_is_its_own_and_moves_along() -> None:
    major, minor = [60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 60], [69, 71, 72, 74, 76, 77, 80, 81, 76, 72, 69]
    for pitches, name in ((major, "C major"), (minor, "A minor")):
        for k in range(12):
            score = Score((Part(scale([p + k for p in pitches])),))
            assert find_key(score) == transposed_key(name, k)
    assert find_key(Score((Part(scale(list(range(60, 72)))),))) == ""


def test_signatures_name_keys_and_keys_signatures() -> None:
    for minor in (False, True):
        for sharps in range(-5, 7):
            assert fifths_of(key_of_fifths(sharps, minor)) == sharps
        assert len({key_name(t, minor) for t in range(12)}) == 12


def folder_of(path: Path, n: int = 12, rise: int = 0, **about: object) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        write_score(raised(some_score(i, bars=6, **about), rise * (i % 5)), path / f"{i:02d}.mid")  # type: ignore[arg-type]
    return path


def raised(score: Score, semitones: int) -> Score:
    return replace(
        score,
        parts=tuple(
            replace(p, notes=tuple(n._replace(pitch=n.pitch + semitones) for n in p.notes))
            for p in score.parts
        ),
    )


def test_a_folder_is_recognised_and_kept_whole(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "tunes")
    data = load(folder, options={"music": {"length": 96}})  # a piece each
    modality = data.modality
    assert isinstance(modality, MusicModality)
    assert modality_from_spec(modality.spec()).spec() == modality.spec()
    pieces = {
        tuple(map(tuple, rows.tolist()))
        for split in (data.train, data.val)
        for rows in modality.works(split.x)
    }
    for i in range(12):
        assert tuple(map(tuple, modality.rows(some_score(i, bars=6)).tolist())) in pieces
    scores = modality.decode(data.train.batch(torch.arange(len(data.train)))[0])
    assert torch.equal(modality.encode(scores), data.train.batch(torch.arange(len(data.train)))[0])


def test_windows_begin_at_bar_lines_and_transpositions_stay_in_range(tmp_path: Path) -> None:
    data = load(folder_of(tmp_path / "a", rise=2, metre=(3, 4)), options={"music": {"length": 40}})
    modality, index = data.modality, torch.arange(len(data.train))
    assert isinstance(modality, MusicModality)
    whole = {tuple(rows.flatten().tolist()): rows for rows in modality.works(data.train.x)}
    plain = modality.to_state(data.train.x, None)
    moved = 0
    for seed in range(6):
        seeds = Seeds.of(seed, len(index))
        x = modality.to_state(data.train.x, seeds).view(len(index), 40, -1)
        shifts = data.train.x.moves(seeds)
        moved += int((shifts != 0).sum())
        for window, k in zip(x, shifts.tolist(), strict=True):
            back = torch.where(window > END, window - 2 * k, window)
            inside = int((back != END).any(1).sum())
            assert any(
                torch.equal(rows[s : s + inside], back[:inside])
                for rows in whole.values()
                for s in range(0, len(rows), 12)
            )
            heard = modality.form.pitches(window.numpy())
            for lane, (low, high) in enumerate(modality.form.ranges):
                notes = heard[:, lane][heard[:, lane] >= 0]
                assert not len(notes) or (notes.min() >= low and notes.max() <= high)
    assert moved
    assert torch.equal(plain, modality.to_state(data.train.x, None))


def test_the_key_that_a_window_is_labelled_with_moves_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    tune = [60, 62, 64, 65, 67, 69, 71, 72] * 4
    for k in range(-3, 4):
        write_score(Score((Part(scale([p + k for p in tune])),), (4, 4)), folder / f"{k + 5}.mid")
    data = load(folder)
    index = torch.arange(len(data.train)).repeat(8)
    seeds = Seeds.of(3, len(index))
    x, labels = data.train.batch(index, seeds)
    keys = data.columns["key"]
    for score, label in zip(data.modality.decode(x), labels["key"].tolist(), strict=True):
        assert label == len(keys) or score.key == keys[label] or len(score.parts[0].notes) < 16
    assert len(set(labels["key"].tolist())) > 2


def test_transpositions_of_one_tune_stay_on_one_side(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", 60, voices=1)
    for i in range(60):
        up = raised(some_score(i, bars=6, voices=1), 5)
        write_score(up, folder / f"{i:02d}-up.mid")
    data = load(folder)
    sides = [{name[:2] for name in split.names} for split in (data.train, data.val)]
    assert sides[1]
    assert not sides[0] & sides[1]
    assert data.survey.duplicates["pieces_that_are_transpositions"] == 60


def _abc(number: int) -> str:
    """A tune with a pick-up, chords and a repeat, other than that of any other number."""
    draw = random.Random(number)
    bars = ["".join(draw.choice("CDEFGABcde") for _ in range(8)) for _ in range(6)]
    return (
        f'X:{number}\nM:4/4\nL:1/8\nK:C\nG|:"C"' + "|".join(bars[:3]) + ':|:"G"' + "|".join(bars[3:]) + ":|\n"
    )


def test_copies_of_one_tune_are_found_in_files_of_any_kind(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i:02d}.abc").write_text(_abc(i), encoding="utf-8")
        tune = read_abc(_abc(i))[0]
        if i < 12:  # the same notes; MIDI knows no pick-up, and of some its one part holds melody and chords
            one = Part(tuple(sorted(n for p in tune.parts for n in p.notes)))
            write_score(replace(tune, parts=(one,) if i % 2 else tune.parts), folder / f"{i:02d}-same.mid")
        elif i < 30:  # its repeats played out and without its chords, in another key
            melody, half, late = tune.parts[0].notes, 0.5 + 12.0, 12.0
            twice = [n._replace(start=n.start + late * (n.start >= half)) for n in melody]
            again = [
                n._replace(start=n.start + late)
                for n in twice
                if 0.5 <= n.start < half or n.start >= half + late
            ]
            played = raised(replace(tune, parts=(Part(tuple(sorted(twice + again))),), end=0.0), 3)
            write_score(played, folder / f"{i:02d}-played.mid")
    data = load(folder)
    told = data.survey.duplicates
    assert told["pieces_repeated"] == 12 and told["near_copies"] == 18
    assert sorted(sorted(names) for names in told["near_examples"]) == [
        [f"{i:02d}-played.mid", f"{i:02d}.abc"] for i in range(12, 30)
    ]
    sides = [{name[:2] for name in split.names} for split in (data.train, data.val)]
    assert sides[1] and not sides[0] & sides[1]


def test_of_files_with_the_same_notes_one_is_kept(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    for i in range(6):
        write_score(replace(some_score(i, bars=6), title="once more"), folder / f"{i:02d}.musicxml")
    data = load(folder, options={"music": {"length": 96}})
    assert data.survey.duplicates["removed_from_training"] == 6
    assert len(data.train) + len(data.val) == 12


@pytest.mark.parametrize(("often", "most"), [(20.0, 0), (20.5, 6)])
def test_music_is_transposed_where_it_would_be_heard_often(often: float, most: int, tmp_path: Path) -> None:
    folder, seen = folder_of(tmp_path / "a", rise=1), []

    def passes(form: Form, steps: int, total: int) -> float:
        seen.append((form.step, steps, total))
        return often

    data = load(folder, options={"music": {"length": 16, "passes": passes}})
    assert isinstance(data.modality, MusicModality)
    assert data.modality.transpose == most
    assert bool((data.train.x.up + data.train.x.down).any()) == bool(most)
    told = {what: value for what, value, _ in data.survey.notes}
    assert told["transposition"] == ("up to 6 semitones" if most else "none")
    assert seen == [(4, 16, 12 * 6 * 16)]


def test_bad_files_are_named_and_skipped(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", 20)
    (folder / "bad.mid").write_bytes(b"MThd nothing")
    data = load(folder)
    assert [name for name, _ in data.survey.skipped] == ["bad.mid"]
    with pytest.raises(UserError, match=r"bad\.mid"):
        load(folder / "bad.mid")


def test_kinds_of_files_mix_and_folders_are_classes(tmp_path: Path) -> None:
    folder_of(tmp_path / "a" / "slow")
    fast = tmp_path / "a" / "fast"
    fast.mkdir()
    (fast / "t.abc").write_text("X:1\nM:4/4\nL:1/8\nK:G\n" + "GABc defg|" * 12, encoding="utf-8")
    write_score(some_score(50), fast / "x.musicxml")
    (fast / "y.xml").write_bytes((fast / "x.musicxml").read_bytes().replace(b"Voice", b"Other"))
    data = load(tmp_path / "a", options={"music": {"length": 64}})
    assert data.survey.modality == "music"
    assert set(data.columns["class"]) == {"slow", "fast"}
    assert data.survey.files == 15


def test_a_grid_of_voices_keeps_the_sides_that_it_names(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pieces = [draw.integers(50, 70, (16, 4)).repeat(4, 0).tolist() for _ in range(8)]
    (tmp_path / "satb_16th.json").write_text(json.dumps({"train": pieces[:6], "valid": pieces[6:]}))
    sets = [[sorted(set(step)) for step in piece[::4]] for piece in pieces]
    sets[0][0] = []
    (tmp_path / "quarter.json").write_text(json.dumps({"train": sets[:6], "valid": sets[6:]}))
    data = load(tmp_path)
    assert (data.survey.modality, data.survey.totals["pieces"]) == ("music", 8)
    assert len(data.modality.works(data.train.x)) == 6
    assert [name for name, _ in data.survey.left_alone] == ["quarter.json"]
    assert load(tmp_path / "quarter.json").survey.totals["pieces"] == 8


def test_real_corpora_are_read_whole(shared_data: Callable[[str], Path]) -> None:
    data = load(shared_data("jsb_chorales"))
    assert (data.survey.totals["pieces"], data.modality.form.names) == (
        305,
        ["Soprano", "Alto", "Tenor", "Bass"],
    )
    whole = json.loads((shared_data("jsb_chorales") / "jsb16th_satb.json").read_text())
    rows = data.modality.works(data.val.x)
    for piece, tokens in zip(whole["valid"], rows, strict=True):
        assert data.modality.form.pitches(tokens.numpy())[: len(piece)].tolist() == piece


def test_real_abc_has_every_tune(shared_data: Callable[[str], Path]) -> None:
    path = shared_data("nottingham") / "abc" / "waltzes.abc"
    data = load(path)
    assert data.survey.totals["pieces"] == path.read_text().count("X:")
    assert data.modality.form.metre == (3, 4)
