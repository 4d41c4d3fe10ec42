"""The facts of a run's report, gathered: pictures, control sequences, measurements."""

from __future__ import annotations

import datetime
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from kuosan.core.random import Seeds
from kuosan.core.shapes import map_state
from kuosan.evaluation.evaluate import Evaluation
from kuosan.evaluation.likelihood import Likelihood
from kuosan.evaluation.report import ReportFacts, write_report
from kuosan.evaluation.report_section import Clip, Section
from kuosan.evaluation.report_words import number, steps_in_words
from kuosan.evaluation.verdict import Finding, findings
from kuosan.recipes import machine
from kuosan.recipes.ceiling import Ceiling
from kuosan.recipes.cite import citations
from kuosan.recipes.coding import read_log
from kuosan.recipes.facts import Facts
from kuosan.recipes.report_levels import levels_section
from kuosan.recipes.run import Run, Samples
from kuosan.recipes.session import METRICS, Session, preview_conditions
from kuosan.training.budget import clock
from kuosan.training.objective import WEIGHTS
from kuosan.training.speed import Way

NEAREST_SHOWN = 12
PLAYED = 8
SURPRISING = 16


def write(
    session: Session,
    samples: Samples,
    found: Evaluation,
    surprise: Likelihood | str,
    verdict: Sequence[Finding],
    levels: Mapping[str, Any],
    sections: Sequence[Section],
    roof: Ceiling | None = None,
) -> Path:
    """``report.html`` of a run, from its folder, these samples, the verdict, what is known by level of noise, sections
    of other methods, and what its codec leaves of real pictures."""
    run, data, count = session.run, session.data, session.training.count
    facts = run.facts
    survey = data.survey.to_json()
    survey.pop("notes", None)
    metrics = found.to_json()["metrics"]
    name = Path(data.survey.source).resolve().stem
    sampling = run.sampler()
    origin = origin_of(facts)
    classes = f" in {len(next(iter(facts.columns.values())))} classes" if facts.columns else ""
    classes += " with captions" if run.captions else ""
    trained = f"{origin} on {facts.items:,} {run.modality.described_form()}{classes}"
    how = f"{steps_in_words(sampling['steps'])}, with {sampling['solver']} on the {sampling['grid']} grid"
    if session.lessons:
        part, pairs = facts.recipe.distil, session.lessons.count
        trained = (
            f"A student of {facts.recipe.init}, which needs {steps_in_words(part.steps)} of a kind "
            f"that its teacher takes {part.walk} for; trained on {pairs:,} ways that its teacher went from noise"
        )
    headlines = [
        f"{trained}, in {clock(session.seconds)} and {count.step:,} steps.",
        f"Everything here was sampled in {how}.",
    ]
    page = ReportFacts(
        title=name.replace("_", " "),
        subtitle="A diffusion model, and how far to trust it",
        created=datetime.date.today().isoformat(),
        command=command(session),
        headlines=headlines,
        verdict=verdict,
        survey=survey,
        choices=facts.choices,
        previews=preview_pictures(run.path / "samples"),
        denoising=_denoising(session),
        log=log_rows(run.path / METRICS),
        curves=_curves(session),
        codec=_codec(session, found, roof) if roof else {},
        metrics=metrics,
        left_out=found.left_out,
        samples=_sheets(session),
        likelihood={} if isinstance(surprise, str) else _likelihood(surprise),
        surprising=[] if isinstance(surprise, str) else _surprising(session, surprise),
        nearest=nearest_rows(session, samples, found),
        shows=played(run, samples),
        sections=[*levels_section(levels, run.modality.noun), *sections],
        events=events(session),
        environment=machine.facts(),
        citations=citations(run),
        noun=run.modality.noun,
    )
    return write_report(page, run.path / "report.html")


def verdict_of(
    session: Session, metrics: Mapping[str, Mapping[str, Any]], levels: Mapping[str, Any] | None = None
) -> list[Finding]:
    """What these measurements, the log of the run and what is known by level of noise allow to be said of it."""
    log = log_rows(session.run.path / METRICS)
    return findings(metrics, log=log, levels=levels or {}, noun=session.run.modality.noun)


def played(run: Run, samples: Samples) -> list[Section]:
    """The first samples as they sound or move, where a picture does not show all of them."""
    columns = samples.columns()
    figures = []
    for i, raw in enumerate(samples.raws(PLAYED)):
        if (clip := run.modality.clip(raw)) is not None:
            asked = ", ".join(
                f"{name} {values[i]}" for name, values in columns.items() if values[i] is not None
            )
            figures.append((f"number {samples.first + i}" + (f": {asked}" if asked else ""), Clip(*clip)))
    if not figures:
        return []
    lead = [f"The first {len(figures)} of the samples that were measured, none picked."]
    return [Section("played", "Played", "To play", lead, figures)]


def origin_of(facts: Facts) -> str:
    """How a model came to its weights, for a sentence that goes on with its data."""
    if facts.recipe.adapter.rank:
        return f"Adapted from {facts.recipe.init} by matrices of rank {facts.recipe.adapter.rank}, trained"
    return f"Started from {facts.recipe.init} and trained" if facts.recipe.init else "Trained from scratch"


def command(session: Session) -> str:
    """What repeats the run; a budget of time is written as the steps that it was worth."""
    facts, count = session.facts, session.training.count
    if session.lessons:
        taught = facts.recipe.distil
        return shlex.join(
            ["kuosan", "distil", facts.recipe.init, "--steps", str(taught.steps), "--w", f"{taught.w:g}"]
            + ["--budget", facts.recipe.budget, "--seed", str(facts.recipe.seed)]
        )
    adapted, words = bool(facts.recipe.adapter.rank), ["kuosan", "train", facts.recipe.data.path]
    if adapted:
        words = ["kuosan", "finetune", facts.recipe.init, facts.recipe.data.path]
    exact = f"{count.step}steps" if session.budget.seconds else facts.recipe.budget
    words += ["--budget", exact, "--seed", str(facts.recipe.seed)]
    if facts.recipe.init and not adapted:
        words += ["--init", facts.recipe.init]
    flags = ("data", "budget", "seed", "init", "modality")
    asked = {k: v for k, v in facts.asked.items() if k not in flags and v != "auto"}
    leaves = {"network": facts.network["kind"]} | {
        f"network.{k}": facts.network[k]
        for k in ("patch", "dim", "depth", "base", "blocks", "dropout")
        if k in facts.network and session.budget.seconds
    }
    if session.budget.seconds:  # what followed from predicted passes
        leaves |= {f"training.{k}": getattr(facts.recipe.training, k) for k in ("weight_decay", "augment")}
    if session.coding and session.coding.steps and session.budget.seconds:
        part, size = facts.recipe.codec, facts.recipe.data.max_side
        leaves |= {"data.max_side": size, "codec": part.kind, "codec.steps": session.coding.steps}
    # With a budget of time the way was measured; the steps that it was worth would be made in the plain one.
    way = {k: getattr(session.training.settings, k) for k in vars(Way())} if session.budget.seconds else {}
    ways = {f"training.{k}": v for k, v in way.items() if v != getattr(Way(), k)}
    for k, v in (({} if facts.recipe.init else leaves) | ways | asked).items():
        words += ["--set", f"{k}={json.dumps(v) if not isinstance(v, str) else v}"]
    return shlex.join(words)


def preview_pictures(folder: Path) -> list[tuple[int, str, Image.Image]]:
    """What was drawn on the way, by step."""
    out = []
    for path in sorted(folder.glob("step_*.png")):
        if found := re.fullmatch(r"step_(\d+)\.png", path.name):
            step = int(found[1])
            with Image.open(path) as picture:
                out.append((step, "", picture.convert("RGB")))
    return out


def _denoising(session: Session) -> list[tuple[float, Image.Image, Image.Image]]:
    """One sample on its way: the state as it is, and the denoiser's guess of its end."""
    run = session.run
    cond, _ = preview_conditions(run)
    one = map_state(lambda v: v[:1], cond) if cond else {}
    seeds = Seeds.of(run.facts.recipe.seed, 1)
    frames = []
    scale = _scale(run, 96)
    with torch.inference_mode():
        for step in run.walk(seeds, one):
            frames.append((float(step.s[0]), run.decoded(step.x).cpu(), run.decoded(step.q.mean).cpu()))
    return [(s, _picture(run, state, scale), _picture(run, guess, scale)) for s, state, guess in frames]


def _scale(run: Run, pixels: int) -> int | None:
    """The whole number by which items are enlarged to about so many pixels; None where they have no places."""
    return None if run.modality.unordered else max(1, pixels // max(run.shape[1:]))


def _picture(run: Any, x: torch.Tensor, scale: int | None) -> Image.Image:
    return run.modality.show(run.modality.decode(x), 1, scale)


def log_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _curves(session: Session) -> dict[str, list[tuple[float, float]]]:
    """The control sequences of the run, on 101 times."""
    denoiser, objective = session.run.denoiser, session.training.objective
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    with torch.no_grad():
        level = denoiser.schedule.level(denoiser.schedule.clip(t))
        curves = {"alpha": level.alpha, "sigma": level.sigma, "log_snr": level.log_snr}
        u = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
        times = objective.timing.quantile(denoiser.schedule, u)
        density = objective.timing.density(denoiser.schedule, u)
    out = {name: list(zip(t.tolist(), values.tolist(), strict=True)) for name, values in curves.items()}
    out["density"] = list(zip(times.tolist(), density.tolist(), strict=True))
    r = session.facts.recipe
    if r.objective.kind == "denoising" and not session.lessons:
        level = denoiser.schedule.level(denoiser.schedule.clip(t[2:-2]))
        weight = WEIGHTS[r.objective.weight](denoiser, level, torch.ones_like(level.t))
        relative = (weight * level.sigma.square() / level.alpha.square().clamp_min(1e-12)).detach()
        out["weight"] = list(zip(level.t.tolist(), relative.tolist(), strict=True))
    chosen = session.run.sequence()
    grid = (session.run.grid(r.sampling.steps) if chosen is None else chosen.grid_of()).tolist()
    out[f"grid ({r.sampling.steps} steps)"] = [(t, float(i)) for i, t in enumerate(grid)]
    return out


def _sheets(session: Session) -> list[tuple[str, Image.Image]]:
    run = session.run
    cond, columns = preview_conditions(run)
    n = len(next(iter(cond.values()))) if cond else 64 if columns == 8 else columns**2
    seeds = Seeds.of(run.facts.recipe.seed + 1, n)
    with torch.inference_mode():
        for step in run.walk(seeds, cond):
            x = step.x
    label = f"{n} samples, none picked: seed {run.facts.recipe.seed + 1}, numbers 0 to {n - 1}"
    if cond:
        told = Samples(x, cond, 0, run.modality, None, run.facts.columns, run.captions).columns()
        name, values = next((k, v) for k, v in told.items() if any(v))
        shown = [run.facts.class_names.get(str(v), str(v)) for v in values[:columns]]
        label += f"; one {name} per column: {(', ' if run.captions is None else '; ').join(shown)}"
    return [(label, run.modality.show(run.modality.of_samples.decode(run.decoded(x).cpu()), columns))]


def _codec(session: Session, found: Evaluation, roof: Ceiling) -> dict[str, Any]:
    """The codec's section: what it is, what it loses, and how much of the samples' distance that is."""
    run, coding = session.run, session.coding
    if roof.words:
        n = min(4, len(roof.x))
        strip = run.modality.show(run.modality.decode(torch.cat([roof.x[:n], roof.y[:n]])), n)
        return {"words": [roof.words], "pairs": strip, "metrics": roof.to_json(), "log": []}
    shape, latent = ("×".join(map(str, s)) for s in (run.shape, run.latent_shape))
    fewer = torch.Size(run.shape).numel() / torch.Size(run.latent_shape).numel()
    what = run.modality.noun
    first = (
        f"The diffusion is not of {what} ({shape}) but of their latents ({latent}), {fewer:.3g} times fewer numbers, "
        f"which a codec makes and turns back into {what}. What the codec cannot bring back, no sample can show: this "
        "is the ceiling of quality, whatever the diffusion does."
    )
    words = [first]
    parts = []
    for name, m in found.metrics.items():
        alone = roof.metrics.get(f"codec_{name}")
        if alone and m.value > 0:
            parts.append(f"{number(alone.value, alone.stderr)} of {number(m.value, m.stderr)} ({m.space})")
    if parts:
        words.append(
            f"Fréchet distance that the codec alone makes, beside that of the samples: {', '.join(parts)}."
        )
    if coding and coding.steps:
        words.append(f"It was trained here, for {coding.steps:,} steps in {clock(coding.seconds)}.")
    n = min(4, len(roof.x))
    strip = run.modality.show(run.modality.decode(torch.cat([roof.x[:n], roof.y[:n]])), n)
    return {"words": words, "pairs": strip, "metrics": roof.to_json(), "log": read_log(run.path)}


def _likelihood(surprise: Likelihood) -> dict[str, Any]:
    return {"metrics": {k: m.to_json() for k, m in surprise.metrics.items()}, **surprise.to_json()}


def _surprising(session: Session, surprise: Likelihood) -> list[tuple[str, Image.Image]]:
    """The held-out items that surprised the model most, and least."""
    run, values = session.run, surprise.examples["bound"]
    order = [i for i in values.argsort(descending=True).tolist() if values[i] == values[i]]
    if len(order) < 2 * SURPRISING:
        return []
    scale = _scale(run, 64)
    unit = surprise.to_json()["unit"]
    out = []
    for what, chosen in (("most", order[:SURPRISING]), ("least", order[-SURPRISING:])):
        x, _ = session.data.val.batch(torch.tensor(chosen))
        ends = f"{float(values[chosen[0]]):.3g} to {float(values[chosen[-1]]):.3g} {unit}"
        sheet = run.modality.show(run.modality.decode(x), SURPRISING // 2, scale)
        out.append((f"What surprised it {what} of {len(order):,} held-out items: {ends}", sheet))
    return out


def nearest_rows(session: Session, samples: Samples, found: Evaluation) -> list[dict[str, Any]]:
    """The samples that are nearest to training, each beside what it is near to."""
    run, data = session.run, session.data
    out = []
    scale = max(1, 96 // max(run.shape[1:], default=96))
    for row in found.nearest[:NEAREST_SHOWN]:
        x, _ = data.train.batch(torch.tensor([row.train]))
        out.append(
            {
                **{k: v for k, v in row.to_json().items() if k not in ("sample", "train")},
                "sample": _picture(run, samples.x[row.sample : row.sample + 1], scale),
                "neighbour": _picture(run, x, scale),
                "name": data.train.names[row.train],
            }
        )
    return out


def events(session: Session) -> list[str]:
    """What happened on the way, in sentences."""
    count = session.training.count
    told = list(count.events)
    if count.skipped:
        told.append(
            f"{count.skipped} of {count.step:,} steps had a loss or gradient that was not finite and were skipped."
        )
    return told
