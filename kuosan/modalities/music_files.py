"""Music in files of every kind that is read and written; by suffix.

    read     .mid .midi    .abc    .musicxml .mxl .xml    .json .npy .npz
    write    .mid .midi            .musicxml .mxl .xml    .wav (rendered)    .png (piano roll)

What is written is read back as it was, but for WAV and PNG, which are to be heard and seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kuosan.errors import UserError
from kuosan.modalities.base import Unreadable
from kuosan.modalities.music_abc import read_abc
from kuosan.modalities.music_draw import music_sheet
from kuosan.modalities.music_grid import read_grids
from kuosan.modalities.music_midi import read_midi, write_midi
from kuosan.modalities.music_score import Score
from kuosan.modalities.music_sound import write_wav
from kuosan.modalities.music_xml import read_musicxml
from kuosan.modalities.music_xml_write import write_musicxml
from kuosan.modalities.text_encoding import decode_text

MIDI, XML = (".mid", ".midi"), (".musicxml", ".mxl", ".xml")
GRIDS = (".json", ".npy", ".npz")
WRITTEN = ("mid", "musicxml", "mxl", "wav", "png")


@dataclass(frozen=True)
class Piece:
    """One score of a file; `name` tells it from its fellows ("" where it is alone), `side` as the file has it."""

    score: Score
    name: str = ""
    side: str = ""
    voiced: bool = True  # whether it says which voice a note is of


def read_scores(path: Path) -> list[Piece]:
    """Every score of a file.  Raises `Unreadable`."""
    try:
        match path.suffix.lower():
            case suffix if suffix in MIDI:
                found = [Piece(read_midi(path))]
            case suffix if suffix in XML:
                found = [Piece(read_musicxml(path))]
            case suffix if suffix in GRIDS:
                grids = read_grids(path)
                voiced = all(part.name for _, score in grids for part in score.parts)
                found = [Piece(score, "", side, voiced) for side, score in grids]
            case _:
                found = [Piece(score) for score in read_abc(decode_text(path.read_bytes()))]
    except OSError as error:
        raise Unreadable(f"it cannot be opened ({error.strerror})") from None
    found = [piece for piece in found if piece.score.notes]
    if not found:
        raise Unreadable("it holds no note")
    digits = len(str(len(found) - 1))
    alone = len(found) == 1
    return [Piece(p.score, "" if alone else f"{i:0{digits}d}", p.side, p.voiced) for i, p in enumerate(found)]


def write_score(score: Score, path: Path) -> Path:
    """Writes a score in the format of the path's suffix, MIDI where it has none; the path written.

    Raises:
        UserError: an unknown suffix.
    """
    path = path if path.suffix else path.with_suffix(".mid")
    match path.suffix.lower():
        case suffix if suffix in MIDI:
            write_midi(score, path)
        case suffix if suffix in XML:
            write_musicxml(score, path)
        case ".wav":
            write_wav(score, path)
        case ".png":
            music_sheet([score]).save(path)
        case suffix:
            raise UserError(f"music is not written as {suffix}: choose one of {', '.join(WRITTEN)}")
    return path
