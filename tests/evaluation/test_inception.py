"""The FID Inception: the published names and shapes, the pooling quirks, and no pickles."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kuosan.errors import UserError
from kuosan.evaluation.inception import BlockA, BlockC, BlockE, Inception, InceptionV3

PUBLISHED = {
    "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
    "Conv2d_1a_3x3.bn.running_var": (32,),
    "Conv2d_2b_3x3.conv.weight": (64, 32, 3, 3),
    "Conv2d_3b_1x1.conv.weight": (80, 64, 1, 1),
    "Conv2d_4a_3x3.conv.weight": (192, 80, 3, 3),
    "Mixed_5b.branch1x1.conv.weight": (64, 192, 1, 1),
    "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
    "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
    "Mixed_5c.branch_pool.conv.weight": (64, 256, 1, 1),
    "Mixed_5d.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
    "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
    "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
    "Mixed_6b.branch7x7_3.conv.weight": (192, 128, 7, 1),
    "Mixed_6c.branch7x7dbl_2.conv.weight": (160, 160, 7, 1),
    "Mixed_6e.branch7x7dbl_5.conv.weight": (192, 192, 1, 7),
    "Mixed_7a.branch3x3_2.conv.weight": (320, 192, 3, 3),
    "Mixed_7a.branch7x7x3_3.conv.weight": (192, 192, 7, 1),
    "Mixed_7b.branch1x1.conv.weight": (320, 1280, 1, 1),
    "Mixed_7b.branch3x3dbl_1.conv.weight": (448, 1280, 1, 1),
    "Mixed_7c.branch3x3_2a.conv.weight": (384, 384, 1, 3),
    "Mixed_7c.branch3x3dbl_3b.bn.bias": (384,),
    "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
    "fc.weight": (1008, 2048),
    "fc.bias": (1008,),
}


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Random weights in the published layout."""
    with torch.device("meta"):
        network = InceptionV3()
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue  # the published file has none
        if name.endswith(("running_var", "bn.weight")):
            made[name] = torch.ones(value.shape)
        else:
            scale = (2 / max(1, value[0].numel())) ** 0.5 if value.ndim > 1 else 0.0
            made[name] = scale * torch.randn(value.shape, generator=generator)
    return made


def test_names_and_shapes_are_the_published_ones(tensors: dict[str, torch.Tensor]) -> None:
    assert {name: tuple(tensors[name].shape) for name in PUBLISHED} == PUBLISHED
    # 94 convolutions with 5 tensors each (weight; batch norm's weight, bias, mean, variance) and fc's 2.
    assert len(tensors) == 94 * 5 + 2
    parameters = sum(v.numel() for k, v in tensors.items() if "running" not in k)
    # 23 834 568 is the count of Inception-v3 with 1000 classes and no auxiliary head.
    assert parameters == 23_834_568 + 8 * (2048 + 1)


def seen_by_pool_branch(block: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    seen = []
    block.branch_pool.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    block.to_empty(device="cpu").eval()(x)
    return seen[0]


def test_average_pools_leave_the_padding_out_of_the_count() -> None:
    """Of a constant picture every average is that constant, also at the border."""
    for make, channels in (
        (lambda: BlockA(192, 32), 192),
        (lambda: BlockC(128), 768),
        (lambda: BlockE(1280, pool_by_maximum=False), 1280),
    ):
        with torch.device("meta"):
            block = make()
        pooled = seen_by_pool_branch(block, torch.full((1, channels, 4, 4), 2.5))
        assert torch.allclose(pooled, torch.full_like(pooled, 2.5))


def test_the_last_block_pools_by_maximum_and_the_one_before_by_average() -> None:
    with torch.device("meta"):
        network = InceptionV3()
    spike = torch.zeros(1, 2048, 5, 5)
    spike[..., 2, 2] = 9.0
    assert seen_by_pool_branch(network.Mixed_7c, spike)[0, 0, 1:4, 1:4].eq(9).all()
    assert torch.allclose(
        seen_by_pool_branch(network.Mixed_7b, spike[:, :1280])[0, 0, 1:4, 1:4], torch.ones(3, 3)
    )


def test_features_of_a_file(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """2048 features of pictures of any size; grey is the same as grey in three channels."""
    save_file(tensors, tmp_path / "weights.safetensors")
    before = torch.get_rng_state()
    space = Inception(tmp_path / "weights.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.rand(2, 1, 20, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1
    rows = space(x)
    assert rows.shape == (2, 2048) and (rows >= 0).all() and rows.std() > 0
    assert torch.allclose(space(x.expand(-1, 3, -1, -1)), rows, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="1 or 3 channels"):
        space(x.expand(-1, 2, -1, -1))


def test_pickles_and_wrong_files_are_refused(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    pickle = tmp_path / "weights.pth"
    pickle.write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="pickle may run code"):
        Inception(pickle)
    with pytest.raises(UserError, match="No Inception weights"):
        Inception(tmp_path / "absent.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x00\x01")
    with pytest.raises(UserError, match="copy it again"):
        Inception(tmp_path / "cut.safetensors")
    few = {k: v for k, v in tensors.items() if k != "Mixed_7c.branch_pool.conv.weight"}
    save_file(few, tmp_path / "few.safetensors")
    with pytest.raises(UserError, match="1 of 472 tensors .* Mixed_7c.branch_pool.conv.weight"):
        Inception(tmp_path / "few.safetensors")
