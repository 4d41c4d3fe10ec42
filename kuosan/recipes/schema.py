"""The recipe: everything that a run was told, as plain data.

A recipe is a tree of leaves, each a number, a word or a list. ``auto`` leaves are decided by the modality's
recipe function from the data, the machine and the budget, with the reason. Saved resolved as ``recipe.yaml``,
it rebuilds the model without the data. Names in it pick from fixed lists; no class path is ever looked up.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, PositiveInt, ValidationError

from kuosan.errors import UserError
from kuosan.recipes.part import Auto, CaptionPart, CodecPart, Share
from kuosan.recipes.part import Part as _Part
from kuosan.recipes.schema_kinds import Aspect, Blur, Enlarge, Form, Jpeg, Map, Names, Scale, Vocoder

FORMAT = 1
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # by libyaml, where it is there: faster


class DataPart(_Part):
    """Which data, in which form."""

    path: str = ""
    modality: str = "auto"
    size: int | tuple[int, int] | tuple[int, int, int] | None = Field(
        None,
        description="side, or (depth,) height and width of items; of shapes most cells a side, or points",
    )
    max_side: int | Auto = Field("auto", description="longest side that pictures are brought to")
    enlarge: Enlarge = 0
    blur: Blur = 0.0
    jpeg: Jpeg = 0
    map: Map = "auto"
    aspect: Aspect = "auto"
    length: int | str = Field(
        "auto",
        description="tokens of a window of text, steps of one of music; of what has a time, also 2s or 48frames",
    )
    rate: float | Auto = Field("auto", description="samples or frames per second that all are brought to")
    tokeniser: str = Field(
        "auto", description="characters, bytes, bpe, unigram, or the path of a Hugging Face tokeniser"
    )
    vocabulary: int | Auto = Field(
        "auto", description="tokens of a tokeniser that is trained here; values of a voxel"
    )
    column: str | None = Field(None, description="the column of a table that holds the text")
    caption: str = Field(
        "auto", description="the columns that are a caption, joined by +, or none: free text as a condition"
    )
    document: Literal["file", "line", "paragraph"] = Field(
        "file", description="what a .txt file holds: one document, one in each line, or in each paragraph"
    )
    synonyms: str | None = Field(None, description="a table of synonyms to vary training texts with")
    synonym_rate: float = Field(0.1, ge=0, le=1, description="share of the words that have synonyms")
    paraphrase: float = Field(
        0.0, ge=0, le=1, description="share of training texts in the words of the model of --init"
    )

    names: Names = "auto"
    vocoder: Vocoder = "auto"
    form: Form = "auto"
    transpose: Annotated[int, Field(ge=0, le=24)] | Auto = Field(
        "auto", description="music: semitones that training is transposed by at most"
    )
    scale: Scale = "auto"
    up: Literal["auto", "x", "y", "z"] = Field(
        "auto", description="shapes: the axis that is up in their files"
    )
    mirror: Literal["auto", "none", "x", "y", "xy"] = Field(
        "auto", description="shapes and plans: axes along which training also sees them mirrored"
    )
    volume: Literal["auto", "slices", "volume", "patches"] = Field(
        "auto", description="medical: whether an item is a slice, a whole volume, or a part of one as it is"
    )
    spacing: float | None = Field(
        None,
        gt=0,
        description="medical: millimetres from value to value that all are brought to; as they are",
    )
    span: str | None = Field(
        None, description="medical: low..high, the values in units outside of which all is clipped"
    )
    moments: Literal["first", "all"] = Field(
        "first", description="medical: of several volumes in time in one file the first alone, or all"
    )

    @property
    def reading(self) -> dict[str, Any]:
        """What a text is in the files, which must be read again as it was."""
        return {"column": self.column, "document": self.document}


class ProcessPart(_Part):
    """How data are corrupted: numbers by noise that is added, see `NoisePart`, tokens as here."""

    kind: Literal["auto", "additive", "masked", "uniform", "blocks", "autoregressive"] = "auto"
    keep: str = Field("linear", description="survival curve of tokens: linear, cosine or poly:POWER")
    block: int = Field(16, ge=1, description="blocks: tokens of a block")

    @property
    def discrete(self) -> bool:
        """Whether states are tokens; runs from before there was a choice say ``auto``."""
        return self.kind not in ("auto", "additive")


class NetworkPart(_Part):
    """The network; leaves that are None are chosen."""

    kind: Literal[
        "auto",
        "transformer",
        "unet",
        "stock",
        "residual-unet",
        "tokens",
        "stock-lm",
        "voices",
        "lattice",
        "cells",
    ] = "auto"
    dropout: float | None = None
    patch: int | tuple[int, ...] | None = None
    dim: int | None = None
    depth: int | None = None
    heads: int | None = None
    base: int | None = None
    mults: tuple[int, ...] | None = None
    blocks: int | None = None
    attention: tuple[int, ...] | None = None
    detail: Annotated[int, Field(ge=0)] | None = None
    spectrum: Annotated[float, Field(ge=0, le=2)] | None = None


class SchedulePart(_Part):
    """The noise schedule."""

    kind: Literal["auto", "cosine", "rectified", "vp", "sigmoid", "edm", "learned", "tabulated"] = "auto"
    shift: float | Auto = "auto"
    alphas_cumprod: tuple[float, ...] | None = Field(None, description="of a tabulated schedule")


class NoisePart(_Part):
    """The law of the noise, see `kuosan.processes.noises`."""

    kind: Literal["auto", "gaussian", "uniform", "laplace", "generalised", "student", "binary"] = "auto"
    df: float = Field(5.0, ge=1, description="student: degrees of freedom; its tails fall like r^(-df)")
    shared: bool = Field(
        True,
        description="student: one scale for a whole picture, so that extremes come together, or one per element",
    )
    power: float = Field(1.5, ge=0.5, le=64, description="generalised: 1 is Laplace's law, 2 the Gaussian")

    @property
    def gaussian(self) -> bool:
        """Whether it is; what was saved before there was a choice is ``auto``."""
        return self.kind in ("auto", "gaussian")


class ObjectivePart(_Part):
    """What is learned, and how errors are weighed."""

    kind: Literal["denoising", "elbo"] = "denoising"
    output: Literal["auto", "x", "eps", "v", "velocity", "score", "edm"] = "auto"
    weight: Literal["auto", "output", "min_snr", "edm", "sigmoid", "uniform", "bound", "even"] = "auto"
    timing: Literal["auto", "uniform", "lognormal", "logitnormal", "logsnr", "entropy"] = "auto"
    sigma_data: float = 1.0
    variance: Literal["fixed", "learned"] = Field(
        "fixed", description="of the reverse steps; learned by a second half of the network's channels"
    )
    balance: float = Field(0.01, gt=0, description="weight of the learned variances' part of the loss")
    velocity: Annotated[float, Field(ge=0)] | Auto = Field(
        "auto",
        description="weight of errors of differences between neighbouring frames, beside those of frames",
    )
    feet: Annotated[float, Field(ge=0)] | Auto = Field(
        "auto",
        description="weight of errors of the velocities of a body's feet, in m/s, beside those of its numbers",
    )

    @property
    def usual_timing(self) -> Literal["uniform", "lognormal", "logsnr"]:
        """What ``auto`` is on a schedule that is not learned, and what ``entropy`` starts from."""
        if self.kind == "elbo":
            return "logsnr"
        return "lognormal" if self.output == "edm" else "uniform"


class TrainingPart(_Part):
    """The optimiser and its run; see `kuosan.training.settings.Settings`."""

    batch: int | Auto = "auto"
    lr: float | Auto = "auto"
    warmup: float = Field(0.02, ge=0, le=1)
    decay: float = Field(0.6, ge=0, le=1)
    weight_decay: float | Auto = "auto"
    clip: float = Field(1.0, gt=0)
    ema: Annotated[float, Field(gt=0, lt=0.28)] | Auto = "auto"
    drop: float = Field(0.1, ge=0, le=1)
    validations: int = Field(20, ge=1)
    patience: int = Field(6, ge=0)
    best: Literal["loss", "fd", "kd"] = Field("loss", description="what the best step is chosen by")
    save_seconds: float = Field(30.0, ge=0)
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    layout: Literal["auto", "contiguous", "channels_last"] = "auto"
    compile: bool | Auto = "auto"
    optimizer: Literal["auto", "adamw", "muon"] = "auto"
    micro: PositiveInt | Auto = Field("auto", description="items that a process works on at a time")
    shard: Literal["auto", "none", "full"] = Field("auto", description="of the state, over processes")
    augment: str = Field("auto", description="kinds of augmentation of pictures, joined by +")
    augment_p: float = Field(0.15, ge=0, le=1, description="probability of each")
    crops: Share | Auto = "auto"
    route: Share | Auto = "auto"
    given: Annotated[float, Field(ge=0, le=1)] | Auto = Field(
        "auto", description="share of the examples that have given parts"
    )
    coupling: Literal["auto", "independent", "nearest", "transport"] = "auto"


class SamplingPart(_Part):
    """How `kuosan sample` samples unless told otherwise."""

    steps: int = Field(10, ge=1)
    solver: str = "auto"
    grid: str = "auto"
    w: float = 1.0
    temperature: Annotated[float, Field(gt=0)] | Auto = Field(
        "auto", description="of tokens; below 1 more typical, less varied"
    )
    nucleus: float = Field(
        1.0, gt=0, le=1, description="of tokens: probability of the values that may be drawn"
    )
    faults: Annotated[float, Field(ge=0)] | Auto | Literal["any"] = Field(
        "auto", description="of voice leading, per bar of music; auto: as many as in training"
    )


class DistilPart(_Part):
    """Of a student: what it learns from its teacher, which is the run of ``init``; see `kuosan.adapt`."""

    steps: Literal[0, 1, 2, 4] = Field(0, description="that the student needs; 0: no student")
    w: float = Field(1.0, ge=0, description="guidance of the teacher, which the student then has without")
    times: tuple[float, ...] = Field((), description="falling, one for each step")
    share: float = Field(0.25, gt=0, lt=1)
    walk: int = Field(10, ge=1)


class AdapterPart(_Part):
    """Of a run that goes on from the one of init with low-rank adapters alone; see `kuosan.adapt.lora`."""

    rank: int | Auto = Field(0, description="of each adapter; 0: none, all weights are trained")
    alpha: float | Auto = Field("auto", description="an adapter counts alpha/rank times")
    targets: str = Field("auto", description="attention, blocks, all, or last names of layers with commas")
    whole: tuple[str, ...] | Auto = Field("auto", description="modules that are trained whole")
    base: str = Field("", description="digest of the weights that they are for")
    prior: float | Auto = Field("auto", description="share of samples of the old model in training")
    prior_weight: float = Field(1.0, ge=0, description="how often their losses count")


class Recipe(_Part):
    """All parts; ``format`` and below are facts of a resolved recipe."""

    seed: int = 0
    budget: str = "10m"
    init: str = ""
    track: Literal["", "wandb", "trackio"] = Field("", description="who is told besides TensorBoard")
    data: DataPart = DataPart()
    caption: CaptionPart = CaptionPart()
    process: ProcessPart = ProcessPart()
    codec: CodecPart = CodecPart()
    network: NetworkPart = NetworkPart()
    schedule: SchedulePart = SchedulePart()
    noise: NoisePart = NoisePart()
    objective: ObjectivePart = ObjectivePart()
    training: TrainingPart = TrainingPart()
    sampling: SamplingPart = SamplingPart()
    distil: DistilPart = DistilPart()
    adapter: AdapterPart = AdapterPart()

    def identity(self, apart: set[str]) -> dict[str, Any]:
        """What a checkpoint depends on: all leaves that differ from their defaults, but for those of the parts
        ``apart`` and for how a batch is divided. So a leaf that a later version adds changes nothing as long as nobody
        sets it."""
        exclude: dict[str, Any] = {**dict.fromkeys(apart, True), "training": {"micro", "shard"}}
        found = self.model_dump(mode="json", exclude=exclude, exclude_defaults=True)
        return {part: leaves for part, leaves in found.items() if leaves != {}}

    def updated(self, leaves: dict[str, Any]) -> Recipe:
        """A recipe with dotted leaves replaced, ``{"training.lr": 1e-3, "network": "unet"}``.

        A part's name alone sets its ``kind``.

        Raises:
            UserError: an unknown leaf, with its nearest neighbours, or a value that does not fit.
        """
        tree = self.model_dump()
        for name, value in leaves.items():
            part, _, leaf = name.partition(".")
            if part in tree and not leaf and isinstance(tree[part], dict) and "kind" in tree[part]:
                leaf = "kind"
            known = tree.get(part)
            if isinstance(known, dict) and leaf in known:
                known[leaf] = value
            elif part in tree and not leaf and not isinstance(known, dict):
                tree[part] = value
            else:
                raise UserError(_unknown(name, leaf_names(Recipe)))
        return parse(Recipe, tree)


def parse(model: type[Recipe], tree: Any) -> Recipe:
    """The recipe of a tree; UserError naming the first leaf that does not fit."""
    try:
        return model.model_validate(tree)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(
            str(p)
            for p in first["loc"]
            if not str(p).startswith(("literal", "tuple", "float", "int", "function", "constrained"))
        )
        if first["type"] == "extra_forbidden":
            raise UserError(_unknown(where, leaf_names(model))) from None
        allowed = [e["ctx"]["expected"] for e in e.errors() if e["type"] == "literal_error"]
        bounds = [
            e["msg"].lower().replace("input", "it")
            for e in e.errors()
            if {"gt", "ge", "lt", "le"} & {*e.get("ctx", ())}
        ]
        hint = f": choose {allowed[0]}" if allowed else f": {first['msg'].lower()}"
        hint += f", or a number: {bounds[0]}" if allowed and bounds else ""
        raise UserError(f"the leaf {where} of the recipe cannot be {first['input']!r}{hint}") from None


def leaf_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted leaves of a recipe."""
    out: list[str] = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            out += leaf_names(kind, f"{prefix}{name}.")
        else:
            out.append(prefix + name)
    return out


def _unknown(name: str, known: list[str]) -> str:
    last = name.rpartition(".")[2]
    near = difflib.get_close_matches(name, known, 3, 0.5)
    near += [
        k
        for k in known
        if k.rpartition(".")[2]
        in difflib.get_close_matches(last, [k.rpartition(".")[2] for k in known], 2, 0.6)
    ]
    listed = ", ".join(dict.fromkeys(near)) or ", ".join(known)
    return f"the recipe has no leaf {name!r}: did you mean {listed}?"


def read_value(text: str) -> Any:
    """A leaf's value as written on a command line: YAML's numbers, words and lists."""
    if not text:
        return text
    try:
        value = yaml.load(text, _YAML)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:
            return float(value)  # YAML 1.1 reads 1e-4 as a word
        except ValueError:
            return value
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """A recipe file; UserError where it is none."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _YAML)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        reason = (e.strerror if isinstance(e, OSError) else str(e).splitlines()[0]) or type(e).__name__
        raise UserError(f"the recipe {path} cannot be read ({reason}): give a YAML file of leaves") from e
    if not isinstance(tree, dict):
        raise UserError(
            f"the recipe {path} is not a mapping of leaves: write lines such as `training: {{lr: 1e-3}}`"
        )
    return tree


def fingerprint(tree: Any) -> str:
    """A short digest of plain data."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()[:16]
