"""What this machine is: for choices, for reports, for `kuosan doctor`."""

from __future__ import annotations

import os
import platform
import resource
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import kuosan

_LIBRARIES = (
    "torch", "diffusers", "numpy", "scipy", "scikit-learn", "safetensors", "pillow", "tifffile", "imagecodecs",
    "matplotlib",
)  # fmt: skip


def device() -> torch.device:
    """A CUDA device, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def has_bfloat16(where: torch.device) -> bool:
    """Whether products in bfloat16 have units of their own there: of a CPU since 2020, of a GPU since 2020."""
    if where.type == "cuda":
        return torch.cuda.get_device_capability(where) >= (8, 0)
    return where.type == "cpu" and (
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )


def name_of(where: torch.device) -> str:
    """What the device is called: the processor, or the GPU's model."""
    return torch.cuda.get_device_name(where) if where.type == "cuda" else f"{where.type} {processor()}"


def cache_folder() -> Path:
    """What this machine has found out about itself: $KUOSAN_CACHE, or kuosan in the user's folder of caches."""
    given = os.environ.get("KUOSAN_CACHE")
    return (
        Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kuosan"
    )


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_mib() -> float:
    """The most memory that this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def versions() -> dict[str, str]:
    """Python, Kuosan and the libraries that decide results."""
    out = {"python": platform.python_version(), "kuosan": kuosan.__version__}
    return out | {name: _version(name) for name in _LIBRARIES}


@cache
def _version(name: str) -> str:
    """Of an installed library; none is installed while a process runs."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def facts() -> dict[str, Any]:
    """Machine and versions, as a report shows them."""
    where = device()
    out: dict[str, Any] = {
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
    }
    return out | versions()
