"""Attention, in the way in which it is fast.

On a CPU the gradient of torch's attention takes five times as long in bfloat16 as in float32 (torch 2.13, AMX; more
than half of a transformer's whole step), so there it stays in float32 however the products around it are made. Except
in training with few tokens, where the two products written out, in bfloat16, are faster still (forwards and backwards,
one thread, ms; batch × heads × tokens × channels):

                       64×3×49×32   16×6×64×32   16×12×64×64   16×4×256×32   8×4×512×32
    torch's, float32          6.1          4.2          16.7          24.3         40.1
    written out               5.6          2.9           9.9          14.0         56.6
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

FEW = 256  # tokens


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
        with torch.autocast("cpu", enabled=False):
            if (
                q.requires_grad
                and torch.is_grad_enabled()
                and q.shape[2] <= FEW
                and mask is None
                and not causal
            ):
                return written_out(*(part.to(torch.get_autocast_dtype("cpu")) for part in (q, k, v)))
            q, k, v = widened(q, k, v)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def written_out(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h n d"], v: Float[Tensor, "b h n d"]
) -> Float[Tensor, "b h n d"]:
    """softmax(q kᵀ/√d) v, product by product."""
    queries, keys, values = (part.flatten(0, 1) for part in (q * q.shape[-1] ** -0.5, k, v))
    return torch.bmm(torch.bmm(queries, keys.mT).softmax(-1), values).unflatten(0, q.shape[:2])


class Wide:
    """A processor of diffusers' attention layers that keeps to that, its four small products included."""

    def __init__(self, inner: Callable[..., Tensor]) -> None:
        self.inner = inner

    # diffusers hands over only what a processor names, so what is passed on is named.
    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        others = (encoder_hidden_states, attention_mask, temb)
        if hidden_states.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return self.inner(attn, hidden_states.float(), *others)
        return self.inner(attn, hidden_states, *others)


def widen(network: nn.Module) -> None:
    """Give every attention layer of a network of diffusers such a processor."""
    from diffusers.models.attention_processor import Attention

    for layer in network.modules():
        if isinstance(layer, Attention):
            layer.processor = Wide(layer.processor)
