"""The works of a folder of music: every piece of one metre, in arrays, with what is known about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from kuosan.modalities.base import Choice, Skip, Unreadable
from kuosan.modalities.folder import Entry, Folder
from kuosan.modalities.music_files import Piece, read_scores
from kuosan.modalities.music_key import find_key
from kuosan.modalities.music_lanes import Line, lines_of
from kuosan.modalities.music_score import Metre, metre_name
from kuosan.modalities.sides import LEFT, settle

DENSITIES = ("sparse", "medium", "dense")


@dataclass(frozen=True)
class Work:
    """A piece of one metre, in arrays: a corpus of any size fits."""

    name: str
    lines: list[Line]
    metre: Metre | None
    pickup: float
    length: float
    tempo: float
    key: str
    side: str
    columns: dict[str, str | None]

    @property
    def notes(self) -> int:
        return sum(len(line.pitch) for line in self.lines)


def works_of(folder: Folder) -> tuple[list[Work], list[Skip], list[Skip], list[Choice], Counter[str]]:
    """Every work of a folder, what failed, what was left out, what was decided, and what its files lost in reading."""
    works: list[Work] = []
    failed: list[Skip] = []
    left_out: list[Skip] = []
    lost: Counter[str] = Counter()
    found: list[tuple[Entry, list[Piece]]] = []
    for entry in folder.entries:
        try:
            found.append((entry, read_scores(entry.path)))
        except Unreadable as error:
            failed.append((entry.name, error.reason))
    voiced = any(piece.voiced for _, pieces in found for piece in pieces)
    divided = 0
    for entry, pieces in found:
        if voiced and not any(piece.voiced for piece in pieces):
            left_out.append(
                (entry.name, "chords without voices, beside music with voices; give it alone to use it")
            )
            continue
        sides = settle({str(i): piece.side for i, piece in enumerate(pieces)})
        for i, piece in enumerate(pieces):
            side = sides[str(i)] or entry.side
            if side == LEFT:
                continue
            lost.update(piece.score.lost)
            name = f"{entry.name}#{piece.name}" if piece.name else entry.name
            parts = piece.score.sections()
            divided += len(parts) > 1
            for k, score in enumerate(parts):
                key = find_key(score)
                columns = dict(entry.columns) | {"metre": metre_name(score.metre), "key": key or None}
                label = name if len(parts) == 1 else f"{name}/{k + 1}"
                works.append(Work(label, lines_of(score), score.metre, score.pickup, score.length, score.tempo,
                                   key, side, columns))  # fmt: skip
    _add_density(works)
    choices: list[Choice] = []
    if divided:
        choices.append(("changes of metre", f"in {divided:,} pieces", "a new work begins at each"))
    return works, failed, left_out, choices, lost


def _add_density(works: list[Work]) -> None:
    """A third of all works each is sparse, medium and dense, in notes per quarter."""
    if len(works) < 3:
        return
    values = np.array([work.notes / max(1.0, work.length) for work in works])
    edges = np.quantile(values, [1 / 3, 2 / 3])
    for work, value in zip(works, values, strict=True):
        work.columns["density"] = DENSITIES[int((value > edges).sum())]
