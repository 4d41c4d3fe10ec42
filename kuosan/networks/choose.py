"""Which network, how large: from the data's size, the machine and the time there is.

Too large a network sees too few samples in the time; too small a one stops learning early. With compute C
both the size and the number of samples seen should grow about as √C (Hoffmann et al. 2022 for text; Peebles
& Xie 2023, figures 8–9, for DiT), so the samples wanted within a budget of s seconds are

    200 passes over the data, but between 100 000·k and 200 000·k,  k = √(s/600) · max(1, √(784/pixels))   (1)

and the choice is the costliest network that still sees that many, width first: up to 192 the width counts
before the cost. A patch is at most a fourteenth of the side (196 tokens or more), but 4 in any case, and a
token at least as long as its patch has values: a narrower one cannot hand the noise through, which only one
that says x need not (Li & He 2025, "Back to basics: let denoising generative models denoise"). (On 8×8
digits, Fréchet distance to held-out ones, 0.30 for real ones, in about four minutes of one core: patch 2,
dim 96, depth 3, 307 k samples 0.44; patch 4, dim 128, depth 4, 307 k 0.43, dim 192, depth 3, 307 k 0.42,
dim 256, depth 3, 192 k 0.43; patch 8, dim 384, depth 3, 307 k 0.51.) Held-out error of v after 100 s of one
core, with the samples seen, bears this out: MNIST 28×28, patch 4, dim 128, depth 4: 0.203 (25 k); patch 2,
dim 64, depth 2: 0.222 (29 k); patch 7, dim 192, depth 6: 0.230 (23 k). Flowers 64×64×3, patch 4, dim 64,
depth 2: 0.258 (19 k); patch 8, dim 192, depth 6: 0.374 (6 k); patch 4, dim 128, depth 4: 0.482 (4 k). One
seed each. A moment of sound is one token, all of its bands: of spoken digits, 64 bands by 56 frames, after 60 s of
processor time and 12 k samples in either case, patches of 64×2, dim 192, depth 4, were recognised in 16 of 100
samples (25 with guidance 2), patches of 8×8, dim 128, depth 4, in 10 (13), which is chance. Latents hold far less
that is redundant: half of (1), and patches of 2 at most. (8×32×32 latents of 216 paintings of 256×256, batches of 16,
about 80 s of a shared core: patch 2, dim 96, depth 3 0.802 (4.8 k); patch 4, dim 192, depth 6 0.855 (4.5 k); after
100 s patch 2, dim 64, depth 2 0.796 (8.0 k); a U-Net of base 32 0.919, 2.8 k in 80 s.) Points, each a token, tell
of one item many times over: a tenth of (1). (41 pieces of furniture as 512 points, six minutes of a shared core,
batches of 8: dim 64, depth 2 0.8034 (16.7 k), dim 96, depth 3 0.8039 (6.3 k); dim 128, depth 4 after four minutes
0.8135 (3.6 k). After 85 s with `WAVES` octaves 0.8094, Chamfer distance 0.30, without 0.8217, 0.39, both 6 k.)
Rates are predicted as F/(operations per sample), F rising with the width:

    operations per training sample = 6 · tokens · 12·dim²·depth + 12 · tokens² · dim · depth              (2)
    F per core = 8·10¹⁰ · dim/(dim + 60),   times threads^0.8                                              (3)

(3) is a fit to training samples per second (forward and backward, float32) on one core, measured in processor
time on a shared 2-core AMD EPYC with AVX-512, torch 2.13, November 2026, batches of 32–128:

| image    | patch | dim | depth | samples/s | | image    | patch | dim | depth | samples/s |
|----------|-------|-----|-------|-----------|-|----------|-------|-----|-------|-----------|
| 8×8×1    |     2 |  64 |     2 |      4108 | | 32×32×3  |     4 | 256 |     6 |        40 |
| 8×8×1    |     2 | 128 |     4 |       772 | | 32×32×3  |     2 | 128 |     4 |        41 |
| 28×28×1  |     4 | 128 |     4 |       227 | | 32×32×3  |     2 | 192 |     6 |        15 |
| 28×28×1  |     4 | 192 |     6 |        87 | | 64×64×3  |     8 | 192 |     6 |        63 |
| 28×28×1  |     4 | 256 |     6 |        52 | | 64×64×3  |     8 | 256 |     8 |        30 |
| 28×28×1  |     2 | 128 |     4 |        54 | | 64×64×3  |     8 | 384 |     8 |        15 |
| 32×32×3  |     4 | 128 |     4 |       194 | | 64×64×3  |     4 | 128 |     4 |        41 |
| 32×32×3  |     4 | 192 |     6 |        60 | | 64×64×3  |     4 | 192 |     6 |        14 |

and, for U-Nets (channels-last memory gained nothing): 28×28×1, base 32, levels 1 2 2, one block 86/s;
32×32×3, base 64, levels 1 2 2, two blocks 13/s; 64×64×3, base 32, levels 1 2 2 4, one block 17/s; that is
7–9·10¹⁰ operations per second and core, whatever the width.

Which of the two, by held-out error of v on one core, one seed: 618 faces of 64×64×1, after 300 s: U-Net of base 16
in batches of 8 0.0787 (10 k samples seen), transformer of patch 8, dim 128, depth 4 in batches of 32 0.0903 (87 k), of
128 0.1045 (75 k); after 100 s, with the Fréchet distance in pixels, U-Net 0.0938, 32, transformer of dim 64, depth 2,
patch 4 0.1043, 31, patch 8 0.1316, 84. Flowers 64×64×3, after 480 s: U-Net in batches of 16 0.1598 (17 k), transformer
of patch 4, dim 64, depth 2 in batches of 64 0.1582 (116 k), which is ahead by 0.02 after 100 s. Fashion-MNIST
28×28×1, after 115 s: U-Net in batches of 8 0.1635 (11 k), transformer of dim 64, depth 2 in batches of 128 0.1529
(204 k).

Convolutions that join the patches (`networks.detailer`) are chosen where diffusers has no place for the network anyway:
the faces after 100 s, patch 8: 0.0921, 24; flowers 64×64×3 0.1677, 62 beside 0.1883, 60 without; 32×32×3 0.1885, 39
beside 0.1970, 39; 1,264 captioned emoji of 32×32×3 after 540 s 0.1445 beside 0.1585. Of volumes the same time is
better spent on steps (miniatures of 32×20×32 after 200 s, error of x: 0.0590 beside 0.0597, distance 40 beside 30),
and of latents it is no worse spent (8×32×32 of 216 paintings after 290 s: 0.747 beside 0.745).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kuosan.errors import UserError
from kuosan.networks.cells import CellTransformer
from kuosan.networks.lattice import LatticeTransformer
from kuosan.networks.residual_unet import ResidualUNet, halvings
from kuosan.networks.sides import counts_of, times
from kuosan.networks.stock import StockUNet
from kuosan.networks.stock_lm import StockLM
from kuosan.networks.tokens import TokenTransformer
from kuosan.networks.transformer import Transformer
from kuosan.networks.unet import UNet
from kuosan.networks.voices import VoiceTransformer

Reason = tuple[str, Any, str]  # what was chosen, the value, why

WIDTHS = ((64, 2), (96, 3), (128, 4), (192, 6), (256, 8), (384, 12))  # dim, depth; the smallest first
UNET_BASES = (16, 32, 64, 96, 128)
HEAD = 32  # channels per attention head
MOST_TOKENS = 1024
LATENT_PATCH = 2
ENOUGH_WIDTH = 192  # below this width comes first
HEARD = 128  # width at most of what is made of captions
WAVES = 5  # octaves of what is said of points
JOINED = 16  # channels of the convolutions that join patches
CONVOLVED = 7.5e10  # operations of convolutions per second and core
UNET_SECONDS = 3600  # a CPU budget from which convolutions repay their cost;
LARGE, LARGE_SECONDS = 2500, 500  # of pictures of so many pixels, sooner


@dataclass(frozen=True)
class Candidate:
    """A network that could be built, and what a training sample costs."""

    spec: dict[str, Any]
    operations: float
    rate: float  # predicted training samples per second


def samples_wanted(seconds: float, items: int, pixels: int) -> float:
    """Eq. (1)."""
    growth = math.sqrt(max(seconds, 1.0) / 600) * max(1.0, math.sqrt(784 / pixels))
    return min(max(200.0 * items, 1e5 * growth), 2e5 * growth)


def choose_network(
    channels: int,
    sides: Sequence[int],
    conditions: Mapping[str, int],
    *,
    seconds: float,
    device: str | torch.device,
    items: int,
    kind: str = "auto",
    speed: float = 1.0,
    latents: bool = False,
    whole: Sequence[bool] = (),
    clean: bool = False,
    captions: int = 0,
    room: float = 1.0,
    joined: bool = False,
    unordered: bool = False,
) -> tuple[dict[str, Any], list[Reason]]:
    """A specification for `build_network`, and the reasons for it.

    Args:
        channels, sides: of the states.
        conditions: column → number of values.
        seconds: training time.
        device: where training runs.
        items: size of the training set.
        kind: "auto", "transformer" or "unet".
        speed: of this machine now, relative to eq. (3).
        latents: the images are a codec's latents, which hold far less that is redundant: see the module.
        whole: which sides a patch spans from end to end; none unless given.
        clean: the network says x, so that no noise need go through it: tokens may be narrower than their patches,
            which are of 2 at most all the same.
        room: values of a patch for each number of a token, at most; more than 1 where the network will say x.
        joined: diffusers has no place for the network anyway, so that convolutions may join its patches: see
            `networks.detailer`.
        unordered: the places of states have no order, so that each is a token without a position.
        captions: tokens that are read of one; 0 where there are none. A U-Net that reads them is of our own kind.

    Raises:
        UserError: another kind.
    """
    if kind not in ("auto", "transformer", "unet"):
        raise UserError(f"network={kind} is unknown; choose auto, transformer or unet")
    where = torch.device(device).type
    reasons: list[Reason] = []
    if kind == "auto":
        cpu = where == "cpu"
        # A level of the U-Net halves the sides; below 8 pixels it has nothing to work with.
        small = min(sides) < 8 or unordered
        plain = len(sides) == 2 and not (latents or clean or captions or any(whole))
        repaid = LARGE_SECONDS if plain and math.prod(sides) >= LARGE else UNET_SECONDS
        kind = "transformer" if small or (cpu and seconds < repaid) else "unet"
        why = (
            "of all networks here it alone can do without an order"
            if unordered
            else f"sides below 8 are too small to halve ({times(sides)})"
            if small
            else f"on a CPU within {seconds:.0f} s it sees several times more samples than a U-Net"
            if kind == "transformer"
            else f"{where}, {seconds:.0f} s: enough for convolutions, which know what is near"
        )
    else:
        why = "asked for"
    if unordered and kind != "transformer":
        raise UserError(f"network={kind} needs an order of places, and points have none: choose transformer")
    reasons.append(("network", kind, why))
    size = {"channels": channels, "sides": list(sides), "conditions": dict(conditions)}
    most = 1 if unordered else LATENT_PATCH if latents or clean else None
    size |= {"unordered": True, "waves": WAVES} if unordered else {}
    found = (
        _transformers(size, where, most, whole, clean, room)
        if kind == "transformer"
        else _unets(size, where, own=captions > 0)
    )
    if captions:
        found = [_hearing(c, captions) for c in found]
    if joined and kind == "transformer":
        found = [_joined(c, where) for c in found]
    wanted = samples_wanted(seconds, items, math.prod(sides)) / (2 if latents else 10 if unordered else 1)
    enough = [c for c in found if c.rate * speed * seconds >= wanted]
    best = max(enough, key=_merit) if enough else min(found, key=lambda c: c.operations)
    seen = best.rate * speed * seconds
    passes = seen / max(items, 1)
    if "detail" in best.spec:
        reasons.append(
            ("network.detail", best.spec["detail"], "convolutions join the patches, whose edges would show")
        )
    shape = {k: best.spec[k] for k in ("patch", "dim", "depth", "base", "mults", "blocks") if k in best.spec}
    text = ", ".join(f"{name} {value}" for name, value in shape.items())
    verdict = "the costliest that sees" if enough else "the cheapest; fewer than"
    reasons.append(
        (
            "size",
            text,
            f"{verdict} {short(wanted)} samples: {short(seen)} ({best.rate * speed:.0f}/s, {passes:.1f} passes)",
        )
    )
    reasons.append(("passes", float(f"{passes:.3g}"), "over the training data, at this rate"))
    return best.spec, reasons


def build_network(spec: Mapping[str, Any], generator: torch.Generator) -> nn.Module:
    """The network of a specification, with initial weights from `generator`.

    Raises:
        UserError: a kind, or a leaf of the specification, that does not exist.
    """
    leaves = dict(spec)
    kind = leaves.pop("kind", None)
    builders = {
        "transformer": Transformer, "unet": UNet, "residual-unet": ResidualUNet, "stock": StockUNet,
        "tokens": TokenTransformer, "stock-lm": StockLM, "voices": VoiceTransformer, "lattice": LatticeTransformer,
        "cells": CellTransformer,
    }  # fmt: skip
    if kind not in builders:
        raise UserError(f"network kind {kind!r} is unknown; choose {', '.join(builders)}")
    try:
        return builders[kind](**leaves, generator=generator)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the network cannot be built: {error}; correct the network's part of the recipe"
        ) from error


def short(n: float) -> str:
    """12 k, 3.4 M: a count to two or three figures."""
    return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n / 1e3:.0f} k" if n >= 1e3 else f"{n:.0f}"


def _speed(device: str, per_core: float) -> float:
    """Operations per second of all cores. The accelerator's figure is a guess, not a measurement."""
    return per_core * torch.get_num_threads() ** 0.8 if device == "cpu" else 200 * per_core


def _merit(c: Candidate) -> tuple[int, float]:
    return min(c.spec.get("dim", 0), ENOUGH_WIDTH), c.operations


def transformer_operations(tokens: int, dim: int, depth: int) -> float:
    """Eq. (2)."""
    return 6 * tokens * 12 * dim**2 * depth + 12 * tokens**2 * dim * depth


def transformer_speed(device: str, dim: int) -> float:
    """Eq. (3), for all threads."""
    return _speed(device, 8e10 * dim / (dim + 60))


def patches(sides: Sequence[int]) -> list[tuple[int, ...]]:
    """Patches of one length along every side, or half of it along the first of three: exact divisors where there are
    any (others need padding), 1024 tokens at most."""
    largest = max(4, int(round(math.prod(sides) ** (1 / len(sides)), 6)) // 14)
    cubes = [tuple(min(p, side) for side in sides) for p in range(1, max(sides) + 1)]
    flat = [(max(1, p[0] // 2), *p[1:]) for p in cubes] if len(sides) == 3 else []
    counts = {
        p: math.prod(counts_of(sides, p)) for p in sorted({*cubes, *flat}, key=lambda p: (math.prod(p), p))
    }
    fits = [p for p, n in counts.items() if max(p) <= largest and n <= MOST_TOKENS]
    exact = [p for p in fits if not any(side % q for side, q in zip(sides, p, strict=True))]
    return exact or fits or [next(p for p, n in counts.items() if n <= MOST_TOKENS)]


def spanning(sides: Sequence[int], whole: Sequence[bool]) -> list[tuple[int, ...]]:
    """Patches from end to end of some sides, and of one length, an exact divisor, along the others."""
    free = [side for side, spans in zip(sides, whole, strict=True) if not spans]
    return [
        tuple(side if spans else p for side, spans in zip(sides, whole, strict=True))
        for p in range(1, max(free, default=1) + 1)
        if not any(side % p for side in free) and math.prod(side // p for side in free) <= MOST_TOKENS
    ]


def _transformers(
    size: dict[str, Any],
    device: str,
    most: int | None = None,
    whole: Sequence[bool] = (),
    clean: bool = False,
    room: float = 1.0,
) -> list[Candidate]:
    """Transformers of patches up to ``most``, where any of those fit, or of those that span what is ``whole``."""
    found = []
    channels, sides = 0 if clean else size["channels"], size["sides"]
    fitting = spanning(sides, whole) if any(whole) else patches(sides)
    fitting = [p for p in fitting if most is None or max(p) <= most] or fitting
    # Where even the smallest patch holds more values than the widest token, that is the best there is.
    fitting = [p for p in fitting if channels * math.prod(p) <= WIDTHS[-1][0]] or fitting[:1]
    if clean and any(whole):  # no width bounds them
        longest = max(4, max(side for side, spans in zip(sides, whole, strict=True) if not spans) // 7)
        fitting = [
            p for p in fitting if all(spans or n <= longest for n, spans in zip(p, whole, strict=True))
        ]
    for patch in fitting:
        tokens, values = math.prod(counts_of(sides, patch)), channels * math.prod(patch)
        for dim, depth in [pair for pair in WIDTHS if room * pair[0] >= values] or WIDTHS[-1:]:
            operations = transformer_operations(tokens, dim, depth)
            spec = {
                "kind": "transformer",
                **size,
                "patch": patch[0] if len(set(patch)) == 1 else list(patch),
                "dim": dim,
                "depth": depth,
                "heads": dim // HEAD,
                "activation": "gelu",
            }
            found.append(Candidate(spec, operations, transformer_speed(device, dim) / operations))
    return found


def _hearing(candidate: Candidate, tokens: int) -> Candidate:
    """With what hearing a caption costs: its own blocks, and two more products for twelve in each of the network's."""
    dim, depth = candidate.spec.get("dim", HEARD), 2
    more = transformer_operations(tokens, min(dim, HEARD), depth) + candidate.operations / 6
    rate = candidate.rate / (1 + more / candidate.operations)
    return Candidate(candidate.spec, candidate.operations + more, rate)


def _joined(candidate: Candidate, device: str) -> Candidate:
    """With convolutions behind its patches, and what they cost."""
    spec = candidate.spec
    more = 6 * math.prod(spec["sides"]) * 3 ** len(spec["sides"]) * JOINED * 3 * spec["channels"]
    rate = 1 / (1 / candidate.rate + more / _speed(device, CONVOLVED))
    return Candidate({**spec, "detail": JOINED}, candidate.operations + more, rate)


def _unets(size: dict[str, Any], device: str, own: bool = False) -> list[Candidate]:
    """U-Nets whose lowest level is at least 4 places wide, with attention where there are 256 places or fewer."""
    sides = size["sides"]
    levels = 1
    while levels < 4 and min(sides) >> levels >= 4:
        levels += 1
    kind = "unet" if len(sides) == 2 and not own else "residual-unet"
    if kind == "unet":
        # Prefer a depth that needs no padding: only such a network opens in stock diffusers.
        exact = [n for n in range(2, levels + 1) if not any(side % 2 ** (n - 1) for side in sides)]
        levels = max(exact, default=levels)
    else:
        levels = max(levels, min(4, max(sides).bit_length() - 2))
    mults = [1, 2, 2, 4][:levels]
    places, left = [float(math.prod(sides))], sides
    for by in halvings(sides, levels):
        left = counts_of(left, by)
        places.append(float(math.prod(left)))
    attention = [level for level in range(levels) if places[level] <= 256]
    found = []
    for base in UNET_BASES:
        for blocks in (1, 2):
            # Two convolutions of three to a side per residual block; the way up has one block more, on twice the
            # channels.
            convolutions = blocks + 1.5 * (blocks + 1)
            operations = 6 * sum(
                n * 2 * 3 ** len(sides) * (base * m) ** 2 * convolutions
                for n, m in zip(places, mults, strict=True)
            )
            spec = {
                "kind": kind, **size, "base": base, "mults": mults, "blocks": blocks, "attention": attention
            }  # fmt: skip
            found.append(Candidate(spec, operations, _speed(device, CONVOLVED) / operations))
    return found
