"""Do samples show what their captions say? Each is shown to a matcher, which picks its caption from several.

The matcher is trained on real training pairs alone (CLIP, Radford et al. 2021, in small): an item and its caption go to
vectors of length 1, so that in every batch each item is nearest to its own caption and each caption to its own item,

    L = CE(x·y/τ → own) + CE(y·x/τ → own)          captions that are the same are each other's own       (1)

A sample that was drawn for a held-out caption is then shown, with that caption among k of held-out items. With b of the
N candidates less like it than its own and t exactly as like, the expected share of right picks over all draws of k - 1
others, ties broken evenly, has a closed form,

    R@1(k) = mean_{m = 0…t} C(b + m, k - 1) / C(N - 1, k - 1)                                            (2)

so that nothing is drawn. Chance is 1/k, and the ceiling that of real held-out items with their own captions: samples
can be above it, as they may be more typical than real items are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from kuosan.core.shapes import PICTURE
from kuosan.evaluation.base import Better, Estimate, Measurement, Metric
from kuosan.evaluation.encoder import DIMENSIONS, FEWEST_PLACES, EncoderNetwork, make_network
from kuosan.evaluation.encoder_training import batches, steps_for, view
from kuosan.evaluation.found import FEWEST_JUDGED, Found
from kuosan.networks.captions import CaptionEncoder

NAME = "caption_retrieval"
CANDIDATES = (10, 100)
FEWEST_TAUGHT, WIDTH = 64, 64
TEMPERATURE, DROPPED, RATE = 0.1, 0.2, 2e-3  # τ of eq. 1; share of tokens that training hides; learning rate


def recall_at_one(scores: Float[Tensor, "n c"], labels: Int[Tensor, " n"], k: int) -> Float[Tensor, " n"]:
    """Eq. (2) of each row."""
    own = scores.gather(1, labels[:, None])
    below, tied = (scores < own).sum(1).tolist(), ((scores == own).sum(1) - 1).tolist()
    all_of = math.comb(scores.shape[1] - 1, k - 1)
    rows = [
        sum(math.comb(b + m, k - 1) for m in range(t + 1)) / (t + 1) / all_of
        for b, t in zip(below, tied, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64)


@dataclass(frozen=True)
class CaptionRetrieval(Metric):
    """Share of samples of which the right caption is picked from ``k``; rows are scores of all candidates."""

    k: int = CANDIDATES[0]

    name: ClassVar[str] = NAME
    better: ClassVar[Better] = "higher"
    needs: ClassVar[tuple[str, ...]] = ("logits", "labels")
    notices: ClassVar[tuple[str, ...]] = ("wrong class",)

    def _rows(self, scores: Tensor, labels: Tensor) -> Tensor:
        return recall_at_one(scores, labels, min(self.k, scores.shape[1]))

    def value(self, samples: Float[Tensor, "n c"], reference: Float[Tensor, "m c"], **needs: Tensor) -> float:
        return float(self._rows(samples, needs["labels"]).mean())

    def estimate(
        self, samples: Float[Tensor, "n c"], reference: Float[Tensor, "m c"], **needs: Tensor
    ) -> Estimate:
        mine = self._rows(samples, needs["labels"])
        real = self._rows(reference, needs["reference_labels"])
        k = min(self.k, samples.shape[1])
        return Estimate(
            float(mine.mean()),
            float(mine.std() / math.sqrt(len(mine))),
            float(real.mean()),
            float(real.std() / math.sqrt(len(real))),
            f"one of {k} captions, of {samples.shape[1]} held-out ones: chance is {1 / k:.3f}; ceiling: {len(real)} "
            "real held-out items",
        )


@dataclass(frozen=True)
class Matcher:
    """The two towers; ``steps`` and ``taught`` say how it was trained."""

    items: EncoderNetwork
    captions: CaptionEncoder
    steps: int
    taught: int

    @torch.no_grad()
    def scores(self, x: Float[Tensor, "n c *sides"], rows: Int[Tensor, "k l"]) -> Float[Tensor, "n k"]:
        """Cosines of items with captions."""
        texts = normalize(self.captions(rows).pooled)
        return torch.cat([normalize(self.items(part.float())) for part in x.split(256)]) @ texts.T


def train_matcher(
    x: Float[Tensor, "n c *sides"],
    rows: Int[Tensor, "n l"],
    *,
    end: int,
    size: int,
    axes: Sequence[str] = PICTURE,
    seed: int = 0,
    seconds: float = 15.0,
) -> Matcher:
    """A matcher of items and the tokens of their captions, of ``size`` kinds and filled with ``end``; the same bits
    for the same arguments, in a number of steps that ``seconds`` of two slow cores pay for (`encoder_training`)."""
    generator = torch.Generator().manual_seed(seed)
    items = make_network(x.shape[1], x.shape[2:], DIMENSIONS, generator)
    captions = CaptionEncoder(
        DIMENSIONS,
        name="",
        end=end,
        size=size,
        length=rows.shape[1],
        dim=WIDTH,
        depth=1,
        heads=2,
        generator=generator,
    )
    heard = rows.shape[1] * 12 * WIDTH**2  # multiply-adds of a caption
    steps = steps_for(seconds, items, len(x), 1 + math.ceil(heard / items.cost))
    parameters = [*items.parameters(), *captions.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.2)
    items.train()
    for index in batches(len(x), steps, generator):
        tokens = rows[index]
        hidden = torch.rand(tokens.shape, generator=generator) < DROPPED
        a = normalize(items(view(x[index].float(), generator, 0.8, axes)))
        b = normalize(captions(tokens.masked_fill(hidden, end)).pooled)
        same = (tokens[:, None] == tokens[None]).all(2).float()
        own, likeness = same / same.sum(1, keepdim=True), a @ b.T / TEMPERATURE
        loss = cross_entropy(likeness, own) + cross_entropy(likeness.T, own)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return Matcher(items.eval().requires_grad_(False), captions.requires_grad_(False), steps, len(x))


def recalled(
    found: Found,
    samples: tuple[Tensor, Int[Tensor, "n l"]],
    train: tuple[Tensor, Int[Tensor, "t l"]],
    val: tuple[Tensor, Int[Tensor, "v l"]],
    *,
    end: int,
    size: int,
    axes: Sequence[str] = PICTURE,
    seed: int = 0,
    seconds: float = 15.0,
) -> None:
    """caption_retrieval_K for each K of `CANDIDATES`, or as many captions as there are, into ``found``, or why not.

    Each side is states with the tokens of their captions; those of ``samples`` are all among those of ``val``.
    """
    samples, train, val = (_captioned(side, end) for side in (samples, train, val))
    candidates = torch.cat([samples[1], val[1]]).unique(dim=0)
    if len(train[0]) < FEWEST_TAUGHT or len(val[0]) < FEWEST_JUDGED or len(candidates) < 2:
        found.left_out[NAME] = (
            f"needs {FEWEST_TAUGHT} training items and {FEWEST_JUDGED} held-out ones with captions, two of which "
            f"differ: there are {len(train[0])} and {len(val[0])} with {len(candidates)}"
        )
        return
    if math.prod(train[0].shape[2:]) < FEWEST_PLACES:
        found.left_out[NAME] = f"needs items of {FEWEST_PLACES} places or more"
        return
    matcher = train_matcher(*train, end=end, size=size, axes=axes, seed=seed, seconds=seconds)
    scores, real = (matcher.scores(x, candidates) for x, _ in (samples, val))
    needs = {"labels": _places(samples[1], candidates), "reference_labels": _places(val[1], candidates)}
    how = f"matcher of {matcher.taught} training pairs, {matcher.steps} steps"
    for k in dict.fromkeys(min(k, len(candidates)) for k in CANDIDATES):

        def measured(k: int = k) -> Measurement:
            out = CaptionRetrieval(k)(scores, real, space="matcher", **needs)
            return replace(out, note=f"{out.note}; {how}")

        found.attempt(f"{NAME}_{k}", measured)


def _captioned(side: tuple[Tensor, Tensor], end: int) -> tuple[Tensor, Tensor]:
    """The items that have a caption."""
    x, rows = side
    there = (rows != end).any(1)
    return x[there], rows[there]


def _places(rows: Int[Tensor, "n l"], candidates: Int[Tensor, "k l"]) -> Int[Tensor, " n"]:
    """Each row's number among the candidates."""
    return (rows[:, None] == candidates[None]).all(2).int().argmax(1)
