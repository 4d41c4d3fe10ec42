"""Writes MusicXML 4.0, plain or compressed (.mxl).

Each part is a part of one staff, and voices of a part where its notes overlap. A note that crosses a bar line, or whose
length no single sign has, is written as tied notes:

    lengths of one sign: 4, 2, 1, 1/2, … 1/16 quarters, each also with one dot, and thirds of them as triplets       (1)

so that reading joins what writing took apart.
"""

from __future__ import annotations

import zipfile
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree as Tree

from kuosan.modalities.music_midi import ticks
from kuosan.modalities.music_score import TICKS, Metre, Part, Score, fifths_of, parse_key, quarters

TYPES = ("whole", "half", "quarter", "eighth", "16th", "32nd", "64th")  # of 4, 2, 1, … quarters
SHARP = (("C", 0), ("C", 1), ("D", 0), ("D", 1), ("E", 0), ("F", 0), ("F", 1), ("G", 0), ("G", 1), ("A", 0),
         ("A", 1), ("B", 0))  # fmt: skip
FLAT = (("C", 0), ("D", -1), ("D", 0), ("E", -1), ("E", 0), ("F", 0), ("G", -1), ("G", 0), ("A", -1), ("A", 0),
        ("B", -1), ("B", 0))  # fmt: skip
HEADER = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 '
    b'Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">\n'
)
CONTAINER = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<container><rootfiles><rootfile full-path="score.musicxml"/></rootfiles>'
    "</container>\n"
)


def _signs() -> list[tuple[int, str, int, bool]]:
    """Eq. 1, longest first: (ticks, type, dots, whether of a triplet)."""
    found = []
    for k, name in enumerate(TYPES):
        length = Fraction(4, 2**k)
        for dots, factor in ((0, Fraction(1)), (1, Fraction(3, 2))):
            found.append((length * factor * TICKS, name, dots, False))
        found.append((length * Fraction(2, 3) * TICKS, name, 0, True))
    whole = [(int(t), name, dots, third) for t, name, dots, third in found if t.denominator == 1]
    return sorted(whole, key=lambda sign: -sign[0])


SIGNS = _signs()


def write_musicxml(score: Score, path: Path) -> None:
    """Writes the score; an .mxl file is compressed."""
    data = HEADER + Tree.tostring(_root(score), encoding="utf-8")
    if path.suffix.lower() != ".mxl":
        path.write_bytes(data)
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("score.musicxml", data)


def _root(score: Score) -> Tree.Element:
    root = Tree.Element("score-partwise", version="4.0")
    if score.title:
        _leaf(Tree.SubElement(root, "work"), "work-title", score.title)
    listed = Tree.SubElement(root, "part-list")
    bars = _bars(score)
    for k, part in enumerate(score.parts):
        about = Tree.SubElement(listed, "score-part", id=f"P{k + 1}")
        _leaf(about, "part-name", part.name or f"Part {k + 1}")
        instrument = Tree.SubElement(about, "score-instrument", id=f"P{k + 1}-I1")
        _leaf(instrument, "instrument-name", part.name or f"Part {k + 1}")
        midi = Tree.SubElement(about, "midi-instrument", id=f"P{k + 1}-I1")
        _leaf(midi, "midi-program", part.program + 1)
    for k, part in enumerate(score.parts):
        _part(Tree.SubElement(root, "part", id=f"P{k + 1}"), part, score, bars, k == 0)
    return root


def _bars(score: Score) -> list[tuple[int, int, Metre | None]]:
    """(begin, end, metre where it is a new one) of every measure, in ticks."""
    end, time, found = max(1, ticks(score.length)), 0, []
    metre = score.metre or (4, 4)
    changes = [(ticks(t), m) for t, m in score.changes]
    new: Metre | None = metre
    first = ticks(score.pickup)
    while time < end:
        while changes and changes[0][0] <= time:
            new = metre = changes.pop(0)[1]
        until = first if time == 0 and first else time + ticks(quarters(metre))
        until = min(until, changes[0][0] if changes else until)
        found.append((time, until, new))
        time, new = until, None
    return found


def _part(
    out: Tree.Element, part: Part, score: Score, bars: list[tuple[int, int, Metre | None]], first: bool
) -> None:
    flat = fifths_of(score.key) < 0
    voices = _voices(part)
    for k, (begin, end, metre) in enumerate(bars):
        pickup = k == 0 and bool(score.pickup)
        attributes = {"number": str(k if score.pickup else k + 1)} | ({"implicit": "yes"} if pickup else {})
        measure = Tree.SubElement(out, "measure", attributes)
        if metre or k == 0:
            said = Tree.SubElement(measure, "attributes")
            if k == 0:
                _leaf(said, "divisions", TICKS)
                key = Tree.SubElement(said, "key")
                _leaf(key, "fifths", fifths_of(score.key))
                if found := parse_key(score.key):
                    _leaf(key, "mode", "minor" if found[1] else "major")
            if metre and score.metre:
                time = Tree.SubElement(said, "time")
                _leaf(time, "beats", metre[0])
                _leaf(time, "beat-type", metre[1])
            if k == 0:
                clef = Tree.SubElement(said, "clef")
                pitches = [n.pitch for n in part.notes] or [60]
                low = sum(pitches) / len(pitches) < 60
                _leaf(clef, "sign", "F" if low else "G")
                _leaf(clef, "line", 4 if low else 2)
        if k == 0 and first:
            direction = Tree.SubElement(measure, "direction")
            mark = Tree.SubElement(Tree.SubElement(direction, "direction-type"), "metronome")
            _leaf(mark, "beat-unit", "quarter")
            _leaf(mark, "per-minute", f"{score.tempo:g}")
            Tree.SubElement(direction, "sound", tempo=f"{score.tempo:g}")
        for number, notes in enumerate(voices, 1):
            if number > 1:
                _leaf(Tree.SubElement(measure, "backup"), "duration", end - begin)
            _voice(measure, notes, begin, end, number, flat)


def _voices(part: Part) -> list[list[tuple[int, int, tuple[int, ...]]]]:
    """Lines of chords (start, end, pitches) in ticks, of which none overlap within a line."""
    chords: dict[tuple[int, int], list[int]] = {}
    for n in part.notes:
        begin = ticks(n.start)
        chords.setdefault((begin, max(begin + 1, ticks(n.start + n.length))), []).append(n.pitch)
    lines: list[list[tuple[int, int, tuple[int, ...]]]] = []
    for (begin, end), pitches in sorted(chords.items()):
        line = next((line for line in lines if line[-1][1] <= begin), None)
        if line is None:
            lines.append(line := [])
        line.append((begin, end, tuple(sorted(set(pitches)))))
    return lines or [[]]


def _voice(
    measure: Tree.Element, notes: list[tuple[int, int, tuple[int, ...]]], begin: int, end: int, number: int, flat: bool
) -> None:  # fmt: skip
    """What of a line lies in a measure, rests between."""
    cursor = begin
    for start, stop, pitches in notes:
        if stop <= begin or start >= end:
            continue
        low, high = max(start, begin), min(stop, end)
        _signed(measure, cursor, low, (), number, flat, False, False)
        _signed(measure, low, high, pitches, number, flat, start < begin, stop > end)
        cursor = high
    _signed(measure, cursor, end, (), number, flat, False, False)


def _signed(
    measure: Tree.Element, begin: int, end: int, pitches: tuple[int, ...], number: int, flat: bool, tied_before: bool,
    tied_after: bool,
) -> None:  # fmt: skip
    """From ``begin`` to ``end`` in signs, tied where it takes several; a rest where there are no pitches."""
    while begin < end:
        length, name, dots, third = next(
            (sign for sign in SIGNS if sign[0] <= end - begin), (end - begin, "64th", 0, False)
        )
        before, after = tied_before, tied_after or begin + length < end
        for k, pitch in enumerate(pitches or (None,)):
            note = Tree.SubElement(measure, "note")
            if k:
                Tree.SubElement(note, "chord")
            if pitch is None:
                Tree.SubElement(note, "rest")
            else:
                step, alter = (FLAT if flat else SHARP)[pitch % 12]
                where = Tree.SubElement(note, "pitch")
                _leaf(where, "step", step)
                if alter:
                    _leaf(where, "alter", alter)
                _leaf(where, "octave", pitch // 12 - 1)
            _leaf(note, "duration", length)
            ties = [kind for kind, tied in (("stop", before), ("start", after)) if tied and pitch is not None]
            for kind in ties:
                Tree.SubElement(note, "tie", type=kind)
            _leaf(note, "voice", number)
            _leaf(note, "type", name)
            for _ in range(dots):
                Tree.SubElement(note, "dot")
            if third:
                ratio = Tree.SubElement(note, "time-modification")
                _leaf(ratio, "actual-notes", 3)
                _leaf(ratio, "normal-notes", 2)
            if ties:
                marks = Tree.SubElement(note, "notations")
                for kind in ties:
                    Tree.SubElement(marks, "tied", type=kind)
        begin, tied_before = begin + length, True


def _leaf(parent: Tree.Element, name: str, text: object) -> None:
    Tree.SubElement(parent, name).text = str(text)
