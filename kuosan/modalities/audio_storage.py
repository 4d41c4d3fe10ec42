"""Sounds in storage: their levels, which training reads at every step, and their samples, for those who need them.

Both lie on the disk, in files without a name that end with the process, and are mapped into memory: however many sounds
there are, what is read is what takes room.  One row of either stream is one frame: the levels of its bands in half
precision (within 0.04 dB), and the hop's samples in 16 bits.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Float, Int16
from numpy.typing import NDArray
from torch import Tensor

from kuosan.modalities.ragged import Ragged


@dataclass(frozen=True, eq=False)
class Sounds:
    """Windows of a stream of frames: `levels` (N, c, f), and the `samples` (N, c, hop) of the same frames."""

    levels: Ragged
    samples: Int16[Tensor, "N c h"]

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, index: Tensor | slice) -> Sounds:
        return Sounds(self.levels[index], self.samples)

    def confined(self) -> Sounds:
        """See `Ragged.confined`."""
        return Sounds(self.levels.confined(), self.samples)

    def wave(self, i: int) -> Float[Tensor, "c n"]:
        """The samples of one item, from -1 to 1."""
        rows = self.samples[int(self.levels.start[i]) : int(self.levels.stop[i])]
        return rows.transpose(0, 1).flatten(1).float() / 32_768


class Spool:
    """Rows of one type and shape, written one after another to the disk and then read as one array."""

    def __init__(self, dtype: Any, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape, self.rows = np.dtype(dtype), shape, 0
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="kuosan-")

    def add(self, rows: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(rows, self.dtype).data)
        self.rows += len(rows)

    def cut(self, rows: int) -> None:
        """Forget what came after so many rows."""
        self.rows = rows
        self._file.seek(rows * int(np.prod(self.shape)) * self.dtype.itemsize)
        self._file.truncate()

    def tensor(self) -> Tensor:
        """All rows."""
        self._file.flush()
        if not self.rows:
            return torch.from_numpy(np.empty((0, *self.shape), self.dtype))
        return torch.from_numpy(np.memmap(self._file, self.dtype, "r+", 0, (self.rows, *self.shape)))
