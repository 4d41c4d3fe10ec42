"""Watching a run while it trains: a few samples now and then, how near they lie to training items, and how far from
real ones.

What it costs is a share of the training since the last look, counted in calls of the network and not by a clock, so
that a run that is resumed sees what one that was not would have seen. The same seeds each time: the curves show what
training changes. The distances of sets (`fd`, `kd`) are taken in the space of the states themselves, of texts in
`ngrams`, each beside its floor at the same count of samples, a power of two, so that looks can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.evaluation.base import measure
from kuosan.evaluation.copies import FEWEST
from kuosan.evaluation.features import Pixels, pixels
from kuosan.evaluation.found import FEWEST_ROWS
from kuosan.evaluation.frechet import FrechetDistance
from kuosan.evaluation.kernel import GaussianKernelDistance
from kuosan.evaluation.nearness import Nearness, compared, crowding, usual
from kuosan.evaluation.writing.features import Ngrams, fit_ngrams
from kuosan.evaluation.writing.spans import honest_spans, longest_spans, outside
from kuosan.modalities import VoxelModality
from kuosan.recipes.run import Run
from kuosan.training.data import Items
from kuosan.training.loop import Training

SHARE = 0.03  # of the work of training
FEW, MANY = 16, 256  # samples of a look: fewer say nothing, more would be measured at the end
BACKWARD = 3  # a training example costs so many calls
MOST_HELD_OUT, MOST_FLOOR = 256, 1024
MOST_NUMBERS, MOST_CHARACTERS = 2**23, 2**18  # of training items that are searched, evenly chosen
SEED = 64_000
FIRST = 0x4E00  # the first of some twenty thousand letters, for tokens that are none
MARK = "nearer to training items than real ones"
DISTANCES = {"fd": FrechetDistance(), "kd": GaussianKernelDistance()}


class Watch:
    """The watch over a run in training.

    Args:
        draw: states for seeds and conditions, with the weights as they are now.
    """

    def __init__(self, run: Run, training: Training, draw: Callable[[Seeds, Mapping[str, Tensor]], Tensor]):
        self.run, self.training, self.draw = run, training, draw
        recipe = run.facts.recipe
        self.cells = run.modality if isinstance(run.modality, VoxelModality) else None
        self.texts = recipe.process.discrete and self.cells is None
        self.calls = recipe.sampling.steps
        self.able = not recipe.distil.steps and min(len(training.train), len(training.val)) > 0
        self.able &= len(training.train) > FEWEST and not training.sharded
        self._seen: tuple[int, dict[str, float]] = (-1, {})
        if recipe.training.best != "loss":
            training.score = lambda: self.score(recipe.training.best)

    def samples(self) -> int:
        """How many samples a look may draw by now; 0 where they would be too few."""
        count = self.training.count
        since = count.step / max(1, count.validations)
        n = min(MANY, int(SHARE * BACKWARD * self.training.settings.batch * since / self.calls))
        return 1 << (n.bit_length() - 1) if self.able and n >= FEW else 0

    def look(self) -> dict[str, float]:
        """A look, as a log has it; nothing where it would cost too much. The first that finds samples nearer to
        training than real items are is an event of the run."""
        step = self.training.count.step
        if self._seen[0] != step:
            self._seen = (step, self._look())
        return dict(self._seen[1])

    def _look(self) -> dict[str, float]:
        n = self.samples()
        if not n:
            return {}
        x = self.draw(Seeds.of(SEED, n), self.run.conditions(SEED, range(n)))
        found = self.ask(x)
        events = self.training.count.events
        if found.nearer and not any(MARK in e for e in events):
            events.append(
                f"step {self.training.count.step}: samples are {MARK} are (relative distance {found.value:.3f} ± "
                f"{found.stderr:.3f}, of real items {found.real:.3f} ± {found.real_stderr:.3f}): the model has begun "
                "to know some by heart"
            )
        return found.to_json() | self.distances(x)

    def score(self, name: str) -> float | None:
        """How far samples are above the floor of a distance, in its own unit; None where no look is to be had. Samples
        and floor have one count, so that the bias of either is the other's."""
        row = self.look()
        if f"sample_{name}" not in row:
            return None
        return row[f"sample_{name}"] - row[f"sample_{name}_floor"]

    def ask(self, x: Tensor) -> Nearness:
        """How near these states lie to training items."""
        if self.texts:
            texts = self._written(x)
            return compared(outside(texts, longest_spans(texts, self._corpus)), self._usual)
        return compared(crowding(self._placed(x), self._rows), self._usual)

    def distances(self, x: Tensor) -> dict[str, float]:
        """How far the law of these states is from that of real items, as a log has it."""
        if self._real is None:
            return {}
        (reference, floor), rows = self._real, self._features(x)
        out = {"sample_n": float(min(len(rows), len(floor)))}
        for name, metric in DISTANCES.items():
            m = measure(metric, rows, reference, floor, generator=torch.Generator().manual_seed(SEED))
            values = {"": m.value, "_stderr": m.stderr, "_floor": m.floor, "_floor_stderr": m.floor_stderr}
            out |= {f"sample_{name}{end}": v for end, v in values.items() if v is not None}
        return out

    # -- what is compared with, made when it is first asked for ----------------------------------------

    @cached_property
    def _space(self) -> Pixels:
        one, _ = self.training.train.batch(torch.zeros(1, dtype=torch.int64))
        return pixels(self._compared(one).shape[1:])

    @cached_property
    def _rows(self) -> Tensor:
        return self._placed(_evenly(self.training.train, MOST_NUMBERS // self._space.dimensions))

    @cached_property
    def _corpus(self) -> list[str]:
        return self._written(
            _evenly(self.training.train, max(1, MOST_CHARACTERS // self.run.latent_shape[0]))
        )

    @cached_property
    def _ngrams(self) -> Ngrams | None:
        """Of texts, the space of half of the training items; None where they are too few or too much alike."""
        try:
            return fit_ngrams(self._corpus[::2])
        except ValueError:
            return None

    @cached_property
    def _real(self) -> tuple[Tensor, Tensor] | None:
        """Rows of held-out items, and of training items for the floor; None where there are too few of either."""
        if not self.texts:
            floor = _spread(self._rows, MOST_FLOOR)
        elif self._ngrams is not None:
            floor = self._ngrams(self._corpus[1::2])
        else:
            return None
        reference = self._features(_evenly(self.training.val, MOST_HELD_OUT))
        return (reference, floor) if min(len(reference), len(floor)) >= FEWEST_ROWS else None

    @cached_property
    def _usual(self) -> Tensor:
        held_out = _evenly(self.training.val, MOST_HELD_OUT)
        if self.texts:
            texts = self._written(held_out)
            return honest_spans(texts, longest_spans(texts, self._corpus)).distances[:, 0]
        return usual(self._rows, self._placed(held_out))

    def _features(self, x: Tensor) -> Tensor:
        """Rows that distances of sets are taken between."""
        if self.texts:
            assert self._ngrams is not None
            return self._ngrams(self._written(x))
        return self._placed(x)

    def _placed(self, x: Tensor) -> Tensor:
        """States in the space of states of numbers; of voxels as shapes are compared."""
        return self._space(self._compared(x))

    def _compared(self, x: Tensor) -> Tensor:
        if self.cells:
            return self.cells.grid(x.cpu())
        return x.cpu().float() if self.run.codec else self.run.modality.compared(x.cpu().float())

    def _written(self, x: Tensor) -> list[str]:
        """Texts; of other tokens each as a character of its own."""
        if self.run.modality.name == "text":
            return self.run.modality.decode(x.cpu())
        return ["".join(chr(FIRST + v) for v in row) for row in x.cpu().tolist()]


def _spread(rows: Tensor, most: int) -> Tensor:
    n = min(len(rows), most)
    return rows[torch.arange(n) * len(rows) // max(1, n)]


def _evenly(items: Items, most: int) -> Tensor:
    """Up to ``most`` of the items, as they are."""
    n = min(len(items), most)
    x, _ = items.batch(torch.arange(n) * len(items) // max(1, n))
    return x if x.dtype == torch.int64 else x.float()
