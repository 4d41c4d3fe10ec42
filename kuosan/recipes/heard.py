"""Whether a run shows what captions say: samples for held-out captions, measured, and beside the real items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from kuosan.evaluation.evaluate import Evaluation
from kuosan.evaluation.found import FEWEST_JUDGED, Found
from kuosan.evaluation.report_section import Section
from kuosan.evaluation.retrieval import NAME, recalled
from kuosan.modalities import Dataset, Split
from kuosan.modalities.captions import CAPTION
from kuosan.recipes.evaluate import SEED, states
from kuosan.recipes.run import Run

ENOUGH, MOST = (
    128,
    256,
)  # samples that are measured: at least, where captions may be asked for again, and at most
PAIRS, EACH = 6, 4  # captions in the report, and samples of each


def with_recall(
    found: Evaluation,
    run: Run,
    data: Dataset,
    *,
    seconds: float,
    most: int = MOST,
    seed: int = 0,
    **sampling: Any,
) -> Evaluation:
    """An evaluation with `retrieval` of up to ``most`` samples for held-out captions, drawn as ``sampling`` says; the
    same where the run hears no captions."""
    if run.captions is None:
        return found
    chosen = captioned(data.val, most)
    more = Found(torch.Generator().manual_seed(seed))
    if len(chosen) < FEWEST_JUDGED:
        more.left_out[NAME] = f"needs {FEWEST_JUDGED} held-out items with captions, there are {len(chosen)}"
    else:
        n = len(chosen) * min(-(-ENOUGH // len(chosen)), most // len(chosen))
        where = {CAPTION: [data.val.captions[i] for i in chosen]}
        samples = run.sample(n, seed=SEED, where=where, **sampling)
        written = samples.modality.encode(samples.modality.decode(samples.x))
        train, val = states(data.train), states(data.val)
        recalled(
            more,
            (written, samples.cond[CAPTION]),
            (train, data.train.labels[CAPTION][: len(train)]),
            (val, data.val.labels[CAPTION][: len(val)]),
            end=run.captions.null, size=run.captions.tokeniser.size, axes=run.modality.axes, seed=seed, seconds=seconds,
        )  # fmt: skip
    return replace(
        found, metrics={**found.metrics, **more.metrics}, left_out={**found.left_out, **more.left_out}
    )


def captioned(split: Split, most: int) -> list[int]:
    """Up to ``most`` items that have a caption, evenly spread."""
    able = [i for i, text in enumerate(split.captions) if text]
    few = min(most, len(able))
    return [able[i * len(able) // few] for i in range(few)]


def section(run: Run, split: Split) -> list[Section]:
    """Held-out items with what the run makes of their captions; nothing where it hears none."""
    chosen = captioned(split, PAIRS) if run.captions else []
    if not chosen:
        return []
    real, _ = split.batch(torch.tensor(chosen))
    texts = [split.captions[i] for i in chosen]
    drawn = run.sample(EACH * len(chosen), seed=SEED, where={CAPTION: texts})
    scale = max(1, 64 // max(run.shape[1:]))
    figures = []
    for k, text in enumerate(texts):
        row = run.modality.decode(torch.cat([real[k : k + 1], drawn.x[k :: len(chosen)]]))
        figures.append((text, run.modality.show(row, EACH + 1, scale)))
    lead = f"Captions of held-out {run.modality.noun}: in front the real one, then {EACH} samples for it, none picked."
    return [Section("captions", "Captions", "What captions say", [lead], figures)]
