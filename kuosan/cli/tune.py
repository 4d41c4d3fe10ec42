"""`kuosan tune RUN`: control sequences that bring few steps close to the model's own flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kuosan.cli.answer import Answer
from kuosan.cli.encode import of_tokens, opened, opened_tokens
from kuosan.cli.notes import Lines, console, note, on_terminal, table
from kuosan.cli.options import Flag, Json, at_least
from kuosan.cli.options import seed as checked_seed
from kuosan.cli.words import shown
from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.recipes.tune import Learned
    from kuosan.solvers.sequence import Sequence


STEPS, STEPS_OF_TEXTS = "4,6,8,10", (4, 8, 16, 32)


def tune(
    run: Path,
    /,
    *,
    steps: str | None = None,
    w: Annotated[float | None, Parameter(name="--w")] = None,
    guidance: Flag = False,
    churn: Flag = False,
    pairs: int | None = None,
    budget: str = "2m",
    seed: int = 0,
    out: Path | None = None,
    json: Json = False,
) -> Answer:
    """Learn where and how to call the network, for each number of steps; `kuosan sample` uses it from then on.

    Whatever is learned stands behind a guard: on held-out noises the closest to the model's own flow is kept, be it a
    stock sampler. Of texts it is how many tokens each step writes that is learned, from --steps and --budget alone, and
    on held-out passages the schedule that costs the least is kept.

    Args:
        run: the folder that `kuosan train` wrote to, or a diffusers pipeline's.
        steps: numbers of steps, each of one call of the network: 4,6,8,10 unless given, of texts 4,8,16,32.
        w: guidance weight that samples will be drawn with; the run's own unless given.
        guidance: learn a guidance weight for every call, around --w.
        churn: learn the churn of `--solver sde-dpm++2m` too, by the distance of its samples from the run's data.
        pairs: of noise and end of the flow to fit to; 512 unless given.
        budget: time for each number of steps, about; less is learned where it is short.
        seed: of the fitting.
        out: folder for the sequences instead of the run's own grids/.
    """
    at_least("--w", w, 0)
    checked_seed(seed)
    counts = _counts(steps) if steps is not None else None
    from kuosan.training.budget import Budget

    time = Budget.parse(budget).seconds
    if time is None:
        raise UserError(f"--budget {budget} is not a time: give for example 2m")
    if of_tokens(run):
        given = {"--w": w is not None, "--guidance": guidance, "--churn": churn, "--pairs": pairs is not None}
        return _texts(run, counts, [flag for flag, is_given in given.items() if is_given], time, seed, out)
    from kuosan.recipes.report_tune import SHARED
    from kuosan.recipes.tune import PAIRS
    from kuosan.recipes.tune import tune as learn

    loaded = opened(run)
    if loaded.foreign and out is None:
        out = Path(f"{run.resolve().name}-grids")
    with _progress() as tell:
        found, churned = learn(
            loaded,
            counts or _counts(STEPS),
            w=w,
            guidance=guidance,
            churn=churn,
            pairs=PAIRS if pairs is None else pairs,
            seconds=time,
            seed=seed,
            out=out,
            tell=tell,
        )
    head = (
        f"Mean distance from the flow on {found[0].tuned.n:,} held-out noises (the flow itself is known to "
    )
    head += f"{found[0].tuned.floor:.2g}):"
    rows = [_row(f) for f in found]
    heads = ("steps", "kept", "distance", "best stock sampler", "its distance", "as close at", "pays after")
    use = "grid" if out is not None else "steps"
    path, last = found[-1].path, found[-1].sequence.steps
    option = f"--grid {path}" if use == "grid" else f"--steps {last}"
    weight = f" --w {w:g}" if w is not None and use == "steps" else ""
    shared = [f"{SHARED[0].upper()}{SHARED[1:]}."] if any(f.sequence.far for f in found) else []
    text = "\n".join([head, "", table(rows, heads), "", *shared, f"Kept in {shown(path.parent)}.",
                      f"Use: kuosan sample {run} {option}{weight}"])  # fmt: skip
    text += "".join(_churn_line(sequence) for sequence in (c.sequence for c in churned))
    data = {
        "run": run,
        "churn": [
            {"steps": c.sequence.steps, "file": c.path, "grid": c.sequence.grid, "eta": c.sequence.eta,
             **c.sequence.about} for c in churned
        ],
        "sequences": [
            {"steps": f.sequence.steps, "file": f.path, "solver": f.sequence.solver, "grid": f.sequence.grid,
             "far": f.sequence.far, "guidance": f.sequence.guidance, **f.sequence.about} for f in found
        ],
    }  # fmt: skip
    return Answer(text, data)


def _texts(
    run: Path, steps: list[int] | None, odd: list[str], seconds: float, seed: int, out: Path | None
) -> Answer:
    """The same for texts: the unmasking schedule."""
    from kuosan.recipes.report_unmasking import NAMES, plus_minus
    from kuosan.recipes.tune_texts import check, tune_texts

    if odd:
        raise UserError(
            f"{odd[0]} is for states of numbers, and {run} is a model of texts, whose schedule is fitted to held-out "
            "passages: leave it away"
        )
    loaded = opened_tokens(run)
    length = loaded.latent_shape[0]
    chosen = [k for k in STEPS_OF_TEXTS if k < length] or [2] if steps is None else steps
    check(loaded, chosen)
    with _progress() as tell:
        found = tune_texts(loaded, chosen, seconds=seconds * len(chosen), seed=seed, out=out, tell=tell)
    head = (
        f"Bits per token on {found.n:,} held-out passages (fitted to {found.fitted:,} others), and how many more the "
        "others take, passage by passage:"
    )
    rows = [
        (
            str(one.steps),
            NAMES[one.kept],
            plus_minus(one.bits["optimal"]),
            *(plus_minus(m) for m in one.saving.values()),
        )
        for one in found.judged
    ]
    heads = ("steps", "kept", "fitted", *(f"{NAMES[name]}: more" for name in found.judged[0].saving))
    last = found.judged[-1].steps
    option = f"--steps {last}" if out is None else f"--grid {found.path} --steps {last}"
    text = "\n".join(
        [
            head,
            "",
            table(rows, heads),
            "",
            f"Kept in {shown(found.path)}.",
            f"Use: kuosan sample {run} {option}",
        ]
    )
    data = {
        "run": run, "file": found.path, "fitted": found.fitted, "n": found.n, "unit": "bits per token",
        "seconds": round(found.seconds, 2), "schedules": [one.to_json() for one in found.judged],
    }  # fmt: skip
    return Answer(text, data)


def _churn_line(sequence: Sequence) -> str:
    energy = sequence.about["energy"]
    kept = sequence.about["kept"]
    best, none = energy[kept], energy["η = 0"]
    curve = ", ".join(f"{eta:.2f}" for eta in sequence.eta)
    return (
        f"\nChurn of {sequence.steps} steps: {kept} ({curve}); energy distance {best['value']:.4f} ± "
        f"{best['stderr']:.4f}, without churn {none['value']:.4f} ± {none['stderr']:.4f}. "
        f"Use: --solver {sequence.solver} --steps {sequence.steps}"
    )


def _counts(text: str) -> list[int]:
    try:
        return [int(part) for part in text.replace(" ", "").split(",") if part]
    except ValueError:
        raise UserError(f"--steps {text} is not a list of numbers: write --steps 4,6,8") from None


def _row(f: Learned) -> tuple[str, ...]:
    t = f.tuned
    as_close = f"{t.same} calls" if t.same else f"more than {4 * t.k}"
    learned = t.best.candidate.kind != "stock"
    return (
        str(t.k),
        t.best.candidate.kind,
        f"{t.best.value:.4f} ± {t.best.stderr:.4f}",
        str(t.stock.candidate),
        f"{t.stock.value:.4f} ± {t.stock.stderr:.4f}",
        as_close if learned else "–",
        f"{t.break_even:,.0f} samples" if t.break_even else "–",
    )


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on a terminal, a line now and then elsewhere."""
    if on_terminal():
        with console().status("…") as status:
            yield lambda what, done: status.update(f"{what}, {100 * done:.0f} %")
        return
    lines, said = Lines(at_start=False), ""

    def tell(what: str, done: float) -> None:
        nonlocal said
        if lines.due(done) and (line := f"{what}, {100 * done:.0f} %") != said:
            said = line
            note(line)

    yield tell
