"""Measures a set of sampled pictures against real ones, in every way that the data allow.

`evaluate_samples` decides the roles of the real items (roles.py), makes the feature spaces, and measures

    fd, kd, kd_rbf                  in every space: distance of the laws         (fd_pixels, kd_encoder, …)
    fd_inf                          in the encoder's space, where n allows: the same, free of bias
    precision, recall, density, coverage    in the encoder's space, else in pixels: fidelity and diversity
    class_accuracy                  with labels: is the class asked for recognised?
    copies, nearest_distance        in pixels: are samples copied from training?

What cannot be measured is left out with its reason in `left_out`: nothing is guessed from too few items.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kuosan.errors import UserError
from kuosan.evaluation.base import Measurement, Metric, measure
from kuosan.evaluation.copies import Copies, Nearest, NearestDistance, honest_distances, nearest_table
from kuosan.evaluation.encoder import Encoder
from kuosan.evaluation.encoder_training import train_encoder
from kuosan.evaluation.estimates import nearest
from kuosan.evaluation.features import FeatureSpace, pixels
from kuosan.evaluation.frechet import FrechetDistance, FrechetInfinity
from kuosan.evaluation.kernel import GaussianKernelDistance, KernelDistance
from kuosan.evaluation.neighbours import Coverage, Density, Precision, Recall
from kuosan.evaluation.recognition import ClassAccuracy
from kuosan.evaluation.roles import Roles, roles

FEWEST_ROWS = 10  # below this, a distance between sets says nothing even beside its floor
FEWEST_TAUGHT = 64  # below this, an encoder is not worth its name
FEWEST_JUDGED = 10  # held-out items for the ceiling of a classifier


@dataclass(frozen=True)
class Evaluation:
    """The measurements by name, the most suspicious samples, what was left out and why, the spaces used."""

    metrics: Mapping[str, Measurement]
    nearest: tuple[Nearest, ...]
    left_out: Mapping[str, str]
    spaces: Mapping[str, Mapping[str, Any]]
    counts: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "metrics": {name: m.to_json() for name, m in self.metrics.items()},
            "nearest": [row.to_json() for row in self.nearest],
            "left_out": dict(self.left_out),
            "spaces": {name: dict(about) for name, about in self.spaces.items()},
            "counts": dict(self.counts),
        }


def evaluate_samples(
    samples: Float[Tensor, "n c h w"],
    train: Float[Tensor, "t c h w"],
    val: Float[Tensor, "v c h w"],
    *,
    labels: Int[Tensor, " n"] | None = None,
    train_labels: Int[Tensor, " t"] | None = None,
    val_labels: Int[Tensor, " v"] | None = None,
    out: Path | None = None,
    seed: int = 0,
    seconds: float = 30.0,
    inception: Path | str | None = None,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Every measurement that these pictures in [−1, 1] allow; the same bits for the same arguments.

    `labels` are the classes asked of the samples; `train_labels` and `val_labels` the true ones. `seconds` is
    what the whole may take on two slow cores, half of it to train the encoder. `inception` is a local
    safetensors file of FID weights. With `out`, evaluation.json and the encoder are written there.
    Raises UserError on pictures of other shapes or with numbers that are not finite.
    """
    samples, train, val = (x.detach().float().cpu() for x in (samples, train, val))
    _check(samples, train, val)
    generator = torch.Generator().manual_seed(seed)
    parts = roles(len(train), len(val), len(samples), generator)
    found = _Found({}, {}, {})
    space = pixels((train.shape[1], train.shape[2], train.shape[3]))
    _distances(found, space, samples, train, val, parts, parts.pool, generator)
    trained = _encoder(found, train, val, train_labels, val_labels, parts, seed, seconds / 2, device)
    if trained is not None:
        _distances(found, trained, samples, train, val, parts, parts.unseen, generator)
        if out is not None:
            trained.save(out)
    fine, pool = (trained, parts.unseen) if trained is not None else (space, parts.pool)
    _neighbours(found, fine, samples, train, val, parts, pool, generator)
    _classes(found, trained, samples, val, labels, val_labels)
    table = _copies(found, space, samples, train, val)
    if inception is not None:
        from kuosan.evaluation.inception import Inception

        if train.shape[1] in (1, 3):
            _distances(found, Inception(inception, device), samples, train, val, parts, parts.pool, generator)
        else:
            found.left_out["fd_inception"] = f"inception takes 1 or 3 channels, these have {train.shape[1]}"
    counts = {"samples": len(samples), "train": len(train), "val": len(val), "taught": len(parts.taught)}
    evaluation = Evaluation(found.metrics, table, found.left_out, found.spaces, counts)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(evaluation.to_json(), indent=2, allow_nan=False)
        (out / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    return evaluation


@dataclass(frozen=True)
class _Found:
    metrics: dict[str, Measurement]
    left_out: dict[str, str]
    spaces: dict[str, Mapping[str, Any]]

    def attempt(self, name: str, make: Callable[[], Measurement]) -> None:
        """Keeps a measurement under `name`, or the reason why there is none."""
        try:
            self.metrics[name] = replace(make(), name=name)
        except ValueError as error:
            self.left_out[name] = str(error)


def _check(samples: Tensor, train: Tensor, val: Tensor) -> None:
    for what, x in (("samples", samples), ("training pictures", train), ("held-out pictures", val)):
        if x.ndim != 4 or x.shape[1:] != train.shape[1:]:
            raise UserError(
                f"The {what} have shape {tuple(x.shape)}, the training pictures {tuple(train.shape)}: "
                "give samples and real pictures of one size and channel count, (n, c, h, w)."
            )
        broken = (~torch.isfinite(x.flatten(1)).all(1)).nonzero()
        if len(broken):
            raise UserError(
                f"{len(broken)} of {len(x)} {what} hold numbers that are not finite, the first is number "
                f"{int(broken[0])}: the training may have diverged; sample or train again."
            )
    if len(samples) == 0 or len(train) == 0:
        raise UserError("There is nothing to compare: give at least one sample and one training picture.")


def _sides(
    space: FeatureSpace, samples: Tensor, train: Tensor, val: Tensor, parts: Roles, pool: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Features of the samples, of the reference and of the floor's pool."""
    return space(samples), space(torch.cat([val, train[parts.borrowed]])), space(train[pool])


def _measure(
    found: _Found, name: str, metric: Metric, sides: tuple[Tensor, Tensor, Tensor], space: str, note: str,
    generator: torch.Generator,
) -> None:  # fmt: skip
    fewest = min(map(len, sides))
    if fewest < FEWEST_ROWS:
        found.left_out[name] = (
            f"needs {FEWEST_ROWS} each of samples, reference and spare real items; the fewest are {fewest}"
        )
        return
    found.attempt(name, lambda: measure(metric, *sides, generator=generator, space=space, note=note))


def _distances(
    found: _Found, space: FeatureSpace, samples: Tensor, train: Tensor, val: Tensor, parts: Roles,
    pool: Tensor, generator: torch.Generator,
) -> None:  # fmt: skip
    found.spaces[space.name] = space.describe()
    sides = _sides(space, samples, train, val, parts, pool)
    for metric in (FrechetDistance(), KernelDistance(), GaussianKernelDistance()):
        _measure(found, f"{metric.name}_{space.name}", metric, sides, space.name, parts.note, generator)
    dimensions, fewest = sides[0].shape[1], min(map(len, sides))
    infinity = FrechetInfinity()
    name = f"{infinity.name}_{space.name}"
    if fewest >= len(infinity.parts) * dimensions:
        _measure(found, name, infinity, sides, space.name, parts.note, generator)
    else:
        needed = len(infinity.parts) * dimensions
        found.left_out[name] = (
            f"needs {needed} items on every side to extrapolate in {dimensions} dimensions, got {fewest}"
        )


def _neighbours(
    found: _Found, space: FeatureSpace, samples: Tensor, train: Tensor, val: Tensor, parts: Roles,
    pool: Tensor, generator: torch.Generator,
) -> None:  # fmt: skip
    sides = _sides(space, samples, train, val, parts, pool)
    for metric in (Precision(), Recall(), Density(), Coverage()):
        _measure(found, metric.name, metric, sides, space.name, parts.note, generator)


def _encoder(
    found: _Found, train: Tensor, val: Tensor, train_labels: Tensor | None, val_labels: Tensor | None,
    parts: Roles, seed: int, seconds: float, device: torch.device | str,
) -> Encoder | None:  # fmt: skip
    taught = parts.taught
    if len(taught) < FEWEST_TAUGHT or min(train.shape[2:]) < 4:
        found.left_out["encoder"] = (
            f"needs {FEWEST_TAUGHT} training pictures of 4×4 pixels or more beside those kept for the floor, "
            f"got {len(taught)} of {train.shape[2]}×{train.shape[3]}"
        )
        return None
    labels = train_labels[taught].cpu().long() if train_labels is not None else None
    if labels is not None and len(labels.unique()) < 2:
        labels = None
    truth = val_labels.cpu().long() if val_labels is not None else None
    return train_encoder(
        train[taught], labels, val=val, val_labels=truth, seed=seed, seconds=seconds, device=device
    )


def _classes(
    found: _Found, encoder: Encoder | None, samples: Tensor, val: Tensor, labels: Tensor | None,
    val_labels: Tensor | None,
) -> None:  # fmt: skip
    name = ClassAccuracy.name
    if labels is None or val_labels is None:
        found.left_out[name] = "no classes: neither asked of the samples nor known of the held-out items"
        return
    if encoder is None or not encoder.classes:
        found.left_out[name] = "no classifier: too few labelled training items, or one class only"
        return
    known = torch.tensor(encoder.classes)
    asked, true = labels.cpu().long(), val_labels.cpu().long()
    mine, theirs = torch.isin(asked, known), torch.isin(true, known)
    if not bool(mine.any()) or int(theirs.sum()) < FEWEST_JUDGED:
        found.left_out[name] = (
            f"needs samples and {FEWEST_JUDGED} held-out items of a class that training has: "
            f"{int(mine.sum())} and {int(theirs.sum())}"
        )
        return
    scores, real = encoder.logits(samples[mine]), encoder.logits(val[theirs])
    needs = {
        "labels": torch.searchsorted(known, asked[mine]),
        "reference_labels": torch.searchsorted(known, true[theirs]),
    }
    found.attempt(name, lambda: ClassAccuracy()(scores, real, space=encoder.name, **needs))


def _copies(
    found: _Found, space: FeatureSpace, samples: Tensor, train: Tensor, val: Tensor
) -> tuple[Nearest, ...]:
    training = space(train)
    honest = honest_distances(training, space(val))
    index, distance = nearest(space(samples), training)
    for metric in (Copies(), NearestDistance()):
        name, call = metric.name, partial(metric, distance[:, None], honest.distances, space=space.name)
        found.attempt(name, call)
        if name in found.metrics:
            note = f"{found.metrics[name].note}; {len(train)} training items; honest: {honest.source}"
            found.metrics[name] = replace(found.metrics[name], note=note)
    try:
        return nearest_table(index, distance, honest.distances)
    except ValueError as error:
        found.left_out["nearest"] = str(error)
        return ()
