"""The bars of a tune in ABC notation laid out in time, and its chord symbols as notes; `music_abc` reads them.

Bars are those of the metre. A short one at a repeat sign is what remains of a bar that ends, or a pick-up of what
begins: two that make up one bar are joined, any other pick-up is put at the end of its bar, all else at the beginning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from kuosan.modalities.music_score import Metre, Note, Part

SCALE = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_QUALITIES = (
    (re.compile(r"^(maj7|M7)"), (0, 4, 7, 11)), (re.compile(r"^(m7b5|h)"), (0, 3, 6, 10)),
    (re.compile(r"^(m|min|-)7"), (0, 3, 7, 10)), (re.compile(r"^(dim|o|°)"), (0, 3, 6)),
    (re.compile(r"^(aug|\+)"), (0, 4, 8)), (re.compile(r"^sus"), (0, 5, 7)),
    (re.compile(r"^(m|min|-)(?!aj)6?"), (0, 3, 7)), (re.compile(r"^(7|9|11|13)"), (0, 4, 7, 10)),
    (re.compile(r"^6"), (0, 4, 7, 9)), (re.compile(r"^"), (0, 4, 7)),
)  # fmt: skip
_CHORD = re.compile(r"^\(?([A-G])([#b]?)([^/]*)(?:/.*)?$")


@dataclass
class Sounding:
    """A note of a measure, and whether it is tied to the next one."""

    start: Fraction
    length: Fraction
    pitch: int
    tied: bool = False


@dataclass
class Measure:
    """What stands between two bar lines: notes, and chord symbols at their times."""

    notes: list[Sounding] = field(default_factory=list)
    chords: list[tuple[Fraction, str]] = field(default_factory=list)
    length: Fraction = Fraction(0)
    begins: bool = False  # after a repeat sign or a double bar
    metre: Metre | None = None


def parts_of(
    voices: Mapping[str, Sequence[Measure]],
) -> tuple[tuple[Part, ...], float, tuple[tuple[float, Metre], ...], float]:
    """The parts of voices, the pick-up, later metres with their times, and the end of the last bar, in quarters."""
    parts: list[Part] = []
    pickup, end = Fraction(0), Fraction(0)
    changes: tuple[tuple[float, Metre], ...] = ()
    chords: list[tuple[Fraction, str]] = []
    for k, (name, read) in enumerate(voices.items()):
        measures = [m for m in read if m.length]
        begins, first, turns, stop = _laid_out(measures)
        parts.append(Part(tuple(_joined(measures, begins)), "Melody" if len(voices) == 1 else name))
        chords += [
            (begin + at, text) for m, begin in zip(measures, begins, strict=True) for at, text in m.chords
        ]
        end = max(end, stop)
        if k == 0:
            pickup, changes = first, turns
    notes = _chords(sorted(chords, key=lambda c: c[0]), end)
    if notes:
        parts.append(Part(tuple(notes), "Chords"))
    return tuple(parts), float(pickup), changes, float(end)


def _laid_out(
    measures: list[Measure],
) -> tuple[list[Fraction], Fraction, tuple[tuple[float, Metre], ...], Fraction]:
    """When each measure begins, the pick-up, later metres with their times, and the end."""
    begins: list[Fraction] = []
    time, room, pickup = Fraction(0), Fraction(0), Fraction(0)  # room: what the last bar still lacks
    turns: list[tuple[float, Metre]] = []
    metre = measures[0].metre if measures else None
    for k, measure in enumerate(measures):
        if measure.metre != metre and measure.metre is not None:
            turns.append((float(time), measure.metre))
            metre, room = measure.metre, Fraction(0)
        whole = Fraction(*metre) * 4 if metre else measure.length
        lacks = whole - measure.length
        if lacks > 0 and k == 0 and len(measures) > 1:
            pickup = measure.length
            begins.append(time)
            time += measure.length
        elif lacks > 0 and measure.begins and 0 < measure.length <= room:
            begins.append(time - measure.length)  # the rest of a bar that a repeat sign divides
            room = Fraction(0)
        elif lacks > 0 and measure.begins and k + 1 < len(measures):
            begins.append(time + lacks)
            time += whole
            room = Fraction(0)
        else:
            begins.append(time)
            bars = max(1, -(-measure.length // whole))
            time += bars * whole
            room = bars * whole - measure.length
    return begins, pickup, tuple(turns), time


def _joined(measures: list[Measure], begins: list[Fraction]) -> list[Note]:
    """Notes in time, tied ones as one."""
    found: list[Note] = []
    held: dict[int, tuple[Fraction, Fraction]] = {}  # pitch → (start, end)
    for measure, begin in zip(measures, begins, strict=True):
        for note in measure.notes:
            start = begin + note.start
            end = start + note.length
            first, until = held.pop(note.pitch, (start, start))
            if first != until != start:  # tied to something that does not follow
                found.append(Note(float(first), float(until - first), note.pitch))
                first = start
            if note.tied:
                held[note.pitch] = (first, end)
            else:
                found.append(Note(float(first), float(end - first), note.pitch))
    found += [Note(float(a), float(b - a), pitch) for pitch, (a, b) in held.items()]
    return sorted(found)


def _chords(chords: list[tuple[Fraction, str]], end: Fraction) -> list[Note]:
    """Chord symbols as notes, each until the next one."""
    found = []
    for k, (start, text) in enumerate(chords):
        until = chords[k + 1][0] if k + 1 < len(chords) else end
        said = _CHORD.match(text)
        if said is None or until <= start:
            continue
        root = (SCALE[said[1]] + {"#": 1, "b": -1, "": 0}[said[2]] - 5) % 12 + 41  # F2 … E3
        intervals = next(notes for pattern, notes in _QUALITIES if pattern.match(said[3]))
        found += [Note(float(start), float(until - start), root + i) for i in intervals]
    return found
