"""Is what a map asked for there? A small network that labels every place is trained on real pictures and their maps.

    map_accuracy      of samples: the share of places whose label is the one asked for, as a mean over the classes
                      (so that much background does not count for much); its ceiling is that on real held-out pictures
    map_by_chance     the same of samples held against the maps of others: what the map has nothing to do with

(Segmentation as a judge of layouts: Park et al. 2019, SPADE.) Errors are those of the mean over pictures, by leaving
each out in turn. The network is a function of the data and the seed alone: a price turns seconds into steps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import FEWEST_JUDGED, Found

NAME, CHANCE = "map_accuracy", "map_by_chance"
WIDTH, BATCH = 24, 16
OPERATIONS = 1e10  # multiply-adds per second and core, forward, while training beside its backward pass
OVERHEAD = 0.02  # seconds of a step beside its operations
FEWEST, MOST = 30, 400  # steps


def segmenter(
    x: Float[Tensor, "n c h w"],
    maps: Int64[Tensor, "n h w"],
    classes: int,
    *,
    seed: int = 0,
    seconds: float = 8.0,
) -> nn.Module:
    """A network of states (b, c, h, w) with scores (b, classes, h, w), taught by these; labels from ``classes`` on are
    unknown."""
    generator = torch.Generator().manual_seed(seed)
    c, h, w = x.shape[1:]
    with torch.device("meta"):  # no default initialisation: it would draw from the global generator
        network = nn.Sequential(
            nn.Conv2d(c, WIDTH, 3, padding=1), nn.GroupNorm(4, WIDTH), nn.SiLU(),
            *(
                layer
                for spread in (1, 2, 4, 8)
                for layer in (
                    nn.Conv2d(WIDTH, WIDTH, 3, padding=spread, dilation=spread), nn.GroupNorm(4, WIDTH), nn.SiLU(),
                )
            ),
            nn.Conv2d(WIDTH, classes, 1),
        )  # fmt: skip
    network.to_empty(device="cpu")
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Conv2d):
                layer.weight.normal_(0, math.sqrt(2 / layer.weight[0].numel()), generator=generator)
                layer.bias.zero_()  # type: ignore[union-attr]
            elif isinstance(layer, nn.GroupNorm):
                layer.weight.fill_(1)
                layer.bias.zero_()
    cost = 9 * WIDTH * (c + 4 * WIDTH) * h * w * min(BATCH, len(x)) / OPERATIONS
    steps = max(FEWEST, min(MOST, int(seconds / (OVERHEAD + cost))))
    counts = torch.bincount(maps[maps < classes], minlength=classes).double().clamp_min(1)
    weight = (1 / counts.sqrt()).float()  # rare classes count more often than they come
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / steps)
        index = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)
        there = maps[index].masked_fill(maps[index] >= classes, -100)
        loss = F.cross_entropy(network(x[index]), there, weight / weight.mean())
        if not bool(loss.isfinite()):  # nothing known in all of them
            continue
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def labelled(network: nn.Module, x: Float[Tensor, "n c h w"]) -> Int64[Tensor, "n h w"]:
    """What the network calls every place."""
    return torch.cat([network(part).argmax(1) for part in x.split(BATCH)])


def accuracy(
    found: Int64[Tensor, "n h w"], asked: Int64[Tensor, "n h w"], classes: int
) -> tuple[float, float | None]:
    """The mean over the classes asked for of the share that is found, and its jackknife error over pictures."""
    wanted = F.one_hot(asked.clamp_max(classes), classes + 1)[..., :classes].flatten(1, 2).double()
    totals, hits = wanted.sum(1), (wanted * (found == asked).flatten(1)[..., None]).sum(1)

    def mean(hit: Tensor, total: Tensor) -> Tensor:
        there = total > 0
        return torch.where(there, hit / total.clamp_min(1), 0.0).sum(-1) / there.sum(-1).clamp_min(1)

    value, n = mean(hits.sum(0), totals.sum(0)), len(found)
    without = mean(hits.sum(0) - hits, totals.sum(0) - totals)
    error = float(((n - 1) / n * (without - without.mean()).square().sum()).sqrt()) if n > 1 else None
    return float(value), error


def judge_mapped(
    out: Found,
    made: Float[Tensor, "n c h w"],
    asked: Int64[Tensor, "n h w"],
    real: Float[Tensor, "n c h w"],
    train: Float[Tensor, "t c h w"],
    maps: Int64[Tensor, "t h w"],
    classes: int,
    *,
    seed: int = 0,
    seconds: float = 8.0,
) -> None:
    """map_accuracy and map_by_chance of samples ``made`` for the maps ``asked`` of ``real`` held-out pictures into
    ``out``; the network learns from ``train`` and their ``maps``."""
    if len(train) < FEWEST_JUDGED or len(made) < 2:
        out.left_out[NAME] = (
            f"needs {FEWEST_JUDGED} training pictures with maps and 2 others, got {len(train)} and {len(made)}"
        )
        return
    network = segmenter(train, maps, classes, seed=seed, seconds=seconds)
    seen = labelled(network, made)
    roof, roof_error = accuracy(labelled(network, real), asked, classes)
    for name, against in ((NAME, asked), (CHANCE, asked.roll(1, 0))):
        value, error = accuracy(seen, against, classes)
        out.metrics[name] = Measurement(
            name=name, value=value, stderr=error, n=len(made), space="segmenter", better="higher",
            floor=roof if name == NAME else None, floor_stderr=roof_error if name == NAME else None,
            note=f"mean over {classes} classes; ceiling: the same {len(real)} real held-out pictures",
        )  # fmt: skip
