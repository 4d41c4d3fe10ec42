"""Measuring a run over music: its bound beside counting, its samples beside held-out music."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kuosan.denoisers.tokens import TokenDenoiser
from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import Evaluation
from kuosan.evaluation.likelihood.tokens import TokenBound
from kuosan.evaluation.music.bars import FIRST_NOTE, bars_of
from kuosan.evaluation.music.baselines import music_baselines
from kuosan.evaluation.music.bound import piece_nats
from kuosan.evaluation.music.evaluate import MOST_REAL, Windows, evaluate_music
from kuosan.modalities import Dataset, MusicModality, Split
from kuosan.modalities.music import KEY, METRE
from kuosan.modalities.music_form import END
from kuosan.modalities.music_key import key_of_durations
from kuosan.modalities.music_score import Metre, parse_metre
from kuosan.recipes.run import Run, Samples
from kuosan.recipes.text_measure import Chosen, chosen

MOST_BOUND = 2_000


def music_of(run: Run) -> MusicModality:
    """The modality of a run over music."""
    modality = run.modality
    assert isinstance(modality, MusicModality)
    return modality


def metres_of(run: Run, cond: Mapping[str, Tensor], n: int) -> list[Metre | None]:
    """The metre of every one of n windows under these conditions."""
    form, words = music_of(run).form, run.facts.columns.get(METRE)
    if words is None:
        return [form.metre] * n
    return [parse_metre(words[i]) if i < len(words) else form.metre for i in cond[METRE].tolist()]


def windows_of(run: Run, x: Tensor, cond: Mapping[str, Tensor]) -> Windows:
    """Tokens under conditions, and which of them are in the key that the conditions name."""
    form = music_of(run).form
    bars = bars_of(form, x, metres_of(run, cond, len(x)))
    words = run.facts.columns.get(KEY)
    if words is None or KEY not in cond:
        return Windows(bars, x)
    found = []
    for pitch in bars.pitch:
        heard = pitch[pitch >= 0] % 12
        found.append(key_of_durations(torch.bincount(heard, minlength=12).double().numpy()))
    asked = [words[i] if i < len(words) else None for i in cond[KEY].tolist()]
    right = torch.tensor([a == b for a, b in zip(asked, found, strict=True)])
    return Windows(bars, x, right)


@dataclass(frozen=True)
class Pieces:
    """Whole pieces of a split: tokens and steps of a cycle of each, and the item that each begins with."""

    rows: list[tuple[Tensor, int]]
    first: list[int]


def pieces_of(split: Split) -> Pieces:
    """The pieces that passages of a split are of, as `MusicModality.works` has them."""
    modality = split.modality
    assert isinstance(modality, MusicModality)
    windows, words, form = split.x.windows, split.words.get(METRE), modality.form
    first, stop = [], -1
    for i in torch.argsort(windows.start, stable=True).tolist():  # as `Ragged.joined` joins them
        if int(windows.start[i]) <= stop and int(windows.low[i]) < int(windows.start[i]):
            stop = max(stop, int(windows.stop[i]))
            continue
        stop = int(windows.stop[i])
        first.append(i)
    labels = split.labels[METRE].tolist() if words else []
    cycles = [
        form.cycle(
            form.metre if not words else parse_metre(words[labels[i]]) if labels[i] < len(words) else None
        )
        for i in first
    ]
    return Pieces(list(zip(modality.works(split.x), cycles, strict=True)), first)


def bound(
    run: Run, split: Split, most: int = MOST_BOUND, times: int = 8, side: str = ""
) -> dict[str, Measurement]:
    """Bits per note and per token of whole pieces under their own conditions, of so many that they have about ``most``
    windows."""
    found, modality = pieces_of(split), music_of(run)
    order = torch.randperm(len(found.first), generator=torch.Generator().manual_seed(0)).tolist()
    kept, windows = [], 0
    for i in order:
        if windows >= most:
            break
        kept.append(i)
        windows += 1 + 2 * len(found.rows[i][0]) // modality.steps
    pieces = [found.rows[i] for i in kept]
    at = torch.tensor([found.first[i] for i in kept])
    cond = {k: v[at] for k, v in split.labels.items() if k in run.facts.columns}
    assert isinstance(run.model, TokenDenoiser)
    nats = piece_nats(
        run.model, pieces, cond, steps=modality.steps, end=END, times=times,
        device=next(run.model.parameters()).device,
    )  # fmt: skip
    notes, tokens = (
        torch.tensor([float(n) for n in counts], dtype=torch.float64)
        for counts in zip(*(_counts(rows) for rows, _ in pieces), strict=True)
    )
    return TokenBound(nats, notes, tokens).measurements(False, side, "note", "music")


def _counts(rows: Tensor) -> tuple[int, int]:
    """Notes and tokens of a piece."""
    return int(((rows > END) & (rows % 2 == 0)).sum()), rows.numel()


def baselines(data: Dataset) -> dict[str, float]:
    """Bits per token of held-out pieces by counting, see `music.baselines`."""
    modality = data.modality
    assert isinstance(modality, MusicModality)
    return music_baselines(pieces_of(data.train).rows, pieces_of(data.val).rows, modality.form.size)


def measure_music(
    run: Run, data: Dataset, samples: Samples, *, seed: int = 0, out: Path | None = None
) -> Evaluation:  # fmt: skip
    """All that can be measured of these samples against the data."""

    def real(split: Split) -> Windows:
        items: Chosen = chosen(run, split, MOST_REAL)
        x, cond = items.batch(torch.arange(len(items)))
        return windows_of(run, x, cond)

    mine = windows_of(run, samples.x, samples.cond)
    return evaluate_music(mine, real(data.train), real(data.val), notes=FIRST_NOTE, out=out, seed=seed)
