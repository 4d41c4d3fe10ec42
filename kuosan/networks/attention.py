"""Attention, in the precision in which it is fast.

On a CPU the gradient of attention takes five times as long in bfloat16 as in float32 (torch 2.13, AMX; more than half
of a transformer's whole step), so there it stays in float32 however the products around it are made.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def widened(*parts: Tensor) -> tuple[Tensor, ...]:
    """In float32, where a CPU's products are in bfloat16; as they are elsewhere."""
    return tuple(p.float() if p.dtype == torch.bfloat16 and p.device.type == "cpu" else p for p in parts)


def attention(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b h n d"],
    v: Float[Tensor, "b h n d"],
    mask: Bool[Tensor, "n n"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "b h n d"]:
    """softmax(q kᵀ/√d) v, where ``mask`` (or the order, for ``causal``) lets a query see a key."""
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        q, k, v = widened(q, k, v)
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
