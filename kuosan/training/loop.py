"""The training loop: yields what happens, saves as it goes, and survives.

`Training` holds what changes: the model, its average, the optimiser, the count of steps, and the objective, whose
density of times may learn from the errors. Nothing random is held, as every draw is a function of the seed and the
step; so a run that is killed anywhere and resumed from its last checkpoint repeats the lost steps exactly, and on a CPU
(same thread count) ends with the same bits.

A step whose loss or gradient is not finite is skipped and counted. Five in a row, or weights that are not
finite when they are to be saved, and the run goes back to its last checkpoint with half the learning rate;
after four such returns it stops and says so. A loss or a gradient that has left its range for good (`spikes`) is
reason for a return too, but none to stop.

A batch that does not fit into memory is made of micro-batches (`gradients`), which are halved until they fit: the same
step, with the same gradient. Processes that train together (`parallel`) divide every batch and hold the same weights.

A learned schedule descends the second moment of the loss and not the loss: the mean of a bound does not depend
on how the schedule runs between its ends, its variance does (Kingma et al. 2021, sec. 5.1 and appendix I).
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.training import checkpoint, spikes
from kuosan.training.averages import FOLDER, LOOKS, Averages, Kept
from kuosan.training.data import Batches, Items, TrainingItems
from kuosan.training.gradients import Gradients, NoMemoryError, parts_of
from kuosan.training.interrupt import Inbox, Interrupted, listening
from kuosan.training.objective import Found, Objective
from kuosan.training.optimizer import Optimizers
from kuosan.training.parallel import World
from kuosan.training.progress import Counters, Progress
from kuosan.training.settings import Settings, casting, rounding
from kuosan.training.sharding import is_sharded, share_out, whole
from kuosan.training.speed import arrange, compiled
from kuosan.training.state import pack, shaped_like, unpack
from kuosan.training.validation import Validation, validate

FORMAT = 1
_SKIPS_IN_A_ROW = 5
_MOST_RETURNS = 4
_JUDGING = 0.08  # share of a budget of time that validation may take
_TIMING = "timing."  # before the names of what a density of times has learned


class Training:
    """A run in progress.

    Args:
        denoiser: trained in place.
        objective: a loss per example.
        train, val: the data; an empty ``val`` is never validated on.
        null: the index that hides each condition. shelves: see `Batches`.
        folder: the run's ``checkpoints``.
        identity: what a checkpoint must match to be resumed, such as the recipe's and the data's fingerprints.
        world: the processes that train it together; all of them call the same methods.
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
        shelves: Sequence[Tensor] = (),
        identity: dict[str, Any] | None = None,
        device: torch.device | str = "cpu",
        world: World = World(),  # noqa: B008 (frozen)
    ):
        if settings.batch < world.size:
            raise UserError(
                f"training.batch {settings.batch} is less than the number of processes, {world.size}: start fewer, or "
                f"set a larger batch with --set training.batch={world.size}"
            )
        self.device, self.world = torch.device(device), world
        arrange(denoiser, settings.layout)
        self.averages = Averages(denoiser, settings.ema)
        self.sharded = is_sharded(denoiser, settings, self.device, world)
        if self.sharded:
            for model in (denoiser, *self.averages.models):
                share_out(model, self.device, world)
        self.denoiser = denoiser.to(self.device)
        for model in self.averages.models:
            model.to(self.device)
        self.average = self.averages.models[0]
        self.kept = Kept(folder / FOLDER)
        self.objective, self.train, self.val, self.settings = objective, train, val, settings
        self.batches = Batches(
            train, settings.seed, settings.batch, settings.drop, null or {}, world, shelves
        )
        self.folder, self.identity = folder, identity or {}
        self.parameters = [p for p in self.denoiser.parameters() if p.requires_grad]
        self.curves = [p for p in self.denoiser.curves() if p.requires_grad]
        self.optimizers = Optimizers(
            self.denoiser,
            settings.optimizer,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self.gradients = Gradients(self.parameters, self.curves, world, summed=not self.sharded)
        self.count = Counters()
        self.score: Callable[[], float | None] | None = (
            None  # by which the best step is chosen; less is better
        )
        self._saved_at = self._judging = 0.0

    # -- state ------------------------------------------------------------------------------------------

    def save(self, place: str = "last") -> None:
        """Write the full state to ``checkpoints/<place>``."""
        tensors = self._tensors() | {_TIMING + k: v for k, v in self.objective.timing.state().items()}
        state = {"format": FORMAT, "identity": self.identity, "counters": vars(self.count)}
        if self.sharded:
            checkpoint.save_together(self.folder / place, tensors, state, self.world)
        elif self.world.leads:
            checkpoint.save(self.folder / place, tensors, state)
        if place == "last":
            self._saved_at = time.monotonic()
            if self.world.leads:
                self.kept.forget(self.count.kept)

    def _tensors(self) -> dict[str, Tensor]:
        return pack(self.denoiser, self.average, self.optimizers) | self.averages.state()

    def resume(self, place: str = "last") -> bool:
        """Load ``checkpoints/<place>`` if there is one; whether there was.

        Raises:
            UserError: it is damaged, or belongs to another recipe, other data or another version.
        """
        if not self.world.tell(checkpoint.exists(self.folder / place)):
            return False
        tensors, state = self._read(place)
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

    def _read(self, place: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A checkpoint, from the one process that may see the newest; of a sharded state each process its part."""
        if self.sharded:
            into = partial(shaped_like, self._tensors(), self.optimizers)
            return checkpoint.load_together(self.folder / place, into, self.world)
        tensors, state = checkpoint.load(self.folder / place) if self.world.leads else (None, None)
        return self.world.spread(tensors), self.world.tell(state)

    def _load(self, tensors: dict[str, Tensor]) -> None:
        unpack(tensors, self.denoiser, self.average, self.optimizers)
        self.averages.load(tensors)
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
        if count.step == 0 and not self.world.tell(checkpoint.exists(self.folder / "last")):
            self.save()
        if not (self.world.alone or self.sharded):  # they begin alike, wherever their weights are from
            for model in (self.denoiser, *self.averages.models):
                model.load_state_dict(self.world.spread(model.state_dict()))
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
                count.seconds = self._clock(before + time.monotonic() - started)
                progress = settings.progress(count.step, count.seconds)
                due = count.step > 0 and progress * settings.validations >= count.validations + 1
                # A short budget of time is for training: what validation takes of it is bounded.
                due &= not settings.seconds or self._judging <= _JUDGING * (count.seconds - before)
                judged = self._validate() if due or progress >= 1 else (None, False, None)
                count.finished = progress >= 1 or self._out_of_patience()
                self._keep(progress)
                yield Progress(count.step, progress, count.seconds, loss, norm, rate, *judged)
                count.seconds, late, signum = self._agreed(before + time.monotonic() - started, inbox)
                doubtful = count.in_a_row or count.high
                if count.finished or signum is not None or (late and not doubtful):
                    self._save_or_return()
                if signum is not None:
                    raise Interrupted(signum)

    def _clock(self, seconds: float) -> float:
        """One process's, where it decides anything."""
        if self.world.alone or not self.settings.seconds:
            return seconds
        return float(self.world.add(torch.tensor(seconds * self.world.leads, dtype=torch.float64)))

    def _agreed(self, seconds: float, inbox: Inbox) -> tuple[float, bool, int | None]:
        """The time, whether to save, and the signal to leave by: for all processes the same."""
        late = time.monotonic() - self._saved_at > self.settings.save_seconds
        if self.world.alone:
            return seconds, late, inbox.signum
        both, leads = (signal.SIGINT, signal.SIGTERM), self.world.leads
        mine = torch.tensor(
            [seconds * leads, late * leads, *(inbox.signum == s for s in both)], dtype=torch.float64
        )
        now, due, *came = self.world.add(mine).tolist()
        return now, due > 0, next((int(s) for s, n in zip(both, came, strict=True) if n), None)

    def _rehearse(self) -> None:
        """Look at a step and change nothing."""
        self._found(0.0)
        self.optimizers.zero_grad()

    def _step(self, progress: float) -> tuple[float, float, float]:
        """One update: the loss, the gradient's norm, the learning rate."""
        settings, count = self.settings, self.count
        found = self._found(progress)
        norm = self._clip()
        rate = settings.rate(progress, count.step) * count.rate_scale
        value, length = float(found.losses.mean()), float(norm)
        count.step += 1
        if math.isfinite(value) and math.isfinite(length):
            self.optimizers.step(rate)
            self.averages.update(self.denoiser, count.step)
            if found.errors:
                self.objective = self.objective.timed(self.objective.timing.after(*found.errors))
            count.in_a_row = 0
            count.losses, count.norms = spikes.after(count.losses, value), spikes.after(count.norms, length)
            if count.high == spikes.ROW and count.returns < _MOST_RETURNS:
                self._return(f"the loss or the gradient was far above its range {spikes.ROW} steps in a row")
        else:
            self._skip()
        self.optimizers.zero_grad()
        return value, length, rate

    def _found(self, progress: float) -> Found:
        """What the step's batch says, with its gradient filled in."""
        settings, count = self.settings, self.count
        objective = self.objective.stage(progress)
        batch = self.batches.of(objective.timing, count.step, count.returns)

        def draw(part: slice) -> Found:
            with casting(settings.precision, self.device):
                return batch.draw(objective, self.denoiser, part, self.device)

        largest = -(-settings.batch // self.world.size)  # of all shares
        while True:
            micro = min(count.micro or settings.micro or largest, largest)
            try:
                return self.gradients.of(draw, settings.batch, parts_of(len(batch), micro))
            except NoMemoryError:
                self._halve(micro)

    def _halve(self, micro: int) -> None:
        """Go on with smaller micro-batches."""
        count = self.count
        if micro == 1:
            raise UserError(
                "there is not enough memory to train on a single item: choose smaller pictures "
                "(--set data.max_side=32) or a smaller network (--set network.dim=64), or close other programs"
            )
        count.micro = -(-micro // 2)
        count.events.append(
            f"step {count.step + 1}: memory did not suffice, so each batch of {self.settings.batch} is made of "
            f"micro-batches of {count.micro} from here on, with the same gradient"
        )

    def _clip(self) -> Tensor:
        """Clip gradients; their norm before."""
        if not self.curves:
            return whole(torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip))
        # Apart, or the second moment's scale would decide how far the network goes.
        mine = torch.nn.utils.clip_grad_norm_(self.curves, self.settings.clip)
        rest = [p for p in self.parameters if not any(p is curve for curve in self.curves)]
        norm = torch.nn.utils.clip_grad_norm_(rest, self.settings.clip)
        return torch.hypot(norm, mine.to(norm))

    def _skip(self) -> None:
        count = self.count
        count.skipped += 1
        count.in_a_row += 1
        if count.in_a_row >= _SKIPS_IN_A_ROW:
            self._return(f"{_SKIPS_IN_A_ROW} steps in a row were not finite")

    def _save_or_return(self) -> None:
        why = ""
        try:
            self.save()
        except checkpoint.NotFiniteError as e:
            why = str(e)
        if why := self.world.tell(why):
            self._return(why)
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
        tensors, state = self._read("last")
        self._load(tensors)
        kept = Counters(**state["counters"])
        kept.returns, kept.skipped, kept.rate_scale = count.returns + 1, count.skipped, count.rate_scale / 2
        kept.events = [
            *count.events,
            f"step {count.step}: {why}; went back to step {kept.step} with the learning rate times {kept.rate_scale:g}",
        ]
        self.count = kept

    def _keep(self, progress: float) -> None:
        """Leave averages in files, now and then, where others are to be made of them later."""
        count = self.count
        if self.averages.several and not count.in_a_row and progress * LOOKS >= count.looks + 1:
            count.looks = int(progress * LOOKS)
            halves = self.averages.halves()  # of parts that are shared out all processes are needed
            names = self.kept.keep(halves, count.step, count.kept) if self.world.leads else None
            count.kept = self.world.tell(names)

    def judge(self, denoiser: Denoiser, items: Items | None = None) -> Validation:
        """The loss of a denoiser on held-out items, or on others, in this training's terms."""
        with casting(self.settings.precision, self.device):
            return validate(denoiser, self.objective, self.val if items is None else items, self.device)

    def _validate(self) -> tuple[Validation | None, bool, tuple[float, float] | None]:
        """The held-out loss, whether this is the best step so far, and the loss's change since its least."""
        count = self.count
        done = self.settings.progress(count.step, count.seconds) * self.settings.validations
        count.validations = max(count.validations + 1, int(done))
        if not len(self.val):
            return None, False, None
        result, score = self._judged(), None
        if self.score is not None:
            score = self.world.tell(self.score() if self.world.leads else None)
        best, change = count.judged(result, score)
        if best:
            self.save("best")
        return result, best, change

    def _judged(self) -> Validation:
        """The average's held-out loss, measured once for all processes."""
        started, told = time.monotonic(), None
        if self.world.leads or self.sharded:
            result = self.judge(self.average)
            told = [vars(result), time.monotonic() - started]
        told = self.world.tell(told)
        self._judging += told[1]
        levels = tuple((place, loss) for place, loss in told[0]["levels"])
        tuples = {k: tuple(told[0][k]) for k in ("each", "level_stderrs")}
        return Validation(**told[0] | tuples | {"levels": levels})

    def _out_of_patience(self) -> bool:
        count, patience = self.count, self.settings.patience
        if patience and count.worse >= patience:
            count.events.append(
                f"step {count.step}: the held-out loss was above its best (step {count.best_step}) by more than chance "
                f"{patience} times in a row, so training stopped early"
            )
            return True
        return False
