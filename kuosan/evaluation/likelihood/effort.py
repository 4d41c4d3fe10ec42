"""How much a likelihood is worth: items, calls and probes of each of its parts."""

from __future__ import annotations

from dataclasses import dataclass

from kuosan.denoisers.calibrated import LEVELS
from kuosan.evaluation.likelihood.flow import TOLERANCE
from kuosan.evaluation.likelihood.times import CELLS

LEAST = 8  # items on which anything is measured
CHOSEN = 8  # items on which the dequantisation is chosen
_CELLS = 80  # calls per item that the choice of times takes, for each half
_WAY = 300  # of the flow, a backward pass counted as two calls
_CHOICE = 2 * 4 * 200 * CHOSEN


@dataclass(frozen=True)
class Effort:
    """Items of the bound, of the bound of training items, of each number of steps, of the flow, and of the fits of
    variances and of times; calls per item of the bound; probes of the flow (None: see `flow_likelihood`) and its
    tolerance; between how many noise levels variances are fitted, and how many cells times are chosen from."""

    n: int = 1000
    train: int = 256
    steps: tuple[int, ...] = (10, 25, 50)
    step_items: int = 256
    flow: int = 128
    fitted: int = 1024
    planned: int = 128
    count: int = 16
    probes: int | None = None
    tolerance: float = TOLERANCE
    levels: int = LEVELS
    cells: int = CELLS

    @classmethod
    def of(cls, n: int, probes: int | None = None, tolerance: float = TOLERANCE) -> Effort:
        """The bound of n items, a quarter of them in steps and an eighth by the flow."""
        few = max(LEAST, n // 4)
        return cls(
            n=n, train=few, step_items=few, flow=max(LEAST, n // 8), probes=probes, tolerance=tolerance
        )

    @classmethod
    def short(cls) -> Effort:
        """A first look, in some ten thousand calls."""
        return cls(n=256, train=64, steps=(10,), step_items=64, flow=0, fitted=64, planned=32)

    @classmethod
    def within(cls, calls: float) -> Effort | None:
        """What so many calls of the denoiser are spent on; None where they are too few to be worth it."""
        planned = int(0.2 * calls / (2 * _CELLS))
        if planned < LEAST:
            return None
        flow = int((0.2 * calls - _CHOICE) / _WAY)
        return cls(
            n=min(cls.n, int(0.25 * calls / (cls.count + 1))),
            train=min(cls.train, int(0.1 * calls / (cls.count + 1))),
            steps=(10,),
            step_items=min(cls.step_items, int(0.1 * calls / 30)),
            flow=min(cls.flow, flow) if flow >= LEAST else 0,
            fitted=min(cls.fitted, int(0.15 * calls / (3 * LEVELS))),  # of either half, and once more of all
            planned=min(cls.planned, planned),
        )
