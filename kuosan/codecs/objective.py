"""What a codec is trained on: the bound of its own likelihood, and texture.

Per example, in nats per number of the state, with D numbers in it,

    loss = (E_q[−log p(x | z)] + β KL(q(z | x) ‖ N(0, I))) / D + w/s · Σ_l mean |ρ_l(x) − ρ_l(x̂)|              (1)

β = 1 is the negative bound, where the decoder's variance s² is learned and so weighs the two terms (Rybkin et al.
2021): no weight is left to tune. But its best x̂ is a mean, and means are smooth: where the latents do not say
where a brush stroke lies, they paint none. So the last term asks for as much of it as there was, wherever
it lies: ρ_l is the local strength of a band of frequencies,

    ρ_l = √(box(d_l²) + κ²),    d_l = x_l − up(x_{l+1}),    x_{l+1} = halved x_l                              (2)

the bands d_l of a Laplacian pyramid (Burt & Adelson 1983). A difference |d_l(x) − d_l(x̂)| in its place, the usual
choice, is a distance again and sharpens nothing. Any decoder with its measured s² gives a proper bound, whatever
it was trained on; w > 0 makes it looser, by a few hundredths of a bit per number at the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kuosan.codecs.base import Codec
from kuosan.codecs.likelihood import kl_to_normal
from kuosan.core.random import Seeds

BANDS = 2
BOX = 8  # pixels of a band over which its strength is averaged, at half overlap
KAPPA = 0.01  # about one 8-bit level: where there is nothing, nothing is matched


def bands(x: Float[Tensor, "b C H W"], count: int = BANDS) -> Iterator[Float[Tensor, "b C _ _"]]:
    """d_0, d_1, … of eq. (2), as many as the picture's size allows."""
    for _ in range(count):
        if min(x.shape[-2:]) < 2:
            return
        half = F.avg_pool2d(x, 2, ceil_mode=True)
        yield x - F.interpolate(half, size=x.shape[-2:], mode="bilinear", align_corners=False)
        x = half


def strength(d: Float[Tensor, "b C H W"]) -> Float[Tensor, "b C _ _"]:
    """ρ of eq. (2) over boxes, or over the whole band where that is smaller."""
    box = [min(BOX, side) for side in d.shape[-2:]]
    return (F.avg_pool2d(d**2, box, [max(1, side // 2) for side in box]) + KAPPA**2).sqrt()


def texture(x: Float[Tensor, "b C *sides"], y: Float[Tensor, "b C *sides"]) -> Float[Tensor, " b"]:
    """Σ_l mean |ρ_l(x) − ρ_l(y)| per example, of clips over their frames: 0 for equal pictures, and for those with
    equal strengths."""
    pairs = zip(bands(_frames(x)), bands(_frames(y)), strict=True)
    differences = [(strength(a) - strength(b)).abs().reshape(len(x), -1).mean(1) for a, b in pairs]
    return torch.stack(differences).sum(0) if differences else x.new_zeros(len(x))


def _frames(x: Float[Tensor, "b C *sides"]) -> Float[Tensor, "n C H W"]:
    return x if x.ndim == 4 else x.transpose(1, 2).flatten(0, 1)


def codec_loss(
    codec: Codec, x: Float[Tensor, "b C *sides"], seeds: Seeds, *, beta: float = 1.0, detail: float = 0.3
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Eq. (1) for states of any size in whole patches, with w = `detail`; and the mean squared error of each."""
    mean, log_var = codec.moments(x)
    if log_var is None:
        raise ValueError("a codec whose encoder is a point has no bound to train on")
    y = codec.picture(mean + (log_var / 2).exp() * seeds.normal(mean))
    count, error = x[0].numel(), (x - y).square().flatten(1).mean(1)
    log_noise = codec.log_noise.expand(len(x))
    loss = 0.5 * (error / log_noise.exp() + log_noise) + beta * kl_to_normal(mean, log_var) / count
    if detail:
        loss = loss + detail * texture(x, y) / (codec.log_noise.detach() / 2).exp()
    return loss, error


def crops(
    x: Float[Tensor, "b C *sides"], cut: Sequence[int], factor: Sequence[int], seeds: Seeds
) -> Float[Tensor, "b C *fewer"]:
    """One block of ``cut`` (or whole sides, where these are shorter) of each state, at a random whole patch: encoding
    in use starts its patches there too."""
    size = [min(most, length) for most, length in zip(cut, x.shape[2:], strict=True)]
    room = [(length - n) // f + 1 for length, n, f in zip(x.shape[2:], size, factor, strict=True)]
    u = seeds.fold("place").uniform(torch.empty(len(x), len(room), dtype=torch.float64))
    place = (u * torch.tensor(room)).long() * torch.tensor(factor)
    spans = [[slice(i, i + n) for i, n in zip(at, size, strict=True)] for at in place.tolist()]
    return torch.stack([one[(slice(None), *span)] for one, span in zip(x, spans, strict=True)])
