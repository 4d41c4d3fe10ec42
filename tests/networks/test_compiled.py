"""What a compiler makes of the networks that a CPU compiles: one graph, and the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kuosan.networks.cells import CellTransformer
from kuosan.networks.tokens import TokenTransformer
from kuosan.networks.transformer import Transformer
from kuosan.networks.voices import VoiceTransformer

TRUNK: dict[str, Any] = {"dim": 32, "depth": 2, "heads": 1, "conditions": {"class": 5, "key": 3}}
Made = tuple[nn.Module, Tensor]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


NETWORKS: dict[str, Callable[[], Made]] = {
    "pictures": lambda: (
        Transformer(3, (8, 8), patch=2, generator=seeded(), **TRUNK),
        torch.randn(4, 3, 8, 8, generator=seeded()),
    ),
    "pictures with given parts": lambda: (
        Transformer(3, (8, 8), patch=2, given=True, generator=seeded(), **TRUNK),
        torch.randn(4, 3, 8, 8, generator=seeded()),
    ),
    "texts": lambda: (
        TokenTransformer(17, length=12, generator=seeded(), **TRUNK),
        torch.randint(0, 18, (4, 12), generator=seeded()),
    ),
    "music": lambda: (
        VoiceTransformer(10, voices=2, cycles=[4], strict=False, length=12, generator=seeded(), **TRUNK),
        torch.randint(0, 11, (4, 12), generator=seeded()),
    ),
    "voxels": lambda: (
        CellTransformer(9, sides=(4, 4, 4), patch=2, length=64, generator=seeded(), **TRUNK),
        torch.randint(0, 10, (4, 64), generator=seeded()),
    ),
}


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore")  # of a compiler about caches
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_one_graph_with_conditions_too(name: str) -> None:
    network, x = NETWORKS[name]()
    with torch.no_grad():
        for p in network.parameters():  # outputs begin as zeros
            p.add_(torch.randn(p.shape, generator=seeded()), alpha=0.05)
    t = torch.rand(4, generator=seeded())
    cond = {"class": torch.tensor([0, 1, 2, 5]), "key": torch.tensor([0, 3, 1, 2])}
    one = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        plain = network(x, t, **cond)
        torch.testing.assert_close(one(x, t, **cond), plain)
    assert plain.abs().max() > 0
