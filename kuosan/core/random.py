"""Randomness: one generator per example, and no global state.

A sample must not depend on its batch neighbours, on the batch size, on the number of processes or on the
order. So every example carries a key of its own, every draw is a pure function of the key, and a new draw
needs a new key: `fold` derives one from any number or word. Nothing is ever consumed, so nothing of it
needs to be saved for a resume: the step's number is enough.

The numbers come from NumPy's Philox-4x64 (Salmon et al. 2011), a counter-based generator with a 128-bit
key; PyTorch's CPU generator seeds from 32 bits only, which among 100,000 examples makes two share their
noise with a probability above one half. Drawn in float64 on the CPU and then cast: float32 and float64
runs, on any device, see the same noise.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.shapes import moved

_MASK = (1 << 64) - 1
_SHARE = 1 << 16  # numbers that are worth a thread: half a millisecond


def _mix(z: int) -> int:
    """A bijection of 64-bit numbers whose every output bit depends on every input bit (SplitMix64's
    finaliser, Steele, Lea & Flood 2014)."""
    z = (z + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


@dataclass(frozen=True)
class Seeds:
    """A key per example.

    Args:
        keys: one 64-bit number per example.
        root: the seed that all of them share (the other half of the 128-bit key).
        salt: what the draws are for, mixed into every key only when something is drawn, so that a fold
            costs the same for any number of examples.
    """

    keys: tuple[int, ...]
    root: int = 0
    salt: int = 0

    @classmethod
    def of(cls, seed: int, examples: int | Iterable[int]) -> Seeds:
        """Keys of the examples numbered ``examples`` (or 0 … examples - 1) under ``seed``."""
        numbers = range(examples) if isinstance(examples, int) else examples
        return cls(tuple(_mix(int(i) & _MASK) for i in numbers), int(seed) & _MASK)

    def fold(self, *names: int | str) -> Seeds:
        """Keys for another purpose: independent of these and of those for any other name."""
        salt = self.salt
        for name in names:
            word = zlib.crc32(name.encode()) | 1 << 40 if isinstance(name, str) else name & _MASK
            salt = _mix(salt ^ _mix(word))
        return Seeds(self.keys, self.root, salt)

    def number(self) -> int:
        """A number below 2^63 from the first key, to seed a generator of somebody else's."""
        return _mix(_mix(self.keys[0] ^ self.salt) ^ self.root) >> 1

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, examples: Iterable[int]) -> Seeds:
        """Those of these examples, by their places here."""
        return Seeds(tuple(self.keys[i] for i in examples), self.root, self.salt)

    def __getitem__(self, part: slice) -> Seeds:
        return Seeds(self.keys[part], self.root, self.salt)

    def _generators(self) -> Iterator[np.random.Generator]:
        """One generator, set to each example's key in turn: four times cheaper than making them."""
        # NumPy reads a plain list as floats, in which seeds from 2^63 on (all negative ones) meet.
        bits = np.random.Philox(key=np.array([0, self.root], dtype=np.uint64))
        generator, fresh = np.random.Generator(bits), bits.state
        for key in self.keys:
            fresh["state"]["key"][0] = _mix(key ^ self.salt)
            bits.state = fresh
            yield generator

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal noise of the shape, type and device of ``like`` (b, ...)."""
        return self._draw(like, lambda g, out: g.standard_normal(out=out))

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) of the shape, type and device of ``like`` (b, ...).

        Types narrower than float64 may round up to 1.
        """
        return self._draw(like, lambda g, out: g.random(out=out))

    def uniforms(self) -> Float[Tensor, " b"]:
        """One float64 number in [0, 1) per example, on the CPU."""
        return self.uniform(torch.empty(len(self), dtype=torch.float64))

    def _draw(self, like: Tensor, fill) -> Tensor:  # type: ignore[no-untyped-def]
        if len(like) != len(self):
            raise ValueError(f"{len(self)} seeds for {len(like)} examples: each example needs its own")
        out = np.empty((len(self), like.numel() // max(1, len(self))))

        def rows(part: slice) -> None:
            for row, generator in zip(out[part], self[part]._generators(), strict=True):
                fill(generator, row)

        # Every row is a function of its own key, so it does not matter who fills it; NumPy lets go of the interpreter.
        workers = min(torch.get_num_threads(), out.size // _SHARE, len(self))
        if workers > 1:
            ends = [len(self) * k // workers for k in range(workers + 1)]
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(rows, map(slice, ends, ends[1:])))
        else:
            rows(slice(None))
        return moved(torch.from_numpy(out).reshape(like.shape).to(like.dtype), like.device)
