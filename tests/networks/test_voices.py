"""The transformer over steps of music: voices together, the beat by its place in the bar alone."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from kuosan.networks import build_network
from kuosan.networks.voices import VoiceTransformer

SIZE, VOICES, STEPS = 7, 3, 8
T = torch.tensor([0.2, 0.9], dtype=torch.float64)


def network(**leaves: object) -> VoiceTransformer:
    spec = {
        "kind": "voices", "size": SIZE, "voices": VOICES, "length": STEPS * VOICES, "cycles": [4, 6],
        "clock": "metre", "conditions": {"metre": 2, "key": 3}, "dim": 32, "depth": 2, "heads": 2,
        "strict": False, **leaves,
    }  # fmt: skip
    net = build_network(spec, torch.Generator().manual_seed(0))
    assert isinstance(net, VoiceTransformer)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return net.double().eval()


def rows(n: int = 2, steps: int = STEPS) -> Tensor:
    return torch.randint(SIZE + 1, (n, steps * VOICES), generator=torch.Generator().manual_seed(2))


METRE = {"metre": torch.tensor([0, 1])}


def test_what_is_asked_for_is_what_comes_back() -> None:
    net, x = network(), rows()
    all_of_it = net(x, T, **METRE)
    assert all_of_it.shape == (2, STEPS * VOICES, SIZE)
    only = x == SIZE
    torch.testing.assert_close(net(x, T, only=only, **METRE), all_of_it[only])


def test_every_voice_of_every_step_is_seen_by_all() -> None:
    net, x = network(), rows()
    before = net(x, T, **METRE)
    for place in (0, 7, 23):
        changed = x.clone()
        changed[:, place] = (x[:, place] + 1) % SIZE
        assert bool(((net(changed, T, **METRE) - before).abs().amax(2) > 1e-9).all())


def test_voices_are_told_apart() -> None:
    net, x = network(), rows()
    swapped = x.view(2, STEPS, VOICES).flip(2).flatten(1)
    assert not torch.allclose(
        net(x, T, **METRE).view(2, STEPS, VOICES, -1).flip(2).flatten(1, 2), net(swapped, T, **METRE)
    )


def test_the_beat_is_the_place_in_the_bar_of_each_metre() -> None:
    net = network()
    beat = net.beat(12, torch.tensor([0, 1, 2]))
    assert beat[0].tolist() == [0, 1, 2, 3] * 3
    assert beat[1].tolist() == [4, 5, 6, 7, 8, 9] * 2
    assert beat[2].tolist() == [10] * 12  # unknown
    assert net.beat(2, None).tolist() == [[10, 10]]


def test_without_rotations_only_the_beat_tells_steps_apart() -> None:
    """The same chord at every step: scores repeat with the metre, as relative positions see the same everywhere."""
    net = network(depth=1)
    net._attention = lambda n, two, device: lambda q, k, v: torch.zeros_like(q)  # type: ignore[method-assign]
    x = torch.arange(VOICES).repeat(12)[None]
    found = net(x, T[:1], metre=torch.tensor([1])).view(12, VOICES, SIZE)
    torch.testing.assert_close(found[:6], found[6:])
    assert not torch.allclose(found[0], found[1])


def test_a_beginner_says_how_often_each_token_occurs() -> None:
    net = build_network(
        {
            "kind": "voices",
            "size": SIZE,
            "voices": 2,
            "length": 8,
            "cycles": [4],
            "dim": 16,
            "depth": 1,
            "heads": 1,
            "strict": False,
        },
        torch.Generator().manual_seed(0),
    )
    assert isinstance(net, VoiceTransformer)
    with torch.no_grad():
        net.tokens.zero_()
    counts = torch.tensor([5.0, 1, 2, 0, 8, 3, 1], dtype=torch.float64)
    net.begin_with(counts)
    p = net(torch.zeros(1, 8, dtype=torch.int64), T[:1]).softmax(-1)
    torch.testing.assert_close(p[0, 3].double(), counts / counts.sum(), atol=2e-3, rtol=0.05)


def test_cycles_must_be_those_of_the_clock() -> None:
    with pytest.raises(Exception, match="one cycle for each value"):
        network(cycles=[4])


@pytest.mark.parametrize("repeats", [True, False])
def test_what_is_possible_is_what_pieces_allow(repeats: bool) -> None:
    """By enumeration: all voices of four steps that a piece can have, and what each token then can be."""
    size, mask = 6, 6  # silence, end, and two pitches that begin or are held

    def follows(a: int, b: int) -> bool:
        if a == 1:
            return b == 1
        if not repeats and b in (2, 4) and a in (b, b + 1):
            return False
        return b not in (3, 5) or (a >= 2 and (a - 2) // 2 == (b - 2) // 2)

    voices = [v for v in itertools.product(range(size), repeat=4) if all(map(follows, v, v[1:]))]
    net = network(
        size=size, voices=1, length=4, strict=True, cycles=[4], clock="", conditions={}, repeats=repeats
    )
    for known in itertools.product(range(size + 1), repeat=2):  # before and after the second place
        x = torch.tensor([[known[0], mask, known[1], mask]])
        fits = [v for v in voices if all(k in (mask, w) for k, w in zip(known, (v[0], v[2]), strict=True))]
        expected = {v[1] for v in fits} or set(range(size))
        found = net.possible(x.view(1, 4, 1))[0, 1, 0].nonzero().flatten().tolist()
        assert set(found) == expected, known
        assert torch.isfinite(net(x, T[:1])[0, 1]).nonzero().flatten().tolist() == found
