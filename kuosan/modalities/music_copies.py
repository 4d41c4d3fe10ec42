"""Copies among pieces of music, whatever kinds of files they come from.

Two pieces are *the same* where their notes are, on the grid and counted from the first one, all parts taken together:
files of one tune agree in that, and seldom in bars, pick-ups or what they call a part. They are *transpositions* where
that holds after moving both to one pitch, and *near copies* where their top lines are much alike: the same tune with
its repeats played out, in other chords, with a turn more. A line is compared as a text whose letters are its
intervals and the time between two notes, by the share of short runs that both have (`near_copies`, eq. 1), which
neither keys nor repeats change.

Of the 434 MIDI files of the Nottingham tunes, repeats played out, and their 730 tunes in ABC, repeats as written, J ≥
0.5 links 376 files to their ABC, and otherwise only variants of one tune; J ≥ 0.8 links 266.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kuosan.modalities.music_lanes import Line, on_grid, pooled
from kuosan.modalities.near_copies import MOST_TEXTS, near_copies

ALIKE = 0.5  # J of top lines that count as one tune's
_LETTERS, _SPAN = 0x4E00, 64  # a script without cases or spaces; intervals and steps that are told apart


@dataclass(frozen=True)
class Copies:
    """Of every piece: a digest that the same pieces share, and one that all share which must stay on one side of a
    split; and what to report."""

    same: list[bytes]
    together: list[bytes]
    told: dict[str, Any]


def find_copies(
    pieces: Sequence[Sequence[Line]], names: Sequence[str], held: Sequence[bool], step: int
) -> Copies:
    """Copies among pieces of parts, of which some are ``held`` out, on a grid of so many steps of a quarter."""
    same, tunes, lines = [], [], []
    for piece in pieces:
        on, off, pitch = on_grid(pooled(piece)[0], step)
        time = np.stack([on, off]) - on[0]
        same.append(_digest(time, pitch))
        tunes.append(_digest(time, pitch - pitch.min()))
        top = np.diff(on, prepend=-1) > 0  # of notes that begin together the highest comes first
        lines.append(_letters(on[top], pitch[top]))
    first = {tune: i for i, tune in reversed(list(enumerate(tunes)))}
    told: dict[str, Any] = {
        "pieces_repeated": len(same) - len(set(same)),
        "pieces_that_are_transpositions": len(set(same)) - len(first),
    }
    if len(different := sorted(first.values())) > MOST_TEXTS:
        told["near_copies"] = f"not looked for among more than {MOST_TEXTS:,} pieces"
        return Copies(same, tunes, told)
    groups = [[different[j] for j in group] for group in near_copies([lines[i] for i in different], ALIKE)]
    clusters = {tunes[i]: min(tunes[j] for j in group) for group in groups for i in group}
    beside = [group for group in groups if any(held[i] for i in group)]
    told |= {
        "near_copies": sum(len(group) - 1 for group in groups),
        "near_copies_of_held_out": sum(not held[i] for group in beside for i in group),
        "near_examples": [[names[i] for i in group[:6]] for group in groups[:20]],
    }
    return Copies(same, [clusters.get(tune, tune) for tune in tunes], told)


def _digest(*arrays: Any) -> bytes:
    return hashlib.sha256(b"".join(a.astype("<i4").tobytes() for a in arrays)).digest()


def _letters(on: Any, pitch: Any) -> str:
    """A line of notes as a text: a letter for each step from one note to the next."""
    wait, interval = np.minimum(np.diff(on), _SPAN - 1), np.clip(np.diff(pitch) + _SPAN // 2, 0, _SPAN - 1)
    return "".join(map(chr, (_LETTERS + _SPAN * wait + interval).tolist()))
