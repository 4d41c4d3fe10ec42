"""What a person asks of music that is to be written, and writing it: of any length, around what is given.

The *canvas* is what is known beforehand: tokens where voices or bars are given, masks elsewhere. It is filled window by
window, each begun half a window after the one before, so that the network always sees what it saw in training: a window
that begins at a bar line, with what is written already in its first half. Behind the canvas stands its end, which the
network sees too: pieces close where they should.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import Score
from kuosan.modalities.music import KEY, METRE
from kuosan.modalities.music_form import END, Form
from kuosan.modalities.music_key import find_key
from kuosan.modalities.music_lanes import Line, lines_of, pooled
from kuosan.modalities.music_score import Metre, metre_name, parse_metre
from kuosan.recipes.music_measure import metres_of, music_of
from kuosan.recipes.samples import Samples
from kuosan.recipes.tokens import Rules

if TYPE_CHECKING:
    from kuosan.recipes.run import Run

CHUNK = 64
MOST_BARS = 10_000


@dataclass(frozen=True)
class MusicWishes:
    """In a person's words.

    Args:
        given: a score, or its file. voices: those that are kept as given, by name or number from 0. bars: those that
            are kept in all voices, "1-4" or "1-4,9": from 1. Without either all of it is kept, and written on.
        length: "16bars", "64steps"; that of what is given unless said.
        pitches: lowest and highest MIDI number that is written, "48-72", or of one voice "Soprano=60-79".
    """

    given: Score | Path | str | None = None
    voices: tuple[str, ...] = ()
    bars: str | None = None
    length: str | int | None = None
    pitches: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) is not None and getattr(self, f.name) != () for f in fields(self))


@dataclass(frozen=True)
class Canvas:
    """Wishes as a run takes them: what is known of (S, V) tokens, what may be written, and conditions that follow."""

    known: Int64[Tensor, "s v"] | None
    metre: Metre | None
    length: tuple[float, str] | None
    permitted: Bool[Tensor, "v k"]
    where: dict[str, str]


def understood(run: Run, wishes: MusicWishes, where: Mapping[str, str] | None = None) -> Canvas:
    """What wishes come to.

    Raises:
        UserError: a wish that is malformed, or that does not fit the run.
    """
    form, where = music_of(run).form, dict(where or {})
    length = None if wishes.length is None else parse_length(wishes.length)
    permitted = _permitted(form, wishes.pitches)
    if wishes.given is None:
        if wishes.voices or wishes.bars:
            raise UserError("--voices and --bars say what is kept of a score: give it with --given FILE")
        return Canvas(None, None, length, permitted, where)
    score = _score(run, wishes.given)
    for column, value in ((METRE, metre_name(score.metre)), (KEY, find_key(score))):
        if value in run.facts.columns.get(column, ()):
            where.setdefault(column, value)
    if METRE in run.facts.columns and METRE not in where:
        known = ", ".join(run.facts.columns[METRE])
        raise UserError(
            f"the score is in {metre_name(score.metre)}, and {run.path} knows {known}: say with --where metre=… which "
            "it should be taken for"
        )
    metre = parse_metre(where[METRE]) if METRE in where else form.metre
    rows = _rows(form, score, metre, wishes.voices)
    kept = torch.zeros(rows.shape, dtype=torch.bool)
    for name in wishes.voices:
        kept[:, _lanes(form, name)] = True
    if wishes.bars is not None:
        for first, last in spans_of_bars(wishes.bars, len(rows), form.bar(metre)):
            kept[first:last] = True
    if not wishes.voices and wishes.bars is None:
        if length is None:
            raise UserError(
                "all of the score is kept, so there is nothing to write: give --length, --voices or --bars"
            )
        kept[:] = True
    return Canvas(torch.where(kept, rows, form.size), metre, length, permitted, where)


def rules_of_music(run: Run, wishes: MusicWishes, where: Mapping[str, str] | None = None) -> Rules | None:
    """The rules of a run's samples; None where nothing is asked.

    Raises:
        UserError: what `understood` raises.
    """
    if not wishes:
        return None
    canvas = understood(run, wishes, where)
    return Rules(permitted=canvas.permitted.repeat(music_of(run).steps, 1), canvas=canvas)


def sample_music(
    run: Run,
    n: int,
    length: str | int | None,
    *,
    seed: int = 0,
    first: int = 0,
    where: Mapping[str, str] | None = None,
    rules: Rules | None = None,
    **asked: Any,
) -> Samples:
    """Samples number ``first`` to ``first + n - 1`` of a seed, of a length or on a canvas.

    Args:
        rules: of `rules_of_music`. asked: steps, solver, grid and w, as of `Run.sample`: steps of each window.

    Raises:
        UserError: an unknown length, or a condition that there is not.
    """
    plan = (
        rules.canvas
        if rules is not None and isinstance(rules.canvas, Canvas)
        else understood(run, MusicWishes(), where)
    )
    if length is not None:
        plan = replace(plan, length=parse_length(length))
    modality = music_of(run)
    form = modality.form
    found: list[Tensor] = []
    conds: list[dict[str, Tensor]] = []
    with torch.inference_mode():
        for low in range(first, first + n, CHUNK):
            numbers = range(low, min(low + CHUNK, first + n))
            cond = run.conditions(seed, numbers, {**plan.where, **(where or {})})
            found += _written(run, plan, cond, Seeds.of(seed, numbers), asked)
            conds.append(cond)
    metres = [form.metre, *(parse_metre(name) for name in run.facts.columns.get(METRE, ()))]
    most = max(
        len(_canvas(form, plan, metre, modality.steps)) for metre in metres
    )  # whatever is drawn beside these
    x = torch.full((n, most, form.lanes), END)
    for out, rows in zip(x, found, strict=True):
        out[: len(rows)] = rows
    cond = {k: torch.cat([c[k] for c in conds]) for k in conds[0]}
    return Samples(x.flatten(1), cond, first, modality, None, run.facts.columns)


def _written(
    run: Run, plan: Canvas, cond: dict[str, Tensor], seeds: Seeds, asked: Mapping[str, Any]
) -> list[Int64[Tensor, "s v"]]:
    """Canvases of these examples, filled: those of one metre together, as their windows begin together."""
    form = music_of(run).form
    metres = metres_of(run, cond, len(seeds))
    out: list[Tensor] = [torch.empty(0)] * len(seeds)
    for metre in dict.fromkeys(metres):
        which = [i for i, m in enumerate(metres) if m == metre]
        rows = _canvas(form, plan, metre, music_of(run).steps)
        mine = Seeds(tuple(seeds.keys[i] for i in which), seeds.root, seeds.salt)
        part = {k: v[which] for k, v in cond.items()}
        filled = _filled(run, rows.expand(len(which), -1, -1), form.cycle(metre), plan, part, mine, asked)
        for i, one in zip(which, filled, strict=True):
            out[i] = one
    return out


def _canvas(form: Form, plan: Canvas, metre: Metre | None, window: int) -> Int64[Tensor, "s v"]:
    """What is known of a piece in this metre, of the length that was asked for."""
    known = plan.known if plan.known is not None else torch.empty(0, form.lanes, dtype=torch.int64)
    steps = len(known) or window
    if plan.length is not None:
        number, unit = plan.length
        steps = max(1, round(number * (form.bar(metre) if unit == "bars" else 1)))
    more = torch.full((max(0, steps - len(known)), form.lanes), form.size)
    return torch.cat([known, more])[:steps]


def _filled(
    run: Run, x: Int64[Tensor, "b s v"], cycle: int, plan: Canvas, cond: dict[str, Tensor], seeds: Seeds,
    asked: Mapping[str, Any],
) -> Int64[Tensor, "b s v"]:  # fmt: skip
    """Window by window, see the module."""
    modality = music_of(run)
    window, steps = modality.steps, x.shape[1]
    stride = max(1, window // 2 // cycle) * cycle
    begins = [0]
    while begins[-1] + window < steps:
        begins.append(begins[-1] + stride)
    permitted = plan.permitted.clone()
    permitted[:, END] = False
    table = permitted.repeat(window, 1)
    x = torch.cat([x, torch.full((len(x), begins[-1] + window - steps, x.shape[2]), END)], 1)
    for k, begin in enumerate(begins):
        here = x[:, begin : begin + window].flatten(1)
        if not bool((here == modality.form.size).any()):
            continue
        for step in run.walk(
            seeds.fold("window", k),
            cond,
            steps=asked.get("steps"),
            solver_name=asked.get("solver", "auto"),
            grid=asked.get("grid", "auto"),
            w=asked.get("w"),
            rules=Rules(here, permitted=table),
        ):
            filled = step.x
        x[:, begin : begin + window] = filled.cpu().view(len(x), window, -1)
    return x[:, :steps]


# -- words ------------------------------------------------------------------------------------------------


def parse_length(text: str | int) -> tuple[float, str]:
    """A number of bars or of steps; a number alone counts bars.

    >>> parse_length("16bars"), parse_length(8), parse_length("64 steps")
    ((16.0, 'bars'), (8.0, 'bars'), (64.0, 'steps'))
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(bars?|steps?)?\s*", str(text))
    if not found or not 0 < float(found[1]) <= MOST_BARS:
        raise UserError(f"--length {text} is no length of music: give one such as 16bars or 64steps")
    return float(found[1]), f"{(found[2] or 'bars').rstrip('s')}s"


def _score(run: Run, given: Score | Path | str) -> Score:
    if not isinstance(given, (str, Path)):
        return given
    path = Path(given)
    if not path.is_file():
        raise UserError(f"there is no file {path}: give --given a score, such as a MIDI or MusicXML file")
    score: Score = run.modality.read(path)
    return score.sections()[0]


def _rows(form: Form, score: Score, metre: Metre | None, voices: Sequence[str]) -> Int64[Tensor, "s v"]:
    """The score's tokens; where it has as many parts as voices are named, these are theirs, in this order."""
    lines = lines_of(score)
    if form.one:
        lines = pooled(lines)
    elif len(lines) == len(voices) != len(form.parts):
        first = [sum(p.lanes for p in form.parts[:k]) for k in range(len(form.parts))]
        empty = Line("", 0, lines[0].start[:0], lines[0].end[:0], lines[0].pitch[:0])
        placed = [empty] * len(form.parts)
        for line, name in zip(lines, voices, strict=True):
            lane = _lanes(form, name)[0]
            placed[max(k for k, begin in enumerate(first) if begin <= lane)] = line
        lines = placed
    rows, loss = form.rows(lines, metre, score.pickup, score.length)
    if loss.notes and loss.lost == loss.notes:
        raise UserError(
            "no note of the score has a place in the voices and pitches that the run knows: transpose it"
        )
    return torch.from_numpy(rows)


def _lanes(form: Form, name: str) -> list[int]:
    """The voices that a person means: a number, the name of a voice, or of a part with all its voices."""
    names = form.names
    if name.isdecimal() and int(name) < len(names):
        return [int(name)]
    parts = [part.name or f"part {k + 1}" for k, part in enumerate(form.parts) for _ in range(part.lanes)]
    found = [k for k in range(len(names)) if name.casefold() in (names[k].casefold(), parts[k].casefold())]
    if not found:
        known = ", ".join(f"{k} {word}" for k, word in enumerate(names))
        raise UserError(f"there is no voice {name!r}: give a number or a name of {known}")
    return found


def spans_of_bars(text: str, steps: int, bar: int) -> list[tuple[int, int]]:
    """First and past the last of the steps, of so many, that are of bars such as "1-4,9".

    Raises:
        UserError: no bars, or such as there are not.
    """
    spans = []
    for piece in text.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)?\s*)?", piece)
        first = int(found[1]) if found else 0
        last = first if found and "-" not in piece else int(found[2] or MOST_BARS) if found else 0
        if not 1 <= first <= last:
            raise UserError(f"--bars {text} are no bars: give them such as 1-4 or 1-4,9, counted from 1")
        if (first - 1) * bar >= steps:
            raise UserError(f"--bars {text}: the score has {-(-steps // bar)} bars")
        spans.append(((first - 1) * bar, min(last * bar, steps)))
    return spans


def _permitted(form: Form, pitches: Sequence[str]) -> Bool[Tensor, "v k"]:
    """Which tokens every voice may have; silence is never forbidden."""
    found = torch.ones(form.lanes, form.size, dtype=torch.bool)
    for text in pitches:
        name, _, limits = text.rpartition("=")
        bounds = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", limits)
        low, high = (int(bounds[1]), int(bounds[2])) if bounds else (1, 0)
        if low > high:
            raise UserError(
                f"--pitches {text} is no range: give MIDI numbers such as 48-72, or Soprano=60-79"
            )
        value = torch.arange(form.size)
        pitch = form.low + (value - END - 1) // 2
        for lane in _lanes(form, name) if name else range(form.lanes):
            found[lane] &= (value <= END) | ((pitch >= low) & (pitch <= high))
    return found
