"""Watching for memorisation while a run trains: a few samples now and then, and how near they lie to training items.

What it costs is a share of the training since the last look, counted in calls of the network and not by a clock, so
that a run that is resumed sees what one that was not would have seen. The same seeds each time: the curve shows what
training changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.evaluation.copies import FEWEST
from kuosan.evaluation.features import Pixels, pixels
from kuosan.evaluation.nearness import Nearness, compared, crowding, usual
from kuosan.evaluation.writing.spans import honest_spans, longest_spans, outside
from kuosan.recipes.run import Run
from kuosan.training.data import Items
from kuosan.training.loop import Training

SHARE = 0.03  # of the work of training
FEW, MANY = 16, 64  # samples of a look: fewer say nothing, more no more
BACKWARD = 3  # a training example costs so many calls
MOST_HELD_OUT = 256
MOST_NUMBERS, MOST_CHARACTERS = 2**23, 2**18  # of training items that are searched, evenly chosen
SEED = 64_000
MARK = "nearer to training items than real ones"


class Watch:
    """The watch over a run in training.

    Args:
        draw: states for seeds and conditions, with the weights as they are now.
    """

    def __init__(self, run: Run, training: Training, draw: Callable[[Seeds, Mapping[str, Tensor]], Tensor]):
        self.run, self.training, self.draw = run, training, draw
        recipe = run.facts.recipe
        self.texts = recipe.process.discrete
        self.calls = recipe.sampling.steps
        self.able = not recipe.distil.steps and min(len(training.train), len(training.val)) > 0
        self.able &= len(training.train) > FEWEST

    def samples(self) -> int:
        """How many samples a look may draw by now; 0 where they would be too few."""
        count = self.training.count
        since = count.step / max(1, count.validations)
        n = min(MANY, int(SHARE * BACKWARD * self.training.settings.batch * since / self.calls))
        return n if self.able and n >= FEW else 0

    def look(self) -> dict[str, float]:
        """A look, as a log has it; nothing where it would cost too much. The first that finds samples nearer to
        training than real items are is an event of the run."""
        n = self.samples()
        if not n:
            return {}
        found = self.ask(self.draw(Seeds.of(SEED, n), self.run.conditions(SEED, range(n))))
        events = self.training.count.events
        if found.nearer and not any(MARK in e for e in events):
            events.append(
                f"step {self.training.count.step}: samples are {MARK} are (relative distance {found.value:.3f} ± "
                f"{found.stderr:.3f}, of real items {found.real:.3f} ± {found.real_stderr:.3f}): the model has begun "
                "to know some by heart"
            )
        return found.to_json()

    def ask(self, x: Tensor) -> Nearness:
        """How near these states lie."""
        if self.texts:
            texts = self.run.modality.decode(x.cpu())
            return compared(outside(texts, longest_spans(texts, self._corpus)), self._usual)
        return compared(crowding(self._space(x.cpu().float()), self._rows), self._usual)

    # -- what is compared with, made when it is first asked for ----------------------------------------

    @cached_property
    def _space(self) -> Pixels:
        return pixels(self.run.latent_shape)

    @cached_property
    def _rows(self) -> Tensor:
        return self._space(_evenly(self.training.train, MOST_NUMBERS // self._space.dimensions))

    @cached_property
    def _corpus(self) -> list[str]:
        most = max(1, MOST_CHARACTERS // self.run.latent_shape[0])
        texts: list[str] = self.run.modality.decode(_evenly(self.training.train, most))
        return texts

    @cached_property
    def _usual(self) -> Tensor:
        held_out = _evenly(self.training.val, MOST_HELD_OUT)
        if self.texts:
            texts = self.run.modality.decode(held_out)
            return honest_spans(texts, longest_spans(texts, self._corpus)).distances[:, 0]
        return usual(self._rows, self._space(held_out))


def _evenly(items: Items, most: int) -> Tensor:
    """Up to ``most`` of the items, as they are."""
    n = min(len(items), most)
    x, _ = items.batch(torch.arange(n) * len(items) // max(1, n))
    return x if x.dtype == torch.int64 else x.float()
