"""The control sequences of a run: RUN/grids/steps-NNN.json, measured or learned for the weights beside them.

A run samples with the solver and the grid that come closest to its own flow: `kuosan tune` learns them; for a number
of steps that nobody has tuned, stock samplers are measured once, and the choice is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence as Several
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from kuosan.adapt.candidates import QUICK, STOCK, Candidate, best_stock
from kuosan.adapt.flow import Flow, time_of
from kuosan.adapt.rollout import Pairs, piece_of
from kuosan.adapt.tune import Measured, make_pairs, measure
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.recipes.run import WEIGHTS, Run
from kuosan.solvers.sequence import LEARNED, Sequence, read_sequence

SEED = 1997  # of the pairs: never a user's own samples
LONGEST = 40  # steps: beyond them every good sampler is on the flow
FEW, SOME = 12, 12  # pairs to choose by, and to measure the choice on
_PART = 2**20  # bytes at either end of the weights that tell them from others


def fingerprint(run: Run) -> str:
    """Changes with the weights: a sequence is for one model."""
    path = run.path / WEIGHTS
    if run.foreign:
        path = next(iter(sorted((run.path / "unet").glob("*.safetensors"))))
    with path.open("rb") as file:
        size = path.stat().st_size
        digest = hashlib.sha256(str(size).encode() + file.read(_PART))
        file.seek(max(0, size - _PART))
        digest.update(file.read())
    return digest.hexdigest()[:16]


def path_of(run: Run, steps: int, w: float, *, churn: bool = False) -> Path:
    """Where the sequence of so many steps under a guidance weight is kept; that with churn has a place of its own."""
    guided = "" if w == 1 else f"-w{w:g}"
    return run.path / "grids" / f"steps-{steps:03d}{guided}{'-churn' if churn else ''}.json"


def find(run: Run, steps: int, w: float, *, churn: bool = False) -> Sequence | None:
    """The run's own sequence, if it is for these weights.

    Raises:
        UserError: a damaged file.
    """
    path = path_of(run, steps, w, churn=churn)
    if not path.is_file():
        return None
    found = read_sequence(path)
    return found if found.steps == steps and found.model in ("", fingerprint(run)) else None


def kept(run: Run) -> list[Sequence]:
    """All that the run holds for these weights, by steps."""
    if not run.foreign and not (run.path / WEIGHTS).is_file():
        return []
    found = [read_sequence(path) for path in sorted((run.path / "grids").glob("steps-*.json"))]
    return [s for s in found if s.model in ("", fingerprint(run))]


def given(path: Path, steps: int | None) -> Sequence:
    """The sequence in a file that the user names.

    Raises:
        UserError: none there, or of another number of steps.
    """
    found = read_sequence(path)
    if steps is not None and steps != found.steps:
        raise UserError(f"{path} is for {found.steps} steps, not {steps}: leave --steps away")
    return found


def flow_of(run: Run, w: float | None) -> Flow:
    """The flow that the run samples along, with the guidance weight ``w``, or a weight of its own for every call. That
    of a network that says x goes as far as the run's own grid does: below, it follows the network's errors."""
    facts = run.facts
    last = 0.0
    if facts.recipe.objective.output == "x":
        schedule = run.denoiser.process.schedule
        times = run.grid(facts.recipe.sampling.steps, schedule=schedule)
        last = float((-schedule.log_snr(times[-2]) / 2).exp())
    return Flow(run.denoiser, facts.null, last) if w is None else Flow(run.guided(w), None, last)


def pairs_of(run: Run, flow: Flow, n: int, few: int, **options: Any) -> tuple[Pairs, float]:
    """``n`` pairs of the run's flow under conditions as often as in training, and their own error; see `make_pairs`,
    whose options these are."""
    device = next(run.denoiser.parameters()).device
    cond = run.conditions(SEED, range(n))
    seeds = Seeds.of(SEED, n).fold("tune")
    return make_pairs(flow, run.latent_shape, n, seeds, cond, few=few, device=device, **options)


def teacher_calls(steps: int) -> int:
    """Of the walk that ``steps`` calls are compared with, where it is not checked itself."""
    return max(48, 4 * steps)


def calls(steps: int) -> int:
    """About how many calls, of one example each, `measured` takes."""
    search = QUICK
    many = 51 * search.few + search.shortlist * (len(STOCK) * search.some + FEW + SOME)
    return (FEW + SOME) * (teacher_calls(steps) + 10) + many * steps


def piece_for(run: Run, flow: Flow, w: float | None = None) -> int:
    """How many examples a call may hold, see `piece_of`."""
    device = next(run.denoiser.parameters()).device
    z = torch.zeros(1, *run.latent_shape, device=device)
    cond = {k: v.to(device) for k, v in run.conditions(SEED, range(1)).items()}
    return piece_of(flow, Pairs(z, z, cond), w)


def measured(run: Run, steps: int, w: float = 1.0, *, keep: bool = True) -> Sequence:
    """The stock sampler of so many steps that comes closest to the flow; kept in the run, for the next time."""
    with torch.inference_mode(False), torch.no_grad():
        flow = flow_of(run, w)
        piece = piece_for(run, flow)
        pairs, floor = pairs_of(run, flow, FEW + SOME, steps, teachers=(teacher_calls(steps),), piece=piece)
        best = best_stock(flow, steps, pairs[:FEW], piece=piece, search=QUICK)
        found = measure(flow, best, pairs[FEW:], piece)
    sequence = sequence_of(run, flow, found, w, {"n": SOME, "calls": flow.calls})
    if keep:
        with suppress(UserError):  # a folder that cannot be written can still be sampled
            sequence.save(path_of(run, steps, w))
    return sequence


def unmeasured(run: Run) -> Sequence:
    """The recipe's own sampler, kept as the run's where there was no time to measure any."""
    sampling = run.facts.recipe.sampling
    times = tuple(run.grid(sampling.steps).tolist())
    about = {"kind": "unmeasured"}
    sequence = Sequence(sampling.steps, sampling.solver, sampling.grid, times, guidance=sampling.w,
                        model=fingerprint(run), about=about)  # fmt: skip
    sequence.save(path_of(run, sampling.steps, sampling.w))
    return sequence


def sequence_of(run: Run, flow: Flow, found: Several[Measured], w: float, about: dict[str, Any]) -> Sequence:
    """The first of ``found`` as a sequence of the run; the others in ``about``."""
    best = found[0]
    candidate, controls = best.candidate, best.candidate.controls
    times = _times(flow, candidate)
    table: dict[str, Any] = {}
    if candidate.kind in ("decoupled", "full") or controls.far:
        coefficients = controls.table(flow.schedule, times)
        table = {
            "state": tuple(coefficients.state.tolist()),
            "terms": tuple(tuple(row) for row in coefficients.terms.tolist()),
        }
    if controls.w is not None:
        table["w"] = tuple(controls.w.tolist())
    tried = [
        {"kind": m.candidate.kind, "sampler": str(m.candidate), "error": m.value, "stderr": m.stderr}
        for m in found
    ]
    own = times[controls.far :]
    rho = (-flow.schedule.log_snr(own).detach() / 2).exp()
    about = {
        "kind": candidate.kind, "error": best.value, "stderr": best.stderr, **about, "tried": tried,
        "sigmas": rho.tolist(), "timesteps": (1000 * own[:-1] - 1).tolist(),
    }  # fmt: skip
    return Sequence(
        steps=controls.calls,
        far=controls.far,
        solver=LEARNED if "terms" in table else str(candidate.solver),
        grid=candidate.grid,
        times=tuple(times.tolist()),
        guidance=w,
        model=fingerprint(run),
        about=about,
        **table,
    )


def _times(flow: Flow, candidate: Candidate) -> torch.Tensor:
    """Where the network is called, and 0."""
    called = time_of(flow.schedule, candidate.controls.log_rho)
    return torch.cat([called, torch.zeros(1, dtype=torch.float64)])


def free(run: Run) -> bool:
    """Whether nobody asked for a sampler of their own when the run was trained."""
    return not any(name in run.facts.asked for name in ("sampling.solver", "sampling.grid"))


def missing(run: Run, steps: int | None, w: float | None) -> bool:
    """Whether the sampler of so many steps has yet to be measured."""
    sampling = run.facts.recipe.sampling
    count, weight = sampling.steps if steps is None else steps, sampling.w if w is None else w
    return free(run) and chooses(run, count) and find(run, count, weight) is None


def chooses(run: Run, steps: int) -> bool:
    """Whether stock samplers of so many steps may be measured: there is a folder of ours to keep the choice in, the
    run's own sampler is one of them, the steps are few enough for the choice to matter and to be cheap, and the flow
    is worth coming close to. Of a network that says x it is not: it goes astray where noise is finer than its estimate,
    and the sampler that follows it there makes worse samples (motions after 20 minutes, jerk and Fréchet distance of
    kinematics: 652 and 4.7, with the recipe's own 286 and 2.6; real 279 and 1.2)."""
    recipe = run.facts.recipe
    worth = recipe.process.discrete or recipe.objective.output != "x"
    return not run.foreign and steps <= LONGEST and recipe.sampling.solver in STOCK and worth
