"""What a codec leaves of real pictures: the ceiling of quality of a diffusion of its latents.

A sample is a decoded latent, so none can be better than real pictures are after a round trip, decode(encode(x)). It is
measured on held-out pictures (on training ones where none are held out), as pictures: clipped and rounded as files
are. Distances are between the pictures and their own round trips, in the spaces that the samples are measured in, so
that what chance does to few pictures mostly cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kuosan.codecs.measure import psnr_of, states_of
from kuosan.evaluation.base import Better, Measurement
from kuosan.evaluation.encoder import load_encoder
from kuosan.evaluation.features import FeatureSpace, pixels
from kuosan.evaluation.frechet import frechet_distance, frechet_stderr
from kuosan.modalities import Dataset
from kuosan.recipes.run import Run

MOST = 128  # pictures
FEWEST = 10  # for a distance


@dataclass(frozen=True)
class Ceiling:
    """The measurements by name, and the pictures (n, c, h, w) with their round trips."""

    metrics: dict[str, Measurement]
    x: Tensor
    y: Tensor

    def to_json(self) -> dict[str, Any]:
        return {name: m.to_json() for name, m in self.metrics.items()}


def ceiling(run: Run, data: Dataset, evaluation: Path | None = None) -> Ceiling | None:
    """The round trip of a run's codec on up to `MOST` pictures; None where it has no codec.

    Args:
        evaluation: folder with the encoder that the samples were measured with; without one, pixels alone.
    """
    codec = run.codec
    if codec is None:
        return None
    held_out = len(data.val) > 0
    x = torch.cat([part.cpu() for part in states_of(data.val if held_out else data.train, MOST, codec.shift)])
    trips = torch.cat([codec.decode(codec.encode(part.to(codec.shift))).cpu() for part in x.split(8)])
    y = run.modality.encode(run.modality.decode(trips))
    form = run.facts.modality["format"]
    errors = (x - y).double().square().flatten(1).mean(1)
    what = f"{len(x)} {'held-out' if held_out else 'training'} pictures"
    unit = (form["high"] - form["low"]) / 2
    note = f"{what}, values from {form['low']:g} to {form['high']:g}"
    found = [
        _mean("codec_psnr", psnr_of(errors), "higher", note),
        _mean("codec_mse", errors * unit**2, "lower", note),
    ]
    spaces: list[FeatureSpace] = [pixels(run.shape)]
    if evaluation is not None and (evaluation / "encoder.json").is_file():
        spaces.append(load_encoder(evaluation))
    if len(x) >= FEWEST:
        found += [_distance(space, x, y, what) for space in spaces]
    return Ceiling({m.name: m for m in found}, x, y)


def _mean(name: str, values: Tensor, better: Better, note: str) -> Measurement:
    n = len(values)
    stderr = float(values.std() / n**0.5) if n > 1 else None
    return Measurement(
        name=name, value=float(values.mean()), stderr=stderr, n=n, space="", better=better, note=note
    )


def _distance(space: FeatureSpace, x: Tensor, y: Tensor, what: str) -> Measurement:
    a, b = space(x), space(y)
    note = f"{what} against their own round trips"
    value, stderr = frechet_distance(a, b), frechet_stderr(a, b, paired=True)
    return Measurement(
        name=f"codec_fd_{space.name}",
        value=value,
        stderr=stderr,
        n=len(a),
        space=space.name,
        better="lower",
        note=note,
    )
