"""What stands beside states: networks look at it, answer without it as with nothing, and learn to from anywhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import BESIDE, GIVEN
from kuosan.networks import build_network
from kuosan.networks.given import channels_in, made_to_look, made_to_see, seen, told
from kuosan.training.data import drop_conditions

SPECS: dict[str, dict[str, Any]] = {
    "transformer": {"kind": "transformer", "patch": 2, "dim": 16, "depth": 1, "heads": 1},
    "detailed": {"kind": "transformer", "patch": 2, "dim": 16, "depth": 1, "heads": 1, "detail": 4},
    "unet": {"kind": "unet", "base": 8, "mults": [1, 2], "blocks": 1, "attention": []},
    "residual-unet": {"kind": "residual-unet", "base": 8, "mults": [1, 2], "blocks": 1, "attention": []},
}
X = Seeds.of(0, 2).normal(torch.empty(2, 3, 8, 8))
THERE = Seeds.of(1, 2).normal(torch.empty(2, 4, 8, 8))
LABEL = torch.tensor([3.0, 500.0])


def stirred(spec: dict[str, Any]) -> torch.nn.Module:
    """With weights everywhere: fresh ones end in zeros."""
    network = build_network(spec, torch.Generator().manual_seed(0)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return network


def test_channels_come_in_their_order() -> None:
    mask = X > 0
    cond = {GIVEN: told(X + 1, mask), BESIDE: THERE, "class": torch.tensor([0, 1])}
    x, rest = seen(X, cond, True, 4)
    assert x.shape[1] == channels_in(3, True, 4) == 10 and list(rest) == ["class"]
    assert torch.equal(x[:, 6:], THERE) and torch.equal(x[:, 3:6], mask.float())
    assert torch.allclose(x[:, :3], torch.where(mask, X + 1, X))
    assert torch.equal(seen(X, {}, False, 4)[0], torch.cat([X, torch.zeros(2, 4, 8, 8)], 1))
    assert seen(X, {"class": mask}, False, 0)[0] is X


@pytest.mark.foreign_rng("diffusers initialises its own weights")
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", sorted(SPECS))
def test_a_network_learns_to_look_from_where_it_stands(kind: str, given: bool) -> None:
    spec = {**SPECS[kind], "channels": 3, "sides": [8, 8], "given": given}
    plain = stirred(spec)
    looking = build_network({**spec, "beside": 4}, torch.Generator().manual_seed(0)).eval()
    looking.load_state_dict(made_to_look(plain.state_dict(), spec, 4))
    with torch.no_grad():
        assert torch.allclose(looking(X, LABEL, **{BESIDE: THERE}), plain(X, LABEL), atol=1e-5)
        own = stirred({**spec, "beside": 4})
        a, b = own(X, LABEL, **{BESIDE: THERE}), own(X, LABEL)
        assert not torch.allclose(a, b, atol=1e-4)
        assert torch.allclose(own(X, LABEL, **{BESIDE: 0 * THERE}), b, atol=1e-6)
    if not given:  # and to see given parts, with what stands beside behind them
        both = build_network({**spec, "given": True, "beside": 4}, torch.Generator().manual_seed(0)).eval()
        both.load_state_dict(made_to_see(own.state_dict(), {**spec, "beside": 4}))
        with torch.no_grad():
            assert torch.allclose(both(X, LABEL, **{BESIDE: THERE}), a, atol=1e-5)


def test_what_is_hidden_is_hidden_with_all_else_of_an_example() -> None:
    cond: dict[str, Tensor] = {"class": torch.arange(64), BESIDE: torch.ones(64, 2, 4, 4)}
    out = drop_conditions(cond, {"class": 99}, 0.5, Seeds.of(3, 64))
    gone = out["class"] == 99
    assert 10 < int(gone.sum()) < 54 and torch.equal(gone, out[BESIDE].flatten(1).amax(1) == 0)
    assert bool((out[BESIDE][~gone] == 1).all())
