"""What a codec leaves of real items: the ceiling of quality of a diffusion of its latents.

A sample is a decoded latent, so none can be better than real pictures are after a round trip, decode(encode(x)). It is
measured on held-out pictures (on training ones where none are held out), as pictures: clipped and rounded as files
are. Distances are between the pictures and their own round trips, in the spaces that the samples are measured in, so
that what chance does to few pictures mostly cancels.

A modality whose own states lose something (sounds have no phases in theirs) has a ceiling too, without a codec.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kuosan.codecs.measure import psnr_of, states_of
from kuosan.codecs.sound_trip import log_spectral_distance, si_sdr
from kuosan.evaluation.base import Better, Measurement
from kuosan.evaluation.encoder import Encoder, load_encoder
from kuosan.evaluation.features import FeatureSpace, states
from kuosan.evaluation.found import Found, recognised
from kuosan.evaluation.frechet import frechet_distance, frechet_stderr
from kuosan.modalities import AudioModality, Dataset
from kuosan.recipes.run import Run

MOST = 128  # pictures
FEWEST = 10  # for a distance


@dataclass(frozen=True)
class Ceiling:
    """The measurements by name, the states (n, c, *sides) with their round trips, and what is lost in words, unless
    that is the codec's doing."""

    metrics: dict[str, Measurement]
    x: Tensor
    y: Tensor
    words: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: m.to_json() for name, m in self.metrics.items()}


def ceiling(run: Run, data: Dataset, evaluation: Path | None = None) -> Ceiling | None:
    """The round trip of a run's codec on up to `MOST` items; None where nothing is lost.

    Args:
        evaluation: folder with the encoder that the samples were measured with; without one, pixels alone.
    """
    codec = run.codec
    if codec is None:
        return sound_ceiling(run, data, evaluation) if run.modality.name == "audio" else None
    held_out = len(data.val) > 0
    x = torch.cat([part.cpu() for part in states_of(data.val if held_out else data.train, MOST, codec.shift)])
    trips = torch.cat([codec.decode(codec.encode(part.to(codec.shift))).cpu() for part in x.split(8)])
    y = run.modality.encode(run.modality.decode(trips))
    errors = (x - y).double().square().flatten(1).mean(1)
    what = f"{len(x)} {'held-out' if held_out else 'training'} {run.modality.noun}"
    unit = run.modality.scale
    note = f"{what}, values over a range of {2 * unit:g}"
    found = [
        _mean("codec_psnr", psnr_of(errors), "higher", note),
        _mean("codec_mse", errors * unit**2, "lower", note),
    ]
    found += _distances(run, x, y, what, _encoder(evaluation))
    return Ceiling({m.name: m for m in found}, x, y)


def sound_ceiling(run: Run, data: Dataset, evaluation: Path | None = None) -> Ceiling:
    """The round trip of sounds through states: distances of spectra and samples to the originals, and whether classes
    are still recognised."""
    modality, held_out = run.modality, len(data.val) > 0
    assert isinstance(modality, AudioModality)
    split = data.val if held_out else data.train
    count = min(len(split), MOST, modality.most_decoded)
    index = torch.arange(count) * len(split) // max(1, count)
    x, labels = split.batch(index)
    raws = modality.decode(x)
    y, what = modality.encode(raws), f"{count} {'held-out' if held_out else 'training'} sounds"
    pairs = [
        (split.x.wave(int(i)), torch.from_numpy(raw.samples.T)) for i, raw in zip(index, raws, strict=True)
    ]
    spectra, samples = (
        torch.stack([measure(a, b).mean() for a, b in pairs])
        for measure in (partial(log_spectral_distance, form=modality.form), si_sdr)
    )
    found = [
        _mean("codec_log_spectral_distance", spectra, "lower", f"{what}, in dB"),
        _mean("codec_si_sdr", samples, "higher", f"{what}, in dB; low for all that is made without phases"),
    ]
    encoder = _encoder(evaluation)
    found += _distances(run, x, y, what, encoder)
    column = next((k for k, v in run.facts.columns.items() if len(v) > 1), None)
    if encoder is not None and column is not None:
        more = Found(torch.Generator().manual_seed(0))
        recognised(
            more, encoder.name, encoder.classes, lambda mask: encoder.logits(y[mask]),
            lambda mask: encoder.logits(x[mask]), labels[column], labels[column],
        )  # fmt: skip
        found += [replace(m, name=f"codec_{name}") for name, m in more.metrics.items()]
    how = "a vocoder that was trained here" if modality.vocoder else "Griffin-Lim's iterations"
    words = (
        "A state holds the levels of mel bands and no phases: sounds are made of it by "
        f"{how}. What that cannot bring back, no sample can have: this is the ceiling of quality, whatever the "
        "diffusion does."
    )
    return Ceiling({m.name: m for m in found}, x, y, words)


def _encoder(evaluation: Path | None) -> Encoder | None:
    """What samples were measured with."""
    known = evaluation is not None and (evaluation / "encoder.json").is_file()
    return load_encoder(evaluation) if evaluation is not None and known else None


def _distances(run: Run, x: Tensor, y: Tensor, what: str, encoder: Encoder | None) -> list[Measurement]:
    if len(x) < FEWEST:
        return []
    spaces = [states(run.shape, run.modality.axes), *([encoder] if encoder else [])]
    return [_distance(space, x, y, what) for space in spaces]


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
