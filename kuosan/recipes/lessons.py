"""The first stage of a student's run: its teacher walks from noise to data, and the ways are kept.

`Lessons` belongs to a session. Pairs are made in chunks, each a file of its own in ``checkpoints/pairs`` and a function
of the seed and its number, so that a kill costs one chunk. How many they are follows from the budget: ``distil.share``
of its steps, at what a walk costs beside a step of training, or of its time. With the last of them comes
``pairs.json``; once the run is finished the files are removed, and that stays.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.adapt.trajectories import ListedTiming, Regression, trajectories
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.recipes.facts import Facts
from kuosan.recipes.run import Run
from kuosan.solvers import Solver, solver
from kuosan.training.checkpoint import write_bytes, write_json
from kuosan.training.data import drop_conditions
from kuosan.training.settings import Precision, casting

CHUNK = 64
HELD_OUT = 2  # chunks, never learned from
BACKWARD = 3  # calls of the network that a step of training is worth per example
ALL = "pairs.json"


class Pairs:
    """Trajectories with their conditions, from `fill` on."""

    def __init__(self) -> None:
        self._x: Tensor | None = None
        self._cond: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return 0 if self._x is None else len(self._x)

    def fill(self, parts: list[dict[str, Tensor]]) -> None:
        """With what the chunks hold."""
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        self._x = joined.pop("x")
        self._cond = {name.removeprefix("condition."): value for name, value in joined.items()}

    def batch(
        self, index: Int64[Tensor, " b"], seeds: Seeds | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Points and ends (b, k+1, ...), see `trajectories`."""
        assert self._x is not None, "the teacher comes first"
        return self._x[index], {name: value[index] for name, value in self._cond.items()}


class Lessons:
    """The pairs of a session.

    Args:
        path: the run's folder.
        steps, seconds: the budget, of one kind or the other, for pairs and training together.

    ``steps`` and ``left`` are what remains of it for training; ``count`` and ``seconds`` what the pairs came to.
    """

    def __init__(self, path: Path, facts: Facts, steps: int | None, seconds: float | None) -> None:
        self.path, self.facts, self.part = path, facts, facts.recipe.distil
        self.folder = path / "checkpoints" / "pairs"
        self.train, self.val = Pairs(), Pairs()
        self.objective = Regression(ListedTiming(self.part.times))
        self.steps = None if steps is None else max(1, round((1 - self.part.share) * steps))
        self.left, self._budget, self._wanted = seconds, seconds, 0
        if steps is not None:
            self._wanted = pairs_of(facts, steps)
        self.count, self.seconds, self.made = 0, 0.0, False
        if (self.folder / ALL).is_file():
            self._read()

    def _read(self) -> None:
        """What was made before."""
        try:
            told = json.loads((self.folder / ALL).read_text(encoding="utf-8"))
            self.count, self.seconds, self.left = int(told["pairs"]), float(told["seconds"]), told["left"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise UserError(
                f"{self.folder / ALL} is damaged: remove the folder {self.folder}, and the pairs are made anew"
            ) from e
        self.made = True

    def make(self, tell: Callable[[int, float], None] = lambda pairs, progress: None) -> None:
        """Walk the teacher, or read what it walked before.

        Args:
            tell: is told how many pairs there are and how far that is, from 0 to 1.

        Raises:
            UserError: the teacher is gone, or a chunk is damaged.
        """
        if len(self.train):
            return
        if not self.made and (self.folder / ALL).is_file():  # by another process
            self._read()
        if not self.made:
            self._make(tell)
        chunks = range(self.count // CHUNK)
        self.train.fill([self._load(self._file("train", i)) for i in chunks])
        self.val.fill([self._load(self._file("held-out", i)) for i in range(HELD_OUT)])

    def _make(self, tell: Callable[[int, float], None]) -> None:
        teacher = Teacher(self.facts)
        for i in range(HELD_OUT):
            self._chunk(teacher, "held-out", i)
        number, progress = 0, 0.0
        while progress < 1:
            self._chunk(teacher, "train", number)
            number += 1
            if self._budget is None:
                progress = CHUNK * number / self._wanted
            else:
                progress = self.seconds / (self.part.share * self._budget)
            tell(CHUNK * number, min(1.0, progress))
        self.count, self.made = CHUNK * number, True
        if self._budget is not None:
            self.left = max(1.0, self._budget - self.seconds)
        write_json(self.folder / ALL, {"pairs": self.count, "seconds": self.seconds, "left": self.left})

    def _chunk(self, teacher: Teacher, side: str, number: int) -> None:
        """Make a chunk unless it is there, and count the time that it took when it was made."""
        path = self._file(side, number)
        if path.is_file():
            with safetensors.safe_open(path, framework="pt") as file:
                self.seconds += float((file.metadata() or {}).get("seconds", 0))
            return
        started = time.monotonic()
        x, cond = teacher.walk(range(CHUNK * number, CHUNK * (number + 1)), side)
        took = time.monotonic() - started
        tensors = {"x": x} | {f"condition.{name}": value.contiguous() for name, value in cond.items()}
        write_bytes(path, safetensors.torch.save(tensors, metadata={"seconds": f"{took:.6f}"}))
        self.seconds += took

    def _file(self, side: str, number: int) -> Path:
        return self.folder / f"{side}-{number:05d}.safetensors"

    def _load(self, path: Path) -> dict[str, Tensor]:
        try:
            return safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as e:
            raise UserError(
                f"the pairs {path} are gone or damaged: remove the folder {self.folder}, and they are made anew"
            ) from e

    def forget(self) -> None:
        """Remove the pairs of a finished run: its seed gives them again."""
        told = self.folder / ALL
        for path in self.folder.glob("*"):
            if path != told:
                path.unlink(missing_ok=True) if path.is_file() else shutil.rmtree(path, ignore_errors=True)


class Teacher:
    """The run of ``init``, walking."""

    def __init__(self, facts: Facts) -> None:
        self.run, self.part, self.seed = Run(facts.recipe.init), facts.recipe.distil, facts.recipe.seed
        self.rule, self.grid = teacher_rule(self.run), self.run.grid(self.part.walk, teacher_grid(self.run))
        self.denoiser = self.run.guided(self.part.w if facts.null else 1.0)
        recipe = self.run.facts.recipe
        self.hidden = recipe.training.drop if facts.null else 0.0
        precision = facts.recipe.training.precision
        self.precision: Precision = "float32" if precision == "auto" else precision

    def walk(self, numbers: range, side: str) -> tuple[Tensor, dict[str, Tensor]]:
        """The trajectories of these numbers, on the CPU, under conditions as frequent and as often hidden as in the
        teacher's training."""
        run, seeds = self.run, Seeds.of(self.seed, numbers).fold("pairs", side)
        cond = run.conditions(self.seed, numbers)
        cond = drop_conditions(cond, run.facts.null, self.hidden, seeds)
        device = next(self.denoiser.parameters()).device
        like = torch.empty(len(numbers), *run.latent_shape, device=device)
        z = run.denoiser.process.prior(like, seeds.fold("prior"))
        with torch.inference_mode(), casting(self.precision, device):
            x = trajectories(
                self.denoiser, self.rule, self.grid, self.part.times, z, seeds,
                **{name: value.to(device) for name, value in cond.items()},
            )  # fmt: skip
        return x.cpu().clone(), cond


def teacher_rule(run: Run) -> Solver[Any]:
    """The run's own solver, or DEIS where that draws noise on its way."""
    own = solver(run.facts.recipe.sampling.solver)
    return solver("deis") if own.draws else own


def teacher_grid(run: Run) -> str:
    """The grid that goes with it."""
    own = run.facts.recipe.sampling
    return "karras:7" if solver(own.solver).draws else own.grid


def pairs_of(facts: Facts, steps: int) -> int:
    """How many pairs are worth ``distil.share`` of a budget of training steps, in whole chunks."""
    part, batch = facts.recipe.distil, facts.recipe.training.batch
    assert isinstance(batch, int)
    walk = (part.walk + len(part.times) - 1) * (2 if part.w != 1 and facts.null else 1)
    return max(1, round(part.share * steps * batch * BACKWARD / walk / CHUNK)) * CHUNK
