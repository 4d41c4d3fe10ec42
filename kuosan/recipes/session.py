"""A training session: data in, a run's folder out.

`Session.steps` trains, yielding progress, and leaves metrics, previews and checkpoints in the run's folder. Where the
diffusion is of latents, `Session.codec_steps` comes first (`steps` sees to it if nobody has). How a session is
opened, new or again, stands in `opening`; what it leaves at its end in `finish`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kuosan.codecs import Codec, CodecProgress
from kuosan.core.random import Seeds
from kuosan.denoisers.tokens import TokenDenoiser
from kuosan.modalities import Dataset, modality_class
from kuosan.modalities.captions import CAPTION
from kuosan.recipes import average, machine
from kuosan.recipes.adapters import Adapter
from kuosan.recipes.augment import varied
from kuosan.recipes.build import build_model, build_settings, objective_of
from kuosan.recipes.calibrate import Threads
from kuosan.recipes.coding import Coding
from kuosan.recipes.conditions import asked_of
from kuosan.recipes.entropy import is_entropic
from kuosan.recipes.facts import Facts
from kuosan.recipes.lessons import Lessons
from kuosan.recipes.pace import Pace
from kuosan.recipes.run import WEIGHTS, Run
from kuosan.recipes.samples import Samples
from kuosan.recipes.scarce import augmentation_of
from kuosan.recipes.schema import fingerprint
from kuosan.recipes.start import Start
from kuosan.recipes.tokens import token_counts
from kuosan.recipes.trackers import All, tracking
from kuosan.recipes.watch import Watch
from kuosan.training import checkpoint, parallel
from kuosan.training.augment import Augmented
from kuosan.training.budget import Budget
from kuosan.training.data import TrainingItems
from kuosan.training.loop import Progress, Training

METRICS = "metrics.jsonl"
TOLD = (
    "loss",
    "grad_norm",
    "lr",
    "items_per_second",
    "memory_mib",
    "val_loss",
    "nearness",
    "nearness_real",
    "sample_fd",
)
PREVIEWING = 0.06  # of a budget of time, at most
PREVIEWS = (0.0, 0.02, 0.06, 0.15, 0.35, 0.65, 1.0)
LOG_LINES = 400


class Session:
    """A run in progress in its folder."""

    def __init__(
        self,
        run: Run,
        data: Dataset,
        start: Start | None = None,
        started: float | None = None,
        *,
        codec: Codec | None = None,
    ):
        self.run, self.data = run, data
        self.started = time.monotonic() if started is None else started
        facts = self.facts = run.facts
        r = facts.recipe
        self.budget = Budget.parse(r.budget)
        settings = build_settings(r.training, r.seed, self.budget, facts.seconds)
        denoiser = build_model(facts.network, r)
        if start is not None:
            denoiser.load_state_dict(start.weights_for(facts.network))
        elif isinstance(denoiser, TokenDenoiser):
            denoiser.network.begin_with(token_counts(data))  # type: ignore[operator]
        device, ready = machine.device(), bool(r.init)
        self.coding = (
            None
            if codec is None
            else Coding(run.path, facts, data, codec, facts.seconds, device, ready=ready)
        )
        self.lessons = None
        if r.distil.steps:  # a student, of what its teacher does at each level of noise
            self.lessons = Lessons(run.path, facts, settings.steps, facts.seconds)
            settings = replace(settings, steps=self.lessons.steps)
            for curve in denoiser.curves():
                curve.requires_grad_(False)
        of = self.lessons or self.coding or data
        train: TrainingItems = of.train
        objective = self.lessons.objective if self.lessons else objective_of(r, run.modality)
        if r.process.discrete:
            train = varied(data.train, r.data, run.path, denoiser if start else None, r.seed)
        elif of is data and (how := augmentation_of(r.training)):
            train = Augmented(train, how)
        self.adapter = None
        if r.adapter.rank:  # what is trained are a few weights beside those of another run
            self.adapter = Adapter(run.path, facts, denoiser, train, objective)
            train, objective = self.adapter.train, self.adapter.objective
        self.training = Training(
            denoiser,
            objective,
            train,
            of.val,
            settings,
            run.path / "checkpoints",
            null=facts.null,
            shelves=() if self.lessons else data.train.shelves,
            identity={
                "recipe": fingerprint([r.identity(_apart(facts)), facts.network, facts.codec]),
                "data": facts.data_fingerprint,
            },
            device=device,
            world=(world := parallel.world()),
        )
        self.world = world
        self.resumed = self.training.resume()
        self.watch = Watch(run, self.training, self._drawn)
        self._before = self.seconds
        self.seconds_per_sample = 0.05
        self.seconds_per_preview = self._previewing = 0.0
        self.pace = Pace()
        self._shown = self._line = -1

    @property
    def seconds(self) -> float:
        """Of training, over all parts of the run, its codec's and its teacher's included."""
        before = (self.coding, self.lessons, self.adapter)
        return self.training.count.seconds + sum(part.seconds for part in before if part)

    # -- training ---------------------------------------------------------------------------------------

    def codec_steps(self) -> Iterator[CodecProgress]:
        """Train the codec to its end, where the run has one that is not yet; raises what `Coding.run` raises."""
        if self.coding is None or not self.world.leads:  # the others find it on the disk
            return
        threads, stepped = self._threads(), time.monotonic()
        for event in self.coding.run():
            if threads:
                threads.after_step(time.monotonic() - stepped)
            yield event
            stepped = time.monotonic()

    def encode(self) -> None:
        """Bring the data into latents, where the run has a codec; what that took is no longer there for training."""
        if self.coding is None:
            return
        with self.world.first():
            self.coding.encode()
        self.training.settings = replace(self.training.settings, seconds=self.coding.left)

    def learn(self, tell: Callable[[int, float], None] = lambda pairs, progress: None) -> None:
        """Have the teacher walk, where the run is a student's; see `Lessons.make`."""
        if self.lessons is None or self.training.count.finished:
            return
        with self.world.first():
            self.lessons.make(tell)
        self.training.settings = replace(self.training.settings, seconds=self.lessons.left)

    def rehearse(self, tell: Callable[[int, float], None] = lambda samples, progress: None) -> None:
        """Have the old model draw samples, where the run has adapters and rehearses; see `Adapter.make`."""
        if self.adapter is None or self.training.count.finished:
            return
        with self.world.first():
            self.adapter.make(tell)
        seconds = self.coding.left if self.coding else self.facts.seconds
        self.training.settings = replace(self.training.settings, seconds=self.adapter.left(seconds))

    def _threads(self) -> Threads | None:
        """Kept at the faster count where time is what counts."""
        return Threads() if self.budget.seconds and self.training.device.type == "cpu" else None

    def steps(self) -> Iterator[Progress]:
        """Train to the end, writing as it goes; raises what `Training.run` raises."""
        training, path = self.training, self.run.path
        for left in (
            path.glob(".*.tmp") if self.world.leads else ()
        ):  # of a process that was killed as it wrote
            left.unlink(missing_ok=True)
        for _ in self.codec_steps():
            pass
        self.encode()
        self.learn()
        self.rehearse()
        self._forget_lost_lines(training.count.step)
        last = training.count.step
        trackers = tracking(path, self.facts, last) if self.world.leads else nullcontext(All(()))
        with trackers as tracker, self.pace.watched():
            if last == 0:
                self._preview(0.0, tracker)
            else:
                done = training.settings.progress(last, training.count.seconds)
                self._shown = sum(p <= done for p in PREVIEWS) - 1
            threads = self._threads()
            stepped = time.monotonic()
            for event in training.run():
                if threads and event.validation is None:
                    threads.after_step(time.monotonic() - stepped)
                if event.step <= last:  # it went back to an earlier state
                    self._forget_lost_lines(event.step - 1)
                    self._line = -1
                last = event.step
                self._note(event, tracker)
                if event.best and self.world.leads:
                    self.write_weights("best")
                place = sum(p <= event.progress for p in PREVIEWS) - 1
                if place > self._shown:
                    self._preview(event.progress, tracker)
                yield event
                stepped = time.monotonic()

    def _note(self, event: Progress, tracker: All) -> None:
        """A line of metrics.jsonl, and what trackers are told of it, when one is due."""
        line = int(event.progress * LOG_LINES)
        due = line > self._line or event.progress >= 1
        self._line = line
        if (not due and event.validation is None) or not self.world.leads:
            return
        rate = self.training.settings.batch * event.step / max(event.seconds, 1e-9)
        row: dict[str, Any] = {
            "step": event.step, "seconds": round(event.seconds, 3), "loss": event.loss, "grad_norm": event.grad_norm,
            "lr": event.lr, "items_per_second": round(rate, 2), "memory_mib": round(machine.memory_mib()),
        }  # fmt: skip
        if event.validation:
            v = event.validation
            row |= {
                "val_loss": v.loss,
                "val_stderr": v.stderr,
                "val_n": v.n,
                "val_by_level": v.levels,
                "val_by_level_stderr": v.level_stderrs,
                "val_axis": v.axis,
                **self.watch.look(),
            }
            if event.change:
                row |= dict(zip(("val_change", "val_change_stderr"), event.change, strict=True))
        with (self.run.path / METRICS).open("a", encoding="utf-8") as log:
            log.write(json.dumps({k: _json_number(v) for k, v in row.items()}) + "\n")
        tracker.scalars(event.step, {name: row[name] for name in TOLD if name in row})

    def _forget_lost_lines(self, step: int) -> None:
        """Steps after the checkpoint's will be made again, and logged again."""
        path = self.run.path / METRICS
        if not self.world.leads or not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue  # the line that a kill cut off
        checkpoint.write_bytes(path, "".join(kept).encode())

    def _preview(self, progress: float, tracker: All) -> None:
        """The same seeds as ever, with the averaged weights as they are now; left out where that would take more than
        `PREVIEWING` of a budget of time."""
        spent, seconds = self._previewing, self.training.settings.seconds
        self._shown = sum(p <= progress for p in PREVIEWS) - 1
        if not self.training.sharded:  # else all are needed, and must agree
            late = seconds is not None and spent + self.seconds_per_preview > PREVIEWING * seconds
            if not self.world.leads or (progress and late):
                return
        run, started = self.run, time.monotonic()
        cond, columns = preview_conditions(run)
        seeds = Seeds.of(run.facts.recipe.seed, preview_count(run.facts, columns))
        x = run.decoded(self._drawn(seeds, cond)).cpu()
        shown = Samples(x, cond, 0, run.modality.of_samples, None, self.facts.columns, run.captions)
        raws = shown.raws() if self.world.leads else []
        took = time.monotonic() - started  # with raws: sounds take longer to decode than to draw
        self.seconds_per_sample, self.seconds_per_preview = took / len(seeds), took
        self._previewing += took
        if not self.world.leads:
            return
        picture = run.modality.show(raws, columns)
        folder = run.path / "samples"
        folder.mkdir(exist_ok=True)
        file = folder / f"step_{self.training.count.step:08d}.png"
        picture.save(file)
        tracker.picture(self.training.count.step, file)

    @torch.no_grad()
    def _drawn(self, seeds: Seeds, cond: Mapping[str, Tensor]) -> Tensor:
        """What the network works on, sampled with the averaged weights as they are now."""
        run, own = self.run, self.run.facts.recipe.sampling.grid
        # The run's own profile is measured when its training is over.
        grid = "logsnr" if is_entropic(own) and run.profile is None else own
        for step in run.walk(seeds, cond, denoiser=self.training.average, grid=grid):
            x: Tensor = step.x
        return x

    # -- the end ----------------------------------------------------------------------------------------

    def write_weights(self, place: str) -> None:
        """The averaged weights of the best step (or, for "now", of this moment) as ``model.safetensors``."""
        tensors: Mapping[str, Tensor] = self.training.average.state_dict()
        if place == "best" and checkpoint.exists(self.training.folder / place):
            tensors = average.best_weights(self.training, self.run.path)
        tensors = self.merged(tensors)
        about = {"kuosan": machine.versions()["kuosan"], "network": self.facts.network}
        checkpoint.save_weights(self.run.path / WEIGHTS, tensors, about)
        for name in ("model", "variances", "profile"):  # read anew
            self.run.__dict__.pop(name, None)
        self.run.forget_sequences()

    def merged(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights of what is trained as those of a model of their own."""
        return self.adapter.merged(self.training.average, tensors) if self.adapter else tensors

    def remaining(self, cost: float = 0.0) -> float | None:
        """Seconds that a budget of time has left for measuring and the report, after ``cost`` seconds of other work at
        the pace of the machine; None where it is not of time."""
        if self.budget.seconds is None or self.facts.seconds is None:
            return None
        left = self.budget.seconds - self._before - (time.monotonic() - self.started)
        return max(1.0, left - cost * self.pace.slowness)

    def share(self, part: float) -> float | None:
        """This part of `remaining`."""
        left = self.remaining()
        return None if left is None else part * left


def _apart(facts: Facts) -> set[str]:
    """Parts of the recipe that no checkpoint depends on."""
    r = facts.recipe
    unused = {"distil": not r.distil.steps, "adapter": not r.adapter.rank}
    return {"data", "sampling", "track"} | {name for name, unused in unused.items() if unused}


def preview_conditions(run: Run) -> tuple[dict[str, Tensor], int]:
    """Conditions that show every value of the first column in turn, or some held-out captions, and how many columns to
    draw."""
    facts = run.facts
    discrete, kind = facts.recipe.process.discrete, modality_class(str(facts.modality["modality"]))
    wide = "time" in kind.axes
    few = 3 if discrete or wide else 4  # texts, latents and strips of frames are large
    if run.captions and (texts := run.captions.shown[: few if facts.codec or wide else None]):
        n = preview_count(facts, len(texts))
        return facts.hidden(n) | asked_of(facts, run.captions, range(n), {CAPTION: texts}), len(texts)
    if not facts.columns:
        return {}, 9 if discrete else 3 if wide else 4 if facts.codec else 8
    name, values = next(iter(facts.columns.items()))
    k = min(len(values), few if facts.codec or discrete or wide else 12)
    n = preview_count(facts, k)
    return facts.hidden(n) | {name: torch.arange(n) % k}, k


def preview_count(facts: Facts, columns: int) -> int:
    """How many samples a preview draws."""
    if facts.recipe.process.discrete:
        return 3 * columns if facts.columns else columns
    most = 12 if facts.codec else 48
    rows = max(2, min(8, most // columns)) if facts.null or facts.codec else 6
    return rows * columns


def _json_number(value: Any) -> Any:
    return (
        None
        if isinstance(value, float) and value != value or value in (float("inf"), -float("inf"))
        else value
    )
