"""Which transformer over tokens, how large: from the corpus, the machine and the time there is.

As for pictures (`choose`), with compute C both the size and the tokens seen should grow as √C, and about 20 tokens per
parameter are what autoregressive models want (Hoffmann et al. 2022). The choice is the largest network that still sees

    tokens seen ≥ r · parameters of the trunk,      r = 12                                        (1)

and it takes a few times more data in masked training than in autoregressive one to learn as much, so that nothing is
lost by many passes: a new mask is a new example. Training costs, in operations per token and per processor core,

    6 · (12 · dim² · depth + share · dim · size) + 12 · length · dim · depth                      (2)

where ``share`` is that of the tokens whose scores are asked for: half of them where times are even.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kuosan.networks.choose import Reason, short, transformer_speed

WIDTHS = (
    (64, 2),
    (96, 3),
    (128, 4),
    (160, 5),
    (192, 6),
    (256, 8),
    (384, 10),
    (512, 12),
    (768, 12),
    (1024, 16),
)
TOKENS_PER_PARAMETER = 12.0
SMALL_CORPUS = 20.0  # passes from which dropout pays: verse of 2,700 poems was known by heart after 40


def heads_of(dim: int) -> int:
    """Attention heads of 32 channels, of wider networks of 64: on a CPU half as many heads save a sixth of a step."""
    return dim // 64 if dim >= 128 else max(1, dim // 32)


def token_operations(size: int, length: int, dim: int, depth: int, share: float = 0.5) -> float:
    """Eq. 2."""
    return 6 * (12 * dim**2 * depth + share * dim * size) + 12 * length * dim * depth


def choose_token_network(
    size: int,
    length: int,
    conditions: Mapping[str, int],
    *,
    seconds: float,
    device: str | torch.device,
    tokens: int,
    block: int = 0,
    timed: bool = False,
    places: bool = False,
    speed: float = 1.0,
) -> tuple[dict[str, Any], list[Reason]]:
    """A specification for `build_network`, and the reasons for it.

    Args:
        size, length: values of a token, tokens of a window.
        conditions: column → number of values.
        seconds: training time.
        tokens: in the training set.
        block, timed: see `TokenTransformer`.
        places: whether items are whole documents, so that a position says something.
        speed: of this machine now, relative to what is predicted.
    """
    dim, depth, rate, enough = _largest(size, length, seconds, device, speed, block)
    seen = rate * seconds
    passes = seen / max(tokens, 1)
    dropout = 0.1 if passes > SMALL_CORPUS else 0.0
    verdict = (
        f"the largest that sees {TOKENS_PER_PARAMETER:g} tokens per parameter" if enough else "the smallest"
    )
    reasons: list[Reason] = [
        ("network", "tokens", "a transformer with rotary positions; no time input" if not timed else "timed"),
        (
            "size",
            f"dim {dim}, depth {depth}",
            f"{verdict}: {short(seen)} tokens ({short(rate)}/s, {passes:.1f} passes)",
        ),
        (
            "dropout",
            dropout,
            f"{passes:.0f} passes over few texts" if dropout else f"few passes over the data ({passes:.0f})",
        ),
    ]
    spec = {
        "kind": "tokens", "size": size, "length": length, "conditions": dict(conditions), "dim": dim, "depth": depth,
        "heads": heads_of(dim), "block": block, "timed": timed, "places": length if places else 0, "dropout": dropout,
    }  # fmt: skip
    return spec, reasons


def tokens_seen(
    size: int, length: int, *, seconds: float, device: str | torch.device, speed: float = 1.0
) -> float:
    """How many tokens the network sees that `choose_token_network` takes for the same arguments."""
    return _largest(size, length, seconds, device, speed)[2] * seconds


def _largest(
    size: int, length: int, seconds: float, device: str | torch.device, speed: float, block: int = 0
) -> tuple[int, int, float, bool]:
    """Width and depth of the largest network that keeps (1), its tokens per second by (2), and whether one does."""
    where = torch.device(device).type
    rates = {}
    for dim, depth in WIDTHS:
        cost = token_operations(size, length, dim, depth) * (2 if block > 1 else 1)
        rates[dim, depth] = transformer_speed(where, dim) * speed / cost
    enough = [
        (dim, depth) for (dim, depth), rate in rates.items()
        if rate * seconds >= TOKENS_PER_PARAMETER * 12 * dim**2 * depth
    ]  # fmt: skip
    best = max(enough, default=WIDTHS[0])
    return *best, rates[best], bool(enough)
