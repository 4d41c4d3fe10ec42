"""When a loss that is finite has left its range for good.

The range is that of the `WINDOW` steps before the last `ROW`. Training has spiked if all of the last `ROW` lie above

    max(largest of the window,  median + `FAR` · max(1.4826 MAD, |median| / 10))                   (1)

MAD being the median distance from the median, which for a Gaussian is σ/1.4826. The first half of (1) makes it rare on
healthy runs whatever the law of the losses: among exchangeable values that the last m are all above the n before has
probability 1/C(n+m, m), 4e-10 for 100 and 6. The second makes it rare where values drift, as norms of gradients do
early in a run. Both together take a run that rises out of all proportion and stays there, which is what divergence
looks like before it overflows. A single high loss, which is nothing to a clipped gradient, is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

WINDOW, ROW, FAR = 100, 6, 20.0


def limit(window: Sequence[float]) -> float:
    """Eq. 1."""
    middle = median(window)
    spread = median(abs(v - middle) for v in window)
    return max(max(window), middle + FAR * max(1.4826 * spread, abs(middle) / 10))


def after(seen: Sequence[float], value: float) -> list[float]:
    """What is remembered once ``value`` came, too."""
    return [*seen, value][-(WINDOW + ROW) :]


def row(seen: Sequence[float]) -> int:
    """How many of the last steps, up to `ROW`, are above the range of those before; 0 while there are too few."""
    if len(seen) < WINDOW + ROW or seen[-1] <= max(seen[:WINDOW]):  # nearly always: spare the median
        return 0
    top, count = limit(seen[:WINDOW]), 0
    while count < ROW and seen[-1 - count] > top:
        count += 1
    return count
