"""MusicXML, plain and compressed: read here, written in `music_xml_write`.

A part is a part of the file, whatever staves and voices it has. Notes that are tied are one note; repeats are not
unfolded, so what is read is what is on the paper; grace notes and unpitched ones are left out, and counted. Pitches are
as they sound: transposing instruments are taken back (`<transpose>`). A first measure that is shorter than its metre is
a pick-up, and so is one that is marked as implicit.

The format: W3C, MusicXML 4.0. Time-wise files are read as well.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

from kuosan.modalities.base import Unreadable
from kuosan.modalities.music_score import (
    HIGHEST,
    LOWEST,
    TEMPO,
    Metre,
    Note,
    Part,
    Score,
    key_of_fifths,
    usable,
)

MOST_BYTES = 2**26  # of XML, unpacked
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ROOTS = ("score-partwise", "score-timewise")
SLOWEST, FASTEST = 10.0, 500.0

Element = ElementTree.Element


def is_musicxml(head: bytes) -> bool:
    """Whether a file that begins so is MusicXML."""
    return any(f"<{root}".encode() in head or f"{root} ".encode() in head for root in ROOTS)


def read_musicxml(path: Path) -> Score:
    """The score of a .musicxml, .xml or .mxl file.  Raises `Unreadable`."""
    data = _unpacked(path) if path.suffix.lower() == ".mxl" else _plain(path)
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Unreadable(f"it is no XML ({error})") from None
    if root.tag not in ROOTS:
        raise Unreadable(f"it is XML, but no score: its root is <{root.tag}>")
    try:
        return _score(root)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError, KeyError) as error:
        raise Unreadable(f"its music cannot be understood ({error})") from None


def _plain(path: Path) -> bytes:
    if path.stat().st_size > MOST_BYTES:
        raise Unreadable(f"it has more than {MOST_BYTES >> 20} MiB, which no score needs")
    return path.read_bytes()


def _unpacked(path: Path) -> bytes:
    """The score in a compressed file: the one that its container names, or the first that looks like one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if not n.startswith("META-INF/")]
            name = next((n for n in names if n.lower().endswith((".musicxml", ".xml"))), "")
            if "META-INF/container.xml" in archive.namelist():
                with archive.open("META-INF/container.xml") as file:
                    root = ElementTree.fromstring(file.read(2**16))
                full = next((e.get("full-path", "") for e in root.iter() if e.tag.endswith("rootfile")), "")
                name = full if full in names else name
            if not name:
                raise Unreadable("its archive holds no score")
            with archive.open(name) as file:  # no more than is allowed, whatever its directory says
                data = file.read(MOST_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ElementTree.ParseError, RuntimeError,
            NotImplementedError) as error:  # fmt: skip
        raise Unreadable(f"its archive is damaged ({error})") from None
    if len(data) > MOST_BYTES:
        raise Unreadable(f"its archive unpacks to more than {MOST_BYTES >> 20} MiB, which no score needs")
    return data


@dataclass
class _Facts:
    """What the first part says of all of them."""

    tempo: float = 0.0
    key: str = ""
    metres: list[tuple[float, Metre]] = field(default_factory=list)
    pickup: float = 0.0
    end: float = 0.0
    lost: Counter[str] = field(default_factory=Counter)


def _score(root: Element) -> Score:
    facts, parts = _Facts(), []
    names = {p.get("id", ""): p for p in root.iter("score-part")}
    for k, (name, measures) in enumerate(_parts(root)):
        notes = _notes(measures, facts, k == 0)
        if notes:
            about = names.get(name)
            said = about.findtext("part-name", "").strip() if about is not None else ""
            program = about.findtext(".//midi-program", "") if about is not None else ""
            parts.append(Part(tuple(sorted(notes)), said, _int(program, 1, 1, 128) - 1))
    if not parts:
        raise Unreadable("it holds no note")
    title = root.findtext(".//work-title") or root.findtext(".//movement-title") or ""
    first = facts.metres[0][1] if facts.metres else None
    changes = tuple((t, m) for (_, before), (t, m) in zip(facts.metres, facts.metres[1:], strict=False)
                    if m != before and t > 0)  # fmt: skip
    return Score(tuple(parts), first, facts.pickup, facts.tempo or TEMPO, facts.key, title.strip()[:80], changes,
                 facts.end, dict(facts.lost))  # fmt: skip


def _parts(root: Element) -> Iterator[tuple[str, list[Element]]]:
    """The measures of every part, of either form of file."""
    if root.tag == "score-partwise":
        for part in root.iter("part"):
            yield part.get("id", ""), list(part.iter("measure"))
        return
    found: dict[str, list[Element]] = {}
    for measure in root.iter("measure"):
        for part in measure.iter("part"):
            part.attrib.update(implicit=measure.get("implicit", "no"))
            found.setdefault(part.get("id", ""), []).append(part)
    yield from found.items()


def _notes(measures: list[Element], facts: _Facts, first: bool) -> list[Note]:
    found: list[Note] = []
    open_ties: dict[int, tuple[Fraction, Fraction]] = {}  # pitch → (start, end so far)
    divisions, shift, bar = Fraction(1), 0, Fraction(0)
    for number, measure in enumerate(measures):
        cursor = longest = onset = Fraction(0)
        metre = facts.metres[-1][1] if facts.metres else None
        for element in measure:
            match element.tag:
                case "attributes":
                    divisions = Fraction(element.findtext("divisions") or divisions)
                    if divisions <= 0:
                        raise ValueError("divisions of a quarter that are not positive")
                    chromatic = element.findtext("transpose/chromatic")
                    octaves = element.findtext("transpose/octave-change")
                    if chromatic is not None or octaves is not None:
                        shift = _int(chromatic, 0) + 12 * _int(octaves, 0)
                    if first:
                        metre = _attributes(element, facts, float(bar)) or metre
                case "backup":
                    cursor = max(
                        Fraction(0), cursor - Fraction(element.findtext("duration") or 0) / divisions
                    )
                case "forward":
                    cursor += Fraction(element.findtext("duration") or 0) / divisions
                case "sound" | "direction":
                    _tempo(element, facts)
                case "note":
                    length = Fraction(element.findtext("duration") or 0) / divisions
                    if element.find("grace") is not None or element.find("cue") is not None:
                        facts.lost["grace notes"] += 1
                        continue
                    if element.find("chord") is None:
                        onset, cursor = cursor, cursor + length
                    _sound(element, bar + onset, length, shift, found, open_ties, facts)
            longest = max(longest, cursor)
        whole = Fraction(metre[0] * 4, metre[1]) if metre else longest
        if number == 0 and first and metre and 0 < longest < whole:
            facts.pickup = float(longest)
        short = measure.get("implicit") == "yes" or number in (0, len(measures) - 1) or longest > whole
        bar += longest if short and longest else whole
    found += [_note(start, end, pitch) for pitch, (start, end) in open_ties.items()]
    facts.end = max(facts.end, float(bar))
    return found


def _sound(
    element: Element, start: Fraction, length: Fraction, shift: int, found: list[Note],
    open_ties: dict[int, tuple[Fraction, Fraction]], facts: _Facts,
) -> None:  # fmt: skip
    """Add a note, or what is tied to one."""
    pitch = element.find("pitch")
    if pitch is None:
        if element.find("unpitched") is not None:
            facts.lost["unpitched notes"] += 1
        return
    octave = int(pitch.findtext("octave") or "")
    number = 12 * (octave + 1) + STEPS[(pitch.findtext("step") or "").strip()] + shift
    number += round(float(pitch.findtext("alter") or 0))
    if not (LOWEST <= number <= HIGHEST and length > 0):
        facts.lost["notes out of range"] += 1
        return
    ties = {tie.get("type") for tie in element.findall("tie")}
    begin, end = open_ties.pop(number, (start, start))
    if begin != start and not ("stop" in ties and end == start):
        found.append(_note(begin, end, number))
        begin = start
    if "start" in ties:
        open_ties[number] = (begin, start + length)
    else:
        found.append(_note(begin, start + length, number))


def _note(start: Fraction, end: Fraction, pitch: int) -> Note:
    return Note(float(start), float(end - start), pitch)


def _attributes(element: Element, facts: _Facts, time: float) -> Metre | None:
    """Key and metre; the metre where one is named."""
    fifths = element.findtext("key/fifths")
    if fifths is not None and not facts.key:
        facts.key = key_of_fifths(int(fifths), (element.findtext("key/mode") or "") == "minor")
    beats, unit = element.findtext("time/beats"), element.findtext("time/beat-type")
    if beats is None or unit is None:
        return None
    metre = usable((sum(_int(b, 0) for b in beats.split("+")), _int(unit, 0)))
    if metre and (not facts.metres or facts.metres[-1][1] != metre):
        facts.metres.append((time, metre))
    return metre


def _tempo(element: Element, facts: _Facts) -> None:
    sound = element if element.tag == "sound" else element.find("sound")
    said = sound.get("tempo") if sound is not None else None
    if said is None and (marks := element.find(".//metronome")) is not None:
        units = {"whole": 4.0, "half": 2.0, "quarter": 1.0, "eighth": 0.5}
        unit = units.get(marks.findtext("beat-unit") or "", 1.0) * (
            1.5 if marks.find("beat-unit-dot") is not None else 1
        )
        text = (marks.findtext("per-minute") or "").strip()
        said = str(float(text) * unit) if text.replace(".", "", 1).isdecimal() else None
    if said is not None and not facts.tempo and SLOWEST <= float(said) <= FASTEST:
        facts.tempo = float(said)


def _int(text: str | None, otherwise: int, least: int = -(2**31), most: int = 2**31) -> int:
    """A whole number as XML has it; ``otherwise`` where there is none."""
    try:
        return min(most, max(least, int((text or "").strip())))
    except ValueError:
        return otherwise
