"""Networks of others as feature spaces, read from folders in the form of Hugging Face.

A folder holds config.json, model.safetensors and preprocessor_config.json, or a tokeniser in place of that. Nothing is
fetched, and no code of the folder is run. Spaces are named after the kind of model, as its config.json has it: dinov2,
clip, clap …
"""

from __future__ import annotations

import importlib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kuosan.errors import UserError

CONFIG, PREPARED = "config.json", "preprocessor_config.json"
AWAY = "name another folder, or leave --encoder away"
SEES, HEARS, READS = (
    "pictures (DINOv2, CLIP, …)",
    "sounds (CLAP, wav2vec 2.0, …)",
    "texts (a sentence encoder)",
)


def stock_folder(folder: Path, what: str) -> None:
    """Raises UserError where `transformers` is missing, or at first sight the folder holds no model of ``what``."""
    if find_spec("transformers") is None:
        raise UserError(
            f"an encoder of {what} needs the package transformers, which is not installed: run `pip install "
            "transformers`, or leave --encoder away"
        )
    for name in (CONFIG,) if what == READS else (CONFIG, PREPARED):
        if not (folder / name).is_file():
            raise UserError(f"there is no encoder of {what} in {folder}, as it holds no {name}: {AWAY}")


def stock_model(folder: Path, what: str) -> Any:
    """The model in a folder.

    Raises:
        UserError: see `stock_folder`, or it cannot be read.
    """
    stock_folder(folder, what)
    transformers = importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):  # what it makes up for missing weights is never used
            model = transformers.AutoModel.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise UserError(f"the encoder in {folder} cannot be read ({error}): {AWAY}") from error
    return model.eval()


def name_of(model: Any) -> str:
    """The kind of model, as a space is called."""
    return re.sub(r"[^a-z0-9]+", "", str(model.config.model_type).lower())


def pooled(found: Any) -> Tensor | None:
    """The one row for each item that a model hands on, if it does."""
    if isinstance(found, Tensor):
        return found
    row = getattr(found, "pooler_output", None)
    return row if isinstance(row, Tensor) else None
