"""MIDI files, format 0 and 1, by the `symusic` library.

A part is a track, or of a format 0 file a channel: `symusic` divides tracks by channel and instrument. Drums (channel
10) have no pitches and are no part; how many notes that leaves out is said. Of several tempos the first is kept.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from kuosan.modalities.base import Unreadable
from kuosan.modalities.music_score import (
    TEMPO,
    TICKS,
    Metre,
    Note,
    Part,
    Score,
    fifths_of,
    key_of_fifths,
    parse_key,
    usable,
)

SLOWEST, FASTEST = 10.0, 500.0  # quarters per minute that are believed
MOST_BYTES = 2**24
LONGEST = 100_000.0  # quarters


def read_midi(path: Path) -> Score:
    """The score of a MIDI file.  Raises `Unreadable`."""
    import symusic

    if path.stat().st_size > MOST_BYTES:
        raise Unreadable(f"it has more than {MOST_BYTES >> 20} MiB, which no score needs")
    try:
        found: Any = symusic.Score.from_midi(path.read_bytes())
    except (RuntimeError, ValueError, OSError) as error:
        raise Unreadable(f"it is no MIDI file, or a damaged one ({_reason(error)})") from None
    quarter = int(found.ticks_per_quarter)
    if quarter <= 0:
        raise Unreadable("its time is in seconds (SMPTE), without beats")
    parts, drums = [], 0
    for track in found.tracks:
        if track.is_drum:
            drums += len(track.notes)
        elif len(track.notes):
            notes = sorted(Note(n.time / quarter, n.duration / quarter, n.pitch) for n in track.notes)
            parts.append(Part(tuple(notes), _text(track.name), int(track.program)))
    if not parts:
        raise Unreadable("it holds drums alone, which have no pitches" if drums else "it holds no note")
    if max(n.start + n.length for part in parts for n in part.notes) > LONGEST:
        raise Unreadable(f"it lasts more than {LONGEST:,.0f} quarters")
    metre, changes = _metres(found, quarter)
    tempo = next((float(t.qpm) for t in found.tempos), TEMPO)
    key = next((key_of_fifths(int(k.key), bool(k.tonality)) for k in found.key_signatures), "")
    return Score(
        tuple(parts), metre, 0.0, tempo if SLOWEST <= tempo <= FASTEST else TEMPO, key, _text(found_name(found)),
        changes, lost={"notes of drums": drums} if drums else {},
    )  # fmt: skip


def found_name(found: Any) -> str:
    """The name of the first track that has one but no notes: where MIDI files have their titles."""
    return next((t.name for t in found.tracks if t.name and not len(t.notes)), "")


def _metres(found: Any, quarter: int) -> tuple[Metre | None, tuple[tuple[float, Metre], ...]]:
    """The first metre, and where others begin; those that are no metres count for nothing."""
    first: Metre | None = None
    changes: list[tuple[float, Metre]] = []
    for sign in sorted(found.time_signatures, key=lambda s: s.time):
        metre, time = usable((int(sign.numerator), int(sign.denominator))), sign.time / quarter
        last = changes[-1][1] if changes else first
        if metre is None or metre == last:
            continue
        if time == 0 or first is None:
            first = metre
        else:
            changes.append((time, metre))
    return first, tuple(changes)


def write_midi(score: Score, path: Path) -> None:
    """A format 1 file: tempo, metre, key, and a track for each part."""
    import symusic

    out: Any = symusic.Score(TICKS)
    out.tempos = [symusic.Tempo(0, qpm=score.tempo)]
    metres = [(0.0, score.metre)] if score.metre else []
    out.time_signatures = [symusic.TimeSignature(ticks(t), *m) for t, m in (*metres, *score.changes)]
    if (key := parse_key(score.key)) is not None:
        out.key_signatures = [symusic.KeySignature(0, fifths_of(score.key), int(key[1]))]
    for part in score.parts:
        track: Any = symusic.Track(part.name, part.program, False)
        track.notes = [
            symusic.Note(ticks(n.start), max(1, ticks(n.length)), n.pitch, VELOCITY) for n in part.notes
        ]
        out.tracks.append(track)
    out.dump_midi(str(path))


VELOCITY = 80


def ticks(time: float) -> int:
    """Of so many quarters."""
    return math.floor(time * TICKS + 0.5)


def _text(name: str) -> str:
    return "".join(c for c in name if c.isprintable()).strip()[:80]


def _reason(error: Exception) -> str:
    return str(error).replace("MiniMidi: ", "").split(": iostream")[0].rstrip("!. ")[:120]
