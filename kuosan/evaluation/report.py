"""The report of a run: one page that a person enjoys reading, and can trust.

One HTML file that needs nothing else: pictures and charts stand in it, no script runs, nothing is fetched
(a content security policy in the page forbids it), every text of the user's is escaped. First comes the verdict in
words, then pictures, then the numbers, each with its sample count, its standard error and what real data score on it,
and what was not measured; then how training went and where it is weak; last what it learned from, what was chosen,
what went wrong, and how to do it again. What is not known is left out.

`ReportFacts` is plain data: any modality that can draw its items as pictures can fill it. The same facts give
the same bytes.
"""

from __future__ import annotations

import base64
import io
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuosan.evaluation import plots, training_plots
from kuosan.evaluation.report_data import survey_view
from kuosan.evaluation.report_likelihood import likelihood_view
from kuosan.evaluation.report_section import Section, section_view, templates
from kuosan.evaluation.report_words import (
    EITHER,
    VARIETY,
    count,
    duration,
    error,
    label,
    metric_title,
    number,
    usable,
    verdict,
)
from kuosan.evaluation.verdict import TONES, Finding

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_FRAMES = 12  # more columns of a trajectory than this no longer fit a page
MAX_PREVIEWS = 24
FINE = 2  # pixels of a large picture per CSS pixel, for sharp screens; more would only weigh
HEAVY = 2**19  # bytes of a PNG beyond which a picture is written as JPEG


@dataclass(frozen=True)
class ReportFacts:
    """All that a report can show; everything but the title may be missing.

    title, subtitle, created (ISO date), command: text; `command` is what reproduces the run.
    verdict: what can be said of the model, from these numbers (`verdict.findings`).
    headlines: sentences beside the first picture: how it was trained and sampled.
    survey: what was found in the data. Known keys: files, items, train, val, captions, duplicates (numbers),
        classes {name: count} or {column: {name: count}}, sizes/modes/dtypes {name: count},
        class_names {value: name}, skipped and left_alone [(name, reason)], notes [sentence or (what, value,
        why)]; other numbers, texts and counts are listed as they are. A modality's `Survey.to_json()` fits.
    choices: (what, value, why) of the run.
    previews: (step, label, picture), the same seeds each time, from step 0 to the end.
    denoising: (t, state, guess) or (t, column) of one sample on its way from t = 1 to 0: the noisy state and
        what the denoiser takes it for, either as two pictures or drawn above each other in one.
    log: rows of metrics.jsonl. Training rows: step, seconds, loss, grad_norm, lr. Validation rows: step,
        val_loss, val_by_level [[log_snr, loss]], and where known val_stderr, val_n, nearness… (`nearness.Nearness`).
    curves: control sequences, name → [(t, value)]: alpha, sigma, log_snr, density, weight, …; a name that
        starts with "grid" is drawn as points, [(t, number of the step)].
    codec: of a model of latents: metrics (as below), pairs (a picture: real items above, their round trips below),
        log (rows of codec.jsonl), words (sentences).
    metrics: name → {value, stderr, n, space, floor, floor_stderr, better, note}; `n` is required. left_out: what was
        not measured, and why.
    likelihood: what `report_likelihood` arranges; surprising: (label, picture) of the items that surprised most, least.
    samples: (label, picture) of the finished model, the first one largest. texts: (caption, text), where that is what
        it makes.
    nearest: {sample, neighbour (pictures), distance, threshold, percentile (0…100, among n held-out items),
        n, name} of the samples closest to a training item.
    shows: sections that come with the pictures: what is to be heard or watched. sections: what methods of their own
        have to show.
    events: sentences about skipped steps, roll-backs, an early stop.
    environment: versions, machine, threads. citations: text or BibTeX.
    noun: what an item of the data is called, in the plural.
    """

    title: str
    subtitle: str = ""
    created: str = ""
    command: str = ""
    verdict: Sequence[Finding] = ()
    headlines: Sequence[str] = ()
    survey: Mapping[str, Any] = field(default_factory=dict)
    choices: Sequence[tuple[str, Any, str]] = ()
    previews: Sequence[tuple[int, str, Image]] = ()
    denoising: Sequence[tuple[float, Image] | tuple[float, Image, Image]] = ()
    log: Sequence[Mapping[str, Any]] = ()
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    codec: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    likelihood: Mapping[str, Any] = field(default_factory=dict)
    surprising: Sequence[tuple[str, Image]] = ()
    samples: Sequence[tuple[str, Image]] = ()
    texts: Sequence[tuple[str, str]] = ()
    nearest: Sequence[Mapping[str, Any]] = ()
    shows: Sequence[Section] = ()
    sections: Sequence[Section] = ()
    events: Sequence[str] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    citations: Sequence[str] = ()
    noun: str = "pictures"


@dataclass(frozen=True)
class Picture:
    """An inlined picture: data address, size in CSS pixels, and whether its pixels are to be seen."""

    src: str
    width: int
    height: int
    pixelated: bool


def render_report(facts: ReportFacts) -> str:
    """The page as text: complete HTML, UTF-8, no outer reference.

    Raises:
        ValueError: a metric without its sample count `n`; a number without it must not be shown.
    """
    from markupsafe import Markup

    def svg(text: str | None) -> Markup | None:
        return Markup(text) if text else None  # ours, from plots.py, which escapes what it draws

    def sections(given: Sequence[Section]) -> list[dict[str, Any]]:
        return [section_view(section, lambda image: picture(image, 1000)) for section in given]

    survey = survey_view(facts.survey)
    template = templates().get_template("report.html.jinja")
    page = template.render(
        facts=facts,
        samples=[
            (name, picture(image, 560 if i == 0 else 176)) for i, (name, image) in enumerate(facts.samples)
        ],
        previews=_previews(facts.previews),
        frames=_frames(facts.denoising),
        loss=svg(training_plots.loss_chart(facts.log)),
        levels=svg(training_plots.level_chart(facts.log)),
        nearness=svg(training_plots.nearness_chart(facts.log)),
        change=svg(training_plots.change_chart(facts.log)),
        distance=svg(training_plots.distance_chart(facts.log)),
        training=training_plots.training_summary(facts.log),
        curves=[(title, svg(chart)) for title, chart in plots.schedule_charts(facts.curves)],
        metrics=[_metric(name, metric, facts.noun) for name, metric in facts.metrics.items()],
        likelihood=likelihood_view(facts.likelihood),
        surprising=[(text, picture(image, 480)) for text, image in facts.surprising],
        codec=_codec(facts.codec, facts.noun, svg),
        drawings={name: svg(plots.floor_drawing(metric)) for name, metric in facts.metrics.items()},
        nearest=_nearest(facts.nearest),
        shows=sections(facts.shows),
        extra=sections(facts.sections),
        tones=TONES,
        survey=survey,
        choices=[*facts.choices, *survey.choices],
        environment=[(label(key), _text(key, value)) for key, value in facts.environment.items()],
    )
    # Names of files may hold bytes that are no text (lone surrogates); those cannot be written as UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


def write_report(facts: ReportFacts, path: str | os.PathLike[str]) -> Path:
    """Write the page to `path`, all of it or none: a reader never meets half a page. Returns the path."""
    path = Path(path)
    page = render_report(facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp gives 0600, and a report is there to be shown
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def picture(image: Image, target: int) -> Picture:
    """`image` inlined, enlarged by the largest whole factor that stays within `target` pixels; as PNG, unless it is so
    heavy that nobody sees its pixels one by one."""
    from PIL.Image import Resampling

    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    elif image.mode not in {"1", "L", "LA", "P", "RGB", "RGBA"}:
        image = image.convert("RGB")
    shrunk = image.width > (FINE + 0.5) * target
    if shrunk:
        width = FINE * target
        image = image.resize((width, max(1, round(image.height * width / image.width))), Resampling.LANCZOS)
    kind, buffer = "png", io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    if buffer.tell() > HEAVY and image.mode in {"L", "RGB"}:
        kind, buffer = "jpeg", io.BytesIO()
        image.save(buffer, format="JPEG", quality=90, subsampling=0)
    factor = max(1, target // max(1, image.width))
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    shown = (image.width * factor, image.height * factor)
    return Picture(f"data:image/{kind};base64,{data}", *shown, pixelated=image.width < 512 and not shrunk)


def _eight_bits(image: Image) -> Image:
    """A deep grey picture for a screen: 16 bits keep their range, others have none and are stretched."""
    import numpy as np
    from PIL.Image import fromarray

    values = np.asarray(image).astype(np.float64)
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (values.min(), values.max())
    return fromarray(np.rint((values - low) * (255 / ((high - low) or 1.0))).astype(np.uint8))


def _previews(previews: Sequence[tuple[int, str, Image]]) -> list[dict[str, Any]]:
    chosen = plots.evenly(sorted(previews, key=lambda item: item[0]), MAX_PREVIEWS)
    return [
        {"step": count(step), "label": text, "picture": picture(image, 560)} for step, text, image in chosen
    ]


def _frames(denoising: Sequence[Any]) -> list[dict[str, Any]]:
    """Columns in the order of sampling, from noise (t = 1) to data (t = 0)."""
    chosen = plots.evenly(sorted(denoising, key=lambda item: -item[0]), MAX_FRAMES)
    return [{"t": f"{t:.2f}", "pictures": [picture(image, 84) for image in images]} for t, *images in chosen]


def _metric(name: str, metric: Mapping[str, Any], noun: str) -> dict[str, Any]:
    if metric.get("n") is None:
        raise ValueError(f"metric {name!r} has no sample count n, and a report shows no number without it")
    title, question = metric_title(name, noun)
    stderr, floor_stderr = metric.get("stderr"), metric.get("floor_stderr")
    floor = metric.get("floor")
    return {
        "name": name,
        "title": title,
        "question": question,
        "value": number(metric["value"], stderr) if metric.get("value") is not None else "not measurable",
        "stderr": error(stderr) if usable(stderr) else "",
        "n": count(metric["n"]),
        "space": metric.get("space") or "",
        "floor": number(floor, floor_stderr) if floor is not None else "",
        "floor_stderr": error(floor_stderr) if floor is not None and usable(floor_stderr) else "",
        "better": "" if name.startswith((*VARIETY, *EITHER)) else metric.get("better") or "",
        "verdict": verdict(metric, noun, name),
        "note": metric.get("note") or "",
    }


def _codec(codec: Mapping[str, Any], noun: str, svg: Callable[[str | None], Any]) -> dict[str, Any]:
    """What the codec's section shows; nothing where there is no codec."""
    if not codec:
        return {}
    return {
        "words": codec["words"],
        "pairs": picture(codec["pairs"], 460),
        "metrics": [_metric(name, metric, noun) for name, metric in codec["metrics"].items()],
        "curve": svg(training_plots.codec_chart(codec["log"])),
    }


def _nearest(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    shown = []
    for row in sorted(rows, key=lambda row: row["distance"]):
        threshold = row.get("threshold")
        shown.append(
            {
                "sample": picture(row["sample"], 88),
                "neighbour": picture(row["neighbour"], 88),
                "distance": number(row["distance"]),
                "threshold": number(threshold) if threshold is not None else "",
                "percentile": f"{row['percentile']:.1f}" if row.get("percentile") is not None else "",
                "n": count(row["n"]) if row.get("n") else "",
                "name": row.get("name") or "",
                "is_copy": threshold is not None and row["distance"] < threshold,
            }
        )
    return shown


def _text(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if key == "seconds" and isinstance(value, (int, float)):
        return duration(value)
    return str(value)
