"""A run as a folder that another program opens.

The folder is built beside its place and moved there whole, so that a full disk leaves no half of one. Nothing
is overwritten: a folder that holds anything is refused.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kuosan.codecs import StockCodec
from kuosan.core.shapes import PICTURE
from kuosan.denoisers.diffusers import export_diffusers
from kuosan.errors import UserError
from kuosan.modalities.dataset import resolve
from kuosan.recipes.run import Run

FORMATS = ("diffusers",)


def export(run: Run, to: str, folder: Path, where: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Write a run's averaged model in another program's form.

    Args:
        to: ``diffusers``: a folder for `DiffusionPipeline.from_pretrained`.
        folder: new or empty.
        where: conditions to fix, by their values; a U-Net's exported pipeline can give none itself.

    Returns:
        What was written: ``folder``, ``pipeline`` (its class), ``parameters``, ``files``.

    Raises:
        UserError: an unknown form, a folder in use, or a model that the other program cannot hold.
    """
    if to not in FORMATS:
        what = "is not part of this version" if to == "onnx" else "is not known"
        raise UserError(f"exporting to {to} {what}: use --to diffusers")
    if run.foreign:
        raise UserError(f"{run.path} is a diffusers pipeline already: copy the folder instead")
    if run.facts.recipe.process.discrete:
        raise UserError(
            f"{run.path} is a model of {run.modality.noun}, and diffusers has no pipeline for its "
            "network: sample it with `kuosan sample`; its weights are in model.safetensors, its tokeniser in "
            "tokenizer.json"
        )
    if run.modality.axes != PICTURE:
        raise UserError(
            f"{run.path} is a model of {run.modality.noun}, and the pipelines of diffusers that this can fill are of "
            "pictures: sample it with `kuosan sample`; its weights are in model.safetensors"
        )
    if run.facts.network.get("beside"):
        raise UserError(
            f"{run.path} is told what stands beside each picture, and no pipeline of diffusers' has a place for it: "
            "sample it with `kuosan sample`"
        )
    if run.captions is not None:
        raise UserError(
            f"{run.path} hears captions, and no pipeline of diffusers' has a network that reads them so: sample it "
            "with `kuosan sample`; its weights are in model.safetensors, its tokeniser in tokenizer.json"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder: give the export a new one")
    if run.facts.recipe.distil.steps > 1:
        raise UserError(
            f"{run.path} is a student of {run.facts.recipe.distil.steps} steps with fresh noise at times of its own, "
            "which no pipeline of diffusers' for these networks can be told: sample it with `kuosan sample`, or "
            f"distil {run.facts.recipe.init} with --steps 1, which can be exported"
        )
    if not run.facts.recipe.noise.gaussian:
        raise UserError(
            f"{run.path} is {run.denoiser.process}, and diffusers draws Gaussian noise only: sample it with `kuosan "
            "sample`, or train with noise=gaussian"
        )
    facts, objective = run.facts, run.facts.recipe.objective
    fixed = {k: resolve(facts.columns, facts.class_names, k, v) for k, v in (where or {}).items()}
    names = {
        column: [facts.class_names.get(v, v) if column == "class" else v for v in values]
        for column, values in facts.columns.items()
    }
    denoiser, vae = run.denoiser, _vae(run)
    beside = _beside(folder)
    try:
        export_diffusers(
            denoiser.network,
            facts.network,
            beside / "export",
            output=objective.output,
            schedule=denoiser.schedule,
            sigma_data=objective.sigma_data,
            where=fixed,
            names=names,
            vae=vae,
            student=facts.recipe.distil.times[0] if facts.recipe.distil.steps else None,
        )
        os.replace(beside / "export", folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return {
        "folder": folder,
        "pipeline": "DiTPipeline" if facts.network["kind"] == "transformer" else "DDPMPipeline",
        "parameters": sum(p.numel() for p in denoiser.network.parameters()),
        "where": dict(where or {}),
        "files": files,
    }


def _vae(run: Run) -> Any:
    """The codec in diffusers' own form; None where there is none.

    Raises:
        UserError: diffusers has no class for it.
    """
    codec = run.codec
    if codec is None:
        return None
    if not isinstance(codec, StockCodec):
        raise UserError(
            f"the codec of {run.path} was trained by Kuosan, and diffusers has no class for it: sample it here, or "
            "train with an autoencoder of diffusers', --set codec=stock codec.path=FOLDER"
        )
    return codec.exported()


def _beside(folder: Path) -> Path:
    """A temporary folder on the same file system."""
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".kuosan-export-", dir=folder.absolute().parent))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): give the export a folder that can"
        ) from error
