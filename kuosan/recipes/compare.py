"""`kuosan compare`: diffusion against its rivals on somebody's own data, and answers in plain words.

Every arm is trained and measured by `contest`; here the measurements of several seeds become a table, the table
becomes answers, and both become a page. What is said to be better is so by more than chance (`evaluation.versus`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kuosan.evaluation.report_words import error, metric_title, number
from kuosan.evaluation.versus import Difference, Estimated, between, over_runs
from kuosan.recipes import compare_page, mixture
from kuosan.recipes.contest import Arm, Contest
from kuosan.training.budget import Budget
from kuosan.training.checkpoint import write_json

RESULT = "compare.json"
MIXTURE_SHARE, MIXTURE_LEAST, MIXTURE_MOST = (
    0.1,
    20.0,
    60.0,
)  # seconds of each arm on the mixture, by the budget
QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("likeness as a whole", ("fd_encoder", "fd_pixels", "fd_raw", "fd_ngrams", "onset_overlap")),
    ("fidelity", ("precision", "interval_overlap")),
    ("diversity", ("coverage", "recall", "pitch_class_overlap")),
    ("speed", ("seconds_per_sample",)),
    ("likelihood", ("bits_bound", "nll_bound", "bits_per_character", "bits_per_token")),
)


@dataclass(frozen=True)
class Answer:
    """What is told of one question: the methods that cannot be told apart from the best, and by how
    much each other one is behind; ``without`` have no such number."""

    question: str
    metric: str
    better: str
    values: Mapping[str, Estimated]
    best: str
    tied: tuple[str, ...]
    behind: Mapping[str, Difference]
    without: tuple[str, ...]

    def sentence(self) -> str:
        """In plain words."""

        def said(method: str) -> str:
            v = self.values[method]
            return (
                f"{NAMES[method]} ({number(v.value, v.stderr)} ± {error(v.stderr)})"
                if v.stderr
                else f"{NAMES[method]} ({number(v.value)})"
            )

        title = (
            "seconds per sample"
            if self.metric == "seconds_per_sample"
            else metric_title(self.metric, "items")[0]
        )
        head = f"For {self.question} ({title}, {self.better} is better)"
        text = f"{head}: {said(self.best)} is best"
        if self.tied:
            also = " and ".join(said(m) for m in self.tied)
            text = f"{head}: {said(self.best)} and {also} cannot be told apart"
        for method, d in self.behind.items():
            low, high = (number(x, d.stderr or None) for x in sorted((abs(d.low), abs(d.high))))
            text += f"; {said(method)} is behind by {low}" + f" to {high}" * (low != high)
        if self.without:
            text += f"; of {' and '.join(NAMES[m] for m in self.without)} none was measured"
        return f"{text}."


AVERAGED = ("steps", "seconds", "processor_seconds", "seconds_per_sample")
NAMES = {
    "diffusion": "diffusion",
    "vae": "the VAE",
    "gan": "the GAN",
    "autoregressive": "the autoregressive model",
}


def compare(
    data: str | Path,
    *,
    out: str | Path | None = None,
    budget: str = "5m",
    seeds: int = 3,
    n: int = 1000,
    methods: tuple[str, ...] = (),
    modes: bool = True,
    train: Callable[[Arm], None] | None = None,
    **leaves: Any,
) -> dict[str, Any]:
    """Train all arms that are not trained yet, and write ``compare.json`` and ``compare.html``; what is in the former.

    Args:
        data, budget, leaves: as for `kuosan.train`; the budget is each arm's.
        out: a folder; runs/NAME-compare unless given.
        seeds: trainings of each method. n: samples of each (256 of texts and music at most).
        methods: of diffusion, vae, gan (numbers) and diffusion, autoregressive (tokens); all that fit unless given.
        modes: also look for dropped modes on a mixture of 25, `MIXTURE_SHARE` of the budget each.
        train: trains and measures an arm; `to_the_end` unless given.

    Raises:
        UserError: what `Contest.begin` and training raise.
    """
    source = Path(data)
    asked = {name.replace("__", "."): value for name, value in leaves.items()}
    name = source.resolve().stem if source.is_file() else source.resolve().name
    contest = Contest(
        source, Path(out or Path("runs") / f"{name}-compare"), budget, seeds, n, tuple(methods), asked
    )
    contest.begin()
    work = train or to_the_end
    arms = {str(arm): finished(arm, work) for arm in contest.arms()}
    points: dict[str, dict[str, Any]] = {}
    if modes and not contest.discrete:
        test = mixture_of(contest)
        test.begin()
        points = {str(arm): finished(arm, work) for arm in test.arms()}
    result = summary(contest, list(arms.values()), list(points.values()))
    write_json(contest.out / RESULT, result)
    page = compare_page.write(contest, result, list(arms.values()), list(points.values()))
    return {**result, "report": str(page)}


def finished(arm: Arm, work: Callable[[Arm], None]) -> dict[str, Any]:
    """What an arm came to; trained now where it has not been."""
    found = arm.result()
    if found is None:
        work(arm)
        found = arm.result()
    assert found is not None
    return found


def to_the_end(arm: Arm) -> None:
    """Train and measure an arm."""
    for _ in arm.steps():
        pass
    arm.measure()


def mixture_of(contest: Contest) -> Contest:
    """The same methods on the mixture: one seed, and a part of the budget."""
    seconds, folder = Budget.parse(contest.budget).seconds, contest.out / "mixture"
    part = contest.budget
    if seconds is not None:
        part = f"{max(MIXTURE_LEAST, min(MIXTURE_MOST, MIXTURE_SHARE * seconds)):g}s"
    own = {k: v for k, v in contest.leaves.items() if k.startswith(("network", "training"))}
    return replace(
        contest,
        data=mixture.write_data(folder),
        out=folder,
        budget=part,
        seeds=1,
        leaves=own,
        judge=mixture.judge,
    )


def summary(contest: Contest, arms: list[dict[str, Any]], points: list[dict[str, Any]]) -> dict[str, Any]:
    """The table over seeds, the answers, and the modes that were found."""
    by: dict[str, list[dict[str, Any]]] = {
        m: [a for a in arms if a["method"] == m] for m in contest.contestants
    }
    methods = {method: _method(runs) for method, runs in by.items()}
    found = [a for a in (answer(q, names, by) for q, names in QUESTIONS) if a]
    return {
        "data": str(contest.data), "budget": contest.budget, "seeds": contest.seeds, "methods": methods,
        "answers": {
            a.question: {
                "sentence": a.sentence(), "metric": a.metric, "best": a.best, "tied": list(a.tied),
                "behind": {m: d.to_json() for m, d in a.behind.items()}, "without": list(a.without),
            }
            for a in found
        },
        "mixture": {p["method"]: {k: p[k] for k in ("modes", "on_mode", "counts", "n", "steps")} for p in points},
        "arms": [{k: v for k, v in a.items() if k != "curve"} for a in arms],
    }  # fmt: skip


def _method(runs: list[dict[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(k for run in runs for k in run["metrics"])
    metrics = {}
    for name in names:
        if (mean := estimated(runs, name)) is not None:
            last = next(run["metrics"][name] for run in runs if name in run["metrics"])
            metrics[name] = {
                **mean.to_json(), **{k: last.get(k) for k in ("n", "floor", "floor_stderr", "better", "space")}
            }  # fmt: skip
    keep = ("parameters", "sampling_parameters", "batch")
    return {
        **{k: runs[0][k] for k in keep},
        **{k: sum(run[k] for run in runs) / len(runs) for k in AVERAGED},
        "metrics": metrics,
    }  # fmt: skip


def estimated(runs: list[dict[str, Any]], name: str) -> Estimated | None:
    """The mean of a measurement over runs; None where one of them has none."""
    if name == "seconds_per_sample":
        return over_runs([run[name] for run in runs], [None] * len(runs))
    found = [run["metrics"].get(name) for run in runs]
    if not found or any(m is None or m["value"] is None for m in found):
        return None
    return over_runs([m["value"] for m in found], [m["stderr"] for m in found])


def answer(question: str, names: tuple[str, ...], by: Mapping[str, list[dict[str, Any]]]) -> Answer | None:
    """By the first of these measurements that two methods have, or that any has."""

    def known(name: str) -> dict[str, Estimated]:
        return {m: e for m, runs in by.items() if (e := estimated(runs, name)) is not None}

    name = max(names, key=lambda name: min(2, len(known(name))))
    values = known(name)
    if not values:
        return None
    better = "lower"
    if name != "seconds_per_sample":
        better = str(
            next(
                run["metrics"][name]["better"]
                for runs in by.values()
                for run in runs
                if name in run["metrics"]
            )
        )
    sign = 1 if better == "lower" else -1
    order = sorted(values, key=lambda m: sign * values[m].value)
    best, others = order[0], order[1:]
    apart = {m: between(values[m], values[best]) for m in others}
    tied = tuple(m for m in others if not apart[m].told)
    behind = {m: d for m, d in apart.items() if d.told}
    without = tuple(m for m in by if m not in values)
    return Answer(question, name, better, values, best, tied, behind, without)
