"""SIGINT and SIGTERM as a question that the loop asks between steps, so that it can save before it leaves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
    """While open, SIGINT and SIGTERM are noted, not obeyed; a second one acts as it always did."""
    inbox = Inbox()
    if threading.current_thread() is not threading.main_thread():
        yield inbox  # signals reach the main thread only
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(signum: int, frame: FrameType | None) -> None:
        inbox.signum = signum
        signal.signal(signum, before[signal.Signals(signum)])

    for s in before:
        signal.signal(s, note)
    try:
        yield inbox
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
