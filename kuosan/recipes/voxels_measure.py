"""Measuring a run over voxels: its bound, and its samples as all shapes are measured, by distances."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch

from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import Evaluation
from kuosan.evaluation.likelihood.tokens import token_bound
from kuosan.modalities import Dataset, Split, VoxelModality
from kuosan.recipes.build import objective_of
from kuosan.recipes.evaluate import MEASURING, measure
from kuosan.recipes.run import Run, Samples
from kuosan.recipes.text_measure import chosen

NEVER = -1  # a token that ends nothing: all cells count


def voxels_of(run: Run) -> VoxelModality:
    """The modality of a run over voxels."""
    modality = run.modality
    assert isinstance(modality, VoxelModality)
    return modality


def bound(run: Run, split: Split, most: int, times: int = 8, side: str = "") -> dict[str, Measurement]:
    """Bits per voxel, which is a cell that is filled, and per token, which is any cell, of up to so many shapes."""
    items = chosen(run, split, most)
    x, _ = items.batch(torch.arange(len(items)))
    found = token_bound(
        run.model, objective_of(run.facts.recipe).judged(), items, (x > 0).sum(1).double(), NEVER, times=times,
        device=next(run.model.parameters()).device,
    )  # fmt: skip
    return found.measurements(False, side, "voxel", "shapes")


def measure_voxels(
    run: Run,
    data: Dataset,
    samples: Samples,
    *,
    seconds: float = MEASURING,
    seed: int = 0,
    out: Path | None = None,
) -> Evaluation:
    """All that is measured of shapes, in whatever form they are learned."""
    modality = voxels_of(run)
    numbers = modality.distances
    other = copy.copy(run)
    other.modality = numbers
    train, val = (replace(split, modality=numbers) for split in (data.train, data.val))
    x = numbers.encode(modality.decode(samples.x))
    return measure(
        other, replace(data, modality=numbers, train=train, val=val), replace(samples, x=x, modality=numbers),
        seconds=seconds, seed=seed, out=out,
    )  # fmt: skip
