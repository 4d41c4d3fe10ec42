"""Laws of attention: one function, in whichever way it is worked out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kuosan.networks.attention import FEW, attention, written_out


def parts(tokens: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, 3, tokens, 8, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for _ in range(3)
    ]


def gradients(way: object, inputs: list[Tensor]) -> list[Tensor]:
    out = way(*inputs)  # type: ignore[operator]
    return [out, *torch.autograd.grad(out.float().square().sum(), inputs)]


@pytest.mark.parametrize("tokens", [1, 5, 40])
def test_written_out_it_is_the_same_function_with_the_same_gradient(tokens: int) -> None:
    ours, theirs = (gradients(f, parts(tokens)) for f in (written_out, F.scaled_dot_product_attention))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("tokens", [16, FEW, FEW + 1])
def test_in_bfloat16_it_stays_within_its_rounding(tokens: int) -> None:
    exact = gradients(F.scaled_dot_product_attention, parts(tokens))
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(attention, parts(tokens, torch.bfloat16))
    for a, b in zip(found, exact, strict=True):
        assert float((a.double() - b).detach().norm() / b.detach().norm()) < 0.02


def test_masks_and_order_are_kept_whatever_the_way() -> None:
    inputs = parts(6, torch.float32)
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    plain = F.scaled_dot_product_attention(*inputs, is_causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        for found in (attention(*inputs, mask=mask), attention(*inputs, causal=True)):
            torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)
