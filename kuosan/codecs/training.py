"""Trains a codec on states: seconds or steps, the same bits from the same seed and number of steps.

It starts at the principal components of the data (`KLVAE.start`), descends `objective` on random crops, ends with the
averaged weights, and is measured on whole pictures (`measure`): its units and its decoder's variance on the training
data, its round trip on held-out data.

With a folder it saves as it goes. Every draw is a function of the seed and the step, so that a training that was
killed and is begun again in the same folder repeats the lost steps exactly, and on a CPU ends with the same bits.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kuosan.codecs.kl_vae import KLVAE
from kuosan.codecs.measure import MOST_ITEMS, RoundTrip, calibrate, psnr_of, round_trip, states_of
from kuosan.codecs.objective import codec_loss, crops
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.training import checkpoint, ema
from kuosan.training.data import Items, batch_index
from kuosan.training.interrupt import Interrupted, listening
from kuosan.training.loop import Progress
from kuosan.training.optimizer import Optimizers
from kuosan.training.settings import Settings
from kuosan.training.state import pack, unpack

ENOUGH_PATCHES = 65_536  # for principal components
MOST_SKIPS = 5
FRAMES = 8  # of a crop of a clip


@dataclass(frozen=True)
class CodecProgress(Progress):
    """One event of the loop: a step, and at the last one the measured codec (None without held-out items).

    ``loss`` is in nats per number of the state without the constant ½ log 2π, ``psnr`` that of the step's crops.
    """

    psnr: float = math.nan
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
    folder: Path | None = None,
    identity: dict[str, Any] | None = None,
) -> Iterator[CodecProgress]:
    """Train in place, yielding every step; after the last event the codec is averaged, calibrated and frozen.

    Args:
        train, val: clean states; ``val`` may be empty.
        crop: side of the training crops in pixels, rounded down to whole patches; of clips they have `FRAMES`.
        beta, detail: see `objective`.
        folder: where its checkpoint is, or will be after the first ``settings.save_seconds``.
        identity: what that checkpoint must match, such as the recipe's and the data's fingerprints.

    Raises:
        Interrupted: SIGINT or SIGTERM came, and the state is saved; only with a folder.
        UserError: the loss stays non-finite, or the checkpoint is damaged or of another identity.
    """
    codec.to(device).requires_grad_(True).train()
    average = copy.deepcopy(codec).requires_grad_(False)
    optimizers = Optimizers(
        codec, "adamw", lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay
    )
    kept = _Kept(folder, identity or {}, codec, average, optimizers)
    step, before = kept.load()
    if not step:
        codec.start(states_of(train, _enough(codec, train), codec.shift))
        average.load_state_dict(codec.state_dict())
    with listening() as inbox:
        for event in _steps(codec, average, optimizers, train, settings, crop, beta, detail, step, before):
            if event.progress >= 1:
                codec.load_state_dict(average.state_dict())
                codec.requires_grad_(False).eval()
                calibrate(codec, train, Seeds.of(settings.seed, MOST_ITEMS).fold("calibrate"))
                event = replace(event, round_trip=round_trip(codec, val) if len(val) else None)
            yield event
            late = inbox.signum is not None or kept.age > settings.save_seconds
            if folder and late and event.progress < 1:
                kept.save(event)
            if folder and inbox.signum is not None:
                raise Interrupted(inbox.signum)


def _steps(
    codec: KLVAE, average: KLVAE, optimizers: Optimizers, train: Items, settings: Settings,
    crop: int, beta: float, detail: float, step: int, before: float,
) -> Iterator[CodecProgress]:  # fmt: skip
    """Update after update, from ``step`` on, to the end of the budget."""
    parameters = list(codec.parameters())
    assert settings.ema is not None
    gamma = ema.gamma_of(settings.ema)
    cut = [
        max(1, side // f) * f
        for side, f in zip((FRAMES, crop, crop)[-len(codec.factor) :], codec.factor, strict=True)
    ]
    started, skipped = time.monotonic(), 0
    done = settings.progress(step, before)
    while done < 1:
        index = batch_index(settings.seed, step, settings.batch, len(train))
        seeds = Seeds.of(settings.seed, settings.batch).fold("codec", step)
        x = crops(codec.padded(train.batch(index)[0].to(codec.shift)), cut, codec.factor, seeds)
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
            optimizers.step(rate)
            ema.update(average, codec, step, gamma)
        optimizers.zero_grad()
        seconds = before + time.monotonic() - started
        done = settings.progress(step, seconds)
        loss, psnr = float(losses.detach().mean()), float(psnr_of(errors.detach()).mean())
        yield CodecProgress(step, done, seconds, loss, norm, rate, psnr=psnr)


class _Kept:
    """The checkpoint of a training: nothing where there is no folder."""

    def __init__(
        self,
        folder: Path | None,
        identity: dict[str, Any],
        codec: KLVAE,
        average: KLVAE,
        optimizers: Optimizers,
    ) -> None:
        self.folder, self.identity = folder, identity
        self._parts = codec, average, optimizers
        self._at = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the last save."""
        return time.monotonic() - self._at

    def save(self, event: CodecProgress) -> None:
        assert self.folder is not None
        state = {"identity": self.identity, "step": event.step, "seconds": event.seconds}
        checkpoint.save(self.folder, pack(*self._parts), state)
        self._at = time.monotonic()

    def load(self) -> tuple[int, float]:
        """Steps and seconds so far."""
        if self.folder is None or not checkpoint.exists(self.folder):
            return 0, 0.0
        tensors, state = checkpoint.load(self.folder)
        if state["identity"] != self.identity:
            raise UserError(
                f"the checkpoint {self.folder} belongs to another recipe or other data: restore those that the run was "
                "started with, or train into a new folder with --out"
            )
        unpack(tensors, *self._parts)
        return int(state["step"]), float(state["seconds"])


def _enough(codec: KLVAE, items: Items) -> int:
    """As many items as make up `ENOUGH_PATCHES`."""
    return min(len(items), -(-ENOUGH_PATCHES // math.prod(codec.latent_shape[1:])))
