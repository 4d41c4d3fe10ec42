"""Music as a roll: of every part, pitch and step, whether a note begins and whether one sounds.

    0    silence
    1    a note is held
    2    a note begins                                                                               (1)

is what is stored. A state has two channels of each part, onset (2 or not) and sustain (0 or not), as -1 and 1 (Min et
al. 2023, sec. 3.1). Any number of notes may sound at once. Two that are the same at one time in one part are one: the
first ends where the second begins. States of a model are read by their signs:

    a note begins at every onset and lasts while there is sustain, up to the next onset of its pitch    (2)

and sustain that nothing began is silence, but for the first step, in which a window may find notes held. So every score
on the grid comes back note for note.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray

from kuosan.modalities.music_form import Form
from kuosan.modalities.music_lanes import Line, Loss, on_grid, pooled
from kuosan.modalities.music_score import Metre, Note, Part, Score

SILENCE, HELD, BEGINS = 0, 1, 2

Roll = UInt8[np.ndarray, "s parts pitches"]


def rolled(
    form: Form, lines: Sequence[Line], metre: Metre | None, pickup: float, length: float
) -> tuple[Roll, Loss]:
    """A piece of so many quarters, in whole bars, and what is not as it was."""
    lead, cycle = form.lead(metre, pickup), form.cycle(metre)
    used = pooled(lines) if form.one and lines else lines
    beyond = sum(len(line.start) for line in used[len(form.parts) :])
    total, last, placed = Loss(beyond, 0, beyond), 0, []
    for k, line in enumerate(used[: len(form.parts)]):
        on, off, pitch = on_grid(line, form.step)
        last = max(last, int(off.max(initial=0)))
        inside = (pitch >= form.low) & (pitch <= form.high)
        order = np.lexsort((on[inside], pitch[inside]))
        on, off, pitch = (v[inside][order] for v in (on, off, pitch))
        again = np.append(np.where(pitch[1:] == pitch[:-1], on[1:], np.inf), np.inf) < off
        off = np.where(again, np.append(on[1:], 0), off)
        total += Loss(len(inside), int(again.sum()), int((~inside).sum()))
        placed += [
            (k, *note) for note in zip(on.tolist(), off.tolist(), (pitch - form.low).tolist(), strict=True)
        ]
    steps = max(last, int(np.ceil(length * form.step - 1e-6))) + lead
    out = np.zeros((-(-steps // cycle) * cycle, len(form.parts), form.high - form.low + 1), np.uint8)
    for k, a, b, p in placed:
        out[lead + a, k, p] = BEGINS
        out[lead + a + 1 : lead + b, k, p] = HELD
    return out, total


def read_roll(
    onset: Bool[NDArray[Any], "b s n p"], sustain: Bool[NDArray[Any], "b s n p"]
) -> NDArray[np.uint8]:
    """Equation (2): what is stored (1) of rolls (b, steps, parts, pitches)."""
    out = np.where(onset, BEGINS, np.where(sustain, HELD, SILENCE)).astype(np.uint8)
    for before, now in zip(out[:, :-1].swapaxes(0, 1), out[:, 1:].swapaxes(0, 1), strict=True):
        now[(now == HELD) & (before == SILENCE)] = SILENCE
    return out


def unrolled(form: Form, roll: Roll, metre: Metre | None, **about: Any) -> Score:
    """The score of a roll: undoes `rolled`. It ends with the bar of its last note."""
    cycle = form.cycle(metre)
    heard = np.flatnonzero(roll.any((1, 2)))
    roll = roll[: -(-(int(heard[-1]) + 1) // cycle) * cycle if len(heard) else 0]
    lead = int(heard[0]) if len(heard) and int(heard[0]) < cycle else 0
    roll = roll[lead:]
    end = np.zeros(roll.shape, np.int64)  # of a note that sounds in each place
    for s in range(len(roll) - 1, -1, -1):
        held = roll[s + 1] == HELD if s + 1 < len(roll) else False
        end[s] = np.where(held, end[min(s + 1, len(roll) - 1)], s + 1)
    begins = roll == BEGINS
    begins[:1] |= roll[:1] == HELD
    parts = []
    for k, part in enumerate(form.parts):
        notes = [
            Note(s / form.step, (int(end[s, k, p]) - s) / form.step, form.low + p)
            for s, p in np.argwhere(begins[:, k]).tolist()
        ]
        parts.append(Part(tuple(sorted(notes)), part.name, part.program))
    return Score(
        tuple(parts), metre, (cycle - lead) / form.step if lead else 0.0, end=len(roll) / form.step, **about
    )
