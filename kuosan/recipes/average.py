"""The average that a run ends with: its length, chosen on the held-out loss once training is over.

Training keeps averages of two lengths (`training.averages`), and all others are made of them after the fact. Each
length of `LENGTHS` that time allows is asked the held-out loss, on the same items, times and noise; the least one is
written to ``model.safetensors``, and the curve kept beside it. An early average is left as the guide of autoguidance
(`guidance.autoguided`).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kuosan.recipes.kept import read_kept
from kuosan.training import checkpoint
from kuosan.training.averages import FOLDER, TRACKED, Basis, Kept, step_of
from kuosan.training.loop import Training
from kuosan.training.validation import difference

if TYPE_CHECKING:
    from kuosan.recipes.session import Session

AVERAGES, GUIDE = "averages.json", "guide.safetensors"
LENGTHS = (0.10, 0.05, 0.15, 0.07, 0.20, 0.03, 0.25, 0.02)  # in the order in which they are asked
SHARE = 0.1  # of the time that a budget has left
EARLY = 1 / 8  # of the steps: where the guide is from


@dataclass(frozen=True)
class Tried:
    """A length, its held-out loss with standard error and count, and how much more that is than the least one's, a
    difference item by item with an error of its own."""

    length: float
    loss: float
    stderr: float
    n: int
    more: float
    more_stderr: float


def choose(session: Session, seconds: float | None) -> None:
    """Ask the held-out loss of every length, within so many seconds, and keep what was found as ``averages.json``;
    nothing where the length was given, or nothing is held out."""
    training, path = session.training, session.run.path
    if not (training.averages.several and checkpoint.exists(training.folder / "best")):
        return
    started, basis = time.monotonic(), basis_at(training.folder / "best", training.averages.stds)
    # Of weights that are shared out this process has a part alone.
    denoiser = copy.deepcopy(session.run.model if training.sharded else training.average)
    found = {}
    for length in LENGTHS:
        before = time.monotonic()
        denoiser.load_state_dict(basis.combined(length))
        found[length] = training.judge(denoiser)
        now = time.monotonic()
        if seconds is not None and 2 * now - before - started > seconds:  # the next would be too late
            break
    best = min(found, key=lambda length: found[length].loss)
    tried = [
        Tried(length, v.loss, v.stderr, v.n, *difference(v.each, found[best].each))
        for length, v in sorted(found.items())
    ]
    about = {
        "chosen": best,
        "step": basis.step,
        "kept": len(basis.names),
        "tried": [asdict(t) for t in tried],
    }
    checkpoint.write_json(path / AVERAGES, about)
    keep_guide(session, basis, path / GUIDE)


def keep_guide(session: Session, basis: Basis, path: Path) -> None:
    """The average of the kept step nearest to `EARLY` of the steps, as weights of their own."""
    if basis.names:
        name = min(basis.names, key=lambda n: abs(step_of(n) - EARLY * basis.step))
        parts = basis.kept.read(name)
        profile = next(p for p in parts if p.std == TRACKED[0])
        checkpoint.save_weights(
            path,
            session.merged({**next(iter(basis.own.values())), **parts[profile]}),
            {"step": profile.step, "average": profile.std},
        )


def basis_at(place: Path, stds: tuple[float, ...]) -> Basis:
    """What the averages at a checkpoint are made of."""
    return Basis.of(Kept(place.parent / FOLDER), place, stds)


def chosen(path: Path) -> dict[str, Any] | None:
    """What `choose` found for the run in this folder; None where it chose nothing.

    Raises:
        UserError: the file is damaged.
    """

    def of(tree: Any) -> dict[str, Any]:
        tried = [Tried(**t) for t in tree["tried"]]
        return {"chosen": float(tree["chosen"]), "step": int(tree["step"]), "tried": tried}

    return read_kept(path / AVERAGES, "average that was chosen", of)


def best_weights(training: Training, path: Path) -> Mapping[str, Tensor]:
    """The averaged weights of the best step: of the length that was chosen, or, before that, that training looks at."""
    basis, found = basis_at(training.folder / "best", training.averages.stds), chosen(path)
    if found and found["step"] == basis.step:
        return basis.combined(found["chosen"])
    return next(iter(basis.own.values()))
