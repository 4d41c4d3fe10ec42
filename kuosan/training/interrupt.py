"""SIGINT and SIGTERM as a question that the loop asks between steps, so that it can save before it leaves."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kuosan.training import launch

ECHO = 3.0  # seconds within which a launcher passes a signal on


class Interrupted(Exception):
    """Training was asked to stop, and has saved. ``signum`` is the signal."""

    def __init__(self, signum: int):
        super().__init__(f"interrupted by {signal.Signals(signum).name}; everything is saved")
        self.signum = signum


class Inbox:
    """The last signal that came, or None."""

    signum: int | None = None


@contextmanager
def listening() -> Iterator[Inbox]:
    """While open, SIGINT and SIGTERM are noted, not obeyed; a second one acts as it always did, unless it is a launcher
    that passes on what the terminal has just sent to all."""
    inbox = Inbox()
    if threading.current_thread() is not threading.main_thread():
        yield inbox  # signals reach the main thread only
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    came: dict[int, float] = {}

    def note(signum: int, frame: FrameType | None) -> None:
        inbox.signum = signum
        first = came.setdefault(signum, time.monotonic())
        if launch.processes() == 1 or time.monotonic() - first > ECHO:
            signal.signal(signum, before[signal.Signals(signum)])

    for s in before:
        signal.signal(s, note)
    try:
        yield inbox
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
