"""A text encoder of somebody else's, in the form of Hugging Face, which is read from a folder and never trained.

It is no part of a network's weights: not copied with it, not saved with it.  A run keeps the folder's path and a digest
of the weights, and reads them again.  Nothing is fetched, no code of the folder is run, and only safetensors are read.
Of models with an encoder and a decoder, and of those with a part for pictures, it is the part that reads texts.

A caption's states are computed once and kept, up to `MOST` bytes of them.
"""

from __future__ import annotations

import hashlib
import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kuosan.errors import UserError

MOST = 2**30
CONFIG, WEIGHTS = "config.json", "*.safetensors"


class Frozen:
    """States of texts.

    Args:
        path: the folder. digest: of its weights, which must still be those. width: of a state.
    """

    def __init__(self, path: str, digest: str, width: int) -> None:
        self.path, self.digest, self.width = Path(path), digest, width
        self._model: Any = None
        self._kept: dict[bytes, Tensor] = {}
        self._bytes = 0

    def __deepcopy__(self, memo: dict[int, object]) -> Frozen:
        return self  # an average of weights shares it

    def __call__(self, tokens: Int64[Tensor, "b l"], end: int) -> Float[Tensor, "b l w"]:
        """States of token rows that are filled with ``end``, 0 there."""
        rows = tokens.cpu()
        keys = [row[row != end].numpy().tobytes() for row in rows]
        fresh = {
            key: row[row != end] for key, row in zip(keys, rows, strict=True) if key and key not in self._kept
        }
        now: dict[bytes, Tensor] = {}
        for key, ids in fresh.items():
            now[key] = self._states(ids.clone(), tokens.device)
            size = now[key].numel() * now[key].element_size()
            if self._bytes + size <= MOST:
                self._kept[key] = now[key]
                self._bytes += size
        out = torch.zeros(*tokens.shape, self.width, device=tokens.device)
        for place, key in zip(out, keys, strict=True):
            if key:
                states = now[key] if key in now else self._kept[key]
                place[: len(states)] = states.to(place)
        return out

    @torch.inference_mode(False)
    @torch.no_grad()
    def _states(self, ids: Tensor, device: torch.device) -> Tensor:
        """Of one caption by itself, so that its neighbours never matter."""
        if self._model is None:
            self._model = read_encoder(self.path, self.digest)
        model = self._model.to(device)
        ids = torch.tensor(ids.tolist(), device=device)[None]
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].float().clone()


def digest_of(folder: Path) -> str:
    """Tells one encoder's weights from another's."""
    found = hashlib.sha256()
    for file in sorted(folder.glob(WEIGHTS)):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                found.update(chunk)
    return found.hexdigest()[:16]


def read_encoder(folder: Path, digest: str | None = None) -> Any:
    """The model that reads texts.

    Raises:
        UserError: `transformers` is not installed, or the folder holds no such model, or other weights than it did.
    """
    if find_spec("transformers") is None:
        raise UserError(
            "a text encoder of Hugging Face's form needs the package transformers, which is not installed: run `pip "
            "install transformers`, or leave caption.encoder away"
        )
    if not (folder / CONFIG).is_file() or not any(folder.glob(WEIGHTS)):
        raise UserError(
            f"there is no text encoder in {folder}, which needs {CONFIG} and weights in safetensors: name another "
            "folder with caption.encoder, or put it back"
        )
    if digest is not None and digest_of(folder) != digest:
        raise UserError(
            f"the text encoder in {folder} is not the one that the run was trained with: put that one back"
        )
    transformers = importlib.import_module("transformers")
    try:
        with torch.random.fork_rng(devices=[]):  # what it makes up for missing weights is never used
            model = transformers.AutoModel.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise UserError(
            f"the text encoder in {folder} cannot be read ({error}): name another folder"
        ) from error
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    model = getattr(model, "text_model", model)
    return model.eval().requires_grad_(False)


def width_of(model: Any) -> int:
    """The length of its states."""
    config = getattr(model.config, "text_config", model.config)
    return int(config.hidden_size)
