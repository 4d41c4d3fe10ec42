"""Augmentations: undone they give the original, at the vector 0 nothing happens, and none leaks into samples."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kuosan.core.grids import LogSNR
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.networks import build_network
from kuosan.networks.conditions import AUGMENT, ConditionTable
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import DDIM
from kuosan.solvers import sample as sampled
from kuosan.training import augment
from kuosan.training.augment import KINDS, WIDTH, Augmentation, Augmented, moved
from kuosan.training.data import drop_conditions
from tests.training.small import training, walk

B = 400
ALL = Augmentation(KINDS, 0.5)


def pictures(n: int, channels: int = 3, height: int = 8, width: int = 8) -> Tensor:
    return Seeds.of(3, n).normal(torch.empty(n, channels, height, width))


def vector(**parts: float) -> Tensor:
    v = torch.zeros(1, WIDTH)
    for name, value in parts.items():
        v[0, getattr(augment, name)] = value
    return v


def test_at_zero_nothing_happens_to_the_bit() -> None:
    x, v = pictures(B), ALL.draw((8, 8), Seeds.of(0, B))
    v[::2] = 0
    assert torch.equal(moved(x, v)[::2], x[::2])
    assert not torch.equal(moved(x, v)[1::2], x[1::2])
    assert torch.equal(moved(x, torch.zeros(B, WIDTH)), x)


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("flip", [0, 1])
def test_mirrors_and_turns_are_undone_by_their_inverses(quarters: int, flip: int) -> None:
    x, angle = pictures(5), quarters * math.pi / 2
    there = moved(x, vector(FLIP=flip, COS=math.cos(angle) - 1, SIN=math.sin(angle)).expand(5, -1))
    assert not torch.equal(there, x)
    back = there.rot90(-quarters, (2, 3))
    assert torch.equal(back.flip(3) if flip else back, x)


def test_colours_are_undone_and_opacity_stays() -> None:
    x = pictures(5, channels=4)
    there = moved(x, vector(BRIGHTNESS=0.3, CONTRAST=0.5).expand(5, -1))
    assert torch.allclose((there[:, :3] - 0.3) / 2**0.5, x[:, :3], atol=1e-6)
    assert torch.equal(there[:, 3], x[:, 3])


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-2, 3), (0, -3)])
def test_shifts_move_whole_pixels_and_reflect_at_the_edges(down: int, right: int) -> None:
    height, width = 6, 9
    x = pictures(2, 1, height, width)
    there = moved(x, vector(DOWN=down / height, RIGHT=right / width).expand(2, -1))
    mirror = torch.cat([x.flip(2), x, x.flip(2)], 2)
    mirror = torch.cat([mirror.flip(3), mirror, mirror.flip(3)], 3)
    wanted = mirror[:, :, height - down : 2 * height - down, width - right : 2 * width - right]
    assert torch.equal(there, wanted)


def test_twice_the_scale_shows_half_of_the_picture() -> None:
    across = torch.linspace(-1, 1, 17)[None, None, None].expand(1, 1, 17, 17)
    there = moved(across, vector(SCALE=1.0))
    assert torch.allclose(there[..., 1:-1], across[..., 1:-1] / 2, atol=1e-6)
    wide = moved(across, vector(ASPECT=2.0))  # twice as wide, half as high
    assert torch.allclose(wide[..., 1:-1], across[..., 1:-1] / 2, atol=1e-6)


def test_each_kind_is_done_as_often_as_asked_and_no_other() -> None:
    places = {
        "flip": [augment.FLIP], "turn": [augment.COS, augment.SIN], "shift": [augment.DOWN, augment.RIGHT],
        "scale": [augment.SCALE, augment.ASPECT], "colour": [augment.BRIGHTNESS, augment.CONTRAST],
    }  # fmt: skip
    for kind, mine in places.items():
        v = Augmentation((kind,), 0.3).draw((32, 32), Seeds.of(1, B)) != 0
        others = [i for i in range(WIDTH) if i not in mine]
        assert not bool(v[:, others].any())
        share = float(v[:, mine].any(1).double().mean())
        assert abs(share - 0.3) < 4 * (0.21 / B) ** 0.5, kind
    v = ALL.draw((6, 9), Seeds.of(1, B))
    assert bool((v[:, augment.SIN].abs() < 1e-6).all()), (
        "a picture that is not square is turned upside down only"
    )


def test_what_is_done_to_an_item_is_its_own_affair() -> None:
    seeds = Seeds.of(4, B)
    together = ALL.draw((8, 8), seeds)
    assert torch.equal(together[7:9], ALL.draw((8, 8), seeds[7:9]))
    assert not torch.equal(together, ALL.draw((8, 8), Seeds.of(5, B)))


def test_the_vector_stands_among_the_conditions_and_is_never_hidden() -> None:
    class Items:
        x = pictures(20)

        def __len__(self) -> int:
            return 20

        def batch(self, index: Tensor, seeds: object = None) -> tuple[Any, dict[str, Tensor]]:
            return self.x[index], {"class": index % 3}

    items, index = Augmented(Items(), ALL), torch.arange(20)
    x, cond = items.batch(index)
    assert torch.equal(x, Items.x) and list(cond) == ["class"] and len(items) == 20
    x, cond = items.batch(index, Seeds.of(0, 20))
    assert torch.equal(x, moved(Items.x, cond[AUGMENT]))
    left = drop_conditions(cond, {"class": 3}, 1.0, Seeds.of(0, 20))
    assert torch.equal(left[AUGMENT], cond[AUGMENT]) and bool((left["class"] == 3).all())


def test_a_table_hears_the_vector_and_zero_is_silence() -> None:
    table = ConditionTable({"kind": 2}, 5, WIDTH)
    with torch.no_grad():
        table.rows.copy_(torch.arange(15.0).view(3, 5))
        table.augment.copy_(torch.arange(5.0 * WIDTH).view(WIDTH, 5))  # type: ignore[union-attr]
    kind, v = torch.tensor([0, 2]), vector(FLIP=1.0, DOWN=0.5).repeat(2, 1)
    plain = table({"kind": kind}, 2)
    assert torch.equal(table({"kind": kind, AUGMENT: 0 * v}, 2), plain)
    assert table.augment is not None
    assert torch.equal(table({"kind": kind, AUGMENT: v}, 2) - plain, (v @ table.augment))
    with pytest.raises(ValueError, match="unknown condition"):
        ConditionTable({"kind": 2}, 5)({AUGMENT: v}, 2)


UNET = {"kind": "unet", "base": 8, "mults": [1], "blocks": 1, "attention": []}
TRANSFORMER = {"kind": "transformer", "patch": 2, "dim": 32, "depth": 1, "heads": 2}


@pytest.mark.parametrize("spec", [UNET, TRANSFORMER], ids=["unet", "transformer"])
@pytest.mark.parametrize("conditions", [{}, {"kind": 2}, {"kind": 2, "size": 3}])
def test_networks_hear_the_vector_and_zero_is_silence(
    spec: dict[str, Any], conditions: dict[str, int]
) -> None:
    leaves = spec | {"channels": 1, "sides": [8, 8], "conditions": conditions, "augment": WIDTH}
    g = torch.Generator().manual_seed(0)
    network = build_network(leaves, g).eval()
    with torch.no_grad():  # nothing starts at zero
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    x, label = pictures(3, 1), torch.tensor([10.0, 300.0, 800.0])
    cond = {name: torch.arange(3) % n for name, n in conditions.items()}
    v = ALL.draw((8, 8), Seeds.of(2, 3))
    with torch.no_grad():
        plain = network(x, label, **cond)
        assert torch.allclose(network(x, label, **cond, **{AUGMENT: 0 * v}), plain, atol=1e-6)
        assert float((network(x, label, **cond, **{AUGMENT: v}) - plain).abs().max()) > 1e-3


@pytest.mark.foreign_rng("diffusers draws from the global generator as it builds a network")
@pytest.mark.parametrize("conditions", [{}, {"kind": 2}])
def test_an_augmented_unet_opens_in_diffusers_as_it_samples(conditions: dict[str, int]) -> None:
    from kuosan.denoisers.diffusers_export import stock_unet

    leaves = UNET | {"channels": 1, "sides": [8, 8], "conditions": conditions, "augment": WIDTH}
    g = torch.Generator().manual_seed(0)
    network: Any = build_network(leaves, g).eval()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
        x, label = pictures(2, 1), torch.tensor([100.0, 100.0])
        where = dict.fromkeys(conditions, 1)
        theirs = stock_unet(network, where)(x, label, return_dict=False)[0]
        mine = network(x, label, **{name: torch.tensor([1, 1]) for name in conditions})
    assert torch.allclose(theirs, mine, atol=1e-5)


class Slopes:
    """Pictures that are all brighter at the right."""

    def __init__(self, n: int) -> None:
        ramp = torch.linspace(-1, 1, 4)[None, None, None].expand(n, 1, 4, 4)
        self.x = ramp + 0.05 * Seeds.of(8, n).normal(torch.empty(n, 1, 4, 4))

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, seeds: object = None) -> tuple[Any, dict[str, Tensor]]:
        return self.x[index], {}


@pytest.mark.parametrize("told", [True, False])
def test_half_of_the_training_mirrored_shows_in_no_sample_unless_nobody_tells(
    tmp_path: Path, told: bool
) -> None:
    spec = TRANSFORMER | {"channels": 1, "sides": [4, 4], "augment": WIDTH}
    network = build_network(spec, torch.Generator().manual_seed(0))
    denoiser = NetworkDenoiser(GaussianProcess(Cosine()), network)

    class Silent(Augmented):
        def batch(self, index: Tensor, seeds: Seeds | None = None) -> tuple[Any, dict[str, Tensor]]:
            return super().batch(index, seeds)[0], {}

    items = (Augmented if told else Silent)(Slopes(64), Augmentation(("flip",), 0.5))
    run = training(tmp_path, denoiser=denoiser, train=items, val=Slopes(0), batch=32, steps=150, lr=1e-2)
    walk(run)
    seeds = Seeds.of(0, 64)
    x = denoiser.process.prior(torch.empty(64, 1, 4, 4), seeds)
    with torch.no_grad():
        out = sampled(run.average, DDIM(), LogSNR()(Cosine(), 8), x, seeds)
    assert isinstance(out, Tensor)
    mirrored = float((out[..., 2:].mean((1, 2, 3)) < out[..., :2].mean((1, 2, 3))).double().mean())
    assert mirrored < 0.03 if told else 0.2 < mirrored < 0.8
