"""Pictures that move in a terminal, and how many of them there were a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from kuosan.cli.answer import Answer
from kuosan.cli.notes import note
from kuosan.cli.words import shown
from kuosan.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from kuosan.recipes.run import Run

WIDEST = 64  # characters
UPPER_HALF = "▀"  # its own colour above, the background's below: two pixels in one character


def half_blocks(picture: Image.Image, widest: int = WIDEST) -> list[str]:
    """A picture as lines of text in 24-bit colours, two rows of pixels in each line."""
    image = picture.convert("RGB")
    if image.width > widest:
        image = image.resize((widest, max(1, round(image.height * widest / image.width))))
    width, height = image.size
    pixels: Any = image.load()
    lines = []
    for y in range(0, height, 2):
        cells = []
        for x in range(width):
            above, below = pixels[x, y], pixels[x, y + 1] if y + 1 < height else (0, 0, 0)
            cells.append("\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m{}".format(*above, *below, UPPER_HALF))
        lines.append("".join(cells) + "\x1b[0m")
    return lines


def draw(lines: list[str], out: TextIO, again: bool) -> None:
    """Lines where the last frame's were."""
    up = f"\x1b[{len(lines)}A" if again else ""
    with suppress(BrokenPipeError, ValueError):
        out.write(up + "\n".join(lines) + "\n")
        out.flush()


def live(run: Run, seconds: float, seed: int, where: dict[str, str], steps: int | None) -> Answer:
    """Frames along great circles between noises, as fast as they come, drawn where somebody watches; the measured
    rate."""
    import torch

    from kuosan.evaluation.report_words import steps_in_words
    from kuosan.recipes.live import wander

    if not 0 < seconds < float("inf"):
        raise UserError(f"--seconds {seconds:g} is no time to watch: give a number above 0")
    frames = wander(run, seed, where=where, steps=steps)
    next(frames)  # which loads the weights and prepares the coefficients
    watched, count, stopped = sys.stderr.isatty(), 0, False
    started = time.monotonic()
    try:
        for x in _until(frames, started + seconds):
            count += 1
            raws = run.modality.of_samples.decode(x)
            if watched:
                draw(half_blocks(run.modality.show(raws, 1, 1)), sys.stderr, count > 1)
    except KeyboardInterrupt:
        stopped = True
    took = time.monotonic() - started
    taken, threads = steps or run.facts.recipe.sampling.steps, torch.get_num_threads()
    device = next(run.model.parameters()).device.type
    text = (
        f"{count:,} frames in {took:.1f} s: {count / took:.1f} frames per second, each sampled in "
        f"{steps_in_words(taken)} on {threads} thread{'s' if threads > 1 else ''} ({device})"
        f"{', drawing included' if watched else ''}: {shown(run.path)}"
    )
    if stopped:
        note("")
    return Answer(
        text,
        {
            "run": run.path, "frames": count, "seconds": round(took, 3), "frames_per_second": count / took,
            "steps": taken, "threads": threads, "device": device, "drawn": watched, "seed": seed, "where": where,
        },
    )  # fmt: skip


def _until(frames: Iterator[Any], end: float) -> Iterator[Any]:
    for x in frames:
        yield x
        if time.monotonic() >= end:
            return
