"""Samples of a run, and the files that they are written as."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Int64
from torch import Tensor

from kuosan.modalities import Modality
from kuosan.modalities.captions import Captions
from kuosan.training.checkpoint import write_bytes

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Samples:
    """States, the index of every condition that they were asked for, and the modality that writes them; the latents
    that the states were decoded from, where there are any; what the conditions' indices stand for; and how captions are
    read."""

    x: Tensor
    cond: dict[str, Int64[Tensor, "n ..."]]
    first: int
    modality: Modality[Any]
    z: Tensor | None = None
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    captions: Captions | None = None

    def __len__(self) -> int:
        return len(self.x)

    def columns(self) -> dict[str, list[str | None]]:
        """The conditions in the data's own words; None where one is hidden."""
        return {k: in_words(v, self.words.get(k, ()), self.captions) for k, v in self.cond.items()}

    def raws(self, most: int | None = None) -> list[Any]:
        """The first items, which say of themselves what they were asked for where their files can."""
        columns = {name: values[:most] for name, values in self.columns().items()}
        return self.modality.described(self.modality.decode(self.x[:most]), columns)


def in_words(cond: Tensor, words: Sequence[str], captions: Captions | None) -> list[str | None]:
    """A condition of samples in the data's own words, or a caption's; None where it is hidden."""
    if cond.ndim > 1:
        return [captions.text(row) if captions else None for row in cond.tolist()]
    return [words[i] if i < len(words) else None for i in cond.tolist()]


def write_files(samples: Samples, out: str | Path) -> list[Path]:
    """Files ``00000.EXT …`` in the modality's own format."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    return [
        samples.modality.write(raw, out / f"{samples.first + i:05d}") for i, raw in enumerate(samples.raws())
    ]


def write_samples(
    samples: Samples, out: str | Path, overview: Image.Image | None = None, paths: list[Path] | None = None
) -> list[Path]:
    """`write_files`, unless these ``paths`` were written already, the states, and one overview picture: all at a glance
    unless another one is given."""
    import safetensors.torch

    out = Path(out)
    paths = write_files(samples, out) if paths is None else paths
    tensors = {"x": samples.x.contiguous()} | {f"condition.{k}": v for k, v in samples.cond.items()}
    if samples.z is not None:
        tensors["z"] = samples.z.contiguous()
    about = samples.modality.remark
    write_bytes(
        out / "samples.safetensors", safetensors.torch.save(tensors, {"note": about} if about else None)
    )
    if about:
        rows = [_row(samples, i, path, about) for i, path in enumerate(paths)]
        table = out / "metadata.jsonl"
        fresh = {row["file_name"] for row in rows}
        rows = sorted([*_others(table, fresh), *rows], key=lambda row: str(row["file_name"]))
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_bytes(table, lines.encode())
    if overview is None:
        overview = samples.modality.show(samples.raws(100))
    overview.save(out / "overview.png")
    return paths


def _row(samples: Samples, i: int, path: Path, about: str) -> dict[str, Any]:
    """What a table says of one file, in the form of data folders."""
    words = {k: values[i] for k, values in samples.columns().items() if values[i] is not None}
    return {"file_name": path.name, **words, "note": about}


def _others(table: Path, fresh: Collection[str]) -> list[dict[str, Any]]:
    """What a table of earlier samples says of files that are not written now."""
    if not table.is_file():
        return []
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [row for row in rows if row["file_name"] not in fresh]
