"""Sentence encoders of others as a feature space: meaning rather than spelling, where the user has such a model.

The folder is read as `stock` says, with its tokeniser. A text's row is the mean of its last hidden states,
scaled to length √d (Reimers & Gurevych 2019, section 3). Texts longer than the model takes are cut there.

How well such a space fits depends on the language and on what the model has read: it may have read the user's texts.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.errors import UserError
from kuosan.evaluation.stock import AWAY, READS, stock_model
from kuosan.evaluation.writing.features import TextSpace

LONGEST = 512  # tokens, where the tokenizer states no limit of its own


class Sentences(TextSpace):
    """The space `sentences` of the model in `folder`.

    Raises UserError where `transformers` is not installed or the folder holds no such model.
    """

    name = "sentences"

    def __init__(self, folder: Path | str, device: torch.device | str = "cpu") -> None:
        self.folder, self.device = Path(folder), device
        model = stock_model(self.folder, READS)
        try:
            self.tokenizer: Any = importlib.import_module("transformers").AutoTokenizer.from_pretrained(
                str(self.folder), local_files_only=True
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise UserError(f"the tokeniser in {self.folder} cannot be read ({error}): {AWAY}") from error
        self.model: Any = model.to(device)

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
