"""What an arm of a comparison is measured by: all that `kuosan evaluate` measures, classes, and a VAE's bound."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.evaluation.encoder import load_encoder
from kuosan.evaluation.likelihood.measure import measurements
from kuosan.recipes.evaluate import measure
from kuosan.recipes.masked_measure import MEASURES
from kuosan.recipes.run import CHUNK
from kuosan.recipes.samples import Samples
from kuosan.recipes.session import preview_conditions
from kuosan.recipes.text_measure import measure_texts
from kuosan.rivals import VAE
from kuosan.training.budget import Budget

if TYPE_CHECKING:
    from kuosan.recipes.contest import Contest

SHEET = 64
SECONDS = 30.0  # of measuring an arm, at most


def judged(contest: Contest, samples: Samples, folder: Path) -> dict[str, Any]:
    """All that `kuosan evaluate` measures, a sheet, and of labelled pictures how often each class is recognised."""
    run, data = contest.first, contest.dataset
    budget = Budget.parse(contest.budget).seconds
    seconds = SECONDS if budget is None else max(2.0, min(SECONDS, 0.1 * budget))
    classes: dict[str, Any] = {}
    if contest.discrete:
        if own := MEASURES.get(run.modality.name):
            found = own.measure(run, data, samples)
        else:
            found = measure_texts(run, data, samples, seconds=seconds)
    else:
        found = measure(run, data, samples, seconds=seconds, out=folder / "evaluation")
        classes = _recognised(contest, samples, folder / "evaluation")
    _, columns = preview_conditions(run)
    run.modality.show(samples.raws(SHEET), columns).save(folder / "samples.png")
    return {
        "metrics": {k: m.to_json() for k, m in found.metrics.items()}, "left_out": dict(found.left_out),
        "classes": classes, "n": len(samples),
    }  # fmt: skip


def _recognised(contest: Contest, samples: Samples, folder: Path) -> dict[str, Any]:
    """Shares of each class among the samples and among held-out items, as one classifier sees both."""
    column = next((k for k, v in contest.first.facts.columns.items() if len(v) > 1), None)
    if column is None or not (folder / "encoder.safetensors").is_file():
        return {}
    encoder = load_encoder(folder)
    if not encoder.classes:
        return {}
    real, _ = contest.dataset.val.batch(torch.arange(min(len(contest.dataset.val), 5000)))
    words = contest.first.facts.columns[column]
    shares = {}
    for name, x in (("samples", samples.modality.encode(samples.modality.decode(samples.x))), ("real", real)):
        seen = torch.bincount(encoder.logits(x).argmax(1), minlength=len(encoder.classes)).double() / len(x)
        shares[name] = [round(v, 6) for v in seen.tolist()]
    return {"column": column, "values": [words[i] for i in encoder.classes], **shares}


def vae_bits(contest: Contest, model: VAE, seed: int, most: int = 500) -> dict[str, Any]:
    """The bound of held-out items, under the name that the diffusion's has."""
    data, found = contest.dataset.val, []
    for index in torch.arange(min(len(data), most)).split(CHUNK):
        x, cond = data.batch(index)
        on = {k: v.to(model.device) for k, v in cond.items()}
        found.append(
            -model.bound(x.float().to(model.device), on, Seeds.of(seed, index.tolist())).cpu().double()
        )
    nats: Tensor = torch.cat(found)
    unit = torch.Size(contest.first.shape).numel() * (1.0 if model.level is None else math.log(2))
    note = "importance-weighted bound of 32 latents, under the prior that samples come from"
    return {
        k: m.to_json()
        for k, m in measurements({"bound": [nats / unit]}, {"bound": note}, model.level).items()
    }
