"""Trackers: who else is told of a training, besides ``metrics.jsonl``.

TensorBoard always is, in the run's folder. Weights & Biases or Trackio are where the leaf ``track`` says so; both write
to this machine. Nothing is sent anywhere unless the user's own settings for them say so (WANDB_MODE=online,
TRACKIO_SPACE_ID). A new one is a class with the methods of `Tracker` and a line in `OTHERS`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from kuosan.errors import UserError
from kuosan.recipes.facts import Facts
from kuosan.recipes.schema import fingerprint

PROJECT = "kuosan"


class Tracker(Protocol):
    """What a training tells."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a step, by name."""

    def picture(self, step: int, path: Path) -> None:
        """Samples of the model as it is at that step."""

    def finish(self) -> None:
        """Nothing more comes from this process."""


class TensorBoard:
    """Events under ``tensorboard/`` of the run's folder."""

    def __init__(self, path: Path, facts: Facts, step: int):
        from tensorboardX import SummaryWriter

        self.board = SummaryWriter(str(path / "tensorboard"), purge_step=step or None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def picture(self, step: int, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as picture:
            self.board.add_image("samples", np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def finish(self) -> None:
        self.board.close()


class WandB:
    """Weights & Biases: offline, in ``wandb/`` of the run's folder, unless WANDB_MODE says otherwise."""

    def __init__(self, path: Path, facts: Facts, step: int):
        self.library = library("wandb")
        mode = None if os.environ.get("WANDB_MODE") else "offline"
        self.run = self.library.init(
            project=PROJECT,
            name=path.resolve().name,
            dir=str(path),
            id=identity(path, facts),
            config=settings(facts),
            mode=mode,
            resume="allow"
            if mode is None
            else None,  # offline, the parts are joined when they are synchronised
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, step: int, path: Path) -> None:
        self.run.log({"samples": self.library.Image(str(path))}, step=step)

    def finish(self) -> None:
        self.run.finish()


class Trackio:
    """Trackio: in its own folder on this machine, unless TRACKIO_SPACE_ID says otherwise."""

    def __init__(self, path: Path, facts: Facts, step: int):
        self.library = library("trackio")
        self.run = self.library.init(
            project=PROJECT,
            name=f"{path.resolve().name}-{identity(path, facts)[:6]}",
            config=settings(facts),
            resume="allow",
            embed=False,
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, step: int, path: Path) -> None:
        self.run.log({"samples": self.library.Image(str(path))}, step=step)

    def finish(self) -> None:
        self.run.finish()


OTHERS: dict[str, type[WandB] | type[Trackio]] = {"wandb": WandB, "trackio": Trackio}


class All:
    """Several as one."""

    def __init__(self, trackers: tuple[Tracker, ...]):
        self.trackers = trackers

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.scalars(step, values)

    def picture(self, step: int, path: Path) -> None:
        for tracker in self.trackers:
            tracker.picture(step, path)


@contextmanager
def tracking(path: Path, facts: Facts, step: int) -> Iterator[All]:
    """The trackers of a run that goes on from ``step``, finished however it ends.

    Raises:
        UserError: the package of one is not installed.
    """
    kinds: list[Any] = [TensorBoard, *(OTHERS[name] for name in [facts.recipe.track] if name)]
    with ExitStack() as stack:
        made: list[Tracker] = []
        for kind in kinds:
            made.append(kind(path, facts, step))
            stack.callback(made[-1].finish)
        yield All(tuple(made))


def library(name: str) -> Any:
    """The package of a tracker; UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"--track {name} needs the package {name}: install it with `pip install 'kuosan[{name}]'`"
        ) from None


def identity(path: Path, facts: Facts) -> str:
    """The same for every part of a run that is interrupted and gone on with."""
    return fingerprint([str(path.resolve()), facts.asked, facts.data_fingerprint])


def settings(facts: Facts) -> dict[str, Any]:
    """What a tracker is told of a run: its recipe and its network."""
    return {**facts.recipe.model_dump(mode="json"), "network": facts.network, "items": facts.items}
