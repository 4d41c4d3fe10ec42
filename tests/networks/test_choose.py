"""The choice of a network: it grows with the budget, fits the state, and builds."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
import torch

from kuosan.errors import UserError
from kuosan.networks import build_network, choose_network
from kuosan.networks.choose import (
    JOINED,
    MOST_TOKENS,
    _joined,
    _transformers,
    _unets,
    patches,
    samples_wanted,
)
from kuosan.networks.sides import counts_of, each

GENERATOR = torch.Generator().manual_seed(0)


def choose(channels: int, *sides: int, seconds: float, **more: Any) -> dict[str, Any]:
    leaves = {"device": "cpu", "items": 10_000} | more
    return choose_network(channels, sides, {}, seconds=seconds, **leaves)[0]


def operations(spec: dict[str, Any]) -> float:
    size = {k: spec[k] for k in ("channels", "sides", "conditions")}
    found = {"transformer": _transformers, "unet": _unets, "residual-unet": _unets}[spec["kind"]](size, "cpu")
    return next(c.operations for c in found if c.spec == {k: v for k, v in spec.items() if k != "dropout"})


@pytest.mark.parametrize("kind", ["transformer", "unet"])
@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 1, 7), (60, 128), (3, 8, 32, 32)]
)
def test_cost_grows_with_the_budget_and_the_samples_suffice(shape: tuple[int, ...], kind: str) -> None:
    costs = [
        operations(choose(*shape, seconds=seconds, kind=kind)) for seconds in (10, 60, 600, 3000, 40_000)
    ]
    assert costs == sorted(costs)


def test_wanted_samples_follow_the_equation() -> None:
    assert samples_wanted(600, 10, 784) == 1e5
    assert samples_wanted(600, 10**6, 4096) == 2e5
    assert samples_wanted(600, 600, 784) == 200 * 600
    assert samples_wanted(4 * 600, 10, 784) == 2e5
    assert samples_wanted(600, 10, 196) == 2e5


def test_the_cost_is_that_of_the_network() -> None:
    """Equation (2) against the multiplications of one block, counted from the parameters."""
    spec = choose(1, 28, 28, seconds=600)
    network = build_network(spec, GENERATOR)
    tokens = (28 // spec["patch"]) ** 2
    products = sum(p.numel() for p in network.blocks.parameters() if p.ndim == 2)
    attention = 2 * tokens**2 * spec["dim"] * spec["depth"]  # scores and values, multiply-adds
    assert operations(spec) == 6 * (tokens * products + attention)


@pytest.mark.parametrize(
    "shape",
    [(1, 8, 8), (1, 31, 17), (4, 5, 3), (1, 128, 1), (3, 96, 128), (70, 97), (3, 5, 20, 24), (1, 24, 24, 24)],
)
@pytest.mark.parametrize("kind", ["auto", "transformer", "unet"])
def test_every_choice_is_json_and_builds(shape: tuple[int, ...], kind: str) -> None:
    spec, reasons = choose_network(
        shape[0], shape[1:], {"class": 3}, seconds=20, device="cpu", items=50, kind=kind
    )
    network = build_network(json.loads(json.dumps(spec)), GENERATOR)
    x = torch.zeros(1, *shape)
    assert network(x, torch.zeros(1), **{"class": torch.tensor([3])}).shape == x.shape
    assert all(what and why for what, _, why in reasons)


def test_patches_divide_where_they_can() -> None:
    assert patches((28, 28)) == [(1, 1), (2, 2), (4, 4)]
    assert patches((64, 64)) == [(2, 2), (4, 4)]  # 1 would make 4096 tokens, 8 is more than a fourteenth
    assert patches((128, 128)) == [(4, 4), (8, 8)]
    assert all(30 % p == 0 and 45 % q == 0 for p, q in patches((30, 45)))
    assert patches((8, 8)) == [(1, 1), (2, 2), (4, 4)]
    for size in (
        (31, 37),
        (1, 9000),
        (512, 512),
        (1, 1),
        (127, 1024),
        (3000,),
        (1,),
        (16, 64, 64),
        (9, 31, 31),
    ):
        assert all(math.prod(counts_of(size, p)) <= MOST_TOKENS for p in patches(size))
    assert patches((31, 37))[0] == (2, 2) and patches((1, 9000))[0] == (1, 9)  # no divisor fits, so these pad
    assert (1, 2, 2) in patches((8, 16, 16)) and (4, 4, 4) in patches(
        (16, 32, 32)
    )  # of time, half as much too


def test_budgets_on_well_known_sizes() -> None:
    """What (1)–(3) come to on two threads; not measurements, but the table that a person would expect."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        wanted = {
            (1, 8, 60): (4, 128),
            (1, 28, 600): (4, 128),
            (3, 32, 600): (4, 96),
            (3, 64, 400): (4, 64),
        }
        for (channels, side, seconds), (patch, dim) in wanted.items():
            spec = choose(channels, side, side, seconds=seconds, items=2000)
            assert (spec["patch"], spec["dim"]) == (patch, dim), (side, spec)
    finally:
        torch.set_num_threads(threads)


def test_an_accelerator_an_hour_or_a_large_picture_means_a_unet() -> None:
    assert choose(3, 32, 32, seconds=600)["kind"] == "transformer"
    assert choose(3, 32, 32, seconds=600, device="cuda")["kind"] == "unet"
    assert choose(3, 32, 32, seconds=3600)["kind"] == "unet"
    assert choose(3, 32, 32, seconds=3600, kind="transformer")["kind"] == "transformer"
    assert choose(3, 64, 64, seconds=540)["kind"] == "unet"
    assert choose(3, 64, 64, seconds=270)["kind"] == "transformer"
    for others in ({"latents": True}, {"clean": True}, {"whole": [True, False]}, {"captions": 8}):
        assert choose(1, 64, 64, seconds=540, **others)["kind"] == "transformer"
    assert choose(1, 4096, seconds=540)["kind"] == choose(1, 16, 16, 16, seconds=540)["kind"] == "transformer"


def test_convolutions_join_patches_where_diffusers_has_no_place_and_cost_what_they_do() -> None:
    for sides, seconds in (((32, 32), 60), ((32, 32), 600), ((24, 24, 24), 600)):
        plain = choose(3, *sides, seconds=seconds)
        joined, reasons = choose_network(
            3, sides, {}, seconds=seconds, device="cpu", items=10_000, joined=True
        )
        assert "detail" not in plain and joined["detail"] == JOINED
        assert [value for what, value, _ in reasons if what == "network.detail"] == [JOINED]
        [bare] = [c for c in _transformers({k: joined[k] for k in ("channels", "sides", "conditions")}, "cpu")
                  if c.spec == {k: v for k, v in joined.items() if k != "detail"}]  # fmt: skip
        dear = _joined(bare, "cpu")
        detailer = build_network(joined, GENERATOR).detailer
        kernels = sum(p.numel() for p in detailer.parameters() if p.ndim > 2)
        assert dear.operations - bare.operations == 6 * kernels * math.prod(sides)
        assert dear.rate < bare.rate
    assert "detail" not in choose(3, 64, 64, seconds=540, joined=True)  # a U-Net


def test_wrong_kinds_and_leaves_are_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="auto, transformer or unet"):
        choose(1, 8, 8, seconds=10, kind="mlp")
    with pytest.raises(UserError, match="os.system"):
        build_network({"kind": "os.system"}, GENERATOR)
    with pytest.raises(UserError, match="depht"):
        build_network(choose(1, 8, 8, seconds=10) | {"depht": 3}, GENERATOR)


def test_points_are_tokens_without_positions_and_larger_networks_need_longer() -> None:
    dims = []
    for seconds in (60, 1200, 3600, 14400):
        spec, _ = choose_network(3, (512,), {}, seconds=seconds, device="cpu", items=500, unordered=True)
        assert (spec["kind"], spec["patch"], spec["unordered"]) == ("transformer", 1, True)
        dims.append(spec["dim"])
    assert dims == sorted(dims) and dims[0] == 64 and dims[-1] > dims[1] > 64
    x = torch.randn(2, 3, 512, generator=torch.Generator().manual_seed(0))
    network = build_network(spec, torch.Generator().manual_seed(0))
    assert network(x, torch.zeros(2)).shape == x.shape
    with pytest.raises(UserError, match="points have none"):
        choose_network(3, (512,), {}, seconds=60, device="cpu", items=500, unordered=True, kind="unet")


def test_latents_have_patches_of_two_at_most_and_need_half_the_samples() -> None:
    for seconds in (60, 600, 2000):
        spec, reasons = choose_network(
            8, (32, 32), {}, seconds=seconds, device="cpu", items=10_000, latents=True, kind="transformer"
        )
        assert spec["patch"] <= 2
        _, pixels = choose_network(
            8, (32, 32), {}, seconds=seconds, device="cpu", items=10_000, kind="transformer"
        )
        texts = [next(why for what, _, why in given if what == "size") for given in (reasons, pixels)]
        wanted = [float(re.findall(r"([\d.]+) k samples", text)[0]) for text in texts]
        assert wanted[0] == pytest.approx(wanted[1] / 2, abs=1)
    spec, _ = choose_network(
        4, (64, 96), {}, seconds=60, device="cpu", items=99, latents=True, kind="transformer"
    )
    assert -(-64 // spec["patch"]) * -(-96 // spec["patch"]) <= MOST_TOKENS


def test_time_and_volumes_have_a_unet_of_their_own() -> None:
    assert (
        choose(60, 128, seconds=3600)["kind"]
        == choose(1, 24, 24, 24, seconds=3600)["kind"]
        == "residual-unet"
    )
    assert choose(60, 128, seconds=60)["kind"] == "transformer"


@pytest.mark.parametrize("room", [1.0, 3.0])
def test_a_patch_holds_no_more_values_for_each_number_of_a_token_than_there_is_room_for(room: float) -> None:
    spec, _ = choose_network(
        4, (32, 20, 32), {}, seconds=900, device="cpu", items=222, kind="transformer", room=room
    )
    values = 4 * math.prod(each(spec["patch"], 3))
    assert values <= room * spec["dim"]
    assert (spec["dim"] < values) == (room > 1)  # and it is made use of
