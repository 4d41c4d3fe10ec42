"""What of a budget of time the end of a session takes, on the machine as it is now.

A budget covers its report. The end costs so many seconds of a core that one has to oneself, and on a machine that
others use too each of these takes longer, by

    slowness = seconds on the clock / seconds that the process was computing, at least 1           (1)

which is seen while a session trains. So what is left of a budget is worth left/slowness seconds of work, and what can
be made smaller or larger (samples, the encoder's training, the likelihood's items) is made to fit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kuosan.modalities import Dataset

SHARE, MOST = 0.06, 240.0  # of a budget, beyond what an end costs; and in all, in seconds
PICTURES, SPACE = 9.0, 9.0  # an end over pictures: all but distances of 784 pixels, and these
WRITTEN = 5.0  # of it, the report
TEXTS, GRAMS, LONG = 13.0, 6.0, 1e6  # an end over texts: all but n-grams of 1,000,000 characters
DIMENSIONS = 784


class Pace:
    """Eq. 1 over what runs within `watched`; 1 until then."""

    def __init__(self) -> None:
        self.slowness = 1.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        started, computed = time.monotonic(), time.process_time()
        try:
            yield
        finally:
            wall, work = time.monotonic() - started, time.process_time() - computed
            if work > 0.2:
                self.slowness = max(1.0, wall / work)


def cost_of(data: Dataset) -> float:
    """Seconds of work that the end of a session over these data takes at the least."""
    if data.modality.name == "text":
        return TEXTS + GRAMS * min(3.0, float(data.survey.totals.get("characters", 0)) / LONG)
    x, _ = data.train.batch(torch.zeros(1, dtype=torch.int64))
    return data.modality.ending + PICTURES + SPACE * min(1.0, x.numel() / DIMENSIONS) ** 2


def reserve(seconds: float, cost: float, slowness: float = 1.0) -> float:
    """What of a budget of time is kept for sampling, measuring and the report."""
    return min(0.5 * seconds, slowness * cost + SHARE * seconds, MOST)
