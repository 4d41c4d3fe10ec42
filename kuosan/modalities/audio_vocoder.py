"""From a log-mel state back to a sound: by arithmetic, or by a small network that knows the user's sounds.

The floor is `magnitudes` (what the bands tell) with phases by `griffin_lim`.  The network (after Siuzdak 2024, "Vocos":
ConvNeXt blocks at the rate of the frames, an inverse Fourier transform in place of upsampling) says per frame and bin

    |X̂| = magnitudes · exp(g),        ∠X̂ = ∠(c + i s)                                                       (1)

so that it begins as the arithmetic does and learns what bands blur: harmonics, and how attacks line up.  A few rounds
of Griffin-Lim then bring its phases together.  Of two channels the phases are those of their mean, so that what is in
the middle stays there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kuosan.modalities.audio_form import AudioForm
from kuosan.modalities.audio_mel import SILENCE, from_unit, magnitudes, to_unit, waveform
from kuosan.modalities.audio_phase import griffin_lim

POLISH = 4  # rounds after the network
MOST_GAIN = 3.0  # of eq. (1), in nepers: 26 dB
KERNEL = 7


class Block(nn.Module):
    """A ConvNeXt block along time (Liu et al. 2022): a wide depthwise convolution, then a layer on each frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.across = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.rise = nn.Linear(width, 3 * width)
        self.fall = nn.Linear(3 * width, width)

    def forward(self, h: Float[Tensor, "b w t"]) -> Float[Tensor, "b w t"]:
        each = self.norm(self.across(h).transpose(1, 2))
        return h + self.fall(F.gelu(self.rise(each))).transpose(1, 2)


class Vocoder(nn.Module):
    """See the module.

    Args:
        bands, bins: of the states, and of the spectra that it makes.
        width, depth: of the network.
        generator: source of the initial weights.
    """

    def __init__(
        self, bands: int, bins: int, *, width: int = 128, depth: int = 3, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.width, self.depth = width, depth
        with torch.device("meta"):
            self.enter = nn.Conv1d(bands, width, KERNEL, padding=KERNEL // 2)
            self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
            self.norm = nn.LayerNorm(width)
            self.gain = nn.Linear(width, bins)
            self.turn = nn.Linear(width, 2 * bins)
        for part in self.children():
            part.to_empty(device="cpu")
        self._draw(generator)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        """Uniform weights of variance 1/fan_in; norms at 1, and zero for biases and the gains."""
        for name, p in self.named_parameters():
            if p.ndim > 1 and not name.startswith("gain"):
                bound = (3 / p[0].numel()) ** 0.5
                p.uniform_(-bound, bound, generator=generator)
            else:
                p.fill_(float("norm.weight" in name))

    def forward(self, x: Float[Tensor, "b f t"]) -> tuple[Tensor, Tensor]:
        """g of eq. (1), and the phases as numbers of modulus 1, of states."""
        h = self.norm(self.blocks(self.enter(2 * x)).transpose(1, 2))
        cosine, sine = self.turn(h).transpose(1, 2).chunk(2, 1)
        size = (cosine.square() + sine.square() + 1e-8).sqrt()
        return MOST_GAIN * torch.tanh(self.gain(h).transpose(1, 2) / MOST_GAIN), torch.complex(
            cosine / size, sine / size
        )


def spectra(vocoder: Vocoder, x: Float[Tensor, "b f t"], form: AudioForm) -> Complex[Tensor, "b k t"]:
    """X̂ of eq. (1)."""
    gain, phase = vocoder(x)
    return magnitudes(from_unit(x, form), form) * gain.exp() * phase


@torch.no_grad()
def sounded(x: Float[Tensor, "b c f t"], form: AudioForm, vocoder: Vocoder | None) -> Float[Tensor, "b c n"]:
    """The sounds of states without padding, n = t·hop."""
    lead = x[:, 0] if x.shape[1] == 1 else _middle(x, form)
    m, each = magnitudes(from_unit(lead, form), form), x.flatten(0, 1)
    if vocoder is None:
        phase = griffin_lim(m, form.window, form.hop)
    else:
        gain, angle = vocoder(lead.clamp(SILENCE, 1.0))
        m = m * gain.exp()
        phase = griffin_lim(m, form.window, form.hop, POLISH, angle)
    if x.shape[1] > 1:
        m = magnitudes(from_unit(each, form), form)
        m = m if vocoder is None else m * vocoder(each.clamp(SILENCE, 1.0))[0].exp()
    spread = phase.repeat_interleave(x.shape[1], 0)
    return waveform(m * spread, form.window, form.hop).unflatten(0, x.shape[:2])


def _middle(x: Float[Tensor, "b c f t"], form: AudioForm) -> Float[Tensor, "b f t"]:
    """States of the mean of channels that are alike: that of their mean power."""
    power = (10 ** (from_unit(x, form) / 10)).mean(1)
    return to_unit(10 * power.log10(), form)
