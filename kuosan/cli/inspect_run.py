"""A run, as `kuosan inspect` tells it: what it was told, how far it is, how good it is, what is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuosan.cli.answer import Answer
from kuosan.cli.notes import table
from kuosan.cli.words import choices_json, choices_table, metric_table, noun
from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.recipes.run import Run

MOST_VALUES = 30  # of a condition, in the text
SHAPE = (
    "channels",
    "sides",
    "conditions",
    "size",
    "length",
    "config",
    "given",
    "beside",
    "free",
    "gains",
    "shaped",
)  # of a network; told elsewhere


def inspect_run(run: Run) -> Answer:
    """Facts, progress, measurements; damaged files are named, and nothing is changed."""
    facts, recipe = run.facts, run.facts.recipe
    state, problems = _progress(run)
    problems += _weights(run)
    evaluation, summary = _read(run.path / "evaluation.json"), _read(run.path / "summary.json")
    lines = [table([*_facts(run), *_state(run, state)], (str(run.path), "")), ""]
    if evaluation and evaluation.get("metrics"):
        count = evaluation.get("about", {}).get("samples", 0)
        lines += [f"Measured on {count:,} samples:"]
        lines += [metric_table(evaluation["metrics"], noun(str(facts.modality["modality"]))), ""]
    if facts.choices:
        lines += [choices_table(facts.choices), ""]
    lines += [f"warning: {p}" for p in problems]
    data = {
        "kind": "diffusers" if run.foreign else "run",
        "run": run.path,
        "version": facts.version,
        "recipe": recipe.model_dump(mode="json"),
        "network": facts.network,
        "codec": facts.codec,
        "modality": facts.modality,
        "conditions": facts.columns,
        "captions": facts.network.get("captions"),
        "class_names": facts.class_names,
        "items": facts.items,
        "data_fingerprint": facts.data_fingerprint,
        "choices": choices_json(facts.choices),
        "asked": facts.asked,
        "progress": state,
        "metrics": evaluation.get("metrics") if evaluation else None,
        "summary": summary,
        "problems": problems,
    }
    return Answer("\n".join(lines).rstrip(), data)


def _facts(run: Run) -> list[tuple[str, Any]]:
    from kuosan.recipes.sequences import kept

    facts, recipe = run.facts, run.facts.recipe
    objective, sampling = recipe.objective, recipe.sampling
    network = ", ".join(f"{k} {v}" for k, v in facts.network.items() if k not in (*SHAPE, "captions"))
    learned = f"{objective.output}, weight {objective.weight}, times {objective.timing}"
    sampled = f"{sampling.steps} steps of {sampling.solver} on the {sampling.grid} grid, w = {sampling.w:g}"
    sequences = "; ".join(f"{s.steps} steps: {s.solver}, {s.grid}" for s in kept(run)) or "none yet"
    rows: list[tuple[str, Any]] = [
        ("kind", "a diffusers pipeline" if run.foreign else f"a run of Kuosan {facts.version}"),
        ("data", recipe.data.path or "–"),
        ("items to train on", f"{facts.items:,}"),
    ]
    if recipe.process.discrete:
        rows += _texts(run, network, sampled)
    else:
        rows += [
            ("state", "×".join(map(str, run.shape))),
            *_pictures(facts.modality),
            *_codec(run),
            ("network", network),
            ("schedule", recipe.schedule.kind),
            ("noise", recipe.noise.kind),
            ("objective", learned),
            ("sampling", sampled),
            ("given parts", _given(run)),
            ("control sequences", sequences),
        ]
    rows.append(("budget", recipe.budget))
    for column, values in facts.columns.items():
        more = f", and {len(values) - MOST_VALUES:,} more" if len(values) > MOST_VALUES else ""
        rows.append((f"--where {column}=", ", ".join(values[:MOST_VALUES]) + more))
    if (captions := run.captions) is not None:
        read = f"free text, of which {captions.length} tokens are read; trained on {captions.column}"
        rows.append(("--where caption=", read))
    return rows


def _pictures(form: dict[str, Any]) -> list[tuple[str, str]]:
    """What is particular to pictures of several shapes, or with something beside them."""
    rows, beside = [], form.get("beside")
    if shapes := form.get("shapes"):
        rows.append(("shapes", ", ".join(f"{height}×{width}" for height, width in shapes)))
    if beside and beside["kind"] == "enlarging":
        rows.append(("beside each", f"the same picture, {beside['factor']} times smaller"))
    elif beside:
        rows.append(("beside each", f"a map of {', '.join(beside['classes'])}"))
    return rows


def _given(run: Run) -> str:
    """Whether `kuosan sample --given` can be asked for, and how it is met."""
    recipe = run.facts.recipe
    if recipe.distil.steps:
        return f"not by a student: sample its teacher, {recipe.init}"
    if run.facts.network.get("given"):
        share = recipe.training.given
        return "told of them" + (
            f", in {share:.0%} of training" if isinstance(share, float) and share else ""
        )
    return (
        "by correction: its network was not trained with any"
        if recipe.noise.gaussian
        else "by replacement alone"
    )


def _texts(run: Run, network: str, sampled: str) -> list[tuple[str, Any]]:
    """What is particular to a run over tokens."""
    from kuosan.recipes.tokens import unmasking_in_words

    facts = run.facts
    part = facts.recipe.process
    process = f"{part.kind} of {part.block} tokens" if part.kind == "blocks" else part.kind
    if part.kind in ("masked", "uniform") and part.keep != "linear":
        process += f", survival {part.keep}"
    try:
        words = run.modality.tokeniser  # type: ignore[attr-defined]
        tokeniser = f"{words.kind}, {words.size:,} tokens{'' if words.exact else ', with loss'}"
        schedule = unmasking_in_words(run)
    except UserError as error:
        tokeniser = schedule = str(error)
    rows: list[tuple[str, Any]] = [
        ("state", f"up to {facts.network['length']:,} tokens of {facts.network['size']:,}"),
        ("process", process),
        ("notation" if run.modality.name != "text" else "tokeniser", tokeniser),
        ("network", network),
        ("objective", f"weight {facts.recipe.objective.weight}"),
        ("sampling", sampled),
    ]
    return [*rows, ("unmasking schedule", schedule)] if part.kind == "masked" else rows


def _codec(run: Run) -> list[tuple[str, Any]]:
    """What makes latents, and how far it is; nothing where the network works on states."""
    from kuosan.training import checkpoint

    facts = run.facts
    if facts.codec is None:
        return []
    part = facts.recipe.codec
    rows: list[tuple[str, Any]] = [
        ("latent", "×".join(map(str, run.latent_shape))),
        ("codec", f"{part.kind}, factor {part.factor}, {part.latent} channels"),
    ]
    folder = run.path / "checkpoints" / "codec"
    if not checkpoint.exists(folder):
        return [*rows, ("its progress", "not begun")]
    try:
        _, state = checkpoint.load(folder)
    except UserError as error:
        return [*rows, ("its progress", str(error))]
    if not state.get("finished"):
        return [*rows, ("its progress", f"{state['step']:,} steps in {state['seconds']:.0f} s, not finished")]
    trip = state["round_trip"]
    spread = f" ± {trip['psnr_stderr']:.2f}" if trip["n"] > 1 else ""
    told = f"{trip['psnr']:.2f}{spread} dB over {trip['n']} pictures"
    return [*rows, ("its round trip", told)]


def _state(run: Run, state: dict[str, Any] | None) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    if state:
        end = "finished" if state["finished"] else f"not finished: kuosan resume {run.path}"
        rows.append(("progress", f"{state['step']:,} steps in {state['seconds']:.0f} s, {end}"))
        if state["best_step"]:
            rows.append(("best held-out loss", f"{state['best_loss']:.4g} at step {state['best_step']:,}"))
    if (run.path / "report.html").is_file():
        rows.append(("report", run.path / "report.html"))
    return rows


def _progress(run: Run) -> tuple[dict[str, Any] | None, list[str]]:
    """The counters of the last checkpoint, and what is wrong with it."""
    from kuosan.training import checkpoint

    folder = run.path / "checkpoints" / "last"
    if run.foreign or not checkpoint.exists(folder):
        return None, []
    try:
        _, state = checkpoint.load(folder)
        return dict(state["counters"]), []
    except UserError as error:
        return None, [str(error)]


def _weights(run: Run) -> list[str]:
    """What is wrong with the weights; nothing where training has not written any yet."""
    from kuosan.recipes.run import CODEC, WEIGHTS
    from kuosan.training.checkpoint import load_weights

    problems = []
    for path in (run.path / WEIGHTS, run.path / CODEC):
        try:
            if not run.foreign and path.is_file():
                load_weights(path)
        except UserError as error:
            problems.append(str(error))
    return problems


def _read(path: Path) -> dict[str, Any] | None:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None
