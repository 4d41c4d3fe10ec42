"""What a run owes to others: BibTeX of the methods that it used, and of no others.

The words of a resolved recipe (schedule, output, weight, timing, network, solver, grid) and the names of what
was measured pick entries of ``references.bib``. What every run uses (the forward process, the optimiser, the
averaged weights, PyTorch) is always cited. An entry is cited once, under the first reason for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import kuosan
from kuosan.recipes import cite_texts
from kuosan.recipes.facts import Facts
from kuosan.recipes.run import Run
from kuosan.recipes.sequences import kept
from kuosan.solvers.sequence import LEARNED, Sequence

_ALWAYS = (
    ("software", ("kuosan",)),
    ("diffusion", ("sohldickstein2015",)),
)
_NUMBERS = (
    ("diffusion of numbers", ("ho2020",)),
    ("probability-flow ODE", ("song2021sde",)),
)
_SCHEDULES = {
    "cosine": ("nichol2021",),
    "rectified": ("liu2023", "lipman2023"),
    "vp": ("song2021sde",),
    "sigmoid": ("jabri2023",),
    "edm": ("karras2022",),
    "learned": ("kingma2021",),
    "tabulated": ("ho2020",),
}
_OUTPUTS = {
    "x": ("salimans2022", "li2025clean"),
    "eps": ("ho2020",),
    "v": ("salimans2022",),
    "velocity": ("liu2023", "lipman2023"),
    "score": ("song2021sde",),
    "edm": ("karras2022",),
}
_WEIGHTS = {
    "output": ("ho2020",),
    "min_snr": ("hang2023",),
    "edm": ("karras2022",),
    "sigmoid": ("kingma2023", "hoogeboom2024"),
    "uniform": ("kingma2021",),
}
_NOISES = {
    "uniform": ("albergo2023",),
    "laplace": ("albergo2023", "park2008"),
    "generalised": ("albergo2023",),
    "student": ("albergo2023", "pandey2024"),
    "binary": ("albergo2023",),
}
_TIMINGS = {
    "uniform": ("kingma2021",),
    "lognormal": ("karras2022",),
    "logitnormal": ("esser2024",),
    "logsnr": ("kingma2021",),
    "entropy": ("raya2026", "guo2005"),
}
_COUPLINGS: dict[str, tuple[str, ...]] = {
    "independent": (),
    "nearest": ("li2024", "li2025"),
    "transport": ("pooladian2023", "tong2024", "cheng2025"),
}
_NETWORKS = {
    "transformer": ("peebles2023",),
    "unet": ("ronneberger2015", "ho2020", "dhariwal2021", "vonplaten2022"),
    "residual-unet": ("ronneberger2015", "ho2020", "dhariwal2021"),
    "stock": ("ronneberger2015", "ho2020", "vonplaten2022"),
}
_CODECS = {"kl_vae": ("kingma2014", "tipping1999", "rybkin2021"), "stock": ("kingma2014", "vonplaten2022")}
# The first that a solver's name starts with.
_SOLVERS = (
    ("ancestral", ("ho2020", "bao2022")),
    ("ddim", ("song2021ddim",)),
    ("euler", ("song2021ddim", "karras2022")),
    ("heun", ("karras2022",)),
    ("dpm++", ("lu2022pp",)),
    ("sde-dpm++", ("lu2022pp", "xue2023")),
    ("unipc", ("zhao2023",)),
    ("cold", ("bansal2023",)),
    ("redraw", ("bansal2023", "song2023")),
    ("ipndm", ("liu2022", "zhang2023")),
    ("adams", ("zhang2023",)),
    ("deis", ("zhang2023",)),
    ("midpoint", ("hairer2006",)),
    ("first-hitting", ("zheng2024",)),
    ("spaced", ("corput1935",)),
    ("confidence", ("chang2022", "nie2025")),
    ("entropy", ("ye2025",)),
    ("margin", ("kim2025",)),
    ("remdm", ("wang2025",)),
)
_GRIDS = {
    "logsnr": ("lu2022",),
    "karras": ("karras2022",),
    "entropy": ("stancevic2025", "guo2005"),
    "straightest": ("chen2024",),
    "least bound": ("xue2024",),
    "learned": ("tong2025", "marquardt1963", "hutchinson1990"),
}
_LEARNED = ("shaul2024", "oganov2025")
# What the report of every run that was trained here shows, time permitting.
_REPORTED = (
    ("items to noise and back", ("hairer2006", "shoemake1985")),
    ("residual of the score", ("lai2023",)),
    ("entropy by noise level", ("guo2005",)),
    ("nearness to training items", ("carlini2023",)),
)
# All whose words are among the parts of a metric's name (fd_inf_encoder: fd, inf, encoder).
_METRICS = (
    ({"fd"}, ("heusel2017",)),
    ({"fd", "inf"}, ("chong2020",)),
    ({"kd"}, ("gretton2012", "binkowski2018")),
    ({"precision"}, ("kynkaanniemi2019",)),
    ({"recall"}, ("kynkaanniemi2019",)),
    ({"density"}, ("naeem2020",)),
    ({"coverage"}, ("naeem2020",)),
    ({"fd", "movement"}, ("unterthiner2018",)),
    ({"shuffled"}, ("ge2024",)),
    ({"vendi"}, ("friedman2023",)),
    ({"mauve"}, ("pillutla2021",)),
    ({"class", "accuracy"}, ("ravuri2019",)),
    ({"caption", "retrieval"}, ("radford2021",)),
    ({"copies"}, ("vovk2005",)),
    ({"tstr"}, ("esteban2017",)),
    ({"c2st"}, ("lopezpaz2017",)),
    ({"swd"}, ("bonneel2015",)),
    ({"nna"}, ("lopezpaz2017", "yang2019")),
    ({"coverage", "chamfer"}, ("achlioptas2018",)),
    ({"mmd", "chamfer"}, ("achlioptas2018",)),
    ({"watertight"}, ("lorensen1987", "lewiner2003", "vanderwalt2014")),
    ({"gap"}, ("vallender1974",)),
    ({"ssim"}, ("wang2004ssim",)),
    ({"map"}, ("park2019spade",)),
    ({"inception"}, ("szegedy2016",)),
    ({"bound"}, ("kingma2021",)),
    ({"steps"}, ("ho2020", "bao2022")),
    ({"flow"}, ("song2021sde", "dormand1980", "hutchinson1990")),
    ({"bits", "flow"}, ("theis2016", "zheng2023")),
    ({"foot", "skating"}, ("zhang2018",)),
    ({"groove"}, ("yang2020", "wu2020")),
)
# What a modality's states owe to others.
_MODALITIES = {
    "motion": (("rotations as two columns", ("zhou2019",)), ("rotations between frames", ("shoemake1985",))),
    "music": (("rolls of onset and sustain", ("min2023",)), ("keys of pieces", ("krumhansl1990",))),
}

# What a comparison owes beside what its runs do.
_RIVALS = {
    "diffusion": ("welch1947",),
    "vae": ("kingma2014", "rybkin2021", "ghosh2020", "burda2016", "srivastava2017"),
    "gan": ("huang2024", "jolicoeur2019", "mescheder2018", "miyato2018", "zhao2020", "srivastava2017"),
    "autoregressive": ("vaswani2017",),
}


@cache
def references() -> dict[str, str]:
    """All entries of ``references.bib`` by their keys."""
    text = resources.files("kuosan.recipes").joinpath("references.bib").read_text(encoding="utf-8")
    entries = (entry.strip() for entry in re.split(r"(?m)^(?=@)", text) if entry.strip())
    return {entry.partition("{")[2].partition(",")[0]: entry for entry in entries}


def reasons(
    facts: Facts, metrics: tuple[str, ...] = (), sequences: Iterable[Sequence] = (), tokeniser: str = ""
) -> list[tuple[str, str]]:
    """(what was used, the key of its source), each key once, in the order of the recipe; ``tokeniser`` is the kind of
    a text run's."""
    first: dict[str, str] = {}
    used = _used_tokens(facts, metrics, tokeniser) if facts.recipe.process.discrete else _used(facts, metrics)
    for what, keys in (*used, *_sequences(sequences)):
        for key in keys:
            first.setdefault(key, what)
    return [(what, key) for key, what in first.items()]


def citations(run: Run) -> list[str]:
    """BibTeX entries of what this run used and of what it was measured with."""
    texts = references()
    return [texts[key].replace("VERSION", kuosan.__version__) for _, key in reasons_of(run)]


def compared(methods: Iterable[str]) -> list[str]:
    """BibTeX entries of what a comparison of these methods used, beside what its diffusion runs did."""
    texts = references()
    return [texts[key] for key in dict.fromkeys(key for method in methods for key in _RIVALS[method])]


def reasons_of(run: Run) -> list[tuple[str, str]]:
    """`reasons` of all that stands in a run's folder."""
    words = run.modality.tokeniser.kind if run.facts.recipe.process.discrete else ""  # type: ignore[attr-defined]
    return reasons(run.facts, measured(run.path), kept(run), words)


def measured(path: Path) -> tuple[str, ...]:
    """The names of the metrics in a run's ``evaluation.json``; none where it was not evaluated."""
    try:
        tree = json.loads((path / "evaluation.json").read_text(encoding="utf-8"))
        return tuple(tree["metrics"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _used(facts: Facts, metrics: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    recipe, network = facts.recipe, facts.network
    yield from (*_ALWAYS, *_NUMBERS)
    yield f"schedule {recipe.schedule.kind}", _SCHEDULES.get(recipe.schedule.kind, ())
    if recipe.schedule.shift not in ("auto", 1.0):
        yield "shifted schedule", ("hoogeboom2023",)
    yield f"noise {recipe.noise.kind}", _NOISES.get(recipe.noise.kind, ())
    if facts.modality.get("modality") == "audio":
        yield "log-mel spectra", ("davis1980",)
        yield "phases of spectra", ("griffin1984", "perraudin2013")
        if facts.modality.get("vocoder"):
            yield "vocoder", ("siuzdak2024", "yamamoto2020")
        yield "round trips of sounds", ("gray1976", "leroux2019")
    if facts.codec:
        yield "diffusion of latents", ("rombach2022",)
        yield f"codec {facts.codec['kind']}", _CODECS[facts.codec["kind"]]
    yield from _MODALITIES.get(recipe.data.modality, ())
    yield f"network {network['kind']}", _NETWORKS.get(network["kind"], ())
    if network.get("dropout"):
        yield "dropout", ("srivastava2014",)
    yield f"output {recipe.objective.output}", _OUTPUTS.get(recipe.objective.output, ())
    if facts.items:  # a foreign pipeline was not trained here
        yield from _training(facts)
    yield from _sampling(recipe.sampling)
    yield from _measuring(facts, metrics)
    if facts.items and not recipe.distil.steps:
        yield from _REPORTED
    yield "PyTorch", ("paszke2019",)


def _used_tokens(facts: Facts, metrics: tuple[str, ...], tokeniser: str) -> Iterator[cite_texts.Use]:
    yield from _ALWAYS
    yield from cite_texts.used(facts, tokeniser)
    yield from _adapted(facts)
    yield from _sampling(facts.recipe.sampling)
    yield from cite_texts.sampled(facts)
    yield from _measuring(facts, metrics)
    yield from cite_texts.measured(metrics)
    yield "PyTorch", ("paszke2019",)


def _training(facts: Facts) -> Iterator[tuple[str, tuple[str, ...]]]:
    objective = facts.recipe.objective
    yield from _adapted(facts)
    if facts.recipe.distil.steps:
        yield "student of few steps", ("luhman2021", "song2023")
        if facts.recipe.distil.w != 1:
            yield "guidance of the teacher", ("ho2022", "meng2023")
        yield "optimiser", ("loshchilov2019",)
        yield "averaged weights", ("karras2024",)
        return
    if objective.kind == "elbo":
        yield "variational bound", ("kingma2021",)
    else:
        yield f"weight {objective.weight}", _WEIGHTS.get(objective.weight, ())
    if objective.velocity not in ("auto", 0):
        yield "errors of velocity", ("tevet2023",)
    if objective.feet not in ("auto", 0):
        yield "errors of feet", ("tevet2023",)
    yield f"times {objective.timing}", _TIMINGS.get(objective.timing, ())
    training = facts.recipe.training
    yield f"coupling {training.coupling}", _COUPLINGS.get(training.coupling, ())
    if training.crops not in ("auto", 0):
        yield "crops", ("wang2023patch",)
    if training.route not in ("auto", 0):
        yield "routed tokens", ("krause2025", "park2025")
    data = facts.recipe.data
    if data.enlarge:
        yield "small pictures beside large ones", ("saharia2023", "ho2022cascaded", "wang2023ddnm")
    elif data.volume == "patches":
        yield "places of patches", ("wang2023patch",)
    elif network_beside := facts.network.get("beside"):
        yield f"maps of {network_beside} classes", ("park2019spade",)
    if data.aspect == "buckets":
        yield "shapes of pictures", ("podell2023", "esser2024")
    if training.given not in ("auto", 0):
        yield "given parts", ("voleti2022", "saharia2022", "tashiro2021")
    yield "optimiser", ("loshchilov2019",)
    if training.optimizer == "muon":
        yield "optimiser muon", ("jordan2024",)
    yield "averaged weights", ("karras2024",)
    if facts.recipe.training.shard == "full":
        yield "state shared out among processes", ("zhao2023fsdp",)
    if facts.recipe.training.ema == "auto":
        yield "guide that is kept", ("karras2024guiding",)
    if facts.recipe.training.augment not in ("auto", "none"):
        yield "augmentations that do not leak", ("karras2020", "karras2022")
    if facts.network.get("captions"):
        yield "attention to captions", ("rombach2022", "vaswani2017")
    if facts.null and facts.recipe.training.drop > 0:
        yield "hidden conditions", ("ho2022",)


def _adapted(facts: Facts) -> Iterator[tuple[str, tuple[str, ...]]]:
    if facts.recipe.adapter.rank:
        yield "low-rank adapters", ("hu2022", "mangrulkar2022")
    if facts.recipe.adapter.rank and facts.recipe.adapter.prior:
        yield "samples of the old model", ("ruiz2023",)


def _sampling(sampling: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield f"solver {sampling.solver}", next((k for n, k in _SOLVERS if sampling.solver.startswith(n)), ())
    yield f"grid {sampling.grid}", _GRIDS.get(sampling.grid.partition(":")[0], ())
    if sampling.w != 1:
        yield "guidance", ("ho2022",)


def _sequences(found: Iterable[Sequence]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for sequence in found:
        steps = f"{sequence.steps} steps"
        if sequence.solver == LEARNED:
            yield f"learned sequence of {steps}", _LEARNED
        else:
            yield f"solver of {steps}", next((k for n, k in _SOLVERS if sequence.solver.startswith(n)), ())
        yield f"grid of {steps}", next((k for n, k in _GRIDS.items() if sequence.grid.startswith(n)), ())


def _measuring(facts: Facts, metrics: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name in metrics:
        parts = set(name.split("_"))
        for words, keys in _METRICS:
            if words <= parts:
                yield f"metric {name}", keys
    if any(name.endswith("_encoder") for name in metrics) and not facts.columns:
        yield "feature space", ("chen2020",)
    if metrics:
        yield "standard errors", ("efron1981",)
