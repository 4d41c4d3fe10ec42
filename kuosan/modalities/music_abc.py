"""ABC notation: the text format of folk tunes (abcnotation.com, standard 2.1), of which a file often holds hundreds.

Each tune is a score: a part for each of its voices, and one for its chord symbols ("Am", "D7") as chords in close
position below the middle of the piano, each held until the next. Repeats are not unfolded: what is read is what is on
the paper. Grace notes, decorations, slurs and words are left out. A library that turns ABC into MIDI would do for the
notes, but loses where the bars begin and strums the chords, which is why this is read here.
"""

from __future__ import annotations

import re
from contextlib import suppress
from fractions import Fraction

from kuosan.modalities.base import Unreadable
from kuosan.modalities.music_abc_bars import SCALE, Measure, Sounding, parts_of
from kuosan.modalities.music_score import TEMPO, Metre, Score, key_of_fifths, usable

MOST_TUNES = 100_000
_FIFTHS = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
_MODES = {
    "": 0,
    "maj": 0,
    "ion": 0,
    "m": -3,
    "min": -3,
    "aeo": -3,
    "mix": -1,
    "dor": -2,
    "phr": -4,
    "lyd": 1,
    "loc": -5,
}
_LENGTH = r"(\d*)(/*)(\d*)"
_TOKEN = re.compile(
    r'(?P<quote>"[^"]*")|(?P<field>\[[A-Za-z]:[^\]]*\])|(?P<mark>![^!\n]*!|\{[^}]*\})'
    r"|\((?P<tuplet>[2-9])(?::(?P<q>[1-9]?))?(?::(?P<r>[1-9]?))?"
    r"|(?P<bar>:*\|[\]:|]*\s*(?:\[?[1-9][\d,.-]*)?|\[\||\[[1-9][\d,.-]*|::+\s*(?:\[?[1-9])?)"
    r"|(?P<open>\[)|(?P<close>\]" + _LENGTH + r")"
    r"|(?P<note>(?P<accidental>\^\^?|__?|=)?(?P<letter>[A-Ga-gzxZX])(?P<octave>[,']*)(?P<n>\d*)(?P<slash>/*)(?P<d>\d*))"
    r"|(?P<broken>[<>]+)|(?P<tie>-)|(?P<other>.)",
    re.DOTALL,
)


def read_abc(text: str) -> list[Score]:
    """Every tune of a file; those without a note are left out.

    Raises:
        Unreadable: none of it is a tune.
    """
    tunes = re.split(r"(?m)^(?=X:)", text)
    tunes = [t for t in tunes if re.search(r"(?m)^K:", t)][:MOST_TUNES]
    found = []
    for tune in tunes:
        with suppress(Unreadable, ValueError, ZeroDivisionError, OverflowError):  # one bad tune of hundreds
            if (score := _tune(tune)) is not None:
                found.append(score)
    if not found:
        raise Unreadable("it holds no tune in ABC notation (a header that ends with K:, then notes)")
    return found


class _Reader:
    """The state of reading one voice."""

    def __init__(self, unit: Fraction, signature: dict[str, int], metre: Metre | None) -> None:
        self.unit, self.signature = unit, signature
        self.metre = metre
        self.measures: list[Measure] = [Measure(begins=True, metre=metre)]
        self.accidentals: dict[str, int] = {}
        self.tuplet = (0, Fraction(1))  # notes left, factor
        self.broken = Fraction(1)  # of the next note
        self.chord: list[int] | None = None
        self.chord_length = Fraction(1)
        self.last: tuple[int, Fraction] = (
            0,
            Fraction(0),
        )  # index of the first note of the last event, its length

    # -- notes ------------------------------------------------------------------------------------------

    def pitch(self, accidental: str | None, letter: str, octave: str) -> int:
        name = letter.upper()
        if accidental is not None:
            self.accidentals[name] = accidental.count("^") - accidental.count("_")
        alter = self.accidentals.get(name, self.signature.get(name, 0))
        height = 60 if letter.isupper() else 72
        return height + SCALE[name] + alter + 12 * (octave.count("'") - octave.count(","))

    def event(self, pitches: list[int], length: Fraction) -> None:
        """Notes that begin together, or a rest."""
        left, factor = self.tuplet
        length *= self.unit * (factor if left else 1) * self.broken
        self.tuplet, self.broken = (max(0, left - 1), factor), Fraction(1)
        measure = self.measures[-1]
        self.last = (len(measure.notes), length)
        for pitch in pitches:
            if 0 <= pitch <= 127 and length > 0:
                measure.notes.append(Sounding(measure.length, length, pitch))
        measure.length += length

    def dot(self, signs: str) -> None:
        """Broken rhythm: the note before is lengthened (or shortened), the next one the other way."""
        short = Fraction(1, 2 ** len(signs))
        factor = 2 - short if signs[0] == ">" else short
        self.broken = 2 - factor
        first, length = self.last
        measure = self.measures[-1]
        for note in measure.notes[first:]:
            note.length = length * factor
        measure.length += length * (factor - 1)

    def tie(self) -> None:
        for note in self.measures[-1].notes[self.last[0] :]:
            note.tied = True

    def bar(self, sign: str) -> None:
        strong = ":" in sign or "||" in sign or "]" in sign or sign.startswith("[")
        if self.measures[-1].length or self.measures[-1].notes:
            self.measures.append(Measure(metre=self.metre))
        self.measures[-1].begins |= strong
        self.accidentals = {}


def _length(n: str, slash: str, d: str) -> Fraction:
    found = Fraction(int(n or 1))
    if slash:
        found /= int(d) if d else 2 ** len(slash)
    return found


def _tune(text: str) -> Score | None:
    """One tune; None where it has no note, or is not understood."""
    title, tempo, metre, unit, key = "", TEMPO, None, None, ""
    signature: dict[str, int] = {}
    voices: dict[str, _Reader] = {}
    reader: _Reader | None = None
    current = "1"
    for raw in text.splitlines():
        line = re.sub(r"(?<!\\)%.*$", "", raw).rstrip()
        if reader is not None and not line.strip() and not raw.strip():
            break  # a blank line ends a tune
        named = re.match(r"^\s*([A-Za-z]):(.*)$", line)
        if named:
            name, value = named[1], named[2].strip()
            if name == "T" and not title:
                title = value[:80]
            elif name == "V" and value:
                current = value.split()[0]
                reader = (
                    voices.get(current) if reader is None else _voice(voices, current, unit, signature, metre)
                )
            elif name in "MLQK":
                metre, unit, tempo = _field(name, value, metre, unit, tempo)
                if name == "K":
                    signature, named_key = _key(value, key)
                    if reader is None:
                        key = named_key
                        reader = _voice(voices, current, unit, signature, metre)
                _turn(voices, name, unit, signature, metre)
            continue
        if reader is not None:
            reader = _music(line, reader, voices, current)
    parts, pickup, changes, end = parts_of({name: r.measures for name, r in voices.items()})
    if not any(part.notes for part in parts):
        return None
    first = next((r.measures[0].metre for r in voices.values()), metre)
    return Score(parts, first, pickup, tempo, key, title, changes, end)


def _voice(
    voices: dict[str, _Reader], name: str, unit: Fraction | None, signature: dict[str, int], metre: Metre | None
) -> _Reader:  # fmt: skip
    if name not in voices:
        if unit is None:  # the standard's rule
            unit = (
                Fraction(1, 16) if metre and Fraction(metre[0], metre[1]) < Fraction(3, 4) else Fraction(1, 8)
            )
        voices[name] = _Reader(4 * unit, signature, metre)
    return voices[name]


def _field(name: str, value: str, metre: Metre | None, unit: Fraction | None, tempo: float
           ) -> tuple[Metre | None, Fraction | None, float]:  # fmt: skip
    fraction = re.search(r"(\d+)\s*/\s*(\d+)", value)
    if name == "M":
        words = {"C": (4, 4), "C|": (2, 2)}
        metre = words.get(value, usable((int(fraction[1]), int(fraction[2]))) if fraction else None)
    elif name == "L" and fraction and int(fraction[2]):
        unit = Fraction(int(fraction[1]), int(fraction[2]))
    elif name == "Q":
        beats = re.search(r"=\s*(\d+(?:\.\d+)?)", value) or re.search(r"^\s*(\d+(?:\.\d+)?)\s*$", value)
        if beats:
            of = (
                Fraction(int(fraction[1]), int(fraction[2])) * 4
                if fraction and int(fraction[2])
                else Fraction(1)
            )
            said = float(beats[1]) * float(of)
            tempo = said if 10 <= said <= 500 else tempo
    return metre, unit, tempo


def _key(value: str, before: str) -> tuple[dict[str, int], str]:
    """What a key signature alters, and its name."""
    found = re.match(r"^([A-G])([#b]?)\s*([A-Za-z]*)", value)
    if not found:
        hp = value[:2] in ("HP", "Hp")
        return ({"F": 1, "C": 1} if hp else {}), ("D major" if hp else before)
    mode = found[3].lower()[:3] if found[3].lower()[:3] in _MODES else "m" if found[3] in ("m", "min") else ""
    sharps = _FIFTHS[found[1]] + 7 * ("#b".find(found[2]) * -2 + 1 if found[2] else 0) + _MODES[mode]
    order = "FCGDAEB"
    signature = {order[i]: 1 for i in range(min(7, max(0, sharps)))}
    signature |= {order[6 - i]: -1 for i in range(min(7, max(0, -sharps)))}
    for sign, letter in re.findall(r"(\^|_|=)([A-Ga-g])", value[found.end() :]):
        signature[letter.upper()] = {"^": 1, "_": -1, "=": 0}[sign]
    return signature, key_of_fifths(sharps, mode in ("m", "min", "aeo", "dor", "phr"))


def _turn(voices: dict[str, _Reader], name: str, unit: Fraction | None, signature: dict[str, int], metre: Metre | None
          ) -> None:  # fmt: skip
    """A field in the middle of a tune holds from here on."""
    for reader in voices.values():
        if name == "L" and unit is not None:
            reader.unit = 4 * unit
        elif name == "K":
            reader.signature = signature
        elif name == "M":
            reader.metre = metre
            if not reader.measures[-1].length:
                reader.measures[-1].metre = metre


def _music(line: str, reader: _Reader, voices: dict[str, _Reader], current: str) -> _Reader:
    """Reads a line of notes; the voice that it ends in."""
    for found in _TOKEN.finditer(line):
        kind = found.lastgroup
        if found["quote"]:
            text = found["quote"][1:-1].strip()
            if text and text[0] in "ABCDEFG(":
                reader.measures[-1].chords.append((reader.measures[-1].length, text))
        elif found["field"]:
            name, value = found["field"][1], found["field"][3:-1].strip()
            if name == "V" and value:
                reader = _voice(voices, value.split()[0], reader.unit / 4, reader.signature, reader.metre)
            elif name in "ML":
                metre, unit, _ = _field(name, value, reader.metre, reader.unit / 4, TEMPO)
                _turn(voices, name, unit, reader.signature, metre)
            elif name == "K":
                _turn(voices, name, None, _key(value, "")[0], None)
        elif found["tuplet"]:
            p = int(found["tuplet"])
            usual = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(
                p, 3 if reader.metre and reader.metre[0] in (6, 9, 12) else 2
            )
            q = int(found["q"] or usual)
            reader.tuplet = (int(found["r"] or p), Fraction(q, p))
        elif found["bar"]:
            reader.bar(found["bar"])
        elif found["open"]:
            reader.chord, reader.chord_length = [], Fraction(0)
        elif found["close"]:
            if reader.chord is not None:
                n, slash, d = found.group("close"), "", ""
                outer = re.match(r"\](\d*)(/*)(\d*)", n)
                n, slash, d = outer.groups() if outer else ("", "", "")
                pitches, reader.chord = reader.chord, None
                reader.event(pitches, (reader.chord_length or Fraction(1)) * _length(n, slash, d))
        elif found["note"]:
            _note(found, reader)
        elif found["broken"]:
            reader.dot(found["broken"])
        elif found["tie"]:
            reader.tie()
        elif kind == "other" and found["other"] == "&":
            raise Unreadable("it has two voices in one bar (&)")
    return reader


def _note(found: re.Match[str], reader: _Reader) -> None:
    letter, length = found["letter"], _length(found["n"], found["slash"], found["d"])
    if letter in "zx":
        reader.event([], length)
    elif letter in "ZX":
        whole = Fraction(*(reader.metre or (4, 4))) * 4
        reader.event([], length * whole / reader.unit)
    else:
        pitch = reader.pitch(found["accidental"], letter, found["octave"])
        if reader.chord is None:
            reader.event([pitch], length)
        else:
            reader.chord.append(pitch)
            reader.chord_length = reader.chord_length or length
