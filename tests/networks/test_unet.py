"""Laws of the U-Net: it is diffusers' model, whatever the image size and the conditions."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from kuosan.networks import UNet
from kuosan.networks.unet import unet_config


def make(height: int = 8, width: int = 12, **leaves: object) -> UNet:
    generator = torch.Generator().manual_seed(1)
    shape: dict = {"base": 8, "mults": (1, 2), "blocks": 1, "attention": (1,)} | leaves
    network = UNet(2, (height, width), generator=generator, **shape)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval()


def batch(height: int = 8, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(2, 2, height, width, generator=generator), torch.tensor([0.5, 700.25])


def test_importing_networks_does_not_import_diffusers() -> None:
    code = "import sys, kuosan.networks; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_starts_as_zero_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    leaves: dict = {
        "base": 12,
        "mults": (1, 2, 2),
        "blocks": 1,
        "attention": (2,),
        "conditions": {"a": 2, "b": 3},
    }
    one, two = (UNet(2, (8, 12), generator=torch.Generator().manual_seed(3), **leaves) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one(*batch()).abs().max() == 0
    assert all(
        torch.equal(a, b) and torch.isfinite(a).all()
        for a, b in zip(one.parameters(), two.parameters(), strict=True)
    )


def test_one_condition_is_diffusers_own_class_table() -> None:
    network, (x, label) = make(conditions={"kind": 4}), batch()
    kind = torch.tensor([2, 4])
    expected = network.unet(x, label, class_labels=kind).sample
    assert torch.equal(network(x, label, kind=kind), expected)
    assert torch.equal(network(x, label), network(x, label, kind=torch.tensor([4, 4])))
    assert (network(x, label) - expected)[0].abs().max() > 1e-3


def test_several_conditions_are_summed() -> None:
    network, (x, label) = make(conditions={"a": 2, "type": 3}), batch()
    a, kind = torch.tensor([0, 2]), torch.tensor([1, 3])
    rows = network.table.column("a")[a] + network.table.column("type")[kind]
    torch.testing.assert_close(
        network(x, label, a=a, type=kind), network.unet(x, label, class_labels=rows).sample
    )


@pytest.mark.parametrize("conditions", [{}, {"a": 2}, {"a": 2, "b": 2}])
def test_unknown_conditions_are_refused(conditions: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="colour"):
        make(conditions=conditions)(*batch(), colour=torch.zeros(2, dtype=torch.int64))


def test_padding_repeats_the_edge_and_is_cropped() -> None:
    odd, whole = make(7, 9), make(8, 10)
    x, label = batch(7, 9)
    expected = whole(F.pad(x, (0, 1, 0, 1), mode="replicate"), label)[:, :, :7, :9]
    torch.testing.assert_close(odd(x, label), expected)


def test_groups_and_heads_divide_every_width() -> None:
    for base in (3, 8, 20, 48, 96, 128):
        config = unet_config(3, (16, 16), base=base, mults=(1, 2, 3), blocks=1, attention=())
        widths = config["block_out_channels"]
        for part in ("norm_num_groups", "attention_head_dim"):
            assert 1 <= config[part] <= 32 and all(w % config[part] == 0 for w in widths)
        assert config["norm_num_groups"] == 1 or base >= 4 * config["norm_num_groups"]
    assert unet_config(3, (16, 16), base=64, mults=(1, 2), blocks=1, attention=())["norm_num_groups"] == 16
    assert unet_config(3, (16, 16), base=128, mults=(1, 2), blocks=1, attention=())["norm_num_groups"] == 32


@pytest.mark.parametrize("base", [4, 8, 16])
def test_the_label_and_the_condition_reach_the_output(base: int) -> None:
    """A group norm of one channel per group would undo them, as diffusers' defaults do at small widths."""
    network, (x, label) = make(base=base, mults=(1,), attention=(), conditions={"a": 2}), batch()
    out = network(x, label)
    assert (network(x, label + 300) - out).abs().amax((1, 2, 3)).min() > 1e-2
    assert (network(x, label, a=torch.tensor([0, 1])) - out).abs().amax((1, 2, 3)).min() > 1e-2


def test_dropout_is_a_function_of_the_batch() -> None:
    network, (x, label) = make(dropout=0.4), batch()
    network.train()
    before = torch.random.get_rng_state()
    first, again, other = network(x, label), network(x, label), network(x, label + 1e-3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again) and (first - other).abs().max() > 1e-2
