"""From a session to its answer: train with progress, finish, say how it went.

Shared by train, resume and demo.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuosan.cli.answer import Answer
from kuosan.cli.failures import Stopped, working_in
from kuosan.cli.notes import busy, counting, note
from kuosan.cli.progress import watch
from kuosan.cli.words import choices_json, choices_table, closing, shown, skipped_lines
from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.codecs import CodecProgress
    from kuosan.recipes.session import Session

SUMMARY, REPORT = "summary.json", "report.html"


def complete(session: Session) -> Answer:
    """Train to the end, measure, report; for a run that is finished already, what it came to.

    Raises:
        Stopped: a signal came; everything is saved.
        UserError: another process works in the folder, or what training raises.
    """
    from kuosan.recipes.opening import lock

    path = session.run.path
    working_in(path)
    handle = lock(path)
    try:
        before = finished(session) if session.world.leads else None
        if session.world.tell(bool(before)) and before is None:
            return Answer("")
        summary = before or _work(session)
    finally:
        os.close(handle)
    if not session.world.leads:
        return Answer("")
    text = closing(summary, session.facts)
    if before:
        text = f"{shown(path)} is finished already.\n{text}"
    data = {**summary, "already_finished": bool(before), "choices": choices_json(session.facts.choices)}
    return Answer(text, data)


def finished(session: Session) -> dict[str, Any] | None:
    """The summary of a run that needs nothing more; damaged weights are written anew from its checkpoint."""
    from kuosan.recipes.run import WEIGHTS
    from kuosan.training.checkpoint import load_weights

    path = session.run.path
    if not session.training.count.finished or not (path / REPORT).is_file():
        return None
    try:
        summary: dict[str, Any] = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    try:
        load_weights(path / WEIGHTS)
    except UserError as error:
        note(f"{error}; writing them anew from the checkpoint")
        session.write_weights("best")
    return {**summary, "run": str(path), "report": str(path / REPORT)}


def _work(session: Session) -> dict[str, Any]:
    from kuosan.recipes.finish import finish
    from kuosan.training.interrupt import Interrupted

    path, count, facts = session.run.path, session.training.count, session.facts
    _introduce(session)
    try:
        if session.coding and not session.coding.trained:
            note("First the codec, which makes latents of them:")
            for _ in watch(session.codec_steps(), session.facts.recipe.codec.batch, psnr):
                pass
        if session.coding:
            with busy(f"bringing {facts.items:,} items into latents"):
                session.encode()
        if session.lessons and not session.lessons.made:
            with counting("pairs from the teacher, % of what the budget gives them", 100) as told:
                session.learn(lambda pairs, progress: told(int(100 * progress)))
        if session.adapter and session.adapter.to_draw:
            with counting("samples of the old model, % of what the budget gives them", 100) as told:
                session.rehearse(lambda samples, progress: told(int(100 * progress)))
        for _ in watch(session.steps(), session.training.settings.batch):
            pass
    except Interrupted as error:
        step, what = session.training.count.step, ""
        if session.coding and not session.coding.trained:
            step, what = session.coding.steps, " of the codec"
        raise Stopped(
            error.signum, f"interrupted at step {step:,}{what}; everything is saved: {_go_on(path)}"
        ) from None
    except KeyboardInterrupt:
        raise Stopped(
            signal.SIGINT, f"interrupted at once; the last checkpoint is kept: {_go_on(path)}"
        ) from None
    if not session.world.leads:  # what follows is done by one
        return {}
    try:
        with busy("training is done; sampling, measuring and writing the report"):
            return finish(session)
    except KeyboardInterrupt:
        sentence = f"interrupted while measuring; all {count.step:,} steps are saved: {_go_on(path)}"
        raise Stopped(signal.SIGINT, sentence) from None


def psnr(event: CodecProgress) -> list[str]:
    """What a codec's training tells besides: how near its round trips are."""
    return [f"{event.psnr:.1f} dB"]


def _go_on(path: Path) -> str:
    return f"go on with `kuosan resume {shlex.quote(shown(path))}`"


def _introduce(session: Session) -> None:
    """What was found and chosen, or where a run goes on."""
    path, count, facts = shown(session.run.path), session.training.count, session.facts
    coding = session.coding
    if coding and coding.steps and not coding.trained:
        note(f"{path} was begun before: going on from step {coding.steps:,} of its codec.")
        return
    if session.resumed and count.step:
        state = "its training is done" if count.finished else f"going on from step {count.step:,}"
        note(f"{path} was begun before: {state}.")
        return
    for line in skipped_lines(session.data.survey.to_json()):
        note(line)
    note(choices_table(facts.choices))
    parameters = sum(p.numel() for p in session.training.denoiser.parameters())
    val = len(session.data.val)
    note(
        f"\n{path}: {parameters:,} parameters, {facts.items:,} items to train on, {val:,} held out, "
        f"budget {facts.recipe.budget}.\n"
    )
