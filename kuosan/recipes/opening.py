"""Opening a session: for new data, or for a run that was begun before.

`settle` decides everything (data, recipe, network) and writes nothing; `prepare` writes the recipe and opens the
session; `reopen` goes on from a run's last checkpoint, however it was left.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kuosan.codecs import Codec, build_codec
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.errors import UserError
from kuosan.modalities import Dataset
from kuosan.modalities import load as load_data
from kuosan.modalities.folder import open_folder
from kuosan.networks.widen import WIDENED
from kuosan.recipes import adapters, beside, dense, machine, music, pictures, plans, texts, voxels
from kuosan.recipes import codec as codecs
from kuosan.recipes.build import build_model
from kuosan.recipes.calibrate import Speed, calibrate
from kuosan.recipes.dense import reading
from kuosan.recipes.facts import Facts
from kuosan.recipes.noise import check_noise
from kuosan.recipes.pace import Pace, cost_of, reserve
from kuosan.recipes.run import RECIPE, Run
from kuosan.recipes.schema import Recipe, fingerprint
from kuosan.recipes.session import Session
from kuosan.recipes.settled import Question, Settled
from kuosan.recipes.start import Start, starting_point
from kuosan.recipes.trackers import library
from kuosan.recipes.ways import settle_way, task_of
from kuosan.training import checkpoint, parallel
from kuosan.training.budget import Budget
from kuosan.training.parallel import World

RECIPES: dict[str, Callable[[Question], Settled]] = {
    "image": pictures.settle,
    "text": texts.settle,
    "music": music.settle,
    "plan": plans.settle,
    "points": voxels.settle,
    "shape": voxels.settle,
    "voxels": voxels.settle,
}  # of all others `dense`


@dataclass(frozen=True)
class Plan:
    """A run that is settled but not begun."""

    path: Path
    facts: Facts
    data: Dataset
    start: Start | None
    codec: Codec | None
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
    device, budget, source = machine.device(), Budget.parse(recipe.budget), Path(data)
    if recipe.track:
        library(recipe.track)  # what is not installed says so before any work is done
    start = starting_point(recipe.init) if recipe.init else None
    if recipe.adapter.rank and start is None:
        raise UserError(
            "adapter.rank needs a model to adapt: give --init RUN, or use `kuosan finetune RUN DATA`"
        )
    if start and recipe.adapter.rank:
        start = replace(start, wider=start.of.network["kind"] in WIDENED)
    modality = start.modality.name if start else open_folder(source, recipe.data.modality).modality
    pace = Pace()
    with pace.watched():
        speed = (
            calibrate(device, recipe.training.precision)
            if budget.seconds
            else Speed(torch.get_num_threads(), 1.0)
        )
    question = Question(source, recipe, start, budget, device, speed.ratio, modality)
    found = RECIPES.get(modality, dense.settle)(question)
    if start and recipe.adapter.rank:
        found, start = adapters.settle(found, start, recipe)
    dataset, resolved, choices = found.data, found.recipe, [*found.data.survey.notes, *found.choices]
    model = build_model(found.network, resolved)
    if isinstance(model, NetworkDenoiser):
        check_noise(resolved, model.process)
    if resolved.adapter.rank:
        adapters.check(model, resolved)
    count = sum(p.numel() for p in model.parameters())
    task = task_of(dataset, resolved, found.network, found.codec, model)
    part, reasons = settle_way(resolved.training, task, device, budget.seconds)
    resolved = resolved.model_copy(update={"training": part})
    choices += reasons
    left = None
    if budget.seconds is not None:
        choices.append(("threads", speed.threads, "trained fastest here and now, of one and all cores"))
        kept = reserve(budget.seconds, cost_of(dataset), pace.slowness)
        choices.append(
            ("time for the report", f"{kept:.0f} s", "sampling, measuring and writing, of the budget")
        )
        left = max(1.0, budget.seconds - (time.monotonic() - started) - kept)
    rows = (
        Counter(zip(*(dataset.train.labels[k].tolist() for k in dataset.columns), strict=True))
        if dataset.columns
        else {}
    )
    facts = Facts(
        recipe=resolved,
        network=found.network,
        modality=dataset.modality.spec(),
        columns={k: list(v) for k, v in dataset.columns.items()},
        class_names=dict(dataset.survey.class_names),
        frequencies=[(list(row), n) for row, n in sorted(rows.items())],
        data_fingerprint=data_fingerprint(dataset),
        items=len(dataset.train),
        choices=choices,
        asked=asked,
        seconds=left,
        codec=found.codec.spec() if found.codec else None,
    )
    return Plan(out or default_folder(source), facts, dataset, start, found.codec, count)


def prepared(plan: Plan) -> Plan:
    """The plan with what its modality learns of the training data before all else, if anything: not of a model's that
    it starts from, which has learned it."""
    facts = plan.facts
    first = dense.FIRST.get(plan.data.modality.name)
    if first is None or plan.start is not None:
        return plan
    data, choice, took = first(plan.data, facts.recipe, machine.device(), facts.seconds)
    left = None if facts.seconds is None else max(1.0, facts.seconds - took)
    facts = replace(facts, modality=data.modality.spec(), choices=[*facts.choices, choice], seconds=left)
    return replace(plan, data=data, facts=facts)


def data_fingerprint(data: Dataset) -> str:
    """Changes with the items, their names (which order them), their conditions and their side."""
    sides = [[s.names, {k: v.tolist() for k, v in s.labels.items()}] for s in (data.train, data.val)]
    return fingerprint([data.survey.fingerprint, sides])


def prepare(
    data: str | Path,
    *,
    out: str | Path | None = None,
    recipe: Recipe,
    asked: dict[str, Any],
    started: float | None = None,
    folder: Path | None = None,
) -> Session:
    """A session for this data and recipe: a new one, or the one that the same command began before, in ``out`` or else
    in ``folder`` or the next free folder after it; in `default_folder` unless given.

    A budget of time counts from ``started``, a reading of `time.monotonic`; from now unless given.

    Raises:
        UserError: the folder holds another run, or what `settle` raises.
    """
    asked = json.loads(
        json.dumps({"data": str(Path(data).resolve()), **asked}, default=str)
    )  # as it will be read back
    started, world = time.monotonic() if started is None else started, parallel.join()
    if not world.leads:
        return reopen(_shared(world), started=started)
    path = Path(out) if out else folder_for(folder or default_folder(Path(data)), asked)
    if is_begun(path, asked):
        world.tell(str(path.absolute()))
        return reopen(path, started=started)
    plan = prepared(settle(data, path, recipe, asked, started=started))
    write_files(path, plan.data)
    checkpoint.write_bytes(path / RECIPE, plan.facts.to_yaml().encode())
    checkpoint.write_json(path / "data.json", plan.data.survey.to_json())
    beside.keep(path, plan.data)
    world.tell(str(path.absolute()))
    return Session(Run(path), plan.data, plan.start, started, codec=plan.codec)


def write_files(path: Path, data: Dataset) -> None:
    """What a run keeps of its data beside the recipe, and before it, as that is what makes a run."""
    captions = data.captions.files() if data.captions else {}
    for name, content in (data.modality.files() | captions).items():
        checkpoint.write_bytes(path / name, content)


def _shared(world: World) -> Path:
    """The run's folder as the first process made it.

    Raises:
        UserError: it is not to be seen from here.
    """
    path = Path(world.tell())
    if not (path / RECIPE).exists():
        raise UserError(
            f"process {world.rank} of {world.size} does not see the run's folder {path}: give --out a folder on a file "
            "system that all machines share"
        )
    return path


def begun(path: Path, asked: dict[str, Any], started: float) -> Session | None:
    """The session that the same command began in this folder; None where one can be begun; raises as `is_begun`."""
    return reopen(path, started=started) if is_begun(path, asked) else None


def is_begun(path: Path, asked: dict[str, Any]) -> bool:
    """Whether the same command began a run in this folder.

    Raises:
        UserError: the folder holds another run, or other files.
    """
    if (path / RECIPE).exists():
        if Run(path).facts.asked != asked:
            raise UserError(
                f"{path} already holds a run that was started differently: give another --out, or `kuosan resume "
                f"{path}` to go on with it"
            )
        return True
    if not is_free(path):
        raise UserError(f"{path} exists and is not an empty folder: give another --out")
    return False


def is_free(path: Path) -> bool:
    """Whether a run can be begun here; what a killed process left half written does not count."""
    return not path.exists() or (path.is_dir() and all(p.match(".*.tmp") for p in path.iterdir()))


def folder_for(path: Path, asked: dict[str, Any]) -> Path:
    """``path``, or the first of path-2, path-3 … that is free or was begun by the same command."""
    number, here = 1, path
    while here.exists():
        if (here / RECIPE).exists() and Facts.read(here / RECIPE).asked == asked:
            return here
        if is_free(here):
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
    parallel.join()
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
    data = load_data(
        source, like=run.modality, columns=facts.columns, captions=run.captions, options=reading(facts)
    )
    if data_fingerprint(data) != facts.data_fingerprint:
        raise UserError(
            f"the data {source} has changed since the run {path} was begun: put it back as it was, or train anew with "
            f"`kuosan train {source} --init {path} --out NEW`"
        )
    data = replace(data, survey=replace(data.survey, notes=()))
    begun = checkpoint.exists(run.path / "checkpoints/last")
    start = starting_point(facts.recipe.init) if facts.recipe.init and not begun else None
    if start and facts.recipe.adapter.rank:
        start = adapters.begin(start, facts.columns, facts.recipe.adapter, facts.recipe.init)
    if facts.seconds is not None:
        calibrate(machine.device())
    return Session(run, data, start, started, codec=_codec(facts, start, run))


def _codec(facts: Facts, start: Start | None, run: Run) -> Codec | None:
    """The codec of a run that was begun, as it was then."""
    if facts.codec is None:
        return None
    if start is not None:
        return start.codec
    seed = facts.recipe.seed
    if facts.recipe.codec.path and not checkpoint.exists(run.path / "checkpoints/codec"):
        return codecs.build(facts.recipe.codec, seed, run.shape)
    return build_codec(facts.codec, codecs.generator(seed))


def lock(path: Path) -> Any:
    """An exclusive hold on a run's folder, so that two processes never write one run; released on exit. Of processes
    that train together the one that writes has it, and the others hold nothing.

    Raises:
        UserError: another process holds it.
    """
    import fcntl

    if not parallel.world().leads:
        return os.open(os.devnull, os.O_RDONLY)
    path.mkdir(parents=True, exist_ok=True)
    handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise UserError(f"another process is training {path}: wait for it, or give another --out") from None
    return handle
