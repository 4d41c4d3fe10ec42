"""`kuosan sample RUN`: files in the modality's own format, the states, and one overview picture."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from kuosan.cli.answer import Answer
from kuosan.cli.failures import working_in
from kuosan.cli.notes import busy, counting, note
from kuosan.cli.options import Flag, Json, Where, at_least, conditions
from kuosan.cli.options import seed as checked_seed
from kuosan.cli.sample_captions import in_columns, told_of, with_captions
from kuosan.cli.sample_motion import corrected
from kuosan.cli.sample_music import formats_of, music_rules, other_formats, tokens
from kuosan.cli.sample_numbers import about_parts, no_parts, steered
from kuosan.cli.sample_plans import about_wishes, no_plans, plan_rules
from kuosan.cli.sample_shapes import about_empty, constrained, voxel_rules
from kuosan.cli.sample_texts import text_of, text_rules
from kuosan.cli.words import shown
from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.recipes.inverse import Noise
    from kuosan.recipes.run import Run, Samples

STATES, OVERVIEW = "samples.safetensors", "overview.png"


def sample(
    run: Path,
    /,
    *,
    n: Annotated[int | None, Parameter(name="-n")] = None,
    steps: int | None = None,
    solver: str = "auto",
    grid: str = "auto",
    seed: int = 0,
    noise: Path | None = None,
    where: Where = None,
    captions: Path | None = None,
    w: Annotated[float | None, Parameter(name="--w")] = None,
    autoguide: float | None = None,
    ema: float | None = None,
    temperature: float | None = None,
    nucleus: float | None = None,
    faults: str | None = None,
    exact: Flag = False,
    first: int = 0,
    stream: Flag = False,
    template: str | None = None,
    prefix: str | None = None,
    suffix: str | None = None,
    regex: str | None = None,
    schema: Path | None = None,
    require: list[str] | None = None,
    forbid: list[str] | None = None,
    ignore_case: Flag = False,
    length: str | None = None,
    given: Path | None = None,
    voices: str | None = None,
    bars: str | None = None,
    keep: list[str] | None = None,
    mask: Path | None = None,
    vary: Path | None = None,
    strength: float | None = None,
    size: str | None = None,
    stitch: Literal["auto", "blend", "continue"] = "auto",
    enlarge: Path | None = None,
    factor: int | None = None,
    loose: Flag = False,
    map: Path | None = None,
    boxes: str | None = None,
    pitches: list[str] | None = None,
    rooms: str | None = None,
    graph: str | None = None,
    area: float | None = None,
    outline: Path | None = None,
    formats: Annotated[str | None, Parameter(name="--format")] = None,
    soundfont: Path | None = None,
    foot_lock: Annotated[bool | None, Parameter(negative="--no-foot-lock")] = None,
    joint_limits: Flag = False,
    symmetric: str | None = None,
    flat_base: Flag = False,
    one_piece: Flag = False,
    adapter: list[str] | None = None,
    out: Path | None = None,
    json: Json = False,
) -> Answer:
    """Draw samples; the same seed gives the same samples, however many are drawn at once.

    With --noise from `kuosan encode`, and no --steps, --solver or --grid, the encoded items come back.

    Args:
        run: the folder that `kuosan train` wrote to, or a diffusers pipeline's.
        n: how many; 64, or all that --noise holds.
        steps: steps per sample, each a call of the network (two with heun); 10 unless the run says otherwise.
        solver: ddim, heun, unipc3, dpm++2m, ancestral, …; auto is the run's own.
        grid: uniform, logsnr, karras, karras:POWER, karras:POWER:END, entropy, entropy:POWER; auto is the run's own.
        seed: of the samples; a whole number.
        noise: start from the noise in this file, as `kuosan encode` writes it, and under its conditions.
        captions: a text file with a caption in each line, which take turns; -n is then their count unless given.
        w: guidance weight towards the conditions; 1 is no guidance.
        autoguide: guidance weight away from an early state of the model, with conditions or without; 1 is no guidance.
        ema: relative length of the average that the weights are taken from, instead of the one that was chosen.
        temperature: of texts and music: below 1 samples are more typical and less varied; 1 is the model's own law.
        nucleus: of texts and music: only the likeliest values that together have this probability are drawn.
        faults: of music in voices: faults of voice leading per bar that are not written anew; "any", or a number from
            0; as many as in training unless given.
        exact: the same bits whatever the number of samples, not just the same within 1e-5.
        first: number of the first sample: -n 64 and then -n 64 --first 64 are the same as -n 128.
        stream: write each sample as soon as it is ready, and a line with its file on stdout.
        template: of texts: what stands, with gaps of so many characters: "Dear [[gap:5-12]], [[gap]]"; or @FILE.
        prefix: what texts begin with.
        suffix: what texts end with.
        regex: a regular expression that every text matches from its beginning to its end.
        schema: file of a JSON schema that every text satisfies.
        require: a word that every text contains; may be repeated.
        forbid: a word that no text contains; may be repeated.
        ignore_case: of those words.
        length: of texts: how many tokens at most, where that is more than the model's window; of music 16bars; of
            what has a time 4s or 120frames.
        given: a file, or a folder of them, of which parts stay and the rest is made: those of --keep or --mask; of
            music a score (MIDI, MusicXML, ABC) of which --voices or --bars stay, or to be written on.
        voices: which voices of it stay: names or numbers from 0, with commas: 0 or Soprano,Bass.
        bars: which bars of it stay in all voices: 1-4 or 1-4,9.
        keep: what stays of --given: height:0-50%, time:0-0.5s, time:first, box:0-13,5-20; may be repeated.
        mask: a picture that says it: black stays, white is made anew.
        vary: a file, or a folder of them, to make variations of.
        strength: how far those go: 0 is the item, 1 an ordinary sample; 0.5 unless given.
        size: of pictures: height and width, 96x160, larger than the model was trained on; of volumes 33x128x128.
        stitch: how what is larger is made of windows: blended, or each continuing the one before.
        enlarge: a picture, or a folder of them, to make larger: averaged back, the result is that picture exactly.
        factor: how many times; 4, or what the model was trained for.
        loose: only by a model that was trained for it: the averages may differ.
        map: of models of pictures with maps: a map of what is to be where, a picture or boxes in XML.
        boxes: the same in words: "rbc:10,10,30,30;wbc:0,0,5,5", left, top, right and bottom in pixels.
        pitches: of music: lowest and highest MIDI number that is written, 48-72, or Soprano=60-79; may be repeated.
        rooms: of plans: how many of each use: bedroom=2,kitchen=1,bathroom=1.
        graph: of plans: rooms that doors join, kitchen-living_room,bedroom1-corridor, or a file of JSON or GraphML.
        area: of plans: square metres of all rooms together.
        outline: of plans: a GeoJSON, DXF or SVG file with the outline that is filled.
        format: files to write beside the usual ones, with commas: of music mid, musicxml, mxl, wav, png; of sounds wav,
            flac, png; of clips mp4, webp, gif, apng, frames; of motions bvh, glb, gif, mp4, png; of shapes glb, stl,
            obj, ply, off, vox, npz; of medical images dcm, nii.gz, nii, png; of plans svg, dxf, geojson, png.
        soundfont: a .sf2 or .sf3 file that the WAV files of --format wav sound like.
        foot_lock: of motions: feet that stand do not slide, or may; they do not unless parts of a motion are given or
            varied.
        joint_limits: of motions: joints bend no further than those of the data.
        symmetric: of shapes: x, y or xy: each is its own mirror image, left to right, front to back, or both.
        flat_base: of shapes: what is not flat below is cut, so that it stands.
        one_piece: of shapes: the largest part alone, without hollows, so that it prints in one piece.
        adapter: DIR or DIR:WEIGHT: what `kuosan finetune` made of this run, so much of it; may be repeated.
        out: folder for the files; a new one in the run unless given.
    """
    wishes = {
        "template": text_of(template), "prefix": prefix, "suffix": suffix, "regex": regex, "schema": schema,
        "require": tuple(require or ()), "forbid": tuple(forbid or ()), "ignore_case": ignore_case,
    }  # fmt: skip
    parts: dict[str, Any] = {
        "keep": tuple(keep or ()), "mask": mask, "vary": vary, "strength": strength, "size": size,
        "enlarge": enlarge, "factor": factor, "loose": loose or None, "map": map, "boxes": boxes,
    }  # fmt: skip
    score = {
        "given": given, "voices": tuple(v.strip() for v in (voices or "").split(",") if v.strip()), "bars": bars,
        "length": length, "pitches": tuple(pitches or ()),
    }  # fmt: skip
    plan = {"rooms": rooms, "graph": graph, "area": area, "outline": outline}
    at_least("-n", n)
    at_least("--first", first, 0)
    at_least("--steps", steps)
    at_least("--w", w, 0)
    at_least("--autoguide", autoguide, 0)
    checked_seed(seed)
    fixed = with_captions(conditions(where), captions)
    from kuosan.evaluation.report_words import steps_in_words
    from kuosan.recipes import bulk
    from kuosan.recipes.run import Run
    from kuosan.recipes.samples import write_samples
    from kuosan.training.parallel import join

    if not (world := join()).alone and stream:
        raise UserError(
            "--stream draws samples one by one, in one process: leave it away, or run without torchrun"
        )
    loaded = Run(run)
    if not loaded.foreign:
        working_in(run)
    if adapter:
        from kuosan.recipes.adapted import Adapted, weighted

        with busy("adding adapters"):
            loaded = Adapted(loaded, weighted(adapter))
    facts = loaded.facts
    texts = told_of(loaded, fixed)
    if loaded.modality.name != "plan":
        no_plans(run, plan)
    loaded = corrected(varied(loaded, ema, autoguide, temperature, nucleus, faults), foot_lock, joint_limits)
    loaded = constrained(loaded, symmetric, flat_base, one_piece)
    start = given_noise(loaded, noise, first, n, fixed, w)
    tokens_of = facts.recipe.process.discrete
    steering = None if tokens_of else steered(loaded, score, parts, stitch, noise, fixed)
    if n is None:
        several = steering.count if steering and steering.count else texts or 64
        n = several if start is None else len(start) - first
    kinds = formats_of(loaded, formats, soundfont)
    with placed(out, loaded) if world.leads else nullcontext(Path()) as folder:
        folder = Path(world.tell(str(folder)))
        options: dict[str, Any] = {
            "steps": steps, "solver": solver, "grid": grid, "seed": seed, "where": fixed, "w": w, "exact": exact,
        }  # fmt: skip
        if tokens_of:
            no_parts(loaded, parts)
        if loaded.modality.name == "plan":
            options["rules"] = plan_rules(loaded, plan, {**score, **wishes}, fixed)
        elif loaded.modality.name == "voxels":
            options["rules"] = voxel_rules(loaded, parts, {**score, **wishes})
        elif loaded.modality.name == "music":
            options["rules"] = music_rules(loaded, score, wishes, fixed)
        else:
            options["rules"] = text_rules(loaded, wishes, seed, fixed)
            options |= {"length": tokens(run, score)} if tokens_of else {"steering": steering}
        started = time.monotonic()
        if start is not None and start.steps and (steps, solver, grid) == (None, "auto", "auto"):
            if stream:
                raise UserError(
                    "--stream draws samples one by one, and encoded items come back together: leave --stream away, or "
                    "give --steps"
                )
            mine: Samples | None = None
            if world.leads:
                with busy(f"taking {n:,} noises back to data"):
                    mine = replace(loaded.decode(start[first : first + n]), first=first)
            told = {"steps": start.steps, "solver": "midpoint", "grid": "logsnr", "w": start.w}
        else:
            with world.first():
                told = chosen(loaded, steps, w, solver, grid)
            options["noise"] = start
            mine = streamed(loaded, n, first, options, folder) if stream else draw(loaded, n, first, options)
        seconds = time.monotonic() - started
        paths = bulk.files(mine, folder)
        if (samples := bulk.gathered(mine)) is None:
            return Answer("")
        write_samples(samples, folder, in_columns(samples, texts), paths)
        paths += other_formats(samples, folder, kinds, soundfont)
        kept = about_parts(steering, folder)
        about, numbers = about_wishes(options.get("rules"))
        missing, empty = about_empty(samples)
        data: dict[str, Any] = {
            "run": run, "out": folder, "n": n, "first": first, "seed": seed, **told, "noise": noise, "where": fixed,
            "exact": exact, "seconds": round(seconds, 3), "files": paths, "states": folder / STATES,
            "overview": folder / OVERVIEW, "conditions": values(loaded, samples.cond), "adapters": adapter or [],
            **kept.data, **numbers, **empty,
        }  # fmt: skip
        what = ", ".join(f"{k} = {v if isinstance(v, str) else '; '.join(v)}" for k, v in fixed.items())
        with_what = f" with {what}" if what else ""
        each = f"{steps_in_words(data['steps'])} each, {seconds:.1f} s"
        text = f"{n:,} samples{with_what} in {each}: {shown(folder)}\nAll at a glance: {shown(folder / OVERVIEW)}"
        text += kept.text + about + missing
    if stream:  # its lines are what stdout holds
        note(text)
    return Answer("" if stream else text, data)


def varied(
    run: Run, ema: float | None, autoguide: float | None, temperature: float | None, nucleus: float | None,
    faults: str | None,
) -> Run:  # fmt: skip
    """The run with another average, a guide, another temperature or other faults, where these are asked for."""
    run = run if ema is None else run.averaged(ema)
    run = run if autoguide is None else run.autoguided(autoguide)
    run = run if temperature is None and nucleus is None else run.heated(temperature, nucleus)
    return run if faults is None else run.revised(faults)


def chosen(run: Run, steps: int | None, w: float | None, solver: str, grid: str) -> dict[str, Any]:
    """The sampler that these choices mean, told where it has to be measured first."""
    from kuosan.recipes.sequences import missing

    if (solver, grid) != ("auto", "auto") or not missing(run, steps, w):
        return run.sampler(steps, w, solver, grid)
    count = run.facts.recipe.sampling.steps if steps is None else steps
    with busy(f"measuring which sampler suits this model in {count} steps, once"):
        return run.sampler(steps, w, solver, grid)


def given_noise(
    run: Run, path: Path | None, first: int, n: int | None, where: dict[str, str], w: float | None
) -> Noise | None:
    """The noise of --noise with the conditions and the guidance that were asked for; None without."""
    if path is None:
        return None
    from kuosan.recipes.inverse import fixed, read_noise

    found = read_noise(run, path)
    if first + (n or 1) > len(found):
        raise UserError(
            f"{path} holds noise for {len(found):,} samples, not for number {first + (n or 1) - 1:,}: "
            "give a smaller -n or --first"
        )
    return replace(found, cond=fixed(run, found.cond, len(found), where), w=found.w if w is None else w)


def values(run: Run, cond: Mapping[str, Any]) -> dict[str, list[str | None]]:
    """The conditions of samples in the data's own words; None where one is hidden."""
    from kuosan.recipes.samples import in_words

    return {k: in_words(v, run.facts.columns.get(k, ()), run.captions) for k, v in cond.items()}


def streamed(run: Run, n: int, first: int, options: dict[str, Any], folder: Path) -> Samples:
    """The same samples one by one, each written at once; the line that says so is for whoever reads along."""
    parts = []
    for one in run.stream(n, first=first, **options):
        path = run.modality.write(one.modality.decode(one.x)[0], folder / f"{one.first:05d}")
        with suppress(BrokenPipeError):
            print(shown(path), flush=True)
        parts.append(one)
    from kuosan.recipes.bulk import joined

    return joined(parts)


def draw(run: Run, n: int, first: int, options: dict[str, Any]) -> Samples | None:
    """Samples ``first`` to ``first + n - 1`` in pieces, told on the way: of several processes, this one's share."""
    from kuosan.recipes import bulk
    from kuosan.training import launch

    with counting("sampling", -(-n // launch.processes())) as tell:
        return bulk.share(run, n, first, lambda done, of: tell(done), **options)


def place(out: Path | None, run: Run, name: str = "generated") -> Path:
    """Where samples go, a new folder called ``name`` in the run unless told; proved to be writable before any work
    is done.

    Raises:
        UserError: it holds files that are no samples of ours, or it cannot be written.
    """
    if out is None:
        base = (
            Path(f"{run.path.resolve().name}-{'samples' if name == 'generated' else name}")
            if run.foreign
            else run.path / name
        )
        number, out = 1, base
        while out.exists():
            number += 1
            out = base.with_name(f"{base.name}-{number}")
    elif out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, and samples go into a folder: give another --out")
    elif out.exists() and any(out.iterdir()):
        if not (out / STATES).is_file():
            raise UserError(
                f"{out} holds files that are no samples of Kuosan's: give --out a new or an empty folder"
            )
        note(f"{shown(out)} holds earlier samples: those with the same numbers are replaced, others stay")
    writable(out, "--out")
    return out


@contextmanager
def placed(out: Path | None, run: Run) -> Iterator[Path]:
    """`place`, taken back where nothing comes of it: a wish that cannot be leaves no empty folder behind."""
    there = out is not None and out.exists()
    folder = place(out, run)
    try:
        yield folder
    except BaseException:
        if not there:
            with suppress(OSError):  # it holds samples already
                folder.rmdir()
        raise


def writable(folder: Path, flag: str) -> None:
    """Make a folder and prove that files can be written there; UserError where not."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".kuosan-"):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): give {flag} a folder that can"
        ) from error
