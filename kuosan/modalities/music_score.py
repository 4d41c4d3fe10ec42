"""Scores: what is written on music paper, as notes of parts along time in quarters.

A `Score` is what every reader makes (MIDI, ABC, MusicXML, grids) and every writer takes. Time counts quarter notes
from the beginning; bars begin at `pickup`, and every `bar` quarters after it. What has no place in it (dynamics,
lyrics, ornaments, pedals) is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

TICKS = 480  # per quarter, in files that we write: 2⁵·3·5, so that every grid of ours is exact
LOWEST, HIGHEST = 0, 127
TEMPO = 120.0  # quarters per minute, of a score that does not say
NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")

Metre = tuple[int, int]


class Note(NamedTuple):
    """Start and length in quarters, and the MIDI number of the pitch (60 is middle C)."""

    start: float
    length: float
    pitch: int


@dataclass(frozen=True)
class Part:
    """What one instrument or singer has."""

    notes: tuple[Note, ...]
    name: str = ""
    program: int = 0  # General MIDI, from 0


@dataclass(frozen=True)
class Score:
    """A piece.

    Args:
        metre: (beats, unit) of its bars, (6, 8) say; None where the file has none. pickup: quarters before the first
            bar line, where that is not the beginning.
        key: "G major", "E minor", as the file has it; "" where it has none.
        changes: (time, metre) of every other metre that follows.
        end: of the last bar, in quarters, where that is after the last note.
        lost: what was in the file and is not here, in words, with how many there were.
    """

    parts: tuple[Part, ...]
    metre: Metre | None = None
    pickup: float = 0.0
    tempo: float = TEMPO
    key: str = ""
    title: str = ""
    changes: tuple[tuple[float, Metre], ...] = ()
    end: float = 0.0
    lost: dict[str, int] = field(default_factory=dict, compare=False)

    @property
    def notes(self) -> int:
        return sum(len(part.notes) for part in self.parts)

    @property
    def length(self) -> float:
        """In quarters, up to the end of the last note or bar."""
        ends = (note.start + note.length for part in self.parts for note in part.notes)
        return max(ends, default=0.0) if not self.end else max(self.end, *ends, 0.0)

    @property
    def bar(self) -> float:
        """Quarters of a bar; four where there is no metre."""
        return quarters(self.metre or (4, 4))

    def sections(self) -> list[Score]:
        """Pieces of one metre each, in order; a note belongs to the one that it begins in and ends with it."""
        if not self.changes:
            return [self]
        whole, found = self.length, []
        begins = [(0.0, self.metre), *self.changes]
        for k, (begin, metre) in enumerate(begins):
            end = begins[k + 1][0] if k + 1 < len(begins) else whole
            parts = tuple(
                replace(part, notes=tuple(
                    Note(n.start - begin, min(n.start + n.length, end) - n.start, n.pitch)
                    for n in part.notes if begin <= n.start < end
                ))
                for part in self.parts
            )  # fmt: skip
            pickup = self.pickup if k == 0 else 0.0
            found.append(
                replace(self, parts=parts, metre=metre, pickup=pickup, changes=(), end=end - begin, lost={})
            )
        return [part for part in found if part.notes]


def quarters(metre: Metre) -> float:
    """Of a bar."""
    return metre[0] * 4 / metre[1]


def metre_name(metre: Metre | None) -> str:
    """As it is written, or "free"."""
    return f"{metre[0]}/{metre[1]}" if metre else "free"


def parse_metre(name: str) -> Metre | None:
    """The metre of such a name; None for any other."""
    above, _, below = name.partition("/")
    return (int(above), int(below)) if above.isdecimal() and below.isdecimal() else None


def usable(metre: Metre | None) -> Metre | None:
    """A metre that bars can be made of: 1 … 32 beats of a unit of 1, 2, 4, 8 or 16; None where it is not."""
    return metre if metre and 1 <= metre[0] <= 32 and metre[1] in (1, 2, 4, 8, 16) else None


def key_of_fifths(fifths: int, minor: bool) -> str:
    """The key of so many sharps (flats are negative); "" where there is no such key.

    >>> key_of_fifths(1, False), key_of_fifths(-3, True)
    ('G major', 'C minor')
    """
    if not -7 <= fifths <= 7:
        return ""
    tonic = (7 * fifths + (9 if minor else 0)) % 12
    return key_name(tonic, minor)


def key_name(tonic: int, minor: bool) -> str:
    """Tonic (0 is C) and mode; minor keys from C# on are spelled with sharps where that is usual."""
    name = {1: "C#", 8: "G#"}.get(tonic, NAMES[tonic]) if minor else {1: "Db"}.get(tonic, NAMES[tonic])
    return f"{name} {'minor' if minor else 'major'}"


def parse_key(name: str) -> tuple[int, bool] | None:
    """Tonic and whether it is minor, of `key_name`; None for anything else."""
    for minor in (False, True):
        for tonic in range(12):
            if key_name(tonic, minor) == name:
                return tonic, minor
    return None


def fifths_of(name: str) -> int:
    """Sharps of a key (flats are negative), between -5 and 6; 0 where it is none.

    >>> fifths_of("G major"), fifths_of("C minor"), fifths_of("")
    (1, -3, 0)
    """
    found = parse_key(name)
    if found is None:
        return 0
    tonic, minor = found
    return ((tonic + (3 if minor else 0)) * 7 + 5) % 12 - 5
