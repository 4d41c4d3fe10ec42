"""The autoregressive rival of runs over texts and music: as large as the run's network, measured on the same items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kuosan.evaluation.likelihood.tokens import BATCH, TokenBound
from kuosan.evaluation.music.bound import windows_of_piece
from kuosan.modalities import Dataset
from kuosan.modalities.music_form import END
from kuosan.recipes.music_measure import _counts, music_of, pieces_of
from kuosan.recipes.run import Run
from kuosan.recipes.text_measure import MOST_BOUND, chosen
from kuosan.recipes.tokens import token_counts
from kuosan.rivals import Autoregressive, solve_dim


def token_rival(
    run: Run, data: Dataset, parameters: int, conditions: Mapping[str, int], generator: torch.Generator
) -> Autoregressive:
    """A transformer with about so many parameters, as deep as the run's, that begins, as that does, with how often each
    token occurs."""
    network, music = run.facts.network, run.modality.name == "music"
    size, length, depth = network["size"], network["length"], network["depth"]
    places = music or bool(network.get("places"))
    dim = solve_dim(parameters, size, length, depth, conditions, places)
    made = Autoregressive(
        size, length, dim, depth, conditions, generator, places=places, dropout=network.get("dropout", 0.0)
    )
    made.trunk.begin_with(token_counts(data))
    return made


@torch.no_grad()
def token_bits(run: Run, data: Dataset, model: Autoregressive) -> dict[str, Any]:
    """Bits of held-out texts or pieces, under the names, and of the items, that the run's own are given for."""
    found = _music_bits(run, data, model) if run.modality.name == "music" else _text_bits(run, data, model)
    unit, noun = ("note", "music") if run.modality.name == "music" else ("character", "texts")
    return {k: m.to_json() for k, m in found.measurements(True, "", unit, noun).items()}


def _text_bits(run: Run, data: Dataset, model: Autoregressive) -> TokenBound:
    items, modality = chosen(run, data.val, MOST_BOUND), run.modality
    nats, tokens, characters = [], [], []
    for index in torch.arange(len(items)).split(BATCH):
        x, cond = items.batch(index)
        on = {k: v.to(model.device) for k, v in cond.items()}
        nats.append(model.nats(x.to(model.device), on).sum(1).double().cpu())
        end = modality.tokeniser.end  # type: ignore[attr-defined]
        tokens.append(((x != end).sum(1) + 1).clamp_max(x.shape[1]).double())
        characters.append(torch.tensor([len(text) for text in modality.decode(x)], dtype=torch.float64))
    return TokenBound(torch.cat(nats), torch.cat(characters), torch.cat(tokens))


def _music_bits(run: Run, data: Dataset, model: Autoregressive, most: int = 400) -> TokenBound:
    """Whole pieces, each part given what is before it in its window: see `evaluation.music.bound`."""
    found, modality = pieces_of(data.val), music_of(run)
    order = torch.randperm(len(found.first), generator=torch.Generator().manual_seed(0)).tolist()[:most]
    nats, counts = [], []
    for i in order:
        rows, cycle = found.rows[i]
        x, new = windows_of_piece(rows, modality.steps, cycle, END)
        cond = {
            k: v[found.first[i]].expand(len(x)).to(model.device)
            for k, v in data.val.labels.items()
            if k in run.facts.columns
        }
        each = torch.cat([
            model.nats(part.to(model.device), {k: v[: len(part)] for k, v in cond.items()}).double().cpu()
            for part in x.split(BATCH)
        ])  # fmt: skip
        nats.append(float((each * new).sum()))
        counts.append(_counts(rows))
    notes, tokens = (
        torch.tensor([float(n) for n in column], dtype=torch.float64) for column in zip(*counts, strict=True)
    )
    return TokenBound(torch.tensor(nats, dtype=torch.float64), notes, tokens)
