"""The first stage of a run whose diffusion is of latents: train the codec, then encode the data once.

`Coding` belongs to a session. The codec that it ends with is kept whole in ``checkpoints/codec``, beside the steps and
seconds that it took, and written from there to ``codec.safetensors``, which is what others read. It is trained
(`KLVAE`), or measured (a stock one: its units and its decoder's variance on these data), or that of the run which
this one starts from, as it is: the denoiser's weights mean something with it alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.codecs import (
    KLVAE,
    Codec,
    CodecProgress,
    Latents,
    calibrate,
    codec_settings,
    encode_items,
    round_trip,
    save_codec,
    train_codec,
)
from kuosan.codecs.measure import MOST_ITEMS
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import Dataset, Split
from kuosan.modalities.ragged import Ragged
from kuosan.recipes.facts import Facts
from kuosan.recipes.run import CODEC
from kuosan.training import checkpoint
from kuosan.training.checkpoint import load_weights, write_bytes

LOG = "codec.jsonl"
LOG_LINES = 400
VIEWS = 4  # of items that training sees in many


class Encoded:
    """Items in latents, from `fill` on; of windows that slide, `VIEWS` of each item where it is trained on."""

    def __init__(self, split: Split, *, trained: bool) -> None:
        self.split, x = split, split.x
        slides = isinstance(x, Ragged) and bool((x.high - x.low > split.modality.shape[1]).any())
        self.views = VIEWS if trained and slides else 1
        self._latents: Latents | None = None

    def __len__(self) -> int:
        return len(self.split)

    def fill(self, codec: Codec, seed: int) -> None:
        """Encode every item."""
        self._latents = encode_items(codec, self.split, seed, self.views)

    def batch(
        self, index: Int64[Tensor, " b"], seeds: Seeds | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Latents of the items at ``index``, and their conditions."""
        assert self._latents is not None, "the codec comes first"
        return self._latents.batch(index)


class Coding:
    """The codec of a session and its data in latents.

    Args:
        path: the run's folder.
        codec: untrained, or, where it is ``ready``, final.
        seconds: of a budget of time, for the codec and the diffusion together.

    ``steps`` and ``seconds`` are what the codec has taken, ``left`` what it left of a budget of time.
    """

    def __init__(
        self,
        path: Path,
        facts: Facts,
        data: Dataset,
        codec: Codec,
        seconds: float | None,
        device: torch.device,
        *,
        ready: bool = False,
    ) -> None:
        self.path, self.codec, self.device = path, codec.to(device), device
        self.data, self.seed, self.part, self.budget = data, facts.recipe.seed, facts.recipe.codec, seconds
        self.train, self.val = Encoded(data.train, trained=True), Encoded(data.val, trained=False)
        self.save_seconds = facts.recipe.training.save_seconds
        self.steps, self.seconds, self.left = 0, 0.0, seconds
        self.folder = path / "checkpoints" / "codec"
        self.identity = {"codec": facts.codec_identity, "data": facts.data_fingerprint}
        self.trained = self.encoded = self._kept = False
        self._ready = ready
        self._load()

    def _load(self) -> None:
        """A codec that was finished before."""
        if not checkpoint.exists(self.folder):
            return
        tensors, state = checkpoint.load(self.folder)
        if state["identity"] != self.identity:
            raise UserError(
                f"the checkpoint {self.folder} belongs to another recipe or other data: restore those that the run was "
                "started with, or train into a new folder with --out"
            )
        self.steps, self.seconds = int(state["step"]), float(state["seconds"])
        if not state.get("finished"):
            return
        self.codec.load_state_dict(tensors)
        self.codec.requires_grad_(False).eval()
        self.left, self.trained, self._kept = state["left"], True, True
        try:
            load_weights(self.path / CODEC)
        except UserError:  # never written, or damaged since
            save_codec(self.path / CODEC, self.codec)

    def run(self) -> Iterator[CodecProgress]:
        """Train the codec to its end, yielding every step; nothing where there is nothing to train.

        Raises:
            Interrupted: a signal came; the state is saved.
            UserError: what `train_codec` raises.
        """
        if self.trained:
            return
        started = time.monotonic()
        if isinstance(self.codec, KLVAE) and not self._ready:
            yield from self._train(self.codec)
        else:
            if not self._ready:
                seeds = Seeds.of(self.seed, MOST_ITEMS).fold("calibrate")
                calibrate(self.codec, self.data.train, seeds)
            self.codec.requires_grad_(False).eval()
            self.seconds = time.monotonic() - started
        self.trained = True

    def _train(self, codec: KLVAE) -> Iterator[CodecProgress]:
        part = self.part
        steps = part.steps if part.steps != "auto" else None
        seconds = None if steps is not None or self.budget is None else part.share * self.budget
        settings = codec_settings(seed=self.seed, steps=steps, seconds=seconds, batch=part.batch)
        settings = replace(settings, save_seconds=self.save_seconds)
        self._forget_lost_lines()
        line = -1
        assert isinstance(part.crop, int)
        for event in train_codec(
            codec, self.data.train, self.data.val, settings,
            crop=part.crop, detail=part.detail, device=self.device, folder=self.folder, identity=self.identity,
        ):  # fmt: skip
            self.steps, self.seconds = event.step, event.seconds
            due, line = int(event.progress * LOG_LINES) > line, int(event.progress * LOG_LINES)
            if due:
                row = {k: getattr(event, k) for k in ("step", "seconds", "loss", "psnr", "lr")}
                with (self.path / LOG).open("a", encoding="utf-8") as log:
                    log.write(json.dumps(row) + "\n")
            yield event

    def _forget_lost_lines(self) -> None:
        """Steps after the checkpoint's will be made again, and logged again."""
        if (self.path / LOG).exists():
            kept = [row for row in read_log(self.path) if row["step"] <= self.steps]
            write_bytes(self.path / LOG, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def encode(self) -> None:
        """Encode the data; the first time, keep the codec too."""
        if self.encoded:
            return
        if not self.trained:  # by another process
            self._load()
        started = time.monotonic()
        self.train.fill(self.codec, self.seed)
        self.val.fill(self.codec, self.seed)
        self.encoded = True
        if self._kept:
            return
        if self.budget is not None:
            self.left = max(1.0, self.budget - self.seconds - (time.monotonic() - started))
        save_codec(self.path / CODEC, self.codec)
        trip = round_trip(self.codec, self.data.val if len(self.data.val) else self.data.train)
        state: dict[str, Any] = {"identity": self.identity, "step": self.steps, "seconds": self.seconds}
        state |= {"finished": True, "left": self.left, "round_trip": vars(trip)}
        checkpoint.save(self.folder, self.codec.state_dict(), state)
        self._kept = True


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a run's ``codec.jsonl``; one that a kill cut off is left out."""
    rows = []
    if (path / LOG).exists():
        for text in (path / LOG).read_text(encoding="utf-8").splitlines():
            try:
                rows.append(dict(json.loads(text)))
            except ValueError:
                continue
    return rows
