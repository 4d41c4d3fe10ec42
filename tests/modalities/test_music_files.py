"""Files of music: what is written is read back as it was, by us and by others; what is damaged is said plainly."""

from __future__ import annotations

import json
import wave
import zipfile
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
from music21 import converter

from kuosan.modalities import MusicModality, Unreadable
from kuosan.modalities.music_abc import read_abc
from kuosan.modalities.music_files import read_scores, write_score
from kuosan.modalities.music_grid import is_grid, read_grids
from kuosan.modalities.music_score import Note, Part, Score
from kuosan.modalities.music_sound import RATE, render
from kuosan.modalities.music_xml import is_musicxml

from .music import scale, some_score

CASES = [
    some_score(0),
    some_score(1, (3, 4), 2),
    some_score(2, (6, 8), 2, pickup=0.5),
    some_score(3, (5, 8), 4),
    some_score(4, (4, 4), 12, voices=1),
    some_score(5, (9, 8), 3, voices=2),
]


def same(a: Score, b: Score) -> None:
    assert [p.notes for p in a.parts] == [p.notes for p in b.parts]
    assert [p.name for p in a.parts] == [p.name for p in b.parts]
    assert (a.metre, a.tempo, a.key) == (b.metre, b.tempo, b.key)


@pytest.mark.parametrize("score", CASES)
def test_midi_comes_back_as_it_was(score: Score, tmp_path: Path) -> None:
    same(read_scores(write_score(score, tmp_path / "a.mid"))[0].score, score)


@pytest.mark.parametrize("suffix", ["musicxml", "mxl"])
@pytest.mark.parametrize("score", CASES)
def test_musicxml_comes_back_as_it_was(score: Score, suffix: str, tmp_path: Path) -> None:
    found = read_scores(write_score(score, tmp_path / f"a.{suffix}"))[0].score
    same(found, score)
    assert found.pickup == score.pickup
    assert found.parts[0].program == score.parts[0].program


def test_chords_and_held_notes_of_one_part_come_back(tmp_path: Path) -> None:
    notes = (Note(0, 1, 60), Note(0, 1, 64), Note(0, 6, 48), Note(1, 4.5, 62), Note(7, 1, 60))
    score = Score((Part(notes, "Piano"),), (4, 4))
    for suffix in ("mid", "musicxml"):
        assert read_scores(write_score(score, tmp_path / f"a.{suffix}"))[0].score.parts[0].notes == notes


def test_mido_reads_the_same_notes(tmp_path: Path) -> None:
    score = CASES[2]
    file = mido.MidiFile(write_score(score, tmp_path / "a.mid"))
    assert file.type == 1
    found, metres, tempos = [], [], []
    for track in file.tracks:
        time, open_notes = 0, {}
        for message in track:
            time += message.time
            if message.type == "time_signature":
                metres.append((message.numerator, message.denominator))
            elif message.type == "set_tempo":
                tempos.append(mido.tempo2bpm(message.tempo))
            elif message.type == "note_on" and message.velocity:
                open_notes[message.note] = time
            elif message.type in ("note_off", "note_on"):
                start = open_notes.pop(message.note)
                quarter = file.ticks_per_beat
                found.append(Note(start / quarter, (time - start) / quarter, message.note))
    assert sorted(found) == sorted(note for part in score.parts for note in part.notes)
    assert metres == [score.metre]
    assert tempos == pytest.approx([score.tempo], rel=1e-4)


@pytest.mark.parametrize("score", [CASES[0], CASES[2], CASES[4]])
def test_music21_reads_the_same_notes(score: Score, tmp_path: Path) -> None:
    found = converter.parse(write_score(score, tmp_path / "a.musicxml"))
    parts = []
    for part in found.parts:
        notes = part.stripTies().flatten().notes
        parts.append(tuple(Note(float(n.offset), float(n.quarterLength), n.pitch.midi) for n in notes))
    for mine, theirs in zip(score.parts, parts, strict=True):
        np.testing.assert_allclose(theirs, mine.notes, atol=1e-6)
    metre = found.parts[0].flatten().getElementsByClass("TimeSignature")[0]
    assert (metre.numerator, metre.denominator) == score.metre
    assert found.parts[0].flatten().getElementsByClass("KeySignature")[0].sharps == 0  # A minor


TUNE = """X:1
T:Known
M:6/8
L:1/8
Q:3/8=80
K:G
D|"G"G2A B>cd|(3efg ^f=f [DF]2|1 "D7"f3 z2 :|2 c_BA G3-|G6||
"""


def test_abc_is_read_as_written() -> None:
    (score,) = read_abc(TUNE)
    melody, chords = score.parts
    assert (score.title, score.metre, score.key, score.pickup, score.tempo) == (
        "Known",
        (6, 8),
        "G major",
        0.5,
        120.0,
    )
    expected = [
        (0, 0.5, 62), (0.5, 1, 67), (1.5, 0.5, 69), (2, 0.75, 71), (2.75, 0.25, 72), (3, 0.5, 74),  # D|G2A B>cd
        (3.5, 1 / 3, 76), (3.5 + 1 / 3, 1 / 3, 78), (3.5 + 2 / 3, 1 / 3, 79), (4.5, 0.5, 78), (5, 0.5, 77),
        (5.5, 1, 62), (5.5, 1, 65),  # the natural holds to the end of its bar, at any height
        (6.5, 1.5, 78), (9.5, 0.5, 72), (10, 0.5, 70), (10.5, 0.5, 69), (11, 4.5, 67),  # tied over the bar line
    ]  # fmt: skip
    np.testing.assert_allclose(melody.notes, expected, atol=1e-9)
    assert [n.pitch for n in chords.notes if n.start == 0.5] == [43, 47, 50]
    assert [n.pitch for n in chords.notes if n.start == 6.5] == [50, 54, 57, 60]
    assert chords.notes[0].length == 6.0  # until the next


def test_bars_that_a_repeat_divides_are_joined() -> None:
    (score,) = read_abc("X:1\nM:3/4\nL:1/4\nK:C\nG|c2e|d2:|:B|c3|g3|]\n")
    assert [n.start for n in score.parts[0].notes] == [0, 1, 3, 4, 6, 7, 10]
    assert score.pickup == 1.0


def test_many_tunes_of_a_file_are_many_pieces(tmp_path: Path) -> None:
    path = tmp_path / "tunes.abc"
    path.write_text(TUNE + "\nX:2\nK:C\n\nX:3\nT:b\nM:C\nK:Am\nabc|\n", encoding="utf-8")
    assert [piece.score.key for piece in read_scores(path)] == ["G major", "A minor"]


def test_grids_hold_notes_until_they_change(tmp_path: Path) -> None:
    piece = [[60, -1], [60, 50], [62, 50], [62, 52]]
    path = tmp_path / "two_8th.json"
    path.write_text(json.dumps({"train": [piece], "valid": [piece], "test": [piece]}), encoding="utf-8")
    found = read_grids(path)
    assert [side for side, _ in found] == ["train", "val", "test"]
    assert found[0][1].parts[0].notes == (Note(0, 1, 60), Note(1, 1, 62))
    assert found[0][1].parts[1].notes == (Note(0.5, 1, 50), Note(1.5, 0.5, 52))
    assert is_grid(path.read_bytes())
    np.save(tmp_path / "a.npy", np.array(piece))
    assert read_grids(tmp_path / "a.npy")[0][1].parts[0].notes == (Note(0, 0.5, 60), Note(0.5, 0.5, 62))
    roll = np.zeros((4, 128))
    roll[1:3, 60] = roll[2, 64] = 1
    np.savez(tmp_path / "b.npz", roll=roll, resolution=1)
    assert read_grids(tmp_path / "b.npz")[0][1].parts[0].notes == (Note(1, 2, 60), Note(2, 1, 64))


@pytest.mark.parametrize(
    "text", ['{"a": 1}', '[{"text": "x"}]', "[[1, 2], [3, 4]]", "[[[300, 400]]]", '["a"]']
)
def test_other_json_is_not_music(text: str) -> None:
    assert not is_grid(text.encode())


def _bad(folder: Path) -> dict[str, bytes]:
    midi = write_score(CASES[0], folder / "good.mid").read_bytes()
    xml = write_score(CASES[0], folder / "good.musicxml").read_bytes()
    mxl = write_score(CASES[0], folder / "good.mxl").read_bytes()
    drums = mido.MidiFile()
    track = mido.MidiTrack(
        [mido.Message("note_on", note=40, channel=9), mido.Message("note_off", note=40, channel=9, time=9)]
    )
    drums.tracks.append(track)
    drums.save(folder / "drums.midi")
    empty = mido.MidiFile()
    empty.tracks.append(mido.MidiTrack())
    empty.save(folder / "empty.midi")
    bomb = folder / "bomb.mxl"
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr("notes.txt", "nothing")
    laughs = (
        b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "'
        + b"x" * 100
        + b'">'
        + b"".join(f'<!ENTITY {chr(98 + i)} "{("&" + chr(97 + i) + ";") * 20}">'.encode() for i in range(12))
        + b"]><score-partwise>&m;</score-partwise>"
    )
    return {
        "cut.mid": midi[:-20], "head.mid": midi[:10], "none.mid": b"", "noise.mid": b"MThd" + bytes(range(200)),
        "drums.mid": (folder / "drums.midi").read_bytes(), "empty.mid": (folder / "empty.midi").read_bytes(),
        "cut.musicxml": xml[: len(xml) // 2], "none.xml": b"", "other.xml": b"<svg/>",
        "rests.xml": b"<score-partwise><part id='P1'><measure><note><rest/></note></measure></part></score-partwise>",
        "odd.xml": b"<score-partwise><part><measure><note><pitch><step>H</step><octave>x</octave></pitch></note>"
        b"</measure></part></score-partwise>",
        "cut.mxl": mxl[: len(mxl) // 2], "none.mxl": b"PK", "no.mxl": bomb.read_bytes(), "laughs.musicxml": laughs,
        "words.abc": b"once upon a time", "rests.abc": b"X:1\nK:C\nzzz|\n",
        "rests.json": b"[[[-1, -1], [-1, -1]]]", "high.json": b"[[[400], [401]]]", "cut.json": b"[[[60, 61], [6",
        "deep.json": b"[" * 100_000, "cut.npz": b"PK\x03\x04", "flat.npy": b"\x93NUMPY",
    }  # fmt: skip


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    for name, data in _bad(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(Unreadable) as error:
            read_scores(path)
        assert error.value.reason and "\n" not in error.value.reason, name


def test_objects_in_arrays_are_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1], "x"], dtype=object), allow_pickle=True)
    with pytest.raises(Unreadable, match="never opened"):
        read_scores(tmp_path / "a.npy")


def test_an_absurd_tempo_is_not_believed(tmp_path: Path) -> None:
    file = mido.MidiFile()
    track = [
        mido.MetaMessage("set_tempo", tempo=1),
        mido.Message("note_on", note=60),
        mido.Message("note_off", note=60, time=480),
    ]
    file.tracks.append(mido.MidiTrack(track))
    file.save(tmp_path / "a.mid")
    (piece,) = read_scores(tmp_path / "a.mid")
    assert (piece.score.tempo, piece.score.parts[0].notes) == (120.0, (Note(0, 1, 60),))


def test_drums_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write_score(Score((Part(scale([60, 62])),)), tmp_path / "a.mid")
    file = mido.MidiFile(path)
    beat = [mido.Message("note_on", note=40, channel=9), mido.Message("note_off", note=40, channel=9, time=9)]
    file.tracks.append(mido.MidiTrack(beat))
    file.save(path)
    (piece,) = read_scores(path)
    assert (piece.score.notes, piece.score.lost) == (2, {"notes of drums": 1})


def test_transposing_instruments_sound_as_they_sound(tmp_path: Path) -> None:
    path = write_score(Score((Part(scale([60, 62])),)), tmp_path / "a.musicxml")
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("</attributes>", "<transpose><chromatic>-2</chromatic></transpose></attributes>", 1)
    )
    assert [n.pitch for n in read_scores(path)[0].score.parts[0].notes] == [58, 60]


def test_musicxml_is_told_from_other_xml() -> None:
    assert is_musicxml(
        b'<?xml version="1.0"?><!DOCTYPE score-partwise PUBLIC "x"><score-partwise version="4.0">'
    )
    assert not is_musicxml(b"<svg xmlns='x'>")


def test_the_sound_has_the_pitch_and_the_length(tmp_path: Path) -> None:
    score = Score((Part((Note(0, 2, 69),)),), tempo=60.0)
    sound = render(score)
    spectrum = np.abs(np.fft.rfft(sound[:RATE]))
    assert np.argmax(spectrum) == pytest.approx(440, abs=2)  # of one second: one Hz each
    assert np.abs(sound[: 2 * RATE]).max() == pytest.approx(0.9, rel=1e-3)
    assert np.abs(sound[int(2.1 * RATE) :]).max() < 1e-3
    with wave.open(str(write_score(score, tmp_path / "a.wav"))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (RATE, 1, len(sound))


def test_a_change_of_metre_begins_another_work() -> None:
    score = replace(some_score(0, bars=3), changes=((8.0, (3, 4)),))
    first, second = score.sections()
    assert (first.length, second.metre) == (8.0, (3, 4))
    assert first.notes + second.notes == score.notes


def test_the_modality_writes_what_the_suffix_says(tmp_path: Path) -> None:
    assert MusicModality.name == "music"
    for suffix in ("mid", "musicxml", "wav", "png"):
        assert write_score(CASES[0], tmp_path / f"b.{suffix}").stat().st_size > 100
