"""Measuring a run over texts: its bound beside n-grams and compressors, its samples beside held-out texts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kuosan.audit.identifiers import scan
from kuosan.core.random import Seeds
from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import Evaluation
from kuosan.evaluation.likelihood.tokens import token_bound
from kuosan.evaluation.writing.baselines import text_baselines
from kuosan.evaluation.writing.evaluate import evaluate_texts
from kuosan.modalities import Dataset, Split
from kuosan.recipes.build import objective_of
from kuosan.recipes.bulk import drawn
from kuosan.recipes.evaluate import kept
from kuosan.recipes.run import Run, Samples

MOST_TEXTS = 20_000
MOST_BOUND = 2_000  # held-out items of the bound
MOST_BASELINE = 20_000_000  # characters of training text that n-grams are counted on


@dataclass(frozen=True)
class Chosen:
    """Some items of a split, with the conditions that the model knows."""

    split: Split
    index: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x, cond = self.split.batch(self.index[index])
        return x, {k: v for k, v in cond.items() if k in self.names}


def chosen(run: Run, split: Split, most: int) -> Chosen:
    """Up to ``most`` items of a split, at random."""
    generator = torch.Generator().manual_seed(Seeds.of(0, 1).fold("texts").number())
    index = torch.randperm(len(split), generator=generator)[:most].sort().values
    return Chosen(split, index, tuple(run.facts.columns))


def texts_of(split: Split) -> list[str]:
    """Everything of a split, in pieces as long as they stand together."""
    found: list[str] = split.modality.works(split.x)  # type: ignore[attr-defined]
    return found


def bound(
    run: Run, split: Split, most: int = MOST_BOUND, times: int = 8, side: str = ""
) -> dict[str, Measurement]:
    """Bits per character and per token of up to so many items."""
    items = chosen(run, split, most)
    modality = run.modality
    texts = modality.decode(items.batch(torch.arange(len(items)))[0])
    characters = torch.tensor([len(text) for text in texts], dtype=torch.float64)
    exact = run.facts.recipe.process.kind == "autoregressive"
    found = token_bound(
        run.model, objective_of(run.facts.recipe).judged(), items, characters, modality.tokeniser.end,  # type: ignore[attr-defined]
        times=1 if exact else times, device=next(run.model.parameters()).device,
    )  # fmt: skip
    return found.measurements(exact, side)


def baselines(data: Dataset) -> Mapping[str, float]:
    """Bits per character of the held-out texts under models that need no training, see `writing.baselines`."""
    train, kept, total = texts_of(data.train), [], 0
    for text in train:
        if total > MOST_BASELINE:
            break
        kept.append(text)
        total += len(text)
    return text_baselines(kept, texts_of(data.val))


def measure_texts(
    run: Run,
    data: Dataset,
    samples: Samples,
    *,
    seconds: float = 30.0,
    seed: int = 0,
    encoder: str | Path | None = None,
    out: Path | None = None,
) -> Evaluation:
    """All that can be measured of these samples against the data."""
    column = next((k for k, v in run.facts.columns.items() if len(v) > 1), None)
    known = len(run.facts.columns.get(column or "", ()))
    if column is None:
        train, val = texts_of(data.train), texts_of(data.val)
        labels: tuple[Any, Any, Any] = (None, None, None)
    else:
        sides = [chosen(run, split, MOST_TEXTS) for split in (data.train, data.val)]
        (x, cond), (y, other) = (side.batch(torch.arange(len(side))) for side in sides)
        train, val = run.modality.decode(x), run.modality.decode(y)
        asked = samples.cond.get(column)
        each = (asked, cond[column], other[column])
        labels = each if all(v is not None and bool((v < known).all()) for v in each) else (None, None, None)
    return evaluate_texts(
        samples.modality.decode(samples.x),
        train,
        val,
        labels=labels[0],
        train_labels=labels[1],
        val_labels=labels[2],
        out=out,
        seed=seed,
        seconds=seconds,
        encoder=encoder,
    )


def evaluate_run(
    run: Run,
    data: Dataset,
    n: int,
    *,
    seconds: float,
    seed: int,
    likelihood: bool,
    encoder: str | Path | None = None,
    steps: int | None = None,
    solver: str = "auto",
    grid: str = "auto",
    w: float | None = None,
) -> dict[str, Any]:
    """``n`` samples and what they measure; with ``likelihood`` also the bound of held-out texts and its baselines."""
    started = time.monotonic()
    samples = drawn(run, n, seed=seed, steps=steps, solver=solver, grid=grid, w=w)
    if samples is None:  # another process measures them
        return {}
    found = measure_texts(run, data, samples, seconds=seconds, encoder=encoder, out=run.path / "evaluation")
    result = {**found.to_json(), "identifiers": identifiers(run, data, samples)}
    if likelihood and len(data.val):
        result["metrics"] |= {name: m.to_json() for name, m in bound(run, data.val, n).items()}
        result["baselines"] = dict(baselines(data))
    took, sampler = time.monotonic() - started, run.sampler(steps, w, solver, grid)
    return kept(run, data, result, n=n, seed=seed, seconds=took, sampler=sampler)


def identifiers(run: Run, data: Dataset, samples: Samples) -> dict[str, Any]:
    """What in samples could identify a person, and whether it stands in training; see `kuosan.audit.identifiers`."""
    return scan(run.modality.decode(samples.x), texts_of(data.train)).to_json()
