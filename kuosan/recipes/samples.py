"""Samples of a run, and the files that they are written as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Int64
from torch import Tensor

from kuosan.modalities import Modality
from kuosan.training.checkpoint import write_bytes

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Samples:
    """States, the index of every condition that they were asked for, and the modality that writes them; and the
    latents that the states were decoded from, where there are any."""

    x: Tensor
    cond: dict[str, Int64[Tensor, " n"]]
    first: int
    modality: Modality[Any]
    z: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)


def write_samples(samples: Samples, out: str | Path, overview: Image.Image | None = None) -> list[Path]:
    """Files ``00000.EXT …`` in the modality's own format, the states, and one overview picture: all at a glance unless
    another one is given."""
    import safetensors.torch

    out = Path(out)
    raws = samples.modality.decode(samples.x)
    out.mkdir(parents=True, exist_ok=True)
    paths = [samples.modality.write(raw, out / f"{samples.first + i:05d}") for i, raw in enumerate(raws)]
    tensors = {"x": samples.x.contiguous()} | {f"condition.{k}": v for k, v in samples.cond.items()}
    if samples.z is not None:
        tensors["z"] = samples.z.contiguous()
    write_bytes(out / "samples.safetensors", safetensors.torch.save(tensors))
    (overview or samples.modality.show(raws[:100])).save(out / "overview.png")
    return paths
