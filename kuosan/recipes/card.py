"""The model card, in the Hub's form: README.md with a YAML header."""

from __future__ import annotations

from typing import Any

import yaml

from kuosan.evaluation.report_words import metric_title, number, steps_in_words
from kuosan.evaluation.verdict import TONES
from kuosan.recipes import machine
from kuosan.recipes.report import command
from kuosan.recipes.session import Session
from kuosan.training.budget import clock

_PIPELINES = {"image": "unconditional-image-generation", "text": "text-generation"}


def card(session: Session, summary: dict[str, Any]) -> str:
    """Markdown: what the model is, what it was trained on, how good it is, how to use it."""
    facts, count = session.facts, session.training.count
    r, path = facts.recipe, session.run.path
    header = {
        "library_name": "kuosan",
        "pipeline_tag": _PIPELINES.get(r.data.modality, "other"),
        "tags": ["diffusion", "kuosan", r.data.modality],
    }
    shape, sampler = "×".join(map(str, session.run.shape)), session.run.sampler()
    things = session.run.modality.noun
    rows = "\n".join(_row(name, m, things) for name, m in summary["metrics"].items())
    n = next((m["n"] for m in summary["metrics"].values()), 0)
    student = f"a student of `{r.init}` that needs {steps_in_words(r.distil.steps)}"
    adapted = f"adapted from `{r.init}` by matrices of rank {r.adapter.rank} (see `adapter`)"
    origin = (
        student
        if r.distil.steps
        else adapted
        if r.adapter.rank
        else f"started from `{r.init}`"
        if r.init
        else "trained from scratch"
    )
    version = machine.versions()["kuosan"]
    columns = "".join(
        f"- `--where {name}=VALUE`, one of: {', '.join(values[:40])}{' …' if len(values) > 40 else ''}\n"
        for name, values in facts.columns.items()
    )
    if session.run.captions:
        columns += '- `--where caption="…"`, or a file with one per line with `--captions`, such as: '
        columns += "; ".join(session.run.captions.shown[:3]) + "\n"
    verdict = "\n".join(f"- **{f['about']}: {TONES[f['tone']]}.** {f['says']}" for f in summary["verdict"])
    columns = columns or "The model has no conditions.\n"
    choices = "\n".join(f"| {a} | {b} | {c} |" for a, b, c in facts.choices)
    exports = (
        r.noise.gaussian and r.distil.steps < 2 and not r.process.discrete
        and not (facts.network.get("beside") or facts.network.get("captions"))
    )  # fmt: skip
    export = f"kuosan export {path} --to diffusers DIR\n" if exports else ""
    form = f"up to {shape} tokens" if r.process.discrete else f"shape {shape}"
    return f"""---
{yaml.safe_dump(header, sort_keys=False).strip()}
---

# {path.name}

A diffusion model of {things} of {form}, {origin}, with Kuosan {version} on {facts.items:,} items
in {clock(session.seconds)} ({count.step:,} steps). What was found in the data, how training went and how far the
model can be trusted stand in `report.html`.

## Use

```
kuosan sample {path} -n 64 --steps {r.sampling.steps}
{export}```

{columns}
## What it can do

{verdict}

## Measured

On {n:,} samples of {steps_in_words(sampler["steps"])} ({sampler["solver"]}, {sampler["grid"]} grid),
beside what real held-out data score at the same n. A dash: there is none.

| measure (space) | value | n | real data |
|---|---|---|---|
{rows}

{_codec(session, summary)}## Made with

```
{command(session)}
```

| choice | value | why |
|---|---|---|
{choices}

The model knows nothing but its training data, faults and biases of that data included. Samples that are too close
to a training item are counted and shown in the report.
"""


def _codec(session: Session, summary: dict[str, Any]) -> str:
    """What the codec leaves of real items; nothing where there is no codec."""
    if "codec" not in summary:
        return ""
    things = session.run.modality.noun
    rows = "\n".join(_row(name, m, things) for name, m in summary["codec"].items())
    latent = "×".join(map(str, session.run.latent_shape))
    return f"""## The codec

The diffusion is of latents of {latent} numbers. No sample can be better than real {things} after a round trip through
the codec, which loses this:

| measure (space) | value | n | real data |
|---|---|---|---|
{rows}

"""


def _row(name: str, m: dict[str, Any], things: str) -> str:
    title, _ = metric_title(name, things)
    value = number(m["value"], m.get("stderr"))
    floor = "–" if m.get("floor") is None else number(m["floor"], m.get("floor_stderr"))
    return f"| {title} ({m.get('space') or '–'}) | {value} | {m['n']:,} | {floor} |"
