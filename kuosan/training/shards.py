"""Tensors in a folder, a file of each process: what checkpoints of a state that nobody holds whole are made of.

torch.distributed.checkpoint divides the work and puts it together again for any number of processes, one included; its
files here are safetensors with their offsets, so nothing has to be unpickled to read them.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Each process what is its own; all of them call this.

    Raises:
        OSError: a file cannot be written, by whichever process.
    """
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        dcp.save(
            dict(tensors), storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
        )
    except CheckpointException as e:
        raise next((cause for cause, _ in e.failures.values() if isinstance(cause, OSError)), e) from e


def forms(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Names, shapes and types of what is there."""
    meta: Any = _reader(folder).read_metadata().state_dict_metadata
    return {name: (form.size, form.properties.dtype) for name, form in meta.items()}


def read(folder: Path, into: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The tensors, whole; or each process its part, in place, where it is given what to put it into."""
    from torch.distributed import checkpoint as dcp

    alone = into is None
    tensors = dict(
        into or {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in forms(folder).items()}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process: so it is meant
        dcp.load(tensors, storage_reader=_reader(folder), no_dist=alone)
    return tensors


def settle(folder: Path) -> dict[str, str]:
    """Bring all files to the disk; their SHA-256 by name."""
    out = {}
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            out[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return out


def _reader(folder: Path) -> Any:
    from torch.distributed import checkpoint as dcp

    return dcp.HuggingFaceStorageReader(str(folder))
