"""The likelihood of a run's held-out items, and the reverse variances that it is best with."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from kuosan.codecs import Drawn
from kuosan.core.random import Seeds
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.calibrated import LEVELS, Calibrated, calibrate
from kuosan.errors import UserError
from kuosan.evaluation.likelihood import Effort, Likelihood, measure_latent_likelihood, measure_likelihood
from kuosan.evaluation.likelihood.fold import shuffled
from kuosan.modalities import Dataset
from kuosan.recipes.run import VARIANCES, Run
from kuosan.training.checkpoint import save_weights, write_bytes
from kuosan.training.data import Items

ENOUGH = 32  # held-out items to fit variances to; of fewer, training items say more
BATCH = 32
EXAMPLES = "likelihood.csv"


@dataclass(frozen=True)
class Known:
    """Items with the conditions that the model knows: another's data may have more."""

    items: Items
    names: Collection[str]

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x, cond = self.items.batch(index)
        return x, {k: v for k, v in cond.items() if k in self.names}


def fit_variances(run: Run, items: Items, levels: int = LEVELS) -> Calibrated:
    """The run's denoiser with the reverse variances that are optimal for these items, or latents of them."""
    model, batches = run.denoiser, []
    device, n = next(model.parameters()).device, len(items)
    for low in range(0, n, BATCH):
        x, cond = items.batch(torch.arange(low, min(low + BATCH, n)))
        batches.append((x.to(device), {k: v.to(device) for k, v in cond.items()}))
    return calibrate(model, batches, Seeds.of(0, BATCH).fold("variances"), levels)


def keep_variances(run: Run, data: Dataset, most: int, levels: int = LEVELS) -> None:
    """Fit them to up to ``most`` held-out items and keep them, for ``kuosan sample --solver ancestral``."""
    if run.facts.recipe.objective.variance == "learned":
        return
    items: Items = shuffled(data.val if len(data.val) >= ENOUGH else data.train, most, 0)
    items = items if run.codec is None else Drawn(run.codec, items)
    path = run.path / VARIANCES
    path.parent.mkdir(exist_ok=True)
    save_weights(path, fit_variances(run, items, levels).tensors(), {"items": len(items)})
    run.__dict__.pop("variances", None)


def likelihood(
    run: Run,
    data: Dataset,
    effort: Effort,
    *,
    seed: int = 0,
    out: Path | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> Likelihood:
    """See `measure_likelihood`, or `measure_latent_likelihood` where the diffusion is of latents; with ``out``, a line
    per held-out item in ``out/likelihood.csv``.

    Raises:
        UserError: as there, or too few held-out items.
    """
    if len(data.val) < 4 or not len(data.train):
        raise UserError(
            f"{data.survey.source} has {len(data.val)} held-out items and a likelihood needs 4 (of training items it "
            "would say nothing): add a folder val/, or give other data with --data"
        )
    learned = run.facts.recipe.objective.variance == "learned"

    def fit(items: Items) -> Denoiser:
        return run.denoiser if learned else fit_variances(run, items, effort.levels)

    codec = run.codec
    measured = measure_likelihood if codec is None else partial(measure_latent_likelihood, codec)
    found = measured(
        fit,
        Known(data.train, run.facts.null),
        Known(data.val, run.facts.null),
        level=run.modality.level,
        effort=effort,
        device=next(run.denoiser.parameters()).device,
        seed=seed,
        tell=tell,
    )
    if out is not None:
        write_examples(found, data.val.names, out / EXAMPLES)
    return found


def write_examples(found: Likelihood, names: tuple[str, ...], path: Path) -> None:
    """A line per item, the most surprising first; empty where an estimate was not made of it."""
    columns = found.examples
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["item", *columns])
    for i in columns["bound"].argsort(descending=True).tolist():
        values = [float(v[i]) for v in columns.values()]
        if values[0] == values[0]:
            table.writerow([names[i], *(f"{v:.6g}" if v == v else "" for v in values)])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.getvalue().encode("utf-8", "replace"))
