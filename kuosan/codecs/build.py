"""Codecs from their specifications, and their weights on disk: one JSON value, one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kuosan.codecs.base import Codec
from kuosan.codecs.kl_vae import KLVAE
from kuosan.codecs.stock import StockCodec
from kuosan.errors import UserError
from kuosan.training.checkpoint import load_weights, save_weights


def build_codec(spec: Mapping[str, Any], generator: torch.Generator) -> Codec:
    """The codec of a specification; a `KLVAE` draws its initial weights from ``generator``.

    Raises:
        UserError: a kind, or a leaf of the specification, that does not exist.
    """
    leaves = dict(spec)
    kind = leaves.pop("kind", None)
    try:
        if kind == "kl_vae":
            return KLVAE(**leaves, generator=generator)
        if kind == "stock":
            return StockCodec(**leaves)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the codec cannot be built: {error}; correct the codec's part of the recipe"
        ) from error
    raise UserError(f"codec kind {kind!r} is unknown; choose kl_vae or stock")


def save_codec(path: Path, codec: Codec) -> None:
    """Weights, shift, scale and log_noise in one safetensors file, the specification in its header."""
    save_weights(path, codec.state_dict(), codec.spec())


def load_codec(path: Path, spec: Mapping[str, Any]) -> Codec:
    """The frozen codec of a specification with the weights in a file.

    Raises:
        UserError: the file cannot be read, or does not fit the specification.
    """
    codec = build_codec(spec, torch.Generator().manual_seed(0))
    try:
        codec.load_state_dict(load_weights(path))
    except RuntimeError as error:
        raise UserError(
            f"the weights {path} do not fit the recipe beside them: restore both from one copy"
        ) from error
    return codec.requires_grad_(False).eval()
