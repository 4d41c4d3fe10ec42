"""Facts and measurements as people read them; every number with its error and its count."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuosan.cli.notes import table

if TYPE_CHECKING:
    from kuosan.recipes.facts import Facts

REASONS_SHOWN = 5
_DISTANCES = ("fd_inf_encoder", "fd_encoder", "fd_inf_pixels", "fd_pixels", "fd_raw")


def noun(modality: str) -> str:
    """What the items of a modality are called."""
    from kuosan.modalities import modality_class

    return modality_class(modality).noun


def choices_table(choices: Sequence[Sequence[Any]]) -> str:
    """What was chosen, and why."""
    return table(choices, ("choice", "value", "why"))


def choices_json(choices: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [{"what": what, "value": value, "why": why} for what, value, why in choices]


def metric_table(metrics: Mapping[str, Mapping[str, Any]], things: str = "pictures") -> str:
    """All measurements beside what real data score."""
    from kuosan.evaluation.report_words import number, verdict

    rows = []
    for name, m in metrics.items():
        floor = "–" if m.get("floor") is None else _plus_minus(m["floor"], m.get("floor_stderr"))
        value = "–" if m.get("value") is None else _plus_minus(m["value"], m.get("stderr"))
        rows.append(
            (name, value, number(m["n"]) if m["n"] >= 1e6 else f"{m['n']:,}", floor, verdict(m, things, name))
        )
    return table(rows, ("metric", "value", "n", f"real {things}", "in words"))


def verdict_table(verdict: Sequence[Mapping[str, str]]) -> str:
    """What the measurements allow to be said, question by question."""
    from kuosan.evaluation.verdict import TONES

    return table([(f["about"], TONES[f["tone"]], f["says"]) for f in verdict], ("question", "verdict", "why"))


def codec_lines(metrics: Mapping[str, Mapping[str, Any]], things: str = "pictures") -> list[str]:
    """What real items lose on a round trip through the codec: the ceiling of what the samples can be."""
    rows = [(name, _plus_minus(m["value"], m.get("stderr")), f"{m['n']:,}") for name, m in metrics.items()]
    return ["", table(rows, (f"round trip of real {things}", "value", "n"))]


def likelihood_lines(found: Mapping[str, Any]) -> list[str]:
    """The terms of a bound, and what each variance of a reverse step costs."""
    terms = [(name, _plus_minus(t["value"], t["stderr"])) for name, t in found["terms"].items()]
    lines = ["", table(terms, ("term of the bound", found["unit"]))]
    if found["steps"]:
        arms = list(next(iter(found["steps"].values())))
        rows = [
            (steps, *(_plus_minus(each[arm]["value"], each[arm]["stderr"]) for arm in arms))
            for steps, each in found["steps"].items()
        ]
        lines += ["", table(rows, ("ancestral steps", *(f"{arm} variance" for arm in arms)))]
    return lines


def baseline_lines(metrics: Mapping[str, Mapping[str, Any]], others: Mapping[str, float]) -> list[str]:
    """Bits per character of held-out texts (per token of music), of the model and of others that were given the same
    training data."""
    from kuosan.evaluation.report_words import baseline, number

    mine, unit = _measured(metrics, "bits_per_character"), "character of held-out texts"
    if mine is None:
        mine, unit = _measured(metrics, "bits_per_token"), "token of held-out music"
    rows = [(baseline(name), value, number(value)) for name, value in others.items()]
    if mine is not None:
        kind = "this model" if mine.get("note") == "exact" else "this model (at most)"
        rows.append(
            (kind, mine["value"], f"{_plus_minus(mine['value'], mine.get('stderr'))} (n = {mine['n']:,})")
        )
    found = [(name, text) for name, _, text in sorted(rows, key=lambda row: row[1])]
    return ["", table(found, (f"bits per {unit}", "fewer is better"))] if found else []


def closing(summary: Mapping[str, Any], facts: Facts) -> str:
    """The paragraph that a training ends with."""
    from kuosan.training.budget import clock

    run, things = str(summary["run"]), noun(str(facts.modality["modality"]))
    lines = [
        f"Trained {summary['steps']:,} steps in {clock(summary['seconds'])}; stopped {summary['stopped']}."
    ]
    if summary.get("val_loss") is not None:
        lines[0] += (
            f" The best held-out loss was {summary['val_loss']:.4g}, at step {summary['best_step']:,}."
        )
    if summary.get("skipped_steps"):
        lines.append(f"{summary['skipped_steps']:,} steps were not finite and were skipped.")
    lines += _writing(summary["metrics"], summary.get("baselines", {}))
    lines += _quality(summary["metrics"], things)
    if "codec" in summary:
        m = summary["codec"]["codec_psnr"]
        value = _plus_minus(m["value"], m.get("stderr"))
        lines.append(
            f"Real {things} come back from the codec at {value} dB (n = {m['n']:,}): no sample can be better."
        )
    lines += [f"Report: {summary['report']}", "", "Next:", *(f"  {line}" for line in suggestions(run, facts))]
    return "\n".join(lines)


def _writing(metrics: Mapping[str, Mapping[str, Any]], others: Mapping[str, float]) -> list[str]:
    """Sentences on a model of texts: its bits beside the best n-gram's, and how varied its words are, which confident
    sampling can trade for bits."""
    from kuosan.evaluation.report_words import baseline

    lines = []
    if m := _measured(metrics, "bits_per_character"):
        kind = "" if m.get("note") == "exact" else "at most "
        line = f"Held-out texts cost {kind}{_plus_minus(m['value'], m.get('stderr'))} bits per character"
        line += f" (n = {m['n']:,})"
        grams = {name: value for name, value in others.items() if "kneser" in name or name == "unigram"}
        if grams:
            best = min(grams, key=lambda name: grams[name])
            line += f"; the best n-gram of the same training texts ({baseline(best)}) {grams[best]:.2f}"
        lines.append(f"{line}.")
    if (m := _measured(metrics, "bits_per_note")) and "voice_bigram_beat" in others:
        per_token = metrics["bits_per_token"]
        lines.append(
            f"Held-out music costs at most {_plus_minus(per_token['value'], per_token.get('stderr'))} bits per token "
            f"(n = {m['n']:,}); counting by the beat {others['voice_bigram_beat']:.2f}."
        )
    for name, what in (
        ("interval_overlap", "Overlap of intervals"),
        ("faults_per_bar", "Faults of voice leading"),
    ):
        if m := _measured(metrics, name):
            value, real = _plus_minus(m["value"], m.get("stderr")), _beside(m, "music")
            lines.append(f"{what}: {value}{' per bar' if name == 'faults_per_bar' else ''}{real}.")
    if m := _measured(metrics, "entropy_words"):
        value, real = _plus_minus(m["value"], m.get("stderr")), _beside(m, "texts")
        lines.append(f"Entropy of words in {m['n']:,} samples: {value} bits{real}.")
    return lines


def _quality(metrics: Mapping[str, Mapping[str, Any]], things: str) -> list[str]:
    """Sentences on the measurements that say most: classes, the most unfavourable distance, copies."""
    from kuosan.evaluation.report_words import metric_title, verdict

    lines = []
    if m := _measured(metrics, "caption_retrieval_10"):
        share, real = _percent(m["value"], m.get("stderr")), _beside(m, things, _percent)
        lines.append(f"The caption picked from ten: {share} of {m['n']:,} samples{real}; chance is 10 %.")
    if m := _measured(metrics, "class_accuracy"):
        share, real = _percent(m["value"], m.get("stderr")), _beside(m, things, _percent)
        lines.append(f"Recognised as the class asked for: {share} of {m['n']:,} samples{real}.")
    if found := [(name, m) for name in _DISTANCES if (m := _measured(metrics, name))]:
        # the one farthest from real data: a space with few items left to compare sees little
        name, m = max(found, key=lambda pair: _sigmas(pair[1]))
        title, _ = metric_title(name, things)
        value, real, words = (
            _plus_minus(m["value"], m.get("stderr")),
            _beside(m, things),
            verdict(m, things, name),
        )
        lines.append(
            f"{title} ({m['space']}): {value} at n = {m['n']:,}{real}{f'; {words}' if words else ''}."
        )
    if m := _measured(metrics, "copies"):
        share, words = _percent(m["value"], m.get("stderr")), verdict(m, things, "copies")
        lines.append(
            f"Near-copies of training items: {share} of {m['n']:,} samples{f', {words}' if words else ''}."
        )
    return lines


def _measured(metrics: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    m = metrics.get(name)
    return m if m is not None and m["value"] is not None else None


def _sigmas(m: Mapping[str, Any]) -> float:
    """Standard errors between a distance and its floor; least where it has none."""
    if m.get("floor") is None:
        return -math.inf
    spread = math.hypot(m.get("stderr") or 0.0, m.get("floor_stderr") or 0.0)
    return float((m["value"] - m["floor"]) / max(spread, 1e-12))


def _beside(m: Mapping[str, Any], things: str, show: Callable[..., str] | None = None) -> str:
    """What real data score."""
    if m.get("floor") is None:
        return ""
    return f"; real {things}: {(show or _plus_minus)(m['floor'], m.get('floor_stderr'))}"


def suggestions(run: str, facts: Facts) -> list[str]:
    """Commands to try next."""
    from kuosan.core.shapes import PICTURE
    from kuosan.modalities import modality_class

    place = shlex.quote(run)
    where = " --where caption='…'" if facts.network.get("captions") else ""
    if facts.columns and not where:
        column, values = next(iter(facts.columns.items()))
        value = values[min(3, len(values) - 1)]
        where = f" --where {shlex.quote(f'{column}={value}')}"
    if facts.recipe.process.discrete:
        masks = facts.recipe.process.kind != "uniform"
        gap = [f"kuosan sample {place} --template 'Once [[gap:30]] there was'"] if masks else []
        if facts.recipe.data.modality == "music":
            gap = [f"kuosan sample {place} --length 16bars --format wav"]
        if facts.recipe.data.modality == "shape":
            gap = [f"kuosan sample {place} --given FILE --keep height:0-50%"]
        if facts.recipe.data.modality == "plan":
            gap = [f"kuosan sample {place} --rooms bedroom=2 --format dxf,geojson"]
        return [f"kuosan sample {place}{where}", *gap, f"kuosan evaluate {place}"]
    axes = modality_class(str(facts.modality["modality"])).axes
    held = (
        facts.recipe.noise.gaussian and facts.recipe.distil.steps < 2 and axes == PICTURE
        and not (facts.network.get("beside") or facts.network.get("captions"))
    )  # by a diffusers pipeline  # fmt: skip
    export = [f"kuosan export {place} --to diffusers {place}-diffusers"] if held else []
    length = "16bars --format wav" if "pitch" in axes else "4s"
    longer = [f"kuosan sample {place} --length {length}"] if "time" in axes else []
    if beside := facts.modality.get("beside"):
        box = f"{beside.get('classes', ['', ''])[-1]}:0,0,8,8"
        wish = "--enlarge PICTURE" if "factor" in beside else f"--boxes {shlex.quote(box)}"
        longer = [f"kuosan sample {place} {wish}"]
    elif scan := facts.modality.get("form", {}).get("scan"):
        longer = [f"kuosan sample {place} --size {'x'.join(map(str, scan))} -n 4"]
    elif shapes := facts.modality.get("shapes"):
        height, width = shapes[-1]
        longer = [f"kuosan sample {place} --size {height}x{width}"]
    return [f"kuosan sample {place}{where}", *longer, f"kuosan evaluate {place}", *export]


def skipped_lines(survey: Mapping[str, Any]) -> list[str]:
    """Files that could not be read, the first few by name."""
    skipped = list(survey.get("skipped") or ())
    if not skipped:
        return []
    what = "file was" if len(skipped) == 1 else "files were"
    lines = [f"{len(skipped):,} {what} skipped:"]
    lines += [f"  {name}: {reason}" for name, reason in skipped[:REASONS_SHOWN]]
    if len(skipped) > REASONS_SHOWN:
        lines.append("  … all of them: kuosan inspect DATA --json, or the report")
    return lines


def _plus_minus(value: float, stderr: float | None) -> str:
    from kuosan.evaluation.report_words import error, number

    if stderr is None:
        return number(value)
    return f"{number(value, stderr)} ± {error(stderr)}"


def _percent(value: float, stderr: float | None) -> str:
    return f"{100 * value:.1f} %" if stderr is None else f"{100 * value:.1f} ± {100 * stderr:.1f} %"


def shown(path: Path) -> str:
    """A path as people typed it where it lies below here, else in full."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
