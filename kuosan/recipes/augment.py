"""Training texts in other words: by a table of synonyms, and by a model's own.

    synonyms      some words of every text are replaced, anew each time that it is seen (`modalities.synonyms`)
    paraphrase    a share of what is seen are texts whose tokens were hidden and written anew by the model that training
                  starts from: a third of them, at random, in a few steps

A model of masks paraphrases by itself: hide some tokens and let it fill them. What is kept decides what is said, what
is written anew how; it is to text what translation there and back is (Sennrich et al. 2016), without a second language.
Paraphrases are made once, before training, and kept beside the run, so that a run that goes on sees the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.modalities import Split
from kuosan.modalities.synonyms import Synonyms, read_synonyms, replace
from kuosan.processes.discrete import Masked
from kuosan.recipes.schema import DataPart
from kuosan.solvers import sample
from kuosan.solvers.unmasking import FirstHitting
from kuosan.training.checkpoint import load_weights, write_bytes

PARAPHRASES = "paraphrases.safetensors"
HIDDEN, STEPS, BATCH = 0.3, 8, 64
LOOK_AHEAD = 2  # windows of text that are read to fill one, as other words may be shorter


@dataclass(frozen=True)
class Varied:
    """Texts of a split, each time in other words."""

    split: Split
    table: Synonyms | None = None
    rate: float = 0.0
    paraphrases: Int64[Tensor, "n L"] | None = None
    share: float = 0.0

    def __len__(self) -> int:
        return len(self.split)

    def batch(
        self, index: Int64[Tensor, " b"], seeds: Seeds | None = None
    ) -> tuple[Int64[Tensor, "b L"], dict[str, Tensor]]:
        """As they stand without seeds; with them, in other words."""
        x, cond = self.split.batch(index, seeds)
        if seeds is None:
            return x, cond
        if self.table is not None:
            x = self._replaced(index, x.shape[1], seeds)
        if self.paraphrases is not None:
            chosen = seeds.fold("paraphrase").uniforms() < self.share
            x = torch.where(chosen[:, None], self.paraphrases[index], x)
        return x, cond

    def _replaced(self, index: Tensor, length: int, seeds: Seeds) -> Int64[Tensor, "b L"]:
        modality: Any = self.split.modality
        tokeniser = modality.tokeniser
        # One window and what follows it, from the same place: other words may be shorter.
        windows = self.split.x[index].windows(length, tokeniser.end, seeds, ahead=(LOOK_AHEAD - 1) * length)
        assert self.table is not None
        texts = replace(modality.decode(windows), self.table, seeds.fold("synonyms"), self.rate)
        return modality.encode(texts)


def varied(split: Split, part: DataPart, run: Path, teacher: Denoiser | None, seed: int) -> Split | Varied:
    """The items that training sees: the split's, or in other words where the recipe says so.

    Raises:
        UserError: a table that cannot be read, or paraphrases without a model of masks to make them.
    """
    table = read_synonyms(part.synonyms) if part.synonyms else None
    rows = None
    if part.paraphrase:
        path = run / PARAPHRASES
        if not path.is_file():
            if teacher is None or not isinstance(teacher.process, Masked):
                raise UserError(
                    "data.paraphrase needs a model of masked texts to paraphrase with: give --init RUN, or leave it "
                    "away"
                )
            made = paraphrase(teacher, split, seed)
            write_bytes(path, safetensors.torch.save({"x": made.to(torch.int32)}))
        rows = load_weights(path)["x"].long()
    if table is None and rows is None:
        return split
    return Varied(split, table, part.synonym_rate, rows, part.paraphrase)


@torch.no_grad()
def paraphrase(denoiser: Denoiser, split: Split, seed: int) -> Int64[Tensor, "n L"]:
    """Every item with `HIDDEN` of its tokens written anew."""
    process = denoiser.process
    assert isinstance(process, Masked)
    device = next(denoiser.parameters()).device
    grid = torch.linspace(1, 0, STEPS + 1, dtype=torch.float64)
    out = []
    for index in torch.arange(len(split)).split(BATCH):
        x, cond = split.batch(index)
        seeds = Seeds.of(seed, index.tolist()).fold("paraphrases")
        hidden = seeds.fold("hidden").uniform(x.double()) < HIDDEN
        start = torch.where(hidden, process.size, x).to(device)
        # From the time at which so many are hidden, so that a network with time hears the truth.
        times = grid * HIDDEN
        found = sample(
            denoiser, FirstHitting(), times, start, seeds, **{k: v.to(device) for k, v in cond.items()}
        )
        out.append(found.cpu())
    return torch.cat(out)
