"""The training loop: yields what happens, saves as it goes, and survives.

`Training` holds what changes: the model, its average, the optimiser, the count of steps, and the objective, whose
density of times may learn from the errors. Nothing random is held, as every draw is a function of the seed and the
step; so a run that is killed anywhere and resumed from its last checkpoint repeats the lost steps exactly, and on a CPU
(same thread count) ends with the same bits.

A step whose loss or gradient is not finite is skipped and counted. Five in a row, or weights that are not
finite when they are to be saved, and the run goes back to its last checkpoint with half the learning rate;
after four such returns it stops and says so.

A learned schedule descends the second moment of the loss and not the loss: the mean of a bound does not depend
on how the schedule runs between its ends, its variance does (Kingma et al. 2021, sec. 5.1 and appendix I).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import moved
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.training import checkpoint, ema
from kuosan.training.data import Items, TrainingItems, batch_index, drop_conditions
from kuosan.training.interrupt import Interrupted, listening
from kuosan.training.objective import Found, Objective
from kuosan.training.optimizer import Optimizers
from kuosan.training.settings import Settings, casting, rounding
from kuosan.training.speed import arrange, compiled
from kuosan.training.state import pack, unpack
from kuosan.training.validation import Validation, validate

FORMAT = 1
_SKIPS_IN_A_ROW = 5
_MOST_RETURNS = 4
_JUDGING = 0.08  # share of a budget of time that validation may take
_TIMING = "timing."  # before the names of what a density of times has learned


@dataclass
class Counters:
    """What a checkpoint keeps besides tensors. ``seconds`` is training time, over all parts of the run."""

    step: int = 0
    seconds: float = 0.0
    rate_scale: float = 1.0
    skipped: int = 0
    in_a_row: int = 0
    returns: int = 0
    validations: int = 0
    worse: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    finished: bool = False
    events: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Progress:
    """One event of the loop: a step, and a validation where there was one."""

    step: int
    progress: float
    seconds: float
    loss: float
    grad_norm: float
    lr: float
    validation: Validation | None = None
    best: bool = False


class Training:
    """A run in progress.

    Args:
        denoiser: trained in place.
        objective: a loss per example.
        train, val: the data; an empty ``val`` is never validated on.
        null: the index that hides each condition.
        folder: the run's ``checkpoints``.
        identity: what a checkpoint must match to be resumed, such as the recipe's and the data's fingerprints.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        objective: Objective,
        train: TrainingItems,
        val: Items,
        settings: Settings,
        folder: Path,
        *,
        null: dict[str, int] | None = None,
        identity: dict[str, Any] | None = None,
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.denoiser = denoiser.to(self.device)
        arrange(self.denoiser, settings.layout)
        self.average = copy.deepcopy(denoiser).requires_grad_(False).eval()
        self.objective, self.train, self.val, self.settings = objective, train, val, settings
        self.folder, self.null, self.identity = folder, null or {}, identity or {}
        self.parameters = [p for p in self.denoiser.parameters() if p.requires_grad]
        self.curves = [p for p in self.denoiser.curves() if p.requires_grad]
        self.optimizers = Optimizers(
            self.denoiser,
            settings.optimizer,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self.gamma = ema.gamma_of(settings.ema)
        self.count = Counters()
        self._saved_at = self._judging = 0.0

    # -- state ------------------------------------------------------------------------------------------

    def save(self, place: str = "last") -> None:
        """Write the full state to ``checkpoints/<place>``."""
        tensors = pack(self.denoiser, self.average, self.optimizers)
        tensors |= {_TIMING + k: v for k, v in self.objective.timing.state().items()}
        state = {"format": FORMAT, "identity": self.identity, "counters": vars(self.count)}
        checkpoint.save(self.folder / place, tensors, state)
        if place == "last":
            self._saved_at = time.monotonic()

    def resume(self, place: str = "last") -> bool:
        """Load ``checkpoints/<place>`` if there is one; whether there was.

        Raises:
            UserError: it is damaged, or belongs to another recipe, other data or another version.
        """
        if not checkpoint.exists(self.folder / place):
            return False
        tensors, state = checkpoint.load(self.folder / place)
        if state.get("format") != FORMAT:
            raise UserError(
                f"the checkpoint {self.folder / place} was written in format {state.get('format')}, and this version "
                f"of Kuosan reads format {FORMAT}: resume it with the version that wrote it"
            )
        for name, mine in self.identity.items():
            if state["identity"].get(name) != mine:
                raise UserError(
                    f"the checkpoint {self.folder / place} belongs to another {name}: restore the {name} that the "
                    "run was started with, or train into a new folder with --out"
                )
        self._load(tensors)
        self.count = Counters(**state["counters"])
        return True

    def _load(self, tensors: dict[str, Tensor]) -> None:
        unpack(tensors, self.denoiser, self.average, self.optimizers)
        kept = {k.removeprefix(_TIMING): v for k, v in tensors.items() if k.startswith(_TIMING)}
        self.objective = self.objective.timed(self.objective.timing.restored(kept))

    # -- the loop ---------------------------------------------------------------------------------------

    def run(self) -> Iterator[Progress]:
        """Train to the end of the budget, yielding every step.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the state is saved.
            UserError: the loss stays non-finite, or the disk is full.
        """
        settings, count = self.settings, self.count
        started, before = time.monotonic(), count.seconds
        self._saved_at = started
        if count.step == 0 and not checkpoint.exists(self.folder / "last"):
            self.save()
        self.denoiser.train()
        if settings.compile and (why := compiled(self.denoiser, self._rehearse)):
            count.events.append(
                f"step {count.step}: the network could not be compiled and runs as it is: {why}"
            )
        with listening() as inbox:
            while not self.count.finished:
                count = self.count
                progress = settings.progress(count.step, count.seconds)
                with rounding(settings.precision):
                    loss, norm, rate = self._step(progress)
                count = self.count  # a return to an earlier state replaces it
                count.seconds = before + time.monotonic() - started
                progress = settings.progress(count.step, count.seconds)
                due = count.step > 0 and progress * settings.validations >= count.validations + 1
                # A short budget of time is for training: what validation takes of it is bounded.
                due &= not settings.seconds or self._judging <= _JUDGING * (count.seconds - before)
                validation, best = self._validate() if due or progress >= 1 else (None, False)
                count.finished = progress >= 1 or self._out_of_patience()
                yield Progress(count.step, progress, count.seconds, loss, norm, rate, validation, best)
                count.seconds = before + time.monotonic() - started
                late = time.monotonic() - self._saved_at > settings.save_seconds
                if count.finished or inbox.signum is not None or (late and not count.in_a_row):
                    self._save_or_return()
                if inbox.signum is not None:
                    raise Interrupted(inbox.signum)

    def _rehearse(self) -> None:
        """Look at a step and change nothing."""
        self._gradients(self._look().losses)
        self.optimizers.zero_grad()

    def _look(self) -> Found:
        """What the batch of this step says."""
        settings, count = self.settings, self.count
        seeds = Seeds.of(settings.seed, settings.batch).fold("train", count.step, count.returns)
        index = batch_index(settings.seed, count.step, settings.batch, len(self.train))
        x, cond = self.train.batch(index, seeds.fold("items"))
        x, cond = moved(x, self.device), {k: moved(v, self.device) for k, v in cond.items()}
        cond = drop_conditions(cond, self.null, settings.drop, seeds)
        with casting(settings.precision, self.device):
            return self.objective.draw(self.denoiser, x, seeds, **cond)

    def _step(self, progress: float) -> tuple[float, float, float]:
        """One update: the loss, the gradient's norm, the learning rate."""
        settings, count = self.settings, self.count
        found = self._look()
        loss, norm = found.losses.mean(), self._gradients(found.losses)
        rate = settings.rate(progress, count.step) * count.rate_scale
        value, length = float(loss.detach()), float(norm)
        count.step += 1
        if math.isfinite(value) and math.isfinite(length):
            self.optimizers.step(rate)
            ema.update(self.average, self.denoiser, count.step, self.gamma)
            if found.errors:
                self.objective = self.objective.timed(self.objective.timing.after(*found.errors))
            count.in_a_row = 0
        else:
            self._skip()
        self.optimizers.zero_grad()
        return value, length, rate

    def _gradients(self, losses: Float[Tensor, " b"]) -> Tensor:
        """Fill in clipped gradients; their norm before clipping."""
        if not self.curves:
            losses.mean().backward()
            return torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        slopes = torch.autograd.grad(losses.square().mean(), self.curves, retain_graph=True)
        losses.mean().backward()
        for curve, slope in zip(self.curves, slopes, strict=True):
            curve.grad = slope
        # Apart, or the second moment's scale would decide how far the network goes.
        mine = torch.nn.utils.clip_grad_norm_(self.curves, self.settings.clip)
        rest = [p for p in self.parameters if not any(p is curve for curve in self.curves)]
        return torch.hypot(torch.nn.utils.clip_grad_norm_(rest, self.settings.clip), mine.to(losses))

    def _skip(self) -> None:
        count = self.count
        count.skipped += 1
        count.in_a_row += 1
        if count.in_a_row >= _SKIPS_IN_A_ROW:
            self._return(f"{_SKIPS_IN_A_ROW} steps in a row were not finite")

    def _save_or_return(self) -> None:
        try:
            self.save()
        except checkpoint.NotFiniteError as e:
            self._return(str(e))
            self._saved_at = time.monotonic()

    def _return(self, why: str) -> None:
        """Go back to the last checkpoint with half the learning rate."""
        count = self.count
        if count.returns >= _MOST_RETURNS:
            raise UserError(
                f"the loss is not finite at step {count.step}, even after {count.returns} returns to the last "
                "good state with a lower learning rate: look for extreme values in the data with `kuosan inspect`, "
                "or set a lower rate with --set training.lr=1e-4; the last good state is kept"
            )
        tensors, state = checkpoint.load(self.folder / "last")
        self._load(tensors)
        kept = Counters(**state["counters"])
        kept.returns, kept.skipped, kept.rate_scale = count.returns + 1, count.skipped, count.rate_scale / 2
        kept.events = [
            *count.events,
            f"step {count.step}: {why}; went back to step {kept.step} with the learning rate times {kept.rate_scale:g}",
        ]
        self.count = kept

    def _validate(self) -> tuple[Validation | None, bool]:
        count = self.count
        done = self.settings.progress(count.step, count.seconds) * self.settings.validations
        count.validations = max(count.validations + 1, int(done))
        if not len(self.val):
            return None, False
        started = time.monotonic()
        with casting(self.settings.precision, self.device):
            result = validate(self.average, self.objective, self.val, self.device)
        self._judging += time.monotonic() - started
        best = result.loss < count.best_loss
        if best:
            count.best_loss, count.best_step, count.worse = result.loss, count.step, 0
            self.save("best")
        else:
            count.worse = count.worse + 1 if result.loss > 1.05 * count.best_loss else 0
        return result, best

    def _out_of_patience(self) -> bool:
        count, patience = self.count, self.settings.patience
        if patience and count.worse >= patience:
            count.events.append(
                f"step {count.step}: the held-out loss was more than 5 % above its best (step {count.best_step}) "
                f"{patience} times in a row, so training stopped early"
            )
            return True
        return False
