"""Networks of others that hear, as a feature space: CLAP, wav2vec 2.0, AST …, where the user has one (`stock`).

A sound is brought to one channel and to the rate that the folder's preprocessor_config.json names, cut to the length
that it takes, lengthened with silence to a tenth of a second, and made ready by its feature extractor, one sound at a
time, so that its neighbours never matter. A row is of CLAP the embedding that is compared with texts, of others the
pooled output, or the mean of the last states where there is none.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.errors import UserError
from kuosan.evaluation.features import Space
from kuosan.evaluation.stock import AWAY, HEARS, PREPARED, name_of, pooled, stock_model
from kuosan.modalities.audio_file import Sound, converted

SHORTEST = 0.1  # seconds; convolutions of most such networks need a fortieth


class Hearing(Space):
    """The space of the model in ``folder``.

    Raises:
        UserError: `transformers` is not installed, or the folder holds no such model.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.model = stock_model(self.folder, HEARS)
        self.name = name_of(self.model)
        if not hasattr(self.model, "get_audio_features") and self.model.main_input_name not in (
            "input_values",
            "input_features",
        ):
            raise UserError(
                f"the model in {self.folder} ({self.name}) takes {self.model.main_input_name} and hears no sounds: "
                f"{AWAY}"
            )
        try:
            self.ready: Any = importlib.import_module("transformers").AutoFeatureExtractor.from_pretrained(
                str(self.folder), local_files_only=True
            )
            self.rate = int(self.ready.sampling_rate)
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError, ImportError) as error:
            raise UserError(f"{PREPARED} in {self.folder} cannot be read ({error}): {AWAY}") from error
        self.longest = getattr(self.ready, "nb_max_samples", None)

    @torch.no_grad()
    def __call__(self, sounds: Sequence[Sound]) -> Float[Tensor, "n d"]:
        return torch.cat([self._row(sound) for sound in sounds])

    def _row(self, sound: Sound) -> Float[Tensor, "1 d"]:
        samples = converted(sound, self.rate, 1).samples[: self.longest, 0]
        samples = np.pad(samples, (0, max(0, int(SHORTEST * self.rate) - len(samples))))
        given = self.ready(samples, sampling_rate=self.rate, return_tensors="pt")
        if hasattr(self.model, "get_audio_features"):
            found = self.model.get_audio_features(**given)
        else:
            found = self.model(**given)
        row = pooled(found)
        row = found.last_hidden_state.mean(1) if row is None else row
        return row.flatten(1).float()

    def describe(self) -> dict[str, Any]:
        what = f"{type(self.model).__name__} in {self.folder.name}, one channel at {self.rate} Hz"
        return {"name": self.name, "what": what, "folder": self.folder.name}
