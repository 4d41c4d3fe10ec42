"""Samples that are steered by a person's own items: by parts that stay, as variations of them, larger than trained.

    given     items of which parts stay: `guidance.given`; the rest is made to fit
    vary      items to begin from, with as much noise as belongs to time ``strength`` (SDEdit, Meng et al. 2022):
                  x_s = α_s x + σ_s ε,     s = strength                                              (1)
              and from there down the rest of the grid: 0 gives the items back, 1 is an ordinary sample
    sides     of states that are larger than what the model was trained on: `guidance.windows`, blended, or one after
              the other, each going on from the one before

    beside    what stands beside each, for a network that looks at that: `networks.given`
    averages  of blocks of each, which are known: `guidance.averages`

All of them may come together. Sample number i is steered by item i of those that there are, from the first again after
the last. Of a codec's latents, one is given where all that its surroundings were made of is, and what is given is put
back into what was decoded, to the bit. How wishes become a `Steering` stands in `wishes`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kuosan.core.posteriors import Point
from kuosan.core.random import Seeds
from kuosan.core.shapes import BESIDE, as_time, at
from kuosan.core.windows import starts_of
from kuosan.denoisers.base import Denoiser
from kuosan.guidance.averages import Averages, exact
from kuosan.guidance.given import Given
from kuosan.guidance.windows import OVERLAP, Windows, seen_from
from kuosan.modalities import Modality
from kuosan.networks.sides import each
from kuosan.processes.additive import AdditiveProcess
from kuosan.solvers import Solver, Step, trajectory

if TYPE_CHECKING:
    from kuosan.recipes.run import Run

Stitch = Literal["blend", "continue"]


@dataclass(frozen=True)
class Parts:
    """States with what stays of them: ``mask`` is true there, of one or of all."""

    x: Float[Tensor, "n c *sides"]
    mask: Bool[Tensor, "m c *sides"]

    def on(self, x: Tensor) -> Tensor:
        """``x`` with what stays put on it."""
        return torch.where(self.mask.to(x.device), self.x.to(x), x)

    def take(self, index: Tensor) -> Parts:
        """Of the states of these numbers."""
        return Parts(self.x[index], self.mask if len(self.mask) == 1 else self.mask[index])

    def at(self, place: tuple[slice, ...]) -> Parts:
        """A part of each of them."""
        return Parts(self.x[:, :, *place], self.mask[:, :, *place])


@dataclass(frozen=True)
class Known:
    """Averages of ``factor`` × ``factor`` places: ``x`` has them everywhere, as large as what is walked, and ``small``
    are those of the samples; with so many ``corrections`` of a network that is not told."""

    x: Float[Tensor, "n c *sides"]
    small: Float[Tensor, "n c *smaller"]
    factor: int
    corrections: int = 0


@dataclass(frozen=True)
class Steering:
    """What samples of a run are steered by.

    Args:
        modality: what they are decoded and written by: the run's, at their size.
        sides: of what is walked, in states; at least as large as the samples, which are its beginning.
        items: how many there are; 0 where samples are only larger.
        cond: the conditions of each, hidden where nobody knows them.
        given: what stays of each.
        vary: what variations begin from.
        strength: of variations.
        larger: the model was trained on smaller states.
        stitch: how windows of those are put together.
        trained: the network was trained with given parts.
        beside: what stands beside each.
        averages: of each.
        scale: sides of states that the network takes as they are, over those that it was mostly trained on; 0: it is
            given windows of those.
    """

    modality: Modality[Any]
    sides: tuple[int, ...]
    items: int = 0
    cond: Mapping[str, Tensor] | None = None
    given: Parts | None = None
    vary: Tensor | None = None
    strength: float = 1.0
    larger: bool = False
    stitch: Stitch = "blend"
    trained: bool = False
    beside: Tensor | None = None
    averages: Known | None = None
    scale: float = 0.0

    def chunk(self, usual: int, shape: tuple[int, ...]) -> int:
        """How many samples are drawn at a time, where usual ones are of this shape: no more numbers."""
        return max(1, usual * math.prod(shape[1:]) // math.prod(self.sides)) if self.larger else usual

    @property
    def count(self) -> int:
        """How many samples these wishes mean where nobody says; 0 where any number does."""
        return self.items if self.items > 1 or self.averages else 0

    @property
    def writes(self) -> Modality[Any]:
        """What samples are decoded and written by: as others are, unless they have parts of items that stay."""
        return self.modality if self.given is not None or self.vary is not None else self.modality.of_samples

    def conditions(
        self, numbers: range, drawn: Mapping[str, Tensor], where: Collection[str]
    ) -> dict[str, Tensor]:
        """Those of samples of these numbers: the items' own, and of ``drawn`` those that ``where`` names."""
        beside = {} if self.beside is None else {BESIDE: self.beside[self._index(numbers)]}
        if self.cond is None:
            return {**drawn, **beside}
        return {k: drawn[k] if k in where else v[self._index(numbers)] for k, v in self.cond.items()} | beside

    def of(self, run: Run, numbers: range) -> Steered:
        """What it comes to for samples of these numbers, of what the run's network works on."""
        window, codec = run.latent_shape[1:], run.codec
        sides = self.sides if codec is None else codec.counts(self.sides)
        window = sides if self.scale else window
        given = vary = None
        if self.given is not None:
            mine = self.given.take(self._index(numbers))
            given = Parts(run.encoded(mine.x), codec.known(mine.mask) if codec else mine.mask)
        if self.vary is not None:
            vary = run.encoded(self.vary[self._index(numbers)])
        patch = run.facts.network.get("patch")
        return Steered(
            (run.latent_shape[0], *sides), window, given, vary, self.strength,
            self.trained, self.larger and self.stitch == "continue", self._known(numbers), self.scale or 1.0,
            None if patch is None else each(patch, len(sides)),
        )  # fmt: skip

    def finish(self, x: Tensor, numbers: range) -> Tensor:
        """Decoded states with what is given put back, as large as they were asked for."""
        if self.given is not None:
            given = self.given.take(self._index(numbers))
            x = given.on(x[:, :, *(slice(n) for n in self.sides)])  # a codec may have padded it
        x = x[:, :, *(slice(n) for n in self.modality.shape[1:])]
        if (known := self._known(numbers)) is not None:
            x = exact(x, known.small, known.factor, self.modality.level)
        return x

    def _known(self, numbers: range) -> Known | None:
        known, index = self.averages, self._index(numbers)
        return known and replace(known, x=known.x[index], small=known.small[index])

    def _index(self, numbers: range) -> Tensor:
        return torch.tensor(numbers) % max(1, self.items)


@dataclass(frozen=True)
class Steered:
    """Of some samples, in what the network works on, what steers the walk.

    Args:
        shape: of one of what is walked. window: sides of what the network was trained on.
        given, vary, strength: see `Steering`.
        trained: the network was trained with given parts.
        onward: windows go on from each other; else they are blended.
        averages: of each.
        scale: of its sides, by which times of samplers are moved.
        cells: sides of the network's patches, where it has such.
    """

    shape: tuple[int, ...]
    window: tuple[int, ...]
    given: Parts | None = None
    vary: Tensor | None = None
    strength: float = 1.0
    trained: bool = False
    onward: bool = False
    averages: Known | None = None
    scale: float = 1.0
    cells: tuple[int, ...] | None = None

    def around(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser, of windows and with given parts and averages where there are any."""
        given, known, inside = self.given, self.averages, False
        if known and (inside := bool(known.corrections)):  # within a window: its memory is that of one
            denoiser = Averages(denoiser, None, known.factor, corrections=known.corrections)
        if self.shape[1:] != self.window:
            denoiser = Windows(denoiser, self.window, grain=known.factor if known else 1, cells=self.cells)
        if known:
            denoiser = Averages(denoiser, known.x, known.factor, hands_on=inside)
        return denoiser if given is None else Given(denoiser, given.x, given.mask, trained=self.trained)

    @property
    def whole(self) -> bool:
        """Whether the walk begins where every walk does."""
        return self.vary is None or self.strength >= 1

    def begin(
        self, process: AdditiveProcess, x: Tensor, eps: Tensor, times: Float[Tensor, " n+1"]
    ) -> tuple[Tensor, Float[Tensor, " m+1"]]:
        """The state to start from, where ``x`` is that of other samples and ``eps`` its noise, and the times that are
        left; a single one where there is nothing to walk."""
        if self.vary is not None and not self.whole:
            s = torch.tensor(self.strength, dtype=torch.float64).clamp_max(times[0])
            times, x = torch.cat([s[None], times[times < s]]), self.vary.to(x)
            x = process.between(x, eps, s[None]) if s > 0 else x
        if self.given is not None and len(times) > 1:  # what is known has its own noise around it
            x = Parts(process.between(self.given.x.to(x), eps, times[:1]), self.given.mask).on(x)
        return x, times

    def at(self, place: tuple[slice, ...], sofar: Parts) -> Steered:
        """Of one window, which goes on from what there is so far."""
        given = sofar if self.given is None else Parts(self.given.on(sofar.x), self.given.mask | sofar.mask)
        here = given.at(place)
        vary = None if self.vary is None else self.vary[:, :, *place]
        return replace(
            self, shape=(self.shape[0], *self.window), given=here if bool(here.mask.any()) else None, vary=vary,
            onward=False,
        )  # fmt: skip


def begun(
    process: AdditiveProcess,
    like: Tensor,
    seeds: Seeds,
    times: Float[Tensor, " n+1"],
    noise: Tensor | None,
    *,
    sequence: bool,
    steered: Steered | None,
) -> tuple[Tensor, Float[Tensor, " m+1"]]:
    """Where a walk along ``times`` starts, in the shape of ``like``, and the times that it takes.

    Args:
        noise: standard normal, in place of the seeds'.
        sequence: the times are a control sequence's: where it begins, the state is the noise of that level and nothing
            else.
        steered: what begins otherwise.
    """
    level = process.schedule.sigma(torch.stack([times[0], torch.ones_like(times[0])]))
    x = process.prior(like, seeds.fold("prior")) if noise is None else noise.to(like) * at(level[1:], like)
    began = x * float(level[0] / level[1]) if sequence else x
    return (began, times) if steered is None else steered.begin(process, began, x / float(level[1]), times)


def walked(
    denoiser: Denoiser,
    rule: Solver[Any],
    times: Float[Tensor, " n+1"],
    x: Tensor,
    seeds: Seeds,
    cond: Mapping[str, Tensor],
) -> Iterator[Step]:
    """The trajectory; where there is nothing to walk, one step that goes nowhere."""
    if len(times) == 1:
        yield Step(0, times.expand(len(x)), times.expand(len(x)), x, Point(x))
        return
    cond = {name: c.to(x.device) for name, c in cond.items()}
    yield from trajectory(denoiser, rule, times, x, seeds.fold("steps"), **cond)


Walk = Callable[[Steered, Seeds, Mapping[str, Tensor]], Iterator[Step]]


def onward(steered: Steered, seeds: Seeds, cond: Mapping[str, Tensor], walk: Walk) -> Iterator[Step]:
    """The last step of each window, with the whole as it is by then as its state: windows along each side, in the order
    of their places, each given what those before it made where they overlap."""
    starts = [starts_of(n, side, OVERLAP) for n, side in zip(steered.shape[1:], steered.window, strict=True)]
    x, end = torch.zeros(len(seeds), *steered.shape), as_time(0.0, len(seeds))
    done = torch.zeros(x.shape, dtype=torch.bool)
    for k, corner in enumerate(itertools.product(*starts)):
        place = tuple(slice(i, i + n) for i, n in zip(corner, steered.window, strict=True))
        here = steered.at(place, Parts(x, done))
        made = x[:, :, *place] if here.given is None else here.given.x
        if here.given is None or not bool(here.given.mask.all()):
            for step in walk(here, seeds.fold("window", k), seen_from(cond, place)):
                made = step.x
        x, done = x.to(made), done.clone()
        x[:, :, *place] = made if here.given is None else here.given.on(made)
        done[:, :, *place] = True
        yield Step(k, end, end, x, Point(x))
