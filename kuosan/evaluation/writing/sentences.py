"""Sentence encoders of others as a feature space: meaning rather than spelling, where the user has such a model.

A model in the form of Hugging Face (config.json, tokenizer, model.safetensors) is read from a folder on this machine;
nothing is fetched, and no code of the folder is run. A text's row is the mean of its last hidden states,
scaled to length √d (Reimers & Gurevych 2019, section 3). Texts longer than the model takes are cut there.

How well such a space fits depends on the language and on what the model has read: it may have read the user's texts.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.errors import UserError
from kuosan.evaluation.writing.features import TextSpace

LONGEST = 512  # tokens, where the tokenizer states no limit of its own


class Sentences(TextSpace):
    """The space `sentences` of the model in `folder`.

    Raises UserError where `transformers` is not installed or the folder holds no such model.
    """

    name = "sentences"

    def __init__(self, folder: Path | str, device: torch.device | str = "cpu") -> None:
        self.folder, self.device = Path(folder), device
        if find_spec("transformers") is None:
            raise UserError(
                "A sentence encoder needs the package transformers, which is not installed: "
                "run `pip install transformers`, or evaluate without an encoder."
            )
        if not (self.folder / "config.json").is_file():
            raise UserError(
                f"There is no sentence encoder in {self.folder}, as it holds no config.json: name a folder with a "
                "model of Hugging Face's form, or evaluate without an encoder."
            )
        transformers = importlib.import_module("transformers")
        try:
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                str(self.folder), local_files_only=True
            )
            model = transformers.AutoModel.from_pretrained(
                str(self.folder), local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise UserError(
                f"The sentence encoder in {self.folder} cannot be read ({error}): name another folder, or evaluate "
                "without an encoder."
            ) from error
        self.model: Any = model.to(device).eval()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        longest = min(LONGEST, int(self.tokenizer.model_max_length))
        rows = []
        for start in range(0, len(texts), 32):
            part = list(texts[start : start + 32])
            fed = self.tokenizer(
                part, padding=True, truncation=True, max_length=longest, return_tensors="pt"
            ).to(self.device)
            states = self.model(**fed).last_hidden_state.float()
            mask = fed["attention_mask"][..., None].float()
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            rows.append(torch.nn.functional.normalize(mean, dim=1).cpu())
        found = torch.cat(rows)
        return found * found.shape[1] ** 0.5

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": f"mean last hidden state of {type(self.model).__name__} in {self.folder.name}",
            "dimensions": int(self.model.config.hidden_size),
        }
