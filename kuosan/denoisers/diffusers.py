"""`diffusers` pipelines as denoisers, and back.

A folder that `DDPMPipeline`, `DDIMPipeline` or `PNDMPipeline` saved holds a U-Net and a scheduler. Of the
scheduler three things matter here: its ᾱ_0 … ᾱ_{T−1}, which become a `Tabulated` schedule with index i at t
= (i + 1)/T; what the network predicts; and nothing else: sampling is our solvers' affair. The U-Net keeps
its own configuration (`StockUNet`).

Only files are read: no network access, no code from the folder, no pickle. A class is taken by name from a
short list, never looked up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kuosan.core.schedules import Tabulated
from kuosan.denoisers.diffusers_export import PREDICTIONS
from kuosan.denoisers.diffusers_folder import export_diffusers
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.denoisers.outputs import Output
from kuosan.errors import UserError
from kuosan.networks.stock import StockUNet
from kuosan.processes.gaussian import GaussianProcess

__all__ = ["Loaded", "export_diffusers", "is_diffusers", "load_diffusers", "read_diffusers"]

PIPELINES = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline")
WEIGHTS = "diffusion_pytorch_model.safetensors"
OUTPUTS: dict[str, Output] = {"epsilon": "eps", "v_prediction": "v", "sample": "x"}
assert {v: k for k, v in OUTPUTS.items()} == PREDICTIONS


class Loaded(NamedTuple):
    """The parts of a pipeline; `build_network(spec, …)` rebuilds the network."""

    network: StockUNet
    spec: dict[str, Any]
    schedule: Tabulated
    output: Output


def is_diffusers(folder: str | Path) -> bool:
    """Whether this is a folder that a diffusers pipeline was saved to."""
    return (Path(folder) / "model_index.json").is_file()


def load_diffusers(folder: str | Path) -> NetworkDenoiser:
    """The denoiser of an unconditional diffusers U-Net pipeline, ready to sample.

    Raises:
        UserError: what cannot be read, and why.
    """
    network, _, schedule, output = read_diffusers(folder)
    return NetworkDenoiser(GaussianProcess(schedule), network, output).eval()


def read_diffusers(folder: str | Path) -> Loaded:
    """Network, its specification, schedule and output of a diffusers pipeline folder.

    Raises:
        UserError: what cannot be read, and why.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder} is no folder; give the folder of a diffusers pipeline, which holds model_index.json"
        )
    index = _json(folder / "model_index.json", "a diffusers pipeline folder holds it")
    name = index.get("_class_name")
    if name not in PIPELINES:
        raise UserError(
            f"{folder} holds a {name}; only {', '.join(PIPELINES)} (U-Nets over pixels) can be loaded; "
            "a run of Kuosan is continued with --init RUN"
        )
    if index.get("unet") != ["diffusers", "UNet2DModel"]:
        raise UserError(
            f"the network of {folder} is {index.get('unet')}, only diffusers' own UNet2DModel can be loaded"
        )
    scheduler = _json(
        folder / "scheduler" / "scheduler_config.json", "the pipeline's noise schedule stands there"
    )
    output = OUTPUTS.get(scheduler.get("prediction_type", "epsilon"))
    if output is None:
        raise UserError(
            f"{folder / 'scheduler'} has prediction_type {scheduler['prediction_type']!r}; "
            f"only {', '.join(OUTPUTS)} are known"
        )
    schedule = _schedule(folder, scheduler)
    config = {k: v for k, v in _json(folder / "unet" / "config.json", "").items() if not k.startswith("_")}
    size = config.get("sample_size")
    if size is None:
        raise UserError(
            f"{folder / 'unet' / 'config.json'} names no sample_size; add the side of the images in pixels"
        )
    height, width = (size, size) if isinstance(size, int) else size
    if config.get("num_class_embeds") is not None or config.get("class_embed_type") is not None:
        raise UserError(
            f"the U-Net of {folder} asks for a class, which {name} never gives; "
            "only unconditional ones are loaded"
        )
    spec = {
        "kind": "stock",
        "channels": config.get("in_channels", 3),
        "sides": [height, width],
        "config": config,
        "levels": len(schedule.log_rho),
    }
    return Loaded(_network(spec, folder / "unet"), spec, schedule, output)


def _schedule(folder: Path, config: dict[str, Any]) -> Tabulated:
    from diffusers import DDPMScheduler

    # Every DDPM-like scheduler writes these under the same names; the others concern its own steps.
    names = (
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "beta_schedule",
        "trained_betas",
        "rescale_betas_zero_snr",
    )
    known = {k: config[k] for k in names if config.get(k) is not None}
    try:
        scheduler: Any = DDPMScheduler(**known)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise UserError(f"the noise schedule in {folder / 'scheduler'} cannot be read: {error}") from error
    return Tabulated(scheduler.alphas_cumprod)


def _network(spec: dict[str, Any], folder: Path) -> StockUNet:
    if not (folder / WEIGHTS).is_file():
        if any(folder.glob("*.bin")):
            raise UserError(
                f"{folder} holds its weights as a pickle (.bin) only, which is never opened; where you trust "
                "its origin, convert it: DiffusionPipeline.from_pretrained(DIR, use_safetensors=False)"
                ".save_pretrained(NEW_DIR)"
            )
        raise UserError(f"{folder / WEIGHTS} is missing; save the pipeline again with save_pretrained")
    leaves = {k: v for k, v in spec.items() if k != "kind"}
    try:
        network = StockUNet(**leaves, generator=torch.Generator().manual_seed(0))
        network.unet.load_state_dict(_renamed(load_file(folder / WEIGHTS)))
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"the U-Net in {folder} cannot be loaded: {first}; save it again with a recent diffusers"
        ) from error
    return network


def _renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Attention layers as they are named since diffusers 0.15."""
    old = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
    renamed = {}
    for name, value in weights.items():
        for before, after in old.items():
            name = name.replace(before, after)
        renamed[name] = value
    return renamed


def _json(path: Path, purpose: str) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(
            f"{path} is missing{f': {purpose}' if purpose else ''}; save the pipeline with save_pretrained"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is not valid JSON ({error}); save the pipeline again with save_pretrained"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold a JSON object; save the pipeline again with save_pretrained")
    return content
