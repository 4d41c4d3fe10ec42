"""A run's verdict in plain sentences: what its numbers allow to be said, and no more.

Each question gets one sentence with the numbers that it rests on:

    Likeness        can samples be told from real items?
    Variety         are they as varied?
    Conditions      is what was asked for recognised, and as often as in the data?
    Copies          do samples lie nearer to training items than other real items do?
    Memory          are training items better known than others?
    Training        was it long enough, or too long?
    Noise           at which levels of noise does it fail?

A number is held against its floor, z = (m - f)/√(se_m² + se_f²) in the direction that is worse, and a difference is
seen where z > 2. Of K measures that look at equal laws, chance alone makes some K/44 see one: with a single one or a
share of `LUCK` of them, none beyond `SURE`, the answer stays good, and says so. What was not measured is said to be
unknown: silence would read as praise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kuosan.evaluation import report_words
from kuosan.evaluation.report_words import AGREES, count, error, metric_title, number, usable, verdict

Tone = Literal["good", "fair", "bad", "unknown"]
Metrics = Mapping[str, Mapping[str, Any]]

TONES: dict[str, str] = {"good": "good", "fair": "mixed", "bad": "poor", "unknown": "not known"}
LUCK = 0.07  # of the measures: three times what chance makes
SURE = 3.0  # standard errors that chance does not make
OFTEN = 0.5  # of the measures that see a difference: then samples are plainly off
LATE = 0.25  # of the looks at the held-out loss: the end of training
TWO_SIDED = tuple(name for name in report_words.VARIETY if name != "jerk")
VARIETY = ("recall", "coverage", *TWO_SIDED)
ASKED = ("class_accuracy", "accuracy_", "key_accuracy", "class_frequency")
COPIES = ("copies", "nearest_distance", "longest_span")
APART = ("shuffled", "bits_", "nll_", "codec_", "tstr_accuracy", "parallel_", "crossings", "out_of_range")


@dataclass(frozen=True)
class Finding:
    """The answer to one question, and how good it is."""

    about: str
    says: str
    tone: Tone

    def to_json(self) -> dict[str, str]:
        return vars(self).copy()


def findings(
    metrics: Metrics,
    *,
    log: Sequence[Mapping[str, Any]] = (),
    levels: Mapping[str, Any] = {},
    noun: str = "pictures",
) -> list[Finding]:
    """The verdict, question by question; see the module.

    Args:
        metrics: name → {value, stderr, n, floor, …}, those of the likelihood included.
        log: rows of metrics.jsonl. levels: what is known by level of noise, see `recipes.report_levels`.
    """
    found = [
        _likeness(metrics, noun),
        _variety(metrics, noun),
        _asked(metrics, noun),
        _copies(metrics, noun),
        _memory(metrics, levels, noun),
        _training(log),
        _noise(levels, noun),
    ]
    return [one for one in found if one is not None]


def in_words(metrics: Metrics, noun: str) -> list[dict[str, str]]:
    """What measurements alone allow to be said, as JSON."""
    return [finding.to_json() for finding in findings(metrics, noun=noun)]


# -- each question -----------------------------------------------------------------------------------------


def _likeness(metrics: Metrics, noun: str) -> Finding:
    others = (*VARIETY, *ASKED, *COPIES, *APART)
    judged = {k: z for k, m in metrics.items() if not k.startswith(others) and (z := worse(m)) is not None}
    judged = {k: abs(z) if k.startswith(report_words.EITHER) else z for k, z in judged.items()}
    if not judged:
        return Finding(
            "Likeness", f"Nothing could be held against real {noun}: there were too few.", "unknown"
        )
    seen = {k: z for k, z in judged.items() if z > AGREES}
    sizes = sorted(int(metrics[k]["n"]) for k in judged)
    n = count(sizes[0]) if sizes[0] == sizes[-1] else f"{count(sizes[0])} to {count(sizes[-1])}"
    looked = f"{len(judged)} measures (n = {n})" if len(judged) > 1 else f"one measure (n = {n})"
    if not seen:
        says = f"No difference from real {noun} is seen by {looked}. More samples could tell more."
        return Finding("Likeness", says, "good")
    clearest = max(seen, key=lambda k: seen[k])
    told = f"clearest {_told(clearest, metrics[clearest], noun)}"
    says = f"{len(seen)} of {looked} tell{'s' if len(seen) == 1 else ''} samples from real {noun}, {told}."
    if _chance(list(seen.values()), len(judged)):
        return Finding("Likeness", f"{says} That can be chance.", "good")
    return Finding("Likeness", says, "bad" if len(seen) >= OFTEN * len(judged) else "fair")


def _variety(metrics: Metrics, noun: str) -> Finding | None:
    judged = {k: m for k, m in metrics.items() if k.startswith(VARIETY) and worse(m) is not None}
    if not judged:
        return Finding("Variety", "It was not measured how varied samples are.", "unknown")

    def less(k: str) -> float:
        """Standard errors towards less variety."""
        return worse(judged[k]) or 0.0

    least, most = max(judged, key=less), min(judged, key=less)
    if less(least) > AGREES:
        seen = [less(k) for k in judged if less(k) > AGREES]
        says = (
            f"They are less varied than real {noun} by {len(seen)} of {len(judged)} measures, "
            f"clearest {_told(least, judged[least], noun)}."
        )
        if _chance(seen, len(judged)):
            return Finding("Variety", f"{says} That can be chance.", "good")
        return Finding("Variety", says, "bad" if len(seen) >= OFTEN * len(judged) else "fair")
    if most.startswith(TWO_SIDED) and less(most) < -AGREES:
        told = _told(most, judged[most], noun)
        return Finding("Variety", f"They are more varied than real {noun}, as noise is: {told}.", "fair")
    many = f"{len(judged)} measures" if len(judged) > 1 else metric_title(least, noun)[0].lower()
    return Finding("Variety", f"They are as varied as real {noun}, by {many}.", "good")


def _asked(metrics: Metrics, noun: str) -> Finding | None:
    judged = [
        k for prefix in ASKED for k in metrics if k.startswith(prefix) and worse(metrics[k]) is not None
    ]
    if not judged:
        return None  # there was nothing to ask for
    parts, tone = [], "good"
    for k in judged:
        m, z = metrics[k], worse(metrics[k]) or 0.0
        off = z > AGREES
        if k.startswith("class_frequency"):
            often = "not as often as in the data" if off else "as often as in the data"
            here, there = (
                _percent(m[a], m.get(b)) for a, b in (("value", "stderr"), ("floor", "floor_stderr"))
            )
            parts.append(
                f"Left to itself it makes every class {often}: {here} of samples are of another one than they should "
                f"be, of as many real {noun} {there}"
            )
        else:
            what = "as the class that was asked for" if k == "class_accuracy" else "as asked"
            which = k.partition("accuracy_")[2]
            parts.append(
                f"{_percent(m['value'], m.get('stderr'))} of samples are recognised {what}"
                f"{f' ({which})' if which else ''}, of real {noun} {_percent(m['floor'], m.get('floor_stderr'))}"
            )
        bad = off and not k.startswith("class_frequency") and m["value"] < 0.8 * m["floor"]
        tone = "bad" if bad or tone == "bad" else "fair" if off or tone == "fair" else "good"
    return Finding("Conditions", ". ".join(parts) + ".", tone)  # type: ignore[arg-type]


def _copies(metrics: Metrics, noun: str) -> Finding:
    name = next((k for k in metrics if k.startswith("copies") and worse(metrics[k]) is not None), None)
    if name is None:
        return Finding("Copies", f"Not known: too few other real {noun} to tell how near is near.", "unknown")
    m = metrics[name]
    share, usual = _percent(m["value"], m.get("stderr")), _percent(m["floor"], m.get("floor_stderr"))
    rest = f"{share} of samples (n = {count(m['n'])}) lie very near to a training item, of other real {noun} {usual}"
    if (worse(m) or 0.0) > AGREES:
        return Finding("Copies", f"It copies: {rest}. Look at the pairs below.", "bad")
    near = next((k for k in metrics if k.startswith("nearest_distance")), None)
    if (
        near is not None
        and (worse(metrics[near]) or 0.0) > AGREES
        and metrics[near]["value"] < metrics[near]["floor"]
    ):
        says = f"No copies ({rest}), but on average samples lie nearer to training items than other real {noun} do."
        return Finding("Copies", says, "fair")
    return Finding("Copies", f"No sign of copying: {rest}.", "good")


def _memory(metrics: Metrics, levels: Mapping[str, Any], noun: str) -> Finding | None:
    """By the likelihood where there is one, else by the losses at each level."""
    for name in metrics:
        whole = (
            f"{name.removesuffix('_train')}"
            if name.startswith("bits_per")
            else name.replace("_train", "_bound")
        )
        if name.endswith("_train") and whole in metrics:
            gap = metrics[whole]["value"] - metrics[name]["value"]
            spread = math.hypot(metrics[whole].get("stderr") or 0.0, metrics[name].get("stderr") or 0.0)
            scale = math.inf if name.startswith("nll") else metrics[whole]["value"]
            return _known(gap, spread, scale, _unit(name), noun)
    if gap := levels.get("gap"):
        return _known(gap["value"], gap["stderr"], gap["held_out"], "of loss", noun)
    return None


def _known(gap: float, spread: float, scale: float, unit: str, noun: str) -> Finding:
    """``scale`` is what makes a gap large; infinite where the unit has no zero."""
    more = f"{number(gap, spread)} ± {error(spread)} {unit}" if usable(spread) else f"{number(gap)} {unit}"
    if gap <= AGREES * spread:
        says = f"Nothing that shows was learned by heart: held-out {noun} cost no more than training ones ({more})."
        return Finding("Memory", says, "good")
    says = f"It knows training {noun} better than others: held-out ones cost {more} more."
    return Finding("Memory", says, "bad" if gap > 0.1 * scale else "fair")


def _training(log: Sequence[Mapping[str, Any]]) -> Finding | None:
    looks = [row for row in log if row.get("val_change") is not None]
    if len(looks) < 3:
        return None
    late = looks[-max(2, round(LATE * len(looks))) :]
    last = looks[-1]
    fell = [row for row in late if row["val_change"] < -AGREES * (row.get("val_change_stderr") or 0.0)]
    if last["val_change"] > AGREES * (last.get("val_change_stderr") or 0.0):
        best = min((row for row in log if row.get("val_loss") is not None), key=lambda row: row["val_loss"])
        says = (
            f"The held-out loss has risen since step {count(best['step'])}, by {_change(last)}: longer training of "
            "this kind would do harm. The weights are those of the best step."
        )
        return Finding("Training", says, "fair")
    if last in fell or len(fell) >= len(late) / 2:
        steepest = fell[-1]
        says = (
            f"The held-out loss still fell when the budget ended (at step {count(steepest['step'])} by "
            f"{_change(steepest)} since its best before): a larger budget would help."
        )
        return Finding("Training", says, "fair")
    says = f"The held-out loss had stopped falling by the end ({_change(last)} since its best before)."
    return Finding("Training", f"{says} It was long enough.", "good")


def _noise(levels: Mapping[str, Any], noun: str) -> Finding | None:
    begun = sorted(levels.get("begun", ()), key=lambda row: row["begun"])
    if len(begun) < 2:
        return None
    if not any(row["more"] > AGREES * row["more_stderr"] for row in begun):
        says = (
            f"Begun from real {noun} under noise of any level, its results are as near to real ones as these."
        )
        return Finding("Noise", says, "good")
    # What is added from one level to the next.
    before = [0.0, *(row["more"] for row in begun)]
    added = [(row["more"] - less, i) for i, (row, less) in enumerate(zip(begun, before, strict=False))]
    most, i = max(added)
    below, total = begun[i - 1]["begun"] if i else 0.0, max(row["more"] for row in begun)
    says = (
        f"It is weakest between t = {below:.2g} and t = {begun[i]['begun']:.2g} (0 is data, 1 pure noise): "
        f"{min(1.0, most / total):.0%} of the distance between its samples and real {noun} comes about there."
    )
    return Finding("Noise", says, "fair")


# -- words --------------------------------------------------------------------------------------------------


def _chance(seen: Sequence[float], judged: int) -> bool:
    """Whether so many of the measures that looked see as much by chance."""
    return len(seen) <= max(1, LUCK * judged) and max(seen) < SURE


def worse(m: Mapping[str, Any]) -> float | None:
    """Standard errors by which a measurement is worse than its floor; None where either is missing."""
    value, floor = m.get("value"), m.get("floor")
    if value is None or floor is None or not (math.isfinite(value) and math.isfinite(floor)):
        return None
    gap = value - floor if m.get("better") != "higher" else floor - value
    spread = _spread(m)
    return gap / spread if spread > 0 else (0.0 if gap == 0 else math.copysign(math.inf, gap))


def _spread(m: Mapping[str, Any]) -> float:
    return math.hypot(float(m.get("stderr") or 0), float(m.get("floor_stderr") or 0))


def _told(name: str, m: Mapping[str, Any], noun: str) -> str:
    """recall (encoder): 0.58 ± 0.03, real ones 0.87 ± 0.02 (67% of what real pictures reach)."""
    space = f" ({m['space']})" if m.get("space") else ""
    title = metric_title(name, noun)[0]
    title = title if title[1:2].isupper() else title[:1].lower() + title[1:]
    title = title.replace("fréchet", "Fréchet")
    here, there = _with(m["value"], m.get("stderr")), _with(m["floor"], m.get("floor_stderr"))
    how = "" if name.startswith(VARIETY) else f" ({verdict(m, noun, name)})"
    return f"{title}{space}: {here}, real ones {there}{how}"


def _with(value: float, stderr: float | None) -> str:
    return number(value, stderr) + (f" ± {error(stderr)}" if usable(stderr) else "")


def _percent(value: float, stderr: float | None) -> str:
    return f"{100 * value:.1f}" + (f" ± {100 * stderr:.1f}" if usable(stderr) else "") + " %"


def _change(row: Mapping[str, Any]) -> str:
    return _with(row["val_change"], row.get("val_change_stderr")).replace(
        "−", "" if row["val_change"] < 0 else "−"
    )


def _unit(name: str) -> str:
    if name.startswith("nll"):
        return "nats per dimension"
    per = name.removesuffix("_train").removeprefix("bits_per_")
    return f"bits per {per}" if name.startswith("bits_per") else "bits per dimension"
