"""Measures a set of sampled states against real ones, in every way that the data allow.

`evaluate_samples` decides the roles of the real items (roles.py), makes the feature spaces, and measures

    fd, kd, kd_rbf, swd, c2st       in every space: distance of the laws    (fd_pixels or fd_raw, kd_encoder, …)
    fd_inf                          in the encoder's space, where n allows: the same, free of bias
    precision, recall, density, coverage    in the encoder's space, else in pixels: fidelity and diversity
    vendi, pairwise or, with labels, pairwise_within and pairwise_between        there, too: how varied are they?
    class_frequency                 with samples under no condition: is each class made as often as it should be?
    tstr_accuracy                   with labels, if asked: of a classifier that samples taught, on held-out items
    class_accuracy                  with labels: is the class asked for recognised?
    copies, nearest_distance        in pixels: are samples copied from training?

What cannot be measured is left out with its reason in `left_out`: nothing is guessed from too few items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kuosan.core.shapes import PICTURE
from kuosan.errors import UserError
from kuosan.evaluation.copies import Nearest, honest_distances
from kuosan.evaluation.encoder import FEWEST_PLACES, Encoder
from kuosan.evaluation.encoder_training import train_encoder
from kuosan.evaluation.estimates import nearest
from kuosan.evaluation.features import FeatureSpace, states
from kuosan.evaluation.found import (
    Evaluation,
    Found,
    Sides,
    apart,
    copied,
    distances,
    frequencies,
    neighbours,
    recognised,
)
from kuosan.evaluation.roles import Roles, roles
from kuosan.evaluation.taught import taught_by_samples
from kuosan.networks.sides import times

FEWEST_TAUGHT = 64  # below this, an encoder is not worth its name


def evaluate_samples(
    samples: Float[Tensor, "n c *sides"],
    train: Float[Tensor, "t c *sides"],
    val: Float[Tensor, "v c *sides"],
    *,
    axes: Sequence[str] = PICTURE,
    noun: str = "pictures",
    labels: Int[Tensor, " n"] | None = None,
    train_labels: Int[Tensor, " t"] | None = None,
    val_labels: Int[Tensor, " v"] | None = None,
    free: Float[Tensor, "f c *sides"] | None = None,
    out: Path | None = None,
    seed: int = 0,
    seconds: float = 30.0,
    inception: Path | str | None = None,
    encoder: Path | str | None = None,
    teach: float = 0.0,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Every measurement that these states allow; the same bits for the same arguments.

    `axes` are their sides (`Modality.axes`) and `noun` what they are called. `labels` are the classes asked of the
    samples; `train_labels` and `val_labels` the true ones; `free` are others that were asked for none. `seconds` is
    what the whole may take on two slow cores, half of it to train the encoder; `teach` are seconds beside these for
    classifiers that samples teach (`taught`), none unless given. `inception` is a local safetensors file of FID
    weights, `encoder` (of pictures) a local folder of a network that sees (`vision`). With `out`, evaluation.json and
    the encoder that was trained here are written there.
    Raises UserError on states of other shapes or with numbers that are not finite.
    """
    samples, train, val = (x.detach().float().cpu() for x in (samples, train, val))
    _check(samples, train, val, noun)
    generator = torch.Generator().manual_seed(seed)
    parts = roles(len(train), len(val), len(samples), generator)
    found = Found(generator)

    def compared(space: FeatureSpace, pool: Tensor) -> Sides:
        found.spaces[space.name] = space.describe()
        reference = torch.cat([val, train[parts.borrowed]])
        rows = Sides(space(samples), space(reference), space(train[pool]), parts.note)
        distances(found, space.name, rows)
        return rows

    space = states(train.shape[1:], axes)
    fine, rows = space.name, compared(space, parts.pool)
    trained = _encoder(
        found, train, val, train_labels, val_labels, parts, seed, seconds / 2, device, axes, noun
    )
    if trained is not None:
        fine, rows = trained.name, compared(trained, parts.unseen)
        if out is not None:
            trained.save(out)
    neighbours(found, fine, rows)
    of_reference = None
    if train_labels is not None and val_labels is not None:
        of_reference = torch.cat([val_labels, train_labels[parts.borrowed]])
    apart(found, fine, rows, labels, of_reference)
    if free is not None:
        _frequencies(found, trained, free.detach().float().cpu(), train, val, parts)
    _classes(found, trained, samples, val, labels, val_labels)
    if teach:
        taught_by_samples(
            found,
            samples,
            labels,
            train,
            train_labels,
            val,
            val_labels,
            axes=axes,
            seed=seed,
            seconds=teach,
            device=device,
        )
    table = _copies(found, space, samples, train, val)
    if inception is not None:
        from kuosan.evaluation.inception import Inception

        if tuple(axes) != PICTURE:
            found.left_out["fd_inception"] = f"inception takes pictures, these are {noun}"
        elif train.shape[1] in (1, 3):
            compared(Inception(inception, device), parts.pool)
        else:
            found.left_out["fd_inception"] = f"inception takes 1 or 3 channels, these have {train.shape[1]}"
    if encoder is not None:
        from kuosan.evaluation.vision import Vision

        if train.shape[1] in (1, 3):
            compared(Vision(encoder, device), parts.pool)
        else:
            found.left_out["--encoder"] = f"it takes 1 or 3 channels, these have {train.shape[1]}"
    counts = {"samples": len(samples), "train": len(train), "val": len(val), "taught": len(parts.taught)}
    evaluation = Evaluation(found.metrics, table, found.left_out, found.spaces, counts)
    if out is not None:
        evaluation.write(out)
    return evaluation


def check_finite(x: Float[Tensor, "n c *sides"], what: str) -> None:
    """Raises UserError where states called ``what`` hold numbers that are not finite."""
    broken = (~torch.isfinite(x.flatten(1)).all(1)).nonzero()
    if len(broken):
        raise UserError(
            f"{len(broken)} of {len(x)} {what} hold numbers that are not finite, the first is number "
            f"{int(broken[0])}: the training may have diverged; sample or train again."
        )


def _check(samples: Tensor, train: Tensor, val: Tensor, noun: str) -> None:
    for what, x in (("samples", samples), (f"training {noun}", train), (f"held-out {noun}", val)):
        if not 3 <= x.ndim <= 5 or x.shape[1:] != train.shape[1:]:
            raise UserError(
                f"The {what} have shape {tuple(x.shape)}, the training {noun} {tuple(train.shape)}: give samples and "
                f"real {noun} of one size and channel count, (n, c, and one to three sides)."
            )
        check_finite(x, what)
    if len(samples) == 0 or len(train) == 0:
        raise UserError("There is nothing to compare: give at least one sample and one training item.")


def _encoder(
    found: Found, train: Tensor, val: Tensor, train_labels: Tensor | None, val_labels: Tensor | None,
    parts: Roles, seed: int, seconds: float, device: torch.device | str, axes: Sequence[str], noun: str,
) -> Encoder | None:  # fmt: skip
    taught = parts.taught
    if len(taught) < FEWEST_TAUGHT or math.prod(train.shape[2:]) < FEWEST_PLACES:
        found.left_out["encoder"] = (
            f"needs {FEWEST_TAUGHT} training {noun} of {FEWEST_PLACES} places (4×4 pixels) or more beside those kept "
            f"for the floor, got {len(taught)} of {times(train.shape[2:])}"
        )
        return None
    labels = train_labels[taught].cpu().long() if train_labels is not None else None
    if labels is not None and len(labels.unique()) < 2:
        labels = None
    truth = val_labels.cpu().long() if val_labels is not None else None
    return train_encoder(
        train[taught], labels, axes=axes, val=val, val_labels=truth, seed=seed, seconds=seconds, device=device
    )


def _classes(
    found: Found, encoder: Encoder | None, samples: Tensor, val: Tensor, labels: Tensor | None,
    val_labels: Tensor | None,
) -> None:  # fmt: skip
    def scores(x: Tensor, mask: Tensor) -> Tensor:
        assert encoder is not None
        return encoder.logits(x[mask])

    name, classes = (encoder.name, encoder.classes) if encoder is not None else ("encoder", ())
    recognised(found, name, classes, partial(scores, samples), partial(scores, val), labels, val_labels)


def _frequencies(
    found: Found, encoder: Encoder | None, free: Tensor, train: Tensor, val: Tensor, parts: Roles
) -> None:
    if encoder is None or not encoder.classes:
        found.left_out["class_frequency"] = (
            "no classifier: too few labelled training items, or one class only"
        )
        return
    real = (torch.cat([val, train[parts.borrowed]]), train[parts.unseen])
    drawn, reference, pool = (encoder.logits(x) for x in (free, *real))
    note = f"samples under no condition; {parts.note}"
    frequencies(found, Sides(drawn, reference, pool, note), encoder.name)


def _copies(
    found: Found, space: FeatureSpace, samples: Tensor, train: Tensor, val: Tensor
) -> tuple[Nearest, ...]:
    training = space(train)
    index, distance = nearest(space(samples), training)
    honest = honest_distances(training, space(val))
    return copied(found, space.name, index, distance, honest, f"{len(train)} training items")
