"""Views: what is shown, where it lies, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.networks import WHOLE, View, build_network
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training.coupling import Nearest
from kuosan.training.objective import Denoising
from kuosan.training.views import EVERYTHING, Views, kept
from tests.training.small import CLASSES, Implied, midpoints, state, training, walk

SPEC = {
    "kind": "transformer", "channels": 1, "sides": [16, 24], "conditions": {"class": CLASSES},
    "patch": 4, "dim": 16, "depth": 3, "heads": 1, "dropout": 0.0,
}  # fmt: skip


class Blind(Implied):
    """The exact network of unit data, which no crop tells anything."""

    grain = (4, 4)

    def forward(self, x: Tensor, label: Tensor, view: View = WHOLE, /, **cond: Tensor) -> Tensor:
        assert view.corner is None or bool((view.corner % self.grain[0] == 0).all())
        return super().forward(x, label)


class Pictures:
    """Items of noise in three classes."""

    def __len__(self) -> int:
        return 20

    def batch(self, index: Tensor, seeds: object = None) -> tuple[Tensor, dict[str, Tensor]]:
        x = Seeds.of(1, index.tolist()).normal(torch.empty(len(index), 1, 16, 24))
        return x, {"class": index % CLASSES}


def network(seed: int = 0, **leaves: Any) -> Any:
    """A transformer with no weight at zero."""
    g = torch.Generator().manual_seed(seed)
    net = build_network(SPEC | leaves, g)
    for p in net.parameters():
        p.data.normal_(0, 0.2, generator=g)
    return net


def pictures(count: int) -> Tensor:
    return Seeds.of(2, count).fold("x").normal(torch.empty(count, 1, 16, 24, dtype=torch.float64))


def test_every_example_is_shown_once_as_the_part_of_itself_that_its_view_says() -> None:
    x, seeds, views = pictures(64), Seeds.of(0, 64), Views(crops=0.7)
    seen = []
    for index, shown, view in views.parts(x, seeds.uniforms(), seeds, network()):
        seen += index.tolist()
        height, width = shown.shape[2:]
        corners = [(0, 0)] * len(index) if view.corner is None else view.corner.tolist()
        for i, one, (top, left) in zip(index.tolist(), shown, corners, strict=True):
            assert torch.equal(one, x[i, :, top : top + height, left : left + width])
    assert sorted(seen) == list(range(64))


def test_the_less_noise_the_smaller_the_crop_and_it_lies_anywhere() -> None:
    count, views = 6000, Views(crops=0.6)
    x, u, sizes, corners = torch.zeros(count, 1, 16, 32), midpoints(count), {}, {}
    for index, shown, view in views.parts(x, u, Seeds.of(0, count), network(sides=[16, 32])):
        sizes[tuple(shown.shape[2:])] = (round(float(u[index].amin()), 3), round(float(u[index].amax()), 3))
        # none of another size lies between
        assert len(index) == round(float(u[index].amax() - u[index].amin()) * count) + 1
        corners[tuple(shown.shape[2:])] = view.corner
    assert sizes == {(16, 32): (0.6, 1.0), (8, 16): (0.2, 0.6), (4, 8): (0.0, 0.2)}
    places, often = corners[8, 16].unique(dim=0, return_counts=True)
    assert len(places) == 3 * 5 and places.amax(0).tolist() == [
        8,
        16,
    ]  # multiples of the patch, none left out
    assert float(often.double().std() / often.double().mean()) < 0.25
    assert corners[16, 32] is None


def test_a_crop_has_the_positions_of_its_place() -> None:
    """With blocks that do nothing, a network of tokens answers each by itself and where it lies."""
    net = build_network(SPEC, torch.Generator().manual_seed(0))  # gates at zero
    net.out.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    x, label = pictures(2).float(), torch.tensor([10.0, 500.0])
    whole = net(x, label)
    corner = torch.tensor([[4, 12], [8, 0]])
    crops = torch.stack(
        [one[:, i : i + 8, j : j + 12] for one, (i, j) in zip(x, corner.tolist(), strict=True)]
    )
    wanted = [one[:, i : i + 8, j : j + 12] for one, (i, j) in zip(whole, corner.tolist(), strict=True)]
    assert torch.allclose(net(crops, label, View(corner)), torch.stack(wanted), atol=1e-5)
    assert not torch.allclose(net(crops, label, View(corner.flip(0))), torch.stack(wanted), atol=1e-2)


def test_a_unet_is_told_where_every_pixel_of_a_crop_lies() -> None:
    spec = {"kind": "unet", "channels": 1, "sides": [16, 24], "base": 8, "mults": [1, 2], "blocks": 1,
            "attention": [], "coordinates": True}  # fmt: skip
    net, got = build_network(spec, torch.Generator().manual_seed(0)), []
    net.unet.conv_in.register_forward_pre_hook(lambda layer, args: got.append(args[0][:, 1:]))
    x, label = pictures(1).float(), torch.tensor([10.0])
    net(x, label)
    net(x[:, :, 4:12, 8:20], label, View(torch.tensor([[4, 8]])))
    whole, crop = got
    assert torch.equal(crop, whole[:, :, 4:12, 8:20])
    down, across = whole[0, 0, :, 0], whole[0, 1, 0]
    assert torch.allclose(down, -down.flip(0), atol=1e-6) and float(down[0]) == pytest.approx(-1 + 1 / 16)
    assert torch.allclose(across.diff(), torch.full((23,), 2 / 24)) and torch.equal(
        whole[0, 1, 0], whole[0, 1, 9]
    )


def test_routed_tokens_are_neither_seen_nor_changed_by_the_inner_blocks() -> None:
    net, label = network(), torch.tensor([10.0, 500.0])
    x = pictures(2).float()
    everyone = torch.arange(24).expand(2, -1)
    assert torch.equal(net(x, label, View(through=everyone)), net(x, label))
    through = kept(Seeds.of(0, 2), 24, 0.5)

    def tokens(y: Tensor) -> Tensor:
        return y.reshape(2, 4, 4, 6, 4).permute(0, 1, 3, 2, 4).reshape(2, 24, 16)

    def rest(values: Tensor) -> Tensor:
        return torch.stack(
            [
                v[[i for i in range(24) if i not in set(t.tolist())]]
                for v, t in zip(values, through, strict=True)
            ]
        )

    for k in (0, 2):  # only the inner block mixes tokens
        net.modulation.weight.data.view(-1, 16, 16)[6 * k : 6 * k + 6] = 0
        net.modulation.bias.data.view(-1, 16)[6 * k : 6 * k + 6] = 0
    routed = tokens(net(x, label, View(through=through)))
    assert not torch.allclose(routed, tokens(net(x, label)), atol=1e-3)
    still = build_network(SPEC, torch.Generator())
    still.load_state_dict(net.state_dict())
    still.modulation.weight.data.view(-1, 16, 16)[6:12] = 0
    still.modulation.bias.data.view(-1, 16)[6:12] = 0
    assert torch.allclose(rest(routed), rest(tokens(still(x, label))), atol=1e-5)
    other = x.clone()
    row, column = divmod(int(rest(everyone[:, :, None])[0, 0, 0]), 6)
    other[0, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1  # a routed token
    seen = through[:, :, None].expand(-1, -1, 16)
    changed = tokens(net(other, label, View(through=through)))
    assert torch.allclose(changed.gather(1, seen), routed.gather(1, seen), atol=1e-5)


def test_each_token_goes_through_as_often_as_any_other() -> None:
    count, share = 4000, 0.75
    through = kept(Seeds.of(0, count), 16, share)
    assert through.shape == (count, 4) and bool((through.diff(dim=1) > 0).all())
    often = through.flatten().bincount(minlength=16) / count
    assert float((often - 0.25).abs().max()) < 4 * (0.25 * 0.75 / count) ** 0.5


@pytest.mark.parametrize("views", [Views(crops=0.6), Views(crops=0.4, route=0.5)], ids=str)
def test_the_loss_of_an_example_is_its_own_in_any_batch(views: Views) -> None:
    denoiser = NetworkDenoiser(GaussianProcess(Cosine()), network())
    x, cond = Pictures().batch(torch.arange(16))
    objective, u, seeds = Denoising(views=views, coupling=Nearest()), midpoints(16), Seeds.of(5, 16)
    with torch.no_grad():
        whole = objective.at_quantiles(denoiser, x, u, seeds, **cond)
        order = torch.arange(16).flip(0)
        turned = objective.at_quantiles(
            denoiser, x[order], u[order], seeds.take(order.tolist()), **{k: v[order] for k, v in cond.items()}
        )
        halves = [
            objective.at_quantiles(denoiser, x[h], u[h], seeds[h], **{k: v[h] for k, v in cond.items()})
            for h in (slice(0, 5), slice(5, 16))
        ]
    assert torch.allclose(turned[order], whole, rtol=1e-4, atol=1e-6)
    assert torch.allclose(torch.cat(halves), whole, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(whole, Denoising().at_quantiles(denoiser, x, u, seeds, **cond), rtol=0.01)


def test_crops_of_unit_data_have_the_least_loss_of_whole_pictures() -> None:
    """Of independent pixels a crop says as much per pixel as the whole: the mean loss of v stays 1."""
    count, seeds = 1500, Seeds.of(1, 1500)
    denoiser = NetworkDenoiser(GaussianProcess(Cosine()), Blind(Cosine(), "v"))
    x = seeds.fold("x").normal(torch.empty(count, 1, 16, 24, dtype=torch.float64))
    found = Denoising(views=Views(crops=0.5)).look(denoiser, x, midpoints(count), seeds)
    stderr = float(found.losses.std()) / count**0.5
    assert stderr < 0.01 and float(found.losses.mean()) == pytest.approx(1.0, abs=4 * stderr)
    assert found.errors is not None and len(found.errors[0]) == count
    level = Cosine().log_snr(midpoints(count)).sort().values
    assert torch.allclose(found.errors[0].sort().values, level)


def test_at_the_end_and_before_the_judge_everything_is_shown() -> None:
    views = Views(crops=0.5, route=0.5, until=0.8)
    objective = Denoising(views=views, coupling=Nearest())
    assert objective.stage(0.79).views == views and objective.stage(0.8).views == EVERYTHING
    assert objective.judged() == Denoising() and objective.stage(0.9).coupling == Nearest()


def test_a_run_on_parts_is_killed_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    def run(folder: str) -> Any:
        return training(
            tmp_path / folder, objective=Denoising(views=Views(0.5, 0.5, 0.7), coupling=Nearest(2)),
            train=Pictures(), val=Pictures(), denoiser=NetworkDenoiser(GaussianProcess(Cosine()), network()),
            steps=10, save_seconds=0.0, lr=1e-3,
        )  # fmt: skip

    straight, killed = run("straight"), run("killed")
    walk(straight)
    walk(killed, stop=6)
    again = run("killed")
    assert again.resume() and again.count.step < 10
    walk(again)
    assert state(again) == state(straight)
