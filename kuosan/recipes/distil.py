"""A student of a run: fewer steps, in a run's folder of its own. The same as `kuosan distil`.

The student has its teacher's network, schedule and data, and starts at its weights. What it learns stands in
`kuosan.adapt.trajectories`, how its pairs are made in `lessons`.

Of two ways that were tried, this one was built. Easy consistency tuning (Geng et al. 2024), which needs no walks, ends
several times further from the data within the time that a small model takes to train; see
benchmarks/results/distillation.md.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kuosan.errors import UserError
from kuosan.modalities import Dataset
from kuosan.modalities import load as load_data
from kuosan.processes.additive import AdditiveProcess
from kuosan.recipes import machine
from kuosan.recipes.calibrate import calibrate
from kuosan.recipes.facts import Facts
from kuosan.recipes.lessons import teacher_grid
from kuosan.recipes.opening import begun, data_fingerprint, folder_for, write_files
from kuosan.recipes.pace import Pace, cost_of, reserve
from kuosan.recipes.run import RECIPE, Run
from kuosan.recipes.schema import AdapterPart, DistilPart, SamplingPart
from kuosan.recipes.session import Session
from kuosan.recipes.start import starting_point
from kuosan.recipes.student import GRID, SOLVER
from kuosan.recipes.train import to_the_end
from kuosan.training import checkpoint
from kuosan.training.budget import Budget

KNOWN = (1, 2, 4)
# Noise over signal at the times after the first.
BETWEEN: dict[int, tuple[float, ...]] = {1: (), 2: (1.2,), 4: (4.0, 1.2, 0.5)}
# Fashion-MNIST, two steps, Fréchet distance of an encoder after as many examples in batches of 128, 64 and 32: 2.88,
# 2.81 and 2.77 (teacher 2.61); but a second of training has a sixth fewer of them in batches of 32 than of 64.
BATCH = 64
LOOKS = 8  # at held-out pairs, which all have one course: twenty take a tenth of a short training
RATE = 4e-3  # the highest of the learning rate for a network of unknown history, times √(96/width)


def distil(
    run: Run | str | Path,
    steps: int = 1,
    *,
    budget: str | None = None,
    w: float | None = None,
    seed: int = 0,
    data: str | Path | None = None,
    out: str | Path | None = None,
) -> Run:
    """A student of ``run`` that needs ``steps`` steps.

    Args:
        steps: 1, 2 or 4.
        budget: of everything, as of `train`; the teacher's own unless given. Of one in steps or images a quarter is
            spent on walks of the teacher that cost as much.
        w: guidance weight to be learned with the rest; the teacher's own unless given. The student samples without.
        data: to measure against; the teacher's own unless given.
        out: the student's folder; TEACHER-1-step unless given. One that the same call began there is gone on with.

    Raises:
        UserError: what the user has to mend, in one sentence.
    """
    return to_the_end(prepare(run, steps, budget=budget, w=w, seed=seed, data=data, out=out))


def prepare(
    run: Run | str | Path,
    steps: int = 1,
    *,
    budget: str | None = None,
    w: float | None = None,
    seed: int = 0,
    data: str | Path | None = None,
    out: str | Path | None = None,
    started: float | None = None,
) -> Session:
    """A session for this student: a new one, or the one that the same call began before.

    A budget of time counts from ``started``, a reading of `time.monotonic`; from now unless given.

    Raises:
        UserError: as `distil`.
    """
    started = time.monotonic() if started is None else started
    teacher = run if isinstance(run, Run) else Run(run)
    check_teacher(teacher, steps, w)
    own = teacher.facts.recipe
    told = str(Path(data).resolve()) if data else own.data.path
    asked: dict[str, Any] = {
        "distil": str(teacher.path.resolve()), "steps": steps, "budget": budget or own.budget,
        "w": own.sampling.w if w is None else w, "seed": seed, "data": told,
    }  # fmt: skip
    asked = json.loads(json.dumps(asked))  # as it will be read back
    named = f"{teacher.path.resolve().name}-{steps}-step"
    path = Path(out) if out else folder_for(teacher.path.parent / named, asked)
    return begun(path, asked, started) or _begin(teacher, path, asked, started)


def check_teacher(teacher: Run, steps: int, w: float | None = None) -> None:
    """UserError where nothing can be learned from a run, or not in so many steps."""
    if steps not in KNOWN:
        raise UserError(
            f"a student of {steps} steps is not to be had: give --steps 1, 2 or 4, or take {steps} steps of "
            f"{teacher.path} itself with `kuosan sample --steps {steps}`"
        )
    facts = teacher.facts
    if facts.recipe.distil.steps:
        raise UserError(
            f"{teacher.path} is a student itself, which knows too little to teach: distil its own teacher, "
            f"`kuosan distil {facts.recipe.init} --steps {steps}`"
        )
    if facts.network.get("beside"):
        raise UserError(
            f"{teacher.path} looks at what stands beside each item, of which its walks from noise would have to "
            "be told one by one: sample it in few steps, as `kuosan tune` finds them"
        )
    process = teacher.denoiser.process  # a run without weights says so here
    if not isinstance(process, AdditiveProcess):
        raise UserError(
            f"{teacher.path} is {process}, which has no flow from noise to data that a student could learn the end "
            "of: sample it in many steps, or train with noise=gaussian"
        )
    if w not in (None, 1) and not facts.null:
        raise UserError(f"guidance w={w:g} needs conditions and {teacher.path} has none: leave --w away")


def _begin(teacher: Run, path: Path, asked: dict[str, Any], started: float) -> Session:
    if not asked["data"]:
        raise UserError(
            f"{teacher.path} is a pipeline without data, and a student is measured against some: name a folder with "
            "--data"
        )
    if not Path(asked["data"]).exists():
        raise UserError(
            f"the data {asked['data']} of {teacher.path} is gone: name where it is, or other data to measure the "
            "student against, with --data"
        )
    columns, captions = teacher.facts.columns, teacher.captions
    dataset = load_data(asked["data"], like=teacher.modality, columns=columns, captions=captions)
    facts = student_facts(teacher, asked)
    facts = replace(
        facts,
        data_fingerprint=data_fingerprint(dataset),
        items=len(dataset.train),
        seconds=_left(facts, dataset, started),
    )
    write_files(path, dataset)
    checkpoint.write_bytes(path / RECIPE, facts.to_yaml().encode())
    checkpoint.write_json(path / "data.json", dataset.survey.to_json())
    start = starting_point(facts.recipe.init)
    return Session(Run(path), dataset, start, started, codec=start.codec)


def _left(facts: Facts, dataset: Dataset, started: float) -> float | None:
    """Of a budget of time, what is there for pairs and training."""
    budget = Budget.parse(facts.recipe.budget)
    if budget.seconds is None:
        return None
    pace = Pace()
    with pace.watched():
        calibrate(machine.device())
    kept = reserve(budget.seconds, cost_of(dataset), pace.slowness)
    return max(1.0, budget.seconds - (time.monotonic() - started) - kept)


def student_times(teacher: Run, steps: int) -> tuple[float, ...]:
    """Where a student is to know its teacher's way: at its beginning, and at noise over signal of `BETWEEN`."""
    schedule = teacher.denoiser.schedule
    first = teacher.grid(DistilPart().walk, teacher_grid(teacher))[0]
    ratios = torch.tensor(BETWEEN[steps], dtype=torch.float64)
    with torch.no_grad():
        between = schedule.time_of(-2 * ratios.log()).clamp(0, 1).tolist() if len(ratios) else []
    return (float(first), *between)


def student_facts(teacher: Run, asked: dict[str, Any]) -> Facts:
    """The facts of a student, but for those of its data."""
    of, steps, w = teacher.facts, int(asked["steps"]), float(asked["w"])
    own, network = of.recipe, dict(of.network)
    if network.get("dropout"):
        network["dropout"] = 0.0
    batch = min(own.training.batch, BATCH) if own.training.batch != "auto" else BATCH
    width = network.get("dim") or 1.5 * network.get("base", 64)
    lr = own.training.lr if own.training.lr != "auto" and not own.init else RATE * math.sqrt(96 / width)
    optimizer = "muon" if network["kind"] == "transformer" else own.training.optimizer
    part = DistilPart(steps=steps, w=w, times=student_times(teacher, steps))
    recipe = own.model_copy(
        update={
            "seed": asked["seed"],
            "budget": asked["budget"],
            "init": asked["distil"],
            "data": own.data.model_copy(update={"path": asked["data"]}),
            "training": own.training.model_copy(
                update={
                    "batch": batch,
                    "lr": float(f"{lr:.2g}"),
                    "drop": 0.0,
                    "patience": 0,
                    "validations": min(own.training.validations, LOOKS),
                    "optimizer": optimizer,
                }
            ),
            "sampling": SamplingPart(steps=steps, solver=SOLVER, grid=GRID, w=1.0),
            "distil": part,
            "adapter": AdapterPart(),  # the teacher's are in its weights
        }
    )
    choices = [
        ("distil.steps", steps, "asked for"),
        ("distil.w", w, "guidance of the teacher, in the student's weights from then on"),
        (
            "distil.times",
            ", ".join(f"{t:.3f}" for t in part.times),
            "where the student knows its teacher's way",
        ),
        ("distil.walk", part.walk, "steps of the teacher for each pair"),
        ("distil.share", part.share, "of the budget for the pairs"),
        ("network", network["kind"], f"from {asked['distil']}"),
        (
            "training.batch",
            batch,
            "as the teacher's"
            if batch == own.training.batch
            else "more steps with as many examples come closer",
        ),
        (
            "training.optimizer",
            optimizer,
            "closer than AdamW in as many steps" if optimizer == "muon" else "as the teacher's",
        ),
        ("training.lr", recipe.training.lr, "as the teacher's: a student of few steps has far to go"),
    ]
    return replace(of, recipe=recipe, network=network, choices=choices, asked=asked, version="")
