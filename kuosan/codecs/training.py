"""Trains a codec on states: seconds or steps, the same bits from the same seed and number of steps.

It starts at the principal components of the data (`KLVAE.start`), descends `objective` on random crops, ends with the
averaged weights, and is measured on whole pictures (`measure`): its units and its decoder's variance on the training
data, its round trip on held-out data.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from kuosan.codecs.kl_vae import KLVAE
from kuosan.codecs.measure import MOST_ITEMS, RoundTrip, calibrate, psnr_of, round_trip, states_of
from kuosan.codecs.objective import codec_loss, crops
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.training import ema
from kuosan.training.data import Items, batch_index
from kuosan.training.settings import Settings

ENOUGH_PATCHES = 65_536  # for principal components
MOST_SKIPS = 5


@dataclass(frozen=True)
class CodecProgress:
    """One event of the loop: a step, and at the last one the measured codec (None without held-out items).

    ``loss`` is in nats per number of the state without the constant ½ log 2π, ``psnr`` that of the step's crops.
    """

    step: int
    progress: float
    seconds: float
    loss: float
    psnr: float
    lr: float
    round_trip: RoundTrip | None = None


def codec_settings(
    *, seed: int = 0, steps: int | None = None, seconds: float | None = None, batch: int = 16
) -> Settings:
    """Settings that suit a `KLVAE`."""
    return Settings(
        seed=seed,
        batch=batch,
        lr=2e-3,
        warmup=0.02,
        decay=0.7,
        weight_decay=0.0,
        steps=steps,
        seconds=seconds,
    )


def train_codec(
    codec: KLVAE,
    train: Items,
    val: Items,
    settings: Settings,
    *,
    crop: int = 64,
    beta: float = 1.0,
    detail: float = 0.3,
    device: torch.device | str = "cpu",
) -> Iterator[CodecProgress]:
    """Train in place, yielding every step; after the last event the codec is averaged, calibrated and frozen.

    Args:
        train, val: clean states; ``val`` may be empty.
        crop: side of the training crops in pixels, rounded down to whole patches.
        beta, detail: see `objective`.

    Raises:
        UserError: the loss stays non-finite.
    """
    codec.to(device).requires_grad_(True).train()
    codec.start(states_of(train, _enough(codec, train), codec.shift))
    average = copy.deepcopy(codec).requires_grad_(False)
    parameters = list(codec.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )
    gamma, side = ema.gamma_of(settings.ema), max(1, crop // codec.factor) * codec.factor
    started, step, skipped, done = time.monotonic(), 0, 0, 0.0
    while done < 1:
        index = batch_index(settings.seed, step, settings.batch, len(train))
        seeds = Seeds.of(settings.seed, settings.batch).fold("codec", step)
        x = crops(codec.padded(train.batch(index)[0].to(codec.shift)), side, codec.factor, seeds)
        losses, errors = codec_loss(codec, x, seeds, beta=beta, detail=detail)
        losses.mean().backward()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.clip))
        rate = settings.rate(done, step)
        skipped = 0 if math.isfinite(norm) else skipped + 1
        if skipped >= MOST_SKIPS:
            raise UserError(
                f"the codec's loss is not finite at step {step}: look for extreme values in the data with "
                "`kuosan inspect`, or set a lower learning rate"
            )
        step += 1
        if not skipped:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            ema.update(average, codec, step, gamma)
        optimizer.zero_grad(set_to_none=True)
        seconds = time.monotonic() - started
        done = settings.progress(step, seconds)
        trip = None
        if done >= 1:
            codec.load_state_dict(average.state_dict())
            codec.requires_grad_(False).eval()
            calibrate(codec, train, Seeds.of(settings.seed, MOST_ITEMS).fold("calibrate"))
            trip = round_trip(codec, val) if len(val) else None
        yield CodecProgress(
            step,
            done,
            seconds,
            float(losses.detach().mean()),
            float(psnr_of(errors.detach()).mean()),
            rate,
            trip,
        )


def _enough(codec: KLVAE, items: Items) -> int:
    """As many items as make up `ENOUGH_PATCHES`."""
    _, rows, columns = codec.latent_shape
    return min(len(items), -(-ENOUGH_PATCHES // (rows * columns)))
