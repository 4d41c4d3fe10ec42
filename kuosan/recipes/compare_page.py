"""The page of a comparison: answers first, then pictures side by side, then numbers, then how they came to be."""

from __future__ import annotations

import datetime
import itertools
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from kuosan.evaluation import plots
from kuosan.evaluation.report import ReportFacts, write_report
from kuosan.evaluation.report_section import Section, Table
from kuosan.evaluation.report_words import count, duration, error, metric_title, number
from kuosan.recipes import cite, machine
from kuosan.recipes.contest import Contest
from kuosan.recipes.mixture import GRID

PAGE = "compare.html"
FAIR_AREA = 220.0  # of a ring, in square points
COLOURS = (plots.FIRST, plots.SECOND, plots.MUTED, plots.INK)
LOSSES = {"diffusion": "squared error", "vae": "bound, nats per number", "gan": "generator's loss",
          "autoregressive": "nats per token"}  # fmt: skip


def write(
    contest: Contest,
    result: Mapping[str, Any],
    arms: Sequence[Mapping[str, Any]],
    points: Sequence[Mapping[str, Any]],
) -> Path:
    """``compare.html`` in the contest's folder."""
    methods = result["methods"]
    noun = contest.dataset.modality.noun
    sections = [_samples(contest, methods, noun), _numbers(methods, noun), _classes(arms), _modes(points),
                _training(arms, methods)]  # fmt: skip
    words = [a["sentence"] for a in result["answers"].values()]
    runs = "One training of each: differences between trainings are not seen." if contest.seeds == 1 else (
        f"Means of {contest.seeds} trainings of each method; ± is a standard error, which covers both the trainings' "
        "differences and the measurements'."
    )  # fmt: skip
    pieces = ["kuosan", "compare", str(contest.data), "--budget", contest.budget, "--seeds", str(contest.seeds), "-n",
              str(contest.n)]  # fmt: skip
    for k, v in contest.leaves.items():
        pieces += ["--set", f"{k}={v}"]
    facts = ReportFacts(
        title=f"{contest.data.resolve().stem.replace('_', ' ')}: which kind of model?",
        subtitle="Diffusion beside its rivals: the same data, split, budget and size",
        created=datetime.date.today().isoformat(),
        command=shlex.join(pieces),
        headlines=[*words, runs],
        survey=contest.dataset.survey.to_json(),
        sections=[s for s in sections if s is not None],
        environment=machine.facts(),
        citations=cite.compared(tuple(methods)),
        noun=noun,
    )
    return write_report(facts, contest.out / PAGE)


def _samples(contest: Contest, methods: Mapping[str, Any], noun: str) -> Section:
    figures = []
    for method in methods:
        with Image.open(contest.out / f"{method}-0" / "samples.png") as picture:
            figures.append((f"{method}, seed 0, none picked", picture.copy()))
    lead = [f"The first {noun} that each model made, under the same conditions."]
    return Section("side", "Side by side", "Side by side", lead, figures)


def _numbers(methods: Mapping[str, Any], noun: str) -> Section:
    names = list(dict.fromkeys(k for m in methods.values() for k in m["metrics"]))
    rows = []
    for name in names:
        found = [m["metrics"].get(name) for m in methods.values()]
        one = next(f for f in found if f)
        floor = "" if one.get("floor") is None else number(one["floor"], one.get("floor_stderr"))
        title, space = metric_title(name, noun)[0], one.get("space") or ""
        cells = ["–" if f is None else _pm(f["value"], f["stderr"]) for f in found]
        rows.append([f"{title} ({space})" if space else title, *cells, floor, one.get("better") or ""])
    table = Table(["measure", *methods, f"real {noun}", "better"], rows)
    charts = [
        (f"{metric_title(name, noun)[0]}: dots are means, bars two standard errors, the line is what real {noun} score",
         _dots(name, methods))
        for name in names if name.startswith(("fd_", "precision", "coverage", "recall"))
    ]  # fmt: skip
    lead = [
        "All methods are measured on as many samples, against the same held-out items, in the same feature spaces.",
        f"The last column but one is what other real {noun} score at that count.",
    ]
    return Section("numbers", "Numbers", "Numbers", lead, [("", table), *charts[:6]])


def _pm(value: float, stderr: float | None) -> str:
    return f"{number(value, stderr)} ± {error(stderr)}" if stderr else number(value)


def _dots(name: str, methods: Mapping[str, Any]) -> str:
    found = [(m, v["metrics"][name]) for m, v in methods.items() if name in v["metrics"]]

    def paint(axes: Any) -> None:
        for k, (_, m) in enumerate(found):
            axes.errorbar(
                [m["value"]], [-k], xerr=[2 * m["stderr"]], color=COLOURS[k % 4], marker="o", ms=6, capsize=3
            )
        if found[0][1].get("floor") is not None:
            axes.axvline(found[0][1]["floor"], color=plots.MUTED, lw=1, ls="--")
        axes.set_yticks([-k for k in range(len(found))], [m for m, _ in found])
        axes.set_ylim(-len(found) + 0.5, 0.5)
        axes.set_xlabel(f"{name} ({found[0][1]['better']} is better)")

    return plots.draw(f"dots-{name}", f"{name} of every method", paint, height=1.8)


def _classes(arms: Sequence[Mapping[str, Any]]) -> Section | None:
    """How often each class is recognised among the samples of seed 0."""
    shown = [a for a in arms if a["seed"] == 0 and a.get("classes")]
    if not shown:
        return None
    values = shown[0]["classes"]["values"]
    figures = []
    for arm in shown:

        def paint(axes: Any, arm: Mapping[str, Any] = arm) -> None:
            places = range(len(values))
            axes.bar([p - 0.2 for p in places], arm["classes"]["samples"], 0.4, color=plots.FIRST)
            axes.bar([p + 0.2 for p in places], arm["classes"]["real"], 0.4, color=plots.SECOND)
            axes.set_xticks(list(places), values, rotation=0 if len(values) <= 12 else 90)
            axes.set_ylabel("share recognised")

        chart = plots.draw(
            f"classes-{arm['method']}", f"Classes among samples of {arm['method']}", paint, height=2.4
        )
        figures.append(
            (f"{arm['method']} (n = {count(arm['n'])}): samples, and beside each bar held-out items", chart)
        )
    column = shown[0]["classes"]["column"]
    lead = [
        f"Every {column} as one classifier recognises it. A bar that is missing is a mode that was dropped."
    ]
    return Section("classes", "Classes", "Is every class there?", lead, figures)


def _modes(points: Sequence[Mapping[str, Any]]) -> Section | None:
    """How often each method's samples lie on each of the 25 modes."""
    if not points:
        return None
    figures = []
    down, across = zip(*itertools.product(range(GRID), repeat=2), strict=True)
    for k, arm in enumerate(points):

        def paint(axes: Any, arm: Mapping[str, Any] = arm, k: int = k) -> None:
            sizes = [FAIR_AREA * GRID**2 * n / arm["n"] for n in arm["counts"]]
            axes.scatter(across, down, s=sizes, color=COLOURS[k % 4], linewidths=0)
            axes.scatter(across, down, s=FAIR_AREA, facecolors="none", edgecolors=plots.MUTED)
            axes.set_xlim(-0.7, GRID - 0.3)
            axes.set_ylim(GRID - 0.3, -0.7)
            axes.set_aspect("equal")
            axes.axis("off")

        words = f"{arm['method']}: {arm['modes']} of 25 modes found, {arm['on_mode']:.0%} of {count(arm['n'])} on one"
        chart = plots.draw(f"modes-{arm['method']}", words, paint, width=3.2, height=3.2)
        figures.append((words, chart))
    lead = [
        "A test with a known answer: small pictures of a spot at one of 25 places, with a little noise.",
        "A disc's area is the samples nearer to this place than half way to the next, a ring's the fair share.",
        "A quarter of it finds a mode; one that was dropped is an empty ring.",
        f"One training each, {duration(points[0]['seconds'])}.",
    ]
    return Section("modes", "Modes", "Are modes dropped?", lead, figures)


def _training(arms: Sequence[Mapping[str, Any]], methods: Mapping[str, Any]) -> Section:
    rows = [
        [m, count(v["parameters"]), count(v["sampling_parameters"]), count(v["batch"]), count(v["steps"]),
         duration(v["seconds"]), duration(v["processor_seconds"]), _milliseconds(v["seconds_per_sample"])]
        for m, v in methods.items()
    ]  # fmt: skip
    heads = [
        "method",
        "parameters",
        "of them for sampling",
        "batch",
        "steps",
        "time",
        "processor time",
        "per sample",
    ]
    figures: list[tuple[str, Any]] = [("", Table(heads, rows))]
    for k, method in enumerate(methods):
        lines = [a["curve"] for a in arms if a["method"] == method and len(a["curve"]) > 1]
        if not lines:
            continue

        def paint(axes: Any, lines: Any = lines, k: int = k, method: str = method) -> None:
            for line in lines:
                axes.plot(*zip(*line, strict=True), color=COLOURS[k % 4], alpha=0.7, lw=1.2)
            axes.set_xlabel("seconds of training")
            axes.set_ylabel(LOSSES[method])

        figures.append(
            (
                f"{method}, a line per seed",
                plots.draw(f"curve-{method}", f"Loss of {method}", paint, height=2.4),
            )
        )
    lead = [
        "One after the other, each for as long; parameters are all that are trained, critic and encoder included.",
        "Losses of different methods mean different things and cannot be compared with each other.",
    ]
    return Section("training", "Training", "How they were trained", lead, figures)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
