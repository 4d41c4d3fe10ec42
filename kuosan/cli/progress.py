"""Training as it goes: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from kuosan.cli.notes import Lines, console, note, on_terminal

if TYPE_CHECKING:
    from kuosan.training.loop import Progress

Event = TypeVar("Event", bound="Progress")
Tell = Callable[[Event], list[str]]  # what an event says besides what all of them say
SMOOTH = 0.05  # of the loss that is shown: the last 20 steps or so
REDRAW = 0.1  # seconds


class Meter:
    """What is told about a training in progress; its rate is that of this process, not of earlier parts."""

    def __init__(self, batch: int):
        self.batch = batch
        self._first: Progress | None = None
        self._loss: float | None = None
        self._held_out = ""

    def see(self, event: Progress) -> None:
        """Take note of a step."""
        self._first = self._first or event
        if event.loss == event.loss:
            self._loss = event.loss if self._loss is None else (1 - SMOOTH) * self._loss + SMOOTH * event.loss
        if event.validation is not None:
            loss, stderr = event.validation.loss, event.validation.stderr
            self._held_out = (
                f"{loss:.4g} ± {stderr:.2g}" if stderr == stderr else f"{loss:.4g}"
            )  # of one item

    def rate(self, event: Progress) -> float:
        """Items per second."""
        assert self._first is not None
        steps, seconds = event.step - self._first.step, event.seconds - self._first.seconds
        return (
            self.batch * steps / seconds
            if seconds > 0 and steps > 0
            else self.batch * event.step / max(event.seconds, 1e-9)
        )

    def left(self, event: Progress) -> str:
        """Time left for training, from the share of the budget that is used up."""
        from kuosan.training.budget import clock

        if event.progress >= 1:
            return "done"
        return f"{clock(event.seconds * (1 - event.progress) / max(event.progress, 1e-9))} left"

    def parts(self, event: Progress) -> list[str]:
        """Rate, losses, memory, time left."""
        from kuosan.recipes.machine import memory_mib

        loss = "–" if self._loss is None else f"{self._loss:.4g}"
        held_out = [f"held out {self._held_out}"] if self._held_out else []
        return [
            f"step {event.step:,}", f"{self.rate(event):,.0f} items/s", f"loss {loss}", *held_out,
            f"{memory_mib():,.0f} MiB", self.left(event),
        ]  # fmt: skip


def nothing_more(event: Progress) -> list[str]:
    """The `Tell` of plain training."""
    return []


def watch(events: Iterable[Event], batch: int, tell: Tell[Event] = nothing_more) -> Iterator[Event]:
    """The same events, told on the way."""
    yield from (_bar if on_terminal() else _lines)(events, Meter(batch), tell)


def _lines(events: Iterable[Event], meter: Meter, tell: Tell[Event]) -> Iterator[Event]:
    lines = Lines()
    for event in events:
        meter.see(event)
        if lines.due(event.progress):
            note(f"{event.progress:4.0%}  " + ", ".join([*meter.parts(event), *tell(event)]))
        yield event


def _bar(events: Iterable[Event], meter: Meter, tell: Tell[Event]) -> Iterator[Event]:
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    columns: tuple[Any, ...] = (
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
    )
    drawn = 0.0
    with Bar(*columns, console=console()) as bar:
        task = bar.add_task("the first step", total=1.0)
        for event in events:
            meter.see(event)
            now = time.monotonic()
            if now - drawn >= REDRAW or event.progress >= 1:
                drawn = now
                bar.update(
                    task, completed=event.progress, description="  ".join([*meter.parts(event), *tell(event)])
                )
            yield event
