"""What is said on the way: always on stderr, so that stdout holds the answer and nothing else.

On a terminal rich draws; elsewhere plain lines appear, seldom enough for a log file. A reader that went away
(a closed pipe) never stops the work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from kuosan.training import launch

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 120  # of tables in a log file


def note(text: str) -> None:
    """A line on stderr; of processes that work together one says it."""
    if launch.rank():
        return
    with suppress(BrokenPipeError, ValueError):
        print(text, file=sys.stderr, flush=True)


def console() -> Console:
    """A rich console on stderr, as it is now."""
    from rich.console import Console

    width = None if sys.stderr.isatty() else PLAIN_WIDTH
    return Console(file=sys.stderr, width=width, highlight=False)


def on_terminal() -> bool:
    """Whether somebody watches this process."""
    return sys.stderr.isatty() and not launch.rank()


def table(
    rows: Sequence[Sequence[Any]], heads: Sequence[str], *, title: str = "", width: int | None = None
) -> str:
    """Columns as text, the last one wrapped; without colours, so that it reads the same in a file."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table

    target = io.StringIO()
    wide = width or (min(console().width, 140) if on_terminal() else PLAIN_WIDTH)
    grid = Table(
        title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    for i, head in enumerate(heads):
        grid.add_column(head, overflow="fold", no_wrap=i == 0)
    for row in rows:
        grid.add_row(*(_cell(v) for v in row))
    Console(file=target, width=wide, no_color=True, highlight=False, markup=False, emoji=False).print(grid)
    return "\n".join(line.rstrip() for line in target.getvalue().rstrip().splitlines())


def _cell(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.replace("\t", " ").encode("utf-8", "backslashreplace").decode()


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Something of unknown length goes on: a spinner on a terminal, a line elsewhere."""
    if not on_terminal():
        note(f"{what} …")
        yield
        return
    with console().status(f"{what} …"):
        yield


class Lines:
    """Says when a line is due: at the start, every 10 s or so while there is news, and at the end."""

    def __init__(self, seconds: float = 10.0, share: float = 0.02, *, at_start: bool = True):
        self.seconds, self.share = seconds, share
        self._time = float("-inf") if at_start else time.monotonic()
        self._progress = float("-inf")

    def due(self, progress: float) -> bool:
        """Whether to print a line at this progress (0 to 1)."""
        waited, gained = time.monotonic() - self._time, progress - self._progress
        ends = progress >= 1 > self._progress
        if ends or waited >= 6 * self.seconds or (waited >= self.seconds and gained >= self.share):
            self._time, self._progress = time.monotonic(), progress
            return True
        return False


def seldom(seconds: float = 10.0) -> Callable[[str], None]:
    """Says what goes on where nobody watches, at most every so many seconds."""
    said = time.monotonic()

    def tell(what: str) -> None:
        nonlocal said
        if not on_terminal() and time.monotonic() - said >= seconds:
            said = time.monotonic()
            note(f"{what} …")

    return tell


@contextmanager
def counting(what: str, total: int) -> Iterator[Any]:
    """A counter of items: call what it yields with the number done so far."""
    lines, started = Lines(at_start=False), time.monotonic()

    def left(done: int) -> float:
        return (time.monotonic() - started) / max(done, 1) * (total - done)

    if not on_terminal():

        def tell(done: int) -> None:
            if lines.due(done / total) and done:
                note(f"{what}: {done:,} of {total:,}, {left(done):.0f} s left")

        yield tell
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
