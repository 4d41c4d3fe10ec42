"""A training session: data in, a run's folder out.

`prepare` settles everything (data, recipe, network) and writes the recipe; `Session.steps` trains, yielding
progress, and leaves metrics, previews and checkpoints; `Session.finish` writes the weights, measures the model
and writes the report. Killed at any point, `reopen` goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import Dataset
from kuosan.modalities import load as load_data
from kuosan.recipes import image, machine
from kuosan.recipes.build import build_denoiser, build_objective, build_settings
from kuosan.recipes.calibrate import Speed, calibrate
from kuosan.recipes.run import RECIPE, WEIGHTS, Facts, Run
from kuosan.recipes.schema import Recipe, fingerprint
from kuosan.recipes.start import starting_point
from kuosan.training import checkpoint
from kuosan.training.budget import Budget
from kuosan.training.loop import Progress, Training

METRICS = "metrics.jsonl"
PREVIEWS = (0.0, 0.02, 0.06, 0.15, 0.35, 0.65, 1.0)
LOG_LINES = 400


def reserve(seconds: float) -> float:
    """What of a budget of time is kept for sampling, measuring and the report."""
    return min(0.5 * seconds, 5 + 0.06 * seconds, 240.0)


@dataclass(frozen=True)
class Plan:
    """A run that is settled but not begun."""

    path: Path
    facts: Facts
    data: Dataset
    start: Mapping[str, Tensor] | None
    parameters: int


def default_folder(data: Path) -> Path:
    """runs/NAME, where NAME is the data's."""
    return Path("runs") / (data.resolve().stem if data.is_file() else data.resolve().name)


def settle(
    data: str | Path, out: Path | None, recipe: Recipe, asked: dict[str, Any], *, started: float | None = None
) -> Plan:
    """Load the data and decide every leaf; nothing is written. A budget of time counts from ``started``, a
    reading of `time.monotonic`, which is now unless given.

    Raises:
        UserError: unusable data, a recipe that does not fit it, or an unknown budget.
    """
    started = time.monotonic() if started is None else started
    device, budget = machine.device(), Budget.parse(recipe.budget)
    source = Path(data)
    init = starting_point(recipe.init) if recipe.init else None
    dataset = load_data(
        source,
        modality=recipe.data.modality,
        max_side=image.max_side(recipe, device),
        size=recipe.data.size,
        like=init.modality if init else None,
        columns=init.columns if init else None,
    )
    if not len(dataset.train):
        raise UserError(f"{source} holds nothing to train on: give a folder with pictures")
    worth = 0.9 * budget.seconds if budget.seconds else 600.0
    speed = calibrate(device) if budget.seconds else Speed(torch.get_num_threads(), 1.0)
    resolved, network, choices = image.resolve(
        recipe.updated({"data.path": str(source.resolve())}),
        dataset,
        worth,
        device,
        init.facts() if init else None,
        speed.ratio,
    )
    left = None
    if budget.seconds is not None:
        choices.append(("threads", speed.threads, "trained fastest here and now, of one and all cores"))
        left = max(1.0, budget.seconds - (time.monotonic() - started) - reserve(budget.seconds))
    rows = (
        Counter(zip(*(v.tolist() for v in dataset.train.labels.values()), strict=True))
        if dataset.columns
        else {}
    )
    facts = Facts(
        recipe=resolved,
        network=network,
        modality=dataset.modality.spec(),
        columns={k: list(v) for k, v in dataset.columns.items()},
        class_names=dict(dataset.survey.class_names),
        frequencies=[(list(row), n) for row, n in sorted(rows.items())],
        data_fingerprint=data_fingerprint(dataset),
        items=len(dataset.train),
        choices=[*dataset.survey.notes, *choices],
        asked=asked,
        seconds=left,
    )
    model = build_denoiser(network, resolved.schedule, resolved.objective, resolved.seed)
    count = sum(p.numel() for p in model.parameters())
    return Plan(out or default_folder(source), facts, dataset, init.weights if init else None, count)


def data_fingerprint(data: Dataset) -> str:
    """Changes with the items, their names (which order them), their conditions and their side."""
    sides = [[s.names, {k: v.tolist() for k, v in s.labels.items()}] for s in (data.train, data.val)]
    return fingerprint([data.survey.fingerprint, sides])


class Session:
    """A run in progress in its folder."""

    def __init__(
        self, run: Run, data: Dataset, start: Mapping[str, Tensor] | None = None, started: float | None = None
    ):
        self.run, self.data = run, data
        self.started = time.monotonic() if started is None else started
        facts = self.facts = run.facts
        r = facts.recipe
        self.budget = Budget.parse(r.budget)
        settings = build_settings(r.training, r.seed, self.budget, facts.seconds)
        denoiser = build_denoiser(facts.network, r.schedule, r.objective, r.seed)
        if start is not None:
            denoiser.load_state_dict(start)
        self.training = Training(
            denoiser,
            build_objective(r.objective),
            data.train,
            data.val,
            settings,
            run.path / "checkpoints",
            null=facts.null,
            identity={
                "recipe": fingerprint(
                    [r.model_dump(mode="json", exclude={"data", "sampling"}), facts.network]
                ),
                "data": facts.data_fingerprint,
            },
            device=machine.device(),
        )
        self.resumed = self.training.resume()
        self._before = self.training.count.seconds
        self.seconds_per_sample = 0.05
        self._shown = self._line = -1

    # -- training ---------------------------------------------------------------------------------------

    def steps(self) -> Iterator[Progress]:
        """Train to the end, writing as it goes; raises what `Training.run` raises."""
        from tensorboardX import SummaryWriter

        training, path = self.training, self.run.path
        for left in path.glob(".*.tmp"):  # of a process that was killed as it wrote
            left.unlink(missing_ok=True)
        self._forget_lost_lines(training.count.step)
        if training.count.step == 0:
            self._preview(0.0)
        else:
            self._shown = (
                sum(
                    p <= training.settings.progress(training.count.step, training.count.seconds)
                    for p in PREVIEWS
                )
                - 1
            )
        last = training.count.step
        with SummaryWriter(str(path / "tensorboard"), purge_step=training.count.step or None) as board:
            for event in training.run():
                if event.step <= last:  # it went back to an earlier state
                    self._forget_lost_lines(event.step - 1)
                    self._line = -1
                last = event.step
                self._note(event, board)
                if event.best:
                    self.write_weights("best")
                place = sum(p <= event.progress for p in PREVIEWS) - 1
                if place > self._shown:
                    self._preview(event.progress)
                yield event

    def _note(self, event: Progress, board: Any) -> None:
        """A line of metrics.jsonl and its TensorBoard twin, when one is due."""
        line = int(event.progress * LOG_LINES)
        due = line > self._line or event.progress >= 1
        self._line = line
        if not due and event.validation is None:
            return
        rate = self.training.settings.batch * event.step / max(event.seconds, 1e-9)
        row: dict[str, Any] = {
            "step": event.step, "seconds": round(event.seconds, 3), "loss": event.loss, "grad_norm": event.grad_norm,
            "lr": event.lr, "items_per_second": round(rate, 2), "memory_mib": round(machine.memory_mib()),
        }  # fmt: skip
        if event.validation:
            v = event.validation
            row |= {"val_loss": v.loss, "val_stderr": v.stderr, "val_n": v.n, "val_by_level": v.levels}
        with (self.run.path / METRICS).open("a", encoding="utf-8") as log:
            log.write(json.dumps({k: _json_number(v) for k, v in row.items()}) + "\n")
        for name in ("loss", "grad_norm", "lr", "val_loss"):
            if name in row:
                board.add_scalar(name, row[name], event.step)

    def _forget_lost_lines(self, step: int) -> None:
        """Steps after the checkpoint's will be made again, and logged again."""
        path = self.run.path / METRICS
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue  # the line that a kill cut off
        checkpoint.write_bytes(path, "".join(kept).encode())

    def _preview(self, progress: float) -> None:
        """The same seeds as ever, with the averaged weights as they are now."""
        self._shown = sum(p <= progress for p in PREVIEWS) - 1
        run, started = self.run, time.monotonic()
        cond, columns = preview_conditions(run.facts)
        seeds = Seeds.of(run.facts.recipe.seed, preview_count(run.facts, columns))
        with torch.no_grad():
            for step in run.walk(seeds, cond, denoiser=self.training.average):
                x = step.x
        self.seconds_per_sample = (time.monotonic() - started) / len(seeds)
        picture = run.modality.show(run.modality.decode(x.cpu()), columns)
        folder = run.path / "samples"
        folder.mkdir(exist_ok=True)
        picture.save(folder / f"step_{self.training.count.step:08d}.png")

    # -- the end ----------------------------------------------------------------------------------------

    def write_weights(self, place: str) -> None:
        """The averaged weights of a checkpoint (or, for "now", of this moment) as ``model.safetensors``."""
        tensors = self.training.average.state_dict()
        if place == "best" and checkpoint.exists(self.training.folder / place):
            saved, _ = checkpoint.load(self.training.folder / place)
            tensors = {k.removeprefix("average."): v for k, v in saved.items() if k.startswith("average.")}
        about = {"kuosan": machine.versions()["kuosan"], "network": self.facts.network}
        checkpoint.save_weights(self.run.path / WEIGHTS, tensors, about)
        self.run.__dict__.pop("denoiser", None)  # read anew

    def remaining(self) -> float | None:
        """Seconds that a budget of time has left for measuring and the report; None where it is not of time."""
        if self.budget.seconds is None or self.facts.seconds is None:
            return None
        return max(5.0, self.budget.seconds - self._before - (time.monotonic() - self.started))


def preview_conditions(facts: Facts) -> tuple[dict[str, Tensor], int]:
    """Conditions that show every value of the first column in turn, and the number of columns to draw."""
    if not facts.columns:
        return {}, 8
    name, values = next(iter(facts.columns.items()))
    k = min(len(values), 12)
    n = preview_count(facts, k)
    cond = {other: torch.full((n,), facts.null[other], dtype=torch.int64) for other in facts.columns}
    cond[name] = torch.arange(n) % k
    return cond, k


def preview_count(facts: Facts, columns: int) -> int:
    """How many samples a preview draws."""
    rows = max(2, min(8, 48 // columns)) if facts.columns else 6
    return rows * columns


def _json_number(value: Any) -> Any:
    return (
        None
        if isinstance(value, float) and value != value or value in (float("inf"), -float("inf"))
        else value
    )


# -- opening ------------------------------------------------------------------------------------------------


def prepare(
    data: str | Path,
    *,
    out: str | Path | None = None,
    recipe: Recipe,
    asked: dict[str, Any],
    started: float | None = None,
) -> Session:
    """A session for this data and recipe: a new one, or the one that the same command began before.

    A budget of time counts from ``started``, a reading of `time.monotonic`; from now unless given.

    Raises:
        UserError: the folder holds another run, or what `settle` raises.
    """
    asked = json.loads(
        json.dumps({"data": str(Path(data).resolve()), **asked}, default=str)
    )  # as it will be read back
    started = time.monotonic() if started is None else started
    path = Path(out) if out else _free_folder(default_folder(Path(data)), asked)
    if (path / RECIPE).exists():
        run = Run(path)
        if run.facts.asked != asked:
            raise UserError(
                f"{path} already holds a run that was started differently: give another --out, or `kuosan resume "
                f"{path}` to go on with it"
            )
        return reopen(path, started=started)
    if not _is_free(path):
        raise UserError(f"{path} exists and is not an empty folder: give another --out")
    plan = settle(data, path, recipe, asked, started=started)
    checkpoint.write_bytes(path / RECIPE, plan.facts.to_yaml().encode())
    checkpoint.write_json(path / "data.json", plan.data.survey.to_json())
    return Session(Run(path), plan.data, plan.start, started)


def _is_free(path: Path) -> bool:
    """Whether a run can be begun here; what a killed process left half written does not count."""
    return not path.exists() or (path.is_dir() and all(p.match(".*.tmp") for p in path.iterdir()))


def _free_folder(path: Path, asked: dict[str, Any]) -> Path:
    """``path``, or the first of path-2, path-3 … that is free or was begun by the same command."""
    number, here = 1, path
    while here.exists():
        if (here / RECIPE).exists() and Facts.read(here / RECIPE).asked == asked:
            return here
        if _is_free(here):
            return here
        number += 1
        here = path.with_name(f"{path.name}-{number}")
    return here


def reopen(path: str | Path, *, started: float | None = None) -> Session:
    """The session of a run that was begun: from its last checkpoint.

    Raises:
        UserError: no run, other data than it was begun with, or a damaged checkpoint.
    """
    started = time.monotonic() if started is None else started
    run = Run(path)
    if run.foreign:
        raise UserError(
            f"{path} is a diffusers pipeline, not a run: start one from it with `kuosan train DATA --init {path}`"
        )
    facts = run.facts
    source = Path(facts.recipe.data.path)
    if not source.exists():
        raise UserError(
            f"the data {source} of the run {path} is gone: put it back, or change data.path in {run.path / RECIPE}"
        )
    data = load_data(source, like=run.modality, columns=facts.columns)
    if data_fingerprint(data) != facts.data_fingerprint:
        raise UserError(
            f"the data {source} has changed since the run {path} was begun: put it back as it was, or train anew with "
            f"`kuosan train {source} --init {path} --out NEW`"
        )
    data = replace(data, survey=replace(data.survey, notes=()))
    start = (
        starting_point(facts.recipe.init).weights
        if facts.recipe.init and not checkpoint.exists(run.path / "checkpoints/last")
        else None
    )
    if facts.seconds is not None:
        calibrate(machine.device())
    return Session(run, data, start, started)


def lock(path: Path) -> Any:
    """An exclusive hold on a run's folder, so that two processes never write one run; released on exit.

    Raises:
        UserError: another process holds it.
    """
    import fcntl

    path.mkdir(parents=True, exist_ok=True)
    handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise UserError(f"another process is training {path}: wait for it, or give another --out") from None
    return handle
